package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/auth"
	"github.com/gantryhq/gantry/internal/config"
	"github.com/gantryhq/gantry/internal/event"
	"github.com/gantryhq/gantry/internal/logs"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/ssh/sftp"
)

// subsysFlags are those of startsubsys.
type subsysFlags struct {
	flags
	preserveHome bool
	baseHome     string
	level        string
	utc          bool
}

func (a *app) startSubsysCmd() *cobra.Command {
	f := &subsysFlags{}
	cmd := &cobra.Command{
		Use:   "startsubsys",
		Short: "Serve SFTP on standard input and output, as OpenSSH's subsystem",
		Long: "startsubsys serves the user of the system that it runs as. In sshd_config: Subsystem sftp /usr/bin/gantry startsubsys\n" +
			"sshd has checked the login; quota, permissions and virtual folders are those of a user of the same name in the dump\n" +
			"that data_provider names with the driver memory. Without one the user has all permissions in the home directory.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.startSubsys(cmd.Context(), f, cmd)
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().BoolVarP(&f.preserveHome, "preserve-home", "p", false, "keep the stored home of a known user")
	cmd.Flags().StringVarP(&f.baseHome, "base-home-dir", "d", "", "a new user's home is this directory and the name; empty for the system's home")
	cmd.Flags().StringVar(&f.level, "log-level", "info", "debug, info, warn or error, on standard error")
	cmd.Flags().BoolVar(&f.utc, "log-utc-time", false, "UTC time stamps, else local time")
	return cmd
}

func (a *app) startSubsys(ctx context.Context, f *subsysFlags, cmd *cobra.Command) error {
	if ctx == nil {
		ctx = context.Background() // a command line without a context of its own
	}
	me, err := user.Current()
	if err != nil {
		return fmt.Errorf("the user of this process: %w", err)
	}
	if f.baseHome != "" && !filepath.IsAbs(f.baseHome) {
		return fmt.Errorf("--base-home-dir must be absolute, it is %q", f.baseHome)
	}
	s, err := a.load(&f.flags, cmd.Flags())
	if err != nil {
		return err
	}
	level, err := logs.ParseLevel(f.level)
	if err != nil {
		return err
	}
	log, err := logs.Open(logs.Config{Level: f.level, UTC: f.utc, MaxSize: 1}, a.stderr)
	if err != nil {
		return err
	}
	defer log.Close()
	log.SetLevel(level)
	s.Common.Session.IdleTimeout = 0 // sshd's business
	store, err := s.subsysStore(ctx, me, f)
	if err != nil {
		return err
	}
	defer store.Close()
	storages, err := s.newStorages(false, log.Logger)
	if err != nil {
		return err
	}
	defer storages.close()
	deps := session.Deps{
		Auth: osLogin{store}, Counters: store, Accounts: merged{store}, NewFS: storages.open,
		Sinks: []event.Sink{event.LogSink(log.Logger)}, Log: log.Logger,
	}
	if shared, ok := store.(interface{ Shared() account.Shared }); ok && s.DataProvider.isShared() {
		deps.Shared, deps.Member = shared.Shared(), s.member()
		deps.Node = deps.Member.ID
	}
	sessions, err := session.New(s.sessionConfig(), deps)
	if err != nil {
		return err
	}
	if err := sessions.Join(ctx); err != nil {
		return err
	}
	defer func() {
		// The peer has gone; what it left is put right within the time of every stop.
		ctx, cancel := context.WithTimeout(context.Background(), closeWait)
		defer cancel()
		if err := sessions.Close(ctx); err != nil {
			log.Error("stopping", "sender", "service", "error", err)
		}
	}()
	c := a.sshdConn()
	login, err := sessions.Authenticate(ctx, &auth.Attempt{
		Protocol: account.ProtocolSSH, Method: "startsubsys", Username: me.Username, Remote: c.Remote.Addr(), Local: c.Local, ConnID: c.ID,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.Kill = cancel
	sess, err := sessions.Open(ctx, login, c)
	if err != nil {
		return err
	}
	defer sess.Close()
	return sftp.Serve(ctx, stdio{a.stdin, a.stdout}, sess, sftp.Options{Log: log.With("user", me.Username)})
}

// subsysStore has the user of the system, known or new. A file that another process may hold open is not used.
func (s *settings) subsysStore(ctx context.Context, me *user.User, f *subsysFlags) (account.Store, error) {
	configured := s.DataProvider.Driver == "memory"
	s.DataProvider.Driver = "memory"
	hasher, err := s.newHasher() // a dump may hold plain passwords
	if err != nil {
		return nil, err
	}
	store, err := s.openStore(ctx, hasher, false)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (account.Store, error) {
		store.Close()
		return nil, err
	}
	if configured && s.report.Source("data_provider.name") != config.Default {
		if err := s.fillMemory(ctx, store); err != nil {
			return fail(err)
		}
	}
	name := me.Username
	u, err := store.User(ctx, name)
	switch {
	case err == nil && f.preserveHome:
		return store, nil
	case err == nil:
		u.HomeDir = me.HomeDir
		err = store.UpdateUser(ctx, &u)
	case errors.Is(err, account.ErrNotFound):
		home := me.HomeDir
		if f.baseHome != "" {
			home = filepath.Join(f.baseHome, name)
		}
		err = store.AddUser(ctx, &account.User{Username: name, Status: 1, HomeDir: home, Permissions: map[string][]string{"/": {account.PermAny}}})
	}
	if err != nil {
		return fail(fmt.Errorf("the account %q: %w", name, err))
	}
	return store, nil
}

// osLogin trusts that who runs this process has been let in by sshd.
type osLogin struct{ store account.Store }

// Authenticate gives the account of the attempt's name.
func (o osLogin) Authenticate(ctx context.Context, t *auth.Attempt) (*auth.Identity, error) {
	u, err := merged{o.store}.User(ctx, t.Username)
	if err != nil {
		return nil, err
	}
	return &auth.Identity{User: &u, Method: t.Method}, nil
}

// Current is who logged in.
func (o osLogin) Current(ctx context.Context, id *auth.Identity, _ auth.Way) (*auth.Identity, error) {
	return o.Authenticate(ctx, &auth.Attempt{Username: id.User.Username, Method: id.Method})
}

// sshdConn is the connection that sshd tells of: "client port server port".
func (a *app) sshdConn() session.Conn {
	c := session.Conn{ID: fmt.Sprintf("SFTP_%x_1", os.Getpid()), Protocol: "SFTP", Client: "sshd"}
	c.Remote = netip.AddrPortFrom(netip.IPv6Loopback(), 0)
	c.Local = c.Remote
	for _, v := range a.environ {
		text, ok := strings.CutPrefix(v, "SSH_CONNECTION=")
		part := strings.Fields(text)
		if !ok || len(part) != 4 {
			continue
		}
		if p, err := netip.ParseAddrPort(joinHostPort(part[0], part[1])); err == nil {
			c.Remote = p
		}
		if p, err := netip.ParseAddrPort(joinHostPort(part[2], part[3])); err == nil {
			c.Local = p
		}
	}
	return c
}

func joinHostPort(host, port string) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + port
}

// stdio is standard input and output as one stream. Close ends the reading where the system allows it.
type stdio struct {
	io.Reader
	io.Writer
}

func (s stdio) Close() error {
	if c, ok := s.Reader.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
