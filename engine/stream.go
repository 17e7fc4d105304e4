package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// What Send and Receive move at once, in bytes.
const (
	copySize = 256 << 10 // through a buffer
	minChunk = 64 << 10  // by the kernel; it grows while the peer is fast, so that one that is slow is not taken for dead
	maxChunk = 4 << 20
)

// ErrTruncated is the end of a TLS connection without close_notify: somebody may have cut it.
var ErrTruncated = errors.New("the TLS connection was cut without close_notify")

var chunks = sync.Pool{New: func() any { b := make([]byte, copySize); return &b }}

// Buffer borrows a buffer for bulk bytes; give ends the loan.
func Buffer() (b []byte, give func()) {
	p := chunks.Get().(*[]byte)
	return *p, func() { chunks.Put(p) }
}

// gathered holds what TLS makes of a chunk.
var gathered = sync.Pool{New: func() any { b := make([]byte, 0, copySize+copySize/64); return &b }}

// Source is what Send reads.
type Source interface {
	io.ReaderAt
	// File is what the kernel may read in place of ReadAt, or nil. Then Pass is asked before n bytes go: it counts them,
	// waits as long as the bandwidth wants, and says how many may go now. A negative n takes back what did not go.
	File() *os.File
	Pass(n int) (int, error)
	// Chunk is the most that should go at once, in bytes.
	Chunk() int
}

// Stream is a connection that a goroutine moves bulk bytes through. Nothing may move for longer than its stall time.
type Stream struct {
	nc    net.Conn
	tls   *tls.Conn // nil: in clear
	wire  *wire
	stall time.Duration
	buf   *[]byte // of wire
}

// NewStream makes a stream of nc, which it owns.
func NewStream(nc net.Conn, stall time.Duration) *Stream { return &Stream{nc: nc, stall: stall} }

// Secure makes the stream a TLS one, as server.
func (s *Stream) Secure(ctx context.Context, conf *tls.Config) error {
	w := &wire{nc: s.nc}
	t := tls.Server(w, conf)
	defer context.AfterFunc(ctx, func() { s.nc.Close() })()
	s.nc.SetDeadline(time.Now().Add(handshakeWait))
	if err := t.Handshake(); err != nil {
		return err
	}
	s.nc.SetDeadline(time.Time{})
	s.tls, s.wire = t, w
	return nil
}

// TLS is the state of its TLS, or nil in clear.
func (s *Stream) TLS() *tls.ConnectionState {
	if s.tls == nil {
		return nil
	}
	state := s.tls.ConnectionState()
	return &state
}

// Cut closes the socket, from any goroutine, without a goodbye.
func (s *Stream) Cut() error { return s.nc.Close() }

// ReadAhead has what comes over TLS read in large pieces, until end: for uploads. What is left then is read next.
func (s *Stream) ReadAhead() (end func()) {
	if s.tls == nil {
		return func() {}
	}
	return s.wire.readAhead()
}

// Read reads plain text. The end of a TLS connection that was cut is ErrTruncated.
func (s *Stream) Read(p []byte) (int, error) {
	s.nc.SetReadDeadline(time.Now().Add(s.stall))
	if s.tls == nil {
		return s.nc.Read(p)
	}
	n, err := s.tls.Read(p)
	if err == io.EOF && s.wire.fin || errors.Is(err, io.ErrUnexpectedEOF) {
		err = ErrTruncated
	}
	return n, err
}

// Fill reads until p is full, nothing more has come, or the end. A TLS record is 16 KiB at most.
func (s *Stream) Fill(p []byte) (n int, err error) {
	for err == nil && n < len(p) {
		var m int
		m, err = s.Read(p[n:])
		n += m
		if s.tls == nil || m < 16<<10 {
			break
		}
	}
	return n, err
}

// Write writes plain text; TLS records go out together.
func (s *Stream) Write(p []byte) (int, error) {
	n, err := s.write(p)
	s.stalled(err)
	return n, err
}

// stalled has a peer that takes nothing be cut for good: what the system holds for it, megabytes in the worst case, would
// stay there after the close for as long as it takes a byte now and then.
func (s *Stream) stalled(err error) {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return
	}
	if l, ok := s.nc.(interface{ SetLinger(sec int) error }); ok {
		l.SetLinger(0)
	}
}

func (s *Stream) write(p []byte) (int, error) {
	s.nc.SetWriteDeadline(time.Now().Add(s.stall))
	if s.tls == nil {
		return s.nc.Write(p)
	}
	if s.buf == nil {
		s.buf = gathered.Get().(*[]byte)
		s.wire.buf = (*s.buf)[:0]
	}
	s.wire.gather = true
	n, err := s.tls.Write(p)
	s.wire.gather = false
	if err == nil {
		err = s.wire.flush()
	}
	return n, err
}

