package dav

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/valyala/bytebufferpool"

	"github.com/gantryhq/gantry/engine"
)

// Bounds of an answer, in bytes.
const (
	maxWhole  = 64 << 10 // is kept to be sent whole; what is longer is streamed
	minZip    = 1 << 10  // less is not worth compressing
	chunkRoom = 16       // before the data of a chunk, for its size
)

// response is the answer to a request.
type response struct {
	s     *Server
	c     *conn // nil: everything is kept (tests)
	r     *request
	code  int // 0 before status
	names []headerField
	room  [8]headerField
	buf   *bytebufferpool.ByteBuffer // chunkRoom bytes, and what has not been sent; nil: nothing
	zip   bool                       // may be compressed
	gz    *gzip.Writer
	bare  bool // no body is sent: HEAD
	// length is what Content-Length says of a body that is sent apart, -1 without one.
	length  int64
	started bool // the head has been sent
	chunked bool
	closes  bool // the connection ends after the answer
	broken  error
	l       *engine.Lifted // the connection, when it was taken from its loop
	stream  *engine.Stream
}

type headerField struct{ name, value string }

// responses keeps those that have been sent.
var responses = sync.Pool{New: func() any { return new(response) }}

func newResponse(s *Server, c *conn, r *request) *response {
	w := responses.Get().(*response)
	w.s, w.c, w.r, w.length, w.bare = s, c, r, -1, r.method == "HEAD"
	w.names = w.room[:0]
	return w
}

// free gives w back. Nothing may use it any more.
func (w *response) free() {
	*w = response{}
	responses.Put(w)
}

// set gives a header field its only value. Nothing that could end a line goes out.
func (w *response) set(name, value string) {
	for i := range w.names {
		if w.names[i].name == name {
			w.names[i].value = value
			return
		}
	}
	w.names = append(w.names, headerField{name, value})
}

// status says what the answer is: once, before the first Write.
func (w *response) status(code int) { w.code = code }

// compressible says that the body may be compressed where the client asks for it.
func (w *response) compressible() {
	w.zip = !w.bare && acceptsGzip(w.r.header("Accept-Encoding"))
	w.vary("Accept-Encoding")
}

// vary adds to Vary.
func (w *response) vary(name string) {
	for _, f := range w.names {
		if f.name == "Vary" {
			name = f.value + ", " + name
		}
	}
	w.set("Vary", name)
}

// acceptsGzip reads Accept-Encoding (RFC 9110 12.5.3).
func acceptsGzip(list string) bool {
	for item := range strings.SplitSeq(list, ",") {
		name, param, _ := strings.Cut(item, ";")
		if name = strings.TrimSpace(name); strings.EqualFold(name, "gzip") || strings.EqualFold(name, "x-gzip") {
			param = strings.ReplaceAll(strings.ToLower(param), " ", "")
			return param != "q=0" && !strings.HasPrefix(param, "q=0.000") && param != "q=0.0" && param != "q=0.00"
		}
	}
	return false
}

var errNoStatus = errors.New("dav: a body before the status")

// Write adds to the body. A short one goes out whole, with its length; a longer one in chunks, as it comes.
func (w *response) Write(p []byte) (int, error) {
	switch {
	case w.code == 0:
		return 0, errNoStatus
	case w.broken != nil:
		return 0, w.broken
	case w.bare:
		return len(p), nil
	case w.gz != nil:
		return w.gz.Write(p)
	}
	return w.raw(p)
}

// rawWriter is where the compressor writes to.
type rawWriter struct{ w *response }

func (r rawWriter) Write(p []byte) (int, error) { return r.w.raw(p) }

func (w *response) raw(p []byte) (int, error) {
	if w.broken != nil {
		return 0, w.broken
	}
	w.hold()
	w.buf.Write(p)
	if w.buf.Len()-chunkRoom >= maxWhole && w.c != nil {
		w.broken = w.flush()
	}
	return len(p), w.broken
}

func (w *response) hold() {
	if w.buf == nil {
		w.buf = bytebufferpool.Get()
		w.buf.Write(make([]byte, chunkRoom))
	}
}

// held is what has been written and not sent.
func (w *response) held() []byte {
	if w.buf == nil {
		return nil
	}
	return w.buf.B[chunkRoom:]
}

var gzips = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
	return z
}}

