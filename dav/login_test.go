package dav

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
)

func TestLogin(t *testing.T) {
	x := start(t, setup{users: []account.User{sessiontest.User("u"), sessiontest.User("v")}})
	x.file("/f", []byte("of u"))
	for _, tt := range []struct {
		header string
		code   int
	}{
		{login, 200}, {"Authorization: basic dTpzZWNyZXQ=", 200}, {authorization("u", "wrong"), 401}, {authorization("nobody", "secret"), 401}, {authorization("", ""), 401},
		{authorization("u", ""), 401}, {"Authorization: Basic", 401}, {"Authorization: Basic !!!", 401}, {"Authorization: Basic dQ==", 401}, {"Authorization: Bearer x", 401},
		{"Authorization: Digest username=u", 401}, {"Authorization", 401},
	} {
		c := x.dial()
		g := c.ask("GET", "/f", tt.header).want(t, tt.code)
		if tt.code != 401 {
			continue
		}
		if a := g.header.Get("Www-Authenticate"); !strings.HasPrefix(a, "Basic realm=") {
			t.Errorf("%s: challenge %q", tt.header, a)
		}
		if g.body != "Log in\n" { // AUTH-4: nothing tells why
			t.Errorf("%s: %q", tt.header, g.body)
		}
	}
	// A connection may be somebody else's at each request, as behind a proxy.
	c := x.dial()
	c.ask("GET", "/f").want(t, 200)
	c.ask("GET", "/f", authorization("v", "secret")).want(t, 404)
	c.ask("GET", "/f").want(t, 200)
	c.ask("GET", "/f", "Authorization").want(t, 401)
	c.ask("GET", "/f").want(t, 200)
	for len(x.env.Server.Sessions()) > 4 { // of the four connections that are open
		time.Sleep(time.Millisecond)
	}
	for len(x.env.Failures) > 0 {
		if f := <-x.env.Failures; f.Protocol != "DAV" {
			t.Errorf("a failure of %q", f.Protocol)
		}
	}
}

// TestFailedLoginEndsTheConnection: the next guess passes the gate. AUTH-9
func TestFailedLoginEndsTheConnection(t *testing.T) {
	x := start(t, setup{})
	c := x.dial()
	c.send(headOf("GET", "/", authorization("u", "a")) + "\r\n" + headOf("GET", "/", authorization("u", "b")) + "\r\n")
	if g := c.read("GET").want(t, 401); !g.close {
		t.Error("the connection goes on")
	}
	c.gone()
	if n := len(x.env.Failures); n != 1 {
		t.Errorf("%d failures were counted", n)
	}
}

// TestRulesHoldAtEachRequest: AUTH-3, AUTH-8. A login is looked at again, on the connection that it opened and on others.
func TestRulesHoldAtEachRequest(t *testing.T) {
	x := start(t, setup{})
	c := x.dial()
	c.ask("GET", "/").want(t, 200)
	x.env.Store.Deny("u", errors.New("expired"))
	c.ask("GET", "/").want(t, 401)
	x.dial().ask("GET", "/").want(t, 401)
	x.env.Store.Deny("u", nil)
	c = x.dial()
	c.ask("GET", "/").want(t, 200)
	u := sessiontest.User("u")
	u.Password = "another"
	x.env.Store.PutUser(u)
	c.ask("GET", "/").want(t, 401)
	x.dial().ask("GET", "/").want(t, 401)
	x.dial().ask("GET", "/", authorization("u", "another")).want(t, 200)
	u.Permissions = map[string][]string{"/": {"list"}}
	x.env.Store.PutUser(u)
	c = x.dial()
	c.do("PUT", "/f", nil, authorization("u", "another")).want(t, 403)
	u.Permissions = map[string][]string{"/": {"*"}}
	x.env.Store.PutUser(u)
	c.do("PUT", "/f", nil, authorization("u", "another")).want(t, 201)
	x.env.Store.Fault(func(string) error { return errors.New("lost") }) // AUTH-5
	c.ask("GET", "/", authorization("u", "another")).want(t, 401)
	x.env.Store.Fault(nil)
}

