package auth

import (
	"context"
	"crypto/sha1"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/secret"
)

const totpSecret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" // RFC 6238's key, in base32

// RFC 6238 appendix B, in 6 digits.
func TestTOTPVectors(t *testing.T) {
	for at, want := range map[int64]string{59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130"} {
		if got := totpCode(sha1.New, []byte("12345678901234567890"), at/30); got != want {
			t.Errorf("at %d: got %s, want %s", at, got, want)
		}
		for drift, ok := range map[int64]bool{-61: false, -30: true, 0: true, 30: true, 61: false} {
			if at+drift < 0 {
				continue
			}
			if _, got, err := CheckTOTP("sha1", totpSecret, want, time.Unix(at+drift, 0)); got != ok || err != nil {
				t.Errorf("at %d%+d: %v, %v, want %v", at, drift, got, err, ok)
			}
		}
	}
}

// editStore lets fakeStore be edited.
type editStore struct{ *fakeStore }

func (s editStore) EditUser(_ context.Context, name string, fn func(*account.User) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users[name]
	u.Filters.RecoveryCodes = append([]account.RecoveryCode(nil), u.Filters.RecoveryCodes...)
	if err := fn(&u); err != nil {
		return err
	}
	s.users[name] = u
	return nil
}

func enrolled(protocols ...string) func(*account.User) {
	return func(u *account.User) {
		u.Filters.TOTPConfig = account.UserTOTPConfig{Enabled: true, ConfigName: "Default", Secret: secret.New(totpSecret), Protocols: protocols}
	}
}

func factorWorld(t *testing.T, users ...account.User) *world {
	w := newWorld(t, users...)
	w.factors.configs = DefaultTOTP()
	w.factors.editor, w.editor = editStore{w.store}, editStore{w.store}
	return w
}

func codeAt(at time.Time) string {
	return totpCode(sha1.New, []byte("12345678901234567890"), at.Unix()/30)
}

// interactive answers questions in order, and says what was asked.
func interactive(name string, asked *[]string, answers ...string) *Attempt {
	a := password(name, "")
	a.Method = account.MethodKeyboardInteractive
	a.Ask = func(_ context.Context, _ string, qs []Question) ([]string, error) {
		if asked != nil {
			*asked = append(*asked, qs[0].Text)
		}
		if len(answers) == 0 {
			return nil, errors.New("the peer left")
		}
		one := answers[0]
		answers = answers[1:]
		return []string{one}, nil
	}
	return a
}

func TestSecondFactorInteractive(t *testing.T) {
	w := factorWorld(t, user("ann", enrolled("SSH")), user("bob"))
	id, err := w.Authenticate(t.Context(), interactive("bob", nil, "secret"))
	wantReason(t, id, err, "")
	code := codeAt(w.now)
	id, err = w.Authenticate(t.Context(), interactive("ann", nil, "secret", "000000"))
	wantReason(t, id, err, ReasonSecondFactor)
	id, err = w.Authenticate(t.Context(), interactive("ann", nil, "secret", ""))
	wantReason(t, id, err, ReasonSecondFactor)
	id, err = w.Authenticate(t.Context(), interactive("ann", nil, "secret"))
	wantReason(t, id, err, ReasonCanceled)
	id, err = w.Authenticate(t.Context(), interactive("ann", nil, "secret", code))
	wantReason(t, id, err, "")
	if _, err := w.Current(t.Context(), id, interactive("ann", nil).Way()); err != nil {
		t.Errorf("the login that gave its code is refused later: %v", err)
	}
	// AUTH-7: a code serves once, and so does the one before it.
	for _, c := range []string{code, codeAt(w.now.Add(-30 * time.Second))} {
		id, err = w.Authenticate(t.Context(), interactive("ann", nil, "secret", c))
		wantReason(t, id, err, ReasonSecondFactor)
	}
	// permissions-and-filters.md 8: plain password logins over SSH are not challenged.
	id, err = w.Authenticate(t.Context(), password("ann", "secret"))
	wantReason(t, id, err, "")
}

