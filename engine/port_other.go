//go:build !linux || stdengine

package engine

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// port is the runtime's own listener.
type port struct{ l *net.TCPListener }

func (p *port) open(addr netip.AddrPort) (err error) {
	lc := net.ListenConfig{KeepAlive: -1}
	lc.SetMultipathTCP(false)
	// It is open in no time: nothing is looked up.
	l, err := lc.Listen(context.Background(), "tcp", addr.String())
	if err == nil {
		p.l = l.(*net.TCPListener)
	}
	return err
}

// Close ends the waiting.
func (p *port) Close() error { return p.l.Close() }

// TryAccept gives a connection that has come, or nil.
func (p *Port) TryAccept() (net.Conn, error) { return nil, nil }

// Accept waits for a connection until ctx or deadline.
func (p *Port) Accept(ctx context.Context, deadline time.Time) (net.Conn, error) {
	p.l.SetDeadline(deadline)
	defer context.AfterFunc(ctx, func() { p.l.SetDeadline(past) })()
	return p.l.Accept()
}
