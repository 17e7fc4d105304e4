package session

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/auth"
	"github.com/gantryhq/gantry/internal/life"
)

// userState is what the sessions of one account share. It outlives the last of them by userLinger, so that
// the next login finds its tree open and its directories made.
type userState struct {
	name  string
	build sync.Mutex // one compilation at a time

	// Guarded by Server.mu.
	sessions  map[*Session]struct{}
	view      *view // holds one reference; nil until the first login
	left      time.Time
	lastLogin time.Time

	mu      sync.Mutex // guards buckets
	buckets map[bucketKey]*bucket
}

// userLinger is how long an unchanged account's directories are not looked at again.
const userLinger = 10 * time.Minute

// register puts x in the registry, max_sessions checked in the same step.
func (s *Server) register(x *Session, max int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return ErrClosed
	}
	if s.sessions[x.conn.ID] != nil || x.conn.ID == "" {
		return fmt.Errorf("connection id %q is not unique", x.conn.ID)
	}
	st := s.users[x.Username()]
	if st == nil {
		st = &userState{name: x.Username(), sessions: map[*Session]struct{}{}, buckets: map[bucketKey]*bucket{}}
		s.users[x.Username()] = st
	}
	if max > 0 && len(st.sessions) >= max {
		return fmt.Errorf("%w: %q may have %d", ErrTooManySessions, x.Username(), max)
	}
	x.user = st
	st.sessions[x] = struct{}{}
	s.sessions[x.conn.ID] = x
	return nil
}

// unregister takes x out and gives up what it held.
func (s *Server) unregister(x *Session) {
	s.mu.Lock()
	delete(s.sessions, x.conn.ID)
	delete(x.user.sessions, x)
	if len(x.user.sessions) == 0 {
		x.user.left = s.deps.Now()
	}
	var unused []*view
	for _, v := range x.views {
		if v.refs--; v.refs == 0 {
			unused = append(unused, v)
		}
	}
	x.views = nil
	s.mu.Unlock()
	for _, v := range unused {
		v.close()
	}
	if s.cluster != nil {
		s.cluster.leave(x)
	}
}

// viewFor is the current view of u with a reference for the caller. It compiles and opens storages only if
// the account changed, or if the home has gone since.
func (s *Server) viewFor(ctx context.Context, st *userState, u *account.User) (*view, error) {
	st.build.Lock()
	defer st.build.Unlock()
	s.mu.Lock()
	v := st.view
	if v != nil {
		v.refs++
	}
	s.mu.Unlock()
	if v != nil && v.of(u) && v.homeStands(ctx) {
		return v, nil
	}
	fresh, err := s.newView(ctx, u)
	s.mu.Lock()
	var unused []*view
	drop := func(v *view) {
		if v == nil {
			return
		}
		if v.refs--; v.refs == 0 {
			unused = append(unused, v)
		}
	}
	drop(v)
	if err == nil {
		drop(st.view)
		st.view = fresh
		fresh.refs = 2 // the state's and the caller's
	}
	s.mu.Unlock()
	for _, v := range unused {
		v.close()
	}
	return fresh, err
}

// homeStands reports whether the home's storage is still the one that was opened.
func (v *view) homeStands(ctx context.Context) bool {
	if v.user.Filters.DisableFsChecks || v.user.Filesystem.Provider != account.LocalProvider {
		return true
	}
	r := v.tree.Resolve(rootPath)
	i, err := r.FS.Lstat(ctx, r.Path)
	return err == nil && (i.Nlink > 0 || i.Ino == 0)
}

// forgetUsers drops the states of users who left long ago.
func (s *Server) forgetUsers(context.Context) {
	old := s.deps.Now().Add(-userLinger)
	var unused []*userState
	s.mu.Lock()
	for name, st := range s.users {
		if len(st.sessions) == 0 && st.left.Before(old) {
			delete(s.users, name)
			unused = append(unused, st)
		}
	}
	s.mu.Unlock()
	for _, st := range unused {
		s.mu.Lock()
		v := st.view
		if v != nil {
			if v.refs--; v.refs > 0 {
				v = nil
			}
		}
		s.mu.Unlock()
		if v != nil {
			v.close()
		}
	}
}

// close frees a state that is out of the table and has no sessions.
func (st *userState) close() {
	if st.view != nil {
		st.view.close()
	}
}

