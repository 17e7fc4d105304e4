package dav

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gantryhq/gantry/engine"
	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"))
}

// live is a server that listens.
type live struct {
	*Server
	t    testing.TB
	env  *sessiontest.Env
	addr string
	tls  *tls.Config // of clients; nil: in clear
}

// setup says what start makes beside the defaults.
type setup struct {
	change func(*Config)
	gate   Gate
	rest   time.Duration
	users  []account.User
	env    *sessiontest.Env
}

func start(t testing.TB, o setup) *live {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Bindings[0].Address, cfg.Bindings[0].Port = "127.0.0.1", 8080
	if o.change != nil {
		o.change(&cfg)
	}
	if o.env == nil {
		if o.users == nil {
			o.users = []account.User{sessiontest.User("u")}
		}
		o.env = sessiontest.New(t, sessiontest.Options{}, o.users...)
	}
	e, err := engine.New(engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(cfg, e, o.env.Server, o.gate, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if o.rest > 0 {
		s.rest = o.rest
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background(), 0, l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		s.Shutdown(ctx)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	x := &live{Server: s, t: t, env: o.env, addr: l.Addr().String()}
	if cfg.Bindings[0].EnableHTTPS {
		x.tls = &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}}
	}
	return x
}

// file puts content where the server finds it.
func (x *live) file(name string, content []byte) {
	x.t.Helper()
	c := x.dial()
	if got := c.do("PUT", name, content); got.code != 201 && got.code != 204 {
		x.t.Fatalf("PUT %s: %d %s", name, got.code, got.body)
	}
}

// peer is a client that speaks bytes.
type peer struct {
	t  testing.TB
	nc net.Conn
	r  *bufio.Reader
}

func (x *live) dial() *peer {
	x.t.Helper()
	nc, err := net.Dial("tcp", x.addr)
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(30 * time.Second))
	if x.tls != nil {
		nc = tls.Client(nc, x.tls)
	}
	return &peer{x.t, nc, bufio.NewReader(nc)}
}

const login = "Authorization: Basic dTpzZWNyZXQ=" // u:secret

func authorization(user, password string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func (p *peer) send(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p.nc, s); err != nil {
		p.t.Fatal(err)
	}
}

type got struct {
	code   int
	header http.Header
	body   string
	close  bool
}

// read reads an answer to a method.
func (p *peer) read(method string) got {
	p.t.Helper()
	g, err := p.tryRead(method)
	if err != nil {
		p.t.Fatalf("%s: %v", method, err)
	}
	return g
}

func (p *peer) tryRead(method string) (got, error) {
	res, err := http.ReadResponse(p.r, &http.Request{Method: method})
	if err != nil {
		return got{}, err
	}
	b, err := io.ReadAll(res.Body)
	return got{res.StatusCode, res.Header, string(b), res.Close}, err
}

// ask sends a request without a body. The login is u's unless a header gives one.
func (p *peer) ask(method, target string, headers ...string) got {
	p.t.Helper()
	p.send(headOf(method, target, headers...) + "\r\n")
	return p.read(method)
}

func headOf(method, target string, headers ...string) string {
	s := method + " " + target + " HTTP/1.1\r\nHost: h\r\n"
	if !strings.Contains(strings.Join(headers, "\n"), "Authorization") {
		s += login + "\r\n"
	}
	for _, h := range headers {
		if h != "Authorization" { // none
			s += h + "\r\n"
		}
	}
	return s
}

// do sends a request with a body.
func (p *peer) do(method, target string, body []byte, headers ...string) got {
	p.t.Helper()
	head := headOf(method, target, headers...) + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body))
	sent := make(chan error, 1)
	go func() {
		_, err := p.nc.Write(append([]byte(head), body...))
		sent <- err
	}()
	g := p.read(method)
	if err := <-sent; err != nil && g.code < 400 {
		p.t.Fatal(err)
	}
	return g
}

func (g got) want(t testing.TB, code int) got {
	t.Helper()
	if g.code != code {
		t.Errorf("status %d, want %d\n%v\n%.500s", g.code, code, g.header, g.body)
	}
	return g
}

// gone reads the end of the connection.
func (p *peer) gone() {
	p.t.Helper()
	if b, err := io.ReadAll(p.r); len(b) > 0 || err != nil && !strings.Contains(err.Error(), "reset") {
		p.t.Errorf("after the end: %q %v", b, err)
	}
}

