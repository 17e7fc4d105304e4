package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/bytebufferpool"
)

// Options of an Engine. The zero value is usable.
type Options struct {
	Loops      int // event loops; 0 is one for two processors
	Short      int // functions of the engine's own lane at once; 0 is 64 for each processor
	Handshakes int // TLS handshakes at once; 0 is 4096
	Log        *slog.Logger
}

// Engine runs connections. Safe for concurrent use.
type Engine struct {
	loops      *loops
	pool       pool
	short      *Lane
	lanes      lanes
	wheel      wheel
	log        *slog.Logger
	handshakes atomic.Int64
	most       int64

	mu      sync.Mutex // guards servers
	servers []*Server
}

// New starts an engine.
func New(o Options) (*Engine, error) {
	procs := runtime.GOMAXPROCS(0)
	if o.Loops == 0 {
		// A loop waits in the kernel on a thread of its own, whose processor the runtime must take away and give back
		// each time: with one loop for two processors it does so half as often, and more comes at once.
		o.Loops = max(1, procs/2)
	}
	if o.Short == 0 {
		o.Short = 64 * procs
	}
	if o.Handshakes == 0 {
		o.Handshakes = 4096
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{log: o.Log, most: int64(o.Handshakes)}
	e.pool.keep = 16 * procs
	e.short = &Lane{pool: &e.pool, limit: o.Short}
	e.lanes.m = map[string]*Lane{}
	var err error
	if e.loops, err = newLoops(e, o.Loops); err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	e.wheel.start()
	return e, nil
}

// Go runs f on a goroutine that is kept for others after it. It is for what one connection has one of.
func (e *Engine) Go(f func()) { e.pool.Go(f) }

// Close ends the engine. Its servers must have been shut down.
func (e *Engine) Close() error {
	e.wheel.stop()
	err := e.loops.stop()
	e.pool.close()
	return err
}

func (e *Engine) enterHandshake() bool {
	if e.handshakes.Add(1) > e.most {
		e.handshakes.Add(-1)
		return false
	}
	return true
}

func (e *Engine) leaveHandshake() { e.handshakes.Add(-1) }

// Gate decides who may connect, before anything is read. Admit may wait; release is called when the connection has
// ended.
type Gate interface {
	Admit(ctx context.Context, addr netip.Addr) (release func(), err error)
}

// Server is what serves the connections of one protocol. Safe for concurrent use.
type Server struct {
	e    *Engine
	gate Gate
	log  *slog.Logger

	ctx  context.Context // ends when the server is closed for good
	stop context.CancelCauseFunc
	last atomic.Pointer[netip.AddrPort] // that a connection was made to; nil before the first

	mu        sync.Mutex // guards what follows
	listeners map[net.Listener]struct{}
	conns     map[*Conn]struct{}
	draining  bool
	running   sync.WaitGroup // one for each connection
}

// NewServer makes a server. gate may be nil: everybody is let in.
func (e *Engine) NewServer(gate Gate, log *slog.Logger) *Server {
	s := &Server{e: e, gate: gate, log: log, listeners: map[net.Listener]struct{}{}, conns: map[*Conn]struct{}{}}
	// Connections are meant to outlive the call that accepted them: Shutdown ends them.
	s.ctx, s.stop = context.WithCancelCause(context.Background())
	e.mu.Lock()
	e.servers = append(e.servers, s)
	e.mu.Unlock()
	return s
}

// Engine is the engine that the server runs on.
func (s *Server) Engine() *Engine { return s.e }

// Serve accepts connections until ctx or Shutdown ends it, and closes l; the error is nil after either. handler makes
// the handler of each, on the accept loop: it must not block, nor call the Server.
func (s *Server) Serve(ctx context.Context, l net.Listener, handler func(*Conn) Handler) error {
	s.mu.Lock()
	if s.draining {
		s.mu.Unlock()
		l.Close()
		return nil
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	defer func() {
		l.Close()
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
	}()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	delay := 5 * time.Millisecond
	for {
		nc, err := l.Accept()
		if err == nil {
			delay = 5 * time.Millisecond
			s.came(nc, handler)
			continue
		}
		if ctx.Err() != nil || s.isDraining() {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("accept on %s: %w", l.Addr(), err)
		}
		s.log.Warn("accept failed", "addr", l.Addr().String(), "err", err)
		select {
		case <-time.After(delay):
		case <-ctx.Done():
		}
		delay = min(2*delay, time.Second)
	}
}

func (s *Server) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// came takes a new connection over.
func (s *Server) came(nc net.Conn, handler func(*Conn) Handler) {
	c := &Conn{e: s.e, srv: s, state: moving, remote: addrPort(nc.RemoteAddr()), local: s.localOf(nc)}
	if r, ok := nc.(*replayed); ok {
		c.rest, nc = r.head, r.Conn
	}
	if p, ok := nc.(*Proxied); ok {
		c.proxy, nc = &proxy{addr: addrPort(p.Proxy()).Addr()}, p.Conn
	}
	c.parks = parkable(nc)
	if c.proxy != nil {
		c.proxy.bound = nc.LocalAddr()
	}
	s.mu.Lock()
	if s.draining {
		s.mu.Unlock()
		nc.Close()
		return
	}
	c.h = handler(c) // here, so that each one that is made sees its Closed
	s.conns[c] = struct{}{}
	s.running.Add(1)
	s.mu.Unlock()
	c.mu.Lock()
	c.settle(c.enter())
	c.unlock()
	if c.parks {
		c.park(nc)
		return
	}
	s.e.pool.Go((&aside{c: c, nc: nc, wake: make(chan struct{}, 1)}).run)
}

// localOf is the address that nc was made to, in one place for those that have the same.
func (s *Server) localOf(nc net.Conn) *netip.AddrPort {
	a := addrPort(nc.LocalAddr())
	last := s.last.Load()
	if last == nil || *last != a {
		at := a
		last = &at
		s.last.Store(last)
	}
	return last
}

// enter asks the gate and opens the connection.
func (c *Conn) enter() Verdict {
	if c.srv.gate == nil {
		return c.call(func() Verdict { return c.h.Open(c) })
	}
	return Work(nil, func(*bytebufferpool.ByteBuffer) Verdict {
		var err error
		c.during(func(ctx context.Context) {
			c.release, err = c.srv.gate.Admit(ctx, c.remote.Addr()) // read when this is over
		})
		c.Post(func() Verdict {
			if err != nil {
				c.h.Refused(c, err)
				return Close()
			}
			return c.h.Open(c)
		})
		return Keep()
	})
}

// left forgets a connection that has ended.
func (s *Server) left(c *Conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.running.Done()
}

// Len is the number of connections.
func (s *Server) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Shutdown stops accepting and drains the connections. Those that are left when ctx ends are cut. It returns when every
// connection has ended; the error is ctx's if some had to be cut.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	first := !s.draining
	s.draining = true
	for l := range s.listeners {
		l.Close()
	}
	all := make([]*Conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		if first {
			c.Post(func() Verdict { return c.h.Drain(c) })
		}
	}
	done := make(chan struct{})
	go func() { s.running.Wait(); close(done) }() // ends once everything is cut below
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.stop(ErrShutdown)
	for _, c := range all {
		c.Kill(ErrShutdown)
	}
	<-done
	return err
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	p := t.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}
