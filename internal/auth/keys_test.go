package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/gantryhq/gantry/internal/account"
)

func lineOf(t testing.TB, pub any) (line string, wire []byte) {
	t.Helper()
	k, err := gossh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(gossh.MarshalAuthorizedKey(k))), k.Marshal()
}

// rsaOf is a public key of n bits that nobody has the private part of.
func rsaOf(t testing.TB, bits int) (string, []byte) {
	n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
	n.Add(n, big.NewInt(12345))
	return lineOf(t, &rsa.PublicKey{N: n, E: 65537})
}

// SSH-5: RSA of 2048 to 8192 bits, no DSA; a bad line locks no other key out.
func TestKeysThatAreTaken(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecLine, ecWire := lineOf(t, &ec.PublicKey)
	edLine, edWire := testKey(t, 1)
	r1024, w1024 := rsaOf(t, 1024)
	r2047, w2047 := rsaOf(t, 2047)
	r2048, w2048 := rsaOf(t, 2048)
	r8192, w8192 := rsaOf(t, 8192)
	r8193, w8193 := rsaOf(t, 8193)
	// x/crypto makes no DSA keys for us: the wire form by hand.
	dsaWire := gossh.Marshal(struct {
		Name       string
		P, Q, G, Y *big.Int
	}{"ssh-dss", new(big.Int).Lsh(big.NewInt(1), 1023), new(big.Int).Lsh(big.NewInt(1), 159), big.NewInt(2), big.NewInt(3)})
	dsaLine := "ssh-dss " + base64.StdEncoding.EncodeToString(dsaWire)
	cert := &gossh.Certificate{Key: mustKey(t, edWire), CertType: gossh.UserCert, ValidBefore: gossh.CertTimeInfinity}
	signer, err := gossh.NewSignerFromKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	if err := cert.SignCert(rand.Reader, signer); err != nil {
		t.Fatal(err)
	}
	certLine := strings.TrimSpace(string(gossh.MarshalAuthorizedKey(cert)))

	lines := []string{"garbage", r1024, r2047, r8193, dsaLine, certLine, "ssh-ed25519 AAAA", edLine + "\n" + ecLine, strings.Repeat("x", maxKeyLine+1), "", "  ",
		edLine + " a comment", ecLine, r2048, "# " + r8192, r8192}
	ring, errs := compileKeys(lines)
	if len(errs) != 10 { // all before the blank lines, and the comment
		t.Errorf("%d lines were refused, want 10: %v", len(errs), errs)
	}
	w := newWorld(t, user("ann", func(u *account.User) { u.PublicKeys = lines }))
	for name, c := range map[string]struct {
		wire []byte
		ok   bool
	}{
		"ed25519": {edWire, true}, "ecdsa": {ecWire, true}, "rsa 2048": {w2048, true}, "rsa 8192": {w8192, true},
		"rsa 1024": {w1024, false}, "rsa 2047": {w2047, false}, "rsa 8193": {w8193, false}, "dsa": {dsaWire, false},
		"certificate": {cert.Marshal(), false}, "prefix of a key": {edWire[:len(edWire)-1], false}, "more than a key": {append(edWire[:len(edWire):len(edWire)], 0), false},
	} {
		if _, err := ring.find(c.wire, peer, monday); (err == nil) != c.ok {
			t.Errorf("%s: found %v, want %v", name, err, c.ok)
		}
		id, err := w.Authenticate(t.Context(), key("ann", c.wire))
		if (err == nil) != c.ok || (id != nil) != c.ok {
			t.Errorf("%s: login %v, want %v", name, err, c.ok)
		}
	}
	if n := strings.Count(w.log.String(), "unusable entry"); n%10 != 0 || n == 0 {
		t.Errorf("%d warnings for 10 bad lines", n)
	}
}

