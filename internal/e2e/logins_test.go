//go:build unix

package e2e

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
	"github.com/gantryhq/gantry/internal/secret"
)

// codeNow is RFC 6238's code of a secret, as an authenticator application computes it.
func codeNow(t *testing.T, text string) string {
	t.Helper()
	k, err := base32.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	m := hmac.New(sha1.New, k)
	binary.Write(m, binary.BigEndian, time.Now().Unix()/30)
	sum := m.Sum(nil)
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[sum[19]&15:])&0x7fffffff%1_000_000)
}

// keygen runs ssh-keygen in dir.
func keygen(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command(need(t, "ssh-keygen", "openssh-client"), args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen %q: %v\n%s", args, err, out)
	}
}

// TestLoginMethods: each way to log in with OpenSSH's client, and beside each one that must not work. AUTH-2, AUTH-3,
// AUTH-5, AUTH-7.
func TestLoginMethods(t *testing.T) {
	const otp = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
	dir := t.TempDir()
	keygen(t, dir, "-q", "-t", "ed25519", "-N", "", "-f", "ca")
	keygen(t, dir, "-q", "-t", "ed25519", "-N", "", "-f", "other")
	certs := map[string][]string{ // the options of each certificate's making
		"good":     {"-n", "cert", "-V", "-1h:+1h"},
		"nobody":   {"-n", "somebody-else", "-V", "-1h:+1h"},
		"old":      {"-n", "cert", "-V", "-2h:-1h"},
		"here":     {"-n", "cert", "-O", "source-address=127.0.0.0/8", "-V", "-1h:+1h"},
		"there":    {"-n", "cert", "-O", "source-address=192.0.2.0/24", "-V", "-1h:+1h"},
		"critical": {"-n", "cert", "-O", "critical:unheard-of@example.com=x", "-V", "-1h:+1h"},
		"revoked":  {"-n", "cert", "-V", "-1h:+1h"},
		"stranger": {"-n", "cert", "-V", "-1h:+1h"},
	}
	for name, options := range certs {
		keygen(t, dir, "-q", "-t", "ed25519", "-N", "", "-f", name)
		ca := "ca"
		if name == "stranger" {
			ca = "other"
		}
		keygen(t, dir, append(append([]string{"-q", "-s", ca, "-I", name}, options...), name+".pub")...)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	print, err := exec.Command("ssh-keygen", "-l", "-f", at("revoked.pub")).Output()
	if err != nil {
		t.Fatal(err)
	}
	var bits int
	var fingerprint string
	if _, err := fmt.Sscan(string(print), &bits, &fingerprint); err != nil {
		t.Fatal(err)
	}
	gantrytest.WriteFile(t, at("revoked.json"), fmt.Sprintf("[%q]", fingerprint))

	d := oneUser(newUser("c", t.TempDir()))
	add := func(name string, change func(u *account.User)) {
		u := newUser(name, t.TempDir())
		change(&u)
		d.Users = append(d.Users, u)
	}
	add("cert", func(u *account.User) { u.PublicKeys = nil })
	add("codes", func(u *account.User) {
		u.Filters.TOTPConfig = account.UserTOTPConfig{Enabled: true, ConfigName: "Default", Secret: secret.New(otp), Protocols: []string{account.ProtocolSSH}}
	})
	single := []string{account.MethodPublicKey, account.MethodPassword, account.MethodKeyboardInteractive, account.MethodPasswordOverSSH}
	add("steps", func(u *account.User) { u.Filters.DeniedLoginMethods = append(single, account.MethodKeyAndKeyboard) })
	add("asked", func(u *account.User) {
		u.Filters.DeniedLoginMethods = append(single[:3:3], account.MethodKeyAndPassword)
	})
	add("nopass", func(u *account.User) { u.Filters.DeniedLoginMethods = []string{account.MethodPassword} })
	s := gantrytest.Start(t, gantrytest.Options{Bin: bin, Dump: d, Secrets: []string{"pw-", otp}, Config: config(t, map[string]any{
		"sftpd": map[string]any{"trusted_user_ca_keys": []string{at("ca.pub")}, "revoked_user_certs_file": at("revoked.json")},
	})})

	pw := func(user string) [][2]string { return [][2]string{{"assword", "pw-" + user}} }
	wrong := [][2]string{{"assword", "pw-wrong"}}
	order := func(methods, file string) []string {
		return []string{"-o", "PreferredAuthentications=" + methods, "-i", file}
	}
	try := func(what string, ok bool, user string, answers [][2]string, options ...string) {
		t.Helper()
		out, err := login(t, s, user, answers, options...)
		wantLogin(t, what, ok, out, err)
	}
	try("password", true, "c", pw("c"), byPassword...)
	try("wrong password", false, "c", wrong, byPassword...)
	try("unknown user", false, "nobody", pw("nobody"), byPassword...)
	try("keyboard-interactive", true, "c", pw("c"), byDialogue...)
	try("wrong keyboard-interactive", false, "c", wrong, byDialogue...)
	try("public key", true, "c", nil, byKey(key.File)...)
	try("another key", false, "c", nil, byKey(at("other"))...)

	for name := range certs {
		try("certificate "+name, name == "good" || name == "here", "cert", nil, append(byKey(at(name)), "-o", "CertificateFile="+at(name+"-cert.pub"))...)
	}

	code := codeNow(t, otp)
	withCode := func(code string) [][2]string { return append(pw("codes"), [2]string{"ode", code}) }
	try("a wrong code", false, "codes", withCode("000000"), byDialogue...)
	try("a code", true, "codes", withCode(code), byDialogue...)
	try("the same code again", false, "codes", withCode(code), byDialogue...)

	try("key, then password", true, "steps", pw("steps"), order("publickey,password", key.File)...)
	try("key alone", false, "steps", nil, byKey(key.File)...)
	try("password alone", false, "steps", pw("steps"), byPassword...)
	try("key, then a wrong password", false, "steps", wrong, order("publickey,password", key.File)...)
	try("another key, then password", false, "steps", pw("steps"), order("publickey,password", at("other"))...)
	try("key, then the dialogue that is denied", false, "steps", pw("steps"), order("publickey,keyboard-interactive", key.File)...)
	try("key, then dialogue", true, "asked", pw("asked"), order("publickey,keyboard-interactive", key.File)...)
	try("key, then the password that is denied", false, "asked", pw("asked"), order("publickey,password", key.File)...)

	try("a denied method", false, "nopass", pw("nopass"), byPassword...)
	try("the others", true, "nopass", nil, byKey(key.File)...)
}