// TestCachedLogins: cache.users.
func TestCachedLogins(t *testing.T) {
	var users []account.User
	for _, n := range []string{"a", "b", "c"} {
		users = append(users, sessiontest.User(n))
	}
	x := start(t, setup{users: users, change: func(c *Config) { c.Cache.Users = UserCache{ExpirationTime: 1, MaxSize: 2} }})
	now := time.Now()
	as := func(name string) {
		t.Helper()
		x.dial().ask("GET", "/", authorization(name, "secret")).want(t, 200)
	}
	keys := func() int {
		x.logged.mu.Lock()
		defer x.logged.mu.Unlock()
		return len(x.logged.by)
	}
	as("a")
	as("b")
	as("a")
	as("c")
	if n := keys(); n != 2 {
		t.Errorf("%d logins are kept, 2 may be", n)
	}
	k := x.logged.key(netip.MustParseAddr("127.0.0.1"), "a", "secret", nil)
	if x.logged.find(k, now) == nil {
		t.Error("the login used last is forgotten")
	}
	if x.logged.find(k, now.Add(2*time.Minute)) != nil {
		t.Error("the login is kept for longer than its time")
	}
	if x.logged.find(x.logged.key(netip.MustParseAddr("127.0.0.2"), "c", "secret", nil), now) != nil {
		t.Error("the login of another client is taken")
	}
}

// TestSessionLimit: max_sessions counts connections, and frees them.
func TestSessionLimit(t *testing.T) {
	u := sessiontest.User("u")
	u.MaxSessions = 1
	x := start(t, setup{users: []account.User{u}})
	c := x.dial()
	c.ask("GET", "/").want(t, 200)
	x.dial().ask("GET", "/").want(t, 503)
	c.ask("GET", "/", "Connection: close").want(t, 200)
	c.gone()
	for len(x.env.Server.Sessions()) > 0 {
		time.Sleep(time.Millisecond) // the end of the test's time bounds it
	}
	x.dial().ask("GET", "/").want(t, 200)
}

// TestIdleSessionsRest: a connection that idles holds no session, and has one again when it goes on.
func TestIdleSessionsRest(t *testing.T) {
	u := sessiontest.User("u")
	u.MaxSessions = 1
	x := start(t, setup{users: []account.User{u}, rest: time.Millisecond})
	idle := func() {
		for len(x.env.Server.Sessions()) > 0 {
			time.Sleep(time.Millisecond)
		}
	}
	a, b := x.dial(), x.dial()
	for range 2 {
		a.ask("GET", "/").want(t, 200)
		idle()
		b.ask("GET", "/").want(t, 200)
		idle()
	}
	a.ask("GET", "/", "Authorization").want(t, 401)
	b.ask("GET", "/", authorization("u", "wrong")).want(t, 401)
	a.ask("GET", "/").want(t, 200)
	idle()
	x.env.Store.Deny("u", errors.New("expired"))
	a.ask("GET", "/").want(t, 401)
}

// TestKill: an administrator's kill ends the connection and what it does.
func TestKill(t *testing.T) {
	x := start(t, setup{})
	c := x.dial()
	c.send(headOf("PUT", "/f", "Content-Length: 100000", "Expect: 100-continue") + "\r\n")
	c.r.ReadString('\n')
	c.r.ReadString('\n')
	if n := x.env.Server.KillUser("u", session.ErrKilled); n != 1 {
		t.Fatalf("%d sessions", n)
	}
	go c.nc.Write(pattern(100_000))
	if g, err := c.tryRead("PUT"); err == nil && g.code < 400 {
		t.Errorf("the upload went on: %d", g.code)
	}
	x.dial().ask("GET", "/f").want(t, 404)
	c = x.dial()
	c.ask("GET", "/").want(t, 200)
	x.env.Server.KillUser("u", session.ErrKilled)
	c.gone()
}

// testGate lets in, or not.
type testGate struct {
	mu       sync.Mutex
	refuse   map[string]error // by address; of Admit
	tooFast  error            // of Take
	admitted map[string]int
	taken    map[string]int
}

func newTestGate() *testGate {
	return &testGate{refuse: map[string]error{}, admitted: map[string]int{}, taken: map[string]int{}}
}

