package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/auth"
	"github.com/gantryhq/gantry/internal/event"
	"github.com/gantryhq/gantry/internal/event/hook"
	"github.com/gantryhq/gantry/internal/guard"
	"github.com/gantryhq/gantry/internal/session"
)

// queueWait is what hooks after the fact have when the server stops.
const queueWait = 5 * time.Second

// hooks are the configured hooks, wired.
type hooks struct {
	s      *settings
	log    *slog.Logger
	runner *hook.Runner
	store  account.Store

	actions  *event.Actions
	provider *event.Provider
	logins   *event.Queue // post_login_hook
	left     *event.Queue // post_disconnect_hook
	queues   map[string]*event.Queue
}

// newHooks makes the runner and the queues. Their end is noted on n: it comes after the sessions'.
func (n *node) newHooks() (*hooks, error) {
	log := n.log.With("sender", "hook")
	cfg := n.s.hookConfig()
	cfg.Observe = n.metrics.Hooked
	runner, err := hook.New(cfg, log)
	if err != nil {
		return nil, err
	}
	n.later(func(context.Context) error {
		runner.Close()
		return nil
	})
	queues := map[string]*event.Queue{}
	queue := func(name string) *event.Queue {
		q := event.NewQueue(name, log)
		queues[name] = q
		n.later(func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, queueWait)
			defer cancel()
			q.Close(ctx)
			return nil
		})
		return q
	}
	return &hooks{
		s: n.s, log: log, runner: runner, store: n.store,
		actions:  event.NewActions(n.s.Common.Actions, runner, queue(hook.FSActions), log),
		provider: event.NewProvider(n.s.DataProvider.Actions, runner, queue(hook.ProviderActions), log),
		logins:   queue(hook.PostLogin),
		left:     queue(hook.PostDisconnect),
		queues:   queues,
	}, nil
}

// hookConfig is how hooks are run.
func (s *settings) hookConfig() hook.Config {
	return hook.Config{Command: s.Command, HTTP: s.HTTP, Dir: s.dir}
}

// auth are the hooks of a login.
func (h *hooks) auth() auth.Hooks {
	d := &h.s.DataProvider
	return auth.Hooks{
		Asker: h.runner, Users: h.store, Folders: h.store,
		CheckPassword: d.CheckPasswordHook, CheckPasswordScope: d.CheckPasswordScope,
		External: d.ExternalAuthHook, ExternalScope: d.ExternalAuthScope, PreLogin: d.PreLoginHook,
		Interactive: h.s.SFTPD.KeyboardInteractiveHook,
	}
}

// loggedIn has post_login_hook told of a login's end (hooks.md 5).
func (h *hooks) loggedIn(o session.Outcome) {
	d := &h.s.DataProvider
	if d.PostLoginHook == "" || d.PostLoginScope == 1 && o.OK || d.PostLoginScope == 2 && !o.OK {
		return
	}
	h.logins.Post(func(ctx context.Context) {
		body, err := h.userJSON(ctx, o.Username)
		if err != nil {
			h.log.Warn("post_login_hook is not told", "username", event.Text(o.Username), "error", err)
			return
		}
		status, ip := "0", o.Remote.Unmap().String()
		if o.OK {
			status = "1"
		}
		h.tell(ctx, hook.Call{
			Hook: hook.PostLogin, Target: d.PostLoginHook, Retry: true, Body: body,
			Query: url.Values{"login_method": {o.Method}, "ip": {ip}, "protocol": {o.Protocol}, "status": {status}},
			Env: []string{"SFTPGO_LOGIND_USER=" + string(body), "SFTPGO_LOGIND_IP=" + ip, "SFTPGO_LOGIND_METHOD=" + o.Method,
				"SFTPGO_LOGIND_STATUS=" + status, "SFTPGO_LOGIND_PROTOCOL=" + o.Protocol},
		})
	})
}

// userJSON is a user without secrets, or of an unknown one the name.
func (h *hooks) userJSON(ctx context.Context, name string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, queueWait)
	defer cancel()
	u, err := h.store.User(ctx, name)
	if errors.Is(err, account.ErrNotFound) {
		return json.Marshal(map[string]any{"id": 0, "username": name})
	}
	if err != nil {
		return nil, err
	}
	account.Redact(&u)
	return json.Marshal(u)
}

