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
	w.raw, w.try, w.trySend = raw, w.tryRead, w.tryWrite
}

// send writes all of b. Only who flushes may call it.
func (w *wire) send(b []byte) error {
	if w.raw == nil {
		_, err := w.Conn.Write(b)
		return err
	}
	w.sending, w.sendErr = b, nil
	err := w.raw.Write(w.trySend)
	if err == nil {
		err = w.sendErr
	}
	w.sending = nil
	return err
}

// tryWrite reports false when the socket is full.
func (w *wire) tryWrite(fd uintptr) bool {
	for len(w.sending) > 0 {
		n, err := writeNow(int(fd), w.sending)
		switch {
		case n > 0:
			w.sending = w.sending[n:]
		case err == syscall.EAGAIN:
			return false
		case err == syscall.EINTR:
		case err == nil:
			w.sendErr = io.ErrUnexpectedEOF
			return true
		default:
			w.sendErr = err
			return true
		}
	}
	return true
}

// tryRead reports false when the socket is empty, with no buffer held.
func (w *wire) tryRead(fd uintptr) bool {
	buf := w.pools.get(&w.pools.reads)
	for {
		n, err := readNow(int(fd), *buf)
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
