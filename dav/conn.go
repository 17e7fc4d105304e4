package dav

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/valyala/bytebufferpool"

	"github.com/gantryhq/gantry/engine"
	"github.com/gantryhq/gantry/internal/life"
	"github.com/gantryhq/gantry/internal/session"
)

// protocol is WebDAV's name in records, logs and events.
const protocol = "DAV"

// Bounds of a connection.
const (
	smallBody   = 16 << 10         // bytes: it is waited for on the loop
	maxBlank    = 64               // bytes of empty lines before a head
	maxDiscard  = 256 << 10        // bytes of a body that nobody wants, to keep the connection
	maxLinger   = 64 << 20         // bytes that are thrown away so that the peer reads its answer
	lingerWait  = 5 * time.Second  // for them
	requestWait = 10 * time.Minute // for a request that moves no bulk bytes
	byeWait     = 5 * time.Second
)

// conn is one connection, the engine's Handler of it.
type conn struct {
	srv *Server // these are immutable
	b   *door
	ec  *engine.Conn

	// Owned by the connection's turn, and by the request that runs.
	seen      int32    // bytes of the next head that were looked at
	blank     int32    // bytes of empty lines before the next head
	waiting   *request // for its small body
	discard   int64    // bytes that are thrown away before the next head
	until     int64    // when an idle connection ends, UnixNano
	lingering bool     // nothing else follows
	served    bool     // a request has come
	running   bool
	l         *engine.Lifted // borrowed by the request that runs
	s         *session.Session
	login     *session.Login
	auth      string  // the Authorization that s was opened with
	behind    *behind // the peer is a proxy whose headers count; else nil for good
	lane      *engine.Lane

	mu   sync.Mutex // guards what follows
	cur  *life.Life // of the request that runs
	life *life.Life // of what else asks for one; nil without
	end  error
}

// behind is who sends the requests that come through a trusted proxy.
type behind struct {
	client   netip.Addr // the one that the session was opened for
	admitted netip.Addr // the one that the gate has let in
	release  func()     // of it
}

var _ engine.Handler = (*conn)(nil)

func newConn(s *Server, b *door, ec *engine.Conn) *conn {
	c := &conn{srv: s, b: b, ec: ec}
	if b.isProxy(ec) {
		c.behind = new(behind)
	}
	return c
}

// same reports whether the client is the one that the session was opened for.
func (c *conn) same(client netip.Addr) bool {
	if c.behind == nil {
		return true // it is the peer
	}
	return client == c.behind.client
}

// lives is a context that ends with the connection, for what no request waits for.
func (c *conn) lives() *life.Life {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life == nil {
		c.life = new(life.Life)
		if c.end != nil {
			c.life.End(context.Canceled)
		}
	}
	return c.life
}

// rests gives the context up: an idle connection keeps none.
func (c *conn) rests() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life != nil {
		c.life.End(context.Canceled)
		c.life = nil
	}
}

// log is the connection's. It is made when something is to be said.
func (c *conn) log() *slog.Logger {
	l := c.srv.log.With("proto", protocol, "remote", c.ec.Remote().Addr().String())
	if c.s != nil {
		l = l.With("conn", c.s.ID(), "user", c.s.Username())
	}
	return l
}

// Open waits for the first head.
func (c *conn) Open(*engine.Conn) engine.Verdict {
	c.ec.SetDeadline(c.srv.now().Add(c.srv.header)) // RES-2
	if c.b.tls == nil {
		return engine.Keep()
	}
	return engine.StartTLS(c.b.tls, func(err error) engine.Verdict {
		if err != nil {
			c.log().Debug("no TLS", "err", err)
			return engine.Close()
		}
		return engine.Keep()
	})
}

// Refused says why nobody is served.
func (c *conn) Refused(_ *engine.Conn, err error) {
	c.log().Warn("connection refused", "err", err)
	if c.b.tls != nil { // in clear it would not be understood
		return
	}
	c.say(&request{method: "GET", closes: true}, refusal(err))
}

// refusal is the answer to who is not let in.
func refusal(err error) error {
	if _, ok := errors.AsType[*TooFast](err); ok {
		return &refused{429, err}
	}
	if errors.Is(err, ErrBusy) {
		return &refused{503, err}
	}
	return &refused{403, err}
}

// refused is an error with a status that hides its text.
type refused struct {
	code int
	err  error
}

func (e *refused) Error() string { return e.err.Error() }
func (e *refused) Unwrap() []error {
	return []error{fail(e.code, statusText(e.code)), e.err}
}

