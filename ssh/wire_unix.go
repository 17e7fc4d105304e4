//go:build unix

package ssh

import (
	"io"
	"net"
	"syscall"
)

// initRaw lets a TCP connection wait until bytes are there before it borrows a buffer for them. Only a bare
// one: a wrapper may hold bytes that are not in the socket any more.
func (w *wire) initRaw() {
	tcp, ok := w.Conn.(*net.TCPConn)
	if bare, is := w.Conn.(interface{ TCP() *net.TCPConn }); is { // of a proxy, with nothing read ahead
		tcp = bare.TCP()
		ok = tcp != nil
	}
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	w.raw, w.try = raw, w.tryRead
}

// tryRead reports false when the socket is empty, with no buffer held.
func (w *wire) tryRead(fd uintptr) bool {
	buf := w.pools.get(&w.pools.reads)
	for {
		n, err := syscall.Read(int(fd), *buf)
		switch {
		case n > 0:
			w.in, w.unread = buf, (*buf)[:n]
			return true
		case err == syscall.EINTR:
			continue
		}
		w.pools.put(&w.pools.reads, buf)
		switch err {
		case syscall.EAGAIN:
			return false
		case nil:
			w.tryErr = io.EOF
		default:
			w.tryErr = err
		}
		return true
	}
}
