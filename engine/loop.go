//go:build (linux || darwin || freebsd) && !stdengine

package engine

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"
)

// loops are gnet's event loops. They never listen: one lack of descriptors at an accept would end gnet.
type loops struct {
	gnet.BuiltinEventEngine
	e      *Engine
	client *gnet.Client
	lifts  atomic.Int64
	n      int

	// parking is held, shared, while gnet is given a connection: it would never say what became of one that its loops
	// were stopped under.
	parking sync.RWMutex
	stopped bool // guarded by parking

	known atomic.Pointer[[]gnet.EventLoop] // that have had a connection; at most n, replaced as a whole
	mu    sync.Mutex                       // held while known is replaced
}

func newLoops(e *Engine, n int) (*loops, error) {
	l := &loops{e: e, n: n}
	c, err := gnet.NewClient(l, gnet.WithNumEventLoop(n), gnet.WithLogger(silent{}))
	if err != nil {
		return nil, err
	}
	l.client = c
	return l, c.Start()
}

func (l *loops) stop() error {
	l.parking.Lock()
	l.stopped = true
	l.parking.Unlock()
	return l.client.Stop()
}

// enroll has a loop take nc, which is closed or on its way to be.
func (l *loops) enroll(nc net.Conn, s *loopSeat) error {
	l.parking.RLock()
	defer l.parking.RUnlock()
	if l.stopped {
		nc.Close()
		return ErrShutdown
	}
	_, err := l.client.EnrollContext(nc, s) // closes nc
	return err
}

// silent is gnet's logger: what goes wrong comes to us as errors.
type silent struct{}

func (silent) Debugf(string, ...any) {}
func (silent) Infof(string, ...any)  {}
func (silent) Warnf(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(string, ...any) {}

// loopSeat is one stay on a loop, and gnet's context of it: gnet tells of the end of a stay when the connection may be
// at the next one already. Guarded by Conn.mu.
type loopSeat struct {
	c      *Conn
	g      gnet.Conn // nil once it is over
	opened bool
	inside bool // a callback of the loop runs
	over   bool // gnet is to close its descriptor
	fd     int  // the one that goes on, or -1
}

// parkable reports whether a loop takes the connection. One with a zone is not for gnet, which puts the memory of the
// zone's name into a pool; nor is a UNIX socket, whose peer without a name gnet trips over. They have a goroutine.
func parkable(nc net.Conn) bool {
	x, ok := nc.(*net.TCPConn)
	return ok && zoneOf(x.LocalAddr()) == "" && zoneOf(x.RemoteAddr()) == ""
}

func zoneOf(a net.Addr) string {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.Zone
	}
	return "?"
}

var errPark = errors.New("engine: the event loop did not take the connection")

// park takes nc over.
func (c *Conn) park(nc net.Conn) {
	if !parkable(nc) { // the peer has reset it: the socket has no address any more
		nc.Close()
		c.mu.Lock()
		c.ends(errPark)
		c.unlock()
		return
	}
	s := &loopSeat{c: c, fd: -1}
	err := c.e.loops.enroll(nc, s)
	c.mu.Lock()
	if err == nil && !s.opened {
		err = errPark
	}
	if err != nil {
		c.ends(err)
	}
	c.unlock()
}

// know remembers a loop. Once all are known it costs a load.
func (l *loops) know(x gnet.EventLoop) {
	if all := l.known.Load(); all != nil && len(*all) == l.n {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []gnet.EventLoop
	if p := l.known.Load(); p != nil {
		all = slices.Clone(*p)
	}
	if !slices.Contains(all, x) {
		all = append(all, x)
		l.known.Store(&all)
	}
}

func (l *loops) lag(ctx context.Context) []time.Duration {
	all := l.known.Load()
	if all == nil {
		return nil
	}
	out := make([]time.Duration, len(*all))
	var done sync.WaitGroup
	for i, x := range *all {
		done.Go(func() {
			begun, came := time.Now(), make(chan struct{})
			err := x.Execute(ctx, gnet.RunnableFunc(func(context.Context) error {
				close(came)
				return nil
			}))
			if err == nil {
				select {
				case <-came:
				case <-ctx.Done():
				}
			}
			out[i] = time.Since(begun)
		})
	}
	done.Wait()
	return out
}

func (l *loops) OnOpen(g gnet.Conn) ([]byte, gnet.Action) {
	l.know(g.EventLoop())
	s := g.Context().(*loopSeat)
	c := s.c
	c.mu.Lock()
	s.opened, s.g, s.inside = true, g, true
	if c.state == closed {
		s.over = true
	} else {
		c.seat, c.state = s, seated
		c.flush()
		switch {
		case c.state == closed:
		case len(c.out) > 0 || c.shutting || c.lift != nil:
			s.leave()
		default:
			c.turn(nil)
		}
	}
	return nil, s.done()
}

// done ends a callback.
func (s *loopSeat) done() gnet.Action {
	s.c.unlock() // with what others have posted
	s.c.mu.Lock()
	s.inside = false
	over := s.over
	s.c.unlock()
	if over {
		return gnet.Close
	}
	return gnet.None
}

func (l *loops) OnTraffic(g gnet.Conn) gnet.Action {
	s := g.Context().(*loopSeat)
	c := s.c
	in, _ := g.Next(-1)
	c.mu.Lock()
	s.inside = true
	switch {
	case !s.over:
		c.turn(in)
	case s.fd >= 0 && c.state != closed: // on the way to a goroutine
		c.rest = append(c.rest, in...)
	}
	return s.done()
}

// OnClose is called before gnet closes its descriptor.
func (l *loops) OnClose(g gnet.Conn, err error) gnet.Action {
	g.Context().(*loopSeat).closed(err)
	return gnet.None
}

func (s *loopSeat) write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		m, err := writeNow(s.g.Fd(), p[n:])
		switch err {
		case nil:
			n += m
		case unix.EINTR:
		case unix.EAGAIN:
			return n, nil
		default:
			return n, os.NewSyscallError("write", err)
		}
	}
	return n, nil
}

func (s *loopSeat) end() {
	if s.over {
		return
	}
	s.over = true
	if !s.inside {
		s.g.Close() // queued
	}
}

func (s *loopSeat) leave() {
	fd, err := s.g.Dup()
	if err != nil {
		s.c.ends(err)
		return
	}
	s.fd = fd
	s.c.seat, s.c.state = nil, moving
	s.c.e.loops.lifts.Add(1)
	s.end()
}

// closed is gnet's word that the stay is over.
func (s *loopSeat) closed(err error) {
	c := s.c
	c.mu.Lock()
	s.g, s.over = nil, true
	fd := s.fd
	s.fd = -1
	switch {
	case fd >= 0:
		c.e.pool.Go(func() { c.goOn(fd) })
	case c.seat == seat(s):
		c.seat = nil
		c.peerEnded(err)
	}
	c.unlock()
}

// goOn takes the connection from a loop.
func (c *Conn) goOn(fd int) {
	f := os.NewFile(uintptr(fd), "")
	nc, err := net.FileConn(f)
	f.Close()
	if err != nil {
		c.mu.Lock()
		c.ends(err)
		c.unlock()
		return
	}
	(&aside{c: c, nc: nc, wake: make(chan struct{}, 1)}).run()
}
