//go:build linux && !stdengine

package engine

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socket is a descriptor that is tried first and waited on only when it has to be: small transfers end before that, and
// are never registered with the runtime's poller.
type socket struct {
	mu     sync.Mutex // guards what follows; held over calls that do not block
	fd     int        // until f is made
	f      *os.File   // what waits; nil until something had to
	rc     syscall.RawConn
	until  deadlines
	closed bool
}

// do runs op until it does not want to wait any more.
func (s *socket) do(write bool, op func(fd uintptr) bool) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return net.ErrClosed
	}
	if s.f == nil {
		if op(uintptr(s.fd)) {
			s.mu.Unlock()
			return nil
		}
		if err := s.register(); err != nil {
			s.mu.Unlock()
			return err
		}
	}
	rc := s.rc
	s.mu.Unlock()
	var err error
	if write {
		err = rc.Write(op)
	} else {
		err = rc.Read(op)
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return net.ErrClosed // the poller's only other word
	}
	return err
}

// register gives the descriptor to the runtime's poller.
func (s *socket) register() error {
	f := os.NewFile(uintptr(s.fd), "socket")
	rc, err := f.SyscallConn()
	if err == nil {
		err = errors.Join(f.SetReadDeadline(s.until.read), f.SetWriteDeadline(s.until.write))
	}
	s.f, s.rc = f, rc
	return err
}

func (s *socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.closed = true
	if s.f != nil {
		return s.f.Close()
	}
	return unix.Close(s.fd)
}

func (s *socket) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

func (s *socket) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.until.read = t; s.f != nil {
		return s.f.SetReadDeadline(t)
	}
	return nil
}

func (s *socket) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.until.write = t; s.f != nil {
		return s.f.SetWriteDeadline(t)
	}
	return nil
}

// port is Linux's Port.
type port struct {
	socket
	at netip.AddrPort
}

func (p *port) open(addr netip.AddrPort) error {
	family, sa := sockaddr(addr)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		err = os.NewSyscallError("setsockopt", err)
	} else if err = unix.Bind(fd, sa); err != nil {
		err = os.NewSyscallError("bind", err)
	} else if err = unix.Listen(fd, 8); err != nil {
		err = os.NewSyscallError("listen", err)
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	p.fd, p.at = fd, addr
	return nil
}

func sockaddr(a netip.AddrPort) (int, unix.Sockaddr) {
	if a.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	sa := &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	if z := a.Addr().Zone(); z != "" {
		if i, err := net.InterfaceByName(z); err == nil {
			sa.ZoneId = uint32(i.Index)
		}
	}
	return unix.AF_INET6, sa
}

// TryAccept gives a connection that has come, or nil.
func (p *Port) TryAccept() (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, net.ErrClosed
	}
	if p.f != nil { // somebody waits for it
		return nil, nil
	}
	c, err := p.accept(p.fd)
	if err != nil && err != unix.EAGAIN {
		return nil, os.NewSyscallError("accept4", err)
	}
	if c == nil {
		return nil, nil
	}
	return c, nil
}

// Accept waits for a connection until ctx or deadline.
func (p *Port) Accept(ctx context.Context, deadline time.Time) (net.Conn, error) {
	p.SetReadDeadline(deadline)
	defer context.AfterFunc(ctx, func() { p.SetReadDeadline(past) })()
	var c *dataConn
	var aerr error
	err := p.do(false, func(fd uintptr) bool {
		c, aerr = p.accept(int(fd))
		return aerr != unix.EAGAIN
	})
	if err == nil && aerr != nil {
		err = os.NewSyscallError("accept4", aerr)
	}
	if err != nil {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: net.TCPAddrFromAddrPort(p.at), Err: err}
	}
	return c, nil
}

func (p *port) accept(fd int) (*dataConn, error) {
	for {
		nfd, sa, err := syscall.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC) // that of x/sys asks for the protocol too
		switch err {
		case nil:
			return &dataConn{socket: socket{fd: nfd}, local: p.at, remote: addrPortOf(sa)}, nil
		case unix.EINTR, unix.ECONNABORTED:
		default:
			return nil, err
		}
	}
}

func addrPortOf(sa syscall.Sockaddr) netip.AddrPort {
	switch a := sa.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *syscall.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// dataConn is a data connection.
type dataConn struct {
	socket
	local, remote netip.AddrPort
}

var (
	_ net.Conn     = (*dataConn)(nil)
	_ kernelSender = (*dataConn)(nil)
	_ lastWriter   = (*dataConn)(nil)
)

func (c *dataConn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.local) }
func (c *dataConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

func (c *dataConn) error(op string, err error) error {
	if err == nil {
		return nil
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

func (c *dataConn) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	var rerr error
	err = c.do(false, func(fd uintptr) bool {
		for {
			n, rerr = unix.Read(int(fd), p)
			if rerr != unix.EINTR {
				return rerr != unix.EAGAIN
			}
		}
	})
	if err == nil && rerr != nil {
		err = os.NewSyscallError("read", rerr)
	}
	if err != nil {
		return 0, c.error("read", err)
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// SetLinger is that of a net.TCPConn.
func (c *dataConn) SetLinger(sec int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	set := func(fd uintptr) {
		unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: int32(sec)})
	}
	if c.f == nil {
		set(uintptr(c.fd))
		return nil
	}
	return c.rc.Control(set)
}

func (c *dataConn) Write(p []byte) (int, error) { return c.write(p, unix.MSG_NOSIGNAL) }

// writeLast holds p back for the FIN that Close sends behind it.
func (c *dataConn) writeLast(p []byte) (int, error) {
	return c.write(p, unix.MSG_NOSIGNAL|unix.MSG_MORE)
}

func (c *dataConn) write(p []byte, flags int) (n int, err error) {
	var werr error
	err = c.do(true, func(fd uintptr) bool {
		for n < len(p) {
			var m int
			m, werr = unix.SendmsgN(int(fd), p[n:], nil, nil, flags)
			switch werr {
			case nil:
				n += m
			case unix.EINTR:
			default:
				return werr != unix.EAGAIN
			}
		}
		return true
	})
	if err == nil && werr != nil {
		err = os.NewSyscallError("write", werr)
	}
	return n, c.error("write", err)
}

// sendFile implements kernelSender.
func (c *dataConn) sendFile(f *os.File, off int64, n int) (sent int, err error) {
	var serr error
	fc, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	end := false
	cerr := fc.Control(func(src uintptr) { // holds the file's descriptor for as long as this takes
		err = c.do(true, func(fd uintptr) bool {
			for sent < n && !end {
				var m int
				m, serr = unix.Sendfile(int(fd), int(src), &off, n-sent)
				switch {
				case serr == unix.EINTR:
				case serr != nil:
					return serr != unix.EAGAIN
				case m == 0:
					end = true
				default:
					sent += m
				}
			}
			return true
		})
	})
	switch {
	case cerr != nil:
		return sent, cerr
	case err == nil && serr != nil:
		err = os.NewSyscallError("sendfile", serr)
	}
	return sent, c.error("sendfile", err)
}