// Expired ends a connection that is idle or too slow.
func (c *conn) Expired(*engine.Conn) engine.Verdict {
	switch {
	case c.running:
		return engine.Keep()
	case c.seen == 0 && c.waiting == nil && !c.lingering && c.s != nil && c.srv.now().UnixNano() < c.until:
		c.ec.SetDeadline(time.Unix(0, c.until))
		return engine.Work(nil, func(*bytebufferpool.ByteBuffer) engine.Verdict {
			c.rest()
			return engine.Keep()
		})
	case c.seen > 0 || c.waiting != nil:
		c.say(&request{method: "GET", closes: true}, fail(408, "The request came too slowly"))
	}
	return engine.Close()
}

// Drain ends the connection once it is idle.
func (c *conn) Drain(*engine.Conn) engine.Verdict { return engine.Close() }

// Ended has a request that runs hear of the end at once.
func (c *conn) Ended(err error) {
	if err == nil {
		err = net.ErrClosed
	}
	c.mu.Lock()
	c.end = err
	if c.cur != nil {
		c.cur.End(context.Canceled)
	}
	if c.life != nil {
		c.life.End(context.Canceled)
	}
	c.mu.Unlock()
}

// kill ends the connection from any goroutine, after the answer to the request that runs.
func (c *conn) kill(reason error) {
	if reason == nil {
		reason = session.ErrClosed
	}
	c.mu.Lock()
	if c.cur != nil {
		c.cur.End(context.Canceled)
	}
	c.mu.Unlock()
	// On a goroutine of its own: the caller may hold what the connection's turn waits for.
	go c.ec.Post(func() engine.Verdict { return engine.Close() })
	time.AfterFunc(byeWait, func() { c.ec.Kill(reason) })
}

// Closed sees the session out.
func (c *conn) Closed(*engine.Conn, error) {
	c.logout()
	if c.behind != nil && c.behind.release != nil {
		c.behind.release()
	}
}

// Data takes heads, and small bodies.
func (c *conn) Data(_ *engine.Conn, in []byte) (int, engine.Verdict) {
	switch {
	case c.lingering:
		if c.discard -= int64(len(in)); c.discard < 0 {
			return len(in), engine.Close()
		}
		return len(in), engine.Keep()
	case c.discard > 0:
		n := int(min(c.discard, int64(len(in))))
		c.discard -= int64(n)
		return n, engine.Keep()
	case c.waiting != nil:
		r := c.waiting
		n := int(r.length)
		if len(in) < n {
			return 0, engine.Keep()
		}
		c.waiting = nil
		r.body = bytes.NewReader(bytes.Clone(in[:n]))
		return n, c.start(r)
	}
	n := 0
	for len(in)-n >= 2 && in[n] == '\r' && in[n+1] == '\n' { // RFC 9112 2.2
		n += 2
	}
	c.seen = max(0, c.seen-int32(n))
	if c.blank += int32(n); c.blank > maxBlank {
		return len(in), c.malformed(errHead)
	}
	end, err := headEnd(in[n:], int(c.seen))
	switch {
	case err != nil:
		return len(in), c.malformed(err)
	case end == 0:
		if c.seen == 0 && len(in) > n {
			c.ec.SetDeadline(c.srv.now().Add(c.srv.header))
		}
		c.seen = int32(len(in) - n)
		return n, engine.Keep()
	}
	c.seen, c.blank = 0, 0
	h, err := parseHead(in[n : n+end])
	if err != nil {
		return len(in), c.malformed(err)
	}
	n += end
	quick := h.plain() && c.srv.cors == nil && c.behind == nil
	if !quick {
		if err := h.read(); err != nil {
			h.free()
			return len(in), c.malformed(err)
		}
	}
	r, err := c.request(h)
	if err != nil {
		return n, c.say(r, err)
	}
	m, v, ok := c.atOnce(r)
	if ok {
		return n, v
	}
	r.row = m
	if n == len(in) { // more than one at once is not for the loop
		if v, ok := c.instant(r); ok {
			return n, v
		}
	}
	if err := h.read(); err != nil {
		h.free()
		r.fields = nil
		r.free()
		return len(in), c.malformed(err)
	}
	switch {
	case r.length == 0:
	case r.length > 0 && r.length <= smallBody && (!r.expect || len(in)-n >= int(r.length)):
		if len(in)-n < int(r.length) {
			c.waiting = r
			c.ec.SetDeadline(c.srv.now().Add(c.srv.header))
			return n, engine.Keep()
		}
		body := in[n : n+int(r.length)]
		if n += len(body); n == len(in) {
			if v, ok := c.instantFind(r, body); ok {
				return n, v
			}
		}
		r.body = bytes.NewReader(bytes.Clone(body))
	default:
		b := &body{chunked: r.length < 0, left: max(0, r.length), pace: pace{stall: c.srv.stall, rate: int64(c.srv.cfg.MinRate)}}
		if m.needs&bulk == 0 {
			b.limit = maxBody
		}
		r.body = b
	}
	return n, c.start(r)
}

