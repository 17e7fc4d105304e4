package session

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/vfs"
)

// lockRoot says under which name the files of a mount are known to locks and properties. It outlives
// processes: on a local disk it is the directory's path, so that a folder inside another one is the same file
// by both ways.
type lockRoot struct{ storage, prefix string }

// lockRootOf names a storage for the account that mounts it.
func lockRootOf(f vfs.FS, id, user string) lockRoot {
	if d, ok := vfs.As[vfs.Describer](f); ok {
		if host := d.Describe(rootPath).HostRoot; host != "" {
			return lockRoot{"local", strings.TrimSuffix(host, "/")}
		}
	}
	if strings.HasPrefix(id, "\x00") { // not known outside of its tree
		id = "mount:" + user + ":" + id[1:]
	}
	return lockRoot{storage: id}
}

// lockKey names a file for locks and properties. path is "" for the storage's root, else "/a/b".
type lockKey struct{ storage, path string }

func (pl *place) lockKey() lockKey {
	if pl.Path.IsRoot() {
		return lockKey{pl.root.storage, pl.root.prefix}
	}
	return lockKey{pl.root.storage, pl.root.prefix + pl.Path.String()}
}

func keyOfLock(l *account.Lock) lockKey { return lockKey{l.Storage, l.Path} }

func (k lockKey) resource() account.Resource {
	return account.Resource{Storage: k.storage, Path: k.path}
}

// dir is the directory that holds k, which must not be the root.
func (k lockKey) dir() lockKey {
	return lockKey{k.storage, k.path[:max(0, strings.LastIndexByte(k.path, '/'))]}
}

// within reports whether k is dir or lies below it, by whole names (PATH-3).
func (k lockKey) within(dir lockKey) bool {
	return k.storage == dir.storage && strings.HasPrefix(k.path, dir.path) &&
		(len(k.path) == len(dir.path) || k.path[len(dir.path)] == '/')
}

// virtual is the virtual path of k as seen from pl: above it, it, or below it. What lies above the mount is
// told as the mount's root.
func (pl *place) virtual(k lockKey) vfs.Path {
	own := pl.lockKey()
	if rel, ok := strings.CutPrefix(k.path, own.path); ok {
		p, err := pl.p.Resolve("." + rel)
		if err != nil {
			return pl.p
		}
		return p
	}
	p := pl.p
	for ; own.path != k.path && p != pl.Mount.Path; p = p.Dir() {
		own = own.dir()
	}
	return p
}

// covers reports whether l holds for k: at its root, or below it where it is infinite (RFC 4918 7.4).
func covers(l *account.Lock, k lockKey) bool {
	r := keyOfLock(l)
	return k == r || l.Infinite && k.within(r)
}

// reaches reports whether an operation that was let begin at k may change what l is to keep: k is covered, is a
// member of its root, or lies above, so that a tree is changed.
func reaches(l *account.Lock, k lockKey) bool {
	r := keyOfLock(l)
	return covers(l, k) || r.within(k) || k.path != "" && k.dir() == r
}

// lockTable is every lock, as the store has them: writes are checked here. Without a store it is all there is.
type lockTable struct {
	n     atomic.Int64  // how many there are
	store account.Locks // or nil

	// change lets one change of the store happen at a time, with what it means here. Held over calls of the
	// store, which have a deadline.
	change chan struct{}

	mu      sync.RWMutex // guards the fields below
	byToken map[string]*account.Lock
	at      map[lockKey][]*account.Lock
	users   map[string]int
	pending map[string]bool // being added: not in the store yet
	first   int64           // ms; no lock is over before
}

func (t *lockTable) init(store account.Locks) {
	t.store, t.change = store, make(chan struct{}, 1)
	t.byToken, t.at, t.users, t.pending = map[string]*account.Lock{}, map[lockKey][]*account.Lock{}, map[string]int{}, map[string]bool{}
}

// alone lets f change the store and the table, with a deadline.
func (t *lockTable) alone(ctx context.Context, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	select {
	case t.change <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-t.change }()
	return f(ctx)
}

// quiesceWait is how long a new lock waits for writes that are under way.
const quiesceWait = 20 * time.Second

