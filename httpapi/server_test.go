package httpapi

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
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
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent(), goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

// wait bounds what a test waits for.
const wait = 30 * time.Second

// handler is a Handler of a test.
type handler struct {
	run   func(q *Request)
	limit int64
}

func (h *handler) Handle(q *Request) { h.run(q) }

func (h *handler) Refuse(http *fasthttp.RequestCtx, status int, err error) {
	http.SetStatusCode(status)
	http.SetBodyString(fmt.Sprint("refused: ", err))
}

func (h *handler) Limit(string, string) int64 { return h.limit }

// doorman is a Gate of a test.
type doorman struct {
	mu     sync.Mutex
	in     int
	seen   []netip.Addr
	refuse error
}

func (d *doorman) Admit(_ context.Context, addr netip.Addr) (func(), error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen = append(d.seen, addr)
	if d.refuse != nil {
		return nil, d.refuse
	}
	d.in++
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.in--
	}, nil
}

func (d *doorman) inside() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.in
}

// server is a Server on a free port.
type server struct {
	*Server
	t    *testing.T
	addr string
	gate *doorman
	h    *handler
	stop func(ctx context.Context) error
}

func serve(t *testing.T, run func(q *Request), edit ...func(c *Config)) *server {
	t.Helper()
	cfg := DefaultConfig()
	for _, f := range edit {
		f(&cfg)
	}
	s := &server{t: t, gate: &doorman{}, h: &handler{run: run, limit: 1000}}
	var err error
	if s.Server, err = New(cfg, s.gate, s.h, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	done := make(chan error, 1)
	go func() { done <- s.Serve(0, l) }()
	var once sync.Once
	s.stop = func(ctx context.Context) (err error) {
		once.Do(func() {
			err = s.Shutdown(ctx)
			select {
			case e := <-done:
				if e != nil {
					t.Error(e)
				}
			case <-time.After(wait):
				t.Error("Serve does not end")
			}
		})
		return err
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s.stop(ctx)
	})
	return s
}

// raw opens a connection, writes text and gives what can be read until the end.
func (s *server) raw(text string) string {
	s.t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(wait))
	io.WriteString(c, text)
	b, _ := io.ReadAll(c)
	return string(b)
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(wait); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatal("never: " + what)
}

// readAll answers with what came in the body.
func readAll(limit int64) func(q *Request) {
	return func(q *Request) {
		r, err := q.Body(limit)
		if err == nil {
			var n int64
			if n, err = io.Copy(io.Discard, r); err == nil {
				q.HTTP.SetBodyString(fmt.Sprint("got ", n))
				return
			}
		}
		if errors.Is(err, ErrBodyTooLarge) {
			q.HTTP.SetStatusCode(413)
		} else {
			q.HTTP.SetStatusCode(400)
		}
		q.HTTP.SetBodyString(err.Error())
	}
}

