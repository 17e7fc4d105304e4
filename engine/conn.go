package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/bytebufferpool"
)

// Bounds of a connection, in bytes.
const (
	maxInput  = 64 << 10  // that the handler has not taken; past it nothing is read
	maxOutput = 512 << 10 // that the peer has not taken; past it the connection is cut
)

// writeWait is how long a peer may take nothing of what waits for it.
const writeWait = 30 * time.Second

// Errors that end a connection.
var (
	ErrSlow      = errors.New("engine: the peer does not read")
	ErrInput     = errors.New("engine: too much input")
	ErrPipelined = errors.New("engine: bytes in clear behind the start of TLS")
	ErrShutdown  = errors.New("engine: the server is shutting down")
	errPanic     = errors.New("engine: internal error")
)

// Handler is a protocol's side of one connection. No two of its methods run at once, and none while Work or a lifted
// function of the connection runs. Only Closed may block.
type Handler interface {
	// Open is called once, when the gate has let the connection in.
	Open(c *Conn) Verdict
	// Data offers what came and was not taken: in is valid during the call. n says how much of it is taken.
	Data(c *Conn, in []byte) (n int, v Verdict)
	// Expired is called when the time of SetDeadline has passed.
	Expired(c *Conn) Verdict
	// Drain is called once when the server wants to end: Close when idle, or Keep and Close when the work is done.
	Drain(c *Conn) Verdict
	// Refused is called instead of Open, to say so with Write.
	Refused(c *Conn, err error)
	// Closed is called once after everything else, on a goroutine of its own. err is nil when we closed.
	Closed(c *Conn, err error)
}

// Ender is a Handler that wants to know of the end of its connection at once, while its Work or its lifted function runs
// still. Ended is called once, before Closed; it must not block, nor call the connection.
type Ender interface{ Ended(err error) }

// Verdict says what becomes of a connection after a callback. The zero value keeps it as it is.
type Verdict struct {
	kind verdict
	lane *Lane
	work func(out *bytebufferpool.ByteBuffer) Verdict
	lift func(l *Lifted) Verdict
	conf *tls.Config
	then func(err error) Verdict
	call func() Verdict

	resume bool
}

type verdict uint8

const (
	keep verdict = iota
	closing
	working
	lifting
	holding
	securing
	calling
)

// Keep leaves the connection as it is.
func Keep() Verdict { return Verdict{} }

// Close ends the connection when everything written has gone out.
func Close() Verdict { return Verdict{kind: closing} }

// Work runs f on a goroutine of lane; nil is the engine's own, for short local work. What f puts into out is written
// to the connection, then its verdict is followed.
func Work(lane *Lane, f func(out *bytebufferpool.ByteBuffer) Verdict) Verdict {
	return Verdict{kind: working, lane: lane, work: f}
}

// Lift gives f the connection on a goroutine of its own. With Keep it is parked again.
func Lift(f func(l *Lifted) Verdict) Verdict { return Verdict{kind: lifting, lift: f} }

// Hold stops Data until a verdict is Resume.
func Hold() Verdict { return Verdict{kind: holding} }

// Resume ends a Hold.
func Resume() Verdict { return Verdict{resume: true} }

// Resumed is v after the end of a Hold.
func (v Verdict) Resumed() Verdict {
	v.resume = true
	return v
}

// StartTLS has the connection wait for a TLS handshake, as server, and calls then with its outcome: with an error the
// connection ends after it. Bytes that have come already end the connection: in clear they could be anybody's.
func StartTLS(conf *tls.Config, then func(err error) Verdict) Verdict {
	return Verdict{kind: securing, conf: conf, then: then}
}

// seat is where a connection is parked. Its methods are called under Conn.mu.
type seat interface {
	// write gives the socket what it takes at once.
	write(p []byte) (int, error)
	// leave has the connection go over to a goroutine, which looks at what there is to do.
	leave()
	// end closes the socket.
	end()
}

type state uint8

const (
	seated state = iota
	moving       // between two seats
	lifted
	closed
)

// Conn is one connection. Its methods are for the callbacks of its Handler unless they say otherwise.
type Conn struct {
	e      *Engine // these are immutable
	srv    *Server
	h      Handler
	remote netip.AddrPort
	local  *netip.AddrPort // most have the same
	proxy  *proxy          // nil without

	mu       sync.Mutex // guards what follows
	seat     seat       // nil while moving or lifted
	state    state
	busy     bool // Work runs
	held     bool
	shutting bool // ends when out is empty
	draining bool // out is being written elsewhere
	parks    bool // on a loop; immutable
	rest     []byte
	out      []byte // not taken by the socket
	lift     func(*Lifted) Verdict
	lane     *Lane    // of the Work that runs
	loan     *loan    // to the function of Work; nil without
	raw      net.Conn // while lifted
	secure   *secured // nil: in clear
	start    *start   // of TLS, which waits for a byte
	err      error    // why it ended
	later    []func() Verdict
	release  func()

	deadline atomic.Int64 // UnixNano; 0 none
	timer    timer        // guarded by wheel.mu

	pmu   sync.Mutex // guards what follows
	posts []func()
	life  *life // nil until somebody asks
	gone  error // of the end
}

