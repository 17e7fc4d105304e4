//go:build unix

package systemd

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// manager is a service manager that notes what it is told.
func manager(t *testing.T) (environ []string, told func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return []string{"NOTIFY_SOCKET=" + path}, func() string {
		t.Helper()
		b := make([]byte, 4096)
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
}

func TestNotifications(t *testing.T) {
	environ, told := manager(t)
	m := New(environ)
	for _, x := range []struct {
		tell func() error
		want string
	}{
		{func() error { return m.Ready("serving\nX=1") }, "READY=1\nSTATUS=serving X=1"},
		{m.Stopping, "STOPPING=1"}, {m.Alive, "WATCHDOG=1"}, {m.Reloading, "RELOADING=1\nMONOTONIC_USEC="},
	} {
		if err := x.tell(); err != nil {
			t.Fatal(err)
		}
		if got := told(); !strings.HasPrefix(got, x.want) || strings.Count(got, "\n") > 1 {
			t.Errorf("told %q, want %q", got, x.want)
		}
	}
	if err := New([]string{"NOTIFY_SOCKET=" + filepath.Join(t.TempDir(), "none")}).Ready(""); err == nil {
		t.Error("a manager that is not there was told")
	}
	if err := New(nil).Ready("x"); err != nil {
		t.Errorf("without a manager: %v", err)
	}
}

func TestWatchdog(t *testing.T) {
	me := fmt.Sprint(os.Getpid())
	for _, x := range []struct {
		environ []string
		want    time.Duration
	}{
		{nil, 0}, {[]string{"WATCHDOG_USEC=30000000"}, 30 * time.Second}, {[]string{"WATCHDOG_USEC=30000000", "WATCHDOG_PID=" + me}, 30 * time.Second},
		{[]string{"WATCHDOG_USEC=30000000", "WATCHDOG_PID=1"}, 0}, {[]string{"WATCHDOG_USEC=-1"}, 0}, {[]string{"WATCHDOG_USEC=soon"}, 0},
		{[]string{"WATCHDOG_USEC=99999999999999"}, 0},
	} {
		if got := New(x.environ).Watchdog(); got != x.want {
			t.Errorf("%q: %v, want %v", x.environ, got, x.want)
		}
	}
}

// TestListeners runs itself with inherited sockets, as a manager starts a service.
func TestListeners(t *testing.T) {
	if fds := os.Getenv("GANTRY_TEST_LISTEN_FDS"); fds != "" {
		m := New([]string{"LISTEN_FDS=" + fds, "LISTEN_FDNAMES=sftp:ftp", "LISTEN_PID=" + fmt.Sprint(os.Getpid())})
		sockets, err := m.Listeners()
		fmt.Println("error:", err)
		for _, s := range sockets {
			fmt.Println("socket:", s.Name, s.Addr())
			c, err := s.Accept()
			if err == nil {
				io.WriteString(c, "hello from "+s.Name)
				c.Close()
			}
		}
		os.Exit(0)
	}
	var files []*os.File
	var addrs []string
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files, addrs = append(files, f), append(addrs, l.Addr().String())
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	child := func(fds string, files ...*os.File) *exec.Cmd {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestListeners$")
		cmd.Env, cmd.ExtraFiles = append(os.Environ(), "GANTRY_TEST_LISTEN_FDS="+fds), files
		return cmd
	}
	cmd := child("2", files...)
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"sftp", "ftp"} {
		c, err := net.Dial("tcp", addrs[i])
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(5 * time.Second))
		if b, _ := io.ReadAll(c); string(b) != "hello from "+name {
			t.Errorf("%s answered %q", name, b)
		}
		c.Close()
	}
	if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), "error: <nil>") {
		t.Errorf("%v\n%s", err, out.String())
	}
	for _, bad := range []struct{ fds, want string }{{"2", "no listening socket"}, {"x", "must be a number"}, {"-1", "must be a number"}, {"999", "must be a number"}} {
		b, err := child(bad.fds, files[0], null).CombinedOutput()
		if err != nil || !strings.Contains(string(b), bad.want) || strings.Contains(string(b), "\nsocket: ") {
			t.Errorf("LISTEN_FDS=%s: %v\n%s", bad.fds, err, b)
		}
	}
	if l, err := New([]string{"LISTEN_FDS=1", "LISTEN_PID=1"}).Listeners(); len(l) != 0 || err != nil {
		t.Errorf("sockets of another process were taken: %v, %v", l, err)
	}
}
