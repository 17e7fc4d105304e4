package event

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gantryhq/gantry/internal/event/hook"
)

// Who changed a record, where it was no admin.
const (
	BySelf   = "__self__"
	BySystem = "__system__"
)

// ProviderConfig is data_provider.actions: the hook of changed records.
type ProviderConfig struct {
	ExecuteOn  []string `json:"execute_on"`  // add, update, delete
	ExecuteFor []string `json:"execute_for"` // kinds of records; none is nothing
	Hook       string   `json:"hook"`
}

// objects are the kinds that can be named.
var objects = []string{"user", "admin", "api_key", "share", "folder", "group", "event_action", "event_rule", "role", "ip_list_entry", "configs"}

// Validate says what is wrong with c.
func (c ProviderConfig) Validate() error {
	var errs []error
	for _, a := range c.ExecuteOn {
		if a != "add" && a != "update" && a != "delete" {
			errs = append(errs, fmt.Errorf("data_provider.actions.execute_on: %q is not add, update or delete", a))
		}
	}
	for _, k := range c.ExecuteFor {
		if !slices.Contains(objects, k) {
			errs = append(errs, fmt.Errorf("data_provider.actions.execute_for: %q is no kind; known are %s", k, strings.Join(objects, ", ")))
		}
	}
	return errors.Join(errs...)
}

// Change is a record that was added, changed or deleted.
type Change struct {
	Action string // add, update, delete
	Kind   string // user, admin, … as in execute_for
	Name   string
	By     string // admin or user; BySelf, BySystem
	IP     string // of who did it, or ""
	Role   string // of the admin who did it, or ""
	Object any    // the record without its secrets (account.Redact); it is marshalled before Notify returns
}

// Provider tells the hook of data_provider.actions.
type Provider struct {
	cfg   ProviderConfig
	doer  Doer
	queue *Queue
	log   *slog.Logger
}

// NewProvider makes a Provider whose calls go to queue.
func NewProvider(cfg ProviderConfig, doer Doer, queue *Queue, log *slog.Logger) *Provider {
	return &Provider{cfg: cfg, doer: doer, queue: queue, log: log}
}

// Wants reports whether Notify would tell of such a change, for callers whose Object is costly to make.
func (p *Provider) Wants(action, kind string) bool {
	return p.cfg.Hook != "" && slices.Contains(p.cfg.ExecuteOn, action) && slices.Contains(p.cfg.ExecuteFor, kind)
}

// Notify has the hook told soon. It does not wait.
func (p *Provider) Notify(c Change) {
	if !p.Wants(c.Action, c.Kind) {
		return
	}
	object, err := json.Marshal(c.Object)
	if err != nil {
		p.log.Error("a record cannot be told of", "kind", c.Kind, "name", Text(c.Name), "error", err)
		return
	}
	at := strconv.FormatInt(time.Now().UnixNano(), 10)
	call := hook.Call{
		Hook: hook.ProviderActions, Target: p.cfg.Hook, Retry: true, Body: object,
		Query: url.Values{"action": {c.Action}, "object_type": {c.Kind}, "object_name": {c.Name}, "username": {c.By}, "ip": {c.IP}, "timestamp": {at}},
	}
	if c.Role != "" {
		call.Query.Set("role", c.Role)
	}
	for _, kv := range [][2]string{{"ACTION", c.Action}, {"OBJECT_TYPE", c.Kind}, {"OBJECT_NAME", c.Name}, {"USERNAME", c.By}, {"IP", c.IP},
		{"ROLE", c.Role}, {"TIMESTAMP", at}, {"OBJECT", string(object)}} {
		call.Env = append(call.Env, "SFTPGO_PROVIDER_"+kv[0]+"="+kv[1])
	}
	p.queue.Post(func(ctx context.Context) {
		if _, err := p.doer.Do(ctx, call); err != nil {
			p.log.Warn("a hook failed; the change is not told", "action", c.Action, "kind", c.Kind, "name", Text(c.Name), "error", err)
		}
	})
}
