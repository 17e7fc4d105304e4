package ssh

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pkg/sftp"
	gossh "golang.org/x/crypto/ssh"
)

func TestFilesGoOverSFTP(t *testing.T) {
	s := startServer(t, nil)
	for _, cipher := range defaultCiphers() {
		t.Run(cipher, func(t *testing.T) {
			cl, err := s.dial(t, func(c *gossh.ClientConfig) { c.Ciphers = []string{cipher} })
			if err != nil {
				t.Fatal(err)
			}
			defer cl.Close()
			fc, err := sftp.NewClient(cl, sftp.UseConcurrentWrites(true))
			if err != nil {
				t.Fatal(err)
			}
			defer fc.Close()
			want := make([]byte, 5<<20+17)
			rand.Read(want)
			f, err := fc.Create("/" + cipher)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.ReadFrom(bytes.NewReader(want)); err != nil {
				t.Fatal(err)
			}
			f.Close()
			r, err := fc.Open("/" + cipher)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if _, err := r.WriteTo(&got); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("got %d bytes that differ from the %d that went up", got.Len(), len(want))
			}
		})
	}
}

func TestLogins(t *testing.T) {
	key, stranger := newKey(t), newKey(t)
	s := startServer(t, func(_ *Config, b *fakeBackend) {
		b.keys[string(key.PublicKey().Marshal())] = "alice"
	})
	for _, c := range []struct {
		name string
		auth []gossh.AuthMethod
		ok   bool
	}{
		{"password", []gossh.AuthMethod{gossh.Password("secret")}, true},
		{"wrong password", []gossh.AuthMethod{gossh.Password("guess")}, false},
		{"empty password", []gossh.AuthMethod{gossh.Password("")}, false},
		{"key", []gossh.AuthMethod{gossh.PublicKeys(key)}, true},
		{"strange key", []gossh.AuthMethod{gossh.PublicKeys(stranger)}, false},
		{"strange key, then key", []gossh.AuthMethod{gossh.PublicKeys(stranger, key)}, true},
		{"none", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl, err := s.dial(t, func(cfg *gossh.ClientConfig) { cfg.Auth = c.auth })
			if (err == nil) != c.ok {
				t.Fatalf("got error %v, want login %v", err, c.ok)
			}
			if err == nil {
				cl.Close()
			} else if err := (<-s.b.left).err; err == nil {
				t.Error("a failed login was recorded without an error")
			}
		})
	}
}

// AUTH-9: keys of an agent are reported once, when the peer leaves.
func TestFailedKeysAreReportedOnce(t *testing.T) {
	s := startServer(t, nil)
	_, err := s.dial(t, func(c *gossh.ClientConfig) {
		c.Auth = []gossh.AuthMethod{gossh.PublicKeys(newKey(t), newKey(t), newKey(t))}
	})
	if err == nil {
		t.Fatal("strangers came in")
	}
	g := <-s.b.left
	if g.username != "alice" || !slices.Equal(g.tried, []string{methodPublicKey}) {
		t.Errorf("got %q %q, want alice with one publickey", g.username, g.tried)
	}
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	if len(s.b.gone) != 1 || len(s.b.attempts) != 3 {
		t.Errorf("got %d reports of %d attempts, want 1 of 3", len(s.b.gone), len(s.b.attempts))
	}
}

// AUTH-4: the methods that can continue are the same for every name.
func TestMethodsAreTheSameForEveryUser(t *testing.T) {
	s := startServer(t, nil)
	var got []string
	for _, user := range []string{"alice", "nobody", "", strings.Repeat("x", 3000)} {
		_, err := s.dial(t, func(c *gossh.ClientConfig) { c.User, c.Auth = user, nil })
		if err == nil {
			t.Fatalf("%q came in with none", user)
		}
		got = append(got, err.Error())
	}
	if got[0] != got[1] || got[0] != got[3] {
		t.Errorf("answers differ: %q", got)
	}
}

func TestMaxAuthTries(t *testing.T) {
	s := startServer(t, func(c *Config, _ *fakeBackend) { c.MaxAuthTries = 2 })
	tries := 0
	s.dial(t, func(c *gossh.ClientConfig) {
		c.Auth = []gossh.AuthMethod{gossh.RetryableAuthMethod(gossh.PasswordCallback(func() (string, error) {
			tries++
			return "guess", nil
		}), 10)}
	})
	if tries != 2 {
		t.Errorf("the peer could try %d passwords, want 2", tries)
	}
}

