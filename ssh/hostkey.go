package ssh

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	gossh "golang.org/x/crypto/ssh"
)

// HostKey describes a key that the server shows to its clients.
type HostKey struct {
	Path        string
	Type        string // "ssh-ed25519", …
	Fingerprint string // "SHA256:…"
	Certificate string // path of its certificate, or ""
	Created     bool   // made by this start
}

// HostKeyFiles are the files of the host keys, in the order in which they are offered. An empty list means the usual
// names; id_ecdsa only if it is there, because clients know it: a new one would only be called weak by audits.
func (c *Config) HostKeyFiles() []string {
	if len(c.HostKeys) > 0 {
		return c.HostKeys
	}
	if _, err := os.Stat(c.path("id_ecdsa")); err != nil {
		return []string{"id_ed25519", "id_rsa"}
	}
	return hostKeyNames()
}

// hostKeyNames are the base names of files that are made when they are missing: any other missing file is more
// likely a typing error.
func hostKeyNames() []string { return []string{"id_ed25519", "id_ecdsa", "id_rsa"} }

const (
	minRSABits = 2048
	maxRSABits = 8192 // the cost of a verification grows with the square (SSH-5)
	newRSABits = 3072
)

// maxKeyFile bounds what is read of a key or certificate file, in bytes.
const maxKeyFile = 64 << 10

// LoadHostKeys reads the configured host keys and makes missing ones, as the server does at its start.
func LoadHostKeys(cfg *Config, log *slog.Logger) ([]HostKey, error) {
	_, keys, err := loadHostKeys(cfg, log)
	return keys, err
}

func loadHostKeys(cfg *Config, log *slog.Logger) ([]gossh.Signer, []HostKey, error) {
	files := cfg.HostKeyFiles()
	allowed := orDefault(cfg.HostKeyAlgorithms, defaultHostKeyAlgorithms())
	certs, err := loadHostCertificates(cfg)
	if err != nil {
		return nil, nil, err
	}
	var signers []gossh.Signer
	var keys []HostKey
	for _, file := range files {
		path := cfg.path(file)
		signer, created, err := loadOrMakeHostKey(path)
		if err != nil {
			return nil, nil, err
		}
		k := HostKey{
			Path: path, Type: signer.PublicKey().Type(),
			Fingerprint: gossh.FingerprintSHA256(signer.PublicKey()), Created: created,
		}
		if slices.ContainsFunc(keys, func(o HostKey) bool { return o.Type == k.Type }) {
			// One key of a type can be offered (RFC 4253 7.1 negotiates the algorithm, not the key).
			log.Warn("a second host key of the same type is not used", "path", path, "type", k.Type)
			continue
		}
		restricted, err := restrictAlgorithms(signer, allowed)
		if err != nil {
			log.Warn("host key is not offered: host_key_algorithms has none of its algorithms", "path", path, "type", k.Type)
			continue
		}
		warnReadable(path, log)
		signers = append(signers, restricted)
		for _, c := range certs {
			if !bytes.Equal(c.cert.Key.Marshal(), signer.PublicKey().Marshal()) {
				continue
			}
			c.used = true
			cs, err := gossh.NewCertSigner(c.cert, restricted)
			if err != nil {
				return nil, nil, fmt.Errorf("ssh: host certificate %s: %w", c.path, err)
			}
			if cs, err := restrictAlgorithms(cs, allowed); err == nil {
				signers = append(signers, cs)
				k.Certificate = c.path
			}
			if until := time.Unix(int64(c.cert.ValidBefore), 0); c.cert.ValidBefore != gossh.CertTimeInfinity && time.Now().After(until) {
				log.Warn("host certificate has expired", "path", c.path, "since", until)
			}
		}
		keys = append(keys, k)
	}
	for _, c := range certs {
		if !c.used {
			return nil, nil, fmt.Errorf("ssh: host certificate %s belongs to none of the host keys", c.path)
		}
	}
	if len(signers) == 0 {
		return nil, nil, errors.New("ssh: no host key is left to offer: check sftpd.host_keys and sftpd.host_key_algorithms")
	}
	return signers, keys, nil
}

// restrictAlgorithms keeps the signature algorithms of s that allowed names, with or without a certificate.
func restrictAlgorithms(s gossh.Signer, allowed []string) (gossh.Signer, error) {
	as, ok := s.(gossh.AlgorithmSigner)
	if !ok {
		return nil, fmt.Errorf("ssh: a %s key cannot choose its algorithm", s.PublicKey().Type())
	}
	type underlying struct{ plain, cert string }
	var names []string
	for _, u := range []underlying{
		{gossh.KeyAlgoRSASHA512, gossh.CertAlgoRSASHA512v01},
		{gossh.KeyAlgoRSASHA256, gossh.CertAlgoRSASHA256v01},
		{gossh.KeyAlgoRSA, gossh.CertAlgoRSAv01},
		{gossh.KeyAlgoECDSA256, gossh.CertAlgoECDSA256v01},
		{gossh.KeyAlgoECDSA384, gossh.CertAlgoECDSA384v01},
		{gossh.KeyAlgoECDSA521, gossh.CertAlgoECDSA521v01},
		{gossh.KeyAlgoED25519, gossh.CertAlgoED25519v01},
	} {
		if slices.Contains(allowed, u.plain) || slices.Contains(allowed, u.cert) {
			names = append(names, u.plain)
		}
	}
	format := s.PublicKey().Type()
	if c, ok := s.PublicKey().(*gossh.Certificate); ok {
		format = c.Key.Type()
	}
	names = slices.DeleteFunc(names, func(n string) bool {
		if n == gossh.KeyAlgoRSASHA256 || n == gossh.KeyAlgoRSASHA512 {
			n = gossh.KeyAlgoRSA
		}
		return n != format
	})
	if len(names) == 0 {
		return nil, fmt.Errorf("ssh: no algorithm is left for a %s key", format)
	}
	return gossh.NewSignerWithAlgorithms(as, names)
}

