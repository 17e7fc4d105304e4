//go:build linux

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
)

// tool gives a program, or skips the test; with GANTRY_TEST_CLIENTS its absence is a failure.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("GANTRY_TEST_CLIENTS") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return path
}

// scanned starts a server with default host keys.
func scanned(t *testing.T) *gantrytest.Server {
	t.Helper()
	return gantrytest.Start(t, gantrytest.Options{Bin: bin, Env: []string{"GANTRY_SFTPD__HOST_KEYS=id_ed25519,id_rsa"}})
}

// TestDefaultAlgorithmsAreNotWeak: SSH-2, ssh-audit finds nothing to fail in a server with defaults.
func TestDefaultAlgorithmsAreNotWeak(t *testing.T) {
	audit := tool(t, "ssh-audit")
	s := scanned(t)
	out, err := exec.Command(audit, "-n", "-p", s.Port(), "127.0.0.1").CombinedOutput()
	text := string(out)
	if !strings.Contains(text, "(kex)") || !strings.Contains(text, "(enc)") || !strings.Contains(text, "(mac)") || !strings.Contains(text, "(key)") {
		t.Fatalf("no listing: %v\n%s", err, text)
	}
	for _, line := range strings.Split(text, "\n") {
		if strings.Contains(line, "[fail]") {
			t.Errorf("%s", line)
		}
	}
}

// TestNmapListsNoWeakAlgorithm: SSH-2.
func TestNmapListsNoWeakAlgorithm(t *testing.T) {
	nmap := tool(t, "nmap")
	s := scanned(t)
	out, err := exec.Command(nmap, "-Pn", "-n", "--script", "+ssh2-enum-algos", "-p", s.Port(), "127.0.0.1").CombinedOutput()
	text := string(out)
	for _, section := range []string{"kex_algorithms", "server_host_key_algorithms", "encryption_algorithms", "mac_algorithms", "curve25519-sha256", "aes128-gcm@openssh.com"} {
		if !strings.Contains(text, section) {
			t.Fatalf("the listing lacks %s: %v\n%s", section, err, text)
		}
	}
	for _, weak := range []string{"sha1", "md5", "-cbc", "arcfour", "group1-", "ssh-dss", "ssh-rsa\n", "nistp", "-96", "none,"} {
		if strings.Contains(text, weak) {
			t.Errorf("%q is offered:\n%s", weak, text)
		}
	}
}

// TestFail2banReadsFailedLogins runs the packaged filter over the log of real failures.
func TestFail2banReadsFailedLogins(t *testing.T) {
	regex := tool(t, "fail2ban-regex")
	s := gantrytest.Start(t, gantrytest.Options{Bin: bin, Dump: &account.Dump{Users: []account.User{newUser("joe", filepath.Join(t.TempDir(), "joe"))}}})
	// The last tries to look like another address's failure.
	for _, user := range []string{"joe", "nobody", `x","client_ip":"192.0.2.66","username":"y`} {
		if c, err := s.Dial(user, "wrong"); err == nil {
			c.Close()
			t.Fatalf("%s came in with a wrong password", user)
		}
		s.WaitLog(map[string]any{"sender": "connection_failed", "username": user, "login_type": "password"})
	}
	c, err := s.Dial("joe", "pw-joe")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	out, err := exec.Command(regex, "-v", filepath.Join(s.Dir, "gantry.log"), "../packaging/fail2ban/filter.conf").CombinedOutput()
	text := string(out)
	failures := 0
	for _, m := range s.Log() {
		if m["sender"] == "connection_failed" && !strings.HasPrefix(m["login_type"].(string), "no_auth") {
			failures++
		}
	}
	if got := strings.Count(text, "    127.0.0.1  "); err != nil || failures < 3 || got != failures {
		t.Errorf("%d of %d failures matched: %v\n%s", got, failures, err, text)
	}
	if strings.Contains(text, "    192.0.2.66  ") {
		t.Errorf("a user name put another's address there:\n%s", text)
	}
}
