//go:build unix

package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/pkg/sftp"
	gossh "golang.org/x/crypto/ssh"
)

// startPortableServer runs the verb and gives the port and what it printed.
func startPortableServer(t *testing.T, change func(*portableFlags)) (port, printed string, end func() error) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", t.TempDir())
	writeFile(t, filepath.Join(dir, "a.txt"), "content")
	f := &portableFlags{directory: dir, start: "/", username: "user", permissions: []string{"list", "download"}, commands: []string{"md5sum"}, level: "info", address: "127.0.0.1"}
	if change != nil {
		change(f)
	}
	a := testApp(t)
	sig := make(chan os.Signal, 1)
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() { // ends with the signal
		ended <- a.portable(context.Background(), f, sig, func(n *node) { ready <- n.listeners[0].Addr().String() })
	}()
	select {
	case addr := <-ready:
		_, port, _ = net.SplitHostPort(addr)
	case err := <-ended:
		t.Fatal(err)
	}
	return port, text(t, a.stdout), func() error {
		sig <- syscall.SIGTERM
		return <-ended
	}
}

func portableClient(t *testing.T, port, password string) (*sftp.Client, func(), error) {
	t.Helper()
	c, err := gossh.Dial("tcp", "127.0.0.1:"+port, &gossh.ClientConfig{
		User: "user", Auth: []gossh.AuthMethod{gossh.Password(password)}, HostKeyCallback: gossh.InsecureIgnoreHostKey(),
	})
	if err != nil {
		return nil, nil, err
	}
	sc, err := sftp.NewClient(c)
	if err != nil {
		t.Fatal(err)
	}
	return sc, func() { sc.Close(); c.Close() }, nil
}

func TestPortableServesWithThePasswordItPrints(t *testing.T) {
	port, printed, end := startPortableServer(t, nil)
	m := regexp.MustCompile(`password: "([a-z2-7]{26})"`).FindStringSubmatch(printed)
	if m == nil || !strings.Contains(printed, "sftp -P "+port+" user@127.0.0.1") || !strings.Contains(printed, "█") {
		t.Fatalf("printed %s", printed)
	}
	if _, _, err := portableClient(t, port, "guess"); err == nil {
		t.Error("a wrong password logs in")
	}
	c, hangUp, err := portableClient(t, port, m[1])
	if err != nil {
		t.Fatal(err)
	}
	if list, err := c.ReadDir("/"); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := c.Create("/b"); err == nil {
		t.Error("an upload without the permission")
	}
	hangUp()
	if err := end(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "gantry-portable-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestPortableKeepsToPatternsAndQuota(t *testing.T) {
	port, printed, end := startPortableServer(t, func(f *portableFlags) {
		f.password, f.permissions, f.denied, f.quotaFiles = "given-secret", []string{"*"}, []string{"/::*.KEY,*.pem"}, 2
	})
	defer end()
	if strings.Contains(printed, "given-secret") { // LOG-1
		t.Errorf("printed %s", printed)
	}
	c, hangUp, err := portableClient(t, port, "given-secret")
	if err != nil {
		t.Fatal(err)
	}
	defer hangUp()
	for _, name := range []string{"/x.key", "/x.pem"} {
		if _, err := c.Create(name); err == nil {
			t.Errorf("%s was written", name)
		}
	}
	f, err := c.Create("/second")
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := c.Create("/third"); err == nil {
		t.Error("a third file with a limit of two")
	}
}

func TestPortableFailsClearly(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "empty"), "\n")
	for _, args := range [][]string{
		{"-d", filepath.Join(dir, "none")}, {"-d", filepath.Join(dir, "empty")}, {"-s", "70000"}, {"-g", "fly"}, {"-k", "no key"},
		{"--denied-patterns", "x"}, {"--allowed-patterns", "/::"}, {"--password-file", filepath.Join(dir, "empty")}, {"--log-level", "loud"}, {"-u", "a/b"},
	} {
		if code, _, msg := run(t, nil, append([]string{"portable", "--address", "127.0.0.1"}, args...)...); code != 1 || msg == "" {
			t.Errorf("%v: exit code %d, %q", args, code, msg)
		}
	}
}
