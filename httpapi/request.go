package httpapi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"strconv"
	"sync"

	"github.com/valyala/fasthttp"
)

// Request is one request under way. It is valid until its handler returns; what outlives the handler (a body that is
// still written) is ended by OnDone.
type Request struct {
	// HTTP is fasthttp's view. It must not be kept after the handler.
	HTTP    *fasthttp.RequestCtx
	Remote  netip.AddrPort // the client's, from a trusted proxy's header where there is one
	Local   netip.AddrPort
	ID      string // unique: the connection id of a session made for it
	Secure  bool   // the client came by HTTPS
	Binding int    // index in the configuration
	Log     *slog.Logger

	ctx    context.Context
	cancel context.CancelCauseFunc
	conn   *conn

	mu   sync.Mutex // guards what follows
	done []func()
	over bool
}

// Context ends with the request: when its answer was written, its connection failed, or it was killed.
func (q *Request) Context() context.Context { return q.ctx }

// Config is the binding that the request came by.
func (q *Request) Config() Binding { return q.conn.b.Binding }

// OnDone has f called when the answer was written or lost, last first. It runs when the handler has returned.
func (q *Request) OnDone(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over {
		panic("httpapi: OnDone after the end of the request")
	}
	q.done = append(q.done, f)
}

// Kill ends the request and its connection.
func (q *Request) Kill(reason error) {
	q.cancel(reason)
	q.conn.Conn.Close() // its owner hears of it by the error
}

func (q *Request) finish() {
	q.mu.Lock()
	list := q.done
	q.done, q.over = nil, true
	q.mu.Unlock()
	for i := len(list) - 1; i >= 0; i-- {
		list[i]()
	}
	q.cancel(context.Canceled)
}

// ErrBodyTooLarge is a body above its limit.
var ErrBodyTooLarge = errors.New("the request body is too large")

// ContentLength is the announced size of the body; -1 if it is chunked.
func (q *Request) ContentLength() int64 {
	n := q.HTTP.Request.Header.ContentLength()
	if n < 0 && !q.chunked() {
		return 0
	}
	return int64(n)
}

func (q *Request) chunked() bool { return q.HTTP.Request.Header.ContentLength() == -1 }

// Body is the request's body as it comes. A body that is announced larger than limit is refused before a byte is used,
// one that becomes so with its first byte too many; limit 0 is none. A body that ends too soon is
// io.ErrUnexpectedEOF. What is left unread costs the connection.
func (q *Request) Body(limit int64) (io.Reader, error) {
	n := q.ContentLength()
	r := q.HTTP.RequestBodyStream()
	if limit > 0 && n > limit {
		q.HTTP.SetConnectionClose()
		if r != nil && n <= maxUnwanted {
			io.CopyN(io.Discard, r, n)
		}
		return nil, ErrBodyTooLarge
	}
	if r == nil { // no body, or all of it came with the header
		b := q.HTTP.Request.Body()
		if limit > 0 && int64(len(b)) > limit {
			return nil, ErrBodyTooLarge
		}
		return &body{q: q, r: newBytesReader(b), want: int64(len(b)), limit: limit}, nil
	}
	return &body{q: q, r: r, want: n, limit: limit}, nil
}

// maxUnwanted is how much of a body that is announced too large is thrown away, in bytes. With bytes that nobody has read,
// the end of a connection is a reset, and the peer's system throws our answer away.
const maxUnwanted = 4 << 20

// body counts what comes: fasthttp takes the end of the connection for the end of the body.
type body struct {
	q     *Request
	r     io.Reader
	want  int64 // -1: chunked
	got   int64
	limit int64
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.got += int64(n)
	if b.limit > 0 && b.got > b.limit {
		b.q.HTTP.SetConnectionClose()
		return 0, ErrBodyTooLarge
	}
	if err == io.EOF && b.want >= 0 && b.got < b.want {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		b.q.HTTP.SetConnectionClose()
		if cause := context.Cause(b.q.ctx); cause != nil && !errors.Is(cause, context.Canceled) {
			err = cause
		}
	}
	return n, err
}

type bytesReader struct{ b []byte }

func newBytesReader(b []byte) io.Reader { return &bytesReader{b} }

func (r *bytesReader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.b)
	r.b = r.b[n:]
	return n, nil
}

// connID names a connection's n-th request.
func connID(conn string, n uint64) string { return conn + "_" + strconv.FormatUint(n, 10) }