func (g *testGate) Admit(_ context.Context, a netip.Addr) (func(), error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.refuse[a.String()]; err != nil {
		return nil, err
	}
	g.admitted[a.String()]++
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.admitted[a.String()]--
	}, nil
}

func (g *testGate) Take(_ context.Context, a netip.Addr) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.taken[a.String()]++
	return g.tooFast
}

func (g *testGate) Unlimited() bool { return false }

func (g *testGate) set(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
}

func TestGate(t *testing.T) {
	g := newTestGate()
	x := start(t, setup{gate: g})
	c := x.dial()
	c.ask("GET", "/").want(t, 200)
	c.ask("GET", "/").want(t, 200)
	g.set(func() {
		if g.taken["127.0.0.1"] != 1 || g.admitted["127.0.0.1"] != 1 {
			t.Errorf("taken %v, admitted %v", g.taken, g.admitted)
		}
		g.tooFast = &TooFast{After: 2500 * time.Millisecond, Err: errors.New("too fast")}
	})
	a := c.ask("GET", "/").want(t, 429)
	if a.header.Get("Retry-After") != "3" || a.header.Get("X-Retry-In") != "2.5s" {
		t.Errorf("%v", a.header)
	}
	for err, code := range map[error]int{ErrBusy: 503, errors.New("banned"): 403, &TooFast{After: time.Second, Err: errors.New("too fast")}: 429} {
		g.set(func() { g.refuse["127.0.0.1"] = err })
		c := x.dial()
		c.read("GET").want(t, code)
	}
}

// TestProxy: the header of a trusted proxy names the client, for rules and the gate alike; nobody else's does. AUTH-6, AUTH-9
func TestProxy(t *testing.T) {
	for _, trusted := range []bool{true, false} {
		g := newTestGate()
		x := start(t, setup{gate: g, change: func(c *Config) {
			c.Bindings[0].ProxyAllowed = []string{"192.0.2.1"}
			if trusted {
				c.Bindings[0].ProxyAllowed = []string{"127.0.0.0/8"}
			}
		}})
		g.set(func() {
			g.refuse["203.0.113.9"] = errors.New("banned")
			if trusted {
				g.refuse["127.0.0.1"] = errors.New("banned") // a proxy is nobody's client
			}
		})
		c := x.dial()
		c.ask("GET", "/", "X-Forwarded-For: 203.0.113.9, 198.51.100.7").want(t, 200)
		client := "127.0.0.1"
		if trusted {
			client = "198.51.100.7"
		}
		list := x.env.Server.Sessions()
		if len(list) != 1 || !strings.HasPrefix(list[0].Remote, client) {
			t.Errorf("trusted %v: the session is of %+v", trusted, list)
		}
		g.set(func() {
			if g.admitted[client] != 1 {
				t.Errorf("trusted %v: admitted %v", trusted, g.admitted)
			}
		})
		// The next request of the same connection is another client's.
		if trusted {
			c.ask("GET", "/", "X-Forwarded-For: 203.0.113.9").want(t, 403)
			c = x.dial()
			c.ask("GET", "/", "X-Forwarded-For: 198.51.100.8").want(t, 200)
			c.ask("GET", "/", "X-Forwarded-For: 198.51.100.9").want(t, 200)
			g.set(func() {
				if g.admitted["198.51.100.8"] != 0 || g.admitted["198.51.100.9"] != 1 {
					t.Errorf("admitted %v", g.admitted)
				}
			})
		} else {
			c.ask("GET", "/", "X-Forwarded-For: 203.0.113.9").want(t, 200)
		}
	}
}

func TestForwardedFor(t *testing.T) {
	for _, tt := range []struct {
		list  string
		depth int
		want  string
	}{
		{"192.0.2.1", 0, "192.0.2.1"}, {"192.0.2.1, 192.0.2.2", 0, "192.0.2.2"}, {"192.0.2.1, 192.0.2.2", 1, "192.0.2.1"}, {"192.0.2.1, 192.0.2.2", 2, ""},
		{"192.0.2.1, 192.0.2.2", -1, "192.0.2.1"}, {"", 0, ""}, {"unknown", 0, ""}, {"[2001:db8::1]", 0, "2001:db8::1"}, {"[2001:db8::1]:80", 0, "2001:db8::1"},
		{"192.0.2.1:8080", 0, "192.0.2.1"}, {"::ffff:192.0.2.1", 0, "192.0.2.1"}, {"fe80::1%eth0", 0, "fe80::1"}, {"192.0.2.1,", 0, ""},
	} {
		a, ok := forwardedFor(tt.list, tt.depth)
		if got := map[bool]string{true: a.String()}[ok]; got != tt.want {
			t.Errorf("%q at %d: %q, want %q", tt.list, tt.depth, got, tt.want)
		}
	}
}

