package engine

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
)

// Modes of the PROXY protocol, as in common.proxy_protocol.
const (
	ProxyOff      = 0
	ProxyOptional = 1
	ProxyRequired = 2
)

// ProxyConfig says whose PROXY headers count (protocols.md 6).
type ProxyConfig struct {
	Mode    int
	Allowed []netip.Prefix // who may send a header
	Skipped []netip.Prefix // who connects directly whatever the mode
}

// Proxy is the rule of all listeners. The zero value reads no headers. Safe for concurrent use.
type Proxy struct{ cfg atomic.Pointer[ProxyConfig] }

// Set changes the rule for connections to come.
func (p *Proxy) Set(cfg ProxyConfig) { p.cfg.Store(&cfg) }

type judgement int

const (
	direct  judgement = iota // no header is read
	headed                   // a header is expected, or may come
	refused                  // it must come through a proxy
)

func (p *Proxy) judge(a netip.Addr) judgement {
	if p == nil {
		return direct
	}
	cfg := p.cfg.Load()
	in := func(list []netip.Prefix) bool {
		return slices.ContainsFunc(list, func(n netip.Prefix) bool { return n.Contains(a) })
	}
	switch {
	case cfg == nil || cfg.Mode == ProxyOff || in(cfg.Skipped):
		return direct
	case in(cfg.Allowed):
		return headed
	case cfg.Mode == ProxyRequired:
		return refused
	}
	return direct // what it sends is the protocol's to refuse
}

func (p *Proxy) required() bool {
	cfg := p.cfg.Load()
	return cfg != nil && cfg.Mode == ProxyRequired
}

// Proxied is a connection that came through a proxy.
type Proxied struct {
	net.Conn
	remote, local net.Addr
}

// RemoteAddr is the client's address, from the header.
func (c *Proxied) RemoteAddr() net.Addr { return c.remote }

// LocalAddr is the address that the client connected to, from the header.
func (c *Proxied) LocalAddr() net.Addr { return c.local }

// Proxy is the address of the proxy.
func (c *Proxied) Proxy() net.Addr { return c.Conn.RemoteAddr() }

// TCP is the bare connection, with nothing read ahead; nil if it is not TCP.
func (c *Proxied) TCP() *net.TCPConn {
	t, _ := c.Conn.(*net.TCPConn)
	return t
}

// CloseWrite sends a FIN.
func (c *Proxied) CloseWrite() error {
	if t := c.TCP(); t != nil {
		return t.CloseWrite()
	}
	return c.Close()
}

// SetLinger is TCP's.
func (c *Proxied) SetLinger(sec int) error {
	if t := c.TCP(); t != nil {
		return t.SetLinger(sec)
	}
	return nil
}

// ReadFrom is TCP's, which knows sendfile.
func (c *Proxied) ReadFrom(r io.Reader) (int64, error) {
	if t := c.TCP(); t != nil {
		return t.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{c.Conn}, r)
}

// replayed gives bytes again that were no header.
type replayed struct {
	net.Conn
	head []byte
}

func (c *replayed) Read(p []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

const (
	maxV1 = 107     // bytes of a version 1 header with its end
	maxV2 = 4 << 10 // bytes of a version 2 header with its TLVs
)

var signatureV2 = []byte("\r\n\r\n\x00\r\nQUIT\n")

// Errors of a header.
var (
	errNoHeader  = errors.New("there is no PROXY header")
	errBadHeader = errors.New("the PROXY header is not valid")
)

// ReadHeader reads the PROXY header (version 1 or 2) that c begins with, and not a byte more, within wait. Unless it is
// required, a connection without one is given as it is; so is one that sends nothing for that long, because its client
// may wait for our word. TLVs have no meaning here.
func ReadHeader(c net.Conn, wait time.Duration, required bool) (net.Conn, error) {
	c.SetReadDeadline(time.Now().Add(wait))
	head, err := readHead(c)
	switch {
	case err == nil:
	case !required && (errors.Is(err, errNoHeader) || len(head) == 0 && errors.Is(err, os.ErrDeadlineExceeded)):
		c.SetReadDeadline(time.Time{})
		if len(head) == 0 {
			return c, nil
		}
		return &replayed{c, head}, nil
	default:
		return nil, fmt.Errorf("PROXY: %w", err)
	}
	c.SetReadDeadline(time.Time{})
	return apply(c, head)
}

// readHead reads one header. With errNoHeader head is what was read instead.
func readHead(r io.Reader) (head []byte, err error) {
	head = make([]byte, 0, 256)
	more := func(n int) error {
		at := len(head)
		head = slices.Grow(head, n)[:at+n]
		got, err := io.ReadFull(r, head[at:])
		head = head[:at+got]
		return err
	}
	for {
		// One byte at a time, until it is clear what it is: a peer that sends less than a header must not be waited for.
		if err := more(1); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) && len(head) > 0 {
				return head, errBadHeader
			}
			return head, err
		}
		v1 := bytes.HasPrefix([]byte("PROXY "), head[:min(6, len(head))])
		v2 := bytes.HasPrefix(signatureV2, head[:min(len(signatureV2), len(head))])
		switch {
		case !v1 && !v2:
			return head, errNoHeader
		case v2 && len(head) == len(signatureV2):
			if err := more(4); err != nil {
				return head, errBadHeader
			}
			n := int(binary.BigEndian.Uint16(head[14:]))
			if len(head)+n > maxV2 {
				return head, fmt.Errorf("%w: %d bytes, at most %d are taken", errBadHeader, len(head)+n, maxV2)
			}
			if more(n) != nil {
				return head, errBadHeader
			}
			return head, nil
		case v1 && bytes.HasSuffix(head, []byte("\r\n")):
			return head, nil
		case v1 && len(head) >= maxV1:
			return head, errBadHeader
		}
	}
}

// apply gives the connection the addresses of its header.
func apply(c net.Conn, head []byte) (net.Conn, error) {
	h, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(head)))
	if err != nil {
		return nil, fmt.Errorf("PROXY: %w: %w", errBadHeader, err)
	}
	if h.Command.IsLocal() {
		return c, nil // the proxy's own: a health check
	}
	remote, ok1 := h.SourceAddr.(*net.TCPAddr)
	local, ok2 := h.DestinationAddr.(*net.TCPAddr)
	if !ok1 || !ok2 || !h.TransportProtocol.IsStream() {
		return c, nil // UNKNOWN, or no address of the Internet
	}
	return &Proxied{Conn: c, remote: remote, local: local}, nil
}
