package httpapi

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// The deadlines of a connection. fasthttp's own would bound a whole body, so that they are off and these hold:
// a request's head has a deadline of its own, a body must keep moving.
const (
	headWait   = 15 * time.Second // from the first byte of a request to the end of its header, TLS handshake included
	idleWait   = 75 * time.Second // between requests
	moveWait   = 60 * time.Second // one read or write of a body
	rateWindow = 30 * time.Second // waited for a peer's bytes, over which its rate is judged
	minRate    = 256              // bytes/s that a peer must move in such a window (HTTP-1)
)

// pieceSize is how much of a file is sent under one deadline.
const pieceSize = 512 << 10

// The phases of a connection.
const (
	inHead int32 = iota // a request begins: everything until its handler runs
	inWork              // a handler runs, or its answer is written
	atRest              // between requests
)

// errSlow ends a peer that keeps a request open and moves next to nothing.
var errSlow = fmt.Errorf("httpapi: the peer moved less than %d bytes/s", minRate)

// conn is an accepted connection as fasthttp sees it.
type conn struct {
	net.Conn // the TLS one where there is TLS
	b        *binding
	id       string

	phase  atomic.Int32
	headBy atomic.Int64 // unix ns: when the head must be there
	work   atomic.Pointer[Request]

	// Owned by the reader.
	waited time.Duration
	came   int64

	once sync.Once
}

func newConn(c net.Conn, b *binding, id string) *conn {
	x := &conn{Conn: c, b: b, id: id}
	x.headBy.Store(time.Now().Add(headWait).UnixNano())
	return x
}

// Read implements net.Conn with the deadline of the phase.
func (c *conn) Read(p []byte) (int, error) {
	now := time.Now()
	var by time.Time
	phase := c.phase.Load()
	switch phase {
	case inHead:
		by = time.Unix(0, c.headBy.Load())
	case atRest:
		by = now.Add(idleWait)
	default:
		by = now.Add(moveWait)
	}
	if err := c.Conn.SetReadDeadline(by); err != nil {
		return 0, c.failed(err)
	}
	n, err := c.Conn.Read(p)
	switch {
	case phase == atRest && n > 0:
		c.headBy.Store(time.Now().Add(headWait).UnixNano())
		c.phase.Store(inHead)
	case phase == inWork:
		c.waited += time.Since(now)
		c.came += int64(n)
		if c.waited >= rateWindow {
			if c.came < int64(c.waited.Seconds())*minRate && err == nil {
				err = errSlow
			}
			c.waited, c.came = 0, 0
		}
	}
	if err != nil {
		return n, c.failed(err)
	}
	return n, nil
}

// Write implements net.Conn. Each call has moveWait.
func (c *conn) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		piece := p[done:min(len(p), done+64<<10)]
		if err := c.Conn.SetWriteDeadline(time.Now().Add(moveWait)); err != nil {
			return done, c.failed(err)
		}
		n, err := c.Conn.Write(piece)
		done += n
		if err != nil {
			return done, c.failed(err)
		}
	}
	return done, nil
}

// ReadFrom implements io.ReaderFrom, so that a file goes by sendfile, piece by piece under a deadline each.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	to, ok := c.Conn.(io.ReaderFrom)
	src, limited := r.(*io.LimitedReader)
	if limited && ok {
		if b, is := src.R.(*FileBody); is {
			if file := b.f.File(); file != nil {
				n, err := b.sendTo(c, to, file, src.N)
				src.N -= n
				return n, err
			}
		}
	}
	var file *os.File
	if limited {
		file, _ = src.R.(*os.File)
	} else {
		file, _ = r.(*os.File)
	}
	if !ok || file == nil {
		return io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{r})
	}
	var done int64
	for {
		want := int64(pieceSize)
		if limited {
			if want = min(want, src.N); want <= 0 {
				return done, nil
			}
		}
		if err := c.Conn.SetWriteDeadline(time.Now().Add(moveWait)); err != nil {
			return done, c.failed(err)
		}
		n, err := to.ReadFrom(&io.LimitedReader{R: file, N: want})
		done += n
		if limited {
			src.N -= n
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && n >= minRate*int64(moveWait/time.Second): // slow, and alive
		case err != nil:
			return done, c.failed(err)
		case n < want:
			return done, nil // the end of the file
		}
	}
}

// SetDeadline does nothing, as its neighbours: the phases set them.
func (c *conn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (c *conn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// failed ends the request under way: its peer has gone, or is as good as gone.
func (c *conn) failed(err error) error {
	if q := c.work.Load(); q != nil {
		cause := err
		if cause == io.EOF { // which would read as a good end of a body
			cause = io.ErrUnexpectedEOF
		}
		q.cancel(cause)
	}
	return err
}

// begin makes q the request under way.
func (c *conn) begin(q *Request) {
	c.work.Store(q)
	c.waited, c.came = 0, 0
	c.phase.Store(inWork)
}

// rest notes that the answer was written.
func (c *conn) rest() {
	c.finish()
	c.phase.CompareAndSwap(inWork, atRest)
}

// finish ends the request under way.
func (c *conn) finish() {
	if q := c.work.Swap(nil); q != nil {
		q.finish()
	}
}

// Close implements net.Conn.
func (c *conn) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		c.b.forget(c)
		err = c.Conn.Close()
	})
	return err
}