// AUTH-7: of many logins with one code at once, one gets in.
func TestCodeRace(t *testing.T) {
	w := factorWorld(t, user("ann", enrolled("SSH")))
	var wg sync.WaitGroup
	var mu sync.Mutex
	in := 0
	for range 8 {
		wg.Go(func() {
			if _, err := w.Authenticate(t.Context(), interactive("ann", nil, "secret", codeAt(w.now))); err == nil {
				mu.Lock()
				in++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if in != 1 {
		t.Errorf("%d logins by one code, want 1", in)
	}
}

// AUTH-7: guesses are counted by account and by address.
func TestCodeGuessing(t *testing.T) {
	w := factorWorld(t, user("ann", enrolled("SSH")), user("bob", enrolled("SSH")))
	for range maxWrongCodes {
		id, err := w.Authenticate(t.Context(), interactive("ann", nil, "secret", "000000"))
		wantReason(t, id, err, ReasonSecondFactor)
	}
	for name, addr := range map[string]string{"ann": "198.51.100.1", "bob": peer.String()} {
		a := interactive(name, nil, "secret", codeAt(w.now))
		a.Remote = netip.MustParseAddr(addr)
		id, err := w.Authenticate(t.Context(), a)
		wantReason(t, id, err, ReasonBusy)
	}
	w.now = w.now.Add(wrongWindow)
	id, err := w.Authenticate(t.Context(), interactive("ann", nil, "secret", codeAt(w.now)))
	wantReason(t, id, err, "")
}

func TestRecoveryCodeServesOnce(t *testing.T) {
	shown, stored := NewRecoveryCodes(2)
	with := func(u *account.User) { u.Filters.RecoveryCodes = stored }
	w := factorWorld(t, user("ann", enrolled("SSH"), with), user("bob", with))
	for _, reason := range []string{"", ReasonSecondFactor} {
		id, err := w.Authenticate(t.Context(), interactive("ann", nil, "secret", shown[0]))
		wantReason(t, id, err, reason)
	}
	w.factors.editor = nil // AUTH-5: what cannot be marked as used is not taken
	id, err := w.Authenticate(t.Context(), interactive("ann", nil, "secret", shown[1]))
	wantReason(t, id, err, ReasonSecondFactor)
	// AUTH-7: without enrolment a code is nothing.
	id, err = w.Authenticate(t.Context(), interactive("bob", nil, shown[1]))
	wantReason(t, id, err, ReasonPassword)
}

func TestCodeBehindFTPPassword(t *testing.T) {
	w := factorWorld(t, user("ann", enrolled("FTP", "HTTP")))
	for plain, reason := range map[string]string{"secret": ReasonSecondFactor, "secret000000": ReasonSecondFactor, "wrong" + codeAt(w.now): ReasonPassword} {
		a := password("ann", plain)
		a.Protocol = account.ProtocolFTP
		id, err := w.Authenticate(t.Context(), a)
		wantReason(t, id, err, reason)
	}
	a := password("ann", "secret"+codeAt(w.now))
	a.Protocol = account.ProtocolFTP
	id, err := w.Authenticate(t.Context(), a)
	wantReason(t, id, err, "")
	a = password("ann", "secret")
	a.Protocol = account.ProtocolHTTP
	id, err = w.Authenticate(t.Context(), a)
	wantReason(t, id, err, ReasonSecondFactor)
	if !errors.Is(err, ErrCodeNeeded) {
		t.Errorf("%v is not ErrCodeNeeded", err)
	}
	a.Code = codeAt(w.now.Add(30 * time.Second))
	id, err = w.Authenticate(t.Context(), a)
	wantReason(t, id, err, "")
}

// AUTH-4: the dialogue asks an unknown name, a wrong password and a password-less account the same, for one hash.
func TestDialogueTellsNothing(t *testing.T) {
	w := factorWorld(t, user("ann", enrolled("SSH")), user("bob"), user("nothing", func(u *account.User) { u.Password = "" }))
	for _, name := range []string{"ann", "bob", "nothing", "unknown"} {
		var asked []string
		v0, d0 := w.pw.counts()
		id, err := w.Authenticate(t.Context(), interactive(name, &asked, "wrong", "123456"))
		v1, d1 := w.pw.counts()
		if id != nil || err == nil || fmt.Sprint(asked) != "[Password: ]" || v1-v0+d1-d0 != 1 {
			t.Errorf("%s: identity %v, asked %q, %d hashes; want one question and one hash", name, id, asked, v1-v0+d1-d0)
		}
	}
}

var onlyTwoSteps = func(u *account.User) {
	u.Filters.DeniedLoginMethods = []string{account.MethodPublicKey, account.MethodPassword, account.MethodKeyboardInteractive}
}

func TestTwoSteps(t *testing.T) {
	line, wire := testKey(t, 1)
	from := fmt.Sprintf(`from="%s" %s`, peer, line)
	w := factorWorld(t, user("ann", onlyTwoSteps, func(u *account.User) { u.PublicKeys = []string{from} }), user("bob", func(u *account.User) { u.PublicKeys = []string{line} }),
		user("tot", onlyTwoSteps, enrolled("SSH"), func(u *account.User) { u.PublicKeys = []string{line} }))
	stepOf := func(name string) *Step {
		t.Helper()
		id, err := w.Authenticate(t.Context(), key(name, wire))
		s, ok := errors.AsType[*Step](err)
		if !ok || id != nil {
			t.Fatalf("%s: got %v, %v, want a step", name, id, err)
		}
		return s
	}
	s := stepOf("ann")
	if fmt.Sprint(s.Next) != "[password keyboard-interactive]" {
		t.Errorf("next is %v", s.Next)
	}
	a := password("ann", "secret")
	id, err := w.Authenticate(t.Context(), a)
	wantReason(t, id, err, ReasonMethod)
	a.Prior = s
	id, err = w.Authenticate(t.Context(), a)
	wantReason(t, id, err, "")
	if id.Method != account.MethodKeyAndPassword || id.KeyFingerprint == "" {
		t.Errorf("got %q, key %q", id.Method, id.KeyFingerprint)
	}
	a.Password = "wrong"
	id, err = w.Authenticate(t.Context(), a)
	wantReason(t, id, err, ReasonPassword)
	// AUTH-2: the key's restriction holds for the second step, and for the session.
	a.Password, a.Remote = "secret", netip.MustParseAddr("198.51.100.1")
	id, err = w.Authenticate(t.Context(), a)
	wantReason(t, id, err, ReasonKey)
	// AUTH-1: a step is its own user's.
	b := password("bob", "secret")
	b.Prior = s
	id, err = w.Authenticate(t.Context(), b)
	wantReason(t, id, err, ReasonMalformed)
	b = key("ann", wire)
	b.Prior = s
	id, err = w.Authenticate(t.Context(), b)
	wantReason(t, id, err, ReasonMethod)
	// After a key, who has a second factor is asked for its code alone.
	var asked []string
	k := interactive("tot", &asked, codeAt(w.now))
	k.Prior = stepOf("tot")
	id, err = w.Authenticate(t.Context(), k)
	wantReason(t, id, err, "")
	if fmt.Sprint(asked) != "[Authentication code: ]" || id.Method != account.MethodKeyAndKeyboard {
		t.Errorf("asked %q, method %q", asked, id.Method)
	}
	// A key that the account drops between the steps proves nothing.
	w.store.set(func() { u := w.store.users["ann"]; u.PublicKeys = nil; w.store.users["ann"] = u })
	a.Remote = peer
	id, err = w.Authenticate(t.Context(), a)
	wantReason(t, id, err, ReasonKey)
}

func TestRehash(t *testing.T) {
	h := testHasher(t, "bcrypt", 1)
	w := factorWorld(t, user("ann", func(u *account.User) { u.Password = "{MD5}5ebe2294ecd0e0f08eab7690d2a6ee69" }))
	w.passwords = h
	id, err := w.Authenticate(t.Context(), password("ann", "wrong"))
	wantReason(t, id, err, ReasonPassword)
	for range 2 {
		id, err = w.Authenticate(t.Context(), password("ann", "secret"))
		wantReason(t, id, err, "")
		if now := w.store.users["ann"].Password; !h.Preferred(now) {
			t.Fatalf("stored is %q", now)
		}
	}
}

// SSH-6: certificates made by ssh-keygen, with every kind of fault.
func TestCertificates(t *testing.T) {
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		t.Skip("no ssh-keygen")
	}
	dir := t.TempDir()
	keygen := func(args ...string) {
		t.Helper()
		cmd := exec.Command("ssh-keygen", append([]string{"-q"}, args...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen %v: %v: %s", args, err, out)
		}
	}
	for _, k := range []string{"ca", "other", "ca-as-key", "user", "revoked"} {
		keygen("-t", "ed25519", "-N", "", "-f", k)
	}
	w := newWorld(t, user("ann"), user("off", func(u *account.User) { u.Status = 0 }), user("den", func(u *account.User) {
		u.Filters.DeniedLoginMethods = []string{account.MethodPublicKey}
	}))
	fingerprint := func(name string) string {
		data, _ := os.ReadFile(filepath.Join(dir, name+".pub"))
		k, _, _, _, err := gossh.ParseAuthorizedKey(data)
		if err != nil {
			t.Fatal(err)
		}
		return gossh.FingerprintSHA256(k)
	}
	list, _ := json.Marshal([]string{fingerprint("revoked")})
	os.WriteFile(filepath.Join(dir, "revoked.json"), list, 0o600)
	cert := func(ca, key string, args ...string) []byte {
		t.Helper()
		keygen(append(append([]string{"-s", ca, "-I", "id"}, args...), key+".pub")...)
		data, _ := os.ReadFile(filepath.Join(dir, key+"-cert.pub"))
		k, _, _, _, err := gossh.ParseAuthorizedKey(data)
		if err != nil {
			t.Fatal(err)
		}
		return k.Marshal()
	}
	good := cert("ca", "user", "-n", "ann,off,den", "-V", "20260101:20270101")
	id, err := w.Authenticate(t.Context(), key("ann", good))
	wantReason(t, id, err, ReasonKey) // no authority is trusted yet
	trust := Trust{CAKeys: []string{filepath.Join(dir, "ca.pub")}, Revoked: filepath.Join(dir, "revoked.json")}
	if err := w.SetTrust(trust); err != nil {
		t.Fatal(err)
	}
	damaged := append([]byte(nil), good...)
	damaged[len(damaged)-1] ^= 1
	for name, c := range map[string]struct {
		who    string
		wire   []byte
		reason string
	}{
		"good":             {"ann", good, ""},
		"disabled account": {"off", good, ReasonDisabled},
		"denied method":    {"den", good, ReasonMethod},
		"unknown user":     {"nobody", good, ReasonUnknownUser},
		"damaged":          {"ann", damaged, ReasonKey},
		"other principal":  {"ann", cert("ca", "user", "-n", "bob"), ReasonKey},
		"no principal":     {"ann", cert("ca", "user"), ReasonKey},
		"other authority":  {"ann", cert("other", "user", "-n", "ann"), ReasonKey},
		"host certificate": {"ann", cert("ca", "user", "-h", "-n", "ann"), ReasonKey},
		"expired":          {"ann", cert("ca", "user", "-n", "ann", "-V", "20200101:20210101"), ReasonKey},
		"not yet":          {"ann", cert("ca", "user", "-n", "ann", "-V", "20990101:21000101"), ReasonKey},
		"revoked":          {"ann", cert("ca", "revoked", "-n", "ann"), ReasonKey},
		"force-command":    {"ann", cert("ca", "user", "-n", "ann", "-O", "force-command=ls"), ReasonKey},
		"unknown option":   {"ann", cert("ca", "user", "-n", "ann", "-O", "critical:x@y=z"), ReasonKey},
		"verify-required":  {"ann", cert("ca", "user", "-n", "ann", "-O", "verify-required"), ReasonKey},
		"its address":      {"ann", cert("ca", "user", "-n", "ann", "-O", "source-address=192.0.2.0/24"), ""},
		"other address":    {"ann", cert("ca", "user", "-n", "ann", "-O", "source-address=198.51.100.0/24"), ReasonKey},
	} {
		t.Run(name, func(t *testing.T) {
			id, err := w.Authenticate(t.Context(), key(c.who, c.wire))
			wantReason(t, id, err, c.reason)
		})
	}
	// A revocation reaches the sessions that are open.
	id, err = w.Authenticate(t.Context(), key("ann", good))
	wantReason(t, id, err, "")
	list, _ = json.Marshal([]string{fingerprint("user")})
	os.WriteFile(trust.Revoked, list, 0o600)
	if err := w.SetTrust(trust); err != nil {
		t.Fatal(err)
	}
	id, err = w.Current(t.Context(), id, key("ann", good).Way())
	wantReason(t, id, err, ReasonKey)
	// AUTH-5: a missing authority or list is an error, and what was read before stays.
	for _, bad := range []Trust{{CAKeys: []string{filepath.Join(dir, "none")}}, {Revoked: filepath.Join(dir, "none")}, {CAKeys: []string{trust.Revoked}}, {Revoked: trust.CAKeys[0]}} {
		if err := w.SetTrust(bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

func FuzzCertificate(f *testing.F) {
	_, wire := testKey(f, 1)
	f.Add(wire)
	tr := &trust{cas: map[string]string{"x": "y"}}
	f.Fuzz(func(t *testing.T, wire []byte) {
		isCertificate(wire)
		if _, err := tr.check(wire, "ann", peer, monday); err == nil {
			t.Fatalf("%x was taken", wire)
		}
	})
}

// keptSteps is a store of used codes that outlives an authenticator.
type keptSteps struct {
	last map[string]int64
	err  error
}

func (k *keptSteps) UseStep(_ context.Context, user string, step int64) (bool, error) {
	if k.err != nil || step <= k.last[user] {
		return false, k.err
	}
	k.last[user] = step
	return true, nil
}

// AUTH-7: a code that was used before a restart is refused after it; AUTH-5: a store that fails lets no one in.
func TestUsedCodesOutliveARestart(t *testing.T) {
	kept := &keptSteps{last: map[string]int64{}}
	u := &account.User{Username: "a"}
	enrolled("SSH")(u)
	now := time.Unix(1_700_000_000, 0)
	check := func() error {
		w := factorWorld(t)
		w.factors.kept = kept
		return w.factors.check(t.Context(), u, netip.MustParseAddr("192.0.2.1"), codeAt(now), now)
	}
	if err := check(); err != nil {
		t.Fatalf("a fresh code: %v", err)
	}
	if err := check(); !errors.Is(err, errWrongCode) {
		t.Errorf("the same code after a restart: got %v, want errWrongCode", err)
	}
	kept.last = map[string]int64{}
	kept.err = errors.New("the store is busy")
	if err := check(); err == nil {
		t.Error("a store that fails let a code pass")
	}
	kept.err = account.ErrNotFound
	if err := check(); err != nil {
		t.Errorf("an account of an external source: %v", err)
	}
}
