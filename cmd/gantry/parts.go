package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/gantryhq/gantry/engine"
	"github.com/gantryhq/gantry/ftp"
	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/account/kvstore"
	"github.com/gantryhq/gantry/internal/account/recordstore"
	"github.com/gantryhq/gantry/internal/account/sqlstore"
	"github.com/gantryhq/gantry/internal/auth"
	"github.com/gantryhq/gantry/internal/config"
	"github.com/gantryhq/gantry/internal/event"
	"github.com/gantryhq/gantry/internal/guard"
	"github.com/gantryhq/gantry/internal/secret"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/ssh"
)

// build makes the parts, from the store up to the SSH server.
func (n *node) build(ctx context.Context) error {
	hasher, err := n.s.newHasher()
	if err != nil {
		return err
	}
	n.member = n.s.member()
	if n.s.DataProvider.isShared() {
		n.s.node = n.member.ID
	}
	if n.store, err = n.s.openStore(ctx, hasher, false); err != nil {
		return err
	}
	n.later(func(context.Context) error { return n.store.Close() })
	n.hasher = hasher
	n.metrics = n.newMetrics()
	n.shared = n.share()
	if n.s.DataProvider.Driver == "memory" {
		if err := n.s.fillMemory(ctx, n.store); err != nil {
			return err
		}
	}

	authConfig, err := n.s.authConfig()
	if err != nil {
		return err
	}
	if n.hooks, err = n.newHooks(); err != nil {
		return err
	}
	authConfig.Hooks, authConfig.Follow = n.hooks.auth(), n.shared.follow()
	authConfig.Editor, authConfig.Steps = n.store, n.store
	authenticator, err := auth.New(authConfig, n.store, hasher, n.log.With("sender", "auth"), nil)
	if err != nil {
		return err
	}
	n.later(func(context.Context) error {
		authenticator.Close()
		return nil
	})
	n.auth = authenticator
	storages, err := n.s.newStorages(n.portable, n.log.Logger)
	if err != nil {
		return err
	}
	n.later(func(context.Context) error {
		storages.close()
		return nil
	})
	n.cloud = storages.cloud
	storages.cloud.options.Observe = n.observeBucket
	n.guard = guard.New(n.s.Common.Guard, n.log.Logger, nil)
	n.shared.shareDefender(n)
	deps := session.Deps{
		Auth:     authenticator,
		Counters: n.store,
		Accounts: merged{n.store},
		Locks:    n.store,
		Props:    n.store,
		NewFS:    storages.open,
		Sinks:    []event.Sink{event.LogSink(n.log.Logger), n.hooks.actions, &counting{n.metrics}},
		Log:      n.log.Logger,
		LoggedIn: n.loggedIn,
		Left:     n.hooks.ended,
		Failed:   n.loginFailed,
		Delay:    n.guard.LoginDelay,
	}
	if n.shared != nil {
		deps.Node, deps.Member, deps.Shared = n.member.ID, n.member, n.shared.Shared
	}
	if n.sessions, err = session.New(n.s.sessionConfig(), deps); err != nil {
		return err
	}
	n.later(n.sessions.Close)
	if err := n.sessions.Join(ctx); err != nil {
		return err
	}
	authenticator.OnChange(func(ctx context.Context, ch auth.Changed) {
		ctx, cancel := context.WithTimeout(ctx, recheckWait)
		defer cancel()
		if ch.All || ch.Lists {
			if err := n.loadLists(ctx); err != nil {
				n.log.Error("the IP lists stay as they were", "sender", "service", "error", err)
			}
		}
		if n.s.DataProvider.isServer() && (ch.All || ch.Kept) { // what other nodes wrote
			if err := errors.Join(n.sessions.SyncLocks(ctx), n.sessions.SyncProps(ctx)); err != nil {
				n.log.Error("locks of other nodes may be missed until the next change", "sender", "service", "error", err)
			}
		}
		if ch.All || len(ch.Users) > 0 {
			n.sessions.Recheck(ctx, ch.Users...) // without names, all
		}
	})
	if n.engine, err = engine.New(engine.Options{Log: n.log.With("sender", "engine")}); err != nil {
		return err
	}
	n.later(func(context.Context) error { return n.engine.Close() })
	for _, d := range n.ftpDoors {
		d.Check(n.check(account.ProtocolFTP))
	}
	for _, l := range n.listeners {
		if d, ok := l.(*engine.Listener); ok {
			d.Check(n.check(account.ProtocolSSH))
		}
	}
	if n.ftp, err = ftp.New(n.s.FTPD, n.engine, n.sessions, gate{n.guard, n.hooks, account.ProtocolFTP}, n.log.With("sender", "ftpd")); err != nil {
		return err
	}
	if err := n.buildDAV(); err != nil {
		return err
	}
	if n.ssh, err = ssh.New(n.s.SFTPD, n.sessions, gate{n.guard, n.hooks, account.ProtocolSSH}, n.log.With("sender", "sftpd")); err != nil {
		return err
	}
	storages.know(n.ssh.HostKeys, merged{n.store})
	return n.buildHTTP(hasher)
}

