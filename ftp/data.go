package ftp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/gantryhq/gantry/engine"
)

// source makes one data connection.
type source interface {
	// try gives the connection if it is there already, else nil.
	try() net.Conn
	open(ctx context.Context) (net.Conn, error)
	close()
}

// dropSource forgets what PASV or PORT prepared and frees its port.
func (c *conn) dropSource() {
	if c.source != nil {
		c.source.close()
		c.source = nil
	}
}

// passive waits on a port of its own for one connection of the control peer (FTP-2).
type passive struct {
	l     *engine.Port
	peer  netip.Addr // invalid: anybody
	via   netip.Addr // the proxy through which the control connection came, or invalid
	wait  time.Duration
	until time.Time
	stop  *time.Timer
	once  sync.Once
}

func (p *passive) close() { p.once.Do(func() { p.stop.Stop(); p.l.Close() }) }

func (p *passive) try() net.Conn {
	for !p.via.IsValid() {
		nc, err := p.l.TryAccept()
		if err != nil || nc == nil {
			return nil
		}
		if p.takes(nc) {
			p.close()
			return nc
		}
		nc.Close()
	}
	return nil
}

// takes reports whether the connection is the control peer's.
func (p *passive) takes(nc net.Conn) bool {
	return !p.peer.IsValid() || addrOf(nc.RemoteAddr()).Addr() == p.peer
}

func (p *passive) open(ctx context.Context) (net.Conn, error) {
	defer p.close()
	for {
		nc, err := p.l.Accept(ctx, p.until)
		if err != nil {
			return nil, err
		}
		if p.via.IsValid() { // so do the data connections, with a header each
			if addrOf(nc.RemoteAddr()).Addr() != p.via {
				nc.Close()
				continue
			}
			x, err := engine.ReadHeader(nc, p.wait, true)
			if err != nil {
				nc.Close()
				continue
			}
			nc = x
		}
		if p.takes(nc) {
			return nc, nil
		}
		nc.Close() // a stranger: the peer may still come
	}
}

// anyPort is the range where none is configured. Not the kernel's choice: after some thousand transfers a second most of
// its ports wait in TIME_WAIT, and it searches all of them, at a millisecond each time, to say that none is left. It ends
// below the ports that Linux gives to outgoing connections, a third of which may be in use by clients on the same host.
var anyPort = PortRange{10000, 32767}

// maxBinds bounds the search for a free port.
const maxBinds = 2000

// listen opens a port of the range for one transfer, from a random start, on the address that the peer knows.
func (c *conn) listen() (*passive, uint16, error) {
	c.dropSource()
	r := c.srv.cfg.PassivePortRange
	if r.Start == 0 {
		r = anyPort
	}
	count := r.End - r.Start + 1
	bound, via := addrOf(c.ec.Bound()), c.ec.Proxy() // behind a proxy the peer knows the proxy's address
	first := rand.IntN(count)
	for i := range min(count, maxBinds) {
		port := uint16(r.Start + (first+i)%count)
		l, err := engine.ListenPort(netip.AddrPortFrom(bound.Addr(), port))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			c.log().Error("passive port", "err", err)
			return nil, 0, errNoData
		}
		wait := time.Duration(c.srv.cfg.DataTimeout) * time.Second
		p := &passive{l: l, peer: c.ec.Remote().Addr(), via: via, wait: wait, until: time.Now().Add(wait)}
		if c.b.PassiveConnectionsSecurity == 1 {
			p.peer = netip.Addr{}
		}
		p.stop = time.AfterFunc(wait+time.Second, func() { l.Close() }) // a command that never comes
		c.source = p
		return p, port, nil
	}
	return nil, 0, fail(425, "No free passive port")
}

func (c *conn) pasv(ctx context.Context, _ string) error {
	if c.epsvAll {
		return fail(501, "Only EPSV after EPSV ALL")
	}
	a, err := c.passiveIP(ctx)
	if err != nil {
		return err
	}
	_, port, err := c.listen()
	if err != nil {
		return err
	}
	return c.reply(227, "Entering Passive Mode "+pasvText(a, port))
}

