package session

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/vfs"
)

// Errors of locks. Test with errors.Is.
var (
	// ErrLocked: a lock stands against what was asked, and its token was not given. It comes in a *LockedError.
	ErrLocked = errors.New("locked")
	// ErrNoLock: there is no such lock at that path (any more).
	ErrNoLock = errors.New("no such lock")
	// ErrTooManyLocks: the account, or all together, hold as many as may be. It is a vfs.ErrQuota.
	ErrTooManyLocks = fmt.Errorf("too many locks: %w", vfs.ErrQuota)
)

// LockedError is an ErrLocked that says what is locked, and where that lock begins.
type LockedError struct{ Path, Root vfs.Path }

func (e *LockedError) Error() string { return e.Path.String() + ": locked" }

// Unwrap makes every LockedError an ErrLocked.
func (e *LockedError) Unwrap() error { return ErrLocked }

// Lock is a write lock (RFC 4918 6), as its session sees it.
type Lock struct {
	Token string // "urn:uuid:…"
	// Root is where the lock begins; the mount's root, if it begins above what the session sees.
	Root                vfs.Path
	Exclusive, Infinite bool
	Owner               string // the XML inside DAV:owner
	Timeout             time.Duration
	Expires             time.Time
	Username            string // only this user's sessions may use the token
}

// LockRequest says which lock is asked for.
type LockRequest struct {
	Exclusive, Infinite bool
	Owner               string        // XML, at most MaxLockOwner bytes
	Timeout             time.Duration // 0 for the server's own; at most MaxLockTimeout is granted
}

// Bounds of locks (DAV-3).
const (
	MaxLockOwner   = 1024 // bytes
	MaxLockTimeout = time.Hour
	lockTimeout    = 10 * time.Minute // where none is asked for
	maxUserLocks   = 1000
	maxLocks       = 20_000
)

// WithLockTokens gives the operations that get the context the tokens of locks: what these cover may be
// changed, if the session's user took them. An upload remembers those that it was opened with.
func WithLockTokens(ctx context.Context, tokens []string) context.Context {
	if len(tokens) == 0 {
		return ctx
	}
	return context.WithValue(ctx, tokensKey{}, append(slices.Clone(tokens), tokensOf(ctx)...))
}

type tokensKey struct{}

func tokensOf(ctx context.Context) []string {
	t, _ := ctx.Value(tokensKey{}).([]string)
	return t
}

// Lock locks p for the session's user, who must hold a right to change something there. If nothing stands at p it becomes
// an empty file, as if uploaded; created says so. An *LockedError names the lock that stands against it. An
// upload in place that is under way is ErrBusy.
//
// When Lock returns, no write that began before goes on below the lock without its token: it waits for them. Writes
// on other nodes see it within a second.
func (x *Session) Lock(ctx context.Context, p vfs.Path, r LockRequest) (l Lock, created bool, err error) {
	v, err := x.begin()
	if err != nil {
		return Lock{}, false, pathError("lock", p, err)
	}
	defer x.done()
	pl := v.place(p)
	if err := x.lockable(ctx, v, &pl, r); err != nil {
		return Lock{}, false, fail("lock", p, err)
	}
	now := x.srv.deps.Now()
	a := account.Lock{
		Token: newToken(), Storage: pl.root.storage, Path: pl.lockKey().path,
		Exclusive: r.Exclusive, Infinite: r.Infinite, Owner: r.Owner, Username: x.Username(),
		Timeout: granted(r.Timeout).Milliseconds(),
	}
	a.Expires = now.UnixMilli() + a.Timeout
	if err := x.srv.locks.add(ctx, a, now, func(ctx context.Context) error { return x.quiesce(ctx, &pl, &a) }); err != nil {
		return Lock{}, false, x.lockFailed(v, &pl, err)
	}
	// What stood there may have gone, or come, while the lock was made.
	_, err = pl.FS.Lstat(ctx, pl.Path)
	exists := pl.IsMount || pl.LeadsToMount || !errors.Is(err, fs.ErrNotExist)
	if !exists {
		if err := x.fillLocked(WithLockTokens(ctx, []string{a.Token}), p); err != nil {
			x.srv.locks.remove(context.WithoutCancel(ctx), a.Token)
			return Lock{}, false, err
		}
	}
	return v.lock(&pl, &a), !exists, nil
}