// proxy is what a connection came through.
type proxy struct {
	addr  netip.Addr
	bound net.Addr // the socket's own address
}

// Remote is the client's address, behind a proxy that of its header. Safe for any goroutine, as the next three.
func (c *Conn) Remote() netip.AddrPort { return c.remote }

// Local is the address that the client connected to.
func (c *Conn) Local() netip.AddrPort { return *c.local }

// Bound is the address of the socket itself, which behind a proxy is not the one that the client knows.
func (c *Conn) Bound() net.Addr {
	if c.proxy == nil {
		return net.TCPAddrFromAddrPort(*c.local)
	}
	return c.proxy.bound
}

// Proxy is the address of the proxy that the connection came through, or invalid.
func (c *Conn) Proxy() netip.Addr {
	if c.proxy == nil {
		return netip.Addr{}
	}
	return c.proxy.addr
}

// Context ends with the connection. Safe for any goroutine.
func (c *Conn) Context() context.Context {
	c.pmu.Lock()
	defer c.pmu.Unlock()
	l := c.lives()
	l.brief = false
	return l.ctx
}

// lives is called under pmu.
func (c *Conn) lives() *life {
	if c.life == nil {
		// The server's end ends it; it is made when it is first asked for, because most idle connections need none.
		l := &life{}
		l.ctx, l.cancel = context.WithCancelCause(c.srv.ctx)
		if c.gone != nil {
			l.cancel(c.gone)
		}
		c.life = l
	}
	return c.life
}

// life is the context of a connection.
type life struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	brief  bool // the engine's own, until what it does is done
}

// during runs f with the connection's context, which is given up behind it if nobody else has asked for it: an idle
// connection's costs a quarter of a KiB. One f runs at a time.
func (c *Conn) during(f func(ctx context.Context)) {
	c.pmu.Lock()
	first := c.life == nil
	l := c.lives()
	l.brief = first
	c.pmu.Unlock()
	defer func() {
		c.pmu.Lock()
		defer c.pmu.Unlock()
		if l.brief {
			l.cancel(nil)
			c.life = nil
		}
	}()
	f(l.ctx)
}

// TLS is the state of the connection's TLS, or nil in clear. For callbacks and lifted functions.
func (c *Conn) TLS() *tls.ConnectionState {
	if c.secure == nil {
		return nil
	}
	s := c.secure.ConnectionState()
	return &s
}

// SetDeadline has Expired called at t, give or take tick; the zero time takes it back. Safe for any goroutine.
func (c *Conn) SetDeadline(t time.Time) {
	if t.IsZero() {
		c.deadline.Store(0)
		return
	}
	c.deadline.Store(t.UnixNano())
	c.e.wheel.arm(c, t)
}

// Write sends p, or keeps what the socket does not take at once, up to maxOutput. It does not block. Nothing is offered
// to Data while output waits: a handler with much to say returns between its answers. Errors end the connection by
// themselves and are given for information.
func (c *Conn) Write(p []byte) (int, error) {
	if c.state == closed {
		return 0, net.ErrClosed
	}
	if c.secure != nil {
		return c.secure.Write(p)
	}
	return c.write(p)
}

// write sends raw bytes.
func (c *Conn) write(p []byte) (int, error) {
	if c.state == closed {
		return 0, net.ErrClosed
	}
	n := 0
	if c.seat != nil && len(c.out) == 0 && !c.draining {
		var err error
		if n, err = c.seat.write(p); err != nil {
			c.ends(err)
			return n, err
		}
	}
	if n < len(p) {
		if len(c.out)+len(p)-n > maxOutput {
			c.ends(ErrSlow)
			return n, ErrSlow
		}
		c.out = append(c.out, p[n:]...)
		c.getUp()
	}
	return len(p), nil
}

// flush gives the socket what has waited.
func (c *Conn) flush() {
	if len(c.out) == 0 || c.draining || c.seat == nil {
		return
	}
	n, err := c.seat.write(c.out)
	if err != nil {
		c.ends(err)
		return
	}
	if c.out = c.out[n:]; len(c.out) == 0 {
		c.out = nil
	}
}

// getUp has a goroutine look at what there is to do.
func (c *Conn) getUp() {
	if c.seat != nil {
		c.seat.leave()
	}
}

