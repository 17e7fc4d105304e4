package pprof

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hasher takes "$2" and the password for a hash of it, and counts its work.
type hasher struct{ verified, dummies atomic.Int64 }

func (h *hasher) Verify(_ context.Context, stored, plain string) (bool, error) {
	h.verified.Add(1)
	if stored == "$2broken" {
		return false, errors.New("not a hash")
	}
	return stored == "$2"+plain, nil
}

func (h *hasher) Dummy(context.Context, string) error {
	h.dummies.Add(1)
	return nil
}

// running is a server of a test.
type running struct {
	*Server
	t       *testing.T
	url     string
	client  *http.Client
	hasher  *hasher
	users   string
	mu      sync.Mutex
	refused []string
}

func start(t *testing.T, cfg Config, change func(*Deps)) *running {
	t.Helper()
	r := &running{t: t, hasher: &hasher{}, client: &http.Client{Timeout: time.Minute, Transport: &http.Transport{}}}
	deps := Deps{
		Metrics: NewMetrics(Build{"1.2.3", "abc", "go1"}, Names{Reasons: []string{"wrong password"}, Hooks: []string{"startup"}}),
		Checks:  []Check{{"provider", func(context.Context) error { return nil }}},
		Log:     slog.New(slog.DiscardHandler), Passwords: r.hasher,
		Refused: func(_ context.Context, addr netip.Addr, name string, err error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.refused = append(r.refused, fmt.Sprintf("%s %s: %v", addr, name, err))
		},
	}
	if change != nil {
		change(&deps)
	}
	dir := t.TempDir()
	r.users = filepath.Join(dir, "users")
	if cfg.AuthUserFile != "" {
		write(t, r.users, "# of the test\n\nann:$2secret\nbob:$2broken\n")
	}
	s, err := New(cfg, dir, deps)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.Server, r.url = s, "http://"+l.Addr().String()
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }() // ends with Shutdown
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		r.client.CloseIdleConnections()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return r
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (r *running) get(path string, change ...func(*http.Request)) (int, string, http.Header) {
	r.t.Helper()
	req, err := http.NewRequest("GET", r.url+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range change {
		f(req)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(body), resp.Header
}

func as(name, password string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(name, password) }
}

// AUTH-3, AUTH-5: every path but /healthz asks for the login, also those that are not there.
func TestEveryPathButHealthAsksForALogin(t *testing.T) {
	r := start(t, Config{AuthUserFile: "users", EnableProfiler: true}, nil)
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/cmdline", "/debug/pprof/profile?seconds=1", "/", "/nothing", "//metrics", "/metrics/", "/healthz/../metrics"} {
		if code, _, h := r.get(path); code != 401 || !strings.HasPrefix(h.Get("WWW-Authenticate"), `Basic realm="Gantry telemetry"`) {
			t.Errorf("%s without a login: %d %q", path, code, h.Get("WWW-Authenticate"))
		}
	}
	if code, body, _ := r.get("/healthz"); code != 200 || body != "ok" {
		t.Errorf("/healthz: %d %q", code, body)
	}
	if len(r.refused) != 0 {
		t.Errorf("a request without credentials is a failed login: %q", r.refused)
	}
	for _, c := range []struct {
		name, password string
		code           int
	}{{"ann", "secret", 200}, {"ann", "wrong", 401}, {"ann", "", 401}, {"", "secret", 401}, {"eve", "secret", 401}, {"eve", "", 401}, {"bob", "broken", 401}} {
		if code, _, _ := r.get("/metrics", as(c.name, c.password)); code != c.code {
			t.Errorf("%q %q: got %d, want %d", c.name, c.password, code, c.code)
		}
	}
	if code, _, _ := r.get("/healthz", as("ann", "wrong")); code != 401 {
		t.Errorf("a guess at /healthz: %d", code)
	}
	if len(r.refused) != 7 || r.refused[0] != "127.0.0.1 ann: wrong password" || !strings.HasPrefix(r.refused[3], "127.0.0.1 eve: unknown user") {
		t.Errorf("refused: %q", r.refused)
	}
}