// compress has what is held and what follows compressed.
func (w *response) compress() error {
	plain := w.buf
	w.buf = nil
	w.gz = gzips.Get().(*gzip.Writer)
	w.gz.Reset(rawWriter{w})
	w.set("Content-Encoding", "gzip")
	_, err := w.gz.Write(plain.B[chunkRoom:])
	bytebufferpool.Put(plain)
	return err
}

// take takes the connection from its loop, so that the answer may be streamed.
func (w *response) take() error {
	if w.stream != nil {
		return nil
	}
	l, err := w.c.borrow(w)
	if err != nil {
		return err
	}
	w.stream = l.Stream(w.s.stall)
	return nil
}

// flush sends what is held as a chunk.
func (w *response) flush() error {
	if !w.started {
		if w.zip && w.gz == nil {
			return w.compress()
		}
		if err := w.begin(); err != nil {
			return err
		}
	}
	data := w.buf.B
	if !w.chunked {
		_, err := w.stream.Write(data[chunkRoom:])
		w.buf.B = data[:chunkRoom]
		return err
	}
	var room [chunkRoom]byte
	size := append(strconv.AppendInt(room[:0], int64(len(data)-chunkRoom), 16), "\r\n"...)
	copy(data[chunkRoom-len(size):], size)
	data = append(data, "\r\n"...)
	_, err := w.stream.Write(data[chunkRoom-len(size):])
	w.buf.B = data[:chunkRoom]
	return err
}

// begin sends the head of a body of unknown length.
func (w *response) begin() error {
	if err := w.take(); err != nil {
		return err
	}
	w.started = true
	if w.chunked = !w.r.old; w.chunked {
		w.set("Transfer-Encoding", "chunked")
	} else {
		w.closes = true
	}
	return w.sendHead()
}

func (w *response) sendHead() error {
	b := bytebufferpool.Get()
	defer bytebufferpool.Put(b)
	b.B = w.appendHead(b.B)
	_, err := w.stream.Write(b.B)
	return err
}

// sendFile sends n bytes of src from off as the body, of which Content-Length tells. What is short goes out whole with the
// head, the rest as fast as the kernel moves it.
func (w *response) sendFile(src engine.Source, off, n int64) error {
	w.length = n
	if w.bare || n == 0 {
		return nil
	}
	if n <= maxWhole || w.c == nil {
		w.hold()
		return w.fill(src, off, n)
	}
	return w.sendParts([]part{{off: off, n: n}}, src, nil)
}

// fill adds n bytes of src to what is held.
func (w *response) fill(src io.ReaderAt, off, n int64) error {
	at := w.buf.Len()
	w.buf.B = grow(w.buf.B, int(n))
	m, err := src.ReadAt(w.buf.B[at:], off)
	if int64(m) == n {
		return nil
	}
	w.buf.B = w.buf.B[:at]
	if err == nil || err == io.EOF {
		err = errShrunk
	}
	return err
}

// errShrunk: the file has less than it had when its length was told.
var errShrunk = errors.New("dav: the file became shorter while it was sent")

// grow makes b longer by n bytes of any content.
func grow(b []byte, n int) []byte {
	if need := len(b) + n; need > cap(b) {
		b = append(make([]byte, 0, need), b...)
	}
	return b[:len(b)+n]
}

// part is a piece of a file with what is written before it.
type part struct {
	head   []byte
	off, n int64
}

// sendParts sends pieces of a file and a tail; w.length is the sum of all.
func (w *response) sendParts(parts []part, src engine.Source, tail []byte) error {
	if err := w.take(); err != nil {
		return err
	}
	w.started = true
	if err := w.sendHead(); err != nil {
		return err
	}
	for _, p := range parts {
		if len(p.head) > 0 {
			if _, err := w.stream.Write(p.head); err != nil {
				return err
			}
		}
		m, err := w.stream.Send(src, p.off, p.n, nil)
		if err == nil && m < p.n {
			err = errShrunk
		}
		if err != nil {
			return err
		}
	}
	if len(tail) > 0 {
		_, err := w.stream.Write(tail)
		return err
	}
	return nil
}