// request makes a request of a head. With an error there is one, to be answered.
func (c *conn) request(h *head) (*request, error) {
	r := requests.Get().(*request)
	*r = request{
		method: h.method, prefix: c.b.Prefix, scheme: "http", host: h.host, remote: c.ec.Remote(), body: emptyBody{},
		length: h.length, fields: h, old: h.old, closes: h.closes, expect: h.expect,
	}
	if c.b.tls != nil {
		r.scheme = "https"
	}
	t, err := parseTarget(h.target, c.b.Prefix)
	r.path, r.slash, r.query = t.path, t.slash, t.query
	if t.host != "" {
		r.host = t.host // RFC 9112 3.2.2
	}
	if err == nil && t.star && h.method != "OPTIONS" {
		err = errTarget
	}
	if equalSecret(h.auth, c.auth) {
		r.auth = c.auth // which is kept already
	} else {
		r.auth = string(h.auth)
	}
	h.auth = nil
	c.applyProxy(r)
	return r, err
}

// atOnce answers what needs nothing but memory.
func (c *conn) atOnce(r *request) (m method, v engine.Verdict, ok bool) {
	m, known := c.srv.methods[r.method]
	if !known {
		switch r.method {
		case "POST", "PATCH", "TRACE", "CONNECT":
			return m, c.say(r, fail(405, "The method is not allowed here")), true
		}
		return m, c.say(r, fail(501, "The method is not known")), true
	}
	anonymous := r.auth == ""
	if x := c.srv.cors; x != nil && r.method == "OPTIONS" && anonymous {
		w := newResponse(c.srv, c, r)
		if x.apply(r, w) {
			w.status(x.OptionsSuccessStatus)
			return m, c.put(r, w), true
		}
	}
	if !anonymous || c.b.certificates {
		return m, v, false
	}
	if m.needs&anyone == 0 {
		return m, c.say(r, errLogin), true
	}
	w := newResponse(c.srv, c, r)
	if x := c.srv.cors; x != nil {
		x.apply(r, w)
	}
	if err := m.run(c.srv, r, w); err != nil {
		w.fail(err)
	}
	return m, c.put(r, w), true
}

// malformed answers what is no HTTP, or none that is safe to go on behind.
func (c *conn) malformed(err error) engine.Verdict {
	c.log().Debug("malformed request", "err", err)
	c.seen = 0
	return c.say(&request{method: "GET", closes: true}, err)
}

// say answers an error in the connection's turn.
func (c *conn) say(r *request, err error) engine.Verdict {
	w := newResponse(c.srv, c, r)
	if x := c.srv.cors; x != nil {
		x.apply(r, w)
	}
	w.fail(err)
	return c.put(r, w)
}

// put sends an answer in the connection's turn.
func (c *conn) put(r *request, w *response) engine.Verdict {
	out := bytebufferpool.Get()
	defer bytebufferpool.Put(out)
	if r.length != 0 {
		if _, ok := r.body.(*body); !ok {
			r.body = &body{chunked: r.length < 0, left: max(0, r.length)}
		}
	}
	w.finish(out)
	c.ec.Write(out.B)
	v := c.after(r, w, nil)
	w.free()
	r.free()
	return v
}

// start runs a request in the lane of its user, or in that of logins.
func (c *conn) start(r *request) engine.Verdict {
	c.running = true
	lane := c.lane
	if lane == nil {
		lane = c.srv.logins
	}
	return engine.Work(lane, func(out *bytebufferpool.ByteBuffer) engine.Verdict {
		moved, err := c.authorize(r)
		if moved { // what it does is the user's, not the logins'
			return engine.Work(c.lane, func(out *bytebufferpool.ByteBuffer) engine.Verdict { return c.serve(r, out, nil) })
		}
		return c.serve(r, out, err)
	})
}

