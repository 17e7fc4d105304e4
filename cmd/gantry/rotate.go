package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/secret"
)

func (a *app) rotateKeyCmd() *cobra.Command {
	f := &flags{}
	var oldFile string
	var plain bool
	cmd := &cobra.Command{
		Use:   "rotatekey --old-key-file FILE",
		Short: "Seal every stored secret anew under the configured master key",
		Long: "rotatekey opens every secret of the database with the old master key and seals it with the one that kms.secrets names\n" +
			"now. Put the new key into the configuration, the old one into FILE, stop the servers that use the database, and run\n" +
			"it. All secrets are changed, or none. --without-old-key is for secrets that were sealed without a master key, which\n" +
			"need none to be opened. Exit code 0: every secret is sealed under the new key.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (oldFile == "") == !plain {
				return fmt.Errorf("either --old-key-file or --without-old-key is needed")
			}
			old := ""
			if oldFile != "" {
				path, err := filepath.Abs(oldFile)
				if err != nil {
					return err
				}
				b, err := os.ReadFile(path)
				if err != nil {
					return fmt.Errorf("--old-key-file: %w", err)
				}
				if old = strings.TrimSpace(string(b)); old == "" {
					return fmt.Errorf("--old-key-file: %s is empty", oldFile)
				}
			}
			box, err := secret.NewBox(old, secret.Secretbox)
			if err != nil {
				return err
			}
			return a.withStore(cmd, f, func(ctx context.Context, store account.Store) error {
				n, err := resealAll(ctx, store, box)
				if err != nil {
					return fmt.Errorf("nothing was changed: %w", err)
				}
				_, err = fmt.Fprintf(a.stdout, "%d records with secrets were sealed anew\n", n)
				return err
			})
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().StringVar(&oldFile, "old-key-file", "", "file with the master key that the secrets were sealed with")
	cmd.Flags().BoolVar(&plain, "without-old-key", false, "the secrets were sealed without a master key")
	return cmd
}

// resealAll opens the secrets of all records with old and stores the records again, which seals what is plain under the
// store's own key. It is one transaction. n is how many records had secrets.
func resealAll(ctx context.Context, store account.Store, old *secret.Box) (n int, err error) {
	d, err := store.Dump(ctx)
	if err != nil {
		return 0, err
	}
	open := func(what string, record any) error {
		had, err := account.ReopenSecrets(old, record)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if had {
			n++
		}
		return nil
	}
	for i := range d.Users {
		u := &d.Users[i]
		folders := u.VirtualFolders // their own records hold their secrets
		u.VirtualFolders = nil
		err := open("user "+u.Username, u)
		u.VirtualFolders = folders
		if err != nil {
			return 0, err
		}
	}
	for i := range d.Folders {
		if err := open("folder "+d.Folders[i].Name, &d.Folders[i]); err != nil {
			return 0, err
		}
	}
	for i := range d.Groups {
		g := &d.Groups[i]
		folders := g.VirtualFolders
		g.VirtualFolders = nil
		err := open("group "+g.Name, g)
		g.VirtualFolders = folders
		if err != nil {
			return 0, err
		}
	}
	for _, o := range d.Others() {
		for i, doc := range *o.List {
			rec, err := account.DecodeDocument(o.Kind, doc)
			if err != nil {
				return 0, err
			}
			if err := open(string(o.Kind)+" "+rec.Key(), rec); err != nil {
				return 0, err
			}
			if (*o.List)[i], err = account.EncodeDocument(rec, doc); err != nil {
				return 0, err
			}
		}
	}
	if len(d.Configs) > 0 {
		rec, err := account.DecodeDocument(account.KindConfig, d.Configs)
		if err != nil {
			return 0, err
		}
		if err := open("configs", rec); err != nil {
			return 0, err
		}
		if d.Configs, err = json.Marshal(rec); err != nil {
			return 0, err
		}
	}
	return n, store.Load(ctx, d, account.LoadOptions{})
}