func certificate(t testing.TB) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(crand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	kb, _ := x509.MarshalPKCS8PrivateKey(k)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "c"), filepath.Join(dir, "k")
	os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
	os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kb}), 0o600)
	return cert, key
}

func withTLS(t testing.TB) func(*Config) {
	return func(c *Config) {
		c.CertificateFile, c.CertificateKeyFile = certificate(t)
		c.Bindings[0].EnableHTTPS = true
	}
}

// pattern is n bytes that differ.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>16) ^ byte(i>>8) ^ byte(i)
	}
	return b
}

// TestFiles: what is put is got, whatever its size, in clear and over TLS, on one connection.
func TestFiles(t *testing.T) {
	for _, mode := range []string{"clear", "TLS"} {
		t.Run(mode, func(t *testing.T) {
			o := setup{}
			if mode == "TLS" {
				o.change = withTLS(t)
			}
			x := start(t, o)
			c := x.dial()
			for i, n := range []int{0, 1, 1000, smallBody, smallBody + 1, maxWhole, maxWhole + 1, 300_000, 3 << 20} {
				body := pattern(n)
				c.do("PUT", "/f", body).want(t, map[bool]int{true: 201, false: 204}[i == 0])
				g := c.ask("GET", "/f").want(t, 200)
				if g.body != string(body) {
					t.Errorf("%d bytes: got %d others", n, len(g.body))
				}
				h := c.ask("HEAD", "/f").want(t, 200)
				for _, name := range []string{"Etag", "Last-Modified", "Content-Length", "Content-Type", "Accept-Ranges"} {
					if h.header.Get(name) != g.header.Get(name) || h.header.Get(name) == "" {
						t.Errorf("%s: HEAD %q, GET %q", name, h.header.Get(name), g.header.Get(name))
					}
				}
				chunked := headOf("PUT", "/c", "Transfer-Encoding: chunked") + "\r\n"
				for b := body; len(b) > 0; {
					k := min(len(b), 100_000)
					chunked += fmt.Sprintf("%x;ext=1\r\n%s\r\n", k, b[:k])
					b = b[k:]
				}
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					c.nc.Write([]byte(chunked + "0\r\nTrailer: x\r\n\r\n"))
				}()
				c.read("PUT").want(t, map[bool]int{true: 201, false: 204}[i == 0])
				<-sent
				if g := c.ask("GET", "/c").want(t, 200); g.body != string(body) {
					t.Errorf("%d bytes in chunks: got %d others", n, len(g.body))
				}
			}
			c.ask("DELETE", "/f").want(t, 204)
			c.ask("GET", "/f").want(t, 404)
		})
	}
}

