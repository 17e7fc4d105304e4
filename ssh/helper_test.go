package ssh

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pkg/sftp"
	gossh "golang.org/x/crypto/ssh"

	"github.com/gantryhq/gantry/internal/session"
)

// fakeBackend knows alice with the password "secret" and the keys in keys, and serves a tree in memory.
type fakeBackend struct {
	mu       sync.Mutex
	keys     map[string]string // wire form: whose it is
	attempts []session.Attempt
	gone     []goneBy
	opened   []session.Conn
	users    []string // of opened
	refuse   error    // of open
	live     map[string]bool
	judge    func(a *session.Attempt) (login, error)                              // in place of the rules above
	run      func(ctx context.Context, rw io.ReadWriteCloser, widen func()) error // nil: SFTP in memory
	handlers sftp.Handlers
	left     chan goneBy

	grace, patience time.Duration // of the server; 0 leaves them alone
}

type goneBy struct {
	username string
	tried    []string
	err      error
}

type fakeLogin string

func (l fakeLogin) Username() string { return string(l) }

func (b *fakeBackend) authenticate(_ context.Context, a *session.Attempt) (login, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.attempts = append(b.attempts, *a)
	if b.judge != nil {
		return b.judge(a)
	}
	if a.Method == methodPassword && a.Username == "alice" && a.Password == "secret" {
		return fakeLogin("alice"), nil
	}
	if who := b.keys[string(a.PublicKey)]; who != "" && a.Method == methodPublicKey {
		return fakeLogin(who), nil
	}
	return nil, errors.New("wrong credential")
}

func (b *fakeBackend) abandoned(_ session.Conn, username string, tried []string, err error) {
	g := goneBy{username, tried, err}
	b.mu.Lock()
	b.gone = append(b.gone, g)
	b.mu.Unlock()
	select {
	case b.left <- g:
	default:
	}
}

func (b *fakeBackend) open(_ context.Context, l login, c session.Conn) (subsystem, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refuse != nil {
		return nil, b.refuse
	}
	b.opened = append(b.opened, c)
	b.users = append(b.users, l.Username())
	return &fakeSession{b, c.ID}, nil
}

func (b *fakeBackend) busy(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.live[id]
}

type fakeSession struct {
	b  *fakeBackend
	id string
}

func (s *fakeSession) serve(ctx context.Context, rw io.ReadWriteCloser, widen func()) error {
	if s.b.run != nil {
		return s.b.run(ctx, rw, widen)
	}
	return sftp.NewRequestServer(rw, s.b.handlers).Serve()
}

func (s *fakeSession) exec(_ context.Context, rw io.ReadWriteCloser, stderr io.Writer, words []string) uint32 {
	io.Copy(rw, rw)
	stderr.Write([]byte(strings.Join(words, "|")))
	return uint32(len(words))
}

func (s *fakeSession) close() error { return nil }

// hostKeyDir has an Ed25519 key only: RSA keys take long to make.
func testConfig(t testing.TB) Config {
	cfg := DefaultConfig()
	cfg.ConfigDir = t.TempDir()
	cfg.HostKeys = []string{"id_ed25519"}
	cfg.Version = "test"
	return cfg
}

type testServer struct {
	*Server
	b    *fakeBackend
	addr string
	log  *syncBuffer
}

// startServer serves on loopback until the test ends. change may alter the configuration or the backend.
func startServer(t testing.TB, change func(*Config, *fakeBackend)) *testServer {
	t.Helper()
	cfg := testConfig(t)
	b := &fakeBackend{keys: map[string]string{}, live: map[string]bool{}, handlers: sftp.InMemHandler(), left: make(chan goneBy, 1000)}
	if change != nil {
		change(&cfg, b)
	}
	log := &syncBuffer{}
	s, err := newServer(cfg, b, nil, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	if b.grace > 0 {
		s.grace = b.grace
	}
	if b.patience > 0 {
		s.patience = b.patience
	}
	return serveTest(t, s, b, log)
}

func serveTest(t testing.TB, s *Server, b *fakeBackend, log *syncBuffer) *testServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(t.Context(), l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if s.panics.Load() > 0 {
			t.Errorf("panics: %s", log)
		}
	})
	return &testServer{s, b, l.Addr().String(), log}
}

func (s *testServer) dial(t testing.TB, change func(*gossh.ClientConfig)) (*gossh.Client, error) {
	cfg := &gossh.ClientConfig{
		User: "alice", Auth: []gossh.AuthMethod{gossh.Password("secret")},
		HostKeyCallback: gossh.InsecureIgnoreHostKey(), Timeout: 10 * time.Second,
	}
	if change != nil {
		change(cfg)
	}
	return gossh.Dial("tcp", s.addr, cfg)
}

func (s *testServer) mustDial(t testing.TB) *gossh.Client {
	t.Helper()
	c, err := s.dial(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func newKey(t testing.TB) gossh.Signer {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := gossh.NewSignerFromKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// eventually waits for a state that has no event to wait on.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within 10 s: %s", what)
}

type gateFunc func(context.Context, netip.Addr) (func(), error)

func (f gateFunc) Admit(ctx context.Context, a netip.Addr) (func(), error) { return f(ctx, a) }
