package dav

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gantryhq/gantry/engine"
	"github.com/gantryhq/gantry/internal/session"
)

// Gate decides who may come in: connections by Admit, and each request behind the first by Take, which may wait for a
// little.
type Gate interface {
	engine.Gate
	Take(ctx context.Context, addr netip.Addr) error
	// Unlimited reports whether Take lets everybody pass at once, so that it need not be called now.
	Unlimited() bool
}

// TooFast is a Gate's error for who comes too often.
type TooFast struct {
	After time.Duration // until the next may come
	Err   error
}

func (e *TooFast) Error() string { return e.Err.Error() }
func (e *TooFast) Unwrap() error { return e.Err }

// ErrBusy is a Gate's error when there are too many.
var ErrBusy = errors.New("too many connections")

// open is the gate without one.
type open struct{}

func (open) Admit(context.Context, netip.Addr) (func(), error) { return func() {}, nil }
func (open) Take(context.Context, netip.Addr) error            { return nil }
func (open) Unlimited() bool                                   { return true }

// Server serves WebDAV. Safe for concurrent use.
type Server struct {
	cfg      Config
	sessions *session.Server
	engine   *engine.Engine
	gate     Gate
	logins   *engine.Lane // of requests before there is a session
	intakes  *engine.Intakes
	log      *slog.Logger
	now      func() time.Time
	clock    clock
	methods  map[string]method // read-only
	allow    string            // of the Allow field
	types    contentTypes      // read-only
	cors     *cors             // nil: off
	logged   *logins
	bindings []*door
	count    atomic.Uint64
	draining atomic.Bool
	answers  [6]atomic.Uint64 // by class of status

	finds *findCache
	// walkLimit is how many resources a PROPFIND of depth infinity may tell of; 0 refuses it (DAV-2).
	walkLimit int

	header, idle, stall time.Duration
	rest                time.Duration // how long an idle connection keeps its session
}

// door is a Binding with what is made of it.
type door struct {
	Binding
	index        int
	conns        *engine.Server
	tls          *tls.Config // nil: in clear
	certs        *engine.Certs
	certificates bool // of clients are a login
	proxies      []netip.Prefix
}

// restAfter is how long an idle connection keeps its session.
const restAfter = 30 * time.Second

// What may run at once: of a user's requests, and of logins, which may hash or ask hooks.
const (
	userLane  = 16
	loginLane = 256
)

// maxWide bounds the wide buffers of bodies, which are 1 MiB each.
const maxWide = 16

// New makes a server and reads its certificates. gate may be nil.
func New(cfg Config, e *engine.Engine, s *session.Server, gate Gate, log *slog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if gate == nil {
		gate = open{}
	}
	table := methodTable()
	srv := &Server{
		cfg: cfg, sessions: s, engine: e, intakes: engine.NewIntakes(maxWide), gate: gate, log: log, now: time.Now, methods: table, allow: allowed(table),
		types: newContentTypes(cfg.Cache.MimeTypes.CustomMappings), cors: newCORS(cfg.CORS, table), logged: newLogins(cfg.Cache.Users),
		finds: newFindCache(), walkLimit: cfg.DepthInfinityLimit,
		header: seconds(cfg.HeaderTimeout), idle: seconds(cfg.KeepAliveTimeout), stall: seconds(cfg.StallTimeout), rest: restAfter,
	}
	for i, b := range cfg.Bindings {
		n, err := srv.bind(i, b)
		if err != nil {
			return nil, err
		}
		srv.bindings = append(srv.bindings, n)
	}
	srv.logins = e.Lane("dav logins", loginLane)
	return srv, nil
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

// direct is the gate of a binding: its proxies are nobody's client.
type direct struct {
	Gate
	b *door
}

func (g direct) Admit(ctx context.Context, addr netip.Addr) (func(), error) {
	if g.b.trusts(addr) {
		return func() {}, nil // AUTH-9: who is behind them is asked about at each request
	}
	return g.Gate.Admit(ctx, addr)
}

func (s *Server) bind(i int, b Binding) (*door, error) {
	n := &door{Binding: b, index: i}
	n.conns = s.engine.NewServer(direct{s.gate, n}, s.log)
	if b.ProxyMode == 0 {
		n.proxies, _ = engine.Networks(b.ProxyAllowed) // Validate has read them
	}
	if !b.EnableHTTPS || !b.IsValid() {
		return n, nil
	}
	files := [2]string{s.cfg.path(b.CertificateFile), s.cfg.path(b.CertificateKeyFile)}
	if files[0] == "" {
		files = [2]string{s.cfg.path(s.cfg.CertificateFile), s.cfg.path(s.cfg.CertificateKeyFile)}
	}
	suites, err := engine.CipherSuites(b.TLSCipherSuites)
	if err != nil {
		return nil, err
	}
	version := uint16(tls.VersionTLS12)
	if b.MinTLSVersion != 0 {
		version = tls.VersionTLS10 + uint16(b.MinTLSVersion-10)
	}
	n.certs, err = engine.NewCerts(engine.CertConfig{
		Cert: files[0], Key: files[1], CAs: s.cfg.paths(s.cfg.CACertificates), CRLs: s.cfg.paths(s.cfg.CARevocationLists),
		Clients: b.ClientAuthType, MinVersion: version, Suites: suites, Protocols: []string{"http/1.1"},
	})
	if err != nil {
		return nil, fmt.Errorf("webdavd: certificates of bindings[%d]: %w", i, err)
	}
	n.tls = n.certs.Config()
	n.certificates = b.ClientAuthType != 0 && len(s.cfg.CACertificates) > 0
	return n, nil
}

// trusts reports whether the headers of a peer name the client. The peer of a UNIX socket has no address: its file's
// permissions say who it may be.
func (b *door) trusts(a netip.Addr) bool {
	return len(b.proxies) > 0 && (!a.IsValid() || contains(b.proxies, a))
}

func (b *door) isProxy(c *engine.Conn) bool { return b.trusts(c.Remote().Addr()) }

// date is the Date of an answer now.
func (s *Server) date() string { return s.clock.date(s.now()) }

// Reload reads the certificates and revocation lists again. On an error the old ones stay.
func (s *Server) Reload() error {
	var errs []error
	for _, b := range s.bindings {
		if b.certs != nil {
			if err := b.certs.Reload(); err != nil {
				errs = append(errs, fmt.Errorf("webdavd: certificates of bindings[%d]: %w", b.index, err))
			}
		}
	}
	return errors.Join(errs...)
}

// Serve accepts connections for the binding of that index until ctx or Shutdown ends it, and closes l. The error is nil
// after either. Connections go on until Shutdown.
func (s *Server) Serve(ctx context.Context, index int, l net.Listener) error {
	b := s.bindings[index]
	if err := b.conns.Serve(ctx, l, func(ec *engine.Conn) engine.Handler { return newConn(s, b, ec) }); err != nil {
		return fmt.Errorf("dav: %w", err)
	}
	return nil
}

// Shutdown stops accepting and ends idle connections. Requests may be served until ctx ends; then everything is closed. It
// returns when every connection has ended; the error is ctx's if some had to be cut.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	errs := make([]error, len(s.bindings))
	var all sync.WaitGroup
	for i, b := range s.bindings {
		all.Go(func() { errs[i] = b.conns.Shutdown(ctx) })
	}
	all.Wait()
	s.logins.Release()
	return errors.Join(errs...)
}

// Answers counts the requests answered since New by the class of their status: 2xx at index 2.
func (s *Server) Answers() (n [6]uint64) {
	for i := range n {
		n[i] = s.answers[i].Load()
	}
	return n
}
