// Package auth proves credentials: it turns an attempt into an account, through an ordered chain of
// sources, and passes every account through the one Admit check.
package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/gantryhq/gantry/cache"
	"github.com/gantryhq/gantry/internal/account"
	"golang.org/x/crypto/ssh"
)

// Source finds the account of an attempt. account.ErrNotFound passes to the next source; any other error
// denies. It may answer an account of another name.
type Source interface {
	Lookup(ctx context.Context, t *Attempt) (account.User, error)
}

// Store is what the authenticator reads and writes of the account store.
type Store interface {
	User(ctx context.Context, name string) (account.User, error)
	Group(ctx context.Context, name string) (account.Group, error)
	SetLastLogin(ctx context.Context, user string, ms int64) error
	ChangesSince(ctx context.Context, after int64, limit int) ([]account.Change, int64, error)
}

// Config is the authenticator's settings.
type Config struct {
	Caching   bool // data_provider.password_caching
	LocalTime bool // common.tz: access times are in local time, else UTC
}

// The bounds of the memos, and how often changes of other processes are looked for.
const (
	memoUsers    = 10_000
	memoTTL      = 10 * time.Minute
	followEvery  = time.Second
	storeWait    = 5 * time.Second
	lastLoginGap = 10 * time.Minute
)

// Authenticator proves credentials. Safe for concurrent use.
type Authenticator struct {
	cfg     Config
	store   Store
	sources []Source
	hash    *Hasher
	log     *slog.Logger
	now     func() time.Time

	epoch    cache.Epoch
	users    *cache.Memo[*known]
	verified *cache.Memo[verdict]
	key      []byte // of the memo's password hashes

	stop context.CancelFunc
	done sync.WaitGroup

	mu        sync.Mutex // guards the fields below
	listeners []func()
	logins    map[string]time.Time // when last_login was written
}

// known is a user merged with its groups, and its keys in wire form.
type known struct {
	user account.User
	keys [][]byte
}

// verdict is a password that was proven against a stored hash.
type verdict struct {
	stored string
	mac    [sha256.Size]byte
}

