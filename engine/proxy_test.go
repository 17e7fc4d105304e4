package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func v2(cmd byte, family byte, body ...byte) string {
	b := append(bytes.Clone(signatureV2), cmd, family)
	return string(append(binary.BigEndian.AppendUint16(b, uint16(len(body))), body...))
}

var tcp4 = v2(0x21, 0x11, 192, 0, 2, 7, 198, 51, 100, 1, 0x30, 0x39, 0, 22)

// listening is a Listener on loopback.
func listening(t *testing.T, cfg ProxyConfig, wait time.Duration) *Listener {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{}
	p.Set(cfg)
	l := newListener(inner, p, quiet(), wait)
	t.Cleanup(func() { l.Close() })
	return l
}

func nets(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// send connects and says something; what the server reads until the end comes back with the addresses it saw.
func send(t *testing.T, l *Listener, what string) (remote, local, got string, refused bool) {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if errors.Is(err, syscall.ECONNRESET) {
		return "", "", "", true
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := 0; i < len(what); i += 7 { // in pieces
		if _, err := io.WriteString(c, what[i:min(len(what), i+7)]); err != nil {
			return "", "", "", true
		}
	}
	c.(*net.TCPConn).CloseWrite()
	type result struct{ remote, local, got string }
	served := make(chan result, 1)
	accepted := make(chan struct{})
	go func() { // ends with the connection, or with the listener
		nc, err := l.Accept()
		if err != nil {
			return
		}
		close(accepted)
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(5 * time.Second))
		b, _ := io.ReadAll(nc)
		served <- result{nc.RemoteAddr().String(), nc.LocalAddr().String(), string(b)}
	}()
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 1)
	if _, err := c.Read(b); err != nil && !errors.Is(err, io.EOF) {
		l.Close()
		return "", "", "", true
	}
	select {
	case r := <-served:
		return r.remote, r.local, r.got, false
	case <-time.After(5 * time.Second):
		t.Fatal("neither served nor refused")
		return
	}
}

func TestHeaders(t *testing.T) {
	trusted := nets("127.0.0.0/8")
	const client, server = "192.0.2.7:12345", "198.51.100.1:22"
	for name, x := range map[string]struct {
		cfg            ProxyConfig
		say, got, from string // from "" is the socket's own address; "refused"
	}{
		"off":                    {ProxyConfig{}, "SSH-2.0-x", "SSH-2.0-x", ""},
		"off with header":        {ProxyConfig{}, tcp4 + "x", tcp4 + "x", ""},
		"v2":                     {ProxyConfig{1, trusted, nil}, tcp4 + "SSH-2.0-x", "SSH-2.0-x", client},
		"v2 required":            {ProxyConfig{2, trusted, nil}, tcp4 + "hello", "hello", client},
		"v1":                     {ProxyConfig{2, trusted, nil}, "PROXY TCP4 192.0.2.7 198.51.100.1 12345 22\r\nhello\r\nPROXY", "hello\r\nPROXY", client},
		"v1 of IPv6":             {ProxyConfig{1, trusted, nil}, "PROXY TCP6 2001:db8::1 2001:db8::2 1 22\r\nx", "x", "[2001:db8::1]:1"},
		"v1 unknown":             {ProxyConfig{2, trusted, nil}, "PROXY UNKNOWN\r\nx", "x", ""},
		"v2 local":               {ProxyConfig{2, trusted, nil}, v2(0x20, 0) + "x", "x", ""},
		"v2 with TLV":            {ProxyConfig{2, trusted, nil}, v2(0x21, 0x11, 192, 0, 2, 7, 198, 51, 100, 1, 0x30, 0x39, 0, 22, 4, 0, 2, 0, 0) + "x", "x", client},
		"optional, none":         {ProxyConfig{1, trusted, nil}, "SSH-2.0-x", "SSH-2.0-x", ""},
		"optional, begins alike": {ProxyConfig{1, trusted, nil}, "PROX and more", "PROX and more", ""},
		"optional, silent":       {ProxyConfig{1, trusted, nil}, "", "refused", ""},
		"required, none":         {ProxyConfig{2, trusted, nil}, "SSH-2.0-x", "refused", ""},
		"not in the list":        {ProxyConfig{1, nets("192.0.2.0/24"), nil}, tcp4 + "x", tcp4 + "x", ""},
		"not in the list, 2":     {ProxyConfig{2, nets("192.0.2.0/24"), nil}, tcp4 + "x", "refused", ""},
		"empty list, 2":          {ProxyConfig{2, nil, nil}, tcp4 + "x", "refused", ""},
		"skipped":                {ProxyConfig{2, trusted, trusted}, "SSH-2.0-x", "SSH-2.0-x", ""},
		"too long v1":            {ProxyConfig{1, trusted, nil}, "PROXY " + strings.Repeat("x", 200) + "\r\n", "refused", ""},
		"bad v1":                 {ProxyConfig{1, trusted, nil}, "PROXY TCP4 a b c d\r\n", "refused", ""},
		"bad v2 length":          {ProxyConfig{1, trusted, nil}, v2(0x21, 0x11, 1, 2) + "x", "refused", ""},
		"huge v2":                {ProxyConfig{1, trusted, nil}, v2(0x21, 0x11, make([]byte, 60_000)...), "refused", ""},
		"v2 of another version":  {ProxyConfig{1, trusted, nil}, v2(0x31, 0x11, 192, 0, 2, 7, 198, 51, 100, 1, 0x30, 0x39, 0, 22), "refused", ""},
		"half a header":          {ProxyConfig{1, trusted, nil}, tcp4[:20], "refused", ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := listening(t, x.cfg, 2*time.Second)
			remote, local, got, refused := send(t, l, x.say)
			if refused || x.got == "refused" {
				if refused != (x.got == "refused") && x.say != "" {
					t.Errorf("refused %v, want %q", refused, x.got)
				}
				return
			}
			if got != x.got {
				t.Errorf("read %q, want %q", got, x.got)
			}
			own := strings.HasPrefix(remote, "127.0.0.1:") && local == l.Addr().String()
			if x.from == "" && !own || x.from != "" && remote != x.from || x.from == client && local != server {
				t.Errorf("from %s to %s, want from %q", remote, local, x.from)
			}
		})
	}
}