// serve runs a request that may run, or answers err.
func (c *conn) serve(r *request, out *bytebufferpool.ByteBuffer, err error) engine.Verdict {
	w := newResponse(c.srv, c, r)
	begun := c.srv.now()
	if b, ok := r.body.(*body); ok {
		b.borrow = func() (wire, error) { return c.borrow(w) }
		if r.expect {
			b.expect = func() error {
				if err := w.take(); err != nil {
					return err
				}
				_, err := w.stream.Write([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
				return err
			}
		}
	}
	if x := c.srv.cors; x != nil {
		x.apply(r, w)
	}
	ctx := &life.Life{}
	if r.row.needs&(bulk|long) == 0 {
		ctx.At = begun.Add(requestWait)
	}
	c.mu.Lock()
	c.cur = ctx
	if c.end != nil {
		ctx.End(context.Canceled)
	}
	c.mu.Unlock()
	r.ctx, r.s = ctx, c.s
	if err == nil {
		err = c.run(r, w)
	}
	c.mu.Lock()
	c.cur = nil
	c.mu.Unlock()
	ctx.End(context.Canceled)
	if err != nil && statusFor(err) == 500 && !isGone(err) {
		c.log().Error("request failed", "method", r.method, "path", r.path.String(), "err", err)
	}
	if err != nil && !w.started {
		w.fail(err)
		err = nil
	}
	if err != nil {
		w.drop() // half an answer must not look like a whole one
	} else {
		err = w.finish(out)
	}
	if w.stream != nil {
		w.stream.Rest()
	}
	if b, ok := r.body.(*body); ok {
		b.rest()
	}
	c.trace(r, w, begun, err)
	v := c.after(r, w, err)
	c.l = nil
	w.free()
	r.free()
	return v
}

// isGone reports whether an error only says that the peer has left.
func isGone(err error) bool {
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.Canceled)
}

// run checks what the row of the method says, and runs it.
func (c *conn) run(r *request, w *response) error {
	switch m := r.row; {
	case m.needs&noBody != 0 && r.length != 0:
		return fail(415, "The method takes no body") // RFC 4918 8.4
	case m.needs&bulk == 0 && r.length > maxBody:
		return errTooLong
	}
	err := r.submit()
	if err == nil {
		err = r.row.run(c.srv, r, w)
	}
	return lockedAnswer(r, err)
}

// after is what becomes of the connection behind an answer.
func (c *conn) after(r *request, w *response, err error) engine.Verdict {
	c.running, c.served = false, true
	c.srv.answers[min(max(w.code/100, 0), 5)].Add(1)
	h, _ := r.fields.(*head)
	if h != nil {
		r.fields = nil
		h.free()
	}
	now := c.srv.now()
	b, _ := r.body.(*body)
	switch {
	case err != nil || b != nil && b.err != nil && b.err != io.EOF && !errors.Is(b.err, errTooLong):
		return engine.Close()
	case b != nil && !b.done():
		if !w.closes && b.left <= maxDiscard && !b.chunked {
			c.discard = b.left
			break
		}
		// Closed at once, the peer's system would throw our answer away with what it goes on to send.
		c.lingering, c.discard = true, maxLinger
		c.ec.SetDeadline(now.Add(lingerWait))
		return engine.Keep()
	case w.closes:
		return engine.Close()
	}
	c.until = now.Add(c.srv.idle).UnixNano()
	c.ec.SetDeadline(now.Add(min(c.srv.idle, c.srv.rest)))
	return engine.Keep()
}

// mustClose reports whether the connection cannot go on behind the answer to r.
func (c *conn) mustClose(r *request) bool {
	if r.closes || c.srv.draining.Load() {
		return true
	}
	b, ok := r.body.(*body)
	if !ok || b.done() {
		return false
	}
	return b.chunked || b.left > maxDiscard || b.err != nil || r.expect && !b.begun
}

// borrow takes the connection from its loop for the request that runs.
func (c *conn) borrow(w *response) (*engine.Lifted, error) {
	if w.l == nil {
		l, err := c.ec.Borrow()
		if err != nil {
			return nil, err
		}
		w.l, c.l = l, l
	}
	return w.l, nil
}

// trace logs a request.
func (c *conn) trace(r *request, w *response, begun time.Time, err error) {
	if !c.srv.log.Enabled(context.Background(), slog.LevelDebug) { // no request hangs on it
		return
	}
	c.log().Debug("request", "method", r.method, "path", r.path.String(), "status", w.code, "dur", c.srv.now().Sub(begun), "err", err)
}