// New makes an authenticator whose first source is the store. more are asked after it, in order. Close
// ends what it starts.
func New(cfg Config, store Store, hash *Hasher, log *slog.Logger, now func() time.Time, more ...Source) (*Authenticator, error) {
	if now == nil {
		now = time.Now
	}
	a := &Authenticator{cfg: cfg, store: store, hash: hash, log: log, now: now, key: make([]byte, 32), logins: map[string]time.Time{}}
	rand.Read(a.key)
	a.sources = append([]Source{storeSource{a}}, more...)
	var err error
	if a.users, err = cache.New[*known](memoUsers, memoTTL, &a.epoch); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	if a.verified, err = cache.New[verdict](memoUsers, memoTTL, &a.epoch); err != nil {
		a.users.Close()
		return nil, fmt.Errorf("auth: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background()) // ends with Close
	a.stop = stop
	a.done.Go(func() { a.follow(ctx) })
	return a, nil
}

// Close stops the authenticator.
func (a *Authenticator) Close() {
	a.stop()
	a.done.Wait()
	a.users.Close()
	a.verified.Close()
}

// OnChange asks for a call, from a goroutine of the authenticator, after accounts changed.
func (a *Authenticator) OnChange(f func()) {
	a.mu.Lock()
	a.listeners = append(a.listeners, f)
	a.mu.Unlock()
}

// Invalidate forgets everything that was read of the store.
func (a *Authenticator) Invalidate() {
	a.epoch.Bump()
	a.mu.Lock()
	fs := a.listeners
	a.mu.Unlock()
	for _, f := range fs {
		f()
	}
}

// follow looks for changes, by this process or another one on the same store, until ctx ends. A look that
// fails drops every memo: better slow than old.
func (a *Authenticator) follow(ctx context.Context) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	last := int64(-1)
	for {
		c, cancel := context.WithTimeout(ctx, storeWait)
		_, newest, err := a.store.ChangesSince(c, max(last, 0), 1)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			a.epoch.Bump()
		case newest != last && last >= 0:
			a.Invalidate()
		}
		if err == nil {
			last = newest
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// storeSource is the chain's first source.
type storeSource struct{ a *Authenticator }

func (s storeSource) Lookup(ctx context.Context, t *Attempt) (account.User, error) {
	k, err := s.a.known(ctx, t.Username)
	if err != nil {
		return account.User{}, err
	}
	return k.user, nil
}

// known reads an account of the store, from the memo where it may.
func (a *Authenticator) known(ctx context.Context, name string) (*known, error) {
	if k, ok := a.users.Get(name); ok {
		return k, nil
	}
	epoch := a.epoch.Now()
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	u, err := a.store.User(ctx, name)
	if err != nil {
		return nil, err
	}
	k, err := a.merge(ctx, u)
	if err != nil {
		return nil, err
	}
	a.users.Set(name, k, epoch)
	return k, nil
}

func (a *Authenticator) merge(ctx context.Context, u account.User) (*known, error) {
	var groups []account.Group
	for _, m := range u.Groups {
		if m.Type == account.GroupMembership {
			continue
		}
		g, err := a.store.Group(ctx, m.Name)
		if err != nil {
			return nil, fmt.Errorf("group %q: %v", m.Name, err) // never "not found": the account is there
		}
		groups = append(groups, g)
	}
	m, err := account.Merge(u, groups)
	if err != nil {
		return nil, fmt.Errorf("groups of %q: %v", u.Username, err)
	}
	k := &known{user: m}
	var bad []error
	if k.keys, bad = storedKeys(m.PublicKeys); len(bad) > 0 {
		a.log.Warn("public keys passed over", "username", m.Username, "error", errors.Join(bad...).Error())
	}
	return k, nil
}

// lookup asks the chain.
func (a *Authenticator) lookup(ctx context.Context, t *Attempt) (*known, error) {
	if !nameOK(t.Username) {
		return nil, account.ErrNotFound
	}
	if k, err := a.known(ctx, t.Username); err == nil || !errors.Is(err, account.ErrNotFound) {
		return k, err
	}
	for _, s := range a.sources[1:] {
		u, err := s.Lookup(ctx, t)
		if errors.Is(err, account.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return a.merge(ctx, u)
	}
	return nil, account.ErrNotFound
}

// nameOK is the grammar of a name before any store sees it (AUTH-6).
func nameOK(name string) bool {
	return name != "" && len(name) <= 255 && !strings.ContainsAny(name, "/\\") &&
		strings.IndexFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f }) < 0
}

// Authenticate proves a credential through the ordered chain of sources and Admit. Any doubt is a denial
// (AUTH-5). The error is a *Denied.
func (a *Authenticator) Authenticate(ctx context.Context, t *Attempt) (*Identity, error) {
	k, err := a.lookup(ctx, t)
	switch {
	case errors.Is(err, account.ErrNotFound):
		if t.Method != account.MethodPublicKey {
			a.hash.Dummy(ctx, t.Password) // AUTH-4
		}
		return nil, &Denied{Reason: "unknown user", Unknown: true}
	case err != nil:
		return nil, &Denied{Reason: "account cannot be read", Err: err}
	}
	id := &Identity{User: &k.user, Method: t.Method}
	switch t.Method {
	case account.MethodPassword, account.MethodKeyboardInteractive:
		if err := a.password(ctx, k, t.Password); err != nil {
			return nil, err
		}
	case account.MethodPublicKey:
		key, err := parseKey(t.PublicKey)
		if err != nil {
			return nil, &Denied{Reason: "public key refused", Err: err}
		}
		if !holdsKey(k.keys, t.PublicKey) {
			return nil, &Denied{Reason: "public key not known"}
		}
		id.KeyFingerprint = ssh.FingerprintSHA256(key)
	default:
		return nil, &Denied{Reason: "login method " + t.Method + " not supported"}
	}
	if err := Admit(&k.user, t, a.time()); err != nil {
		return nil, err
	}
	return id, nil
}

func (a *Authenticator) time() time.Time {
	if a.cfg.LocalTime {
		return a.now().Local()
	}
	return a.now().UTC()
}

func (a *Authenticator) password(ctx context.Context, k *known, plain string) error {
	if strings.TrimSpace(plain) == "" || k.user.Password == "" { // AUTH-5
		a.hash.Dummy(ctx, plain)
		return &Denied{Reason: "empty password"}
	}
	m := hmac.New(sha256.New, a.key)
	fmt.Fprintf(m, "%d:%s%s", len(k.user.Username), k.user.Username, plain)
	v := verdict{stored: k.user.Password, mac: [sha256.Size]byte(m.Sum(nil))}
	if a.cfg.Caching {
		if old, ok := a.verified.Get(k.user.Username); ok && old.stored == v.stored && hmac.Equal(old.mac[:], v.mac[:]) {
			return nil
		}
	}
	epoch := a.epoch.Now()
	switch err := a.hash.Verify(ctx, k.user.Password, plain); {
	case errors.Is(err, errMismatch):
		return &Denied{Reason: "wrong password"}
	case err != nil:
		return &Denied{Reason: "password cannot be checked", Err: err}
	}
	if a.cfg.Caching {
		a.verified.Set(k.user.Username, v, epoch)
	}
	return nil
}

// Current re-reads the account of id (from the cache where it may) and passes it through Admit again: for a
// session that opens later than its login, and for the periodic check of live sessions.
func (a *Authenticator) Current(ctx context.Context, id *Identity, t *Attempt) (*Identity, error) {
	k, err := a.known(ctx, id.User.Username)
	switch {
	case errors.Is(err, account.ErrNotFound):
		return nil, &Denied{Reason: "unknown user", Unknown: true}
	case err != nil:
		return nil, &Denied{Reason: "account cannot be read", Err: err}
	}
	if err := Admit(&k.user, t, a.time()); err != nil {
		return nil, err
	}
	return &Identity{User: &k.user, Method: id.Method, KeyFingerprint: id.KeyFingerprint}, nil
}

// LoggedIn notes that an account logged in; last_login is written at most once in ten minutes. It waits on
// the store and belongs off the login's path.
func (a *Authenticator) LoggedIn(ctx context.Context, name string) error {
	now := a.now()
	a.mu.Lock()
	if now.Sub(a.logins[name]) < lastLoginGap {
		a.mu.Unlock()
		return nil
	}
	if len(a.logins) > memoUsers {
		clear(a.logins)
	}
	a.logins[name] = now
	a.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	return a.store.SetLastLogin(ctx, name, now.UnixMilli())
}
