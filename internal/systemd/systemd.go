// Package systemd speaks with the service manager that started the process: sd_notify(3) datagrams and the
// sockets of sd_listen_fds(3). Without its variables everything here does nothing.
package systemd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// firstFD is SD_LISTEN_FDS_START.
const firstFD = 3

// maxSockets bounds what LISTEN_FDS may announce.
const maxSockets = 256

// Manager is who started this process. The zero value is nobody. Safe for concurrent use.
type Manager struct {
	socket   string // of notifications; empty for none
	watchdog time.Duration
	pid      string // that sockets are meant for
	fds      string
	names    string
}

// New reads the manager's variables out of environ, which has the form of os.Environ.
func New(environ []string) Manager {
	v := map[string]string{}
	for _, kv := range environ {
		if k, text, ok := strings.Cut(kv, "="); ok {
			v[k] = text
		}
	}
	m := Manager{socket: v["NOTIFY_SOCKET"], pid: v["LISTEN_PID"], fds: v["LISTEN_FDS"], names: v["LISTEN_FDNAMES"]}
	if pid := v["WATCHDOG_PID"]; pid == "" || pid == strconv.Itoa(os.Getpid()) {
		if n, err := strconv.ParseInt(v["WATCHDOG_USEC"], 10, 64); err == nil && n > 0 && n < int64(24*time.Hour/time.Microsecond) {
			m.watchdog = time.Duration(n) * time.Microsecond
		}
	}
	return m
}

// Watchdog is how often the manager expects a sign of life, 0 for never.
func (m Manager) Watchdog() time.Duration { return m.watchdog }

// Ready says that clients can connect, or that a reload is over.
func (m Manager) Ready(status string) error { return m.notify("READY=1\nSTATUS=" + oneLine(status)) }

// Reloading says that the configuration is read again. Ready ends it.
func (m Manager) Reloading() error {
	return m.notify(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", monotonic()))
}

// Stopping says that the server ends.
func (m Manager) Stopping() error { return m.notify("STOPPING=1") }

// Alive is the sign of life.
func (m Manager) Alive() error { return m.notify("WATCHDOG=1") }

// notify sends one datagram. A manager that does not read is waited for a second at most.
func (m Manager) notify(state string) error {
	if m.socket == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.socket, Net: "unixgram"}) // a leading @ is an abstract name
	if err != nil {
		return fmt.Errorf("systemd: notify: %w", err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second))
	if _, err := c.Write([]byte(state)); err != nil {
		return fmt.Errorf("systemd: notify: %w", err)
	}
	return nil
}

// oneLine keeps a text inside its assignment.
func oneLine(s string) string { return strings.NewReplacer("\n", " ", "\r", " ").Replace(s) }

// Socket is a listener that the manager opened.
type Socket struct {
	Name string // of FileDescriptorName=, or "" when the manager gave none
	net.Listener
}

// Listeners takes the sockets that the manager passed, in its order; the caller closes them. Call it once: the
// descriptors are consumed. Without sockets for this process there are none and no error.
func (m Manager) Listeners() ([]Socket, error) {
	if m.fds == "" || m.pid != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	n, err := strconv.Atoi(m.fds)
	if err != nil || n < 0 || n > maxSockets {
		return nil, fmt.Errorf("systemd: LISTEN_FDS must be a number up to %d, it is %q", maxSockets, m.fds)
	}
	names := strings.Split(m.names, ":")
	var out []Socket
	var errs []error
	for i := range n {
		f := os.NewFile(uintptr(firstFD+i), "LISTEN_FD_"+strconv.Itoa(i))
		l, err := net.FileListener(f) // a duplicate that children do not inherit
		f.Close()
		if err != nil {
			errs = append(errs, fmt.Errorf("systemd: passed descriptor %d is no listening socket: %w", firstFD+i, err))
			continue
		}
		s := Socket{Listener: l}
		if i < len(names) {
			s.Name = names[i]
		}
		out = append(out, s)
	}
	if len(errs) > 0 {
		for _, s := range out {
			s.Close()
		}
		return nil, errors.Join(errs...)
	}
	return out, nil
}