// add makes l hold, then has quiesce wait for what is under way, and keeps l in the store. After an error it
// does not hold.
func (t *lockTable) add(ctx context.Context, l account.Lock, now time.Time, quiesce func(context.Context) error) error {
	if err := t.insert(&l, now); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, quiesceWait)
	defer cancel()
	err := quiesce(wait)
	if err == nil && t.store != nil {
		err = t.alone(ctx, func(ctx context.Context) error {
			return t.store.AddLock(ctx, l, account.LockLimits{PerUser: maxUserLocks, Total: maxLocks})
		})
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.pending, l.Token)
	if err != nil {
		t.drop(&l)
	}
	return err
}

// insert puts l in the table, unless another stands against it or there are too many.
func (t *lockTable) insert(l *account.Lock, now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.byToken) >= maxLocks || t.users[l.Username] >= maxUserLocks {
		t.expire(now)
	}
	if len(t.byToken) >= maxLocks || t.users[l.Username] >= maxUserLocks {
		return account.ErrLimit
	}
	if other := t.conflict(l, now); other != nil {
		return &account.LockConflict{With: *other}
	}
	t.put(l)
	t.pending[l.Token] = true
	return nil
}

// conflict finds a lock that l cannot stand beside (RFC 4918 6.1): one that covers its root, or, if l is infinite, one
// that begins below.
func (t *lockTable) conflict(l *account.Lock, now time.Time) *account.Lock {
	for _, o := range t.coveringLocked(keyOfLock(l), now) {
		if o.Exclusive || l.Exclusive {
			return o
		}
	}
	if !l.Infinite {
		return nil
	}
	for _, o := range t.byToken {
		if keyOfLock(o).within(keyOfLock(l)) && alive(o, now) && (o.Exclusive || l.Exclusive) {
			return o
		}
	}
	return nil
}

func alive(l *account.Lock, now time.Time) bool { return l.Expires > now.UnixMilli() }

// put and drop change the table. The caller holds mu.
func (t *lockTable) put(l *account.Lock) {
	if old := t.byToken[l.Token]; old != nil {
		t.drop(old)
	}
	k := keyOfLock(l)
	t.byToken[l.Token] = l
	t.first = min(t.first, l.Expires)
	t.at[k] = append(slices.Clip(t.at[k]), l) // readers may hold the old one
	t.users[l.Username]++
	t.n.Store(int64(len(t.byToken)))
}

func (t *lockTable) drop(l *account.Lock) {
	old := t.byToken[l.Token]
	if old == nil {
		return
	}
	k := keyOfLock(old)
	delete(t.byToken, l.Token)
	rest := slices.DeleteFunc(slices.Clone(t.at[k]), func(o *account.Lock) bool { return o.Token == l.Token })
	if t.at[k] = rest; len(rest) == 0 {
		delete(t.at, k)
	}
	if t.users[old.Username]--; t.users[old.Username] <= 0 {
		delete(t.users, old.Username)
	}
	t.n.Store(int64(len(t.byToken)))
}

// expire forgets what is over. The store forgets by itself. The caller holds mu.
func (t *lockTable) expire(now time.Time) {
	if now.UnixMilli() < t.first {
		return // who asks for too many must not have all looked at each time
	}
	t.first = math.MaxInt64
	for _, l := range t.byToken {
		if !alive(l, now) && !t.pending[l.Token] {
			t.drop(l)
		} else {
			t.first = min(t.first, l.Expires)
		}
	}
}

// tidy forgets what is over.
func (t *lockTable) tidy(now time.Time) {
	if t.n.Load() == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire(now)
}

// get finds a lock that holds, or nil.
func (t *lockTable) get(token string, now time.Time) *account.Lock {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if l := t.byToken[token]; l != nil && alive(l, now) {
		return l
	}
	return nil
}

// covering are the locks that hold for k: its own first.
func (t *lockTable) covering(k lockKey, now time.Time) []*account.Lock {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.coveringLocked(k, now)
}

func (t *lockTable) coveringLocked(k lockKey, now time.Time) (out []*account.Lock) {
	for q := k; ; q = q.dir() {
		for _, l := range t.at[q] {
			if (q == k || l.Infinite) && alive(l, now) {
				out = append(out, l)
			}
		}
		if q.path == "" {
			return out
		}
	}
}

