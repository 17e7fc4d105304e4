package httpapi

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/gantryhq/gantry/engine"
)

// Handler answers requests. It sets the answer on q.HTTP.
type Handler interface {
	Handle(q *Request)
	// Refuse answers what is not handled at all: a ban, a rate limit, a request that is no HTTP.
	Refuse(http *fasthttp.RequestCtx, status int, err error)
	// Limit is the size, in bytes, above which a request of this method and path (raw) is refused before its body
	// comes; 0 is none.
	Limit(method, path string) int64
}

// Gate says who may come in.
type Gate interface {
	// Admit counts a request of addr in, or refuses it; release counts it out. The error of who comes too fast is
	// (or wraps) a *RateError.
	Admit(ctx context.Context, addr netip.Addr) (release func(), err error)
}

// RateError is a refusal that ends.
type RateError struct {
	RetryAfter time.Duration
	Err        error
}

func (e *RateError) Error() string { return e.Err.Error() }

func (e *RateError) Unwrap() error { return e.Err }

// Server serves HTTP/1.1 on its bindings. Safe for concurrent use.
type Server struct {
	cfg      Config
	gate     Gate
	handler  Handler
	log      *slog.Logger
	bindings []*binding
	cors     *cors
	answers  [6]atomic.Uint64 // by class of status

	// ctx is what every request's context comes from; it ends when the server is closed for good.
	ctx  context.Context
	stop context.CancelFunc
}

// The bounds of one binding.
const (
	maxConns     = 16384
	maxHeader    = 32 << 10 // bytes (HTTP-1)
	admitWait    = 10 * time.Second
	drainedAfter = 5 * time.Second // what a cut connection's handlers have to end
)

// binding is a Binding with what is made of it.
type binding struct {
	Binding
	s       *Server
	index   int
	certs   *engine.Certs
	tls     *tls.Config
	trusted []netip.Prefix
	hosts   *hosts
	fast    *fasthttp.Server
	count   atomic.Uint64
	serving atomic.Bool

	mu    sync.Mutex // guards conns
	conns map[*conn]struct{}
}

// New makes a server and reads its certificates.
func New(cfg Config, gate Gate, h Handler, log *slog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, gate: gate, handler: h, log: log, cors: newCORS(cfg.CORS)}
	s.ctx, s.stop = context.WithCancel(context.Background()) // ends with Shutdown
	for i, b := range cfg.Bindings {
		x, err := s.bind(i, b)
		if err != nil {
			s.stop()
			return nil, err
		}
		s.bindings = append(s.bindings, x)
	}
	return s, nil
}

func (s *Server) bind(i int, b Binding) (*binding, error) {
	x := &binding{Binding: b, s: s, index: i, conns: map[*conn]struct{}{}}
	var err error
	if x.trusted, err = engine.Networks(b.ProxyAllowed); err != nil {
		return nil, err
	}
	if x.hosts, err = compileHosts(b.Security); err != nil {
		return nil, err
	}
	name := "Gantry"
	if !s.cfg.ShortVersion && s.cfg.Version != "" {
		name += "/" + s.cfg.Version
	}
	x.fast = &fasthttp.Server{
		Handler: x.serve, Name: name, ErrorHandler: x.broken, ExpectHandler: x.expect, HeaderReceived: received,
		ConnState: x.state, Logger: quiet{s.log}, LogAllErrors: false, SecureErrorLogMessage: true,
		Concurrency: maxConns, ReadBufferSize: maxHeader, MaxRequestBodySize: math.MaxInt,
		StreamRequestBody: true, DisablePreParseMultipartForm: true, ReduceMemoryUsage: true, CloseOnShutdown: true,
		// ReadTimeout and WriteTimeout would cut a large body, however well it moves: conn has the deadlines.
	}
	if !b.EnableHTTPS || !b.IsValid() {
		return x, nil
	}
	suites, err := engine.CipherSuites(b.TLSCipherSuites)
	if err != nil {
		return nil, err
	}
	version := uint16(tls.VersionTLS12)
	if b.MinTLSVersion != 0 {
		version = tls.VersionTLS10 + uint16(b.MinTLSVersion-10)
	}
	cert, key := s.cfg.pair(b)
	x.certs, err = engine.NewCerts(engine.CertConfig{
		Cert: s.cfg.path(cert), Key: s.cfg.path(key), CAs: s.cfg.paths(s.cfg.CACertificates), CRLs: s.cfg.paths(s.cfg.CARevocationLists),
		Clients: b.ClientAuthType, MinVersion: version, Suites: suites, Protocols: []string{"http/1.1"},
	})
	if err != nil {
		return nil, fmt.Errorf("httpd: certificates of bindings[%d]: %w", i, err)
	}
	x.tls = x.certs.Config()
	return x, nil
}

