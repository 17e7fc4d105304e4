package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/gantryhq/gantry/engine"
	"github.com/gantryhq/gantry/httpapi"
	"github.com/gantryhq/gantry/httpapi/rest"
	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/admin"
	"github.com/gantryhq/gantry/internal/auth"
	"github.com/gantryhq/gantry/internal/config"
	"github.com/gantryhq/gantry/internal/event/hook"
	"github.com/gantryhq/gantry/internal/guard"
)

// httpDoor is a listener of an HTTP binding.
type httpDoor struct {
	*engine.Listener
	index int
}

// listenHTTP takes the ports of the HTTP bindings that no socket was passed for.
func (n *node) listenHTTP(ctx context.Context) error {
	for i, b := range n.s.HTTPD.Bindings {
		if !b.IsValid() || slices.ContainsFunc(n.httpDoors, func(d httpDoor) bool { return d.index == i }) {
			continue
		}
		l, err := b.Listen(ctx)
		if isInUse(err) {
			return fmt.Errorf("httpd.bindings[%d]: %w: set its port to another one, or to 0 for none", i, err)
		}
		if err != nil {
			return fmt.Errorf("httpd.bindings[%d]: %w", i, err)
		}
		n.takeHTTP(l, i)
	}
	return nil
}

// takeHTTP makes l the listener of an HTTP binding. It is closed with the node.
func (n *node) takeHTTP(l net.Listener, index int) {
	d := n.door(l, n.s.HTTPD.Bindings[index].ProxyMode == 1)
	n.httpDoors = append(n.httpDoors, httpDoor{d, index})
	n.later(func(context.Context) error {
		d.Close() // may be closed already
		return nil
	})
}

// buildHTTP makes the management operations, the REST API and its server.
func (n *node) buildHTTP(hasher *auth.Hasher) error {
	rules, err := n.s.rules(hasher)
	if err != nil {
		return err
	}
	n.admin = admin.New(admin.Deps{
		Store: n.store, Rules: rules, Auth: n.auth, Sessions: n.sessions, Guard: n.guard, Changes: n.hooks.provider,
		Log:                n.log.With("sender", "admin"),
		CheckAdminPassword: func(plain string) error { return n.s.DataProvider.PasswordValidation.Admins.Check(plain, 0) },
		TrackQuota:         n.s.DataProvider.TrackQuota, BackupsDir: n.s.path(n.s.DataProvider.BackupsPath),
	})
	n.later(func(context.Context) error {
		n.admin.Close()
		return nil
	})
	deps := rest.Deps{
		Admin: n.admin, Sessions: n.sessions, Log: n.log.With("sender", "httpd"), PostConnect: n.hooks.httpConnect,
		Version: func() any { return versionInfo() }, Status: n.servicesStatus,
	}
	if n.shared != nil {
		deps.Shared = n.shared.Shared
	}
	api, err := rest.New(n.s.HTTPD, deps)
	if err != nil {
		return err
	}
	if err := n.shareTokens(api); err != nil {
		return err
	}
	for _, d := range n.httpDoors {
		d.Check(n.check(account.ProtocolHTTP))
	}
	n.http, err = httpapi.New(n.s.HTTPD, httpGate{n.guard}, api, n.log.With("sender", "httpd"))
	return err
}

// shareTokens has tokens that end on another node end here, and those that end here there.
func (n *node) shareTokens(api *rest.API) error {
	if n.shared == nil {
		return nil
	}
	ctx, stop := context.WithCancel(context.Background()) // ends with the node's stop
	since, err := api.SyncTokens(ctx, 0)
	if err != nil {
		stop()
		return fmt.Errorf("which tokens have ended: %w", err)
	}
	var done sync.WaitGroup
	done.Go(func() { api.FollowTokens(ctx, since) })
	n.later(func(context.Context) error {
		stop()
		done.Wait()
		return nil
	})
	return nil
}

// httpGate is the guard for requests. post_connect_hook is asked at logins alone (hooks.md 6).
type httpGate struct{ *guard.Guard }

// Admit implements httpapi.Gate.
func (g httpGate) Admit(ctx context.Context, addr netip.Addr) (release func(), err error) {
	release, err = g.Guard.Admit(ctx, addr, guard.ProtocolOf(account.ProtocolHTTP))
	if r, ok := errors.AsType[*guard.RateError](err); ok {
		return nil, &httpapi.RateError{RetryAfter: r.RetryAfter, Err: err}
	}
	return release, err
}

// httpConnect asks post_connect_hook about a client of a token call.
func (h *hooks) httpConnect(ctx context.Context, addr netip.Addr) error {
	target := h.s.Common.PostConnectHook
	if target == "" {
		return nil
	}
	ip := addr.Unmap().String()
	_, err := h.runner.Do(ctx, hook.Call{
		Hook: hook.PostConnect, Target: target, Retry: true, Method: http.MethodGet,
		Query: url.Values{"ip": {ip}, "protocol": {account.ProtocolHTTP}},
		Env:   []string{"SFTPGO_CONNECTION_IP=" + ip, "SFTPGO_CONNECTION_PROTOCOL=" + account.ProtocolHTTP},
	})
	if err != nil {
		return fmt.Errorf("post_connect_hook: %w", err)
	}
	return nil
}