func TestCORS(t *testing.T) {
	x := start(t, setup{change: func(c *Config) {
		c.CORS = CORS{
			Enabled: true, AllowedOrigins: []string{"https://app.example", "https://*.example.org"}, AllowedMethods: []string{"GET", "propfind"},
			AllowedHeaders: []string{"depth", "Authorization"}, ExposedHeaders: []string{"DAV", "ETag"}, AllowCredentials: true, MaxAge: 60,
		}
	}})
	c := x.dial()
	for _, tt := range []struct {
		origin, method, headers string
		ok                      bool
	}{
		{"https://app.example", "PROPFIND", "Depth", true}, {"https://a.example.org", "GET", "", true}, {"https://evil.example", "GET", "", false},
		{"https://app.example.evil", "GET", "", false}, {"https://app.example", "DELETE", "", false}, {"https://app.example", "GET", "X-Other", false}, {"null", "GET", "", false},
	} {
		g := c.ask("OPTIONS", "/", "Authorization", "Origin: "+tt.origin, "Access-Control-Request-Method: "+tt.method, "Access-Control-Request-Headers: "+tt.headers).want(t, 204)
		want := ""
		if tt.ok {
			want = tt.origin
		}
		if got := g.header.Get("Access-Control-Allow-Origin"); got != want || g.header.Get("Vary") != "Origin" {
			t.Errorf("%+v: allowed %q", tt, got)
		}
	}
	g := c.ask("GET", "/", "Origin: https://app.example").want(t, 200)
	if g.header.Get("Access-Control-Allow-Origin") != "https://app.example" || g.header.Get("Access-Control-Expose-Headers") != "DAV, ETag" || g.header.Get("Access-Control-Allow-Credentials") != "true" {
		t.Errorf("%v", g.header)
	}
	if g := c.ask("GET", "/", "Authorization", "Origin: https://app.example").want(t, 401); g.header.Get("Access-Control-Allow-Origin") == "" {
		t.Errorf("the challenge has no CORS fields: %v", g.header)
	}
	if g := c.ask("GET", "/", "Origin: https://evil.example").want(t, 200); g.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("%v", g.header)
	}
}

// TestClientCertificates: a certificate alone is a login where the account takes it, and is asked for where the binding
// wants one.
func TestClientCertificates(t *testing.T) {
	u := sessiontest.User("u")
	u.Filters.TLSUsername = "CommonName"
	caFile, client := clientCA(t, "u")
	_, other := clientCA(t, "u")
	for _, mode := range []int{1, 2} {
		x := start(t, setup{users: []account.User{u}, change: func(c *Config) {
			withTLS(t)(c)
			c.CACertificates = []string{caFile}
			c.Bindings[0].ClientAuthType = mode
		}})
		x.tls.Certificates = []tls.Certificate{client}
		c := x.dial()
		c.ask("GET", "/", "Authorization").want(t, 200)
		c.ask("GET", "/").want(t, 200)
		c.ask("GET", "/", authorization("u", "wrong")).want(t, 401)
		x.tls.Certificates = nil
		c = x.dial()
		if mode == 1 {
			if _, err := c.nc.Write([]byte(headOf("GET", "/") + "\r\n")); err == nil {
				if g, err := c.tryRead("GET"); err == nil {
					t.Errorf("without a certificate: %d", g.code)
				}
			}
		} else {
			c.ask("GET", "/").want(t, 200)
			c.ask("GET", "/", "Authorization").want(t, 401)
		}
		x.tls.Certificates = []tls.Certificate{other}
		c = x.dial()
		c.nc.Write([]byte(headOf("GET", "/") + "\r\n"))
		if g, err := c.tryRead("GET"); err == nil {
			t.Errorf("with a certificate of another CA: %d", g.code)
		}
	}
}