func TestBodiesAreBounded(t *testing.T) { // HTTP-1
	s := serve(t, readAll(1000))
	for name, tt := range map[string]struct{ send, want string }{
		"small":            {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello", "got 5"},
		"none":             {"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "got 0"},
		"chunked":          {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "got 5"},
		"announced":        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\nx", " 413 "}, // and closed: nothing of it came
		"chunked too much": {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("200\r\n"+strings.Repeat("x", 512)+"\r\n", 3), " 413 "},
		"expected":         {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\nExpect: 100-continue\r\n\r\n", " 413 "},
	} {
		if got := s.raw(tt.send); !strings.Contains(got, tt.want) {
			t.Errorf("%s: the answer lacks %q: %q", name, tt.want, got)
		}
	}
	if got := s.raw("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\nhello"); !strings.HasPrefix(got, "HTTP/1.1 100 ") || !strings.Contains(got, "got 5") {
		t.Errorf("an expectation that is met: %q", got)
	}
}

// TestACutBodyIsNoWholeBody: fasthttp takes the end of a connection for the end of the body.
func TestACutBodyIsNoWholeBody(t *testing.T) {
	got := make(chan error, 1)
	s := serve(t, func(q *Request) {
		r, err := q.Body(0)
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		got <- err
	})
	for name, head := range map[string]string{"length": "Content-Length: 100000\r\n\r\n" + strings.Repeat("x", 50000), "chunked": "Transfer-Encoding: chunked\r\n\r\nffff\r\nxxx"} {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "PUT / HTTP/1.1\r\nHost: x\r\n"+head)
		c.Close()
		select {
		case err := <-got:
			if err == nil {
				t.Errorf("%s: a cut body passes for a whole one", name)
			}
		case <-time.After(wait):
			t.Fatalf("%s: the handler does not end", name)
		}
	}
}

func TestSmugglingAndBrokenRequests(t *testing.T) { // HTTP-1
	s := serve(t, func(q *Request) { q.HTTP.SetBodyString("served") })
	for name, send := range map[string]string{
		"both lengths":  "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: x\r\n\r\n",
		"two lengths":   "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
		"no HTTP":       "nonsense\r\n\r\n",
		"long header":   "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", maxHeader+10) + "\r\n\r\n",
		"a sign":        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello",
		"folded header": "GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\nY : z\r\n\r\n",
	} {
		if got := s.raw(send); strings.Count(got, "served") > 0 && name != "folded header" {
			t.Errorf("%s was served: %q", name, got)
		} else if strings.Count(got, "served") > 1 {
			t.Errorf("%s was served twice: %q", name, got)
		}
	}
}

func TestARequestsContextEndsWithItsConnection(t *testing.T) {
	began, ended := make(chan struct{}), make(chan error, 1)
	done := make(chan struct{})
	s := serve(t, func(q *Request) {
		q.OnDone(func() { close(done) })
		close(began)
		r, err := q.Body(0)
		if err != nil {
			ended <- err
			return
		}
		io.Copy(io.Discard, r) // the peer goes meanwhile
		<-q.Context().Done()
		ended <- context.Cause(q.Context())
	})
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
	<-began
	c.Close()
	for _, ch := range []<-chan struct{}{done} {
		select {
		case <-ch:
		case <-time.After(wait):
			t.Fatal("OnDone was not called")
		}
	}
	if err := <-ended; err == nil {
		t.Error("the context has no cause")
	}
	until(t, "the request was counted out", func() bool { return s.gate.inside() == 0 })
}

func TestKillEndsARequest(t *testing.T) {
	began := make(chan *Request, 1)
	s := serve(t, func(q *Request) {
		began <- q
		<-q.Context().Done()
	})
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	q := <-began
	q.Kill(errors.New("no more"))
	c.SetDeadline(time.Now().Add(wait))
	// The handler that the kill wakes may have its answer out before the end.
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection lives")
	}
}

