package ssh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/ssh/program"
	"github.com/gantryhq/gantry/ssh/sftp"
)

// Gate decides who may connect, before anything is read. release is called when the connection has ended.
type Gate interface {
	Admit(ctx context.Context, addr netip.Addr) (release func(), err error)
}

// Server serves SFTP over SSH. Safe for concurrent use.
type Server struct {
	cfg     Config
	gate    Gate // nil lets everyone in
	log     *slog.Logger
	backend backend
	pools   *buffers
	door    *doorway
	window  windowBudget
	buffers sftp.Buffers // lent to the SFTP sessions

	programs *program.Runner
	steers   bool
	version  string
	// now is immutable; tests shorten the waits.
	grace, patience, keepalive time.Duration

	shown  atomic.Pointer[shown]
	panics atomic.Uint64

	// ctx ends when the server is closed for good: it outlives Serve's, so that transfers can be drained.
	ctx  context.Context
	stop context.CancelCauseFunc

	mu        sync.Mutex // guards what follows
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	draining  bool
	running   sync.WaitGroup // one per connection
}

// shown is what clients see and Reload replaces.
type shown struct {
	cfg    Config
	ssh    gossh.ServerConfig // without callbacks; copied for each connection
	keys   []HostKey
	banner string
}

// errClosed ends what is left when the server closes.
var errClosed = errors.New("ssh: the server is shutting down")

// New makes a server and reads or makes its host keys. gate may be nil.
func New(cfg Config, s *session.Server, gate Gate, log *slog.Logger) (*Server, error) {
	b := &sessions{Server: s}
	srv, err := newServer(cfg, b, gate, log)
	if err != nil {
		return nil, err
	}
	b.srv = srv
	return srv, nil
}

func newServer(cfg Config, b backend, gate Gate, log *slog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	limit, err := parseMaxStartups(cfg.MaxStartups)
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, gate: gate, log: log, backend: b,
		pools: newBuffers(), programs: program.NewRunner(log),
		door: &doorway{
			limit: limit, perSource: cfg.MaxHandshakes,
			chance: func() int { return rand.IntN(100) }, sources: map[netip.Addr]int{},
		},
		steers:    cfg.CipherSteering && hardwareAES(),
		version:   cfg.identification(),
		grace:     time.Duration(cfg.LoginGraceTime) * time.Second,
		patience:  kexInitPatience,
		keepalive: time.Duration(cfg.KeepaliveInterval) * time.Second,
		listeners: map[net.Listener]struct{}{},
		conns:     map[*conn]struct{}{},
	}
	s.window.left.Store(int64(cfg.WindowBudgetMB) << 20)
	// Connections are meant to outlive the call that accepted them: Shutdown ends them.
	s.ctx, s.stop = context.WithCancelCause(context.Background())
	if err := s.Reload(); err != nil {
		return nil, err
	}
	for _, l := range cfg.LegacyAlgorithms() {
		log.Warn("a legacy algorithm is enabled", "setting", l)
	}
	return s, nil
}

// Reload reads host keys, certificates and the login banner again. On an error the old ones stay. Connections
// keep what they began with.
func (s *Server) Reload() error {
	cfg := s.cfg
	if old := s.shown.Load(); old != nil {
		cfg = old.cfg
	}
	return s.ReloadConfig(cfg)
}