// Post runs f in the connection's turn: at once on the caller's goroutine if nothing else runs, else after it. It
// does not block, and f is dropped when the connection has ended. Safe for any goroutine.
func (c *Conn) Post(f func() Verdict) {
	c.do(func() {
		switch {
		case c.state == closed:
		case c.busy || c.state == lifted:
			c.later = append(c.later, f)
		default:
			c.settle(c.call(f))
			c.turn(nil)
			c.stir()
		}
	})
}

// stir wakes a goroutine that waits until the connection may be read from.
func (c *Conn) stir() {
	if a, ok := c.seat.(*aside); ok {
		a.poke()
	}
}

// Kill ends the connection at once, whatever it is at. Safe for any goroutine.
func (c *Conn) Kill(err error) {
	c.do(func() { c.ends(err) })
}

// do runs f under mu, now or when whoever holds mu leaves it.
func (c *Conn) do(f func()) {
	c.pmu.Lock()
	c.posts = append(c.posts, f)
	c.pmu.Unlock()
	if c.mu.TryLock() {
		c.unlock()
	}
}

// unlock runs what was posted meanwhile, and unlocks mu.
func (c *Conn) unlock() {
	for {
		c.pmu.Lock()
		posts := c.posts
		c.posts = nil
		if len(posts) == 0 {
			c.mu.Unlock() // under pmu: whoever posts from now on can lock it
			c.pmu.Unlock()
			return
		}
		c.pmu.Unlock()
		for _, f := range posts {
			f()
		}
	}
}

// call runs a callback. A panic ends the connection.
func (c *Conn) call(f func() Verdict) (v Verdict) {
	defer func() {
		if r := recover(); r != nil {
			c.panicked(r)
			v = Close()
		}
	}()
	return f()
}

