// Package auth proves credentials and says who may come in.
//
// An Attempt goes through an ordered chain of sources, the account store first; the first that knows the
// account decides, and may change the user name. The credential is proven here or by the source, then the
// account passes the one Admit check. Every doubt is a denial: an error, a timeout, nothing where something
// should be (AUTH-5). Peers control all of an Attempt; checkAttempt bounds it before anything else runs.
//
// An unknown user, a user without password and a wrong password cost the same hash and say the same
// (AUTH-4). Hashing is bounded (AUTH-10). A warm login reads no store and hashes no password: accounts are
// remembered until the store's changes say otherwise, verified passwords as a keyed hash.
package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gantryhq/gantry/cache"
	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/life"
)

// Store is what is read of the account store.
type Store interface {
	User(ctx context.Context, name string) (account.User, error)
	Group(ctx context.Context, name string) (account.Group, error)
	account.Changes
}

// Authenticator proves credentials. Safe for concurrent use.
type Authenticator struct {
	accounts  *accounts
	sources   []Source
	passwords Passwords
	verified  *verified // nil without password_caching
	store     Store
	log       *slog.Logger
	now       func() time.Time
	loc       *time.Location
	factors   *factors
	editor    Editor // or nil
	hooks     Hooks
	trust     atomic.Pointer[trust]
	rehashing sync.Map // user names whose password gets its new hash

	changes notifier
	stop    context.CancelFunc
	done    sync.WaitGroup
}

// New makes an authenticator whose first source is the store; more are asked after it, in order, when it
// does not know the name. now is the clock, nil means time.Now. Close ends what New starts: the follower
// of the store's changes, and the caches.
func New(cfg Config, store Store, pw Passwords, log *slog.Logger, now func() time.Time, more ...Source) (*Authenticator, error) {
	a, err := build(cfg, store, pw, log, now, more)
	if err != nil {
		return nil, err
	}
	a.start(cfg.Follow)
	return a, nil
}

// build makes an authenticator that follows nothing yet.
func build(cfg Config, store Store, pw Passwords, log *slog.Logger, now func() time.Time, more []Source) (*Authenticator, error) {
	if store == nil || pw == nil || log == nil {
		return nil, errors.New("auth: a store, a hasher and a log are needed")
	}
	if now == nil {
		now = time.Now
	}
	a := &Authenticator{passwords: pw, store: store, log: log, now: now, loc: time.UTC, stop: func() {}}
	a.editor, a.hooks = cfg.Editor, cfg.Hooks
	if err := a.hooks.check(); err != nil {
		return nil, err
	}
	a.factors = &factors{configs: cfg.TOTP, box: cfg.Box, editor: cfg.Editor, kept: cfg.Steps, steps: map[string]int64{}, wrong: map[any]guesses{}}
	for i, t := range cfg.TOTP {
		if err := t.Validate(); err != nil {
			return nil, fmt.Errorf("mfa.totp[%d]: %w", i, err)
		}
	}
	if err := a.SetTrust(cfg.Trust); err != nil {
		return nil, err
	}
	a.changes.wake = make(chan struct{}, 1)
	if cfg.LocalTime {
		a.loc = time.Local
	}
	var err error
	if a.accounts, err = newAccounts(store, log, now); err != nil {
		return nil, err
	}
	if cfg.Caching {
		if a.verified, err = newVerified(now); err != nil {
			a.accounts.close()
			return nil, err
		}
	}
	a.sources = append([]Source{a.accounts}, more...)
	if a.hooks.External != "" || a.hooks.PreLogin != "" {
		a.sources = append([]Source{&loginHooks{a: a, saved: map[string]savedAnswer{}}}, a.sources...)
	}
	return a, nil
}

// start begins to follow the store. Close ends it.
func (a *Authenticator) start(cfg cache.FollowConfig) {
	ctx, stop := context.WithCancel(context.Background()) // ends with Close
	a.stop = stop
	a.done.Go(func() { a.follow(ctx, cfg) })
	a.done.Go(func() { a.changes.run(ctx) })
}

