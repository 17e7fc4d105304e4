package session

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gantryhq/gantry/internal/auth"
	"github.com/gantryhq/gantry/internal/event"
	"github.com/gantryhq/gantry/vfs"
)

// Conn is what a protocol knows of a peer's connection. Fixed once made.
type Conn struct {
	ID       string // unique, "SFTP_<hex>_<n>" for a channel (reference protocols.md 1)
	Protocol string // SFTP, SCP, SSH, FTP, DAV, HTTP: the name in logs and events
	Remote   netip.AddrPort
	Local    netip.AddrPort
	Client   string // the peer's software, bounded by us
	// Closes: the protocol calls Close at the connection's end in any case, so that the context of Open need not be
	// watched for it, which costs an idle session half a KiB.
	Closes bool
	// Kill ends the peer's connection; called at most once, from any goroutine, when an administrator, a
	// changed account or the idle check ends the session.
	Kill func(reason error)
}

// peer is what a session keeps of a Conn.
type peer struct {
	ID       string
	Protocol string
	Remote   netip.AddrPort
	Client   string
	Kill     func(reason error)
	local    *netip.AddrPort // most sessions have the same
}

func (s *Server) peerOf(c Conn) peer {
	local := s.local.Load()
	if local == nil || *local != c.Local {
		at := c.Local // not all of c
		local = &at
		s.local.Store(local)
	}
	return peer{ID: c.ID, Protocol: c.Protocol, Remote: c.Remote, Client: c.Client, Kill: c.Kill, local: local}
}

// rootPath is "/".
var rootPath = vfs.Root

// Session is one login's view of its tree. Safe for concurrent use.
type Session struct {
	srv     *Server // immutable, as all up to started
	user    *userState
	conn    peer
	secure  bool        // the login was made over TLS
	system  bool        // the server's own: not an account's login
	told    atomic.Bool // of an event: the next one keeps texts
	started int64       // ns

	id    *auth.Identity // the login's; immutable
	share *Share         // immutable; nil for the account itself

	cur     atomic.Pointer[view]  // nil while the login opens the account's storages
	changed atomic.Bool           // the account did meanwhile
	texts   atomic.Pointer[texts] // nil before the second event
	last    atomic.Int64          // ns, the last sign of life
	busy    atomic.Int32          // operations under way
	counted atomic.Bool           // among the sessions of all nodes
	over    atomic.Bool           // the session has ended; set under mu
	once    sync.Once             // the kill
	fin     sync.Once             // the end

	views []*view // guarded by Server.mu; each holds one reference

	mu      sync.Mutex // guards the fields below
	closed  bool
	ended   chan struct{}           // closed when over; nil until somebody asks
	unhook  func() bool             // from the context that the session ends with
	handles *Handle                 // the last one opened, of a list; nil without
	trees   map[*LocalTree]struct{} // given to programs
}

func (x *Session) v() *view { return x.cur.Load() }

// adopt makes v, with its reference, what the session sees. Older views stay open for what is under way.
func (x *Session) adopt(v *view) {
	x.srv.mu.Lock()
	x.views = append(x.views, v)
	shown := x.confine(v)
	x.srv.mu.Unlock()
	x.cur.Store(shown)
}

// StartDir is where relative paths begin.
func (x *Session) StartDir() vfs.Path {
	p, err := vfs.ParseConfigPath(x.v().user.Filters.StartDirectory)
	if err != nil {
		return rootPath
	}
	return p
}

// Username is the account's name.
func (x *Session) Username() string { return x.id.User.Username }

// ID is the connection's id.
func (x *Session) ID() string { return x.conn.ID }

// Touch notes activity for the idle check; operations and transfers do it by themselves.
func (x *Session) Touch() { x.last.Store(x.srv.deps.Now().UnixNano()) }

// Done is closed when the session is over.
func (x *Session) Done() <-chan struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ended == nil {
		x.ended = make(chan struct{})
		if x.over.Load() {
			close(x.ended)
		}
	}
	return x.ended
}

// Close aborts what is still open as the peer's loss of the connection does, and leaves the registry.
func (x *Session) Close() error {
	return x.finish(errors.New("connection lost"))
}

// finish ends the session because of cause. The handles have abortWait to go.
func (x *Session) finish(cause error) error {
	var err error
	x.fin.Do(func() {
		x.mu.Lock()
		x.closed = true
		var open []*Handle
		for h := x.handles; h != nil; h = h.next {
			open = append(open, h)
		}
		unhook := x.unhook
		x.mu.Unlock()
		if unhook != nil {
			unhook()
		}
		// The peer's context has ended with its connection; what it leaves must be put right all the same.
		ctx, cancel := context.WithTimeout(context.Background(), abortWait)
		defer cancel()
		var gone sync.WaitGroup
		errs := make([]error, len(open))
		for i, h := range open {
			gone.Go(func() { errs[i] = h.Abort(ctx, cause) })
		}
		gone.Wait()
		err = errors.Join(errs...)
		x.srv.unregister(x)
		x.mu.Lock()
		x.over.Store(true)
		if x.ended != nil {
			close(x.ended)
		}
		x.mu.Unlock()
		if left := x.srv.deps.Left; left != nil {
			left(Left{x.Username(), x.conn.Remote.Addr().Unmap(), x.conn.Protocol, time.Duration(x.srv.deps.Now().UnixNano() - x.started)})
		}
	})
	return err
}

// kill stops what moves and has the protocol end the connection, which closes the session.
func (x *Session) kill(reason error) {
	x.once.Do(func() {
		x.mu.Lock()
		for h := x.handles; h != nil; h = h.next {
			h.x.halt(reason)
		}
		for t := range x.trees {
			t.halt(reason)
		}
		x.mu.Unlock()
		if x.conn.Kill != nil {
			x.conn.Kill(reason)
		}
	})
}