// TestOnDoneComesAfterTheAnswer: what a handler leaves open is closed when the answer was written.
func TestOnDoneComesAfterTheAnswer(t *testing.T) {
	var mu sync.Mutex
	var order []string
	note := func(s string) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, s)
	}
	s := serve(t, func(q *Request) {
		q.OnDone(func() { note("first") })
		q.OnDone(func() { note("second") })
		q.HTTP.SetBodyStream(readerFunc(func(p []byte) (int, error) { note("body"); return 0, io.EOF }), -1)
	})
	for range 2 { // on one connection too
		res, err := http.Get("http://" + s.addr)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
	http.DefaultClient.CloseIdleConnections()
	until(t, "all was done", func() bool { mu.Lock(); defer mu.Unlock(); return len(order) == 6 })
	if got := strings.Join(order, " "); got != "body second first body second first" {
		t.Error(got)
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestAPanicIsA500(t *testing.T) {
	s := serve(t, func(q *Request) { panic("canary") })
	got := s.raw("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 500 ") || strings.Contains(got, "canary") {
		t.Error(got)
	}
	until(t, "the request was counted out", func() bool { return s.gate.inside() == 0 })
}

func TestTheGateIsAskedFirst(t *testing.T) {
	s := serve(t, func(q *Request) { q.HTTP.SetBodyString("served") })
	s.gate.refuse = errors.New("banned")
	if got := s.raw("GET / HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 403 ") || strings.Contains(got, "banned") {
		t.Error(got)
	}
	s.gate.refuse = &RateError{RetryAfter: 1500 * time.Millisecond, Err: errors.New("too fast")}
	got := s.raw("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 429 ") || !strings.Contains(got, "\r\nRetry-After: 2\r\n") || !strings.Contains(got, "\r\nX-Retry-In: 1.5s\r\n") {
		t.Error(got)
	}
}

// TestTheClientsAddress: headers count from trusted peers alone (HTTP-1, AUTH-6).
func TestTheClientsAddress(t *testing.T) {
	for name, tt := range map[string]struct {
		b      Binding
		header string
		want   string
		secure bool
	}{
		"not trusted":        {Binding{ClientIPProxyHeader: "X-Forwarded-For"}, "X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: https", "127.0.0.1", false},
		"trusted":            {Binding{ProxyAllowed: []string{"127.0.0.0/8"}, ClientIPProxyHeader: "X-Forwarded-For"}, "X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: https", "10.0.0.1", true},
		"last of many":       {Binding{ProxyAllowed: []string{"127.0.0.1"}, ClientIPProxyHeader: "X-Forwarded-For"}, "X-Forwarded-For: 10.0.0.1, 10.0.0.2", "10.0.0.2", false},
		"one before":         {Binding{ProxyAllowed: []string{"127.0.0.1"}, ClientIPProxyHeader: "X-Forwarded-For", ClientIPHeaderDepth: 1}, "X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-For: 10.0.0.2", "10.0.0.1", false},
		"first":              {Binding{ProxyAllowed: []string{"127.0.0.1"}, ClientIPProxyHeader: "X-Forwarded-For", ClientIPHeaderDepth: -1}, "X-Forwarded-For: 10.0.0.1, 10.0.0.2", "10.0.0.1", false},
		"too deep":           {Binding{ProxyAllowed: []string{"127.0.0.1"}, ClientIPProxyHeader: "X-Forwarded-For", ClientIPHeaderDepth: 4}, "X-Forwarded-For: 10.0.0.1", "127.0.0.1", false},
		"nonsense":           {Binding{ProxyAllowed: []string{"127.0.0.1"}, ClientIPProxyHeader: "X-Real-IP"}, "X-Real-IP: nonsense", "127.0.0.1", false},
		"no header is named": {Binding{ProxyAllowed: []string{"127.0.0.1"}}, "X-Forwarded-For: 10.0.0.1", "127.0.0.1", false},
		"PROXY instead":      {Binding{ProxyAllowed: []string{"127.0.0.1"}, ClientIPProxyHeader: "X-Real-IP", ProxyMode: 1}, "X-Real-IP: 10.0.0.1", "127.0.0.1", false},
		"IPv6 with a port":   {Binding{ProxyAllowed: []string{"127.0.0.1"}, ClientIPProxyHeader: "X-Real-IP"}, "X-Real-IP: [2001:db8::1]:99", "2001:db8::1", false},
	} {
		tt.b.Port, tt.b.Address = 8080, "127.0.0.1"
		s := serve(t, func(q *Request) { q.HTTP.SetBodyString(fmt.Sprint("from ", q.Remote.Addr(), " ", q.Secure, ".")) }, func(c *Config) { c.Bindings = []Binding{tt.b} })
		if got := s.raw("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + tt.header + "\r\n\r\n"); !strings.Contains(got, fmt.Sprint("from ", tt.want, " ", tt.secure, ".")) {
			t.Errorf("%s: got %q, want %s %v", name, got, tt.want, tt.secure)
		}
		if a := s.gate.seen[0].String(); a != tt.want {
			t.Errorf("%s: the gate was asked about %s", name, a)
		}
	}
}

func TestHeadersForBrowsers(t *testing.T) {
	s := serve(t, func(q *Request) { q.HTTP.SetBodyString("served") }, func(c *Config) {
		c.Bindings[0].ProxyAllowed = []string{"127.0.0.1"}
		c.Bindings[0].Security = Security{Enabled: true, AllowedHosts: []string{"good.example"}, HTTPSRedirect: true, HTTPSProxyHeaders: []HeaderValue{{"X-Proto", "https"}},
			STSSeconds: 60, STSIncludeSubdomains: true, ContentSecurityPolicy: "default-src 'self'", PermissionsPolicy: "camera=()"}
	})
	req := func(host, more string) string {
		return s.raw("GET /a?b HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n" + more + "\r\n")
	}
	if got := req("bad.example", ""); !strings.HasPrefix(got, "HTTP/1.1 403 ") {
		t.Error(got)
	}
	if got := req("good.example", ""); !strings.HasPrefix(got, "HTTP/1.1 308 ") || !strings.Contains(got, "Location: https://good.example/a?b\r\n") {
		t.Error(got)
	}
	got := req("Good.Example", "X-Proto: https\r\n")
	for _, want := range []string{"served", "Strict-Transport-Security: max-age=60; includeSubDomains\r\n", "Content-Security-Policy: default-src 'self'\r\n", "Permissions-Policy: camera=()\r\n", "X-Content-Type-Options: nosniff\r\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("the answer lacks %q: %q", want, got)
		}
	}
}

func TestCORS(t *testing.T) { // WEB-3: closed unless named
	get := "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nOrigin: %s\r\n\r\n"
	pre := "OPTIONS / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nOrigin: %s\r\nAccess-Control-Request-Method: %s\r\nAccess-Control-Request-Headers: %s\r\n\r\n"
	run := func(q *Request) { q.HTTP.SetBodyString("served") }
	off := serve(t, run)
	if got := off.raw(fmt.Sprintf(get, "https://a.example")); strings.Contains(got, "Access-Control") {
		t.Error(got)
	}
	s := serve(t, run, func(c *Config) {
		c.CORS = CORS{Enabled: true, AllowedOrigins: []string{"https://a.example", "https://*.b.example"}, AllowedMethods: []string{"GET", "PUT"}, AllowedHeaders: []string{"Authorization"},
			ExposedHeaders: []string{"X-Total-Count"}, AllowCredentials: true, MaxAge: 9}
	})
	for send, want := range map[string]string{
		fmt.Sprintf(get, "https://a.example"):                         "Access-Control-Allow-Origin: https://a.example\r\n",
		fmt.Sprintf(get, "https://x.b.example"):                       "Access-Control-Expose-Headers: X-Total-Count\r\n",
		fmt.Sprintf(get, "https://evil.example"):                      "!Access-Control-Allow-Origin",
		fmt.Sprintf(get, "https://b.example.evil"):                    "!Access-Control-Allow-Origin",
		fmt.Sprintf(pre, "https://a.example", "PUT", "authorization"): "Access-Control-Allow-Methods: PUT\r\n",
		fmt.Sprintf(pre, "https://a.example", "PUT", "Authorization"): "Access-Control-Max-Age: 9\r\n",
		fmt.Sprintf(pre, "https://a.example", "DELETE", ""):           "!Access-Control-Allow-Methods",
		fmt.Sprintf(pre, "https://a.example", "PUT", "X-Other"):       "!Access-Control-Allow-Methods",
		fmt.Sprintf(pre, "https://evil.example", "PUT", ""):           "!Access-Control-Allow-Origin",
		fmt.Sprintf(pre, "https://evil.example", "PUT", "") + "":      "HTTP/1.1 204",
	} {
		got := s.raw(send)
		if text, no := strings.CutPrefix(want, "!"); no == strings.Contains(got, text) {
			t.Errorf("%q: want %q: %q", send, want, got)
		}
	}
	bad := DefaultConfig()
	bad.CORS = CORS{Enabled: true, AllowedOrigins: []string{"*"}, AllowCredentials: true}
	if err := bad.Validate(); err == nil {
		t.Error("credentials for every origin")
	}
}

// authority makes certificates.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := x509.ParseCertificate(der)
	return &authority{key, cert}
}