// check is what the guard says of a socket's peer at once.
func (n *node) check(protocol string) func(netip.Addr) error {
	p := guard.ProtocolOf(protocol)
	return func(addr netip.Addr) error { return n.guard.Knock(addr, p) }
}

// recheckWait bounds the look at all live sessions after accounts changed.
const recheckWait = time.Minute

func (s *settings) authConfig() (auth.Config, error) {
	c := auth.Config{Caching: s.DataProvider.PasswordCaching, LocalTime: s.Common.TZ == "local", TOTP: s.MFA.TOTP, Trust: s.trust()}
	var err error
	c.Box, err = s.KMS.box()
	return c, err
}

// trust names the files that SSH user certificates are checked by.
func (s *settings) trust() auth.Trust {
	t := auth.Trust{Revoked: s.path(s.SFTPD.RevokedUserCertsFile)}
	for _, f := range s.SFTPD.TrustedUserCAKeys {
		t.CAKeys = append(t.CAKeys, s.path(f))
	}
	return t
}

func (s *settings) sessionConfig() session.Config {
	c := s.Common.Session
	c.TrackQuota, c.QuotaDelay = s.DataProvider.TrackQuota, s.DataProvider.QuotaDelay
	return c
}

// newHasher makes the hasher of passwords. Half of the processors may hash at once, so that logins leave
// room for transfers.
func (s *settings) newHasher() (*auth.Hasher, error) {
	return auth.NewHasher(s.DataProvider.PasswordHashing, max(1, runtime.NumCPU()/2))
}

// rules are those by which records are checked. Without a hasher plain passwords are refused.
func (s *settings) rules(hasher *auth.Hasher) (account.Rules, error) {
	rules := account.Rules{Naming: s.DataProvider.NamingRules, UsersBaseDir: s.DataProvider.UsersBaseDir}
	if hasher != nil {
		rules.HashPassword = hasher.Hash
		rules.CheckPassword = s.DataProvider.PasswordValidation.Users.Check
		rules.CheckSecret = func(plain string) error {
			return auth.MinEntropy{MinEntropy: s.Common.SecretMinEntropy}.Check(plain, 0)
		}
	}
	var err error
	rules.Box, err = s.KMS.box()
	return rules, err
}

// openStore opens the account store that the configuration names.
func (s *settings) openStore(ctx context.Context, hasher *auth.Hasher, readOnly bool) (account.Store, error) {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	path := s.path(s.DataProvider.Name)
	rules, err := s.rules(hasher)
	if err != nil {
		return nil, err
	}
	var store *recordstore.Store
	switch cfg := (recordstore.Config{Rules: rules}); s.DataProvider.Driver {
	case "memory":
		return kvstore.Memory(cfg), nil
	case "bolt":
		store, err = kvstore.Open(ctx, path, readOnly, cfg)
	default:
		var cfg sqlstore.Config
		if cfg, err = s.sqlConfig(rules, readOnly); err == nil {
			store, err = sqlstore.Open(ctx, cfg)
		}
	}
	if err != nil {
		return nil, err // not a nil *Store in an interface
	}
	return store, nil
}

// sqlConfig names the SQL database.
func (s *settings) sqlConfig(rules account.Rules, readOnly bool) (sqlstore.Config, error) {
	d := &s.DataProvider
	c := sqlstore.Config{Driver: d.Driver, Path: s.path(d.Name), Prefix: d.TablesPrefix, Rules: rules, Node: s.node, ReadOnly: readOnly, KeepSchema: d.UpdateMode == 1 && !s.mayUpgrade}
	if !d.isServer() {
		return c, nil
	}
	c.Server = d.server(s.path)
	if d.PasswordFile != "" {
		b, err := os.ReadFile(s.path(d.PasswordFile))
		if err != nil {
			return c, fmt.Errorf("data_provider.password_file: %w", err)
		}
		if c.Server.Password = strings.TrimSpace(string(b)); c.Server.Password == "" {
			return c, fmt.Errorf("data_provider.password_file: %s is empty; put the password there, or take the key out of the configuration", d.PasswordFile)
		}
	}
	return c, nil
}

// fillMemory makes the memory driver's store what the dump that data_provider.name names holds.
func (s *settings) fillMemory(ctx context.Context, store account.Store) error {
	name := s.DataProvider.Name
	if name == "" || s.report.Source("data_provider.name") == config.Default {
		return nil
	}
	f, err := os.Open(s.path(name))
	if err != nil {
		return fmt.Errorf("data_provider.name: %w", err)
	}
	defer f.Close()
	d, err := account.DecodeDump(f, 0)
	if err == nil {
		err = store.Load(ctx, d, account.LoadOptions{Clean: true})
	}
	if err != nil {
		return fmt.Errorf("data_provider.name: %s: %w", name, err)
	}
	return nil
}

// merged finds users with what their groups add.
type merged struct{ account.Store }

// User gives the user as it is at login.
func (m merged) User(ctx context.Context, name string) (account.User, error) {
	u, err := m.Store.User(ctx, name)
	if err != nil {
		return u, err
	}
	groups := make([]account.Group, 0, len(u.Groups))
	for _, g := range u.Groups {
		group, err := m.Group(ctx, g.Name)
		if err != nil {
			return u, err
		}
		groups = append(groups, group)
	}
	return account.Merge(u, groups)
}