// AUTH-4: a name that is not there costs a hash, as a wrong password does. A right one costs one, once.
func TestUnknownNamesCostAHash(t *testing.T) {
	r := start(t, Config{AuthUserFile: "users"}, nil)
	r.get("/metrics", as("eve", "secret"))
	if v, d := r.hasher.verified.Load(), r.hasher.dummies.Load(); v != 0 || d != 1 {
		t.Errorf("an unknown name: %d hashes, %d for nothing", v, d)
	}
	for range 3 {
		r.get("/metrics", as("ann", "secret"))
	}
	if v := r.hasher.verified.Load(); v != 1 {
		t.Errorf("three scrapes with the right password: %d hashes, want 1", v)
	}
	for range 2 {
		r.get("/metrics", as("ann", "wrong"))
	}
	if v := r.hasher.verified.Load(); v != 3 {
		t.Errorf("two wrong passwords more: %d hashes, want 3", v)
	}
}

// config-keys.md 2: the file is read again when it has changed. AUTH-5: without it nobody comes in.
func TestUsersFollowTheirFile(t *testing.T) {
	r := start(t, Config{AuthUserFile: "users"}, nil)
	code := func(name, password string) int {
		code, _, _ := r.get("/metrics", as(name, password))
		return code
	}
	if c := code("ann", "secret"); c != 200 {
		t.Fatalf("got %d", c)
	}
	write(t, r.users, "ann:$2changed\ncarl:$2x\n")
	if a, b, c := code("ann", "secret"), code("ann", "changed"), code("carl", "x"); a != 401 || b != 200 || c != 200 {
		t.Errorf("after a change: %d %d %d, want 401 200 200", a, b, c)
	}
	write(t, r.users, "what is this\n")
	if c := code("carl", "x"); c != 401 {
		t.Errorf("with a broken file: %d, want 401", c)
	}
	if err := os.Remove(r.users); err != nil {
		t.Fatal(err)
	}
	if c := code("carl", "x"); c != 401 {
		t.Errorf("without the file: %d, want 401", c)
	}
	write(t, r.users, "ann:$2back\n")
	if c := code("ann", "back"); c != 200 {
		t.Errorf("when it is back: %d, want 200", c)
	}
}

