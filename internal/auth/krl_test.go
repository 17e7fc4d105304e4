package auth

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	gossh "golang.org/x/crypto/ssh"
)

// SSH-6: lists made by ssh-keygen revoke what they name and nothing else, and ssh-keygen agrees on each.
func TestRevocationListsOfOpenSSH(t *testing.T) {
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		t.Skip("no ssh-keygen")
	}
	dir := t.TempDir()
	keygen := func(args ...string) error {
		cmd := exec.Command("ssh-keygen", append([]string{"-q"}, args...)...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("ssh-keygen %q: %w: %s", args, err, out)
		}
		return nil
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range []string{"ca", "other", "a", "b"} {
		must(keygen("-t", "ed25519", "-N", "", "-C", k, "-f", k))
	}
	// Files of keys: a and b plain, and certificates named authority-id-serial.
	files := []string{"a.pub", "b.pub"}
	for _, ca := range []string{"ca", "other"} {
		for _, serial := range []string{"0", "1", "7", "8", "9", "1000", "70001", "18446744073709551615"} {
			must(keygen("-s", ca, "-I", "id-"+serial, "-z", serial, "-n", "ann", "a.pub"))
			name := ca + "-" + serial + "-cert.pub"
			must(os.Rename(filepath.Join(dir, "a-cert.pub"), filepath.Join(dir, name)))
			files = append(files, name)
		}
	}
	key := func(name string) gossh.PublicKey {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(dir, name))
		must(err)
		k, _, _, _, err := gossh.ParseAuthorizedKey(data)
		must(err)
		return k
	}
	a, b := key("a.pub"), key("b.pub")
	line := func(k gossh.PublicKey) string { return strings.TrimSpace(string(gossh.MarshalAuthorizedKey(k))) }
	var bitmap strings.Builder // many near serials become one
	for n := 7; n < 400; n += 2 {
		fmt.Fprintf(&bitmap, "serial: %d\n", n)
	}
	var spread strings.Builder
	for n := 1; n < 3_000_000; n += 10_000 {
		fmt.Fprintf(&spread, "serial: %d\n", n)
	}
	for name, list := range map[string]string{
		"empty": "", "key": "key: " + line(a), "other key": "key: " + line(b), "sha1": "sha1: " + line(a), "sha256": "sha256: " + line(a),
		"hash": "hash: " + gossh.FingerprintSHA256(a), "authority": "key: " + line(key("ca.pub")),
		"serial": "serial: 7", "serial 1": "serial: 1", "range": "serial: 8-70001", "to the end": "serial: 9-18446744073709551615",
		"id": "id: id-9\nid: id-70001", "bitmap": bitmap.String(), "list": spread.String(), "all": "serial: 1-6\nserial: 9\nserial: 1000\nid: id-8\nkey: " + line(b),
	} {
		t.Run(name, func(t *testing.T) {
			must(os.WriteFile(filepath.Join(dir, "spec"), []byte(list+"\n"), 0o600))
			args := []string{"-k", "-f", "krl", "-s", "ca.pub", "spec"}
			must(keygen(args...))
			data, err := os.ReadFile(filepath.Join(dir, "krl"))
			must(err)
			k, err := parseKRL(data)
			if err != nil {
				t.Fatal(err)
			}
			revoked := 0
			for _, f := range files {
				theirs := keygen("-Q", "-f", "krl", f) != nil
				if ours := k.revokes(key(f)); ours != theirs {
					t.Errorf("%s: revoked %v, ssh-keygen says %v", f, ours, theirs)
				}
				if theirs {
					revoked++
				}
			}
			if (revoked == 0) != (name == "empty") {
				t.Errorf("%d of %d are revoked", revoked, len(files))
			}
			for n := range data { // every cut is told
				if k, err := parseKRL(data[:n]); err == nil && n < 44 {
					t.Errorf("the first %d bytes are taken: %v", n, k)
				}
			}
		})
	}
	// Through the login: certificates, and plain keys too.
	w := newWorld(t, user("ann"))
	u := w.store.users["ann"]
	u.PublicKeys = []string{line(a), line(b)}
	w.store.users["ann"] = u
	must(os.WriteFile(filepath.Join(dir, "spec"), []byte("serial: 7\nkey: "+line(b)+"\n"), 0o600))
	must(keygen("-k", "-f", "krl", "-s", "ca.pub", "spec"))
	must(w.SetTrust(Trust{CAKeys: []string{filepath.Join(dir, "ca.pub")}, Revoked: filepath.Join(dir, "krl")}))
	for file, reason := range map[string]string{"a.pub": "", "b.pub": ReasonKey, "ca-7-cert.pub": ReasonKey, "ca-8-cert.pub": ""} {
		id, err := w.Authenticate(t.Context(), keyOf("ann", key(file)))
		wantReason(t, id, err, reason)
	}
}

func keyOf(who string, k gossh.PublicKey) *Attempt { return key(who, k.Marshal()) }

// SSH-6: what the list says and we do not know refuses the list.
func TestRevocationListsThatAreNotUnderstood(t *testing.T) {
	head := krlMagic + "\x00\x00\x00\x01" + strings.Repeat("\x00", 24) + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"
	str := func(s string) string { return string([]byte{0, 0, byte(len(s) >> 8), byte(len(s))}) + s }
	cert := func(s string) string { return "\x01" + str(str("")+str("")+s) }
	if k, err := parseKRL([]byte(head + "\xff" + str(str("x@y")+"\x00"+str("")))); err != nil || k == nil {
		t.Errorf("an extension that may be passed over: %v", err)
	}
	for name, in := range map[string]string{
		"empty": "", "other magic": "SSHKRL\n\x01" + head[8:], "other format": krlMagic + "\x00\x00\x00\x02" + head[12:],
		"signed": head + "\x04" + str("x"), "unknown": head + "\x09" + str(""), "critical": head + "\xff" + str(str("x@y")+"\x01"+str("")),
		"huge": head + "\x02\xff\xff\xff\xff", "short digest": head + "\x05" + str(str("short")), "empty key": head + "\x02" + str(str("")),
		"unknown in certificates": head + cert("\x55"+str("")), "half a serial": head + cert("\x20"+str("abc")),
		"range backwards": head + cert("\x21"+str("\x00\x00\x00\x00\x00\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00\x01")),
		"negative bitmap": head + cert("\x22"+str("\x00\x00\x00\x00\x00\x00\x00\x09"+str("\x80"))), "critical in certificates": head + cert("\x39"+str(str("x")+"\x01"+str(""))),
	} {
		if k, err := parseKRL([]byte(in)); err == nil {
			t.Errorf("%s: taken as %+v", name, k)
		}
	}
}

func FuzzRevocationList(f *testing.F) {
	head := krlMagic + "\x00\x00\x00\x01" + strings.Repeat("\x00", 24) + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"
	f.Add([]byte(head), uint64(1))
	f.Add([]byte(head+"\x02\x00\x00\x00\x05\x00\x00\x00\x01x"), uint64(1))
	f.Add([]byte(head+"\x01\x00\x00\x00\x15\x00\x00\x00\x00\x00\x00\x00\x00\x20\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x07"), uint64(7))
	f.Fuzz(func(t *testing.T, data []byte, serial uint64) {
		k, err := parseKRL(data)
		if err != nil {
			return
		}
		for _, c := range k.cas {
			for i, x := range c.ranges {
				if x.first > x.last || i > 0 && c.ranges[i-1].last >= x.first {
					t.Fatalf("ranges %v", c.ranges)
				}
			}
			c.revokes(&gossh.Certificate{Serial: serial})
		}
	})
}