func TestRanges(t *testing.T) {
	x := start(t, setup{})
	small, big := pattern(1000), pattern(1<<20)
	x.file("/s", small)
	x.file("/b", big)
	c := x.dial()
	tag := c.ask("HEAD", "/s").header.Get("Etag")
	date := c.ask("HEAD", "/s").header.Get("Last-Modified")
	for _, tt := range []struct {
		file, rng string
		code      int
		from, n   int // of the content, for one range
		header    string
	}{
		{"/s", "bytes=0-0", 206, 0, 1, ""}, {"/s", "bytes=10-19", 206, 10, 10, ""}, {"/s", "bytes=990-", 206, 990, 10, ""},
		{"/s", "bytes=-5", 206, 995, 5, ""}, {"/s", "bytes=-5000", 206, 0, 1000, ""}, {"/s", "bytes=990-5000", 206, 990, 10, ""},
		{"/s", "bytes=1000-", 416, 0, 0, ""}, {"/s", "bytes=-0", 416, 0, 0, ""}, {"/s", "bytes=5-4", 200, 0, 1000, ""}, {"/s", "lines=1-2", 200, 0, 1000, ""},
		{"/s", "bytes=a-b", 200, 0, 1000, ""}, {"/s", "bytes=99999999999999999999-", 200, 0, 1000, ""}, {"/b", "bytes=1-1000000", 206, 1, 1000000, ""},
		{"/s", "bytes=1-2", 206, 1, 2, "If-Range: " + tag}, {"/s", "bytes=1-2", 200, 0, 1000, `If-Range: "x"`},
		{"/s", "bytes=1-2", 200, 0, 1000, "If-Range: W/" + tag}, {"/s", "bytes=1-2", 206, 1, 2, "If-Range: " + date},
		{"/s", "bytes=1-2", 200, 0, 1000, "If-Range: Mon, 02 Jan 2006 15:04:05 GMT"},
		{"/s", "bytes=0-999,0-999", 200, 0, 1000, ""}, {"/s", "bytes=" + strings.Repeat("0-0,", 100), 200, 0, 1000, ""}, // WEB-4
	} {
		headers := []string{"Range: " + tt.rng}
		if tt.header != "" {
			headers = append(headers, tt.header)
		}
		g := c.ask("GET", tt.file, headers...).want(t, tt.code)
		content := small
		if tt.file == "/b" {
			content = big
		}
		if tt.code == 416 {
			if got := g.header.Get("Content-Range"); got != "bytes */1000" {
				t.Errorf("%s: Content-Range %q", tt.rng, got)
			}
			continue
		}
		if g.body != string(content[tt.from:tt.from+tt.n]) {
			t.Errorf("%s of %s: %d bytes, want %d", tt.rng, tt.file, len(g.body), tt.n)
		}
		if want := fmt.Sprintf("bytes %d-%d/%d", tt.from, tt.from+tt.n-1, len(content)); tt.code == 206 && g.header.Get("Content-Range") != want {
			t.Errorf("%s: Content-Range %q, want %q", tt.rng, g.header.Get("Content-Range"), want)
		}
	}
	for _, file := range []string{"/s", "/b"} {
		content, at := small, []span{{0, 10}, {500, 20}, {990, 10}}
		if file == "/b" {
			content, at = big, []span{{5, 100_000}, {500_000, 200_000}}
		}
		var list []string
		for _, s := range at {
			list = append(list, fmt.Sprintf("%d-%d", s.off, s.off+s.n-1))
		}
		g := c.ask("GET", file, "Range: bytes="+strings.Join(list, ", ")).want(t, 206)
		boundary, ok := strings.CutPrefix(g.header.Get("Content-Type"), "multipart/byteranges; boundary=")
		if !ok {
			t.Fatalf("content type %q", g.header.Get("Content-Type"))
		}
		want := ""
		for i, s := range at {
			if i > 0 {
				want += "\r\n"
			}
			want += fmt.Sprintf("--%s\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes %s/%d\r\n\r\n%s", boundary, list[i], len(content), content[s.off:s.off+s.n])
		}
		if want += "\r\n--" + boundary + "--\r\n"; g.body != want {
			t.Errorf("%s: several ranges are %d bytes, want %d", file, len(g.body), len(want))
		}
	}
}

// TestConditions: RFC 9110 13.
func TestConditions(t *testing.T) {
	x := start(t, setup{})
	x.file("/f", []byte("one"))
	c := x.dial()
	h := c.ask("HEAD", "/f")
	tag, date := h.header.Get("Etag"), h.header.Get("Last-Modified")
	old := "Mon, 02 Jan 2006 15:04:05 GMT"
	for _, tt := range []struct {
		method, target, header string
		code                   int
	}{
		{"GET", "/f", "If-None-Match: " + tag, 304}, {"GET", "/f", "If-None-Match: W/" + tag, 304}, {"GET", "/f", `If-None-Match: "a", ` + tag, 304},
		{"GET", "/f", `If-None-Match: "a"`, 200}, {"GET", "/f", "If-None-Match: *", 304}, {"HEAD", "/f", "If-None-Match: " + tag, 304},
		{"GET", "/f", "If-Match: " + tag, 200}, {"GET", "/f", "If-Match: W/" + tag, 412}, {"GET", "/f", `If-Match: "a"`, 412}, {"GET", "/f", "If-Match: *", 200},
		{"GET", "/f", "If-Modified-Since: " + date, 304}, {"GET", "/f", "If-Modified-Since: " + old, 200}, {"GET", "/f", "If-Modified-Since: never", 200},
		{"GET", "/f", "If-Unmodified-Since: " + old, 412}, {"GET", "/f", "If-Unmodified-Since: " + date, 200},
		{"PUT", "/f", "If-None-Match: *", 412}, {"PUT", "/f", `If-Match: "a"`, 412}, {"PUT", "/new", "If-Match: *", 412}, {"PUT", "/new", `If-Match: "a"`, 412},
		{"DELETE", "/f", `If-Match: "a"`, 412}, {"DELETE", "/f", "If-Unmodified-Since: " + old, 412},
		{"PUT", "/new2", "If-None-Match: *", 201}, {"PUT", "/f", "If-Match: " + tag, 204}, {"PUT", "/f", "If-Match: " + tag, 412}, // WEB-4: no lost update
	} {
		var g got
		if tt.method == "PUT" {
			g = c.do("PUT", tt.target, []byte("two"), tt.header)
		} else {
			g = c.ask(tt.method, tt.target, tt.header)
		}
		if g.want(t, tt.code); g.code != tt.code {
			t.Errorf("%s %s %s", tt.method, tt.target, tt.header)
		}
		if tt.code == 304 && (g.header.Get("Etag") != tag || g.body != "") {
			t.Errorf("%s: the 304 has tag %q and %q", tt.header, g.header.Get("Etag"), g.body)
		}
	}
}