// note counts an answer.
func (s *Server) note(status int) { s.answers[min(max(status/100, 0), 5)].Add(1) }

// Answers counts the requests answered since New by the class of their status: 2xx at index 2.
func (s *Server) Answers() (n [6]uint64) {
	for i := range n {
		n[i] = s.answers[i].Load()
	}
	return n
}

// Reload reads the certificates and revocation lists again. On an error the old ones stay.
func (s *Server) Reload() error {
	var errs []error
	for _, b := range s.bindings {
		if b.certs != nil {
			if err := b.certs.Reload(); err != nil {
				errs = append(errs, fmt.Errorf("httpd: certificates of bindings[%d]: %w", b.index, err))
			}
		}
	}
	return errors.Join(errs...)
}

// Listen opens the binding's port or Unix socket.
func (b Binding) Listen(ctx context.Context) (net.Listener, error) {
	return engine.Listen(ctx, b.Address, b.Port)
}

// Serve accepts connections for the binding of that index until Shutdown ends it, and closes l. The error is nil after
// that.
func (s *Server) Serve(index int, l net.Listener) error {
	b := s.bindings[index]
	b.serving.Store(true)
	if err := b.fast.Serve(&door{l, b}); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("httpapi: %w", err)
	}
	return nil
}

// Shutdown stops accepting. Requests may finish until ctx ends; then everything is closed. The error is ctx's if some
// had to be cut.
func (s *Server) Shutdown(ctx context.Context) error {
	var all sync.WaitGroup
	errs := make([]error, len(s.bindings))
	for i, b := range s.bindings {
		if !b.serving.Load() {
			continue
		}
		all.Go(func() {
			if errs[i] = b.fast.ShutdownWithContext(ctx); errs[i] == nil {
				return
			}
			s.stop()
			b.cut()
			ctx, cancel := context.WithTimeout(context.Background(), drainedAfter) // not the caller's, which is over
			defer cancel()
			b.fast.ShutdownWithContext(ctx)
		})
	}
	all.Wait()
	s.stop()
	return errors.Join(errs...)
}

// door makes conns of what a listener accepts.
type door struct {
	net.Listener
	b *binding
}

func (d *door) Accept() (net.Conn, error) {
	c, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if d.b.tls != nil {
		c = tls.Server(c, d.b.tls) // the handshake is the first read's
	}
	var raw [8]byte
	rand.Read(raw[:])
	x := newConn(c, d.b, "HTTP_"+hex.EncodeToString(raw[:]))
	d.b.mu.Lock()
	d.b.conns[x] = struct{}{}
	d.b.mu.Unlock()
	return x, nil
}

func (b *binding) forget(c *conn) {
	b.mu.Lock()
	delete(b.conns, c)
	b.mu.Unlock()
}

func (b *binding) cut() {
	b.mu.Lock()
	list := make([]*conn, 0, len(b.conns))
	for c := range b.conns {
		list = append(list, c)
	}
	b.mu.Unlock()
	for _, c := range list {
		c.failed(net.ErrClosed)
		c.Conn.Close()
	}
}

// state follows a connection from request to request.
func (b *binding) state(c net.Conn, s fasthttp.ConnState) {
	x, ok := c.(*conn)
	if !ok {
		return
	}
	switch s {
	case fasthttp.StateIdle:
		x.rest()
	case fasthttp.StateClosed, fasthttp.StateHijacked:
		x.failed(net.ErrClosed)
		x.finish()
	}
}