// clientCA makes a CA and a client's certificate that it has signed.
func clientCA(t testing.TB, name string) (file string, client tls.Certificate) {
	t.Helper()
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	caKey, k := key(), key()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(crand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(crand.Reader, c, ca, &k.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "ca")
	os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), 0o600)
	return file, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}
}

func TestConfig(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Config)
		want   string // of the error; "" is valid
	}{
		"defaults":      {func(c *Config) {}, ""},
		"port":          {func(c *Config) { c.Bindings[0].Port = 70000 }, "webdavd.bindings[0].port"},
		"no cert":       {func(c *Config) { c.Bindings[0].Port, c.Bindings[0].EnableHTTPS = 80, true }, "enable_https"},
		"no CA":         {func(c *Config) { c.Bindings[0].Port, c.Bindings[0].ClientAuthType = 80, 1 }, "ca_certificates"},
		"half a pair":   {func(c *Config) { c.CertificateFile = "x" }, "belong together"},
		"prefix":        {func(c *Config) { c.Bindings[0].Prefix = "dav" }, "prefix"},
		"prefix end":    {func(c *Config) { c.Bindings[0].Prefix = "/dav/" }, "prefix"},
		"prefix dots":   {func(c *Config) { c.Bindings[0].Prefix = "/dav/../x" }, "prefix"},
		"good prefix":   {func(c *Config) { c.Bindings[0].Prefix = "/a/b" }, ""},
		"proxy":         {func(c *Config) { c.Bindings[0].ProxyAllowed = []string{"x"} }, "proxy_allowed"},
		"proxy header":  {func(c *Config) { c.Bindings[0].Port, c.Bindings[0].ClientIPProxyHeader = 80, "X-Real-IP" }, "proxy_allowed"},
		"suite":         {func(c *Config) { c.Bindings[0].TLSCipherSuites = []string{"x"} }, "tls_cipher_suites"},
		"TLS version":   {func(c *Config) { c.Bindings[0].MinTLSVersion = 9 }, "min_tls_version"},
		"any origin":    {func(c *Config) { c.CORS = CORS{Enabled: true, AllowCredentials: true, AllowedOrigins: []string{"*"}} }, "allow_credentials"}, // WEB-3
		"two stars":     {func(c *Config) { c.CORS.AllowedOrigins = []string{"*.*"} }, "allowed_origins"},
		"cache":         {func(c *Config) { c.Cache.Users.MaxSize = -1 }, "cache.users.max_size"},
		"extension":     {func(c *Config) { c.Cache.MimeTypes.CustomMappings = []MimeMapping{{"txt", "text/plain"}} }, "ext"},
		"type":          {func(c *Config) { c.Cache.MimeTypes.CustomMappings = []MimeMapping{{".txt", "a\nb/c"}} }, "mime"},
		"header time":   {func(c *Config) { c.HeaderTimeout = 0 }, "header_timeout"},
		"success":       {func(c *Config) { c.CORS.OptionsSuccessStatus = 500 }, "options_success_status"},
		"too many logs": {func(c *Config) { c.StallTimeout = -1 }, "stall_timeout"},
	} {
		c := DefaultConfig()
		tt.change(&c)
		err := c.Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	b := Binding{ProxyAllowed: []string{"10.0.0.0/8", "::1"}}
	for a, want := range map[string]bool{"10.1.2.3": true, "::ffff:10.1.2.3": true, "::1": true, "192.0.2.1": false} {
		if got := b.Proxies()(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: %v", a, got)
		}
	}
}

func TestContentTypes(t *testing.T) {
	x := start(t, setup{change: func(c *Config) { c.Cache.MimeTypes.CustomMappings = []MimeMapping{{".RAW", "image/x-raw"}} }})
	c := x.dial()
	for name, want := range map[string]string{
		"a.txt": "text/plain; charset=utf-8", "a.PDF": "application/pdf", "a.raw": "image/x-raw", "a": unknownType, ".txt": unknownType, "a.none-such": unknownType, "a.tar.gz": "application/gzip",
	} {
		x.file("/"+name, nil)
		if got := c.ask("HEAD", "/"+name).header.Get("Content-Type"); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