// against finds a lock that stands against user's change of k, and of what. A resource may be changed if the
// token of one of its locks was given: there are several only if they are shared (RFC 4918 6.2).
func (t *lockTable) against(k lockKey, touched touch, user string, tokens []string, now time.Time) (at lockKey, by *account.Lock) {
	given := func(l *account.Lock) bool { return l.Username == user && slices.Contains(tokens, l.Token) }
	closed := func(locks []*account.Lock) *account.Lock {
		if len(locks) == 0 || slices.ContainsFunc(locks, given) {
			return nil
		}
		return locks[0]
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if by = closed(t.coveringLocked(k, now)); by != nil {
		return k, by
	}
	if touched&touchMember != 0 && k.path != "" {
		if by = closed(t.coveringLocked(k.dir(), now)); by != nil {
			return k.dir(), by
		}
	}
	if touched&touchTree != 0 {
		for q, locks := range t.at {
			if q != k && q.within(k) && len(locks) > 0 {
				if by = closed(t.coveringLocked(q, now)); by != nil {
					return q, by
				}
			}
		}
	}
	return lockKey{}, nil
}

// refresh gives a lock a new end.
func (t *lockTable) refresh(ctx context.Context, token string, timeout time.Duration, now time.Time) (l *account.Lock, err error) {
	err = t.alone(ctx, func(ctx context.Context) error {
		old := t.get(token, now)
		if old == nil {
			return ErrNoLock
		}
		next := *old
		next.Timeout = timeout.Milliseconds()
		next.Expires = now.UnixMilli() + next.Timeout
		if t.store != nil {
			if err := t.store.RefreshLock(ctx, token, next.Timeout, next.Expires); errors.Is(err, account.ErrNotFound) {
				t.mu.Lock()
				t.drop(old)
				t.mu.Unlock()
				return ErrNoLock
			} else if err != nil {
				return err
			}
		}
		t.mu.Lock()
		t.put(&next)
		t.mu.Unlock()
		l = &next
		return nil
	})
	return l, err
}

// remove gives locks up, in the store first: one that the store still has would come back.
func (t *lockTable) remove(ctx context.Context, tokens ...string) error {
	return t.alone(ctx, func(ctx context.Context) error {
		if t.store != nil {
			if err := t.store.RemoveLocks(ctx, tokens...); err != nil {
				return err
			}
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		for _, token := range tokens {
			if l := t.byToken[token]; l != nil {
				t.drop(l)
			}
		}
		return nil
	})
}

// removeAt gives up the locks that begin at k, and with tree those that begin below.
func (t *lockTable) removeAt(ctx context.Context, k lockKey, tree bool) error {
	t.mu.RLock()
	var tokens []string
	gather := func(locks []*account.Lock) {
		for _, l := range locks {
			if !t.pending[l.Token] { // its maker looks again
				tokens = append(tokens, l.Token)
			}
		}
	}
	gather(t.at[k])
	if tree {
		for q, locks := range t.at {
			if q != k && q.within(k) {
				gather(locks)
			}
		}
	}
	t.mu.RUnlock()
	if len(tokens) == 0 {
		return nil
	}
	return t.remove(ctx, tokens...)
}

// all are the locks that hold.
func (t *lockTable) all(now time.Time) []account.Lock {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var out []account.Lock
	for _, l := range t.byToken {
		if alive(l, now) {
			out = append(out, *l)
		}
	}
	slices.SortFunc(out, func(a, b account.Lock) int { return strings.Compare(a.Token, b.Token) })
	return out
}

// sync makes the table what the store has.
func (t *lockTable) sync(ctx context.Context) error {
	if t.store == nil {
		return nil
	}
	return t.alone(ctx, func(ctx context.Context) error {
		list, err := t.store.ListLocks(ctx)
		if err != nil {
			return fmt.Errorf("read the locks: %w", err)
		}
		have := make(map[string]bool, len(list))
		t.mu.Lock()
		defer t.mu.Unlock()
		for i := range list {
			have[list[i].Token] = true
			if old := t.byToken[list[i].Token]; old == nil || *old != list[i] {
				t.put(&list[i])
			}
		}
		for token, l := range t.byToken {
			if !have[token] && !t.pending[token] {
				t.drop(l)
			}
		}
		return nil
	})
}