// Close ends the authenticator, and waits for the calls of OnChange that are under way.
func (a *Authenticator) Close() {
	a.stop()
	a.done.Wait()
	a.accounts.close()
	if a.verified != nil {
		a.verified.close()
	}
}

var (
	errNoName      = errors.New("it has no name")
	errNoAddress   = errors.New("the peer's address is not known")
	errPasswordOld = errors.New("the password is older than password_expiration")
	errNoTOTP      = errors.New("two_factor_protocols asks for a second factor that is not set up")
	errNoAccount   = errors.New("the source gave no account")
)

// The bounds of reading one account of the store, and of the whole chain, however patient the caller is
// (RES-2).
const (
	storeWait  = 5 * time.Second
	sourceWait = 30 * time.Second
	hookWait   = 300 * time.Second // more, where a hook has bounds of its own
)

// Authenticate proves a credential through the ordered chain of sources and Admit. Any doubt is a denial
// (AUTH-5). The error is a *Denied. Nothing of an attempt is kept: what a login may do follows from the
// Identity alone (AUTH-1).
func (a *Authenticator) Authenticate(ctx context.Context, t *Attempt) (*Identity, error) {
	if err := checkAttempt(t); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, deny(ReasonCanceled, err)
	}
	f, err := a.find(ctx, t)
	if err != nil {
		if d, ok := errors.AsType[*Denied](err); ok && (d.Unknown || d.Reason == ReasonHook) && t.Method != account.MethodPublicKey && t.Method != account.MethodTLSCertificate {
			return nil, a.unknown(ctx, t, d)
		}
		return nil, err
	}
	id := &Identity{User: f.User, Method: t.LoginMethod(), of: f.compiled}
	if t.Prior != nil {
		if err := a.carry(f.compiled, t, id); err != nil {
			if t.Method == account.MethodPassword {
				a.dummy(ctx, t.Username, t.Password)
			}
			return nil, err
		}
	}
	if t.Method == account.MethodPublicKey {
		if !f.Proven || isCertificate(t.PublicKey) {
			if id.KeyFingerprint, err = a.proveKey(f.compiled, t.PublicKey, t); err != nil {
				return nil, deny(ReasonKey, err)
			}
			id.key = string(t.PublicKey)
		}
		if next := f.compiled.nextSteps(); len(next) > 0 && t.Protocol == account.ProtocolSSH {
			return nil, a.step(f.compiled, t, id, next)
		}
	} else {
		if err := a.proveCertificate(ctx, f.compiled, t, id, f.Proven); err != nil {
			return nil, err
		}
		if t.Method != account.MethodTLSCertificate {
			if err := a.proveSecret(ctx, f.compiled, t, id, f.Proven); err != nil {
				return nil, err
			}
		}
	}
	at := *t
	at.Method, at.factor = id.Method, id.factor
	if err := f.compiled.admit(&at, a.now(), a.loc); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, deny(ReasonCanceled, err)
	}
	return f.compiled.shared(id), nil
}

// shared gives logins by a password alone one Identity: idle sessions are many.
func (c *compiled) shared(id *Identity) *Identity {
	if id.Method != account.MethodPassword || id.factor || id.key != "" || id.KeyFingerprint != "" || id.User != c.user {
		return id
	}
	if c.byPassword.CompareAndSwap(nil, id) {
		return id
	}
	return c.byPassword.Load()
}

// Current re-reads the account of id (from the cache where it may) and passes it through Admit again: for a
// session that opens later than its login, and for the periodic check of live sessions. A key that the
// account does not list any more, or another account of the same name, is a denial. The error is a *Denied;
// with ReasonStore nothing is known.
func (a *Authenticator) Current(ctx context.Context, id *Identity, w Way) (*Identity, error) {
	if id == nil || id.User == nil || id.User.Username == "" {
		return nil, deny(ReasonMalformed, nil)
	}
	c, err := a.accounts.lookup(ctx, id.User.Username)
	if err != nil {
		return nil, denied(err)
	}
	return a.current(c, id, w)
}

