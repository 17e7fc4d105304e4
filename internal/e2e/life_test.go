//go:build unix

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
)

func oneUser(u account.User) *account.Dump { return &account.Dump{Users: []account.User{u}} }

// TestTermDrains: TERM lets an open upload end within the grace time; without grace it is cut, and what the mode
// promises is left.
func TestTermDrains(t *testing.T) {
	for _, tt := range []struct {
		mode, grace int
		whole       bool
		left        int64 // bytes, -1 no file
	}{{0, 30, true, 2000}, {1, 30, true, 2000}, {0, 0, false, 1000}, {1, 0, false, -1}} {
		t.Run(fmt.Sprintf("mode %d grace %d", tt.mode, tt.grace), func(t *testing.T) {
			home := t.TempDir()
			s := gantrytest.Start(t, gantrytest.Options{
				Bin: bin, Dump: oneUser(newUser("d", home)), Config: fmt.Sprintf(`{"common":{"upload_mode":%d}}`, tt.mode),
				Args: []string{"--grace-time", fmt.Sprint(tt.grace)}, Secrets: []string{"pw-d"},
			})
			f, err := client(t, s, "d").OpenFile("/f", os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Write(make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			s.Signal(syscall.SIGTERM)
			s.WaitLog(map[string]any{"message": "stopping"})
			if tt.grace > 0 {
				if _, err := s.Dial("d", "pw-d"); err == nil {
					t.Error("a new login while the server stops")
				}
				if _, err := f.Write(make([]byte, 1000)); err != nil {
					t.Errorf("write within the grace time: %v", err)
				}
				if err := f.Close(); err != nil {
					t.Errorf("close within the grace time: %v", err)
				}
			}
			if code := s.WaitEnd(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			left := int64(-1)
			if st, err := os.Stat(filepath.Join(home, "f")); err == nil {
				left = st.Size()
			}
			if left != tt.left {
				t.Errorf("%d bytes are left, want %d", left, tt.left)
			}
			if n := temps(t, home); n != 0 {
				t.Errorf("%d temporary files", n)
			}
		})
	}
}

func TestHangUpReloadsAndUsr1Rotates(t *testing.T) {
	s := gantrytest.Start(t, gantrytest.Options{Bin: bin, Dump: oneUser(newUser("h", t.TempDir()))})
	hostKey := func() string {
		var got string
		c, err := ssh.Dial("tcp", s.Addr, &ssh.ClientConfig{User: "h", Auth: []ssh.AuthMethod{ssh.Password("pw-h")}, HostKeyCallback: func(_ string, _ net.Addr, k ssh.PublicKey) error {
			got = ssh.FingerprintSHA256(k)
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		return got
	}
	before := hostKey()
	open := client(t, s, "h")
	dir := t.TempDir()
	other, err := gantrytest.NewKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(other.File)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Dir, "id_ed25519"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	s.Signal(syscall.SIGHUP)
	s.WaitLog(map[string]any{"message": "reloaded"})
	if after := hostKey(); after == before {
		t.Error("the host key is the old one after HUP")
	}
	if _, err := open.ReadDir("/"); err != nil {
		t.Errorf("an open connection after HUP: %v", err)
	}
	// A configuration with a mistake changes nothing and the server goes on.
	gantrytest.WriteFile(t, filepath.Join(s.Dir, "gantry.json"), `{"common":{"upload_mode":77}}`)
	s.Signal(syscall.SIGHUP)
	s.Until("the mistake is in the log", func() bool {
		for _, m := range s.Log() {
			if strings.Contains(fmt.Sprint(m["error"]), "upload_mode") {
				return true
			}
		}
		return false
	})
	hostKey()

	s.Signal(syscall.SIGUSR1)
	s.Until("the log is rotated", func() bool {
		old, _ := filepath.Glob(filepath.Join(s.Dir, "gantry-*.log*"))
		return len(old) == 1
	})
	hostKey()
	open.Mkdir("/new")
	s.WaitLog(map[string]any{"username": "h"}) // in the new log
}

// TestFailedLoginsAreSeenAndSecretsAreNot: LOG-1, and the record that fail2ban reads.
func TestFailedLoginsAreSeenAndSecretsAreNot(t *testing.T) {
	const canary = "c4nary-s3cret"
	u := newUser("c", t.TempDir())
	u.Password = canary
	s := gantrytest.Start(t, gantrytest.Options{
		Bin: bin, Dump: oneUser(u), Args: []string{"--log-level", "debug"}, Secrets: []string{canary, "wrong-" + canary, "$2a$", "$2y$", "PRIVATE KEY"},
	})
	if c, err := s.Dial("c", canary); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
	for _, user := range []string{"c", "nobody", "x\ny\"z"} {
		if c, err := s.Dial(user, "wrong-"+canary); err == nil {
			c.Close()
			t.Errorf("%q logs in with a wrong password", user)
		}
		s.WaitLog(map[string]any{"sender": "connection_failed", "username": user, "login_type": "password"})
	}
	data, err := os.ReadFile(filepath.Join(s.Dir, "gantry.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"c", "nobody", `x\ny\"z`} {
		if want := fmt.Sprintf(`"sender":"connection_failed","client_ip":"127.0.0.1","username":"%s","login_type":"password","protocol":"SSH","error":`, user); !bytes.Contains(data, []byte(want)) {
			t.Errorf("no record %s", want)
		}
	}
	if code, out := s.Verb("check"); code != 0 || strings.Contains(out, canary) {
		t.Errorf("check: %d %s", code, out)
	}
	if code, out := s.Verb("ping"); code != 0 || !strings.Contains(out, "SSH-2.0-") {
		t.Errorf("ping: %d %s", code, out)
	}
}

// TestBadStoreGrantsNothing: AUTH-5. The database is locked, then destroyed, under a running server.
func TestBadStoreGrantsNothing(t *testing.T) {
	a, b := newUser("a", t.TempDir()), newUser("b", t.TempDir())
	b.Status = 0
	s := gantrytest.Start(t, gantrytest.Options{Bin: bin, Dump: &account.Dump{Users: []account.User{a, b}}})
	refused := func(state string) {
		t.Helper()
		for _, try := range [][2]string{{"a", "wrong"}, {"b", "pw-b"}, {"nobody", ""}, {"nobody", "pw-nobody"}, {"", ""}} {
			if c, err := s.Dial(try[0], try[1]); err == nil {
				c.Close()
				t.Errorf("%s: %q logs in with %q", state, try[0], try[1])
			}
		}
	}
	refused("whole")
	lock := exec.Command("python3", "-c", `
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("BEGIN EXCLUSIVE")
print("locked", flush=True); sys.stdin.read()`, filepath.Join(s.Dir, "gantry.db"))
	in, _ := lock.StdinPipe()
	out, _ := lock.StdoutPipe()
	lock.Stderr = os.Stderr
	if err := lock.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := io.ReadAll(io.LimitReader(out, 7)); string(line) != "locked\n" {
		t.Fatalf("the lock: %q, %v", line, err)
	}
	refused("locked")
	in.Close()
	lock.Wait()
	if err := os.WriteFile(filepath.Join(s.Dir, "gantry.db"), bytes.Repeat([]byte("no database "), 10_000), 0o600); err != nil {
		t.Fatal(err)
	}
	refused("destroyed")
	if s.Ended() {
		t.Error("the server ended")
	}
	s.Stop(syscall.SIGTERM) // the counters cannot be written, so the exit code may be 1
}

// TestBadInputLeavesTheDataAsItWas: a start or a load with a mistake names it and changes nothing.
func TestBadInputLeavesTheDataAsItWas(t *testing.T) {
	s := gantrytest.Start(t, gantrytest.Options{Bin: bin, Dump: oneUser(newUser("a", t.TempDir()))})
	s.Stop(syscall.SIGTERM)
	before := fmt.Sprintf("%+v", s.Dump().Users)
	for _, tt := range []struct{ config, dump, want string }{
		{`{"common":{"upload_mode":77}}`, "", "upload_mode"},
		{`{"common":{"upload_modee":1}}`, "", "upload_mode"},
		{`{"common":`, "", "gantry.json"},
		{`{"sftpd":{"bindings":[{},{"port":99999}]}}`, "", "port"},
		{`{}`, `{"version":17,"users":[{"username":"new","home_dir":"/x","permissions":{"/":["*"]}},{"username":"bad","home_dir":"relative","permissions":{"/":["*"]}}]}`, "bad"},
		{`{}`, `{"version":99,"users":[]}`, "99"},
		{`{}`, `{"users":[`, "line 1"},
	} {
		gantrytest.WriteFile(t, filepath.Join(s.Dir, "gantry.json"), tt.config)
		args := []string{}
		if tt.dump != "" {
			file := filepath.Join(t.TempDir(), "bad.json")
			gantrytest.WriteFile(t, file, tt.dump)
			args = []string{"--loaddata-from", file}
		}
		code, out := s.Verb("serve", args...)
		if code != 1 || !strings.Contains(out, tt.want) {
			t.Errorf("%s %s: exit code %d, %s, want %q", tt.config, tt.dump, code, out, tt.want)
		}
		os.Remove(filepath.Join(s.Dir, "gantry.json"))
		if after := fmt.Sprintf("%+v", s.Dump().Users); after != before {
			t.Errorf("%s %s: the users changed:\n%s\nwas\n%s", tt.config, tt.dump, after, before)
		}
	}
}

// TestStorageFaults: a full disk, a read-only root and a vanished home give clean errors and keep the quota right.
func TestStorageFaults(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small disk needs root")
	}
	for mode := range 3 {
		t.Run(fmt.Sprintf("mode %d", mode), func(t *testing.T) {
			home := t.TempDir()
			if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", home).CombinedOutput(); err != nil {
				t.Skipf("this machine cannot mount: %s", out)
			}
			defer exec.Command("umount", "-l", home).Run()
			u := newUser("s", home)
			u.QuotaFiles = 100
			s := gantrytest.Start(t, gantrytest.Options{Bin: bin, Dump: oneUser(u), Config: fmt.Sprintf(`{"common":{"upload_mode":%d}}`, mode)})
			c := client(t, s, "s")
			if err := put(c, "/small", make([]byte, 1000), os.O_CREATE); err != nil {
				t.Fatal(err)
			}
			err := put(c, "/large", make([]byte, 4<<20), os.O_CREATE)
			if err == nil || errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("an upload to a full disk: %v", err)
			}
			if _, err := os.Stat(filepath.Join(home, "large")); err == nil && mode == 1 {
				t.Error("half a file was published")
			}
			c.Remove("/large") // in mode 0 and 2 its part may stay
			if err := put(c, "/again", make([]byte, 1000), os.O_CREATE); err != nil {
				t.Errorf("after the full disk: %v", err)
			}
			if out, err := exec.Command("mount", "-o", "remount,ro", home).CombinedOutput(); err != nil {
				t.Fatalf("remount: %s", out)
			}
			for what, err := range map[string]error{
				"upload": put(c, "/ro", []byte("x"), os.O_CREATE), "mkdir": c.Mkdir("/ro"), "remove": c.Remove("/small"), "rename": c.Rename("/small", "/x"),
			} {
				if err == nil {
					t.Errorf("%s on a read-only root works", what)
				}
			}
			if _, err := c.Stat("/small"); err != nil {
				t.Errorf("stat on a read-only root: %v", err)
			}
			if out, err := exec.Command("mount", "-o", "remount,rw", home).CombinedOutput(); err != nil {
				t.Fatalf("remount: %s", out)
			}
			if err := put(c, "/rw", []byte("x"), os.O_CREATE); err != nil {
				t.Errorf("after the read-only root: %v", err)
			}
			c.Close()
			s.Stop(syscall.SIGTERM)
			files, size := used(t, s.Dump(), "s")
			if wantFiles, wantSize := onDisk(t, home); files != wantFiles || size != wantSize {
				t.Errorf("charged %d files and %d bytes, the disk holds %d and %d", files, size, wantFiles, wantSize)
			}
		})
	}
	t.Run("vanished home", func(t *testing.T) {
		home := filepath.Join(t.TempDir(), "home")
		s := gantrytest.Start(t, gantrytest.Options{Bin: bin, Dump: oneUser(newUser("v", home))})
		c := client(t, s, "v")
		if err := put(c, "/f", []byte("x"), os.O_CREATE); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(home); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Stat("/f"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("stat: %v", err)
		}
		if err := put(c, "/g", []byte("x"), os.O_CREATE); err == nil {
			t.Error("an upload into a home that is gone works")
		}
		if s.Ended() {
			t.Fatal("the server ended")
		}
		if err := put(client(t, s, "v"), "/g", []byte("x"), os.O_CREATE); err != nil {
			t.Errorf("the next login makes the home again: %v", err)
		}
	})
}
