package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/account/sqlstore"
)

func (a *app) revertProviderCmd() *cobra.Command {
	f := &flags{}
	var to int
	cmd := &cobra.Command{
		Use:   "revertprovider --to-version N",
		Short: "Take the database back to an older form",
		Long: "revertprovider changes the database's schema for an older Gantry, after a backup beside it (of a server's database\n" +
			"make one yourself). The records stay; what the older form has no place for is lost. Stop the server first. Exit code 0: the database has version N.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.load(f, cmd.Flags())
			if err != nil {
				return err
			}
			a.tellWarnings(s)
			from := 1
			switch d := s.DataProvider.Driver; d {
			case "sqlite", "postgresql", "cockroachdb", "mysql":
				cfg, err := s.sqlConfig(account.Rules{}, false)
				if err != nil {
					return err
				}
				if from, err = sqlstore.Revert(cmd.Context(), cfg, to); err != nil {
					return err
				}
			case "bolt":
				if to != from {
					return fmt.Errorf("--to-version %d: a bolt database has one version, %d", to, from)
				}
			default:
				return fmt.Errorf("data_provider.driver: %s has no schema to revert", d)
			}
			if from == to {
				_, err = fmt.Fprintf(a.stdout, "the schema has version %d already\n", to)
			} else {
				_, err = fmt.Fprintf(a.stdout, "the schema was taken from version %d to %d\n", from, to)
			}
			return err
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().IntVar(&to, "to-version", 0, fmt.Sprintf("the version of the schema, 1 to %d", sqlstore.Newest()))
	cmd.MarkFlagRequired("to-version")
	return cmd
}

func (a *app) resetProviderCmd() *cobra.Command {
	f := &flags{}
	var force bool
	cmd := &cobra.Command{
		Use:   "resetprovider",
		Short: "Remove all accounts and settings from the database",
		Long: "resetprovider removes every record: users, groups, folders, administrators and the rest. Their files stay. It asks\n" +
			"first; answer Y. Exit code 0: the database is empty.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !force {
				fmt.Fprint(a.stderr, "This removes all accounts from the database and cannot be undone. Go on? [y/N] ")
				line, err := readLine(a.stdin)
				if err != nil && !errors.Is(err, io.EOF) {
					return fmt.Errorf("read the answer: %w", err)
				}
				if line != "y" && line != "Y" {
					return errors.New("nothing was removed: the answer was not Y (--force does not ask)")
				}
			}
			return a.withStore(cmd, f, func(ctx context.Context, store account.Store) error {
				if err := store.Reset(ctx); err != nil {
					return err
				}
				_, err := fmt.Fprintln(a.stdout, "the database is empty")
				return err
			})
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().BoolVar(&force, "force", false, "do not ask")
	return cmd
}

func (a *app) resetPwdCmd() *cobra.Command {
	f := &flags{}
	var name string
	cmd := &cobra.Command{
		Use:   "resetpwd --admin NAME",
		Short: "Give an administrator a new password",
		Long: "resetpwd asks twice for the new password on a terminal, or reads one line from standard input. The administrator's\n" +
			"second factor is switched off. Exit code 0: the password holds from the next login on.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withStore(cmd, f, func(ctx context.Context, store account.Store) error {
				admin, err := account.Get[account.Admin](ctx, store, name)
				if err != nil {
					return err
				}
				if admin.Password, err = a.newPassword(); err != nil {
					return err
				}
				admin.Filters.TOTPConfig, admin.Filters.RecoveryCodes = account.AdminTOTPConfig{}, nil
				if err := account.Update(ctx, store, &admin); err != nil {
					return err
				}
				_, err = fmt.Fprintf(a.stdout, "the password of %s was changed, a second factor is off\n", name)
				return err
			})
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().StringVar(&name, "admin", "", "the administrator's name")
	cmd.MarkFlagRequired("admin")
	return cmd
}

// newPassword asks for a password twice on a terminal, or reads it from standard input.
func (a *app) newPassword() (string, error) {
	file, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		line, err := readLine(a.stdin)
		if err != nil && (!errors.Is(err, io.EOF) || line == "") {
			return "", fmt.Errorf("read the password from standard input: %w", err)
		}
		if line == "" {
			return "", errors.New("the password on standard input is empty")
		}
		return line, nil
	}
	var typed [2]string
	for i, prompt := range []string{"New password: ", "Again: "} {
		fmt.Fprint(a.stderr, prompt)
		b, err := term.ReadPassword(int(file.Fd()))
		fmt.Fprintln(a.stderr)
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		typed[i] = string(b)
	}
	switch {
	case typed[0] == "":
		return "", errors.New("the password is empty")
	case typed[0] != typed[1]:
		return "", errors.New("the two passwords differ, nothing was changed")
	}
	return typed[0], nil
}

// readLine reads one line of at most 4 KiB without its end.
func readLine(r io.Reader) (string, error) {
	line, err := bufio.NewReaderSize(io.LimitReader(r, 4096), 4096).ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}