// noteLogin has the time of the login written, at most every ten minutes for one user.
func (st *userState) noteLogin(s *Server) {
	now := s.deps.Now()
	s.mu.Lock()
	due := now.Sub(st.lastLogin) >= userLinger
	if due {
		st.lastLogin = now
	}
	s.mu.Unlock()
	if due {
		s.ledger.noteLogin(st.name, now.UnixMilli())
	}
}

// Sessions lists the live sessions.
func (s *Server) Sessions() []Info {
	list := s.live("")
	out := make([]Info, 0, len(list))
	for _, x := range list {
		out = append(out, x.info())
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Started.Before(out[j].Started) })
	return out
}

// live copies the registry, or what is one user's of it.
func (s *Server) live(name string) []*Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*Session
	if name == "" {
		for _, x := range s.sessions {
			list = append(list, x)
		}
	} else if st := s.users[name]; st != nil {
		for x := range st.sessions {
			list = append(list, x)
		}
	}
	return list
}

// Kill ends the session with that id and reports whether it was there.
func (s *Server) Kill(id string, reason error) bool {
	s.mu.Lock()
	x := s.sessions[id]
	s.mu.Unlock()
	if x == nil {
		return false
	}
	x.kill(reason)
	return true
}

// KillUser ends all sessions of an account and says how many there were.
func (s *Server) KillUser(name string, reason error) int {
	list := s.live(name)
	if name == "" {
		return 0
	}
	for _, x := range list {
		x.kill(reason)
	}
	return len(list)
}

// endIdle ends the sessions that did nothing for idle_timeout. An operation under way is never idle.
func (s *Server) endIdle() {
	if s.idle <= 0 {
		return
	}
	old := s.deps.Now().Add(-s.idle).UnixNano()
	for _, x := range s.live("") {
		if x.last.Load() < old && x.busy.Load() == 0 {
			x.kill(ErrIdle)
		}
	}
}

// Recheck passes live sessions through Admit again: all, or those of the named accounts. It is called by
// itself every few minutes, and by cmd when accounts change. A session whose account may no longer be in
// ends; one whose account changed goes on by the new rules. A store that does not answer changes nothing.
func (s *Server) Recheck(ctx context.Context, names ...string) {
	var list []*Session
	if len(names) == 0 {
		list = s.live("")
	}
	for _, n := range names {
		if n != "" {
			list = append(list, s.live(n)...)
		}
	}
	for _, x := range list {
		if ctx.Err() != nil {
			return
		}
		if x.system {
			continue
		}
		if err := x.recheck(ctx); err != nil {
			s.log.Warn("session ended", "user", x.Username(), "connection_id", x.conn.ID, "error", err)
			x.kill(err)
		}
	}
}

func (x *Session) recheck(ctx context.Context) error {
	// Open looks at changed after it has set cur: one of the two sees the other.
	if x.changed.Store(true); x.v() == nil {
		return nil
	}
	ctx, cancel := life.Within(ctx, storageWait)
	defer cancel()
	protocol := loginProtocol(x.conn.Protocol)
	if x.share != nil {
		protocol = account.ProtocolHTTP
	}
	id, err := x.srv.deps.Auth.Current(ctx, x.id, auth.Way{Protocol: protocol, Remote: x.conn.Remote.Addr(), Secure: x.secure})
	if err != nil {
		if d, ok := errors.AsType[*auth.Denied](err); ok && !storeFailed(d) {
			return err
		}
		x.srv.log.Warn("account could not be checked", "user", x.Username(), "error", err)
		return nil
	}
	if id == nil || id.User == nil || id.User.Username != x.Username() {
		return errors.New("no identity")
	}
	if c := x.srv.cluster; c != nil && id.User.MaxSessions > 0 && !x.counted.Load() { // the limit is newer than the session
		if err := c.enter(ctx, x, 0); err != nil {
			x.srv.log.Warn("a session is not counted on the other nodes", "user", x.Username(), "error", err)
		}
	}
	if x.v().of(id.User) {
		return nil
	}
	v, err := x.srv.viewFor(ctx, x.user, id.User)
	if err != nil {
		return err // the new rules cannot be kept, the old ones may not
	}
	x.adopt(v)
	return nil
}

// storeFailed reports whether a denial only says that nobody could be asked.
func storeFailed(d *auth.Denied) bool {
	return d.Reason == "store failed" || d.Reason == "account cannot be read"
}