// SSH-7: nothing but the sftp subsystem.
func TestOnlySFTPIsGranted(t *testing.T) {
	s := startServer(t, nil)
	cl := s.mustDial(t)
	for _, typ := range []string{"direct-tcpip", "forwarded-tcpip", "x11", "auth-agent@openssh.com", "direct-streamlocal@openssh.com", "tun@openssh.com", "nonsense"} {
		_, _, err := cl.OpenChannel(typ, nil)
		var oe *gossh.OpenChannelError
		if !errors.As(err, &oe) || oe.Reason != gossh.UnknownChannelType {
			t.Errorf("channel %s: got %v, want unknown channel type", typ, err)
		}
	}
	for _, req := range []string{"tcpip-forward", "streamlocal-forward@openssh.com", "cancel-tcpip-forward", "hostkeys-prove-00@openssh.com", "nonsense"} {
		if ok, _, err := cl.SendRequest(req, true, []byte("payload")); ok || err != nil {
			t.Errorf("global request %s: got %v %v, want refused", req, ok, err)
		}
	}
	ch, reqs, err := cl.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go gossh.DiscardRequests(reqs)
	for _, req := range []string{"shell", "exec", "pty-req", "env", "x11-req", "auth-agent-req@openssh.com", "signal", "window-change", "break"} {
		if ok, err := ch.SendRequest(req, true, gossh.Marshal(struct{ S string }{"sftp"})); ok || err != nil {
			t.Errorf("request %s: got %v %v, want refused", req, ok, err)
		}
	}
	for _, payload := range [][]byte{nil, {0, 0}, gossh.Marshal(struct{ S string }{"shell"}), gossh.Marshal(struct{ S string }{"sftp\x00"}), {0xff, 0xff, 0xff, 0xff, 's'}} {
		if ok, _ := ch.SendRequest("subsystem", true, payload); ok {
			t.Errorf("subsystem %q was granted", payload)
		}
	}
	for _, line := range []string{"", "sh -c id", "rsync --server .", "md5sum 'x", "scp\x00", "scp;id", "SCP -t .", "/bin/scp -t .", "sha512sum x"} {
		if ok, _ := ch.SendRequest("exec", true, gossh.Marshal(struct{ S string }{line})); ok {
			t.Errorf("exec %q was granted", line)
		}
	}
	if ok, err := ch.SendRequest("subsystem", true, gossh.Marshal(struct{ S string }{"sftp"})); !ok {
		t.Errorf("sftp was refused: %v", err)
	}
	if ok, _ := ch.SendRequest("subsystem", true, gossh.Marshal(struct{ S string }{"sftp"})); ok {
		t.Error("a second subsystem was granted")
	}
}