func TestPut(t *testing.T) {
	u := sessiontest.User("u")
	u.QuotaSize, u.QuotaFiles = 100_000, 5
	x := start(t, setup{users: []account.User{u}})
	c := x.dial()
	c.ask("MKCOL", "/d").want(t, 201)
	for _, tt := range []struct {
		target string
		n      int
		header string
		code   int
	}{
		{"/a", 10, "X: y", 201}, {"/a", 20, "X: y", 204}, {"/none/a", 10, "X: y", 409}, {"/a/b", 10, "X: y", 409}, {"/d", 10, "X: y", 405}, {"/d/", 10, "X: y", 405},
		{"/", 10, "X: y", 405}, {"/a", 10, "Content-Range: bytes 0-9/20", 400}, {"/a", 10, "Content-Encoding: gzip", 415},
		{"/big", 200_000, "X: y", 507}, {"/a", 99_000, "X: y", 204},
	} {
		c := x.dial()
		if g := c.do("PUT", tt.target, pattern(tt.n), tt.header).want(t, tt.code); g.code != tt.code {
			t.Errorf("PUT %s %s", tt.target, tt.header)
		}
	}
	c.ask("GET", "/big").want(t, 404)
	if g := c.ask("GET", "/a"); len(g.body) != 99_000 {
		t.Errorf("a refused PUT changed the file: %d bytes", len(g.body))
	}
	// Over the quota without a length that tells so before.
	c.send(headOf("PUT", "/chunks", "Transfer-Encoding: chunked") + "\r\n" + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", 50_000, pattern(50_000)))
	c.read("PUT").want(t, 507)
	c = x.dial()
	c.ask("GET", "/chunks").want(t, 404)

	g := c.do("PUT", "/t", []byte("x"), "X-OC-Mtime: 1234567890.5").want(t, 201)
	if g.header.Get("X-Oc-Mtime") != "accepted" {
		t.Errorf("X-OC-Mtime: %q", g.header.Get("X-Oc-Mtime"))
	}
	h := c.ask("HEAD", "/t")
	if got := h.header.Get("Last-Modified"); got != "Fri, 13 Feb 2009 23:31:30 GMT" {
		t.Errorf("Last-Modified %s", got)
	}
	if g.header.Get("Etag") != h.header.Get("Etag") || h.header.Get("Etag") == "" {
		t.Errorf("ETag of PUT %q, of HEAD %q", g.header.Get("Etag"), h.header.Get("Etag"))
	}
}

// TestPutIsWholeOrNothing: a body that is cut, or is not what it says, leaves what was there.
func TestPutIsWholeOrNothing(t *testing.T) {
	x := start(t, setup{})
	x.file("/f", []byte("old"))
	for name, rest := range map[string]string{
		"length":    "Content-Length: 100000\r\n\r\n" + strings.Repeat("x", 50_000),
		"small":     "Content-Length: 100\r\n\r\n" + "xxx",
		"chunk":     "Transfer-Encoding: chunked\r\n\r\n" + "a\r\n0123",
		"no end":    "Transfer-Encoding: chunked\r\n\r\n" + "a\r\n0123456789\r\n",
		"bad chunk": "Transfer-Encoding: chunked\r\n\r\n" + "a\r\n0123456789XX",
	} {
		for _, target := range []string{"/f", "/new"} {
			c := x.dial()
			c.send(headOf("PUT", target) + rest)
			if tc, ok := c.nc.(*net.TCPConn); ok {
				tc.CloseWrite()
			}
			if g, err := c.tryRead("PUT"); err == nil && g.code < 400 {
				t.Errorf("%s of %s: %d", name, target, g.code)
			}
		}
	}
	c := x.dial()
	if g := c.ask("GET", "/f").want(t, 200); g.body != "old" {
		t.Errorf("the file is %q", g.body)
	}
	c.ask("GET", "/new").want(t, 404)
	if g := c.ask("GET", "/").want(t, 200); strings.Count(g.body, "<tr>") != 2 {
		t.Errorf("something is left in the directory: %s", g.body)
	}
}

// TestExpectContinue: the body is asked for after rights, conditions and quota, not before.
func TestExpectContinue(t *testing.T) {
	u := sessiontest.User("u")
	u.QuotaSize = 1 << 20
	u.Permissions["/ro"] = []string{"list", "download"}
	x := start(t, setup{users: []account.User{u}})
	c := x.dial()
	for range 2 { // and again on the same connection
		c.send(headOf("PUT", "/f", "Expect: 100-continue", "Content-Length: 100000") + "\r\n")
		line, _ := c.r.ReadString('\n')
		empty, _ := c.r.ReadString('\n')
		if line != "HTTP/1.1 100 Continue\r\n" || empty != "\r\n" {
			t.Fatalf("got %q %q", line, empty)
		}
		c.send(string(pattern(100_000)))
		if g := c.read("PUT"); g.code != 201 && g.code != 204 {
			t.Errorf("status %d", g.code)
		}
	}
	for _, tt := range []struct {
		target, header string
		code           int
	}{
		{"/big", "Content-Length: 2000000", 507}, {"/ro/f", "Content-Length: 10", 403}, {"/none/f", "Content-Length: 10", 409},
		{"/f", "If-None-Match: *\r\nContent-Length: 10", 412}, {"/f", "Authorization\r\nContent-Length: 10", 0},
	} {
		c := x.dial()
		if tt.code == 0 {
			c.send("PUT /f HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n")
			tt.code = 401
		} else {
			c.send(headOf("PUT", tt.target, "Expect: 100-continue", tt.header) + "\r\n")
		}
		line, _ := c.r.ReadString('\n')
		if !strings.HasPrefix(line, fmt.Sprintf("HTTP/1.1 %d ", tt.code)) {
			t.Errorf("PUT %s %s: %q, want %d", tt.target, tt.header, line, tt.code)
		}
	}
	// Who does not wait has no use for it.
	c.send(headOf("PUT", "/f", "Expect: 100-continue", "Content-Length: 3") + "\r\nabc")
	c.read("PUT").want(t, 204)
	c.send(headOf("PUT", "/f", "Expect: something", "Content-Length: 3") + "\r\nabc")
	c.read("PUT").want(t, 417)
}

func TestDelete(t *testing.T) {
	u := sessiontest.User("u")
	u.Permissions["/d/kept"] = []string{"list", "download", "upload", "create_dirs"}
	x := start(t, setup{users: []account.User{u}})
	c := x.dial()
	for _, d := range []string{"/d", "/d/kept", "/d/e", "/free", "/free/x"} {
		c.ask("MKCOL", d).want(t, 201)
	}
	for _, f := range []string{"/d/kept/f", "/d/e/f", "/free/x/f", "/free/f"} {
		x.file(f, []byte("x"))
	}
	c.ask("DELETE", "/free", "Depth: 1").want(t, 400)
	c.ask("DELETE", "/free", "Depth: infinity").want(t, 204)
	c.ask("GET", "/free/").want(t, 404)
	g := c.ask("DELETE", "/d").want(t, 207)
	if !strings.Contains(g.body, "/d/kept/f</") || !strings.Contains(g.body, "403") {
		t.Errorf("the answer does not say what stayed: %s", g.body)
	}
	if strings.Count(g.body, "<D:href>") != 1 { // RFC 4918 9.6.1: not the directories above
		t.Errorf("the answer tells of more: %s", g.body)
	}
	c.ask("GET", "/d/e/").want(t, 404) // the others have gone
	c.ask("GET", "/d/kept/f").want(t, 200)
	c.ask("DELETE", "/none").want(t, 404)
	c.ask("DELETE", "/").want(t, 403)
	c.ask("DELETE", "/d/kept/f").want(t, 403)
	c.do("DELETE", "/d", []byte("body")).want(t, 207)
}

// TestIndex: WEB-1, WEB-2.
func TestIndex(t *testing.T) {
	x := start(t, setup{})
	name := `"><img src=x onerror=alert(1)>&.html`
	c := x.dial()
	c.do("PUT", "/"+string(appendEscaped(nil, name)), []byte("<script>alert(1)</script>")).want(t, 201)
	c.ask("MKCOL", "/d%20%c3%a9").want(t, 201)
	for range 200 {
		c.do("PUT", fmt.Sprintf("/d%%20%%c3%%a9/%d%s", time.Now().UnixNano(), strings.Repeat("n", 200)), nil)
	}
	g := c.ask("GET", "/").want(t, 200)
	if strings.Contains(g.body, "<img") || !strings.Contains(g.body, "&lt;img") || !strings.Contains(g.body, `href="/d%20%C3%A9/"`) {
		t.Errorf("the page: %s", g.body)
	}
	if csp := g.header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "script") {
		t.Errorf("policy %q", csp)
	}
	f := c.ask("GET", "/"+string(appendEscaped(nil, name))).want(t, 200)
	if f.header.Get("Content-Disposition") != "attachment" || f.header.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(f.header.Get("Content-Security-Policy"), "sandbox") {
		t.Errorf("the file's fields: %v", f.header)
	}
	// A longer one goes out in chunks, compressed where that is asked for.
	plain := c.ask("GET", "/d%20%c3%a9").want(t, 200)
	if n := strings.Count(plain.body, "<tr>"); n != 202 {
		t.Errorf("%d rows", n)
	}
	c.send(headOf("GET", "/d%20%c3%a9/", "Accept-Encoding: br, gzip") + "\r\n")
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	zipped, err := io.ReadAll(res.Body)
	if err != nil || res.Header.Get("Content-Encoding") != "gzip" || len(zipped) >= len(plain.body)/2 {
		t.Errorf("%d bytes of %d, %v, %v", len(zipped), len(plain.body), res.Header, err)
	}
	if got := gunzip(t, zipped); got != plain.body {
		t.Errorf("it is another page: %d bytes, want %d", len(got), len(plain.body))
	}
	c.ask("HEAD", "/").want(t, 200)
	c.ask("GET", "/f/").want(t, 404)
}

