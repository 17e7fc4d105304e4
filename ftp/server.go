package ftp

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gantryhq/gantry/internal/session"
)

// Gate decides who may connect, before anything is read. release is called when the connection has ended.
type Gate interface {
	Admit(ctx context.Context, addr netip.Addr) (release func(), err error)
}

// Server serves FTP and FTPS. Safe for concurrent use.
type Server struct {
	cfg       Config
	sessions  *session.Server
	gate      Gate // nil lets everyone in
	log       *slog.Logger
	now       func() time.Time
	banner    string
	bindings  []*binding
	count     atomic.Uint64
	failDelay time.Duration
	commands  map[string]command // read-only
	buffers   sync.Pool          // *[]byte of chunkSize

	// ctx ends when the server is closed for good.
	ctx  context.Context
	stop context.CancelCauseFunc

	mu        sync.Mutex // guards what follows
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	draining  bool
	running   sync.WaitGroup // one per connection
}

// binding is a Binding with what is made of it.
type binding struct {
	Binding
	index     int
	tls       *tls.Config // nil: no certificate
	files     [2]string
	cert      atomic.Pointer[tls.Certificate]
	overrides []override
}

type override struct {
	nets []netip.Prefix
	ip   netip.Addr // invalid: the local address
}

var errShutdown = errors.New("ftp: the server is shutting down")

// New makes a server and reads its certificates. gate may be nil.
func New(cfg Config, s *session.Server, gate Gate, log *slog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	srv := &Server{
		cfg: cfg, sessions: s, gate: gate, log: log, now: time.Now, commands: commandTable(), failDelay: failDelay,
		listeners: map[net.Listener]struct{}{}, conns: map[*conn]struct{}{},
	}
	srv.buffers.New = func() any { b := make([]byte, chunkSize); return &b }
	switch {
	case cfg.BannerFile != "":
		b, err := os.ReadFile(cfg.path(cfg.BannerFile))
		if err != nil {
			return nil, fmt.Errorf("ftpd.banner_file: %w", err)
		}
		if len(b) > 64<<10 {
			return nil, fmt.Errorf("ftpd.banner_file: %d bytes are too many for a greeting", len(b))
		}
		srv.banner = strings.TrimRight(strings.ReplaceAll(string(b), "\r\n", "\n"), "\n")
	case cfg.Banner != "" && cfg.Banner != "short":
		srv.banner = cfg.Banner
	case cfg.ShortVersion || cfg.Banner == "short" || cfg.Version == "":
		srv.banner = "Gantry ready"
	default:
		srv.banner = "Gantry " + cfg.Version + " ready"
	}
	for i, b := range cfg.Bindings {
		n, err := srv.bind(i, b)
		if err != nil {
			return nil, err
		}
		srv.bindings = append(srv.bindings, n)
	}
	// Connections are meant to outlive the call that accepted them: Shutdown ends them.
	srv.ctx, srv.stop = context.WithCancelCause(context.Background())
	return srv, nil
}

func (s *Server) bind(i int, b Binding) (*binding, error) {
	n := &binding{Binding: b, index: i, files: [2]string{s.cfg.path(b.CertificateFile), s.cfg.path(b.CertificateKeyFile)}}
	if n.files[0] == "" {
		n.files = [2]string{s.cfg.path(s.cfg.CertificateFile), s.cfg.path(s.cfg.CertificateKeyFile)}
	}
	for _, o := range b.PassiveIPOverrides {
		v := override{}
		v.ip, _ = netip.ParseAddr(o.IP)
		for _, p := range o.Networks {
			v.nets = append(v.nets, netip.MustParsePrefix(p)) // Validate has parsed it
		}
		n.overrides = append(n.overrides, v)
	}
	if n.files[0] == "" || !b.IsValid() {
		return n, nil
	}
	if err := n.load(); err != nil {
		return nil, err
	}
	suites, err := cipherSuites(b.TLSCipherSuites)
	if err != nil {
		return nil, err
	}
	version := uint16(tls.VersionTLS12)
	if b.MinTLSVersion != 0 {
		version = tls.VersionTLS10 + uint16(b.MinTLSVersion-10)
	}
	n.tls = &tls.Config{
		MinVersion: version, CipherSuites: suites,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return n.cert.Load(), nil },
	}
	return n, nil
}

func (b *binding) load() error {
	c, err := tls.LoadX509KeyPair(b.files[0], b.files[1])
	if err != nil {
		return fmt.Errorf("ftpd: certificate of bindings[%d]: %w", b.index, err)
	}
	b.cert.Store(&c)
	return nil
}

// Reload reads the certificates again. On an error the old ones stay.
func (s *Server) Reload() error {
	var errs []error
	for _, b := range s.bindings {
		if b.tls != nil {
			errs = append(errs, b.load())
		}
	}
	return errors.Join(errs...)
}

// tlsConfig is the configuration of one control connection and its data connections. Where data must resume, the
// tickets carry the control connection's id and no other is taken (FTP-4).
func (b *binding) tlsConfig() *tls.Config {
	if b.TLSSessionReuse == 0 {
		return b.tls
	}
	id := rand.Text()
	c := b.tls.Clone()
	c.WrapSession = func(cs tls.ConnectionState, ss *tls.SessionState) ([]byte, error) {
		ss.Extra = [][]byte{[]byte(id)}
		return c.EncryptTicket(cs, ss)
	}
	c.UnwrapSession = func(ticket []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		ss, err := c.DecryptTicket(ticket, cs)
		if err != nil || ss == nil || len(ss.Extra) != 1 || string(ss.Extra[0]) != id {
			return nil, nil // a full handshake
		}
		return ss, nil
	}
	return c
}

// Listen opens the binding's port.
func (b Binding) Listen(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", net.JoinHostPort(b.Address, strconv.Itoa(b.Port)))
}

// Serve accepts connections for the binding of that index until ctx or Shutdown ends it, and closes l. The error is
// nil after either. Connections go on until Shutdown.
func (s *Server) Serve(ctx context.Context, index int, l net.Listener) error {
	s.mu.Lock()
	if s.draining {
		s.mu.Unlock()
		l.Close()
		return nil
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	defer func() {
		l.Close()
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
	}()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	delay := 5 * time.Millisecond
	for {
		nc, err := l.Accept()
		if err == nil {
			delay = 5 * time.Millisecond
			s.accepted(s.bindings[index], nc)
			continue
		}
		if ctx.Err() != nil || s.isDraining() {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("ftp: accept on %s: %w", l.Addr(), err)
		}
		s.log.Warn("accept failed", "proto", protocol, "err", err)
		select {
		case <-time.After(delay):
		case <-ctx.Done():
		}
		delay = min(2*delay, time.Second)
	}
}

// accepted runs on the accept loop and does not block.
func (s *Server) accepted(b *binding, nc net.Conn) {
	c := newConn(s, b, nc)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		nc.Close()
		return
	}
	s.conns[c] = struct{}{}
	s.running.Go(func() {
		defer func() {
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		}()
		c.run()
	})
}

func (s *Server) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// Shutdown stops accepting and ends idle connections with 421. Transfers may finish until ctx ends; then everything is
// closed. It returns when every connection has ended; the error is ctx's if some had to be cut.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	for l := range s.listeners {
		l.Close()
	}
	for c := range s.conns {
		c.drain()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { s.running.Wait(); close(done) }() // ends once everything is closed below
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.stop(errShutdown)
	<-done
	return err
}
