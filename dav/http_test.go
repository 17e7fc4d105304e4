package dav

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"
)

// smuggled are requests that some servers take for one thing and others for another. Each is followed by a second one
// that must never be answered as a request of its own. code is ours. HTTP-1
var smuggled = []struct {
	name, head, body string
	code             int
}{
	{"length and coding", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\n\r\n", 400},
	{"coding and length", "PUT /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n", "0\r\n\r\n", 400},
	{"two lengths", "PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 0\r\n\r\n", "abc", 400},
	{"two equal lengths", "PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", "abc", 400},
	{"list of lengths", "PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3, 3\r\n\r\n", "abc", 400},
	{"negative length", "PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", "", 400},
	{"signed length", "PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: +3\r\n\r\n", "abc", 400},
	{"hexadecimal length", "PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 0x3\r\n\r\n", "abc", 400},
	{"huge length", "PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\n", "", 400},
	{"empty length", "PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: \r\n\r\n", "", 400},
	{"space in length", "PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1 0\r\n\r\n", "a", 400},
	{"space before colon", "PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length : 3\r\n\r\n", "abc", 400},
	{"tab before colon", "PUT /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding\t: chunked\r\n\r\n", "0\r\n\r\n", 400},
	{"coding twice", "PUT /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\n\r\n", 400},
	{"coding list", "PUT /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "0\r\n\r\n", 501},
	{"coding not last", "PUT /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, identity\r\n\r\n", "0\r\n\r\n", 501},
	{"coding unknown", "PUT /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n", "", 501},
	{"coding with a control", "PUT /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", "", 400},
	{"coding in HTTP/1.0", "PUT /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\n\r\n", 400},
	{"folded field", "PUT /x HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", "", 400},
	{"folded coding", "PUT /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n chunked\r\n\r\n", "0\r\n\r\n", 501},
	{"folded first", "PUT /x HTTP/1.1\r\n Host: h\r\n\r\n", "", 400},
	{"bare CR", "GET / HTTP/1.1\r\nHost: h\r\nX: a\rContent-Length: 5\r\n\r\n", "", 400},
	{"bare LF", "GET / HTTP/1.1\nHost: h\n\n", "", 400},
	{"bare LF in fields", "GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n", "", 400},
	{"NUL in a value", "GET / HTTP/1.1\r\nHost: h\r\nX: a\x00b\r\n\r\n", "", 400},
	{"NUL in a name", "GET / HTTP/1.1\r\nHost: h\r\nX\x00: a\r\n\r\n", "", 400},
	{"no colon", "GET / HTTP/1.1\r\nHost: h\r\nnothing\r\n\r\n", "", 400},
	{"empty name", "GET / HTTP/1.1\r\nHost: h\r\n: a\r\n\r\n", "", 400},
	{"no host", "GET / HTTP/1.1\r\n\r\n", "", 400},
	{"two hosts", "GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", "", 400},
	{"empty host", "GET / HTTP/1.1\r\nHost: \r\n\r\n", "", 400},
	{"host with a path", "GET / HTTP/1.1\r\nHost: h/x\r\n\r\n", "", 400},
	{"host with a user", "GET / HTTP/1.1\r\nHost: a@h\r\n\r\n", "", 400},
	{"two logins", "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Basic YTpi\r\nAuthorization: Basic dTpzZWNyZXQ=\r\n\r\n", "", 400},
	{"two destinations", "MOVE /a HTTP/1.1\r\nHost: h\r\nDestination: /b\r\nDestination: /c\r\n\r\n", "", 400},
	{"two spaces", "GET  / HTTP/1.1\r\nHost: h\r\n\r\n", "", 400},
	{"space in the target", "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", "", 400},
	{"no target", "GET HTTP/1.1\r\nHost: h\r\n\r\n", "", 400},
	{"HTTP/0.9", "GET /\r\n\r\n", "", 400},
	{"HTTP/2", "PRI * HTTP/2.0\r\n\r\n", "SM\r\n\r\n", 505},
	{"HTTP/1.2", "GET / HTTP/1.2\r\nHost: h\r\n\r\n", "", 505},
	{"lower case version", "GET / http/1.1\r\nHost: h\r\n\r\n", "", 400},
	{"method with a slash", "GE/T / HTTP/1.1\r\nHost: h\r\n\r\n", "", 400},
	{"long method", strings.Repeat("A", 100) + " / HTTP/1.1\r\nHost: h\r\n\r\n", "", 400},
	{"TLS in clear", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "", 400},
	{"chunk size with a sign", "PUT /x HTTP/1.1\r\nHost: h\r\n" + login + "\r\nTransfer-Encoding: chunked\r\n\r\n", "+1\r\na\r\n0\r\n\r\n", 400},
	{"chunk size with a space", "PUT /x HTTP/1.1\r\nHost: h\r\n" + login + "\r\nTransfer-Encoding: chunked\r\n\r\n", "1 \r\na\r\n0\r\n\r\n", 400},
	{"chunk size with 0x", "PUT /x HTTP/1.1\r\nHost: h\r\n" + login + "\r\nTransfer-Encoding: chunked\r\n\r\n", "0x1\r\na\r\n0\r\n\r\n", 400},
	{"chunk size that overflows", "PUT /x HTTP/1.1\r\nHost: h\r\n" + login + "\r\nTransfer-Encoding: chunked\r\n\r\n", "10000000000000001\r\na\r\n0\r\n\r\n", 400},
	{"chunk ends in LF", "PUT /x HTTP/1.1\r\nHost: h\r\n" + login + "\r\nTransfer-Encoding: chunked\r\n\r\n", "1\na\r\n0\r\n\r\n", 400},
	{"chunk longer than its size", "PUT /x HTTP/1.1\r\nHost: h\r\n" + login + "\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nabc\r\n0\r\n\r\n", 400},
	{"bare CR in an extension", "PUT /x HTTP/1.1\r\nHost: h\r\n" + login + "\r\nTransfer-Encoding: chunked\r\n\r\n", "1;a\rb\r\na\r\n0\r\n\r\n", 400},
	{"extensions without end", "PUT /x HTTP/1.1\r\nHost: h\r\n" + login + "\r\nTransfer-Encoding: chunked\r\n\r\n", "1;" + strings.Repeat("a", 20<<10) + "\r\na\r\n0\r\n\r\n", 400},
	{"trailers without end", "PUT /x HTTP/1.1\r\nHost: h\r\n" + login + "\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\n" + strings.Repeat("a: b\r\n", 5000) + "\r\n", 400},
}

// TestSmuggling: HTTP-1.
func TestSmuggling(t *testing.T) {
	x := start(t, setup{})
	for _, tt := range smuggled {
		t.Run(tt.name, func(t *testing.T) {
			c := x.dial()
			c.send(tt.head)
			go io.WriteString(c.nc, tt.body+headOf("MKCOL", "/smuggled")+"\r\n") // the server may end the connection before
			g := c.read("GET").want(t, tt.code)
			if !g.close {
				t.Error("the connection goes on")
			}
			if g, err := c.tryRead("MKCOL"); err == nil {
				t.Errorf("what was behind was answered: %d", g.code)
			}
		})
	}
	c := x.dial()
	c.ask("GET", "/smuggled/").want(t, 404)
}

// TestHeadBounds: HTTP-1.
func TestHeadBounds(t *testing.T) {
	x := start(t, setup{})
	for name, tt := range map[string]struct {
		head string
		code int
	}{
		"fields":  {"GET / HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("X: y\r\n", 101) + "\r\n", 431},
		"bytes":   {"GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("y", 40<<10) + "\r\n\r\n", 431},
		"target":  {"GET /" + strings.Repeat("a", 20<<10) + " HTTP/1.1\r\nHost: h\r\n\r\n", 414},
		"no end":  {"GET / HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("Abc: d\r\n", 10_000), 431},
		"enough":  {"GET / HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("X: y\r\n", 99) + "\r\n", 401},
		"empties": {strings.Repeat("\r\n", 1000), 400},
	} {
		t.Run(name, func(t *testing.T) {
			c := x.dial()
			go io.WriteString(c.nc, tt.head)
			c.read("GET").want(t, tt.code)
		})
	}
}

// TestPaths: PATH-2, on the wire.
func TestPaths(t *testing.T) {
	x := start(t, setup{})
	x.file("/d%5ce", []byte("backslash"))
	x.file("/%252e%252e", []byte("once")) // a name with percent signs
	x.file("/a%20b", []byte("space"))
	for target, code := range map[string]int{
		"/..": 400, "/../etc/passwd": 400, "/a/../b": 400, "/%2e%2e/x": 400, "/%2e%2E": 400, "/.%2e/": 400, "/a%00b": 400, "/%": 400, "/%2": 400, "/%zz": 400,
		"/a%2fb": 400, "/..%2f": 400, "/a%2F..%2Fb": 400, "/a/..": 400, "//": 200, "/./": 200, "/.": 200, "/..a": 404, "/a..": 404, "/...": 404,
		"/%252e%252e": 200, "/d%5ce": 200, `/d\e`: 200, "/a%20b": 200, "/a+b": 404, "/a%20b?x=/../y": 200, "http://h/a%20b": 200, "HTTP://h/a%20b": 200, "http://h/../x": 400,
		"ftp://h/x": 400, "h:80": 400, "*": 400, "/a#b": 400, "http://u@h/": 400, "http:///": 400, "//a%20b": 200, "/" + strings.Repeat("n", 256): 400,
		"/" + strings.Repeat("n/", 3000): 400,
	} {
		if g := x.dial().ask("GET", target); g.code != code {
			t.Errorf("GET %.60s: %d, want %d", target, g.code, code)
		}
	}
}

func TestPrefix(t *testing.T) {
	x := start(t, setup{change: func(c *Config) { c.Bindings[0].Prefix = "/dav" }})
	c := x.dial()
	c.do("PUT", "/dav/f", []byte("x")).want(t, 201)
	for target, code := range map[string]int{
		"/dav/f": 200, "/dav": 200, "/dav/": 200, "/": 404, "/f": 404, "/davf": 404, "/dav/../f": 400, "/DAV/f": 404, "/d%61v/f": 200, "//dav/f": 404,
	} {
		if g := c.ask("GET", target); g.code != code {
			t.Errorf("GET %s: %d, want %d", target, g.code, code)
		}
	}
	if g := c.ask("GET", "/dav"); !strings.Contains(g.body, `href="/dav/f"`) {
		t.Errorf("the page has no link below the prefix: %s", g.body)
	}
}

// TestKeepAlive: how connections go on and end (RFC 9112 9).
func TestKeepAlive(t *testing.T) {
	x := start(t, setup{})
	x.file("/f", []byte("x"))
	for _, tt := range []struct {
		request string
		close   bool
	}{
		{"GET /f HTTP/1.1\r\nHost: h\r\n" + login + "\r\n\r\n", false},
		{"GET /f HTTP/1.1\r\nHost: h\r\n" + login + "\r\nConnection: close\r\n\r\n", true},
		{"GET /f HTTP/1.1\r\nHost: h\r\n" + login + "\r\nConnection: te, CLOSE\r\n\r\n", true},
		{"GET /f HTTP/1.0\r\n" + login + "\r\n\r\n", true},
		{"GET /f HTTP/1.0\r\n" + login + "\r\nConnection: keep-alive\r\n\r\n", false},
		{"GET / HTTP/1.0\r\n" + login + "\r\nConnection: keep-alive\r\n\r\n", false},
		{"GET /f HTTP/1.1\r\nHost: h\r\n\r\n", false}, // 401
		{"PUT /f HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", false},
		{"PUT /f HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100_000), false},
		{"PUT /none/f HTTP/1.1\r\nHost: h\r\n" + login + "\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100_000), false},
		{"GET /f HTTP/1.1\r\nHost: h\r\n" + login + "\r\nContent-Length: 5\r\n\r\nhello", false},
		{"PUT /none/f HTTP/1.1\r\nHost: h\r\n" + login + "\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", true},
		{"POST /f HTTP/1.1\r\nHost: h\r\n" + login + "\r\nContent-Length: 2\r\n\r\nab", false},
		{"\r\n\r\nGET /f HTTP/1.1\r\nHost: h\r\n" + login + "\r\n\r\n", false},
	} {
		c := x.dial()
		c.send(tt.request)
		g := c.read("GET")
		if g.close != tt.close {
			t.Errorf("%.80q: %d, close %v, want %v", tt.request, g.code, g.close, tt.close)
		}
		if !tt.close {
			if g := c.ask("GET", "/f"); g.code != 200 || g.body != "x" {
				t.Errorf("%.80q: the next request has %d %q", tt.request, g.code, g.body)
			}
		}
	}
}

// TestManyUnwantedBytes: a body that nobody wants does not keep the client from its answer.
func TestManyUnwantedBytes(t *testing.T) {
	x := start(t, setup{})
	c := x.dial()
	go c.nc.Write([]byte(headOf("PUT", "/none/f", "Content-Length: 20000000") + "\r\n" + string(pattern(20_000_000))))
	if g := c.read("PUT").want(t, 409); !g.close {
		t.Error("the connection would go on")
	}
}

// TestPipelining: answers come in order, however the requests are cut into pieces.
func TestPipelining(t *testing.T) {
	t.Run("clear", func(t *testing.T) { pipelining(t, setup{}) })
	t.Run("TLS", func(t *testing.T) { pipelining(t, setup{change: withTLS(t)}) }) // whose ciphertext is read ahead of a body
}

func pipelining(t *testing.T, o setup) {
	x := start(t, o)
	x.file("/f", pattern(5000))
	x.file("/big", pattern(200_000))
	var requests []string
	var methods []string
	add := func(method, s string) {
		requests, methods = append(requests, s), append(methods, method)
	}
	for i := range 12 {
		add("GET", headOf("GET", "/f")+"\r\n")
		add("PUT", headOf("PUT", fmt.Sprintf("/p%d", i), "Content-Length: 1000")+"\r\n"+string(pattern(1000)))
		add("GET", headOf("GET", fmt.Sprintf("/p%d", i))+"\r\n")
		add("PUT", headOf("PUT", fmt.Sprintf("/q%d", i), "Transfer-Encoding: chunked")+"\r\n10\r\n0123456789abcdef\r\n5;x\r\nghijk\r\n0\r\nA: b\r\n\r\n")
		add("HEAD", headOf("HEAD", fmt.Sprintf("/q%d", i))+"\r\n")
		add("GET", "GET /f HTTP/1.1\r\nHost: h\r\n\r\n") // 401
		add("OPTIONS", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n")
		add("GET", headOf("GET", "/big")+"\r\n")
		add("PUT", headOf("PUT", fmt.Sprintf("/r%d", i), "Content-Length: 30000")+"\r\n"+string(pattern(30000)))
		add("DELETE", headOf("DELETE", fmt.Sprintf("/r%d", i), "Content-Length: 3")+"\r\nabc")
		add("GET", headOf("GET", "/none")+"\r\n")
	}
	codes := []int{200, 201, 200, 201, 200, 401, 200, 200, 201, 204, 404}
	all := strings.Join(requests, "")
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{len(all), 70_000, 3000, 200, 17} {
		c := x.dial()
		sent := make(chan error, 1)
		go func() {
			for s := all; len(s) > 0; {
				n := min(len(s), 1+rnd.IntN(size))
				if _, err := io.WriteString(c.nc, s[:n]); err != nil {
					sent <- err
					return
				}
				s = s[n:]
			}
			sent <- nil
		}()
		for i, m := range methods {
			g, err := c.tryRead(m)
			if err != nil {
				t.Fatalf("pieces of %d: answer %d to %s: %v", size, i, m, err)
			}
			want := codes[i%len(codes)]
			if want == 201 && size != len(all) {
				want = 204
			}
			if i%len(codes) == 8 {
				want = 201 // it is deleted each time
			}
			body := map[int]int{0: 5000, 2: 1000, 7: 200_000}[i%len(codes)]
			if g.code != want || body > 0 && g.body != string(pattern(body)) {
				t.Fatalf("pieces of %d: answer %d to %s: %d with %d bytes, want %d with %d", size, i, m, g.code, len(g.body), want, body)
			}
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
}

// TestSlowHead: who begins a head and does not end it is told so, and gone; who sends nothing is gone. HTTP-1, RES-2
func TestSlowHead(t *testing.T) {
	x := start(t, setup{change: func(c *Config) { c.HeaderTimeout, c.KeepAliveTimeout, c.StallTimeout = 1, 1, 1 }})
	for _, tt := range []struct {
		name, sent string
		code       int // 0: none
	}{
		{"nothing", "", 0}, {"a line", "GET / HTTP/1.1\r\nHost: h\r\n", 408}, {"a small body", headOf("PROPFIND", "/", "Content-Length: 10") + "\r\nabc", 408},
		{"a body", headOf("PUT", "/f", "Content-Length: 100000") + "\r\nabc", 408}, {"a chunk", headOf("PUT", "/f", "Transfer-Encoding: chunked") + "\r\n5\r\nabc", 408},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := x.dial()
			c.send(tt.sent)
			if tt.code != 0 {
				c.read("GET").want(t, tt.code)
			}
			c.gone()
		})
	}
	t.Run("idle", func(t *testing.T) {
		t.Parallel()
		c := x.dial()
		c.ask("GET", "/").want(t, 200)
		c.gone()
	})
}

// TestPace: a body that drips is refused, whatever the time is that we take ourselves. HTTP-1
func TestPace(t *testing.T) {
	p := pace{rate: 100}
	for range 29 {
		if !p.came(1, time.Second) {
			t.Fatal("refused before the window is over")
		}
	}
	if p.came(1, time.Second) {
		t.Error("30 bytes in 30 s, and 100 a second are asked for")
	}
	p = pace{rate: 100}
	for range 1000 {
		if !p.came(100, time.Second) {
			t.Fatal("as fast as is asked for")
		}
	}
	p = pace{}
	for range 1000 {
		if !p.came(1, time.Minute) {
			t.Fatal("no rate is asked for")
		}
	}
}

// TestBodyLimit: a method without bulk takes at most a MiB, whether it says so or not. DAV-1
func TestBodyLimit(t *testing.T) {
	x := start(t, setup{})
	c := x.dial()
	c.send(headOf("PROPFIND", "/", "Content-Length: 2000000") + "\r\n")
	c.read("PROPFIND").want(t, 413)
	c = x.dial()
	go io.WriteString(c.nc, headOf("PROPFIND", "/", "Transfer-Encoding: chunked")+"\r\n"+strings.Repeat("1000\r\n"+strings.Repeat(" ", 4096)+"\r\n", 300)+"0\r\n\r\n")
	c.read("PROPFIND").want(t, 413)
}

// FuzzHead: what is taken, net/http and fasthttp read as we do; it is found in whatever pieces it comes.
func FuzzHead(f *testing.F) {
	for _, s := range smuggled {
		f.Add([]byte(s.head), 3)
	}
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "PUT /a%20b?c HTTP/1.1\r\nHost: h:80\r\nContent-Length: 12\r\nExpect: 100-continue\r\n\r\n",
		"PROPFIND /d/ HTTP/1.1\r\nHost: h\r\nDepth: 1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n", "OPTIONS * HTTP/1.0\r\n\r\n",
		"PROPFIND / HTTP/1.1\r\nConnection: Keep-Alive\r\nUser-Agent: Microsoft-WebDAV-MiniRedir/10.0.19045\r\nDepth: 0\r\ntranslate: f\r\nContent-Length: 0\r\nHost: h\r\n\r\n",
		"LOCK /a HTTP/1.1\r\nHost: h\r\nUser-Agent: WebDAVFS/3.0.0 (03008000) Darwin/21.6.0 (x86_64)\r\nTimeout: Second-600\r\nIf: (<urn:uuid:a> [\"b\"])\r\n\r\n",
	} {
		f.Add([]byte(s), len(s)/2)
	}
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		end, err := headEnd(b, 0)
		if cut = max(0, min(cut, len(b))); cut < len(b) {
			e, err1 := headEnd(b[:cut], 0)
			if err1 == nil && e == 0 {
				e, err1 = headEnd(b, cut)
			}
			if e != end || (err1 == nil) != (err == nil) {
				t.Fatalf("cut at %d: %d %v, whole: %d %v", cut, e, err1, end, err)
			}
		}
		if err != nil || end == 0 {
			return
		}
		h, err := parseHead(b[:end])
		if err != nil {
			return
		}
		defer h.free()
		if _, err := parseTarget(h.target, "/dav"); err != nil && statusFor(err) >= 500 {
			t.Fatalf("target %q: %v", h.target, err)
		}
		res, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b[:end])))
		if err != nil {
			if h.target == "*" || strings.ContainsAny(h.target, "%:[]") || strings.ContainsAny(h.host, "%[]:") || !strings.HasPrefix(h.target, "/") {
				return // net/http parses the URL, too
			}
			t.Fatalf("%q: we take it, net/http says %v", b[:end], err)
		}
		length := res.ContentLength
		if len(res.TransferEncoding) > 0 {
			length = -1
		}
		if res.Method != h.method || length != h.length || res.ProtoAtLeast(1, 1) == h.old {
			t.Fatalf("%q: %s %d, net/http %s %d", b[:end], h.method, h.length, res.Method, length)
		}
		if err := h.read(); err != nil {
			return
		}
		if n := h.fields.ContentLength(); h.length > 0 && int64(n) != h.length || h.length < 0 && n != -1 {
			t.Fatalf("%q: length %d, fasthttp %d", b[:end], h.length, n)
		}
	})
}

// FuzzChunked: any cut gives the same body, or the same refusal, and the same bytes behind it.
func FuzzChunked(f *testing.F) {
	for _, s := range []string{
		"5\r\nhello\r\n0\r\n\r\n", "5;a=b\r\nhello\r\n0\r\nT: v\r\n\r\nGET /", "0\r\n\r\n", "a\r\n0123456789\r\n1\r\nx\r\n0\r\n\r\n", "FFFFFFFFFFFFFFFF\r\n", "1\n", "\r\n",
	} {
		f.Add([]byte(s), 1, 3)
	}
	f.Fuzz(func(t *testing.T, b []byte, cut, size int) {
		size = max(1, min(size, 100))
		run := func(pieces ...[]byte) (out []byte, rest int, state chunkState, failed bool) {
			var d chunks
			buf := make([]byte, size)
			for _, p := range pieces {
				for len(p) > 0 && d.state != chunksEnd {
					n, used, err := d.decode(buf, p)
					out = append(out, buf[:n]...)
					rest += used
					p = p[used:]
					if err != nil {
						return out, rest, 0, true
					}
					if n == 0 && used == 0 {
						t.Fatal("it does not move")
					}
				}
			}
			return out, rest, d.state, false
		}
		cut = max(0, min(cut, len(b)))
		o1, r1, s1, f1 := run(b)
		o2, r2, s2, f2 := run(b[:cut], b[cut:])
		if !bytes.Equal(o1, o2) || r1 != r2 || s1 != s2 || f1 != f2 {
			t.Fatalf("%q cut at %d: %q %d %d %v, whole %q %d %d %v", b, cut, o2, r2, s2, f2, o1, r1, s1, f1)
		}
		if s1 == chunksEnd {
			got, err := io.ReadAll(http11(b[:r1]))
			if err == nil && !bytes.Equal(got, o1) {
				t.Fatalf("%q: %q, net/http %q", b[:r1], o1, got)
			}
		}
	})
}

// http11 is net/http's reader of a chunked body.
func http11(b []byte) io.Reader {
	r, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"), bytes.NewReader(b))))
	if err != nil {
		return strings.NewReader("")
	}
	return r.Body
}

func FuzzRange(f *testing.F) {
	for _, s := range []string{"bytes=0-0", "bytes=-5", "bytes=5-", "bytes=0-1,2-3", "bytes=,", "bytes=--1", "bytes = 1-2", "bytes=1-2,", "lines=1-2"} {
		f.Add(s, int64(1000))
	}
	f.Fuzz(func(t *testing.T, s string, size int64) {
		size = max(0, size)
		list, ok := parseRange(s, size)
		if !ok && len(list) > 0 || len(list) > maxRanges {
			t.Fatalf("%q: %v %v", s, list, ok)
		}
		var sum int64
		for _, x := range list {
			if x.off < 0 || x.n <= 0 || x.off+x.n > size {
				t.Fatalf("%q of %d: %v", s, size, list)
			}
			sum += x.n
		}
		if sum > size {
			t.Fatalf("%q of %d: %d bytes", s, size, sum)
		}
	})
}

func FuzzTarget(f *testing.F) {
	for _, s := range []string{"/", "/a/b", "/%2e%2e", "/a%20b?c", "http://h/x", "*", "//", "/a%2fb", "/\xff"} {
		f.Add(s, "")
	}
	f.Add("/dav/x", "/dav")
	f.Fuzz(func(t *testing.T, s, prefix string) {
		if prefix != "" {
			prefix = "/dav"
		}
		x, err := parseTarget(s, prefix)
		if err != nil || x.star {
			return
		}
		p, _, err := parsePath(string(appendHref(nil, prefix, x.path, x.slash)), prefix)
		if err != nil || p != x.path {
			t.Fatalf("%q is %q, and its own URL %q: %v", s, x.path, p, err)
		}
	})
}

func BenchmarkParseHead(b *testing.B) {
	head := []byte("GET /some/file.txt HTTP/1.1\r\nHost: example.org\r\nUser-Agent: rclone/v1.60\r\nAuthorization: Basic dTpzZWNyZXQ=\r\nAccept-Encoding: gzip\r\n\r\n")
	b.ReportAllocs()
	for b.Loop() {
		h, err := parseHead(head)
		if err != nil {
			b.Fatal(err)
		}
		if err := h.read(); err != nil {
			b.Fatal(err)
		}
		h.free()
	}
}

// BenchmarkGet is a small file over a kept connection, client and server together.
func BenchmarkGet(b *testing.B) {
	x := start(b, setup{})
	x.file("/f", pattern(4096))
	c := x.dial()
	head := headOf("GET", "/f") + "\r\n"
	b.ReportAllocs()
	for b.Loop() {
		c.send(head)
		if g := c.read("GET"); g.code != 200 {
			b.Fatal(g.code)
		}
		c.nc.SetDeadline(time.Now().Add(30 * time.Second))
	}
}