func loadOrMakeHostKey(path string) (s gossh.Signer, created bool, err error) {
	data, err := readBounded(path)
	if errors.Is(err, fs.ErrNotExist) && slices.Contains(hostKeyNames(), filepath.Base(path)) {
		if err := makeHostKey(path); err != nil {
			return nil, false, err
		}
		created = true
		data, err = readBounded(path)
	}
	if err != nil {
		return nil, false, fmt.Errorf("ssh: host key: %w", err)
	}
	s, err = parseHostKey(data)
	if err != nil {
		return nil, false, fmt.Errorf("ssh: host key %s: %w", path, err)
	}
	if err := refuseWritable(path); err != nil {
		return nil, false, err
	}
	return s, created, nil
}

// parseHostKey refuses keys that are too weak to prove anything (SSH-5).
func parseHostKey(data []byte) (gossh.Signer, error) {
	raw, err := gossh.ParseRawPrivateKey(data)
	var pass *gossh.PassphraseMissingError
	if errors.As(err, &pass) {
		return nil, errors.New("the key has a passphrase; a server needs one without (ssh-keygen -p)")
	}
	if err != nil {
		return nil, err
	}
	switch k := raw.(type) {
	case *rsa.PrivateKey:
		if n := k.N.BitLen(); n < minRSABits || n > maxRSABits {
			return nil, fmt.Errorf("an RSA key of %d bits; it must have %d to %d", n, minRSABits, maxRSABits)
		}
	case *ecdsa.PrivateKey, *ed25519.PrivateKey, ed25519.PrivateKey:
	default:
		return nil, fmt.Errorf("a key of type %T; host keys are RSA, ECDSA or Ed25519", raw)
	}
	return gossh.NewSignerFromKey(raw)
}

// makeHostKey writes a new key for path's base name, readable by its owner only, and its public half beside it.
func makeHostKey(path string) error {
	var key crypto.PrivateKey
	var err error
	switch base := filepath.Base(path); base {
	case "id_rsa":
		key, err = rsa.GenerateKey(rand.Reader, newRSABits)
	case "id_ecdsa":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "id_ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		err = fmt.Errorf("no kind of key is known for the name %q", base)
	}
	if err != nil {
		return fmt.Errorf("ssh: make host key %s: %w", path, err)
	}
	block, err := gossh.MarshalPrivateKey(key, "")
	if err != nil {
		return fmt.Errorf("ssh: make host key %s: %w", path, err)
	}
	signer, err := gossh.NewSignerFromKey(key)
	if err != nil {
		return fmt.Errorf("ssh: make host key %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("ssh: make host key: %w", err)
	}
	if err := writeNew(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return fmt.Errorf("ssh: make host key: %w", err)
	}
	// The public half is a convenience: an old one beside a lost key is replaced.
	if err := os.WriteFile(path+".pub", gossh.MarshalAuthorizedKey(signer.PublicKey()), 0o644); err != nil {
		return fmt.Errorf("ssh: make host key: %w", err)
	}
	return nil
}

// writeNew makes path with data, all or nothing. A file that another process made meanwhile stays.
func writeNew(path string, data []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".host-key-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	return os.Rename(f.Name(), path) // a file system without hard links
}

type hostCertificate struct {
	path string
	cert *gossh.Certificate
	used bool
}

func loadHostCertificates(cfg *Config) ([]*hostCertificate, error) {
	var out []*hostCertificate
	for _, file := range cfg.HostCertificates {
		path := cfg.path(file)
		data, err := readBounded(path)
		if err != nil {
			return nil, fmt.Errorf("ssh: host certificate: %w", err)
		}
		key, _, _, _, err := gossh.ParseAuthorizedKey(data)
		if err != nil {
			return nil, fmt.Errorf("ssh: host certificate %s: %w", path, err)
		}
		cert, ok := key.(*gossh.Certificate)
		if !ok || cert.CertType != gossh.HostCert {
			return nil, fmt.Errorf("ssh: %s is not a host certificate (ssh-keygen -h)", path)
		}
		out = append(out, &hostCertificate{path: path, cert: cert})
	}
	return out, nil
}

// path resolves a configured file name.
func (c *Config) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(c.ConfigDir, name)
}

func readBounded(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxKeyFile {
		return nil, fmt.Errorf("%s is not a regular file of at most %d bytes", path, maxKeyFile)
	}
	return os.ReadFile(path)
}

// refuseWritable refuses a key that another user of the machine could have put there.
func refuseWritable(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("ssh: host key: %w", err)
	}
	if runtime.GOOS != "windows" && st.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("ssh: host key %s can be written by others (mode %04o): chmod 600 it", path, st.Mode().Perm())
	}
	return nil
}

// warnReadable: container platforms mount secrets readable for a group, so that is no error.
func warnReadable(path string, log *slog.Logger) {
	if st, err := os.Stat(path); err == nil && runtime.GOOS != "windows" && st.Mode().Perm()&0o044 != 0 {
		log.Warn("host key can be read by others", "path", path, "mode", fmt.Sprintf("%04o", st.Mode().Perm()))
	}
}
