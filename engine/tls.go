package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// handshakeWait is the time of a TLS handshake from its first byte.
const handshakeWait = 10 * time.Second

// secured is the TLS of a connection, parked or lifted.
type secured struct {
	*tls.Conn
	wire  *wire
	plain []byte // not taken
}

// wouldBlock is what a parked connection's TLS reads when no more ciphertext is there: crypto/tls keeps a connection
// in use after a temporary error.
type wouldBlock struct{}

func (wouldBlock) Error() string   { return "would block" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }

// wire is the net.Conn under a tls.Conn. It has one owner at a time: the connection's turn, or a goroutine.
type wire struct {
	c      *Conn    // of a parked connection
	in     []byte   // read before anything else
	nc     net.Conn // nil: parked
	gather bool     // keep what is written until flush
	buf    []byte
	fin    bool    // the peer's FIN was seen: an io.EOF of TLS is no close_notify
	ahead  *[]byte // what is read into; nil: what TLS asks for is read, some 30 KiB at most
}

// readAhead has the socket read in large pieces while bulk bytes come, until end. crypto/tls reads a record or two at a
// time, and wakes up for each.
func (w *wire) readAhead() (end func()) {
	if w.ahead != nil {
		return func() {}
	}
	p := chunks.Get().(*[]byte)
	w.ahead = p
	return func() {
		w.in = append([]byte(nil), w.in...) // which may be part of p
		w.ahead = nil
		chunks.Put(p)
	}
}

func (w *wire) Read(p []byte) (int, error) {
	if len(w.in) == 0 && w.ahead != nil && w.nc != nil {
		n, err := w.nc.Read(*w.ahead)
		if w.in = (*w.ahead)[:n]; n == 0 {
			w.fin = w.fin || err == io.EOF
			return 0, err
		}
	}
	if len(w.in) > 0 {
		n := copy(p, w.in)
		if w.in = w.in[n:]; len(w.in) == 0 {
			w.in = nil
		}
		return n, nil
	}
	if w.nc == nil {
		return 0, wouldBlock{}
	}
	n, err := w.nc.Read(p)
	if err == io.EOF {
		w.fin = true
	}
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	switch {
	case w.gather:
		w.buf = append(w.buf, p...)
		return len(p), nil
	case w.nc != nil:
		return w.nc.Write(p)
	}
	return w.c.write(p)
}

// flush writes what was gathered.
func (w *wire) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	_, err := w.nc.Write(w.buf)
	w.buf = w.buf[:0]
	return err
}

// Close does nothing: sockets are closed by their owners.
func (w *wire) Close() error { return nil }

func (w *wire) LocalAddr() net.Addr {
	if w.nc != nil {
		return w.nc.LocalAddr()
	}
	return net.TCPAddrFromAddrPort(*w.c.local)
}

func (w *wire) RemoteAddr() net.Addr {
	if w.nc != nil {
		return w.nc.RemoteAddr()
	}
	return net.TCPAddrFromAddrPort(w.c.remote)
}

func (w *wire) SetDeadline(t time.Time) error {
	return errors.Join(w.SetReadDeadline(t), w.SetWriteDeadline(t))
}

func (w *wire) SetReadDeadline(t time.Time) error {
	if w.nc == nil {
		return nil
	}
	return w.nc.SetReadDeadline(t)
}

func (w *wire) SetWriteDeadline(t time.Time) error {
	if w.nc == nil {
		return nil
	}
	return w.nc.SetWriteDeadline(t)
}

// handshake leaves the loop for the handshake, whose first bytes are in rest.
func (c *Conn) handshake() {
	conf, then := c.start.conf, c.start.then
	c.start = nil
	c.settle(Lift(func(l *Lifted) Verdict {
		err := errHandshakes
		if c.e.enterHandshake() {
			err = c.shake(l, conf)
			c.e.leaveHandshake()
		}
		return Verdict{kind: calling, call: func() Verdict { // in turn again
			if v := then(err); err == nil {
				return v
			}
			return Close()
		}}
	}))
}

// start is a handshake that waits for its first byte.
type start struct {
	conf *tls.Config
	then func(error) Verdict
}

// shake runs on a goroutine.
func (c *Conn) shake(l *Lifted, conf *tls.Config) error {
	s := &secured{wire: &wire{c: c, in: c.rest, nc: l.nc}}
	c.rest = nil
	s.Conn = tls.Server(s.wire, conf)
	var err error
	c.during(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, handshakeWait)
		defer cancel()
		err = s.HandshakeContext(ctx)
	})
	if err == nil {
		c.secure = s
	}
	return err
}

var errHandshakes = errors.New("engine: too many TLS handshakes at once")

// records are buffers for the plain text of a record.
var records = sync.Pool{New: func() any { b := make([]byte, 16<<10); return &b }}

// turnTLS gives the handler plain text.
func (c *Conn) turnTLS(in []byte) {
	s := c.secure
	if len(s.plain) > 0 {
		s.plain = c.offer(s.plain, nil)
	}
	if !c.free() {
		c.rest = append(c.rest, in...)
		return
	}
	w := s.wire
	w.in = in
	if len(c.rest) > 0 {
		w.in = append(c.rest, in...)
	}
	buf := records.Get().(*[]byte)
	var err error
	for err == nil && c.free() {
		var n int
		if n, err = s.Read(*buf); n > 0 {
			s.plain = c.offer(s.plain, (*buf)[:n])
		}
	}
	records.Put(buf)
	c.rest = nil
	if len(w.in) > 0 && c.state != closed {
		c.rest = append([]byte(nil), w.in...)
	}
	w.in = nil
	if err != nil && !errors.Is(err, wouldBlock{}) && c.state != closed {
		if err == io.EOF {
			s.CloseWrite()
		}
		c.peerEnded(err)
	}
}
