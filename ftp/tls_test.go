package ftp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zlib"

	"github.com/gantryhq/gantry/internal/session/sessiontest"
)

// authority signs certificates for tests.
type authority struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  []byte
}

func newAuthority(t testing.TB) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := x509.ParseCertificate(der)
	return &authority{t, key, cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

func (a *authority) client(name string, serial int64) tls.Certificate {
	a.t.Helper()
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) revoke(serials ...int64) []byte {
	a.t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
	for _, s := range serials {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: time.Now().Add(-time.Minute)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// control gives a control connection with TLS, or the error of its handshake.
func (s *server) secure(t testing.TB, certs ...tls.Certificate) (*peer, error) {
	t.Helper()
	p := s.dial(t)
	p.want("220")
	p.cmd("AUTH TLS", "234")
	c := tls.Client(p.nc, &tls.Config{InsecureSkipVerify: true, Certificates: certs, ClientSessionCache: tls.NewLRUClientSessionCache(4), ServerName: "x"})
	if err := c.Handshake(); err != nil {
		return nil, err
	}
	return newPeer(t, c), nil
}

// TestClientCertificates: a certificate is a login, alone or before a password, as the account wants it; what a CA did
// not sign or has revoked opens no connection, and both lists are read again.
func TestClientCertificates(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	dir := t.TempDir()
	caFile, crlFile := filepath.Join(dir, "ca"), filepath.Join(dir, "crl")
	os.WriteFile(caFile, ca.pem, 0o600)
	os.WriteFile(crlFile, ca.revoke(99), 0o600)
	alone, plain := sessiontest.User("alone"), sessiontest.User("plain")
	alone.Filters.TLSUsername = "CommonName"
	s := start(t, func(c *Config) {
		withTLS(t, 0, 1)(c)
		c.Bindings[0].ClientAuthType = 2
		c.CACertificates, c.CARevocationLists = []string{caFile}, []string{crlFile}
	}, alone, plain)

	login := func(user string, certs ...tls.Certificate) *peer {
		t.Helper()
		p, err := s.secure(t, certs...)
		if err != nil {
			t.Fatal(err)
		}
		p.send("USER " + user + "\r\n")
		return p
	}
	login("alone", ca.client("alone", 2)).want("232")
	p := login("alone")
	p.want("331")
	p.cmd("PASS secret", "230")
	login("alone", ca.client("plain", 3)).want("530")
	p = login("plain", ca.client("plain", 3))
	p.want("331")
	p.cmd("PASS secret", "230")
	p = login("nobody", ca.client("nobody", 6))
	p.want("331")

	for name, cert := range map[string]tls.Certificate{"revoked": ca.client("alone", 99), "of another CA": other.client("alone", 2)} {
		if p, err := s.secure(t, cert); err == nil {
			p.send("NOOP\r\n")
			if _, err := p.r.ReadByte(); err == nil {
				t.Errorf("a certificate that is %s was taken", name)
			}
		}
	}
	os.WriteFile(crlFile, ca.revoke(2), 0o600)
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if p, err := s.secure(t, ca.client("alone", 2)); err == nil {
		p.send("NOOP\r\n")
		if _, err := p.r.ReadByte(); err == nil {
			t.Error("a certificate revoked since is taken")
		}
	}
	os.WriteFile(crlFile, []byte("nonsense"), 0o600)
	if err := s.Reload(); err == nil {
		t.Error("a broken list was read")
	}
}

func TestCertificateWanted(t *testing.T) {
	ca := newAuthority(t)
	file := filepath.Join(t.TempDir(), "ca")
	os.WriteFile(file, ca.pem, 0o600)
	s := start(t, func(c *Config) {
		withTLS(t, 2, 1)(c)
		c.Bindings[0].ClientAuthType = 1
		c.CACertificates = []string{file}
	})
	conf := &tls.Config{InsecureSkipVerify: true, ServerName: "x", ClientSessionCache: tls.NewLRUClientSessionCache(4), Certificates: []tls.Certificate{ca.client("u", 2)}}
	p := s.dial(t)
	p.startTLS(conf)
	p.want("220")
	p.cmd("USER u", "331")
	p.cmd("PASS secret", "230")
	d := tls.Client(p.epsv(), conf) // resumes, with the certificate of the control connection
	p.cmd("STOR f", "150")
	io.WriteString(d, "x")
	d.Close()
	p.want("226")
	p = s.dial(t)
	c := tls.Client(p.nc, &tls.Config{InsecureSkipVerify: true})
	if err := c.Handshake(); err == nil {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("nobody was asked for a certificate")
		}
	}
}

func TestALPN(t *testing.T) { // FTP-6
	s := start(t, withTLS(t, 2, 0))
	for _, x := range []struct {
		offer []string
		want  string
	}{{nil, ""}, {[]string{"ftp"}, "ftp"}, {[]string{"x-filezilla-ftp", "ftp"}, "ftp"}, {[]string{"h2", "http/1.1"}, "!"}} {
		p := s.dial(t)
		c := tls.Client(p.nc, &tls.Config{InsecureSkipVerify: true, NextProtos: x.offer})
		err := c.Handshake()
		if x.want == "!" {
			if err == nil {
				t.Errorf("%v was taken", x.offer)
			}
			continue
		}
		if err != nil || c.ConnectionState().NegotiatedProtocol != x.want {
			t.Errorf("%v: %q %v", x.offer, c.ConnectionState().NegotiatedProtocol, err)
		}
	}
}

func deflate(s string) string {
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	io.WriteString(z, s)
	z.Close()
	return b.String()
}

func inflate(t testing.TB, s string) string {
	t.Helper()
	z, err := zlib.NewReader(strings.NewReader(s))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestModeZ(t *testing.T) {
	s := start(t, nil)
	p := s.loggedIn(t)
	if f := p.cmd("FEAT", "211"); !strings.Contains(f, "\r\n MODE Z\r\n") {
		t.Error(f)
	}
	text := strings.Repeat("Gantry moves files. ", 100_000)
	p.cmd("MODE Z", "200")
	p.put("STOR f", deflate(text))
	if got := inflate(t, p.get("RETR f")); got != text {
		t.Errorf("%d bytes", len(got))
	}
	p.cmd("REST 1999990", "350")
	if got := inflate(t, p.get("RETR f")); got != text[1999990:] {
		t.Errorf("%q", got)
	}
	if got := inflate(t, p.get("MLSD")); !strings.Contains(got, "size=2000000;") {
		t.Errorf("%q", got)
	}
	p.put("STOR empty", "")
	for name, data := range map[string]string{"cut": deflate(text)[:500], "no zlib": "plain text", "more behind": deflate("x") + "y", "sum": deflate("abc")[:8] + "xxxx"} {
		d := p.epsv()
		p.cmd("STOR bad", "150")
		io.WriteString(d, data)
		d.Close()
		if r := p.reply(); !strings.HasPrefix(r, "426") {
			t.Errorf("%s: %s", name, r)
		}
	}
	p.cmd("MODE S", "200")
	if got := p.get("RETR f"); got != text {
		t.Errorf("%d bytes", len(got))
	}
}
