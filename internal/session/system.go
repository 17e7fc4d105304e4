package session

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/auth"
)

// System makes a session for the server's own work on an account's files: with every permission and without patterns,
// whatever the account itself may do, and outside of its sessions. protocol is its name in logs and events. It ends with
// Close, or when ctx does. The counters of the account move as by its own sessions.
func (s *Server) System(ctx context.Context, user, protocol string) (*Session, error) {
	if s.deps.Accounts == nil {
		return nil, fmt.Errorf("session: no Accounts to work for")
	}
	cctx, cancel := context.WithTimeout(ctx, storageWait)
	defer cancel()
	u, err := s.deps.Accounts.User(cctx, user)
	if err != nil {
		return nil, err
	}
	u.Permissions = map[string][]string{"/": {account.PermAny}}
	u.Filters.FilePatterns = nil
	now := s.deps.Now()
	x := &Session{
		srv: s, started: now.UnixNano(), system: true, id: &auth.Identity{User: &u, Method: "system"},
		conn: peer{ID: fmt.Sprintf("%s_%x", protocol, now.UnixNano()), Protocol: protocol, Remote: netip.AddrPortFrom(netip.IPv6Loopback(), 0)},
		// Of its own: what the account's sessions share stays theirs.
		user: &userState{name: u.Username, sessions: map[*Session]struct{}{}, buckets: map[bucketKey]*bucket{}, left: time.Time{}},
	}
	x.last.Store(now.UnixNano())
	v, err := s.newView(cctx, &u)
	if err != nil {
		return nil, fmt.Errorf("files of %q: %w", u.Username, err)
	}
	s.mu.Lock()
	if s.draining || s.sessions[x.conn.ID] != nil {
		s.mu.Unlock()
		v.close()
		return nil, ErrClosed
	}
	v.refs = 1
	s.sessions[x.conn.ID] = x
	s.mu.Unlock()
	x.adopt(v)
	work, stop := context.WithCancelCause(ctx)
	x.conn.Kill = func(reason error) { stop(reason) }
	unhook := context.AfterFunc(work, func() { x.Close() })
	x.mu.Lock()
	x.unhook = unhook // which a context that is over already does not wait for
	x.mu.Unlock()
	return x, nil
}
