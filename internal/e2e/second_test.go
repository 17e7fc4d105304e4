//go:build unix

package e2e

import (
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
)

// hostKey is the fingerprint of the key that the server shows.
func hostKey(t *testing.T, s *gantrytest.Server) string {
	t.Helper()
	var shown string
	seen := errors.New("seen")
	_, err := ssh.Dial("tcp", s.Addr, &ssh.ClientConfig{
		User: "c", Timeout: gantrytest.Wait,
		HostKeyCallback: func(_ string, _ net.Addr, k ssh.PublicKey) error { shown = ssh.FingerprintSHA256(k); return seen },
	})
	if shown == "" {
		t.Fatalf("no host key: %v", err)
	}
	return shown
}

// TestPsftp: PuTTY's client, an SSH and SFTP of their own, by password.
func TestPsftp(t *testing.T) {
	psftp := need(t, "psftp", "putty-tools")
	s, home := serve(t, `{"common":{"upload_mode":0}}`)
	local := t.TempDir()
	tree, file := filepath.Join(local, "tree"), filepath.Join(local, "file")
	makeTree(t, tree)
	randomFile(t, file, 5<<20+3, rand.NewChaCha8([32]byte{4}))
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// Both ends hold the first part of an interrupted transfer.
	for _, part := range []string{filepath.Join(local, "half"), filepath.Join(home, "half")} {
		if err := os.WriteFile(part, whole[:2_000_001], 0o644); err != nil {
			t.Fatal(err)
		}
	}
	script := filepath.Join(local, "script")
	gantrytest.WriteFile(t, script, strings.Join([]string{
		"lcd " + local, "mkdir d", "put file d/file", "get d/file back", "put -r tree d/tree", "get -r d/tree treeback",
		"mv d/file d/moved", "chmod 600 d/moved", "ls d", "reput file half", "reget d/moved half",
		"mkdir d/empty", "rmdir d/empty", "del d/tree/one", "cd d", "pwd", "quit",
	}, "\n")+"\n")
	out := program{env: []string{"HOME=" + local, "LANG=C.UTF-8"}}.run(t, psftp,
		"-batch", "-P", s.Port(), "-pw", "pw-c", "-hostkey", hostKey(t, s), "-b", script, "c@127.0.0.1")
	for _, want := range []string{"-rw-------", "moved", "Remote directory is /d"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	for _, got := range []string{filepath.Join(home, "d/moved"), filepath.Join(home, "half"), filepath.Join(local, "back"), filepath.Join(local, "half")} {
		sameFile(t, file, got)
	}
	for _, gone := range []string{"d/file", "d/empty", "d/tree/one"} {
		if _, err := os.Lstat(filepath.Join(home, gone)); !os.IsNotExist(err) {
			t.Errorf("%s is there: %v", gone, err)
		}
	}
	// psftp keeps no times.
	for _, name := range []string{"sub/deep/er/3M", "größe-日本.bin", "many/039", "a name with spaces.txt", ".hidden/.file", "empty"} {
		sameFile(t, filepath.Join(tree, name), filepath.Join(home, "d/tree", name))
		sameFile(t, filepath.Join(tree, name), filepath.Join(local, "treeback", name))
	}
}

// TestParamiko: Python's client, by password and by key; the steps stand in testdata/paramiko_client.py.
func TestParamiko(t *testing.T) {
	python := "/usr/bin/python3" // the one that Debian's package belongs to
	if _, err := os.Stat(python); err != nil {
		python = need(t, "python3", "python3-paramiko")
	}
	if err := exec.Command(python, "-c", "import paramiko").Run(); err != nil {
		missing(t, "paramiko", "python3-paramiko")
	}
	s, home := serve(t, `{"common":{"upload_mode":0}}`)
	file := filepath.Join(t.TempDir(), "file")
	randomFile(t, file, 5<<20+3, rand.NewChaCha8([32]byte{5}))
	out := program{}.run(t, python, "-W", "ignore", "testdata/paramiko_client.py", s.Port(), "c", "pw-c", key.File, file)
	if !strings.Contains(out, "all steps done") {
		t.Errorf("paramiko did not come to its end:\n%s", out)
	}
	for _, got := range []string{"d/moved", "d/resumed", "d/appended"} {
		sameFile(t, file, filepath.Join(home, got))
	}
}
