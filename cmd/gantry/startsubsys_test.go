//go:build unix

package main

import (
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pkg/sftp"
)

// startSubsys runs the verb on pipes and gives a client of it.
func startSubsys(t *testing.T, environ []string, args ...string) (*sftp.Client, func() (int, string)) {
	t.Helper()
	in, toServer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fromServer, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	a := testApp(t, environ...)
	a.stdin, a.stdout = in, out
	ended := make(chan int, 1)
	go func() { // ends with the pipe
		code := a.run(append([]string{"startsubsys"}, args...))
		out.Close()
		ended <- code
	}()
	c, err := sftp.NewClientPipe(fromServer, toServer)
	if err != nil {
		t.Fatalf("%v: %s", err, text(t, a.stderr))
	}
	return c, func() (int, string) {
		toServer.Close()
		code := <-ended
		c.Close()
		fromServer.Close()
		return code, text(t, a.stderr)
	}
}

func TestSubsystemServesTheUserOfTheSystem(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	c, end := startSubsys(t, []string{"SSH_CONNECTION=192.0.2.9 4711 2001:db8::1 22"}, "-c", dir, "-d", filepath.Join(dir, "homes"))
	f, err := c.Create("/f")
	if err != nil {
		t.Fatal(err)
	}
	f.Write([]byte("content"))
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "homes", me.Username, "f")); string(b) != "content" {
		t.Errorf("%q, %v", b, err)
	}
	code, log := end()
	if code != 0 || !strings.Contains(log, `"file_path"`) || !strings.Contains(log, "192.0.2.9") {
		t.Errorf("exit code %d, log %s", code, log)
	}
	if _, err := os.Stat(filepath.Join(dir, "gantry.db")); err == nil {
		t.Error("a database was made")
	}
}

func TestSubsystemKeepsToTheDumpOfItsProvider(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	dump := strings.Replace(dumpOf(me.Username, "x", filepath.Join(dir, "kept")), `"*"`, `"list"`, 1)
	writeFile(t, filepath.Join(dir, "d.json"), dump)
	env := append([]string{}, cheap...)
	env = append(env, "GANTRY_DATA_PROVIDER__DRIVER=memory", "GANTRY_DATA_PROVIDER__NAME=d.json")
	c, end := startSubsys(t, env, "-c", dir, "-p")
	if _, err := c.Create("/f"); err == nil {
		t.Error("an upload without the right")
	}
	if _, err := c.ReadDir("/"); err != nil {
		t.Error(err)
	}
	if code, log := end(); code != 0 {
		t.Errorf("exit code %d: %s", code, log)
	}
	if _, err := os.Stat(filepath.Join(dir, "kept")); err != nil {
		t.Errorf("the stored home was not kept: %v", err)
	}
}

func TestSubsystemFailsClearly(t *testing.T) {
	for _, args := range [][]string{{"-d", "relative"}, {"--log-level", "loud"}, {"--config-file", "none.json"}, {"extra"}} {
		if code, out, msg := run(t, nil, append([]string{"startsubsys", "-c", t.TempDir()}, args...)...); code != 1 || msg == "" || out != "" {
			t.Errorf("%v: exit code %d, %q, %q", args, code, out, msg)
		}
	}
}
