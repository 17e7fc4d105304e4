package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	gossh "golang.org/x/crypto/ssh"
)

// Trust says which SSH user certificates are taken.
type Trust struct {
	CAKeys []string // files of authorized_keys lines
	// Revoked is a file: a JSON list of SHA256 fingerprints of certified keys, or a key revocation list of
	// OpenSSH, which revokes the accounts' own keys too; "" is none.
	Revoked string
}

// The bounds of those files.
const (
	maxCAFile      = 1 << 20
	maxRevokedFile = 5 << 20
)

// trust is a Trust that was read. Immutable.
type trust struct {
	cas     map[string]string // wire form: fingerprint
	revoked map[string]bool   // by fingerprint
	krl     *krl              // nil: none
}

// SetTrust reads the files of t and checks certificates by them from now on, those of live sessions too.
// On an error what was read before stays.
func (a *Authenticator) SetTrust(t Trust) error {
	fresh, err := readTrust(t)
	if err != nil {
		return err
	}
	a.trust.Store(fresh)
	return nil
}

func readTrust(t Trust) (*trust, error) {
	out := &trust{cas: map[string]string{}, revoked: map[string]bool{}}
	for _, file := range t.CAKeys {
		data, err := readBounded(file, maxCAFile)
		if err != nil {
			return nil, fmt.Errorf("trusted_user_ca_keys: %w", err)
		}
		found := 0
		for i, line := range strings.Split(string(data), "\n") {
			line = strings.TrimSpace(line)
			if line == "" || line[0] == '#' {
				continue
			}
			key, _, options, _, err := gossh.ParseAuthorizedKey([]byte(line))
			if err == nil && len(options) > 0 {
				err = errors.New("options are not taken")
			}
			if err == nil {
				err = checkKey(key)
			}
			if err != nil {
				return nil, fmt.Errorf("trusted_user_ca_keys: %s: line %d: %w", file, i+1, err)
			}
			out.cas[string(key.Marshal())] = gossh.FingerprintSHA256(key)
			found++
		}
		if found == 0 {
			return nil, fmt.Errorf("trusted_user_ca_keys: %s holds no key", file)
		}
	}
	if t.Revoked != "" {
		data, err := readBounded(t.Revoked, maxRevokedFile)
		if err != nil {
			return nil, fmt.Errorf("revoked_user_certs_file: %w", err)
		}
		if bytes.HasPrefix(data, []byte(krlMagic)) {
			if out.krl, err = parseKRL(data); err != nil {
				return nil, fmt.Errorf("revoked_user_certs_file: %s: %w", t.Revoked, err)
			}
			return out, nil
		}
		var list []string
		if err := json.Unmarshal(data, &list); err != nil {
			return nil, fmt.Errorf("revoked_user_certs_file: %s is neither a JSON list of fingerprints nor a key revocation list: %w", t.Revoked, err)
		}
		for i, f := range list {
			if !strings.HasPrefix(f, "SHA256:") || len(f) != 50 {
				return nil, fmt.Errorf("revoked_user_certs_file: %s: entry %d is no fingerprint SHA256:…", t.Revoked, i)
			}
			out.revoked[f] = true
		}
	}
	return out, nil
}

func readBounded(file string, limit int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", file, limit)
	}
	return data, err
}

// isCertificate reports whether a key in wire form is a certificate.
func isCertificate(wire []byte) bool {
	var head struct {
		Format string
		Rest   []byte `ssh:"rest"`
	}
	return gossh.Unmarshal(wire, &head) == nil && strings.HasSuffix(head.Format, "-cert-v01@openssh.com")
}

// check says whether the certificate lets its holder in as name (SSH-6), and describes it for the log.
func (t *trust) check(wire []byte, name string, remote netip.Addr, now time.Time) (string, error) {
	if len(t.cas) == 0 {
		return "", errors.New("certificates are not accepted: trusted_user_ca_keys is empty")
	}
	key, err := gossh.ParsePublicKey(wire)
	if err != nil {
		return "", fmt.Errorf("certificate: %w", err)
	}
	cert, ok := key.(*gossh.Certificate)
	switch {
	case !ok || cert.CertType != gossh.UserCert:
		return "", errors.New("not a user certificate")
	case len(cert.ValidPrincipals) == 0:
		return "", errors.New("the certificate names no principal")
	case cert.Signature == nil || cert.Signature.Format == gossh.KeyAlgoRSA:
		return "", errors.New("the certificate is signed with SHA-1")
	}
	ca, ok := t.cas[string(cert.SignatureKey.Marshal())]
	if !ok {
		return "", errors.New("the certificate's authority is not trusted")
	}
	if err := checkKey(cert.Key); err != nil {
		return "", fmt.Errorf("certificate: %w", err)
	}
	fingerprint := gossh.FingerprintSHA256(cert.Key)
	if t.revoked[fingerprint] || t.krl.revokes(cert) {
		return "", fmt.Errorf("the certificate of the key %s is revoked", fingerprint)
	}
	// Who need not touch the token can be logged in by whoever runs code at its owner's.
	if _, ok := cert.Extensions["no-touch-required"]; ok && strings.HasPrefix(cert.Key.Type(), "sk-") {
		return "", errors.New("the certificate waives the user's presence (no-touch-required)")
	}
	checker := gossh.CertChecker{SupportedCriticalOptions: []string{"source-address"}, Clock: func() time.Time { return now }}
	if err := checker.CheckCert(name, cert); err != nil {
		return "", err
	}
	if list, ok := cert.CriticalOptions["source-address"]; ok {
		if err := inSourceAddress(list, remote); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%s %s ID %s (serial %d) CA %s", cert.Type(), fingerprint, cert.KeyId, cert.Serial, ca), nil
}

// revokesKey reports whether a key in wire form is on the key revocation list.
func (t *trust) revokesKey(wire []byte) bool {
	return t.krl != nil && t.krl.revokesKey(wire)
}

func inSourceAddress(list string, remote netip.Addr) error {
	remote = remote.Unmap().WithZone("")
	for _, s := range strings.Split(list, ",") {
		p, err := parsePrefix(s)
		if err != nil {
			return fmt.Errorf("source-address: %q is no network", s)
		}
		if p.Contains(remote) {
			return nil
		}
	}
	return errors.New("source-address does not list the peer's address")
}
