package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/account"
)

func clientCert(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestCertificateLogins: who has opted in gets in by its own certificate, alone or with the password as its denied
// methods say; nobody else gets anything from one.
func TestCertificateLogins(t *testing.T) {
	own := clientCert(t, "somebody")
	pin := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Raw}))
	w := newWorld(t,
		user("name", func(u *account.User) { u.Filters.TLSUsername = "CommonName" }),
		user("both", func(u *account.User) {
			u.Filters.TLSUsername = "CommonName"
			u.Filters.DeniedLoginMethods = []string{account.MethodTLSCertificate, account.MethodPassword}
		}),
		user("pinned", func(u *account.User) { u.Filters.TLSCerts = []string{"nonsense", pin} }),
		user("none"),
		user("off", func(u *account.User) { u.Filters.TLSUsername = "CommonName"; u.Status = 0 }),
	)
	for _, x := range []struct {
		user, pass string
		cert       *x509.Certificate
		protocol   string
		method     string // "" is refused
		next       bool   // with a password it may go on
	}{
		{"name", "", clientCert(t, "name"), "FTP", account.MethodTLSCertificate, false},
		{"name", "", clientCert(t, "name"), "DAV", account.MethodTLSCertificate, false},
		{"name", "", clientCert(t, "name"), "SSH", "", true},
		{"name", "", clientCert(t, "other"), "FTP", "", false},
		{"name", "secret", clientCert(t, "other"), "FTP", "", false},
		{"name", "secret", clientCert(t, "name"), "FTP", account.MethodTLSCertAndPassword, false},
		{"name", "wrong", clientCert(t, "name"), "FTP", "", false},
		{"name", "secret", nil, "FTP", account.MethodPassword, false},
		{"both", "", clientCert(t, "both"), "FTP", "", true},
		{"both", "secret", clientCert(t, "both"), "FTP", account.MethodTLSCertAndPassword, false},
		{"both", "secret", nil, "FTP", "", false},
		{"pinned", "", own, "FTP", account.MethodTLSCertificate, false},
		{"pinned", "", clientCert(t, "pinned"), "FTP", "", false},
		{"none", "", clientCert(t, "none"), "FTP", "", true},
		{"none", "secret", clientCert(t, "none"), "FTP", account.MethodPassword, false},
		{"nobody", "", clientCert(t, "nobody"), "FTP", "", true},
		{"off", "", clientCert(t, "off"), "FTP", "", false},
		{"name", "", nil, "FTP", "", true},
	} {
		a := &Attempt{Protocol: x.protocol, Method: account.MethodPassword, Username: x.user, Password: x.pass, Certificate: x.cert, Remote: peer}
		if x.pass == "" {
			a.Method = account.MethodTLSCertificate
		}
		id, err := w.Authenticate(t.Context(), a)
		got := ""
		if err == nil {
			got = id.Method
		}
		if got != x.method || x.pass == "" && err != nil && NeedsPassword(err) != x.next {
			t.Errorf("%s with the password %q over %s: %q %v, want %q", x.user, x.pass, x.protocol, got, err, x.method)
		}
	}
}