// end kills the session and sees it out, whatever the protocol does.
func (x *Session) end(reason error) {
	x.kill(reason)
	x.finish(reason)
}

func (x *Session) info() Info {
	u := x.id.User
	if v := x.v(); v != nil {
		u = v.user
	}
	i := Info{
		Username: x.Username(), Role: u.Role, ID: x.conn.ID, Client: x.conn.Client, Protocol: x.conn.Protocol, Remote: x.conn.Remote.String(),
		Started: time.Unix(0, x.started), LastActivity: time.Unix(0, x.last.Load()),
	}
	now := x.srv.deps.Now()
	x.mu.Lock()
	defer x.mu.Unlock()
	for h := x.handles; h != nil; h = h.next {
		i.Transfers = append(i.Transfers, h.info(now))
	}
	for t := range x.trees {
		i.Transfers = append(i.Transfers, t.info(now))
	}
	return i
}

// begin opens an operation: the session must live. The view stays the same to its end.
func (x *Session) begin() (*view, error) {
	if x.over.Load() {
		return nil, ErrClosed
	}
	x.busy.Add(1)
	x.Touch()
	return x.v(), nil
}

func (x *Session) done() {
	x.busy.Add(-1)
	x.Touch()
}

// place is one path of an operation: the virtual one, and where it is.
type place struct {
	p vfs.Path
	vfs.Resolved
	charge *charge
	id     string   // the storage's identity
	root   lockRoot // the storage, as locks and properties know it
}

func (v *view) place(p vfs.Path) place {
	r := v.tree.Resolve(p)
	return place{p: p, Resolved: r, charge: &v.charges[r.Index+1], id: v.tree.IdentityAt(r.Index), root: v.roots[r.Index+1]}
}

// fixed reports whether p is part of the mount table or the root: it cannot be made, removed or renamed.
func (pl *place) fixed() bool {
	return pl.p.IsRoot() || pl.IsMount || pl.LeadsToMount || pl.Path.IsRoot()
}

// describe tells what the storage is.
func (pl *place) describe() vfs.Description {
	if d, ok := vfs.As[vfs.Describer](pl.FS); ok {
		return d.Describe(pl.Path)
	}
	return vfs.Description{Provider: -1, StoragePath: pl.Path.String()}
}

// may asks for one of any in the directory that holds p.
func (v *view) may(op string, p vfs.Path, any rights) error {
	if v.perms.at(p.Dir()).has(any) {
		return nil
	}
	return refuse(op, p)
}

// seen asks the patterns about reading or changing what stands at p.
func (v *view) seen(op string, p vfs.Path) error {
	switch v.patterns.judge(p) {
	case hidden:
		return pathError(op, p, fs.ErrNotExist)
	case denied:
		return refuse(op, p)
	}
	return nil
}

// namable asks the patterns about making p.
func (v *view) namable(op string, p vfs.Path) error {
	if v.patterns.judge(p) != allowed {
		return refuse(op, p)
	}
	return nil
}

func refuse(op string, p vfs.Path) error { return pathError(op, p, fs.ErrPermission) }

// pathError names a virtual path. An error that already names a storage's path is told apart from it.
func pathError(op string, p vfs.Path, err error) error {
	return &fs.PathError{Op: op, Path: p.String(), Err: err}
}

// unwrapped takes a storage's path off its error, so that a peer reads virtual ones only.
func unwrapped(err error) error {
	switch e := err.(type) { // only the outermost: what is wrapped around it says more
	case *fs.PathError:
		return e.Err
	case *os.LinkError:
		return e.Err
	case *os.SyscallError:
		return e.Err
	}
	return err
}

// fail is a storage's error as an operation returns it.
func fail(op string, p vfs.Path, err error) error {
	if err == nil {
		return nil
	}
	return pathError(op, p, unwrapped(err))
}

// event makes the record of an operation on pl.
func (x *Session) event(action string, pl *place) *event.Event {
	return x.eventOf(action, pl, pl.describe())
}

// eventOf is event where the storage has been asked what it is.
func (x *Session) eventOf(action string, pl *place, d vfs.Description) *event.Event {
	e := new(event.Event)
	x.fill(e, action, pl, d)
	return e
}

// fill makes e, which is empty, that event.
func (x *Session) fill(e *event.Event, action string, pl *place, d vfs.Description) {
	t := x.texts.Load()
	if t == nil {
		t = new(texts)
		if !x.system {
			t.ip, t.remote, t.local = x.conn.Remote.Addr().Unmap().String(), x.conn.Remote.String(), x.conn.local.String()
		}
		if x.told.Swap(true) { // an idle session of one transfer keeps none
			x.texts.Store(t)
		}
	}
	e.Action, e.Username, e.Role = action, x.Username(), x.v().user.Role
	e.Path, e.VirtualPath = d.StoragePath, pl.p.String()
	e.Provider, e.Bucket, e.Endpoint = d.Provider, d.Bucket, d.Endpoint
	e.Status, e.Protocol, e.IP = event.OK, x.conn.Protocol, t.ip
	e.LocalAddr, e.RemoteAddr, e.SessionID = t.local, t.remote, x.conn.ID
	e.Time = x.srv.deps.Now()
}

// texts are the addresses of a session as its events have them.
type texts struct{ ip, remote, local string }

// events keeps those of what happens often.
var events = sync.Pool{New: func() any { return new(event.Event) }}

// report gives the sinks the record of what was done.
func (x *Session) report(ctx context.Context, e *event.Event) {
	e.Elapsed = x.srv.deps.Now().Sub(e.Time)
	x.srv.after(ctx, e)
}
