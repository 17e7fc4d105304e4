package event

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gantryhq/gantry/internal/event/hook"
)

// ActionsConfig is common.actions: the hook of what happens to files.
type ActionsConfig struct {
	ExecuteOn   []string `json:"execute_on"`   // actions
	ExecuteSync []string `json:"execute_sync"` // those of them that are waited for; pre-* always are
	Hook        string   `json:"hook"`
}

// hooked are the actions that can be named, firstOnes those of them that nothing sends yet.
var (
	hooked = []string{Download, Upload, PreDownload, PreUpload, PreDelete, Delete, Rename, Mkdir, Rmdir, SSHCommand, Copy}
	// firstOnes happen once in an account's life.
	firstOnes = []string{"first-upload", "first-download"}
)

// Validate says what is wrong with c.
func (c ActionsConfig) Validate() error {
	var errs []error
	for key, list := range map[string][]string{"execute_on": c.ExecuteOn, "execute_sync": c.ExecuteSync} {
		for _, a := range list {
			if !slices.Contains(hooked, a) && !slices.Contains(firstOnes, a) {
				errs = append(errs, fmt.Errorf("common.actions.%s: %q is no action; known are %s", key, a, strings.Join(hooked, ", ")))
			}
		}
	}
	return errors.Join(errs...)
}

// Unbuilt are the actions that c names and that nothing sends yet.
func (c ActionsConfig) Unbuilt() []string {
	var out []string
	for _, a := range firstOnes {
		if slices.Contains(c.ExecuteOn, a) {
			out = append(out, "common.actions.execute_on: "+a)
		}
	}
	return out
}

// Doer runs a hook: a *hook.Runner.
type Doer interface {
	Do(ctx context.Context, c hook.Call) ([]byte, error)
}

// Actions is the Sink that tells the hook of common.actions.
type Actions struct {
	cfg   ActionsConfig
	doer  Doer
	queue *Queue
	log   *slog.Logger
}

var (
	_ Sink     = (*Actions)(nil)
	_ Approver = (*Actions)(nil)
)

// NewActions makes the sink. What is not waited for goes to queue.
func NewActions(cfg ActionsConfig, doer Doer, queue *Queue, log *slog.Logger) *Actions {
	return &Actions{cfg: cfg, doer: doer, queue: queue, log: log}
}

// wants reports whether the hook is to be told of action.
func (a *Actions) wants(action string) bool {
	if !slices.Contains(a.cfg.ExecuteOn, action) {
		return false
	}
	if a.cfg.Hook == "" {
		a.log.Warn("common.actions names an action and no hook", "action", action)
		return false
	}
	return true
}

// Asks implements Selective.
func (a *Actions) Asks(action string) bool { return slices.Contains(a.cfg.ExecuteOn, action) }

// Prompt implements Prompt.
func (a *Actions) Prompt(action string) bool { return !a.Asks(action) }

func (a *Actions) sync(action string) bool { return slices.Contains(a.cfg.ExecuteSync, action) }

// Before has the hook refuse what it does not answer with success: a hook that is down denies (AUTH-5).
// A pre-delete hook that has removed the file itself is right too.
func (a *Actions) Before(ctx context.Context, e *Event) error {
	if !a.wants(e.Action) {
		return nil
	}
	err := a.tell(ctx, e)
	if err != nil {
		a.log.Warn("a hook refuses", "action", e.Action, "username", Text(e.Username), "virtual_path", Text(e.VirtualPath), "error", err)
	}
	return err
}

// Approve asks the hook about an upload that has succeeded, where it is waited for.
func (a *Actions) Approve(ctx context.Context, e *Event) error {
	if e.Action != Upload || !a.sync(Upload) || !a.wants(Upload) {
		return nil
	}
	e.Approved = true
	return a.Before(ctx, e)
}

// After tells the hook what was done. Its answer changes nothing.
func (a *Actions) After(ctx context.Context, e *Event) {
	if e.Approved || strings.HasPrefix(e.Action, "pre-") || !a.wants(e.Action) {
		return
	}
	if a.sync(e.Action) {
		// The peer may have gone: what it did is told all the same.
		a.told(a.tell(context.WithoutCancel(ctx), e), e)
		return
	}
	now := *e
	a.queue.Post(func(ctx context.Context) { a.told(a.tell(ctx, &now), &now) })
}