// lockable asks everything about a lock at pl but other locks.
func (x *Session) lockable(ctx context.Context, v *view, pl *place, r LockRequest) error {
	if len(r.Owner) > MaxLockOwner {
		return fmt.Errorf("%w: the lock's owner is longer than %d bytes", fs.ErrInvalid, MaxLockOwner)
	}
	if err := v.seen("lock", pl.p); err != nil {
		return err
	}
	held := v.perms.at(pl.p.Dir())
	i, err := pl.FS.Lstat(ctx, pl.Path)
	virtual := pl.IsMount || pl.LeadsToMount
	switch {
	case virtual, err == nil:
	case errors.Is(err, fs.ErrNotExist):
		return nil // the upload asks the rest
	default:
		return err
	}
	if virtual || i.IsDir() {
		held |= v.perms.at(pl.p)
	}
	// Whoever may change nothing must not keep others from it.
	if !held.has(allRights &^ (mayList | mayDownload)) {
		return fs.ErrPermission
	}
	return nil
}

// fillLocked makes the empty file that a lock on nothing is (RFC 4918 7.3).
func (x *Session) fillLocked(ctx context.Context, p vfs.Path) error {
	h, err := x.OpenFile(ctx, p, Flags{Write: true, Create: true, Exclusive: true, Truncate: true, Whole: true})
	if err != nil {
		return err
	}
	return h.Close(ctx)
}

func granted(ask time.Duration) time.Duration {
	if ask <= 0 {
		return lockTimeout
	}
	return min(max(ask.Truncate(time.Millisecond), time.Second), MaxLockTimeout)
}

// newToken makes the name of a lock (CRY-1).
func newToken() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // RFC 9562: version 4
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// lockFailed tells why a lock was not given in the session's own paths.
func (x *Session) lockFailed(v *view, pl *place, err error) error {
	if c, ok := errors.AsType[*account.LockConflict](err); ok {
		at := keyOfLock(&c.With)
		e := &LockedError{Path: pl.p, Root: pl.virtual(at)}
		if at.within(pl.lockKey()) {
			e.Path = e.Root
		}
		return e
	}
	if errors.Is(err, account.ErrLimit) {
		err = ErrTooManyLocks
	}
	return fail("lock", pl.p, err)
}

// quiesce waits for the writes below a new lock that began before they could see it.
func (x *Session) quiesce(ctx context.Context, pl *place, l *account.Lock) error {
	if err := x.srv.names.drain(ctx, func(k lockKey) bool { return reaches(l, k) }); err != nil {
		return err
	}
	if x.srv.pendings.inPlace(func(h *Handle) bool { w := h.at(); return covers(l, w.lockKey()) }) || x.srv.programs(l) {
		return fmt.Errorf("%w and cannot be locked now", ErrBusy)
	}
	return nil
}

// programs reports whether a program of the system writes where l is to hold.
func (s *Server) programs(l *account.Lock) bool {
	s.mu.Lock()
	sessions := make([]*Session, 0, len(s.sessions))
	for _, x := range s.sessions {
		sessions = append(sessions, x)
	}
	s.mu.Unlock()
	for _, x := range sessions {
		x.mu.Lock()
		for t := range x.trees {
			if k := t.pl.lockKey(); t.use.Write && (covers(l, k) || keyOfLock(l).within(k)) {
				x.mu.Unlock()
				return true
			}
		}
		x.mu.Unlock()
	}
	return false
}

// RefreshLock gives the lock of token, which must cover p, a new end: the granted time from now. Only the
// user who took it may; others get fs.ErrPermission.
func (x *Session) RefreshLock(ctx context.Context, p vfs.Path, token string, timeout time.Duration) (Lock, error) {
	v, pl, l, err := x.ownLock(p, token)
	if err != nil {
		return Lock{}, pathError("lock", p, err)
	}
	defer x.done()
	if l, err = x.srv.locks.refresh(ctx, l.Token, granted(timeout), x.srv.deps.Now()); err != nil {
		return Lock{}, fail("lock", p, err)
	}
	return v.lock(pl, l), nil
}

