package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/gantryhq/gantry/internal/account"
)

func (a *app) loadCmd() *cobra.Command {
	f := &flags{}
	var mode int
	var replace bool
	cmd := &cobra.Command{
		Use:   "load FILE",
		Short: "Load accounts from a dump",
		Long: "load reads a dump (FILE, or - for standard input), checks all of it and stores it in one step: a dump with a mistake\n" +
			"changes nothing and the mistake is named. A server may run meanwhile. Exit code 0: everything is stored.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if mode < 0 || mode > 1 {
				return fmt.Errorf("--mode must be 0 or 1, it is %d", mode)
			}
			return a.withStore(cmd, f, func(ctx context.Context, store account.Store) error {
				d, err := a.readDump(args[0])
				if err != nil {
					return err
				}
				p := newProgress(a.stderr, "loading")
				err = store.Load(ctx, d, account.LoadOptions{Mode: mode, Clean: replace, Progress: p.step})
				p.end()
				if err != nil {
					return fmt.Errorf("load %s: nothing was changed: %w", args[0], err)
				}
				_, err = fmt.Fprintf(a.stdout, "loaded: %s\n", contentOf(d))
				return err
			})
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().IntVar(&mode, "mode", 0, "0 add new and update old objects, 1 add new ones only")
	cmd.Flags().BoolVar(&replace, "replace", false, "remove what the dump does not hold")
	return cmd
}

func (a *app) dumpCmd() *cobra.Command {
	f := &flags{}
	var scopes []string
	cmd := &cobra.Command{
		Use:   "dump [FILE]",
		Short: "Write all accounts to a dump",
		Long: "dump writes what the database holds, password hashes and sealed secrets included, to FILE (readable by its owner only)\n" +
			"or to standard output. A server may run meanwhile.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, f, func(ctx context.Context, store account.Store) error {
				d, err := store.Dump(ctx, scopes...)
				if err != nil {
					return fmt.Errorf("dump: %w", err)
				}
				if len(args) == 0 || args[0] == "-" {
					return writeDump(a.stdout, d)
				}
				return dumpTo(args[0], d)
			})
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().StringSliceVar(&scopes, "scopes", nil, "only these members: users, folders, groups, …")
	return cmd
}

func (a *app) initProviderCmd() *cobra.Command {
	f := &serveFlags{}
	cmd := &cobra.Command{
		Use:   "initprovider",
		Short: "Create or upgrade the database",
		Long:  "initprovider makes the database, or brings it to the newest form. Exit code 0: it is there and current.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.validate(); err != nil {
				return err
			}
			return a.withUpgradedStore(cmd, &f.flags, func(ctx context.Context, store account.Store) error {
				if f.dump == "" {
					return nil
				}
				d, err := a.readDump(f.dump)
				if err != nil {
					return err
				}
				if err := store.Load(ctx, d, account.LoadOptions{Mode: f.mode}); err != nil {
					return fmt.Errorf("load %s: nothing was changed: %w", f.dump, err)
				}
				return f.removeDump()
			})
		},
	}
	f.add(cmd.Flags())
	f.addLoad(cmd.Flags())
	return cmd
}

// withStore loads the configuration, opens the store and calls do with it.
func (a *app) withStore(cmd *cobra.Command, f *flags, do func(context.Context, account.Store) error) error {
	s, err := a.load(f, cmd.Flags())
	if err != nil {
		return err
	}
	return a.storeOf(cmd, s, do)
}

// withUpgradedStore is withStore that brings the schema up to date, whatever update_mode says.
func (a *app) withUpgradedStore(cmd *cobra.Command, f *flags, do func(context.Context, account.Store) error) error {
	s, err := a.load(f, cmd.Flags())
	if err != nil {
		return err
	}
	s.mayUpgrade = true
	return a.storeOf(cmd, s, do)
}

func (a *app) storeOf(cmd *cobra.Command, s *settings, do func(context.Context, account.Store) error) (err error) {
	a.tellWarnings(s)
	if s.DataProvider.Driver == "memory" {
		return errors.New("data_provider.driver: memory keeps nothing after the server, so this verb has nothing to work on")
	}
	if err := s.ensureDir(); err != nil {
		return err
	}
	ctx := cmd.Context()
	hasher, err := s.newHasher()
	if err != nil {
		return err
	}
	store, err := s.openStore(ctx, hasher, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return do(ctx, store)
}

// readDump reads a dump from a file, or from standard input for "-".
func (a *app) readDump(file string) (*account.Dump, error) {
	r := a.stdin
	if file != "-" {
		st, err := os.Stat(file) // before it is opened: a pipe without a writer would block that
		if err != nil {
			return nil, fmt.Errorf("dump: %w", err)
		}
		if !st.Mode().IsRegular() {
			return nil, fmt.Errorf("dump: %s is not a regular file", file)
		}
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("dump: %w", err)
		}
		defer f.Close()
		if st.Size() > account.MaxDumpBytes {
			return nil, fmt.Errorf("dump: %s is larger than %d MiB", file, account.MaxDumpBytes>>20)
		}
		r = f
	}
	d, err := account.DecodeDump(r, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for _, m := range d.Unknown {
		fmt.Fprintf(a.stderr, "warning: %s: %s is not known and is not kept\n", file, m)
	}
	return d, nil
}

// writeDump writes d as JSON.
func writeDump(w io.Writer, d *account.Dump) error {
	b := bufio.NewWriterSize(w, 256<<10)
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	if err := e.Encode(d); err != nil {
		return fmt.Errorf("dump: %w", err)
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("dump: %w", err)
	}
	return nil
}

// dumpTo writes d to a new file beside the target and renames it, so that file is whole or as it was.
func dumpTo(file string, d *account.Dump) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".gantry-dump-*") // made with mode 0600
	if err != nil {
		return fmt.Errorf("dump: %w", err)
	}
	defer func() {
		if err != nil {
			tmp.Close()
			os.Remove(tmp.Name())
		}
	}()
	if err := writeDump(tmp, d); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return fmt.Errorf("dump: %w", err)
	}
	if err := tmp.Close(); err != nil {
		return fmt.Errorf("dump: %w", err)
	}
	if err := os.Rename(tmp.Name(), file); err != nil {
		return fmt.Errorf("dump: %w", err)
	}
	return nil
}

// removeDump removes the dump after it was loaded, if the flags want it.
func (f *serveFlags) removeDump() error {
	if !f.clean || f.dump == "-" {
		return nil
	}
	if err := os.Remove(f.dump); err != nil {
		return fmt.Errorf("the dump was loaded but not removed: %w", err)
	}
	return nil
}

// progress shows how far a long work is: a line that changes on a terminal, nothing elsewhere.
type progress struct {
	w     io.Writer
	what  string
	shown time.Time
	any   bool
}

// newProgress shows on w, which may be no terminal.
func newProgress(w io.Writer, what string) *progress {
	if !isTerminal(w) {
		w = nil
	}
	return &progress{w: w, what: what, shown: time.Now()}
}

func (p *progress) step(done, total int) {
	if p.w == nil || total <= 0 || time.Since(p.shown) < 100*time.Millisecond {
		return
	}
	p.shown, p.any = time.Now(), true
	fmt.Fprintf(p.w, "\r%s: %d of %d (%d%%)", p.what, done, total, done*100/total)
}

func (p *progress) end() {
	if p.any {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