// make writes a certificate for 127.0.0.1 and its key, and gives it.
func (a *authority) make(t *testing.T, dir, name string) tls.Certificate {
	t.Helper()
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	kb, _ := x509.MarshalPKCS8PrivateKey(key)
	for file, b := range map[string]*pem.Block{"crt": {Type: "CERTIFICATE", Bytes: der}, "key": {Type: "PRIVATE KEY", Bytes: kb}, "ca": {Type: "CERTIFICATE", Bytes: a.cert.Raw}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestTLSWithClientCertificatesAndReload(t *testing.T) {
	ca, other, dir := newAuthority(t), newAuthority(t), t.TempDir()
	ca.make(t, dir, "one")
	s := serve(t, func(q *Request) { q.HTTP.SetBodyString(fmt.Sprint("secure ", q.Secure)) }, func(c *Config) {
		c.ConfigDir = dir
		c.CertificateFile, c.CertificateKeyFile, c.CACertificates = "crt", "key", []string{"ca"}
		c.Bindings[0].EnableHTTPS, c.Bindings[0].ClientAuthType = true, 1
	})
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	call := func(certs ...tls.Certificate) (string, string, error) {
		c, err := tls.Dial("tcp", s.addr, &tls.Config{RootCAs: pool, Certificates: certs, NextProtos: []string{"h2", "http/1.1"}})
		if err != nil {
			return "", "", err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(wait))
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		b, err := io.ReadAll(c)
		if len(b) > 0 {
			err = nil
		}
		return string(b), c.ConnectionState().PeerCertificates[0].Subject.CommonName + " " + c.ConnectionState().NegotiatedProtocol, err
	}
	client := ca.make(t, t.TempDir(), "client")
	if got, name, err := call(client); err != nil || !strings.Contains(got, "secure true") || name != "one http/1.1" {
		t.Fatalf("%q %q %v", got, name, err)
	}
	if got, _, err := call(); err == nil {
		t.Errorf("without a certificate: %q", got)
	}
	if got, _, err := call(other.make(t, t.TempDir(), "client")); err == nil {
		t.Errorf("with another authority's: %q", got)
	}
	ca.make(t, dir, "two")
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if _, name, err := call(client); err != nil || name != "two http/1.1" {
		t.Errorf("after the reload: %q %v", name, err)
	}
	os.WriteFile(filepath.Join(dir, "crt"), []byte("nonsense"), 0o600)
	if err := s.Reload(); err == nil {
		t.Error("a broken certificate was taken")
	}
	if _, name, err := call(client); err != nil || name != "two http/1.1" {
		t.Errorf("after a reload that failed: %q %v", name, err)
	}
}

// TestFilesGoOutWhole: the way that has sendfile, and ranges of it.
func TestFilesGoOutWhole(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	data := make([]byte, 3*pieceSize+777)
	rand.Read(data)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, func(q *Request) {
		f, err := os.Open(file)
		if err != nil {
			t.Error(err)
			return
		}
		q.OnDone(func() { f.Close() })
		f.Seek(5, io.SeekStart)
		q.HTTP.SetBodyStream(io.LimitReader(f, int64(len(data)-10)), len(data)-10)
	})
	res, err := http.Get("http://" + s.addr)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(res.Body)
	res.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if err != nil || string(got) != string(data[5:len(data)-5]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestShutdownLetsRequestsFinishAndThenCuts(t *testing.T) {
	began, release := make(chan struct{}, 2), make(chan struct{})
	s := serve(t, func(q *Request) {
		began <- struct{}{}
		select {
		case <-release:
			q.HTTP.SetBodyString("finished")
		case <-q.Context().Done():
		}
	})
	answer := make(chan string, 1)
	go func() { answer <- s.raw("GET / HTTP/1.1\r\nHost: x\r\n\r\n") }()
	<-began
	stopped := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		defer cancel()
		stopped <- s.stop(ctx)
	}()
	until(t, "nobody is let in", func() bool {
		c, err := net.Dial("tcp", s.addr)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	close(release)
	if got := <-answer; !strings.Contains(got, "finished") {
		t.Error(got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}

	cut := serve(t, func(q *Request) {
		began <- struct{}{}
		<-q.Context().Done()
	})
	go func() { answer <- cut.raw("GET / HTTP/1.1\r\nHost: x\r\n\r\n") }()
	<-began
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := cut.stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cut: %v", err)
	}
	<-answer
}

// slow is a connection whose peer takes its time.
type slow struct {
	net.Conn
	deadlines []time.Time
	read      func(p []byte) (int, error)
}

func (s *slow) SetReadDeadline(t time.Time) error  { s.deadlines = append(s.deadlines, t); return nil }
func (s *slow) SetWriteDeadline(t time.Time) error { return nil }
func (s *slow) Read(p []byte) (int, error)         { return s.read(p) }

// TestDeadlinesOfAConnection: a head has one deadline however it trickles, a body a new one at each read, and a rate
// (HTTP-1, slowloris).
func TestDeadlinesOfAConnection(t *testing.T) {
	raw := &slow{read: func(p []byte) (int, error) { return 1, nil }}
	c := newConn(raw, &binding{conns: map[*conn]struct{}{}}, "HTTP_1")
	p := make([]byte, 10)
	for range 3 {
		c.Read(p)
	}
	if d := raw.deadlines; !d[0].Equal(d[1]) || !d[1].Equal(d[2]) || time.Until(d[0]) > headWait {
		t.Errorf("the head's deadline moves: %v", d)
	}
	c.phase.Store(inWork)
	c.Read(p)
	if d := time.Until(raw.deadlines[3]); d > moveWait || d < moveWait-wait {
		t.Errorf("a body's deadline is in %v", d)
	}
	c.waited, c.came = rateWindow, 10
	if _, err := c.Read(p); !errors.Is(err, errSlow) {
		t.Errorf("10 bytes in %v: %v", rateWindow, err)
	}
	c.waited, c.came = rateWindow, int64(rateWindow/time.Second)*minRate
	if _, err := c.Read(p); err != nil {
		t.Errorf("at the least rate: %v", err)
	}
	c.phase.Store(atRest)
	c.Read(p)
	if d := time.Until(raw.deadlines[len(raw.deadlines)-1]); d > idleWait || d < idleWait-wait {
		t.Errorf("at rest the deadline is in %v", d)
	}
	if c.phase.Load() != inHead {
		t.Error("the first byte of a request does not begin it")
	}
}