// ended has post_disconnect_hook told of a session's end (hooks.md 7).
func (h *hooks) ended(l session.Left) {
	target := h.s.Common.PostDisconnectHook
	switch l.Protocol {
	case "SFTP", "SCP", "SSH", "FTP":
	default:
		return
	}
	if target == "" {
		return
	}
	ip, ms := l.Remote.Unmap().String(), strconv.FormatInt(l.Duration.Milliseconds(), 10)
	call := hook.Call{
		Hook: hook.PostDisconnect, Target: target, Retry: true, Method: http.MethodGet,
		Query: url.Values{"ip": {ip}, "username": {l.Username}, "connection_duration": {ms}, "protocol": {l.Protocol}},
		Env: []string{"SFTPGO_CONNECTION_IP=" + ip, "SFTPGO_CONNECTION_USERNAME=" + l.Username, "SFTPGO_CONNECTION_DURATION=" + ms,
			"SFTPGO_CONNECTION_PROTOCOL=" + l.Protocol},
	}
	h.left.Post(func(ctx context.Context) { h.tell(ctx, call) })
}

// startup tells startup_hook that the services are up.
func (h *hooks) startup(ctx context.Context) {
	if target := h.s.Common.StartupHook; target != "" {
		h.tell(ctx, hook.Call{Hook: hook.Startup, Target: target, Retry: true, Method: http.MethodGet})
	}
}

func (h *hooks) tell(ctx context.Context, c hook.Call) {
	if _, err := h.runner.Do(ctx, c); err != nil {
		h.log.Warn("a hook failed", "hook", c.Hook, "error", err)
	}
}

// gate is the guard, and after it post_connect_hook.
type gate struct {
	*guard.Guard
	hooks    *hooks
	protocol string // account.ProtocolSSH, …
}

// Admit lets in whom the guard and the hook let in: a hook that fails refuses (AUTH-5). It waits for the
// hook, at most as long as ctx.
func (g gate) Admit(ctx context.Context, addr netip.Addr) (release func(), err error) {
	release, err = g.Guard.Admit(ctx, addr, guard.ProtocolOf(g.protocol))
	target := g.hooks.s.Common.PostConnectHook
	if err != nil || target == "" {
		return release, err
	}
	ip := addr.Unmap().String()
	_, err = g.hooks.runner.Do(ctx, hook.Call{
		Hook: hook.PostConnect, Target: target, Retry: true, Method: http.MethodGet,
		Query: url.Values{"ip": {ip}, "protocol": {g.protocol}},
		Env:   []string{"SFTPGO_CONNECTION_IP=" + ip, "SFTPGO_CONNECTION_PROTOCOL=" + g.protocol},
	})
	if err != nil {
		release()
		return nil, fmt.Errorf("post_connect_hook: %w", err)
	}
	return release, nil
}

// checkHooks switches off and tells of what cannot work and is no reason not to start (hooks.md 0).
func (s *settings) checkHooks() (warnings []string) {
	for _, x := range []struct{ key, target, effect string }{
		{"common.actions.hook", s.Common.Actions.Hook, "its events are lost, and what it may refuse is refused"},
		{"common.startup_hook", s.Common.StartupHook, "it is not told"},
		{"common.post_connect_hook", s.Common.PostConnectHook, "every connection is refused"},
		{"common.post_disconnect_hook", s.Common.PostDisconnectHook, "it is not told"},
		{"data_provider.actions.hook", s.DataProvider.Actions.Hook, "it is not told"},
		{"sftpd.keyboard_interactive_auth_hook", s.SFTPD.KeyboardInteractiveHook, "keyboard-interactive is off"},
	} {
		if x.target == "" {
			continue
		}
		if err := hook.Check(x.target); err != nil {
			warnings = append(warnings, fmt.Sprintf("%s: %v; %s", x.key, err, x.effect))
			if x.target == s.SFTPD.KeyboardInteractiveHook {
				s.SFTPD.KeyboardInteractive = false
			}
		}
	}
	for _, a := range s.Common.Actions.Unbuilt() {
		warnings = append(warnings, "not built yet, so without effect: "+a)
	}
	return warnings
}
