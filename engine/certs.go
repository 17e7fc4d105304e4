package engine

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"
)

// CertConfig names the files of a TLS server.
type CertConfig struct {
	Cert, Key string   // PEM
	CAs       []string // PEM, of client certificates
	CRLs      []string // PEM or DER
	// Clients is 0 to ask for no certificate, 1 to want one that a CA has signed, 2 to verify what is sent. Without CAs it
	// is taken for 0.
	Clients    int
	MinVersion uint16
	Suites     []uint16
	Protocols  []string // of ALPN; who offers others alone is refused
}

// Certs are a TLS server's certificate and what its clients' are checked by. Reload reads the files again. Safe for
// concurrent use.
type Certs struct {
	cfg CertConfig
	now atomic.Pointer[trust]
}

// trust is one state of the files. Immutable.
type trust struct {
	cert tls.Certificate
	cas  *x509.CertPool
	crls []*x509.RevocationList
}

// maxTrustFile bounds a file of certificates or revocations, in bytes.
const maxTrustFile = 64 << 20

// NewCerts reads the files.
func NewCerts(cfg CertConfig) (*Certs, error) {
	c := &Certs{cfg: cfg}
	if len(cfg.CAs) == 0 {
		c.cfg.Clients = 0
	}
	return c, c.Reload()
}

// Reload reads the files again. On an error everything stays as it was.
func (c *Certs) Reload() error {
	t := &trust{}
	var err error
	if t.cert, err = tls.LoadX509KeyPair(c.cfg.Cert, c.cfg.Key); err != nil {
		return err
	}
	if c.cfg.Clients != 0 {
		t.cas = x509.NewCertPool()
		for _, f := range c.cfg.CAs {
			b, err := readTrust(f)
			if err != nil {
				return err
			}
			if !t.cas.AppendCertsFromPEM(b) {
				return fmt.Errorf("%s: there is no certificate in it", f)
			}
		}
		for _, f := range c.cfg.CRLs {
			lists, err := readCRLs(f)
			if err != nil {
				return err
			}
			t.crls = append(t.crls, lists...)
		}
	}
	c.now.Store(t)
	return nil
}

func readTrust(name string) ([]byte, error) {
	i, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if i.Size() > maxTrustFile {
		return nil, fmt.Errorf("%s: %d bytes, at most %d are taken", name, i.Size(), maxTrustFile)
	}
	return os.ReadFile(name)
}

func readCRLs(name string) ([]*x509.RevocationList, error) {
	b, err := readTrust(name)
	if err != nil {
		return nil, err
	}
	var ders [][]byte
	if !bytes.Contains(b, []byte("-----BEGIN")) {
		ders = [][]byte{b}
	}
	for rest := b; ders == nil || len(rest) > 0; {
		var p *pem.Block
		if p, rest = pem.Decode(rest); p == nil {
			break
		}
		if p.Type == "X509 CRL" {
			ders = append(ders, p.Bytes)
		}
	}
	if len(ders) == 0 {
		return nil, fmt.Errorf("%s: there is no revocation list in it", name)
	}
	var out []*x509.RevocationList
	for _, d := range ders {
		l, err := x509.ParseRevocationList(d)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, l)
	}
	return out, nil
}

// Config is a configuration whose certificates are those of the last Reload, in resumed sessions too.
func (c *Certs) Config() *tls.Config {
	conf := &tls.Config{
		MinVersion: c.cfg.MinVersion, CipherSuites: c.cfg.Suites, NextProtos: c.cfg.Protocols,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &c.now.Load().cert, nil },
	}
	if c.cfg.Clients == 0 {
		return conf
	}
	conf.ClientAuth = tls.RequestClientCert
	if c.cfg.Clients == 1 {
		conf.ClientAuth = tls.RequireAnyClientCert
	}
	// Not crypto/tls's own check, whose CAs cannot change while sessions are resumed.
	conf.VerifyConnection = func(s tls.ConnectionState) error { return c.verify(s.PeerCertificates) }
	return conf
}

// Errors of a client's certificate.
var (
	errNoClientCert = errors.New("engine: the client has no certificate")
	errRevoked      = errors.New("engine: the client's certificate is revoked")
)

// verify checks a client's chain. In mode 2 none is right, too.
func (c *Certs) verify(certs []*x509.Certificate) error {
	if len(certs) == 0 {
		if c.cfg.Clients == 1 {
			return errNoClientCert
		}
		return nil
	}
	t := c.now.Load()
	opts := x509.VerifyOptions{Roots: t.cas, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, x := range certs[1:] {
		opts.Intermediates.AddCert(x)
	}
	chains, err := certs[0].Verify(opts)
	if err != nil {
		return err
	}
	// One chain without a revoked link is enough.
	for _, chain := range chains {
		if err = t.revoked(chain); err == nil {
			return nil
		}
	}
	return err
}

// revoked asks the lists about every link but the root. A list counts where the link's issuer has signed it, or the root;
// one that is out of date still revokes what it names.
func (t *trust) revoked(chain []*x509.Certificate) error {
	root := chain[len(chain)-1]
	for i, x := range chain[:len(chain)-1] {
		issuer := chain[i+1]
		for _, l := range t.crls {
			if !signed(l, issuer) && !signed(l, root) {
				continue
			}
			if slices.ContainsFunc(l.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool {
				return e.SerialNumber.Cmp(x.SerialNumber) == 0 && (e.RevocationTime.IsZero() || !e.RevocationTime.After(time.Now()))
			}) {
				return fmt.Errorf("%w: serial %s", errRevoked, x.SerialNumber)
			}
		}
	}
	return nil
}

func signed(l *x509.RevocationList, by *x509.Certificate) bool {
	return bytes.Equal(l.RawIssuer, by.RawSubject) && l.CheckSignatureFrom(by) == nil
}