func (c *Conn) panicked(r any) {
	c.e.log.Error("panic", "remote", c.remote.String(), "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
	if c.err == nil {
		c.err = errPanic
	}
}

// waiting is how many bytes have come and were not taken.
func (c *Conn) waiting() int {
	n := len(c.rest)
	if c.secure != nil {
		n += len(c.secure.plain)
	}
	return n
}

// free reports whether the handler may have data.
func (c *Conn) free() bool {
	return c.state == seated && c.seat != nil && !c.busy && !c.held && !c.shutting && !c.draining && c.lift == nil && len(c.out) == 0
}

// turn gives the handler what has waited and what has just come.
func (c *Conn) turn(in []byte) {
	for len(c.later) > 0 && !c.busy && c.state != lifted && c.state != closed {
		f := c.later[0]
		if c.later = c.later[1:]; len(c.later) == 0 {
			c.later = nil
		}
		c.settle(c.call(f))
	}
	if c.state == closed {
		return
	}
	switch {
	case c.start != nil:
		c.rest = append(c.rest, in...)
		if len(c.rest) > 0 && c.free() {
			c.handshake()
		}
	case c.secure != nil:
		c.turnTLS(in)
	default:
		c.rest = c.offer(c.rest, in)
	}
	if c.waiting() > maxInput && c.state == seated {
		if c.free() { // the handler wants more and more
			c.ends(ErrInput)
			return
		}
		c.getUp() // where nothing is read
	}
}

// offer gives the handler held and in, as far as it takes them, and returns the rest in memory of its own.
func (c *Conn) offer(held, in []byte) []byte {
	all := in
	if len(held) > 0 {
		all = append(held, in...)
	}
	left := all
	for len(left) > 0 && c.free() {
		n := 0
		v := c.call(func() (v Verdict) {
			n, v = c.h.Data(c, left)
			return v
		})
		left = left[n:]
		if v.kind == securing && len(left) > 0 {
			c.ends(ErrPipelined)
			return nil
		}
		c.settle(v)
		if n == 0 {
			break
		}
	}
	if len(left) == 0 || c.state == closed {
		return nil
	}
	if len(held) > 0 {
		return left // ours already; not moved to the front, which for many small commands would cost more than they do
	}
	return append([]byte(nil), left...)
}

// settle follows a verdict.
func (c *Conn) settle(v Verdict) {
	if c.state == closed {
		return
	}
	if v.resume {
		c.held = false
	}
	switch v.kind {
	case closing:
		c.shut()
	case holding:
		c.held = true
	case working:
		c.busy = true
		lane := v.lane
		if lane == nil {
			lane = c.e.short
		}
		c.lane = lane
		f := v.work // the rest of the verdict is not kept
		lane.enter(func() bool { return c.work(f) })
	case lifting:
		c.lift = v.lift
		c.getUp()
	case securing:
		c.start = &start{v.conf, v.then}
	case calling:
		c.settle(c.call(v.call))
	}
}

// work runs outside of mu. It reports whether it has left the lane.
func (c *Conn) work(f func(*bytebufferpool.ByteBuffer) Verdict) (left bool) {
	c.mu.Lock()
	if c.state == closed { // while it waited for its lane
		c.busy = false
		c.finish()
		c.unlock()
		return false
	}
	c.unlock()
	out := bytebufferpool.Get()
	v := c.call(func() Verdict { return f(out) })
	c.mu.Lock()
	c.busy = false
	if b := c.loan; b != nil {
		// The goroutine that lent it follows the verdict.
		c.loan = nil
		c.unlock()
		b.back <- repaid{v, out}
		return true
	}
	if c.state == closed {
		c.finish()
	} else {
		if out.Len() > 0 {
			c.Write(out.B)
		}
		if v.kind == securing && c.waiting() > 0 {
			c.ends(ErrPipelined)
		}
		c.settle(v)
		c.turn(nil)
		c.stir()
	}
	bytebufferpool.Put(out)
	c.unlock()
	return false
}

// loan is a connection in the hands of a function of Work.
type loan struct {
	took chan *Lifted // closed if the connection ends before
	back chan repaid
}

type repaid struct {
	v   Verdict
	out *bytebufferpool.ByteBuffer
}

// Borrow is for a function of Work: it takes the connection from its loop until the function ends, so that it may read
// and write by itself. What the function puts into its buffer goes out behind that. Its place in the lane is given up:
// what is bulk keeps nobody waiting. Called once. The error is net.ErrClosed.
func (c *Conn) Borrow() (*Lifted, error) {
	b := &loan{took: make(chan *Lifted, 1), back: make(chan repaid, 1)}
	c.mu.Lock()
	if c.state == closed {
		c.unlock()
		return nil, net.ErrClosed
	}
	lane := c.lane
	c.loan = b
	c.lift = func(l *Lifted) Verdict {
		b.took <- l
		r := <-b.back // the end of the function, whose reads and writes fail when the connection ends
		if r.out.Len() > 0 {
			l.nc.SetWriteDeadline(time.Now().Add(writeWait))
			if _, err := l.Write(r.out.B); err != nil {
				r.v = Close()
			}
		}
		bytebufferpool.Put(r.out)
		return r.v
	}
	c.getUp()
	c.unlock()
	l, ok := <-b.took
	if !ok {
		return nil, net.ErrClosed
	}
	lane.leave()
	return l, nil
}

// shut ends the connection when out is empty.
func (c *Conn) shut() {
	if c.shutting || c.state == closed {
		return
	}
	if c.secure != nil {
		c.secure.CloseWrite() // close_notify
	}
	c.shutting = true
	if len(c.out) > 0 || c.draining {
		c.getUp()
		return
	}
	c.ends(c.err)
}

// ends ends the connection now.
func (c *Conn) ends(err error) {
	if c.state == closed {
		return
	}
	was := c.state
	c.state, c.err = closed, err
	c.out, c.later = nil, nil
	if was != lifted { // else they are its goroutine's
		c.rest = nil
		if c.secure != nil {
			c.secure.plain = nil
		}
		if b := c.loan; b != nil {
			close(b.took)
			c.loan = nil
		}
	}
	if err == nil {
		err = net.ErrClosed
	}
	c.pmu.Lock()
	c.gone = err
	if c.life != nil {
		c.life.cancel(err)
	}
	c.pmu.Unlock()
	if h, ok := c.h.(Ender); ok {
		h.Ended(err)
	}
	if c.seat != nil {
		c.seat.end()
		c.seat = nil
	}
	if was == lifted {
		c.raw.Close() // and its goroutine finishes
		return
	}
	if !c.busy {
		c.finish()
	}
}

// finish tells the handler, which nothing else runs for any more.
func (c *Conn) finish() {
	err := c.err
	c.err = nil
	c.e.wheel.disarm(c)
	c.e.pool.Go(func() {
		c.call(func() Verdict {
			c.h.Closed(c, err)
			return Keep()
		})
		if c.release != nil {
			c.release()
		}
		c.srv.left(c)
	})
}

// peerEnded is called when nothing more comes.
func (c *Conn) peerEnded(err error) {
	if c.state == closed {
		return
	}
	if err == nil {
		err = io.EOF
	}
	c.ends(err)
}

// expired is called by the wheel.
func (c *Conn) expired() {
	c.Post(func() Verdict {
		d := c.deadline.Load()
		if d == 0 || time.Now().UnixNano() < d {
			if d != 0 {
				c.e.wheel.arm(c, time.Unix(0, d))
			}
			return Keep()
		}
		c.deadline.Store(0)
		return c.h.Expired(c)
	})
}