// RES-2: who is trusted and says nothing is let through after the wait if no header is required, and refused else;
// others are served meanwhile.
func TestSilentProxies(t *testing.T) {
	for _, mode := range []int{ProxyOptional, ProxyRequired} {
		l := listening(t, ProxyConfig{mode, nets("127.0.0.1/32"), nil}, 300*time.Millisecond)
		var silent []net.Conn
		for range 5 {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			silent = append(silent, c)
		}
		if remote, _, got, _ := send(t, l, tcp4+"x"); got != "x" || remote != "192.0.2.7:12345" {
			t.Errorf("mode %d: behind silent peers: %q from %s", mode, got, remote)
		}
		if mode == ProxyOptional {
			for range silent {
				c, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				c.Close()
			}
			continue
		}
		for _, c := range silent {
			c.SetReadDeadline(time.Now().Add(5 * time.Second))
			if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a silent peer was kept: %v", err)
			}
		}
	}
}

// RES-1: nothing is left of connections at any stage when the listener closes.
func TestCloseLeavesNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	l := listening(t, ProxyConfig{1, nets("127.0.0.1/32"), nil}, time.Hour)
	var all []net.Conn
	for i := range 50 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, tcp4[:i%len(tcp4)])
		if i%2 == 0 {
			io.WriteString(c, tcp4[i%len(tcp4):])
		}
		all = append(all, c)
	}
	closed := make(chan struct{})
	go func() { l.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("Close waits for a header")
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
	for _, c := range all {
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("a connection outlived the listener")
		}
		c.Close()
	}
}

func FuzzHeader(f *testing.F) {
	for _, s := range []string{tcp4, tcp4[:20], "PROXY TCP4 192.0.2.7 198.51.100.1 12345 22\r\nx", "PROXY UNKNOWN\r\n", v2(0x20, 0), v2(0x21, 0x21, make([]byte, 36)...), "SSH-2.0-x\r\n", "PROXY "} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		head, err := readHead(r)
		if len(head) > maxV2 {
			t.Fatalf("%d bytes were read", len(head))
		}
		if !bytes.HasPrefix(in, head) || len(in)-r.Len() != len(head) {
			t.Fatal("bytes were lost")
		}
		if err == nil {
			a, b := net.Pipe()
			defer a.Close()
			defer b.Close()
			if c, err := apply(a, head); err == nil && (c.RemoteAddr() == nil || c.LocalAddr() == nil) {
				t.Fatal("a connection without addresses")
			}
		}
	})
}
