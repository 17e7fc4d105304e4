//go:build linux

package e2e

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
)

// manager plays systemd's end of the notifications.
type manager struct {
	t *testing.T
	c *net.UnixConn
}

func newManager(t *testing.T) (*manager, string) {
	dir, err := os.MkdirTemp("", "sd") // a short path: socket names hold 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	addr := filepath.Join(dir, "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: addr, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &manager{t, c}, addr
}

// expect reads until a datagram that starts with want, and fails at one that starts with none of the others.
func (m *manager) expect(want string) string {
	m.t.Helper()
	m.c.SetReadDeadline(time.Now().Add(gantrytest.Wait))
	for buf := make([]byte, 4096); ; {
		n, err := m.c.Read(buf)
		if err != nil {
			m.t.Fatalf("no %s: %v", want, err)
		}
		got := string(buf[:n])
		if strings.HasPrefix(got, want) {
			return got
		}
		if !strings.HasPrefix(got, "WATCHDOG=1") {
			m.t.Fatalf("got %q, want %s", got, want)
		}
	}
}

// TestServiceManagerIsTold plays systemd with Type=notify and a watchdog.
func TestServiceManagerIsTold(t *testing.T) {
	m, addr := newManager(t)
	s := gantrytest.Start(t, gantrytest.Options{Bin: bin, Env: []string{"NOTIFY_SOCKET=" + addr, "WATCHDOG_USEC=200000"}})
	if got := m.expect("READY=1\n"); !strings.Contains(got, "STATUS=serving "+s.Addr) {
		t.Errorf("got %q, want the address %s", got, s.Addr)
	}
	m.expect("WATCHDOG=1")
	s.Signal(syscall.SIGHUP)
	if got := m.expect("RELOADING=1\n"); !strings.Contains(got, "\nMONOTONIC_USEC=") || strings.HasSuffix(got, "=0") {
		t.Errorf("got %q, want a time", got)
	}
	m.expect("READY=1\n")
	s.Signal(syscall.SIGTERM)
	m.expect("STOPPING=1")
	if code := s.WaitEnd(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// activate runs serve with one passed socket and a binding on the given port, as systemd would.
func activate(t *testing.T, l *net.TCPListener, port string, env ...string) (*exec.Cmd, *strings.Builder) {
	t.Helper()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// LISTEN_PID is known only to the process itself: the shell keeps its id over exec.
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" serve -c "$1"`, bin, t.TempDir())
	cmd.ExtraFiles = []*os.File{f}
	cmd.Env = append(append(os.Environ(), "LISTEN_FDS=1", "LISTEN_FDNAMES=sftp", "GANTRY_SFTPD__HOST_KEYS=id_ed25519",
		"GANTRY_SFTPD__BINDINGS__0__ADDRESS=127.0.0.1", "GANTRY_SFTPD__BINDINGS__0__PORT="+port), env...)
	out := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, out
}

func listenTCP(t *testing.T) (*net.TCPListener, string) {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return l, port
}

// TestPassedSocketServes: PRIV-1, ports by socket activation.
func TestPassedSocketServes(t *testing.T) {
	m, addr := newManager(t)
	l, port := listenTCP(t)
	cmd, out := activate(t, l, port, "NOTIFY_SOCKET="+addr)
	defer cmd.Process.Kill()
	m.expect("READY=1\n")
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(gantrytest.Wait))
	buf := make([]byte, 8)
	if _, err := c.Read(buf); err != nil || string(buf) != "SSH-2.0-" {
		t.Errorf("greeting %q, %v", buf, err)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestPassedFTPSocketServes: PRIV-1, and a binding without a socket beside it listens by itself.
func TestPassedFTPSocketServes(t *testing.T) {
	m, addr := newManager(t)
	l, port := listenTCP(t)
	own := gantrytest.FreePort(t)
	cmd, out := activate(t, l, "0", "NOTIFY_SOCKET="+addr, "GANTRY_FTPD__BINDINGS__0__ADDRESS=127.0.0.1", "GANTRY_FTPD__BINDINGS__0__PORT="+port,
		"GANTRY_FTPD__BINDINGS__1__ADDRESS=127.0.0.1", "GANTRY_FTPD__BINDINGS__1__PORT="+own)
	defer cmd.Process.Kill()
	m.expect("READY=1\n")
	for _, at := range []string{l.Addr().String(), "127.0.0.1:" + own} {
		if line, err := from(t, "127.0.0.1", at); !strings.HasPrefix(line, "220 ") {
			t.Errorf("%s greets with %q, %v", at, line, err)
		}
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestPassedSocketThatNoBindingNamesIsRefused: neither is silently ignored.
func TestPassedSocketThatNoBindingNamesIsRefused(t *testing.T) {
	l, _ := listenTCP(t)
	cmd, out := activate(t, l, gantrytest.FreePort(t))
	if err := cmd.Wait(); err == nil {
		t.Error("the server started")
	}
	for _, want := range []string{"the socket unit passes " + l.Addr().String() + ` ("sftp")`, "for which the socket unit passes no socket"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
}