// Remembered is Current where the account is in the cache: nothing is waited for. ok is false where it is not.
func (a *Authenticator) Remembered(id *Identity, w Way) (now *Identity, ok bool, err error) {
	if id == nil || id.User == nil || id.User.Username == "" {
		return nil, true, deny(ReasonMalformed, nil)
	}
	if !a.accounts.heard.Load() {
		return nil, false, nil
	}
	c := id.of
	if !a.accounts.holds(c) {
		name := id.User.Username
		if c, ok = a.accounts.known.Get(name, a.accounts.epochs.At(fold(name))); !ok {
			return nil, false, nil
		}
	}
	now, err = a.current(c, id, w)
	return now, true, err
}

// current passes id through Admit by what its account is now.
func (a *Authenticator) current(c *compiled, id *Identity, w Way) (*Identity, error) {
	if c.user.Username != id.User.Username || c.user.ID != id.User.ID {
		return nil, &Denied{Reason: ReasonUnknownUser, Unknown: true, Err: errors.New("the name stands for another account now")}
	}
	at := Attempt{Protocol: w.Protocol, Method: id.Method, Username: id.User.Username, Remote: w.Remote, Secure: w.Secure, factor: id.factor}
	if id.key != "" {
		if _, err := a.proveKey(c, []byte(id.key), &at); err != nil {
			return nil, deny(ReasonKey, err)
		}
	}
	if err := c.admit(&at, a.now(), a.loc); err != nil {
		return nil, err
	}
	if c == id.of {
		return id, nil
	}
	now := *id
	now.User, now.of = c.user, c
	return &now, nil
}

// Admit passes an account, merged with its groups, through the check that every login passes: for ways in
// whose credential is proven elsewhere (a share, an API key, a token). The error is a *Denied.
func (a *Authenticator) Admit(u *account.User, t *Attempt) error {
	if u == nil || t == nil {
		return deny(ReasonMalformed, nil)
	}
	return compile(u).admit(t, a.now(), a.loc)
}

// find asks the sources in order.
func (a *Authenticator) find(ctx context.Context, t *Attempt) (Found, error) {
	wait := sourceWait
	if a.hooks.External != "" || a.hooks.PreLogin != "" {
		wait += hookWait
	}
	ctx, cancel := life.Within(ctx, wait)
	defer cancel()
	for _, s := range a.sources {
		f, err := s.Find(ctx, t)
		if errors.Is(err, ErrPass) {
			continue
		}
		if err != nil {
			return Found{}, denied(err)
		}
		if f.User == nil || f.User.Username == "" {
			return Found{}, deny(ReasonSource, errNoAccount)
		}
		if f.compiled == nil || f.compiled.user != f.User {
			f.compiled = compile(f.User)
		}
		return f, nil
	}
	return Found{}, &Denied{Reason: ReasonUnknownUser, Unknown: true}
}

// denied makes a Denied of any error.
func denied(err error) error {
	if d, ok := errors.AsType[*Denied](err); ok {
		return d
	}
	if errors.Is(err, ErrPass) {
		return &Denied{Reason: ReasonUnknownUser, Unknown: true}
	}
	return deny(ReasonSource, err)
}

// unknown spends on a name that nobody has what a wrong password costs, questions included (AUTH-4).
func (a *Authenticator) unknown(ctx context.Context, t *Attempt, d *Denied) error {
	plain := t.Password
	if t.Method == account.MethodKeyboardInteractive && t.Ask != nil {
		var err error
		if plain, err = a.askPassword(ctx, t); err != nil {
			return err
		}
	}
	a.dummy(ctx, t.Username, plain)
	return d
}