// TestOptions: Windows takes a server for a WebDAV one by what it says before the login.
func TestOptions(t *testing.T) {
	x := start(t, setup{})
	c := x.dial()
	for _, target := range []string{"/", "*", "/some/where", "http://h/"} {
		c.send("OPTIONS " + target + " HTTP/1.1\r\nHost: h\r\n\r\n")
		g := c.read("OPTIONS").want(t, 200)
		if g.header.Get("Dav") != "1, 2, 3" || g.header.Get("Ms-Author-Via") != "DAV" || !strings.Contains(g.header.Get("Allow"), "PROPFIND") {
			t.Errorf("%s: %v", target, g.header)
		}
	}
	c.ask("OPTIONS", "/").want(t, 200)
	c.ask("OPTIONS", "/", authorization("u", "wrong")).want(t, 401) // or a client would take it for the right one
}

// TestDrain: an idle connection ends, a request that runs is answered first.
func TestDrain(t *testing.T) {
	x := start(t, setup{})
	idle, busy := x.dial(), x.dial()
	idle.ask("GET", "/").want(t, 200)
	busy.send(headOf("PUT", "/f", "Content-Length: 100000", "Expect: 100-continue") + "\r\n")
	busy.r.ReadString('\n')
	busy.r.ReadString('\n')
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		done <- x.Shutdown(ctx)
	}()
	idle.gone()
	busy.send(string(pattern(100_000)))
	if g := busy.read("PUT").want(t, 201); !g.close {
		t.Error("the answer does not say that the connection ends")
	}
	busy.gone()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func gunzip(t testing.TB, b []byte) string {
	t.Helper()
	out, err := gunzipped(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return out
}
