package auth

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/gantryhq/gantry/internal/account"
)

// Errors of a login by a certificate of TLS.
var (
	errNoCert      = errors.New("the account takes no certificate")
	errForeignCert = errors.New("the certificate is not the account's")
)

// NeedsPassword reports whether a refused login by a certificate alone may go on with a password: the account is
// unknown, takes no certificate, or wants more than it.
func NeedsPassword(err error) bool {
	d, ok := errors.AsType[*Denied](err)
	return ok && (d.Unknown || d.Reason == ReasonMethod || d.Reason == ReasonSecondFactor || errors.Is(err, errNoCert))
}

// certificate looks at the certificate of t, which the protocol has verified. Accounts that have not opted in, by
// tls_username or tls_certs, are asked for their password alone; of the others it must be one of theirs
// (permissions-and-filters.md 8).
func (c *compiled) certificate(t *Attempt) (used bool, err error) {
	f := &c.user.Filters
	byName := f.TLSUsername == "CommonName"
	if t.Certificate == nil || !byName && len(f.TLSCerts) == 0 {
		return false, nil
	}
	for _, text := range f.TLSCerts {
		b, _ := pem.Decode([]byte(text))
		if b == nil {
			continue
		}
		if own, err := x509.ParseCertificate(b.Bytes); err == nil && own.Equal(t.Certificate) {
			return true, nil
		}
	}
	if byName && t.Certificate.Subject.CommonName == c.user.Username {
		return true, nil
	}
	return false, deny(ReasonKey, fmt.Errorf("%w: its common name is %.100q", errForeignCert, t.Certificate.Subject.CommonName))
}

// proveCertificate lets in by a certificate alone, or names the method that a certificate before a password makes.
func (a *Authenticator) proveCertificate(ctx context.Context, c *compiled, t *Attempt, id *Identity, proven bool) error {
	used, err := c.certificate(t)
	alone := t.Method == account.MethodTLSCertificate
	switch {
	case alone && proven: // by a hook that was shown it
		return nil
	case err != nil && !alone:
		a.dummy(ctx, t.Username, t.Password)
		return err
	case err != nil:
		return err
	case alone && !used:
		return deny(ReasonMethod, errNoCert)
	case used && !alone:
		id.Method = account.MethodTLSCertAndPassword
	}
	return nil
}
