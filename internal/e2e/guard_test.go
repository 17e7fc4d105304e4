//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
)

// from connects to addr from one of loopback's addresses, and reads the first line.
func from(t *testing.T, source, addr string) (line string, err error) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}, Timeout: 5 * time.Second}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 256)
	n, err := c.Read(b)
	return string(b[:n]), err
}

// TestBruteForceIsBanned: hydra guesses passwords over SSH and FTP until it is banned on both; others are served.
func TestBruteForceIsBanned(t *testing.T) {
	hydra := tool(t, "hydra")
	list := filepath.Join(t.TempDir(), "passwords")
	var words strings.Builder
	for i := range 60 {
		fmt.Fprintf(&words, "guess-%d\n", i)
	}
	if err := os.WriteFile(list, []byte(words.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, proto := range []string{"ssh", "ftp"} {
		t.Run(proto, func(t *testing.T) {
			t.Parallel()
			ftpPort := gantrytest.FreePort(t)
			s := gantrytest.Start(t, gantrytest.Options{Bin: bin,
				Config: fmt.Sprintf(`{"common":{"defender":{"enabled":true,"threshold":6,"ban_time":1,"login_delay":{"password_failed":20}},"max_per_host_connections":0},
					"ftpd":{"bindings":[{"address":"127.0.0.1","port":%s}]}}`, ftpPort),
				Dump: &account.Dump{Users: []account.User{newUser("joe", filepath.Join(t.TempDir(), "joe"))}}})
			port := s.Port()
			if proto == "ftp" {
				port = ftpPort
			}
			out, _ := exec.Command(hydra, "-l", "joe", "-P", list, "-t", "2", "-W", "1", "-s", port, "127.0.0.1", proto).CombinedOutput()
			if strings.Contains(string(out), "valid password found") && !strings.Contains(string(out), "0 valid password") {
				t.Errorf("hydra says it found the password:\n%s", out)
			}
			s.WaitLog(map[string]any{"sender": "defender", "event": "banned", "client_ip": "127.0.0.1", "protocol": strings.ToUpper(proto)})
			failed := 0
			for _, m := range s.Log() {
				if m["sender"] == "connection_failed" && m["client_ip"] == "127.0.0.1" && m["login_type"] == "password" {
					failed++
				}
			}
			// 6 points are 6 failures of a user who is there; what was under way at the ban may add a few.
			if failed < 6 || failed > 12 {
				t.Errorf("%d guesses were judged, want about 6 of 60\n%s", failed, out)
			}
			// Banned on every protocol, and only that address.
			if line, _ := from(t, "127.0.0.1", "127.0.0.1:"+s.Port()); strings.HasPrefix(line, "SSH-") {
				t.Errorf("SSH still answers the banned address: %q", line)
			}
			if line, _ := from(t, "127.0.0.1", "127.0.0.1:"+ftpPort); strings.HasPrefix(line, "220") {
				t.Errorf("FTP still answers the banned address: %q", line)
			}
			if line, err := from(t, "127.0.0.2", "127.0.0.1:"+s.Port()); !strings.HasPrefix(line, "SSH-2.0-") {
				t.Errorf("SSH refuses another address: %q %v", line, err)
			}
			if line, err := from(t, "127.0.0.2", "127.0.0.1:"+ftpPort); !strings.HasPrefix(line, "220") {
				t.Errorf("FTP refuses another address: %q %v", line, err)
			}
			if !long() {
				return
			}
			// Each try made the ban half a minute, at least one minute, longer: two of ours and hydra's last ones.
			deadline := time.Now().Add(30 * time.Minute)
			for wait := 2 * time.Minute; ; wait *= 2 {
				time.Sleep(wait)
				if line, _ := from(t, "127.0.0.1", "127.0.0.1:"+s.Port()); strings.HasPrefix(line, "SSH-2.0-") {
					return
				}
				if time.Now().After(deadline) {
					t.Fatal("the ban does not end")
				}
			}
		})
	}
}

// TestRateLimitsAndListsOnTheServer: what is over the rate is refused, lists of the store hold, and a change of them
// does without a restart.
func TestRateLimitsAndListsOnTheServer(t *testing.T) {
	ftpPort := gantrytest.FreePort(t)
	s := gantrytest.Start(t, gantrytest.Options{Bin: bin,
		Config: fmt.Sprintf(`{"common":{"defender":{"enabled":true},"rate_limiters":[{"average":1,"period":60000,"burst":3,"protocols":["FTP"]}]},
			"ftpd":{"bindings":[{"address":"127.0.0.1","port":%s}]}}`, ftpPort),
		Dump: &account.Dump{Users: []account.User{newUser("joe", filepath.Join(t.TempDir(), "joe"))},
			IPLists: rawList(`{"ipornet":"127.0.0.9","type":2,"mode":2}`, `{"ipornet":"127.0.0.8","type":3,"mode":1}`)}})
	ftp := func(source string) bool {
		line, _ := from(t, source, "127.0.0.1:"+ftpPort)
		return strings.HasPrefix(line, "220")
	}
	for i := range 6 {
		if got := ftp("127.0.0.3"); got != (i < 3) {
			t.Errorf("FTP connection %d from one source: admitted %v", i+1, got)
		}
		if !ftp("127.0.0.8") {
			t.Errorf("connection %d of an exempt source was refused", i+1)
		}
	}
	if !ftp("127.0.0.4") {
		t.Error("another source was refused")
	}
	if line, _ := from(t, "127.0.0.3", "127.0.0.1:"+s.Port()); !strings.HasPrefix(line, "SSH-") {
		t.Error("FTP's limit held for SSH")
	}
	ssh := func(source string) bool {
		line, _ := from(t, source, "127.0.0.1:"+s.Port())
		return strings.HasPrefix(line, "SSH-")
	}
	if ssh("127.0.0.9") {
		t.Error("a blocked address was let in")
	}
	dump := filepath.Join(t.TempDir(), "lists.json")
	if err := os.WriteFile(dump, []byte(`{"version":17,"ip_lists":[{"ipornet":"127.0.0.7","type":2,"mode":2}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(bin, "load", "-c", s.Dir, dump).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for end := time.Now().Add(15 * time.Second); ssh("127.0.0.7"); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a new entry of the list does not hold")
		}
	}
}

// TestCapOfAHostOnTheServer: the connection above the cap is refused over both protocols together.
func TestCapOfAHostOnTheServer(t *testing.T) {
	ftpPort := gantrytest.FreePort(t)
	s := gantrytest.Start(t, gantrytest.Options{Bin: bin, Env: []string{"GANTRY_COMMON__MAX_PER_HOST_CONNECTIONS=3"},
		Config: fmt.Sprintf(`{"ftpd":{"bindings":[{"address":"127.0.0.1","port":%s}]}}`, ftpPort),
		Dump:   &account.Dump{Users: []account.User{newUser("joe", filepath.Join(t.TempDir(), "joe"))}}})
	var open []*gossh.Client
	for range 2 {
		c, err := s.Dial("joe", "pw-joe")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		open = append(open, c)
	}
	c, err := net.Dial("tcp", "127.0.0.1:"+ftpPort)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if b := make([]byte, 3); mustRead(c, b) != "220" {
		t.Fatalf("the third: %s", b)
	}
	if c, err := s.Dial("joe", "pw-joe"); err == nil {
		c.Close()
		t.Error("a fourth connection was let in")
	}
	if line, _ := from(t, "127.0.0.2", "127.0.0.1:"+s.Port()); !strings.HasPrefix(line, "SSH-") {
		t.Error("another address was refused")
	}
	open[0].Close()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		c, err := s.Dial("joe", "pw-joe")
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// rawList is a list of documents.
func rawList(docs ...string) (out []json.RawMessage) {
	for _, d := range docs {
		out = append(out, json.RawMessage(d))
	}
	return out
}

func mustRead(c net.Conn, b []byte) string {
	n, _ := c.Read(b)
	return string(b[:n])
}
