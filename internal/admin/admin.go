// Package admin holds every management operation once: it checks the administrator's permission, validates, stores,
// tells whoever wants to know and ends what must not go on. REST, the web pages, the command line and imports call it.
//
// What a caller may do follows from its Actor alone, which is read anew for each request: a permission that was taken
// away, a disabled administrator and a changed role take effect at once.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/auth"
	"github.com/gantryhq/gantry/internal/event"
	"github.com/gantryhq/gantry/internal/guard"
	"github.com/gantryhq/gantry/internal/session"
)

// Errors beside those of account. Test with errors.Is.
var (
	// ErrForbidden: the actor lacks the permission.
	ErrForbidden = errors.New("permission denied")
	// ErrDisabled: the configuration switches the operation off.
	ErrDisabled = errors.New("disabled by the configuration")
	// ErrRunning: the same work is under way already.
	ErrRunning = errors.New("it is running already")
	// ErrCredentials: who asks could not prove who they are. The caller hears no more.
	ErrCredentials = errors.New("wrong credentials")
	// ErrNoSuchKey: there is no API key of that id.
	ErrNoSuchKey = errors.New("unknown API key")
)

// InputError is a request that makes no sense, beside a record that cannot be stored (account.ValidationError).
type InputError struct{ Text string }

func (e *InputError) Error() string { return e.Text }

func invalid(format string, args ...any) error { return &InputError{fmt.Sprintf(format, args...)} }

// Actor is who asks.
type Actor struct {
	Name        string // of the administrator; event.BySystem is the server itself
	Permissions []string
	Role        string // confines it to the users of this role
	Remote      netip.Addr
	APIKey      string // id of the API key that it came by, or ""
}

// System is the server itself.
func System() *Actor { return &Actor{Name: event.BySystem, Permissions: []string{account.PermAny}} }

// ActorOf is an administrator who has proven who they are.
func ActorOf(a *account.Admin, remote netip.Addr, apiKey string) *Actor {
	return &Actor{Name: a.Username, Permissions: a.Permissions, Role: a.Role, Remote: remote, APIKey: apiKey}
}

// May reports whether the actor holds a permission, or "*".
func (a *Actor) May(permission string) bool {
	return slices.Contains(a.Permissions, account.PermAny) || permission != account.PermAny && slices.Contains(a.Permissions, permission)
}

// need is the check that each operation begins with (ADM-1).
func (a *Actor) need(permission string) error {
	if a == nil || !a.May(permission) {
		return fmt.Errorf("%w: %s is needed", ErrForbidden, permission)
	}
	return nil
}

// Deps are the parts that a Service works with. All are needed unless they say so.
type Deps struct {
	Store    account.Store
	Rules    account.Rules // those of the store
	Auth     *auth.Authenticator
	Sessions *session.Server
	Guard    *guard.Guard
	Changes  *event.Provider // told of changed records; nil tells nobody
	Log      *slog.Logger
	Now      func() time.Time // nil means time.Now
	// CheckAdminPassword refuses plain passwords of administrators that are too weak; nil takes every one.
	CheckAdminPassword func(plain string) error
	TrackQuota         int    // data_provider.track_quota
	BackupsDir         string // absolute
}

// Service is the operations. Safe for concurrent use.
type Service struct {
	Deps

	ctx  context.Context // of work that outlives its request; ends with Close
	stop context.CancelFunc
	work sync.WaitGroup

	mu     sync.Mutex // guards the fields below
	scans  map[account.CounterKey]time.Time
	checks map[string]RetentionCheck // by user
	setup  []byte                    // digest of the one-time token; nil when there is none

	checking chan struct{} // holds one for each check of a storage under way
}

// New makes a service. Close ends what its operations have started.
func New(d Deps) *Service {
	if d.Now == nil {
		d.Now = time.Now
	}
	s := &Service{Deps: d, scans: map[account.CounterKey]time.Time{}, checks: map[string]RetentionCheck{}, checking: make(chan struct{}, storageChecks)}
	s.ctx, s.stop = context.WithCancel(context.Background()) // ends with Close
	return s
}

// Close ends what runs in the background and waits for it.
func (s *Service) Close() {
	s.stop()
	s.work.Wait()
}

// changed is called after a record was stored or deleted: caches forget it and the hook is told. object is a copy of
// the record that may be redacted here.
func (s *Service) changed(by *Actor, action string, kind account.Kind, key string, object any) {
	s.Auth.Forget(kind, key)
	s.Log.Info("record changed", "action", action, "kind", string(kind), "name", event.Text(key), "by", event.Text(by.Name), "ip", ipText(by.Remote))
	if s.Changes == nil || !s.Changes.Wants(action, string(kind)) {
		return
	}
	account.Redact(object)
	s.Changes.Notify(event.Change{Action: action, Kind: string(kind), Name: key, By: by.Name, IP: ipText(by.Remote), Role: by.Role, Object: object})
}

func ipText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.Unmap().String()
}

// ErrNoTOTP: the account has no second factor, so that it has no recovery codes either.
var ErrNoTOTP = fmt.Errorf("%w: two-factor authentication is not enabled", ErrForbidden)