// initialLoad loads the dump of --loaddata-from: all of it, or the start fails.
func (n *node) initialLoad(ctx context.Context) error {
	d, err := n.app.readDump(n.f.dump)
	if err != nil {
		return fmt.Errorf("--loaddata-from: %w", err)
	}
	var w io.Writer = n.app.stderr
	p := newProgress(w, "loading")
	err = n.store.Load(ctx, d, account.LoadOptions{Mode: n.f.mode, Progress: p.step})
	p.end()
	if err != nil {
		return fmt.Errorf("--loaddata-from %s: nothing was changed: %w", n.f.dump, err)
	}
	n.log.Info("dump loaded", "sender", "service", "file", n.f.dump, "content", contentOf(d))
	return n.f.removeDump()
}

// scan counts what users hold, as --loaddata-scan wants it. A storage that cannot be read is logged.
func (n *node) scan(ctx context.Context) error {
	for page := (account.Page{}); ; {
		users, err := n.store.ListUsers(ctx, page)
		if err != nil {
			return fmt.Errorf("--loaddata-scan: %w", err)
		}
		if len(users) == 0 {
			return nil
		}
		for _, u := range users {
			page.After = u.Username
			if n.f.scan == 2 && u.QuotaSize == 0 && u.QuotaFiles == 0 {
				continue
			}
			if _, _, err := n.sessions.Scan(ctx, account.CounterKey{Kind: account.KindUser, Name: u.Username}); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if errors.Is(err, fs.ErrNotExist) { // nobody has used it yet
					continue
				}
				n.log.Warn("the used quota was not scanned", "sender", "service", "username", u.Username, "error", err)
			}
		}
	}
}

// contentOf counts what a dump holds.
func contentOf(d *account.Dump) string {
	s := fmt.Sprintf("%d users, %d folders, %d groups", len(d.Users), len(d.Folders), len(d.Groups))
	others := 0
	for _, k := range d.Others() {
		others += len(*k.List)
	}
	if others > 0 {
		s += fmt.Sprintf(", %d other records", others)
	}
	return s
}

// apply gives the running parts what they can take of a fresh configuration.
func (n *node) apply(fresh *settings) error {
	if err := n.auth.SetTrust(fresh.trust()); err != nil {
		return fmt.Errorf("sftpd.%w", err)
	}
	n.guard.SetConfig(fresh.Common.Guard)
	if proxy, err := fresh.Common.proxy(); err == nil { // Validate has looked
		n.proxy.Set(proxy)
	}
	if fresh.DataProvider.Driver == "memory" && n.s.DataProvider.Driver == "memory" {
		ctx, cancel := context.WithTimeout(context.Background(), startWait)
		defer cancel()
		if err := fresh.fillMemory(ctx, n.store); err != nil {
			return err
		}
	}
	return errors.Join(n.ftp.Reload(), n.dav.Reload(), n.http.Reload(), n.telemetry.reload(), n.ssh.ReloadConfig(fresh.SFTPD))
}

// needRestart names the keys whose values changed and that apply does not change.
func needRestart(old, fresh *config.Report) []string {
	live := []string{
		"common.max_total_connections", "common.max_per_host_connections", "common.allowlist_status", "common.proxy_protocol",
		"sftpd.trusted_user_ca_keys", "sftpd.revoked_user_certs_file",
		"sftpd.host_keys", "sftpd.host_certificates", "sftpd.host_key_algorithms", "sftpd.login_banner_file", "sftpd.max_auth_tries", "sftpd.rekey_mb",
		"sftpd.kex_algorithms", "sftpd.ciphers", "sftpd.macs", "sftpd.public_key_algorithms",
	}
	had := map[string]string{}
	for _, v := range old.Values {
		had[v.Key] = v.Text
	}
	var out []string
	for _, v := range fresh.Values {
		text, ok := had[v.Key]
		delete(had, v.Key)
		if (!ok || text != v.Text) && !slices.Contains(live, v.Key) && !strings.HasPrefix(v.Key, "common.defender.") && !strings.HasPrefix(v.Key, "common.rate_limiters") && !strings.HasPrefix(v.Key, "common.proxy_") {
			out = append(out, v.Key)
		}
	}
	for _, v := range old.Values { // an element that is gone
		if _, gone := had[v.Key]; gone {
			out = append(out, v.Key)
		}
	}
	return out
}

// box seals and opens secrets under the master key.
func (k KMS) box() (*secret.Box, error) {
	master := k.Secrets.MasterKey
	if p := k.Secrets.MasterKeyPath; p != "" {
		b, err := os.ReadFile(p)
		if err != nil {
			return nil, fmt.Errorf("kms.secrets.master_key_path: %w", err)
		}
		if master = strings.TrimSpace(string(b)); master == "" {
			return nil, fmt.Errorf("kms.secrets.master_key_path: %s is empty; put the master key there, or take the key out of the configuration", p)
		}
	}
	return secret.NewBox(master, secret.Secretbox)
}