// fail makes the answer to an error of what was not sent yet.
func (w *response) fail(err error) {
	w.drop()
	w.zip, w.length = false, -1
	code := statusFor(err)
	kept := w.names[:0]
	for _, f := range w.names {
		if strings.HasPrefix(f.name, "Access-Control-") || f.name == "ETag" && code == 304 || f.name == "Content-Range" && code == 416 {
			kept = append(kept, f)
		}
	}
	w.names = kept
	w.code = code
	text := statusText(code)
	f, ok := errors.AsType[*failure](err)
	if ok {
		text = f.text
	}
	switch code {
	case 304:
		return
	case 401:
		if w.c == nil || !w.c.b.DisableWWWAuthHeader {
			w.set("WWW-Authenticate", `Basic realm="Gantry WebDAV", charset="UTF-8"`)
		}
	case 405, 501:
		w.set("Allow", w.s.allow)
	}
	if t, ok := errors.AsType[*TooFast](err); ok {
		w.set("Retry-After", strconv.Itoa(max(1, int(t.After.Round(time.Second)/time.Second))))
		w.set("X-Retry-In", t.After.String())
	}
	if ok && f.element != "" {
		w.set("Content-Type", "application/xml; charset=utf-8")
		io.WriteString(w, `<?xml version="1.0" encoding="utf-8"?>`+"\n"+`<D:error xmlns:D="DAV:">`+f.element+"</D:error>\n")
		return
	}
	w.set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, text+"\n")
}

// drop forgets the body that was not sent.
func (w *response) drop() {
	if w.buf != nil {
		bytebufferpool.Put(w.buf)
		w.buf = nil
	}
	if w.gz != nil {
		w.gz.Reset(io.Discard)
		gzips.Put(w.gz)
		w.gz = nil
		for i := range w.names {
			if w.names[i].name == "Content-Encoding" {
				w.names = append(w.names[:i], w.names[i+1:]...)
				break
			}
		}
	}
}

// finish ends the answer. What has not been sent is put into out.
func (w *response) finish(out *bytebufferpool.ByteBuffer) error {
	defer w.drop()
	if w.code == 0 {
		w.code = 200
	}
	if !w.started && w.zip && w.gz == nil && len(w.held()) >= minZip {
		if err := w.compress(); err != nil {
			return err
		}
	}
	if w.gz != nil {
		if err := w.gz.Close(); err != nil {
			return err
		}
	}
	if !w.started {
		if !w.bare && w.length < 0 {
			w.length = int64(len(w.held()))
		}
		out.B = w.appendHead(out.B)
		if !w.bare {
			out.B = append(out.B, w.held()...)
		}
		return nil
	}
	if w.broken != nil {
		return w.broken
	}
	if len(w.held()) > 0 {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if w.chunked {
		_, err := w.stream.Write([]byte("0\r\n\r\n"))
		return err
	}
	return nil
}

// appendHead formats the head with its empty line.
func (w *response) appendHead(b []byte) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(w.code), 10)
	b = append(b, ' ')
	b = append(append(b, statusText(w.code)...), "\r\nServer: Gantry\r\nDate: "...)
	b = append(b, w.s.date()...)
	b = append(b, "\r\n"...)
	for _, f := range w.names {
		b = append(append(b, f.name...), ": "...)
		b = appendValue(b, f.value)
		b = append(b, "\r\n"...)
	}
	if w.length >= 0 && !w.chunked && w.code != 204 && w.code != 304 {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, w.length, 10)
		b = append(b, "\r\n"...)
	}
	if w.c != nil && w.c.mustClose(w.r) {
		w.closes = true
	}
	switch {
	case w.closes:
		b = append(b, "Connection: close\r\n"...)
	case w.r.old:
		b = append(b, "Connection: keep-alive\r\n"...)
	}
	return append(b, "\r\n"...)
}

// appendValue writes a field's value without anything that could end its line (LOG-1 has it so for logs, RFC 9110 5.5 here).
func appendValue(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			for i := 0; i < len(s); i++ {
				if c := s[i]; c >= ' ' && c != 0x7f || c == '\t' {
					b = append(b, c)
				}
			}
			return b
		}
	}
	return append(b, s...)
}

// clock gives the Date of answers, which is made once a second.
type clock struct {
	mu   sync.Mutex // guards what follows
	sec  int64
	text string
}

func (k *clock) date(now time.Time) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s := now.Unix(); s != k.sec || k.text == "" {
		k.sec, k.text = s, httpTime(now)
	}
	return k.text
}