// passiveIP is the address that PASV names: by the client's network, forced, by name, or the connection's own.
func (c *conn) passiveIP(ctx context.Context) (netip.Addr, error) {
	own := c.ec.Local().Addr()
	for _, o := range c.b.overrides {
		for _, n := range o.nets {
			if n.Contains(c.ec.Remote().Addr()) {
				if o.ip.IsValid() {
					return o.ip, nil
				}
				if own.Is4() {
					return own, nil
				}
			}
		}
	}
	if a, err := netip.ParseAddr(c.b.ForcePassiveIP); err == nil {
		return a, nil
	}
	if c.b.PassiveHost != "" {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		list, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", c.b.PassiveHost)
		if err != nil || len(list) == 0 {
			c.log().Error("passive_host", "host", c.b.PassiveHost, "err", err)
			return netip.Addr{}, errNoData
		}
		return list[0].Unmap(), nil
	}
	if !own.Is4() {
		return netip.Addr{}, fail(425, "Use EPSV over IPv6")
	}
	return own, nil
}

func (c *conn) epsv(_ context.Context, arg string) error {
	e, err := parseEPSV(arg)
	if err != nil {
		return err
	}
	if e.all {
		c.epsvAll = true
		return c.reply(200, "EPSV ALL ok")
	}
	if four := c.ec.Local().Addr().Is4(); e.v4 && !four || e.v6 && four {
		return fail(522, "Network protocol not supported, use ("+map[bool]string{true: "1", false: "2"}[four]+")")
	}
	_, port, err := c.listen()
	if err != nil {
		return err
	}
	return c.reply(229, "Entering Extended Passive Mode (|||"+strconv.Itoa(int(port))+"|)")
}

// active connects to the control peer.
type active struct {
	to   netip.AddrPort
	from netip.AddrPort
	wait time.Duration
}

func (a *active) close() {}

func (a *active) try() net.Conn { return nil }

func (a *active) open(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{Timeout: a.wait, LocalAddr: net.TCPAddrFromAddrPort(a.from)}
	return d.DialContext(ctx, "tcp", a.to.String())
}

func (c *conn) port(_ context.Context, arg string) error {
	a, err := parsePort(arg)
	if err != nil {
		return err
	}
	return c.activeTo(a, "PORT")
}

func (c *conn) eprt(_ context.Context, arg string) error {
	a, err := parseEPRT(arg)
	if err != nil {
		return err
	}
	return c.activeTo(a, "EPRT")
}

// activeTo takes the control peer's own address and a port above the system's, nothing else (FTP-1, RFC 2577 3).
func (c *conn) activeTo(a netip.AddrPort, verb string) error {
	switch {
	case c.srv.cfg.DisableActiveMode:
		return errNoFeature
	case c.epsvAll:
		return fail(501, "Only EPSV after EPSV ALL")
	case a.Addr() != c.ec.Remote().Addr() || a.Port() < 1024:
		c.log().Warn("data connection to a stranger refused", "cmd", verb, "to", a.String())
		return fail(500, "Illegal "+verb+" command")
	}
	c.dropSource()
	from := netip.AddrPortFrom(c.ec.Local().Addr(), 0)
	if !c.srv.cfg.ActiveTransfersPortNon20 {
		from = netip.AddrPortFrom(c.ec.Local().Addr(), 20)
	}
	c.source = &active{to: a, from: from, wait: time.Duration(c.srv.cfg.DataTimeout) * time.Second}
	return c.reply(200, verb+" command successful")
}

// openData makes the data connection that PASV or PORT prepared, out of nc if that is there already.
func (c *conn) openData(ctx context.Context, src source, nc net.Conn, private bool) (*engine.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(c.srv.cfg.DataTimeout)*time.Second)
	defer cancel()
	if nc == nil {
		var err error
		if nc, err = src.open(ctx); err != nil {
			return nil, fmt.Errorf("%w: %w", errNoData, err)
		}
	}
	l := engine.NewStream(nc, time.Duration(c.srv.cfg.StallTimeout)*time.Second)
	if !private {
		return l, nil
	}
	if err := l.Secure(ctx, c.b.dataTLS(c.tlsConf)); err != nil {
		l.Cut()
		c.log().Debug("no TLS on the data connection", "err", err)
		return nil, fail(425, "TLS handshake of the data connection failed")
	}
	if c.b.TLSSessionReuse == 1 && !l.TLS().DidResume {
		l.Cut()
		return nil, fail(522, "The data connection must resume the TLS session of the control connection") // FTP-4
	}
	return l, nil
}

func addrOf(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	p := t.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}
