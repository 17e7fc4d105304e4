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
	"sync/atomic"
	"time"

	"github.com/gantryhq/gantry/engine"
	"github.com/gantryhq/gantry/internal/session"
)

// Server serves FTP and FTPS. Safe for concurrent use.
type Server struct {
	cfg       Config
	sessions  *session.Server
	engine    *engine.Engine
	conns     *engine.Server
	logins    *engine.Lane // of what comes before a session
	intakes   *engine.Intakes
	deflaters writers
	log       *slog.Logger
	now       func() time.Time
	banner    string
	bindings  []*binding
	count     atomic.Uint64
	failDelay time.Duration
	commands  map[string]command // read-only

	// ctx ends when the server is closed for good.
	ctx  context.Context
	stop context.CancelCauseFunc
}

// binding is a Binding with what is made of it.
type binding struct {
	Binding
	index     int
	tls       *tls.Config // nil: no certificate
	tlsData   *tls.Config
	files     [2]string
	certs     *engine.Certs
	overrides []override
}

type override struct {
	nets []netip.Prefix
	ip   netip.Addr // invalid: the local address
}

// What may run at once: of a user's commands, and of logins, which may hash or ask hooks.
const (
	userLane  = 16
	loginLane = 256
)

// maxWide bounds the wide buffers of uploads, which are 1 MiB each.
const maxWide = 16

var errShutdown = errors.New("ftp: the server is shutting down")

// New makes a server and reads its certificates. gate may be nil.
func New(cfg Config, e *engine.Engine, s *session.Server, gate engine.Gate, log *slog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	srv := &Server{
		cfg: cfg, sessions: s, engine: e, intakes: engine.NewIntakes(maxWide), log: log, now: time.Now, commands: commandTable(), failDelay: failDelay,
	}
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
	srv.conns = e.NewServer(gate, log)
	srv.logins = e.Lane("ftp logins", loginLane)
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
	suites, err := engine.CipherSuites(b.TLSCipherSuites)
	if err != nil {
		return nil, err
	}
	version := uint16(tls.VersionTLS12)
	if b.MinTLSVersion != 0 {
		version = tls.VersionTLS10 + uint16(b.MinTLSVersion-10)
	}
	n.certs, err = engine.NewCerts(engine.CertConfig{
		Cert: n.files[0], Key: n.files[1], CAs: s.cfg.paths(s.cfg.CACertificates), CRLs: s.cfg.paths(s.cfg.CARevocationLists),
		Clients: b.ClientAuthType, MinVersion: version, Suites: suites, Protocols: []string{"ftp"}, // FTP-6
	})
	if err != nil {
		return nil, fmt.Errorf("ftpd: certificates of bindings[%d]: %w", i, err)
	}
	n.tls = n.certs.Config()
	n.tlsData = dataTLS(n.tls)
	return n, nil
}

// Reload reads the certificates and revocation lists again. On an error the old ones stay.
func (s *Server) Reload() error {
	var errs []error
	for _, b := range s.bindings {
		if b.tls != nil {
			if err := b.certs.Reload(); err != nil {
				errs = append(errs, fmt.Errorf("ftpd: certificates of bindings[%d]: %w", b.index, err))
			}
		}
	}
	return errors.Join(errs...)
}

// tlsConfig is the configuration of one control connection. Where data must resume, the tickets carry the control
// connection's id and no other is taken (FTP-4).
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

// dataTLS is the configuration of the data connections that belong to a control connection's.
func (b *binding) dataTLS(control *tls.Config) *tls.Config {
	if control == b.tls {
		return b.tlsData
	}
	return dataTLS(control)
}

// dataTLS takes the tickets of the control connection, and says ftp-data where the client asks for that (FTP-6).
func dataTLS(control *tls.Config) *tls.Config {
	c := control.Clone()
	c.NextProtos = []string{"ftp-data", "ftp"}
	if c.ClientAuth != tls.NoClientCert {
		c.ClientAuth = tls.RequestClientCert // the control connection has asked; many clients show theirs only there
		verify := c.VerifyConnection
		c.VerifyConnection = func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return nil
			}
			return verify(s)
		}
	}
	if c.WrapSession == nil {
		c.WrapSession, c.UnwrapSession = control.EncryptTicket, control.DecryptTicket
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
	b := s.bindings[index]
	err := s.conns.Serve(ctx, l, func(ec *engine.Conn) engine.Handler { return newConn(s, b, ec) })
	if err != nil {
		return fmt.Errorf("ftp: %w", err)
	}
	return nil
}

// Shutdown stops accepting and ends idle connections with 421. Transfers may finish until ctx ends; then everything is
// closed. It returns when every connection has ended; the error is ctx's if some had to be cut.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.conns.Shutdown(ctx)
	s.stop(errShutdown)
	s.logins.Release()
	return err
}