// expect answers a client that asks before it sends its body.
func (b *binding) expect(http *fasthttp.RequestCtx) int {
	limit := b.s.handler.Limit(string(http.Method()), string(http.Request.URI().PathOriginal()))
	if n := http.Request.Header.ContentLength(); limit > 0 && int64(n) > limit {
		b.s.handler.Refuse(http, fasthttp.StatusRequestEntityTooLarge, ErrBodyTooLarge)
		return fasthttp.StatusRequestEntityTooLarge
	}
	return fasthttp.StatusContinue
}

// received is asked when a request's header is there. Nothing of the body is read ahead but its first byte: a handler may
// refuse it.
func received(*fasthttp.RequestHeader) fasthttp.RequestConfig {
	return fasthttp.RequestConfig{MaxRequestBodySize: 1}
}

// smuggled reports whether a request says in two ways where it ends: a proxy before us may have read the other one
// (HTTP-1, RFC 9112 6.1).
func smuggled(h *fasthttp.RequestHeader) bool {
	if h.ContentLength() != -1 { // not chunked
		return false
	}
	for line := range bytes.Lines(h.RawHeaders()) {
		if name, _, ok := bytes.Cut(line, []byte(":")); ok && bytes.EqualFold(bytes.TrimSpace(name), []byte("Content-Length")) {
			return true
		}
	}
	return false
}

// broken answers what could not be read as a request.
func (b *binding) broken(http *fasthttp.RequestCtx, err error) {
	status := fasthttp.StatusBadRequest
	var small *fasthttp.ErrSmallBuffer
	switch {
	case errors.As(err, &small):
		status = fasthttp.StatusRequestHeaderFieldsTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		status = fasthttp.StatusRequestTimeout
	}
	b.s.handler.Refuse(http, status, nil)
	b.s.note(status)
	http.SetConnectionClose()
}

// serve runs one request.
func (b *binding) serve(http *fasthttp.RequestCtx) {
	c, ok := http.Conn().(*conn)
	if !ok {
		b.s.handler.Refuse(http, fasthttp.StatusInternalServerError, nil)
		return
	}
	q := &Request{HTTP: http, Binding: b.index, conn: c, ID: connID(c.id, b.count.Add(1))}
	q.ctx, q.cancel = context.WithCancelCause(b.s.ctx)
	q.Local, _ = netip.ParseAddrPort(c.LocalAddr().String())
	b.client(q)
	q.Log = b.s.log.With("conn", q.ID, "remote", q.Remote.String())
	c.begin(q)
	defer func() { b.s.note(http.Response.StatusCode()) }()
	defer func() {
		if v := recover(); v != nil {
			q.Log.Error("a request's handler panicked", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			http.Response.Reset()
			b.s.handler.Refuse(http, fasthttp.StatusInternalServerError, nil)
			http.SetConnectionClose()
		}
	}()
	if smuggled(&http.Request.Header) {
		b.s.handler.Refuse(http, fasthttp.StatusBadRequest, nil)
		http.SetConnectionClose()
		return
	}
	if !b.browser(q) {
		return
	}
	ctx, cancel := context.WithTimeout(q.ctx, admitWait)
	release, err := b.s.gate.Admit(ctx, q.Remote.Addr())
	cancel()
	if err != nil {
		b.refuse(q, err)
		return
	}
	q.OnDone(release)
	if b.s.cors.handle(q) {
		return
	}
	b.s.handler.Handle(q)
}

// refuse answers whom the gate does not let in.
func (b *binding) refuse(q *Request, err error) {
	q.Log.Warn("request refused", "error", err)
	var rate *RateError
	if errors.As(err, &rate) {
		q.HTTP.Response.Header.Set("Retry-After", strconv.Itoa(int(math.Ceil(rate.RetryAfter.Seconds()))))
		q.HTTP.Response.Header.Set("X-Retry-In", rate.RetryAfter.Round(time.Millisecond).String())
		b.s.handler.Refuse(q.HTTP, fasthttp.StatusTooManyRequests, err)
		return
	}
	b.s.handler.Refuse(q.HTTP, fasthttp.StatusForbidden, nil)
	q.HTTP.SetConnectionClose()
}

// quiet sends fasthttp's messages, which hold peers' bytes, to the debug level.
type quiet struct{ log *slog.Logger }

func (l quiet) Printf(format string, args ...any) {
	l.log.Debug("http", "text", fmt.Sprintf(format, args...))
}
