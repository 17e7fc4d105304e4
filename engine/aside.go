package engine

import (
	"errors"
	"net"
	"os"
	"time"
)

// aside is a connection on a goroutine: to write what its peer is slow to take, to wait where it must not be read
// from, to run a lifted function; and always, where there are no loops.
type aside struct {
	c       *Conn
	nc      net.Conn
	wake    chan struct{}
	reading bool
}

// readSize is what a connection without a loop reads at once, in bytes.
const readSize = 512

// past is a deadline that has passed.
var past = time.Unix(1, 0)

func (s *aside) write([]byte) (int, error) {
	s.poke()
	return 0, nil // the goroutine does
}

func (s *aside) leave() { s.poke() }

func (s *aside) end() {
	s.nc.Close()
	s.poke()
}

func (s *aside) poke() {
	if s.reading {
		s.nc.SetReadDeadline(past)
		return
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run looks after the connection until it can be parked on a loop, or to its end.
func (s *aside) run() {
	c := s.c
	c.mu.Lock()
	if c.state == closed {
		s.nc.Close()
		c.unlock()
		return
	}
	c.seat, c.state = s, seated
	var buf []byte
	for {
		if c.state != closed {
			c.turn(nil)
		}
		switch {
		case c.state == closed:
			s.nc.Close()
			c.unlock()
			return
		case len(c.out) > 0:
			s.drain()
		case c.shutting:
			c.ends(c.err)
		case c.lift != nil:
			s.lifted()
		case c.waiting() > maxInput/2 && !c.free():
			c.unlock()
			<-s.wake
			c.mu.Lock()
		case c.parks:
			c.seat, c.state = nil, moving
			c.unlock()
			c.park(s.nc)
			return
		default:
			if buf == nil {
				buf = make([]byte, readSize)
			}
			s.read(buf)
		}
	}
}

// drain writes out, outside of mu.
func (s *aside) drain() {
	c := s.c
	out := c.out
	c.out, c.draining = nil, true
	c.unlock()
	var err error
	for len(out) > 0 && err == nil { // a peer that takes a little all the time is slow, not gone
		n := min(len(out), 16<<10)
		s.nc.SetWriteDeadline(time.Now().Add(writeWait))
		n, err = s.nc.Write(out[:n])
		out = out[n:]
	}
	s.nc.SetWriteDeadline(time.Time{})
	c.mu.Lock()
	c.draining = false
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = ErrSlow
	}
	if err != nil {
		c.ends(err)
	}
}

// read waits for bytes, a poke or the end.
func (s *aside) read(buf []byte) {
	c := s.c
	select {
	case <-s.wake: // what woke has been seen
	default:
	}
	s.nc.SetReadDeadline(time.Time{})
	s.reading = true
	c.unlock()
	n, err := s.nc.Read(buf)
	c.mu.Lock()
	s.reading = false
	if n > 0 && c.state != closed {
		c.turn(buf[:n])
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.peerEnded(err)
	}
}

// lifted runs a lifted function.
func (s *aside) lifted() {
	c := s.c
	f := c.lift
	c.lift, c.seat, c.state, c.raw = nil, nil, lifted, s.nc
	l := &Lifted{c: c, nc: s.nc}
	if c.secure != nil {
		c.secure.wire.in, c.secure.wire.nc = c.rest, s.nc
		c.rest = nil
	}
	c.unlock()
	s.nc.SetDeadline(time.Time{})
	v := c.call(func() Verdict { return f(l) })
	s.nc.SetDeadline(time.Time{})
	c.mu.Lock()
	if c.secure != nil {
		c.rest = append(c.secure.wire.in, c.rest...)
		c.secure.wire.in, c.secure.wire.nc = nil, nil
	}
	c.raw = nil
	if c.state == closed {
		c.finish()
		return
	}
	c.seat, c.state = s, seated
	c.settle(v)
}

// Lifted is a connection in the hands of a goroutine, with what was read and not taken before. The function that it
// was given to returns to hand it back.
type Lifted struct {
	c  *Conn
	nc net.Conn
}

// Read reads plain text.
func (l *Lifted) Read(p []byte) (int, error) {
	c := l.c
	held := &c.rest
	if c.secure != nil {
		held = &c.secure.plain
	}
	if len(*held) > 0 {
		n := copy(p, *held)
		*held = (*held)[n:]
		return n, nil
	}
	if c.secure != nil {
		return c.secure.Read(p)
	}
	return l.nc.Read(p)
}

// Write writes plain text.
func (l *Lifted) Write(p []byte) (int, error) {
	if s := l.c.secure; s != nil {
		return s.Write(p)
	}
	return l.nc.Write(p)
}

// SetDeadline is for reads and writes; a write that met it leaves a TLS connection broken.
func (l *Lifted) SetDeadline(t time.Time) error { return l.nc.SetDeadline(t) }

// Unread gives p back, to be read before anything else, by the handler too.
func (l *Lifted) Unread(p []byte) {
	c := l.c
	if c.secure != nil {
		c.secure.plain = append(append([]byte(nil), p...), c.secure.plain...)
		return
	}
	c.rest = append(append([]byte(nil), p...), c.rest...)
}

// Truncated reports whether a TLS connection ended without close_notify, which an io.EOF does not tell.
func (l *Lifted) Truncated() bool { return l.c.secure != nil && l.c.secure.wire.fin }

// CloseWrite ends our side: the peer reads to the end, and may go on to write.
func (l *Lifted) CloseWrite() error {
	if s := l.c.secure; s != nil {
		return s.CloseWrite()
	}
	if t, ok := l.nc.(interface{ CloseWrite() error }); ok {
		return t.CloseWrite()
	}
	return nil
}

// ReadAhead is Stream's.
func (l *Lifted) ReadAhead() (end func()) {
	if l.c.secure == nil {
		return func() {}
	}
	return l.c.secure.wire.readAhead()
}

// Held is how many bytes have been read already, for the next Read.
func (l *Lifted) Held() int {
	if l.c.secure != nil {
		return len(l.c.secure.plain)
	}
	return len(l.c.rest)
}

// SetReadDeadline is for reads alone.
func (l *Lifted) SetReadDeadline(t time.Time) error { return l.nc.SetReadDeadline(t) }

// Stream is the connection for Send. It must not be closed. stall is how long nothing may move.
func (l *Lifted) Stream(stall time.Duration) *Stream {
	s := &Stream{nc: l.nc, stall: stall}
	if l.c.secure != nil {
		s.tls, s.wire = l.c.secure.Conn, l.c.secure.wire
	}
	return s
}