// Rest gives back what the stream borrows while bytes move. It may go on after it.
func (s *Stream) Rest() { s.giveBack() }

// giveBack ends the loan of the gathering buffer.
func (s *Stream) giveBack() {
	if s.buf != nil {
		*s.buf = s.wire.buf[:0]
		gathered.Put(s.buf)
		s.buf, s.wire.buf = nil, nil
	}
}

// Send writes src from off on, n bytes or to its end if n is negative, and says how many went. sent is told of each
// chunk; it may be nil.
func (s *Stream) Send(src Source, off, n int64, sent func(n int)) (int64, error) {
	if sent == nil {
		sent = func(int) {}
	}
	if f := src.File(); f != nil && s.tls == nil {
		if k := kernelOf(s.nc); k != nil {
			return s.sendFile(k, src, f, off, n, sent)
		}
	}
	buf, give := Buffer()
	defer give()
	defer s.giveBack()
	var total int64
	for n != 0 {
		b := buf
		if n > 0 && int64(len(b)) > n {
			b = b[:n]
		}
		m, rerr := src.ReadAt(b, off)
		if m > 0 {
			if _, err := s.Write(b[:m]); err != nil {
				return total, err
			}
			off, total = off+int64(m), total+int64(m)
			if n > 0 {
				n -= int64(m)
			}
			sent(m)
		}
		if rerr == io.EOF || rerr == nil && m == 0 {
			return total, nil
		}
		if rerr != nil {
			return total, rerr
		}
	}
	return total, nil
}

// WriteLast writes what nothing but Finish follows, so that both may leave in one packet.
func (s *Stream) WriteLast(p []byte) (int, error) {
	if l, ok := s.nc.(lastWriter); ok && s.tls == nil {
		s.nc.SetWriteDeadline(time.Now().Add(s.stall))
		return l.writeLast(p)
	}
	return s.Write(p)
}

// sendFile has the kernel move the bytes.
func (s *Stream) sendFile(k kernelSender, src Source, f *os.File, off, n int64, sent func(int)) (int64, error) {
	if n < 0 {
		i, err := f.Stat()
		if err != nil {
			return 0, err
		}
		n = max(0, i.Size()-off)
	}
	var total int64
	chunk := minChunk
	for n > 0 {
		want, err := src.Pass(int(min(n, int64(chunk), int64(src.Chunk()))))
		if err != nil {
			return total, err
		}
		begun := time.Now()
		s.nc.SetWriteDeadline(begun.Add(s.stall))
		m, err := k.sendFile(f, off, want)
		s.stalled(err)
		off += int64(m)
		total += int64(m)
		n -= int64(m)
		sent(m)
		if m < want {
			src.Pass(m - want)
			return total, err // without one the file has become shorter
		}
		if err != nil {
			return total, err
		}
		switch d := time.Since(begun); {
		case d < 50*time.Millisecond:
			chunk = min(2*chunk, maxChunk)
		case d > time.Second:
			chunk = max(chunk/4, minChunk)
		}
	}
	return total, nil
}

// kernelOf finds what sends files, or nil.
func kernelOf(nc net.Conn) kernelSender {
	switch x := nc.(type) {
	case kernelSender:
		return x
	case *net.TCPConn:
		return tcpSender{x}
	case *Proxied:
		return kernelOf(x.Conn)
	}
	return nil
}

// tcpSender is the runtime's sendfile.
type tcpSender struct{ *net.TCPConn }

func (t tcpSender) sendFile(f *os.File, off int64, n int) (int, error) {
	if _, err := f.Seek(off, io.SeekStart); err != nil {
		return 0, err
	}
	m, err := t.ReadFrom(&io.LimitedReader{R: f, N: int64(n)})
	return int(m), err
}

// Finish ends what was written in order: TLS says goodbye before TCP does.
func (s *Stream) Finish() error {
	s.giveBack()
	var err error
	if s.tls != nil {
		s.nc.SetWriteDeadline(time.Now().Add(s.stall))
		err = s.tls.CloseWrite()
	}
	return errors.Join(ignoreClosed(err), ignoreClosed(s.nc.Close()))
}

func ignoreClosed(err error) error {
	if err != nil && (errors.Is(err, net.ErrClosed) || strings.Contains(err.Error(), "close_notify")) {
		return nil
	}
	return err
}
