package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gantryhq/gantry/cache"
	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/life"
)

// ErrPass is a source's answer to an attempt whose account it does not know: the next one is asked.
var ErrPass = errors.New("no such account")

// Source finds the account that an attempt is for: the store, a hook, a directory.
type Source interface {
	// Find gives the account. ErrPass hands the attempt to the next source; every other error ends the
	// chain with a denial, so that a source that is down lets nobody in by another way.
	Find(ctx context.Context, t *Attempt) (Found, error)
}

// Found is what a source knows. The account may have another name than the attempt; it must be kept in the
// store under that name, for Current reads it there.
type Found struct {
	User *account.User // merged with its groups; not changed any more
	// Proven: the source itself has checked the credential. Else it is checked against the account.
	Proven bool

	compiled *compiled
}

// The bounds of what is remembered of accounts. The TTL is a second line: the store's changes say
// what to forget.
const (
	accountsMax = 64 << 20 // bytes, estimated
	accountTTL  = 5 * time.Minute
	absentMax   = 16384
	absentTTL   = time.Minute
)

// accounts reads users and their groups from the store and remembers them while its changes are followed.
type accounts struct {
	store  Store
	log    *slog.Logger
	now    func() time.Time
	epochs *cache.Epochs
	known  *cache.Memo[string, *compiled] // by the name as typed
	absent *cache.Memo[string, struct{}]  // apart, so that guessed names push no account out
	// heard is set while the changes are followed: only then is anything remembered.
	heard atomic.Bool
}

var _ Source = (*accounts)(nil)

func newAccounts(store Store, log *slog.Logger, now func() time.Time) (*accounts, error) {
	s := &accounts{store: store, log: log, now: now, epochs: cache.NewEpochs()}
	var err error
	if s.known, err = cache.New[string, *compiled](cache.Config{MaxCost: accountsMax, Entries: accountsMax >> 12, TTL: accountTTL, Now: now}); err != nil {
		return nil, err
	}
	if s.absent, err = cache.New[string, struct{}](cache.Config{MaxCost: absentMax, TTL: absentTTL, Now: now}); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *accounts) close() {
	s.known.Close()
	s.absent.Close()
}

// Find implements Source.
func (s *accounts) Find(ctx context.Context, t *Attempt) (Found, error) {
	c, err := s.lookup(ctx, t.Username)
	if err != nil {
		return Found{}, err
	}
	return Found{User: c.user, compiled: c}, nil
}

// holds reports whether c is what the cache would give of its account now.
func (s *accounts) holds(c *compiled) bool {
	return c != nil && c.until > s.now().UnixNano() && s.epochs.At(c.tag) == c.at
}

// lookup gives the account of a name, ErrPass if there is none, else a *Denied.
func (s *accounts) lookup(ctx context.Context, name string) (*compiled, error) {
	// The epoch is taken before the store is read: a change in between makes what is put below a miss.
	at := s.epochs.At(fold(name))
	heard := s.heard.Load()
	if heard {
		if c, ok := s.known.Get(name, at); ok {
			return c, nil
		}
		if _, ok := s.absent.Get(name, at); ok {
			return nil, ErrPass
		}
	}
	ctx, cancel := life.Within(ctx, storeWait)
	defer cancel()
	u, err := s.read(ctx, name)
	if errors.Is(err, ErrPass) {
		if heard {
			s.absent.Put(name, struct{}{}, at, 1)
		}
		return nil, ErrPass
	}
	if err != nil {
		return nil, err
	}
	c := compile(u)
	for _, p := range c.problems {
		s.log.Warn("account record has an unusable entry", "user", u.Username, "error", p)
	}
	if heard {
		c.tag, c.at, c.until = fold(name), at, s.now().Add(accountTTL).UnixNano()
		s.known.Put(name, c, at, c.size())
	}
	return c, nil
}

// read merges the account of name. Groups and folders that change move the epoch of every account.
func (s *accounts) read(ctx context.Context, name string) (*account.User, error) {
	u, err := s.store.User(ctx, name)
	if errors.Is(err, account.ErrNotFound) {
		return nil, ErrPass
	}
	if err == nil {
		err = ctx.Err() // a store that answered too late or without an answer
	}
	if err != nil {
		return nil, deny(ReasonStore, err)
	}
	if u.Username == "" || fold(u.Username) != fold(name) {
		return nil, deny(ReasonStore, fmt.Errorf("the store answered with the account %q", u.Username))
	}
	var groups []account.Group
	for _, m := range u.Groups {
		if m.Type == account.GroupMembership {
			continue
		}
		g, err := s.store.Group(ctx, m.Name)
		if errors.Is(err, account.ErrNotFound) {
			return nil, deny(ReasonAccount, fmt.Errorf("group %q: %w", m.Name, err))
		}
		if err != nil {
			return nil, deny(ReasonStore, err)
		}
		groups = append(groups, g)
	}
	if len(groups) > 0 {
		if u, err = account.Merge(u, groups); err != nil {
			return nil, deny(ReasonAccount, err)
		}
	}
	return &u, nil
}

// fold is the form under which all spellings of one name fall together, whatever the naming rules are.
func fold(name string) string { return strings.ToLower(strings.TrimSpace(name)) }

// size estimates the bytes that c holds.
func (c *compiled) size() int64 {
	n := 4096
	for _, k := range c.user.PublicKeys {
		n += 2*len(k) + 256
	}
	n += 256 * (len(c.user.Permissions) + len(c.user.VirtualFolders)*8 + len(c.user.Filters.FilePatterns))
	n += 48 * (len(c.allowed) + len(c.denied))
	for _, c := range c.user.Filters.TLSCerts {
		n += len(c)
	}
	return int64(n)
}