// ReloadConfig is Reload with another configuration, of which it takes what a handshake shows: keys,
// certificates, banner and algorithms. The rest needs a restart.
func (s *Server) ReloadConfig(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	signers, keys, err := loadHostKeys(&cfg, s.log)
	if err != nil {
		return err
	}
	n := &shown{cfg: cfg, keys: keys}
	if cfg.LoginBannerFile != "" {
		b, err := readBounded(cfg.path(cfg.LoginBannerFile))
		if err != nil {
			return fmt.Errorf("ssh: login_banner_file: %w", err)
		}
		n.banner = string(b)
	}
	// What x/crypto would otherwise add by itself stays out (hmac-sha1, group14-sha1): an empty list means ours.
	n.ssh = gossh.ServerConfig{
		Config: gossh.Config{
			KeyExchanges:   orDefault(cfg.KexAlgorithms, defaultKexAlgorithms()),
			Ciphers:        orDefault(cfg.Ciphers, defaultCiphers()),
			MACs:           orDefault(cfg.MACs, defaultMACs()),
			RekeyThreshold: uint64(cfg.RekeyMB) << 20, // SSH-4
		},
		PublicKeyAuthAlgorithms: orDefault(cfg.PublicKeyAlgorithms, defaultPublicKeyAlgorithms()),
		MaxAuthTries:            cfg.MaxAuthTries,
		ServerVersion:           s.version,
	}
	for _, k := range signers {
		n.ssh.AddHostKey(k)
	}
	if n.banner != "" {
		n.ssh.BannerCallback = func(gossh.ConnMetadata) string { return n.banner }
	}
	s.shown.Store(n)
	return nil
}

// HostKeys are the keys in use, for the log and the status page.
func (s *Server) HostKeys() []HostKey { return slices.Clone(s.shown.Load().keys) }

// Serve accepts connections on l until ctx or Shutdown ends it, and closes l. The error is nil after
// either. Connections go on until Shutdown.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
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

	const longest = time.Second
	delay := 5 * time.Millisecond
	for {
		nc, err := l.Accept()
		if err == nil {
			delay = 5 * time.Millisecond
			s.accepted(nc)
			continue
		}
		if ctx.Err() != nil || s.isDraining() {
			return nil
		}
		// Too many open files and aborted connections pass; a closed listener does not.
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("ssh: accept on %s: %w", l.Addr(), err)
		}
		s.log.Warn("accept failed", "proto", protocolSSH, "err", err)
		select {
		case <-time.After(delay):
		case <-ctx.Done():
		}
		delay = min(2*delay, longest)
	}
}

// accepted runs on the accept loop and does not block.
func (s *Server) accepted(nc net.Conn) {
	remote := addrPort(nc.RemoteAddr().String())
	leave, err := s.door.enter(remote.Addr())
	if err != nil {
		s.log.Warn("connection dropped", "proto", protocolSSH, "remote", remote.Addr(), "err", err)
		reset(nc)
		return
	}
	c := &conn{srv: s, nc: nc, remote: remote, local: addrPort(nc.LocalAddr().String()), id: newID(), loggedIn: leave}
	s.mu.Lock()
	if s.draining {
		s.mu.Unlock()
		leave()
		reset(nc)
		return
	}
	s.conns[c] = struct{}{}
	s.running.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.running.Done()
		defer func() {
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		}()
		c.run()
	}()
}

// reset closes without a FIN exchange: what is refused costs us no TIME_WAIT.
func reset(nc net.Conn) {
	if tcp, ok := nc.(interface{ SetLinger(int) error }); ok {
		tcp.SetLinger(0)
	}
	nc.Close()
}

func (s *Server) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// Shutdown stops accepting and lets transfers finish until ctx ends; connections without one are closed at
// once. It returns when all connections have ended; the error is ctx's if some had to be cut.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	for l := range s.listeners {
		l.Close()
	}
	s.mu.Unlock()

	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		s.closeIdle()
		select {
		case <-done:
			s.stop(errClosed)
			return nil
		case <-tick.C:
			continue
		case <-ctx.Done():
		}
		s.stop(errClosed)
		for _, c := range s.all() {
			c.close(errClosed)
		}
		<-done
		return ctx.Err()
	}
}

// closeIdle ends the connections that have no transfer under way.
func (s *Server) closeIdle() {
	for _, c := range s.all() {
		if !slices.ContainsFunc(c.sessionIDs(), s.backend.busy) {
			c.close(errClosed)
		}
	}
}

func (s *Server) all() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		out = append(out, c)
	}
	return out
}

// Listen opens the listener of a binding.
func (b Binding) Listen(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig // its connections have TCP keep-alive
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(b.Address, fmt.Sprint(b.Port)))
	if err != nil {
		return nil, fmt.Errorf("ssh: %w", err)
	}
	return l, nil
}
