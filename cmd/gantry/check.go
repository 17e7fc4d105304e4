package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/gantryhq/gantry/engine"
	"github.com/gantryhq/gantry/internal/account/sqlstore"
	"github.com/gantryhq/gantry/ssh"
)

func (a *app) checkCmd() *cobra.Command {
	f := &flags{}
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Validate the configuration and say where each value came from",
		Long: "check reads the configuration as serve does, prints every effective value with its source, secrets hidden,\n" +
			"and looks whether host keys, database and ports can be used. It changes nothing. Exit code 0: serve can start.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.load(f, cmd.Flags())
			if s == nil || s.report == nil {
				return err
			}
			a.tellWarnings(s)
			if err == nil {
				printValues(a.stdout, s)
				err = a.checkParts(cmd.Context(), s)
			}
			if err != nil {
				return err
			}
			fmt.Fprintln(a.stdout, "\nThe configuration is valid.")
			return nil
		},
	}
	f.add(cmd.Flags())
	return cmd
}

// printValues prints key, source and value, one a line.
func printValues(w io.Writer, s *settings) {
	file := s.report.File
	if file == "" {
		file = "none found, defaults and environment only"
	}
	fmt.Fprintf(w, "configuration directory: %s\nconfiguration file: %s\n\n", printable(s.dir), printable(file))
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, v := range s.report.Values {
		fmt.Fprintf(tw, "%s\t%s\t%s\n", v.Key, printable(v.Source), printable(v.Text)) // the longest last
	}
	tw.Flush()
}

// checkParts looks whether what the configuration names can be used, and says what it found.
func (a *app) checkParts(ctx context.Context, s *settings) error {
	fmt.Fprintln(a.stdout)
	var errs []error
	for _, check := range []func(context.Context, *settings) ([]string, error){checkPorts, checkHostKeys, checkStore} {
		notes, err := check(ctx, s)
		for _, n := range notes {
			fmt.Fprintf(a.stdout, "%s\n", printable(n))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// checkPorts takes each port for a moment. One in use is only noted: the server may be running.
func checkPorts(ctx context.Context, s *settings) (notes []string, err error) {
	var errs []error
	any := false
	look := func(key string, index int, socket bool, address string, port int, listen func(context.Context) (net.Listener, error)) {
		any = true
		if socket {
			return // that of a server that runs must stay
		}
		addr := net.JoinHostPort(address, strconv.Itoa(port))
		l, err := listen(ctx)
		switch {
		case err == nil:
			l.Close()
			notes = append(notes, "port: "+addr+" is free")
		case isInUse(err):
			notes = append(notes, "port: "+addr+" is in use now, by this server if it is running")
		default:
			if index >= 0 {
				key = fmt.Sprintf("%s.bindings[%d]", key, index)
			}
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
	}
	for i, b := range s.SFTPD.Bindings {
		if b.IsValid() {
			look("sftpd", i, false, b.Address, b.Port, b.Listen)
		}
	}
	for i, b := range s.WebDAVD.Bindings {
		if b.IsValid() {
			look("webdavd", i, filepath.IsAbs(b.Address), b.Address, b.Port, b.Listen)
		}
	}
	for i, b := range s.FTPD.Bindings {
		if b.IsValid() {
			look("ftpd", i, false, b.Address, b.Port, b.Listen)
		}
	}
	for i, b := range s.HTTPD.Bindings {
		if b.IsValid() {
			look("httpd", i, filepath.IsAbs(b.Address), b.Address, b.Port, b.Listen)
		}
	}
	if !any {
		errs = append(errs, errNoService)
	}
	if t := s.Telemetry; t.IsOn() {
		look("telemetry", -1, t.IsSocket(), t.BindAddress, t.BindPort, func(ctx context.Context) (net.Listener, error) {
			return engine.Listen(ctx, t.BindAddress, t.BindPort)
		})
	}
	return notes, errors.Join(errs...)
}

// checkHostKeys reads the host keys that are there. The server makes the missing ones of the default names.
func checkHostKeys(_ context.Context, s *settings) (notes []string, err error) {
	cfg := s.SFTPD
	files := cfg.HostKeyFiles()
	cfg.HostKeys = nil
	var errs []error
	for _, f := range files {
		path := s.path(f)
		switch _, err := os.Stat(path); {
		case err == nil:
			cfg.HostKeys = append(cfg.HostKeys, f)
		case errors.Is(err, fs.ErrNotExist) && slices.Contains([]string{"id_ed25519", "id_ecdsa", "id_rsa"}, filepath.Base(path)):
			notes = append(notes, "host key: "+path+" will be made")
		default:
			errs = append(errs, fmt.Errorf("sftpd.host_keys: %w", err))
		}
	}
	if len(cfg.HostKeys) > 0 {
		keys, err := ssh.LoadHostKeys(&cfg, quiet())
		if err != nil {
			errs = append(errs, err)
		}
		for _, k := range keys {
			notes = append(notes, fmt.Sprintf("host key: %s %s %s", k.Type, k.Fingerprint, k.Path))
		}
	}
	if cfg.LoginBannerFile != "" {
		if f, err := os.Open(s.path(cfg.LoginBannerFile)); err != nil {
			errs = append(errs, fmt.Errorf("sftpd.login_banner_file: %w", err))
		} else {
			f.Close()
		}
	}
	return notes, errors.Join(errs...)
}

// checkStore opens the account store, which is not made or changed.
func checkStore(ctx context.Context, s *settings) (notes []string, err error) {
	path := s.path(s.DataProvider.Name)
	switch d := &s.DataProvider; {
	case d.Driver == "sqlite":
	case d.isServer():
		path = d.Driver + " " + d.Name
	default:
		return nil, nil
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && !s.DataProvider.isServer() {
		return []string{"database: " + path + " will be made"}, nil
	}
	store, err := s.openStore(ctx, nil, true)
	if errors.Is(err, sqlstore.ErrEmpty) && s.DataProvider.UpdateMode == 0 {
		return []string{"database: " + path + " is empty and will be filled"}, nil
	}
	if err != nil {
		return nil, err
	}
	defer store.Close()
	if err := store.Ping(ctx); err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	return []string{"database: " + path + " is readable and current"}, nil
}

// quiet is a log for work whose outcome is all that counts.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