// SSH-4
func TestChannelsAreBounded(t *testing.T) {
	s := startServer(t, func(c *Config, _ *fakeBackend) { c.MaxChannels = 3 })
	cl := s.mustDial(t)
	var open []*sftp.Client
	for range 3 {
		c, err := sftp.NewClient(cl)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	_, _, err := cl.OpenChannel("session", nil)
	var oe *gossh.OpenChannelError
	if !errors.As(err, &oe) || oe.Reason != gossh.ResourceShortage {
		t.Fatalf("fourth channel: got %v, want resource shortage", err)
	}
	open[0].Close()
	eventually(t, "a closed channel makes room", func() bool {
		ch, _, err := cl.OpenChannel("session", nil)
		if err == nil {
			ch.Close()
		}
		return err == nil
	})
	cl.SendRequest("no-more-sessions@openssh.com", false, nil)
	if _, _, err = cl.OpenChannel("session", nil); !errors.As(err, &oe) || oe.Reason != gossh.Prohibited {
		t.Errorf("after no-more-sessions: got %v, want prohibited", err)
	}
}

func TestEachChannelIsASession(t *testing.T) {
	s := startServer(t, nil)
	cl := s.mustDial(t)
	for range 2 {
		if _, err := sftp.NewClient(cl); err != nil {
			t.Fatal(err)
		}
	}
	s.b.mu.Lock()
	o := slices.Clone(s.b.opened)
	s.b.refuse = errors.New("too many sessions")
	s.b.mu.Unlock()
	if len(o) != 2 || o[0].ID == o[1].ID || !strings.HasPrefix(o[0].ID, "SFTP_") || o[0].Protocol != "SFTP" || !strings.HasPrefix(o[0].Client, "SSH-2.0-Go") {
		t.Errorf("got %+v", o)
	}
	if _, err := sftp.NewClient(cl); err == nil {
		t.Error("a refused session was served")
	}
}

func TestKillEndsTheConnection(t *testing.T) {
	s := startServer(t, nil)
	cl := s.mustDial(t)
	fc, err := sftp.NewClient(cl)
	if err != nil {
		t.Fatal(err)
	}
	s.b.mu.Lock()
	kill := s.b.opened[0].Kill
	s.b.mu.Unlock()
	kill(errors.New("an administrator"))
	if err := fc.Wait(); err == nil {
		t.Log("the client saw a clean end")
	}
	cl.Wait()
}

func TestGateRefuses(t *testing.T) {
	released := make(chan struct{}, 1)
	var refuse atomic.Bool
	refuse.Store(true)
	cfg := testConfig(t)
	b := &fakeBackend{handlers: sftp.InMemHandler()}
	log := &syncBuffer{}
	srv, err := newServer(cfg, b, gateFunc(func(_ context.Context, a netip.Addr) (func(), error) {
		if a != netip.MustParseAddr("127.0.0.1") {
			t.Errorf("the gate was asked for %v", a)
		}
		if refuse.Load() {
			return nil, errors.New("banned")
		}
		return func() { released <- struct{}{} }, nil
	}), slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	s := serveTest(t, srv, b, log)
	if _, err := s.dial(t, nil); err == nil {
		t.Fatal("a banned peer came in")
	}
	refuse.Store(false)
	cl, err := s.dial(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	cl.Close()
	<-released
}

func TestShutdownWaitsForTransfersOnly(t *testing.T) {
	s := startServer(t, nil)
	idle, busy := s.mustDial(t), s.mustDial(t)
	if _, err := sftp.NewClient(idle); err != nil {
		t.Fatal(err)
	}
	fc, err := sftp.NewClient(busy)
	if err != nil {
		t.Fatal(err)
	}
	s.b.mu.Lock()
	id := s.b.opened[1].ID
	s.b.live[id] = true
	s.b.mu.Unlock()
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(context.Background()) }()
	idle.Wait()
	if _, err := fc.ReadDir("/"); err != nil {
		t.Errorf("the busy session was cut: %v", err)
	}
	if _, err := net.DialTimeout("tcp", s.addr, time.Second); err == nil {
		t.Error("the listener is still open")
	}
	s.b.mu.Lock()
	s.b.live[id] = false
	s.b.mu.Unlock()
	if err := <-done; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func TestShutdownCutsAfterItsTime(t *testing.T) {
	s := startServer(t, nil)
	cl := s.mustDial(t)
	if _, err := sftp.NewClient(cl); err != nil {
		t.Fatal(err)
	}
	s.b.mu.Lock()
	s.b.live[s.b.opened[0].ID] = true
	s.b.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want deadline exceeded", err)
	}
	cl.Wait()
}

// SSH-1: a panic ends one connection.
func TestPanicEndsOnlyItsConnection(t *testing.T) {
	s := startServer(t, nil)
	defer s.panics.Store(0)
	other := s.mustDial(t)
	fc, err := sftp.NewClient(other)
	if err != nil {
		t.Fatal(err)
	}
	s.b.run = func(context.Context, io.ReadWriteCloser, func()) error { panic("boom") }
	cl := s.mustDial(t)
	sftp.NewClient(cl)
	cl.Wait()
	if s.panics.Load() != 1 || !strings.Contains(s.log.String(), "boom") {
		t.Errorf("panics %d, log %s", s.panics.Load(), s.log)
	}
	if _, err := fc.ReadDir("/"); err != nil {
		t.Error(err)
	}
}

func TestEnabledCommandRuns(t *testing.T) { // SSH-7
	s := startServer(t, nil)
	sess, err := s.mustDial(t).NewSession()
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	sess.Stdin, sess.Stdout, sess.Stderr = strings.NewReader("input"), &out, &errs
	err = sess.Run(`md5sum 'a b' "c\"d" e\ f`)
	var exit *gossh.ExitError
	if !errors.As(err, &exit) || exit.ExitStatus() != 4 {
		t.Errorf("got %v, want exit status 4", err)
	}
	if out.String() != "input" || errs.String() != `md5sum|a b|c"d|e f` {
		t.Errorf("got %q and %q", out.String(), errs.String())
	}
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	if c := s.b.opened[0]; c.Protocol != protocolSSH || !strings.HasPrefix(c.ID, "SSH_") {
		t.Errorf("opened as %+v", c)
	}
}
