package engine

import (
	"net"
	"net/netip"
	"os"
	"time"
)

// Port listens for one data connection of a transfer. Between its opening and its use nothing waits on it, so that it
// costs four system calls where the runtime's own listener costs a dozen. Safe for concurrent use.
type Port struct{ port }

// ListenPort opens addr, whose port must not be 0.
func ListenPort(addr netip.AddrPort) (*Port, error) {
	p := &Port{}
	if err := p.open(addr); err != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: net.TCPAddrFromAddrPort(addr), Err: err}
	}
	return p, nil
}

// kernelSender is a connection that the kernel may send a file through.
type kernelSender interface {
	// sendFile sends up to n bytes of f from off on. Fewer without an error are the end of the file.
	sendFile(f *os.File, off int64, n int) (int, error)
}

// lastWriter is a connection that can hold bytes back for the goodbye that follows them at once.
type lastWriter interface {
	writeLast(p []byte) (int, error)
}

// deadlines are those of a socket that nothing waits on yet.
type deadlines struct{ read, write time.Time }