// firstAdmin makes the administrator of the environment where create_default_admin says so, or a token by which the
// first one can be made, if there is none yet.
func (n *node) firstAdmin(ctx context.Context) error {
	if have, err := n.admin.HasAdmin(ctx); err != nil || have {
		return err
	}
	if n.s.DataProvider.CreateDefaultAdmin {
		env, err := config.Environment(config.Options{Prefixes: prefixes, Environ: n.app.environ, Dir: n.s.dir})
		if err != nil {
			return err
		}
		name, ok1 := config.Lookup(env, prefixes, "DEFAULT_ADMIN_USERNAME")
		password, ok2 := config.Lookup(env, prefixes, "DEFAULT_ADMIN_PASSWORD")
		if !ok1 || !ok2 || name.Value == "" || password.Value == "" {
			return errors.New("data_provider.create_default_admin: GANTRY_DEFAULT_ADMIN_USERNAME and GANTRY_DEFAULT_ADMIN_PASSWORD are needed")
		}
		if _, err := n.admin.AddFirstAdmin(ctx, name.Value, password.Value, netip.Addr{}); err != nil {
			return fmt.Errorf("data_provider.create_default_admin: %w", err)
		}
		return nil
	}
	if slices.ContainsFunc(n.httpDoors, func(d httpDoor) bool { return n.s.HTTPD.Bindings[d.index].EnableRESTAPI }) {
		n.setupToken = n.admin.SetupToken()
	}
	return nil
}

// setupURL is where the first administrator can be made.
func (n *node) setupURL() string {
	for _, d := range n.httpDoors {
		b := n.s.HTTPD.Bindings[d.index]
		if !b.EnableRESTAPI {
			continue
		}
		scheme := "http://"
		if b.EnableHTTPS {
			scheme = "https://"
		}
		host := d.Addr().String()
		if a, ok := d.Addr().(*net.TCPAddr); ok && a.IP.IsUnspecified() {
			host = strings.Replace(host, "[::]", "localhost", 1)
		}
		return scheme + host + n.s.HTTPD.WebRoot + rest.Base + "/setup"
	}
	return ""
}

// restVersion is the answer of /version.
type restVersion struct {
	Version    string   `json:"version"`
	BuildDate  string   `json:"build_date"`
	CommitHash string   `json:"commit_hash"`
	Features   []string `json:"features"`
}

func versionInfo() restVersion {
	b := buildInfo()
	return restVersion{Version: b.Version, BuildDate: b.Date, CommitHash: b.Commit, Features: b.Features}
}

// servicesStatus is the answer of /status.
func (n *node) servicesStatus(ctx context.Context) any {
	type active struct {
		IsActive bool `json:"is_active"`
	}
	type bindings struct {
		active
		Bindings any `json:"bindings"`
	}
	type hostKey struct {
		Path        string   `json:"path"`
		Fingerprint string   `json:"fingerprint"`
		Algorithms  []string `json:"algorithms"`
	}
	type provider struct {
		active
		Driver string `json:"driver"`
		Error  string `json:"error"`
	}
	type mfa struct {
		active
		TOTPConfigs []auth.TOTPConfig `json:"totp_configs"`
	}
	type limiters struct {
		active
		Protocols []string `json:"protocols"`
	}
	var out struct {
		SSH struct {
			bindings
			HostKeys    []hostKey `json:"host_keys"`
			SSHCommands []string  `json:"ssh_commands"`
		} `json:"ssh"`
		FTP struct {
			bindings
			PassivePortRange any `json:"passive_port_range"`
		} `json:"ftp"`
		WebDAV       bindings `json:"webdav"`
		DataProvider provider `json:"data_provider"`
		Defender     active   `json:"defender"`
		MFA          mfa      `json:"mfa"`
		AllowList    active   `json:"allow_list"`
		RateLimiters limiters `json:"rate_limiters"`
	}
	out.SSH.IsActive = len(n.listeners) > 0
	out.SSH.Bindings = n.s.SFTPD.Bindings
	out.SSH.SSHCommands = n.s.SFTPD.EnabledSSHCommands
	for _, k := range n.ssh.HostKeys() {
		out.SSH.HostKeys = append(out.SSH.HostKeys, hostKey{k.Path, k.Fingerprint, []string{k.Type}})
	}
	out.FTP.IsActive = len(n.ftpDoors) > 0
	out.FTP.Bindings = n.s.FTPD.Bindings
	out.FTP.PassivePortRange = n.s.FTPD.PassivePortRange
	out.WebDAV.IsActive = len(n.davDoors) > 0
	out.WebDAV.Bindings = n.s.WebDAVD.Bindings
	out.DataProvider.Driver = n.s.DataProvider.Driver
	if err := n.store.Ping(ctx); err != nil {
		out.DataProvider.Error = err.Error()
	} else {
		out.DataProvider.IsActive = true
	}
	out.Defender.IsActive = n.s.Common.Guard.Defender.Enabled
	out.MFA = mfa{active{len(n.s.MFA.TOTP) > 0}, n.s.MFA.TOTP}
	out.AllowList.IsActive = n.s.Common.Guard.AllowListStatus == 1
	out.RateLimiters.Protocols = []string{}
	for _, l := range n.s.Common.Guard.RateLimiters {
		if l.Average <= 0 {
			continue
		}
		out.RateLimiters.IsActive = true
		for _, p := range l.Protocols {
			if !slices.Contains(out.RateLimiters.Protocols, p) {
				out.RateLimiters.Protocols = append(out.RateLimiters.Protocols, p)
			}
		}
	}
	return out
}