func mustKey(t testing.TB, wire []byte) gossh.PublicKey {
	t.Helper()
	k, err := gossh.ParsePublicKey(wire)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestBadKeyLinesAreWarnedOfOnce(t *testing.T) {
	line, wire := testKey(t, 1)
	w := newWorld(t, user("ann", func(u *account.User) { u.PublicKeys = []string{"garbage", line} }))
	w.follow(t)
	for range 5 {
		id, err := w.Authenticate(t.Context(), key("ann", wire))
		wantReason(t, id, err, "")
		w.settle()
	}
	if n := strings.Count(w.log.String(), "public_keys[0]"); n != 1 {
		t.Errorf("%d warnings of one bad line, want 1:\n%s", n, w.log)
	}
}

// A restriction of a line is kept; one that is not known refuses the line, not the login by others (AUTH-2).
func TestKeyOptions(t *testing.T) {
	line, wire := testKey(t, 1)
	at := func(ip string) netip.Addr { a, _ := netip.ParseAddr(ip); return a }
	for _, c := range []struct {
		options string
		from    string
		now     time.Time
		ok      bool
	}{
		{"", "192.0.2.7", monday, true},
		{"restrict,no-pty,no-port-forwarding ", "192.0.2.7", monday, true},
		{`no-touch-required,environment="A=b" `, "192.0.2.7", monday, true},
		{`from="192.0.2.0/24" `, "192.0.2.7", monday, true},
		{`from="192.0.2.0/24" `, "::ffff:192.0.2.7", monday, true},
		{`from="192.0.2.0/24" `, "198.51.100.1", monday, false},
		{`from="192.0.2.0/24,198.51.100.1" `, "198.51.100.1", monday, true},
		{`from="!192.0.2.7,192.0.2.0/24" `, "192.0.2.7", monday, false},
		{`from="!192.0.2.7,192.0.2.0/24" `, "192.0.2.8", monday, true},
		{`from="192.0.2.0/24,!192.0.2.7" `, "192.0.2.7", monday, false},
		{`from="!192.0.2.7" `, "192.0.2.8", monday, false}, // as OpenSSH: a list of exclusions lists nobody
		{`from="192.0.2.0/24" `, "", monday, false},
		{`from="*.example.org" `, "192.0.2.7", monday, false},
		{`from="" `, "192.0.2.7", monday, false},
		{`from `, "192.0.2.7", monday, false},
		{`from="192.0.2.0/24",from="0.0.0.0/0" `, "198.51.100.1", monday, false},
		{`expiry-time="20260303Z" `, "192.0.2.7", monday, true},
		{`expiry-time="20260302Z" `, "192.0.2.7", monday, false},
		{`expiry-time="202603021200Z" `, "192.0.2.7", monday, false},
		{`expiry-time="202603021201Z" `, "192.0.2.7", monday, true},
		{`expiry-time="20260302120001Z" `, "192.0.2.7", monday, true},
		{`expiry-time="20270101Z",expiry-time="20260101Z" `, "192.0.2.7", monday, false},
		{`expiry-time="tomorrow" `, "192.0.2.7", monday, false},
		{`command="internal-sftp" `, "192.0.2.7", monday, false},
		{`cert-authority `, "192.0.2.7", monday, false},
		{`principals="ann" `, "192.0.2.7", monday, false},
		{`verify-required `, "192.0.2.7", monday, false},
		{`something-new `, "192.0.2.7", monday, false},
	} {
		ring, errs := compileKeys([]string{c.options + line})
		if _, err := ring.find(wire, at(c.from), c.now); (err == nil) != c.ok {
			t.Errorf("%sfrom %q: %v (refused lines: %v), want ok %v", c.options, c.from, err, errs, c.ok)
		}
	}
	// Two lines of one key: either lets in.
	ring, _ := compileKeys([]string{`from="192.0.2.1" ` + line, `from="192.0.2.2" ` + line})
	for ip, ok := range map[string]bool{"192.0.2.1": true, "192.0.2.2": true, "192.0.2.3": false} {
		if _, err := ring.find(wire, at(ip), monday); (err == nil) != ok {
			t.Errorf("two lines, from %s: %v", ip, err)
		}
	}
}

func TestKeysAreBounded(t *testing.T) {
	var lines []string
	for i := range 200 {
		l, _ := testKey(t, byte(i))
		lines = append(lines, l, l, l)
	}
	ring, errs := compileKeys(lines)
	n := 0
	for _, k := range ring {
		n += len(k)
	}
	if n != maxKeys || len(errs) != 1 {
		t.Errorf("%d lines are used, errors %v; want %d and one", n, errs, maxKeys)
	}
}

// No stored line panics us; what is taken is a key of a kind that is accepted, found by its wire form.
func FuzzKeyLine(f *testing.F) {
	line, _ := testKey(f, 1)
	f.Add(line)
	f.Add(`from="192.0.2.0/24,!192.0.2.1",expiry-time="20260101Z" ` + line)
	f.Add("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAQ== x")
	f.Add(`command="a\"b" ` + line)
	f.Fuzz(func(t *testing.T, line string) {
		wire, _, err := parseKeyLine(line)
		if err != nil {
			return
		}
		k, err := gossh.ParsePublicKey([]byte(wire))
		if err != nil || checkKey(k) != nil {
			t.Fatalf("%q was taken: %v", line, err)
		}
	})
}
