// Package ftp serves FTP and FTPS: RFC 959, 1123 4.1, 2228, 2389, 2428, 3659, 4217, 7151, the hash draft and what
// clients use beside them.
//
// A control connection is parked on the engine's event loop: what can be answered from memory is answered there, other
// commands run one at a time, in their order, in the lane of their user. A transfer has a goroutine with the data
// connection; while it runs the control connection is still read: NOOP and STAT are answered, ABOR ends it, anything
// else waits for its turn, and a control connection that goes takes the transfer with it.
//
// Where we differ from the RFCs: the type at the beginning is image, as other servers of our users have it; PORT and
// EPRT name nobody but the control peer (RFC 2577); CCC is refused; STRU R and MODE B do not exist.
//
// A peer controls the bytes of its lines (line.go: at most 4 KiB, no NUL, no CR or LF in a name), the addresses of
// PORT and EPRT (addr.go, checked against the control connection in data.go), names, which become vfs.Path before
// anything uses them, and the bytes of its data connections, which only internal/session writes anywhere.
package ftp