func TestAStartWithoutUsersFails(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"empty": "\n# nobody\n", "plain": "ann:secret\n", "nohash": "ann\n", "noname": ":$2x\n"} {
		write(t, filepath.Join(dir, name), text)
		_, err := New(Config{AuthUserFile: name}, dir, Deps{Log: slog.New(slog.DiscardHandler)})
		if err == nil || !strings.HasPrefix(err.Error(), "telemetry.auth_user_file: ") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(Config{AuthUserFile: "missing"}, dir, Deps{Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

// CRY-1: the token of this machine's verbs is a login; none is not.
func TestTheTokenIsALogin(t *testing.T) {
	bearer := func(token string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
	}
	r := start(t, Config{AuthUserFile: "users"}, func(d *Deps) { d.Token = "t0ken" })
	none := start(t, Config{AuthUserFile: "users"}, nil)
	for _, c := range []struct {
		on    *running
		token string
		code  int
	}{{r, "t0ken", 200}, {r, "t0ke", 401}, {r, "", 401}, {none, "", 401}, {none, "t0ken", 401}} {
		if code, _, _ := c.on.get("/metrics", bearer(c.token)); code != c.code {
			t.Errorf("token %q: got %d, want %d", c.token, code, c.code)
		}
	}
}

// A page in a browser on this machine that has its name point to loopback reads nothing.
func TestOtherNamesForLoopbackAreRefused(t *testing.T) {
	r := start(t, Config{}, nil)
	for host, want := range map[string]int{"evil.example": 403, "evil.example:10000": 403, "localhost.evil.example": 403, "127.0.0.1": 200, "127.0.0.1:1": 200, "[::1]:1": 200, "localhost": 200, "localhost:1": 200} {
		if code, _, _ := r.get("/metrics", func(q *http.Request) { q.Host = host }); code != want {
			t.Errorf("Host %s: got %d, want %d", host, code, want)
		}
	}
	if code, _, _ := r.get("/healthz", func(q *http.Request) { q.Host = "evil.example" }); code != 200 {
		t.Errorf("/healthz: %d", code)
	}
	login := start(t, Config{AuthUserFile: "users"}, nil)
	if code, _, _ := login.get("/metrics", as("ann", "secret"), func(q *http.Request) { q.Host = "stats.example" }); code != 200 {
		t.Errorf("with a login: %d", code)
	}
}

func TestProfilesAreOffByDefault(t *testing.T) {
	r := start(t, DefaultConfig(), nil)
	if code, body, _ := r.get("/debug/pprof/heap"); code != 404 || !strings.Contains(body, "telemetry.enable_profiler") {
		t.Errorf("got %d %q", code, body)
	}
}

func TestProfiles(t *testing.T) {
	r := start(t, Config{EnableProfiler: true}, nil)
	gzip := "\x1f\x8b"
	for path, begin := range map[string]string{
		"heap": gzip, "allocs": gzip, "goroutine": gzip, "threadcreate": gzip, "profile?seconds=1": gzip, "mutex?seconds=1": gzip,
		"block?seconds=1": gzip, "trace?seconds=0.1": "go 1.", "": "<html>", "goroutine?debug=1": "goroutine profile", "cmdline": filepath.Base(os.Args[0]),
	} {
		if code, body, _ := r.get("/debug/pprof/" + path); code != 200 || !strings.HasPrefix(body, begin) {
			t.Errorf("%s: %d, begins %q", path, code, body[:min(len(body), 40)])
		}
	}
	if _, body, _ := r.get("/debug/pprof/cmdline"); strings.Contains(body, "-test") {
		t.Errorf("the command line's arguments are shown: %q", body)
	}
	for _, path := range []string{"profile?seconds=301", "profile?seconds=-1", "profile?seconds=x", "profile?seconds=NaN", "trace?seconds=61", "mutex", "block?seconds=0"} {
		if code, _, _ := r.get("/debug/pprof/" + path); code != 400 {
			t.Errorf("%s: %d, want 400", path, code)
		}
	}
	if code, _, _ := r.get("/debug/pprof/none"); code != 404 {
		t.Errorf("none: %d", code)
	}
}

// RES-2: a profile of minutes does not hold the end of the server up.
func TestShutdownEndsAProfile(t *testing.T) {
	r := start(t, Config{EnableProfiler: true}, nil)
	begun := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		resp, err := r.client.Get(r.url + "/debug/pprof/profile?seconds=50")
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		ended <- err
	}()
	go func() {
		for len(r.profiles) == 0 {
			time.Sleep(time.Millisecond) // between two looks
		}
		close(begun)
	}()
	<-begun
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := r.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	<-ended
}

// RES-1: more connections than there are places for are closed, and give no place away.
func TestConnectionsAreBounded(t *testing.T) {
	r := start(t, Config{}, nil)
	addr := strings.TrimPrefix(r.url, "http://")
	var open []net.Conn
	for range maxConns {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprint(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if _, err := c.Read(make([]byte, 1)); err != nil { // it is served
			t.Fatal(err)
		}
		open = append(open, c)
	}
	over, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer over.Close()
	over.SetReadDeadline(time.Now().Add(time.Minute))
	if n, err := over.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("one too many reads %d bytes, %v; want the end", n, err)
	}
	open[0].Close()
	for end := time.Now().Add(time.Minute); ; {
		resp, err := r.client.Get(r.url + "/healthz")
		if err == nil {
			resp.Body.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatalf("a place that was given back is not there: %v", err)
		}
	}
}

// HTTP-1: heads are bounded, and only GET and HEAD do anything.
func TestHeadsAndMethodsAreBounded(t *testing.T) {
	r := start(t, Config{EnableProfiler: true}, nil)
	q, err := http.NewRequest("GET", r.url+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("X-Long", strings.Repeat("x", 64<<10))
	if resp, err := r.client.Do(q); err == nil { // else the connection was cut while the head was sent
		resp.Body.Close()
		if resp.StatusCode != 431 {
			t.Errorf("a head of 64 KiB: %d, want 431", resp.StatusCode)
		}
	}
	for _, m := range []string{"POST", "PUT", "DELETE", "OPTIONS", "TRACE"} {
		code, _, h := r.get("/debug/pprof/symbol", func(q *http.Request) { q.Method = m })
		if code != 405 || h.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d %q", m, code, h.Get("Allow"))
		}
	}
	if s := r.http; s.ReadHeaderTimeout <= 0 || s.ReadTimeout <= 0 || s.WriteTimeout <= 0 || s.IdleTimeout <= 0 {
		t.Error("a time has no bound")
	}
}

func TestHealthTellsWhatFails(t *testing.T) {
	now := atomic.Int64{}
	var bad, runs atomic.Int64
	r := start(t, Config{AuthUserFile: "users"}, func(d *Deps) {
		d.Checks = append(d.Checks, Check{"disk", func(context.Context) error {
			runs.Add(1)
			if bad.Load() > 0 {
				return errors.New("/srv/secret-name has 3 MiB left")
			}
			return nil
		}})
		d.Now = func() time.Time { return time.Unix(now.Load(), 0) }
	})
	if code, body, _ := r.get("/healthz"); code != 200 || body != "ok" {
		t.Fatalf("%d %q", code, body)
	}
	bad.Store(1)
	r.get("/healthz")
	if n := runs.Load(); n != 1 {
		t.Errorf("two questions within a second: %d rounds of checks", n)
	}
	now.Add(2)
	if code, body, _ := r.get("/healthz"); code != 503 || body != "provider: ok\ndisk: failed\n" {
		t.Errorf("got %d %q", code, body)
	}
	if code, body, _ := r.get("/healthz", as("ann", "secret")); code != 503 || !strings.Contains(body, "3 MiB left") {
		t.Errorf("with a login: %d %q", code, body)
	}
	code, body, _ := r.get("/healthz", func(q *http.Request) { q.Header.Set("Accept", "application/json") })
	var out struct {
		Status string
		Checks map[string]struct{ Status, Error string }
	}
	if err := json.Unmarshal([]byte(body), &out); err != nil {
		t.Fatal(err)
	}
	if code != 503 || out.Status != "failed" || out.Checks["disk"].Status != "failed" || out.Checks["disk"].Error != "" || out.Checks["provider"].Status != "ok" {
		t.Errorf("got %d %s", code, body)
	}
	if _, body, _ = r.get("/healthz?format=json", as("ann", "secret")); !strings.Contains(body, "secret-name") {
		t.Errorf("with a login: %s", body)
	}
	bad.Store(0)
	now.Add(2)
	if code, body, _ := r.get("/healthz?format=json"); code != 200 || !strings.HasPrefix(body, `{"status":"ok"`) {
		t.Errorf("when it is well again: %d %s", code, body)
	}
}

func TestHTTPS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, Config{}, func(d *Deps) {
		d.TLS = &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	})
	if code, body, _ := r.get("/metrics"); code != 400 || !strings.Contains(body, "HTTPS") {
		t.Errorf("without TLS: %d %q", code, body)
	}
	r.client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	r.url = strings.Replace(r.url, "http:", "https:", 1)
	if code, body, _ := r.get("/metrics"); code != 200 || !strings.Contains(body, "gantry_build_info") {
		t.Errorf("with TLS: %d", code)
	}
}

// FuzzParseUsers: what is read is what stands there, and no error shows a hash.
func FuzzParseUsers(f *testing.F) {
	f.Add([]byte("ann:$2y$05$abc\n#x\n\nbob:$apr1$s$h:comment\r\n"))
	f.Add([]byte("ann"))
	f.Add([]byte(":$1$"))
	f.Fuzz(func(t *testing.T, data []byte) {
		users, err := parseUsers(data)
		if (err == nil) == (len(users) == 0) {
			t.Fatalf("%d users, error %v", len(users), err)
		}
		var again bytes.Buffer
		for name, hash := range users {
			if name == "" || !isHash(hash) || strings.ContainsAny(name+hash, ":\n") {
				t.Fatalf("%q %q", name, hash)
			}
			fmt.Fprintf(&again, "%s:%s\n", name, hash)
		}
		if err == nil {
			if same, err := parseUsers(again.Bytes()); err != nil || len(same) != len(users) {
				t.Fatalf("%q read again: %v, %v", again.Bytes(), same, err)
			}
		}
	})
}