// password proves plain for u. Every way to fail costs one hash.
func (a *Authenticator) password(ctx context.Context, u *account.User, plain string, t *Attempt) error {
	if u.Password == "" {
		a.dummy(ctx, u.Username, plain)
		return deny(ReasonNoPassword, nil)
	}
	if a.hooks.checks(u, t.Protocol) {
		verify, accepted, err := a.hooks.checkPassword(ctx, u, plain, t)
		if err != nil {
			a.dummy(ctx, u.Username, plain)
			if d, ok := errors.AsType[*Denied](err); ok {
				return d
			}
			return deny(ReasonSource, err)
		}
		if accepted {
			return nil
		}
		plain = verify
	}
	ok, err := a.check(ctx, u, plain, func() (bool, error) { return a.passwords.Verify(ctx, u.Password, plain) })
	switch {
	case errors.Is(err, ErrBusy):
		return deny(ReasonBusy, err)
	case err != nil && ctx.Err() != nil:
		return deny(ReasonCanceled, err)
	case err != nil:
		a.dummy(ctx, u.Username, plain)
		a.log.Warn("stored password cannot be checked", "user", u.Username, "error", err)
		return deny(ReasonHash, err)
	case !ok:
		if c, is := a.passwords.(cheapness); is && c.Cheap(u.Password) {
			a.dummy(ctx, u.Username, plain)
		}
		return deny(ReasonPassword, nil)
	}
	a.rehash(ctx, u, plain)
	return nil
}

// check remembers what prove finds, with password_caching.
func (a *Authenticator) check(ctx context.Context, u *account.User, plain string, prove func() (bool, error)) (bool, error) {
	if a.verified == nil {
		return prove()
	}
	return a.verified.check(ctx, u, plain, prove)
}

// dummy spends what checking a password costs, on the same way, so that a peer cannot tell by the time why
// it failed (AUTH-4).
func (a *Authenticator) dummy(ctx context.Context, name, plain string) {
	// The attempt is denied whatever comes of it.
	a.check(ctx, &account.User{Username: name}, plain, func() (bool, error) {
		return false, a.passwords.Dummy(ctx, plain)
	})
}

// checkAttempt refuses what no account can have before anything is looked up or hashed: AUTH-6, AUTH-10,
// blank passwords (AUTH-5). It does not depend on which accounts there are.
func checkAttempt(t *Attempt) error {
	if t == nil {
		return deny(ReasonMalformed, nil)
	}
	if err := checkUsername(t.Username); err != nil {
		return deny(ReasonUsername, err)
	}
	switch t.Method {
	case account.MethodPassword, account.MethodKeyboardInteractive:
		if t.Method == account.MethodKeyboardInteractive && t.Ask != nil {
			return nil // the answers are checked as they come
		}
		return checkPassword(t.Password)
	case account.MethodPublicKey:
		if t.Prior != nil {
			return deny(ReasonMethod, errors.New("a key does not follow a key"))
		}
		if len(t.PublicKey) == 0 || len(t.PublicKey) > maxKeyWire {
			return deny(ReasonKey, fmt.Errorf("a key of %d bytes", len(t.PublicKey)))
		}
	case account.MethodTLSCertificate:
		if t.Certificate == nil {
			return deny(ReasonMethod, errNoCert)
		}
	default:
		return deny(ReasonMethod, fmt.Errorf("%q is not available", t.Method))
	}
	return nil
}

// checkPassword bounds what is hashed (AUTH-10) and refuses blank ones (AUTH-5).
func checkPassword(plain string) error {
	if len(plain) > maxPassword {
		return deny(ReasonTooLong, fmt.Errorf("%d bytes, at most %d are taken", len(plain), maxPassword))
	}
	if strings.TrimSpace(plain) == "" {
		return deny(ReasonBlank, nil)
	}
	return nil
}

// checkUsername is the grammar of what a peer may call itself (AUTH-6). A source may know more names than
// the store can keep (DOMAIN\user), so that this is wider than the rules of records.
func checkUsername(name string) error {
	trimmed := strings.TrimSpace(name)
	switch {
	case trimmed == "":
		return errors.New("it is empty")
	case len(name) > 255:
		return errors.New("it is longer than 255 bytes")
	case !utf8.ValidString(name):
		return errors.New("it is not UTF-8")
	case strings.HasPrefix(trimmed, "-") || strings.HasPrefix(trimmed, "."):
		return errors.New("it begins with - or .")
	}
	for _, r := range name {
		if r == '/' || unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) {
			return errors.New("it holds a slash, a control or a format character")
		}
	}
	return nil
}
