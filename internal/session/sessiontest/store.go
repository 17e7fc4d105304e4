package sessiontest

import (
	"context"
	"sync"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/auth"
)

// Store is accounts, counters and an authenticator in memory.
type Store struct {
	mu      sync.Mutex
	users   map[string]*account.User // shared once given out: replaced, never changed
	folders map[string]account.Folder
	usage   map[account.CounterKey]account.Usage
	dirty   map[account.CounterKey]bool
	logins  map[string]int64
	fault   func(call string) error
	denied  map[string]error
}

var _ account.Counters = (*Store)(nil)

// NewStore makes an empty store.
func NewStore() *Store {
	return &Store{
		users: map[string]*account.User{}, folders: map[string]account.Folder{},
		usage: map[account.CounterKey]account.Usage{}, dirty: map[account.CounterKey]bool{}, logins: map[string]int64{},
		denied: map[string]error{},
	}
}

// PutUser adds or replaces a user, and its folders.
func (s *Store) PutUser(u account.User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u.Version++
	if old := s.users[u.Username]; old != nil {
		u.Version = old.Version + 1
	}
	s.users[u.Username] = &u
	for _, f := range u.VirtualFolders {
		s.folders[f.Name] = f.Folder
	}
}

// Fault has every call fail with what f answers; "usage", "settle", "mark", "clear", "dirty", "set", "login", "auth".
func (s *Store) Fault(f func(call string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// Deny has logins and checks of a user fail with err; nil takes it back.
func (s *Store) Deny(name string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied[name] = err
}

func (s *Store) begin(call string) error {
	s.mu.Lock()
	f := s.fault
	s.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(call)
}

// Authenticate takes a user's plain password, or any key.
func (s *Store) Authenticate(ctx context.Context, t *auth.Attempt) (*auth.Identity, error) {
	id, err := s.identity(t.Username, t.Method)
	if err == nil && t.Method == account.MethodTLSCertificate {
		switch {
		case id.User.Filters.TLSUsername != "CommonName":
			return nil, &auth.Denied{Reason: auth.ReasonMethod}
		case t.Certificate == nil || t.Certificate.Subject.CommonName != t.Username:
			return nil, &auth.Denied{Reason: auth.ReasonKey}
		}
	}
	if err == nil && t.Method == account.MethodPassword && t.Password != id.User.Password {
		return nil, &auth.Denied{Reason: "wrong password"}
	}
	return id, err
}

// Current finds the user again.
func (s *Store) Current(ctx context.Context, id *auth.Identity, w auth.Way) (*auth.Identity, error) {
	return s.identity(id.User.Username, id.Method)
}

// Remembered is Current: everything is in memory.
func (s *Store) Remembered(id *auth.Identity, w auth.Way) (now *auth.Identity, ok bool, err error) {
	now, err = s.identity(id.User.Username, id.Method)
	return now, true, err
}

// Vouch implements session.Voucher.
func (s *Store) Vouch(ctx context.Context, v auth.Vouched, t *auth.Attempt) (*auth.Identity, error) {
	return s.identity(v.Username, v.Method)
}

func (s *Store) identity(name, method string) (*auth.Identity, error) {
	if err := s.begin("auth"); err != nil {
		return nil, &auth.Denied{Reason: "store failed", Err: err}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.denied[name]; err != nil {
		return nil, &auth.Denied{Reason: "denied", Err: err}
	}
	u := s.users[name]
	if u == nil {
		return nil, &auth.Denied{Reason: "unknown user", Unknown: true}
	}
	return &auth.Identity{User: u, Method: method}, nil
}

// User implements session.Accounts.
func (s *Store) User(_ context.Context, name string) (account.User, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.users[name]; u != nil {
		return *u, nil
	}
	return account.User{}, account.ErrNotFound
}

// Folder implements session.Accounts.
func (s *Store) Folder(_ context.Context, name string) (account.Folder, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.folders[name]; ok {
		return f, nil
	}
	return account.Folder{}, account.ErrNotFound
}

// Usage implements account.Counters.
func (s *Store) Usage(_ context.Context, key account.CounterKey) (account.Usage, error) {
	if err := s.begin("usage"); err != nil {
		return account.Usage{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.usage[key], nil
}

// Settle implements account.Counters.
func (s *Store) Settle(_ context.Context, deltas []account.Delta) error {
	if err := s.begin("settle"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range deltas {
		u := s.usage[d.Key]
		u.Files = max(0, u.Files+d.Files)
		u.Bytes = max(0, u.Bytes+d.Bytes)
		u.Uploaded = max(0, u.Uploaded+d.Uploaded)
		u.Downloaded = max(0, u.Downloaded+d.Downloaded)
		s.usage[d.Key] = u
	}
	return nil
}

// SetUsage implements account.Counters.
func (s *Store) SetUsage(_ context.Context, key account.CounterKey, files int, bytes int64) error {
	if err := s.begin("set"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.usage[key]
	u.Files, u.Bytes = files, bytes
	s.usage[key] = u
	return nil
}

// SetLastLogin implements account.Counters.
func (s *Store) SetLastLogin(_ context.Context, user string, ms int64) error {
	if err := s.begin("login"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logins[user] = ms
	return nil
}

// MarkDirty implements account.Counters.
func (s *Store) MarkDirty(_ context.Context, _ string, keys []account.CounterKey) error {
	if err := s.begin("mark"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range keys {
		s.dirty[k] = true
	}
	return nil
}

// ClearDirty implements account.Counters.
func (s *Store) ClearDirty(_ context.Context, _ string, keys []account.CounterKey) error {
	if err := s.begin("clear"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range keys {
		delete(s.dirty, k)
	}
	return nil
}

// Dirty implements account.Counters.
func (s *Store) Dirty(context.Context, string) ([]account.CounterKey, error) {
	if err := s.begin("dirty"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []account.CounterKey
	for k := range s.dirty {
		keys = append(keys, k)
	}
	return keys, nil
}

// LastLogin is the last time, in ms, that was written for a user.
func (s *Store) LastLogin(user string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logins[user]
}