// Unlock gives up the lock of token, which must cover p. Only the user who took it may; an administrator has
// Server.BreakLock.
func (x *Session) Unlock(ctx context.Context, p vfs.Path, token string) error {
	_, _, l, err := x.ownLock(p, token)
	if err != nil {
		return pathError("unlock", p, err)
	}
	defer x.done()
	return fail("unlock", p, x.srv.locks.remove(ctx, l.Token))
}

// ownLock finds a lock at p of the session's user. Without an error the caller calls x.done.
func (x *Session) ownLock(p vfs.Path, token string) (*view, *place, *account.Lock, error) {
	v, err := x.begin()
	if err != nil {
		return nil, nil, nil, err
	}
	pl := v.place(p)
	l := x.srv.locks.get(token, x.srv.deps.Now())
	switch {
	case l == nil || !covers(l, pl.lockKey()):
		err = ErrNoLock
	case l.Username != x.Username():
		err = fs.ErrPermission
	}
	if err != nil {
		x.done()
		return nil, nil, nil, err
	}
	return v, &pl, l, nil
}

// AnyLocks reports whether there are locks at all, of anybody: without, a listing need not ask for each entry.
func (x *Session) AnyLocks() bool { return x.srv.locks.n.Load() > 0 }

// Locks are those that cover p: its own, and the infinite ones that begin above. Whoever may list there sees them.
func (x *Session) Locks(ctx context.Context, p vfs.Path) ([]Lock, error) {
	if x.srv.locks.n.Load() == 0 {
		return nil, nil
	}
	v, err := x.begin()
	if err != nil {
		return nil, pathError("locks", p, err)
	}
	defer x.done()
	if err := v.may("locks", p, mayList); err != nil {
		return nil, err
	}
	pl := v.place(p)
	var out []Lock
	for _, l := range x.srv.locks.covering(pl.lockKey(), x.srv.deps.Now()) {
		out = append(out, v.lock(&pl, l))
	}
	return out, nil
}

// lock is l as a session sees it that asked about pl, which it covers.
func (v *view) lock(pl *place, l *account.Lock) Lock {
	return Lock{
		Token: l.Token, Root: pl.virtual(keyOfLock(l)), Exclusive: l.Exclusive, Infinite: l.Infinite, Owner: l.Owner,
		Timeout: time.Duration(l.Timeout) * time.Millisecond, Expires: time.UnixMilli(l.Expires), Username: l.Username,
	}
}

// AllLocks are the locks that hold now, for administrators. Root is the path in the storage.
func (s *Server) AllLocks() []account.Lock { return s.locks.all(s.deps.Now()) }

// BreakLock takes a lock away from whoever holds it, for administrators. ErrNoLock says that there is none.
func (s *Server) BreakLock(ctx context.Context, token string) error {
	if s.locks.get(token, s.deps.Now()) == nil {
		return ErrNoLock
	}
	return s.locks.remove(ctx, token)
}

// SyncLocks reads the locks from the store, where other nodes keep theirs too.
func (s *Server) SyncLocks(ctx context.Context) error { return s.locks.sync(ctx) }

// What an operation does to a name, for unlocked.
type touch uint8

const (
	touchSelf   touch = 0         // content, attributes or properties
	touchMember touch = 1 << iota // its directory gains or loses it
	touchTree                     // and all that is below
)

// unlocked asks the locks about a change of pl: of the name itself, of its directory's members, of all below. h, which may
// be nil, is the upload that changes it. Without any lock it costs one load.
func (x *Session) unlocked(ctx context.Context, h *Handle, pl *place, t touch) error {
	if x.srv.locks.n.Load() == 0 {
		return nil
	}
	tokens := tokensOf(ctx)
	if h != nil && len(h.tokens) > 0 {
		tokens = append(slices.Clone(tokens), h.tokens...)
	}
	key := pl.lockKey()
	at, by := x.srv.locks.against(key, t, x.Username(), tokens, x.srv.deps.Now())
	if by == nil {
		return nil
	}
	return &LockedError{Path: pl.virtual(at), Root: pl.virtual(keyOfLock(by))}
}
