//go:build unix

package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
)

// TestLftpMirrors: a tree goes up and comes back by lftp's mirror.
func TestLftpMirrors(t *testing.T) {
	lftp := need(t, "lftp", "lftp")
	need(t, "ssh", "openssh-client")
	s, home := serve(t, "")
	local := t.TempDir()
	tree, back := filepath.Join(local, "tree"), filepath.Join(local, "back")
	makeTree(t, tree)
	script := []string{
		"set cmd:fail-exit yes", "set net:timeout 60", "set net:max-retries 2", "set sftp:auto-confirm yes", "set xfer:log no",
		fmt.Sprintf(`set sftp:connect-program "ssh -a -x %s"`, strings.Join(sshFlags(), " ")),
		"open -u c,none -p " + s.Port() + " sftp://127.0.0.1",
		"mirror -R -P 4 " + tree + " /tree", "mirror -P 4 /tree " + back,
		"mirror -R --only-newer --delete " + tree + " /tree", "bye",
	}
	program{env: []string{"HOME=" + local, "LANG=C.UTF-8"}}.run(t, lftp, "--norc", "-c", strings.Join(script, "; "))
	sameTree(t, tree, filepath.Join(home, "tree"), false)
	sameTree(t, tree, back, false)
}

// TestRcloneCopiesARealTree: Go's source tree, or a part of it without GANTRY_TEST_LONG, goes up, is checked byte by
// byte and comes back.
func TestRcloneCopiesARealTree(t *testing.T) {
	rclone := need(t, "rclone", "rclone")
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	tree := filepath.Join(strings.TrimSpace(string(root)), "src")
	if !long() {
		tree = filepath.Join(tree, "net")
	}
	s, home := serve(t, "")
	local := t.TempDir()
	conf := filepath.Join(local, "rclone.conf")
	gantrytest.WriteFile(t, conf, fmt.Sprintf("[gantry]\ntype = sftp\nhost = 127.0.0.1\nport = %s\nuser = c\nkey_file = %s\nshell_type = none\n", s.Port(), key.File))
	flags := []string{"--config", conf, "--transfers", "8", "--checkers", "8", "--retries", "1", "--low-level-retries", "1"}
	run := func(args ...string) string { return program{}.run(t, rclone, append(args, flags...)...) }
	back := filepath.Join(local, "back")
	run("copy", tree, "gantry:/tree")
	files := sameTree(t, tree, filepath.Join(home, "tree"), false)
	run("check", "--download", tree, "gantry:/tree")
	run("copy", "gantry:/tree", back)
	sameTree(t, tree, back, false)
	if out := run("copy", tree, "gantry:/tree", "-v"); strings.Contains(out, "Copied") {
		t.Errorf("the second copy sent files again:\n%s", out)
	}
	t.Logf("%d files", files)
}