func (a *Actions) told(err error, e *Event) {
	if err != nil {
		a.log.Warn("a hook failed; the event is lost", "action", e.Action, "username", Text(e.Username), "virtual_path", Text(e.VirtualPath), "error", err)
	}
}

// notification is the JSON of hooks.md 1.
type notification struct {
	Action        string            `json:"action"`
	Username      string            `json:"username"`
	Path          string            `json:"path"`
	Target        string            `json:"target_path,omitempty"`
	VirtualPath   string            `json:"virtual_path"`
	VirtualTarget string            `json:"virtual_target_path,omitempty"`
	SSHCmd        string            `json:"ssh_cmd,omitempty"`
	FileSize      int64             `json:"file_size,omitempty"`
	Elapsed       int64             `json:"elapsed,omitempty"` // ms
	Provider      int               `json:"fs_provider"`
	Bucket        string            `json:"bucket,omitempty"`
	Endpoint      string            `json:"endpoint,omitempty"`
	Status        Status            `json:"status"`
	Protocol      string            `json:"protocol"`
	IP            string            `json:"ip"`
	SessionID     string            `json:"session_id"`
	OpenFlags     int               `json:"open_flags,omitempty"`
	Timestamp     int64             `json:"timestamp"` // ns
	Role          string            `json:"role,omitempty"`
	Metadata      map[string]string `json:"metadata,omitempty"`
}

func (a *Actions) tell(ctx context.Context, e *Event) error {
	n := notification{
		Action: e.Action, Username: e.Username, Path: e.Path, Target: e.Target, VirtualPath: e.VirtualPath, VirtualTarget: e.VirtualTarget,
		SSHCmd: e.SSHCmd, FileSize: e.FileSize, Elapsed: e.Elapsed.Milliseconds(), Provider: e.Provider, Bucket: e.Bucket, Endpoint: e.Endpoint,
		Status: e.Status, Protocol: e.Protocol, IP: e.IP, SessionID: e.SessionID, OpenFlags: e.OpenFlags,
		Timestamp: e.Time.Add(e.Elapsed).UnixNano(), Role: e.Role, Metadata: e.Metadata,
	}
	c := hook.Call{Hook: hook.FSActions, Target: a.cfg.Hook, Retry: true}
	if hook.IsHTTP(a.cfg.Hook) {
		// A name that is not UTF-8 has no form in JSON; a program gets its bytes.
		for _, s := range []*string{&n.Path, &n.Target, &n.VirtualPath, &n.VirtualTarget, &n.SSHCmd} {
			*s = Text(*s)
		}
		var err error
		if c.Body, err = json.Marshal(n); err != nil {
			return err
		}
	} else {
		c.Env = n.env()
	}
	start := time.Now()
	_, err := a.doer.Do(ctx, c)
	a.log.Debug("hook told", "hook", hook.FSActions, "action", e.Action, "dur", time.Since(start), "ok", err == nil)
	return err
}

// env is n as a program gets it.
func (n *notification) env() []string {
	text := func(v int64) string { return strconv.FormatInt(v, 10) }
	var env []string
	for _, kv := range [][2]string{
		{"", n.Action}, {"_USERNAME", n.Username}, {"_PATH", n.Path}, {"_TARGET", n.Target}, {"_VIRTUAL_PATH", n.VirtualPath},
		{"_VIRTUAL_TARGET", n.VirtualTarget}, {"_SSH_CMD", n.SSHCmd}, {"_FILE_SIZE", text(n.FileSize)}, {"_ELAPSED", text(n.Elapsed)},
		{"_FS_PROVIDER", strconv.Itoa(n.Provider)}, {"_BUCKET", n.Bucket}, {"_ENDPOINT", n.Endpoint}, {"_STATUS", strconv.Itoa(int(n.Status))},
		{"_PROTOCOL", n.Protocol}, {"_IP", n.IP}, {"_SESSION_ID", n.SessionID}, {"_OPEN_FLAGS", strconv.Itoa(n.OpenFlags)},
		{"_TIMESTAMP", text(n.Timestamp)}, {"_ROLE", n.Role},
	} {
		env = append(env, "SFTPGO_ACTION"+kv[0]+"="+kv[1])
	}
	if len(n.Metadata) > 0 {
		if b, err := json.Marshal(n.Metadata); err == nil {
			env = append(env, "SFTPGO_ACTION_METADATA="+string(b))
		}
	}
	return env
}
