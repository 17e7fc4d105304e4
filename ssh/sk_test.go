package ssh

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"io"
	"math/big"
	"testing"

	gossh "golang.org/x/crypto/ssh"
)

// token is a security key in software (OpenSSH PROTOCOL.u2f): what it signs says whether its owner touched it.
type token struct {
	pub     gossh.PublicKey
	private crypto.Signer
	app     string // that it signs for
	flags   byte
	counter uint32
	spoil   func(*gossh.Signature)
}

const (
	touched  = 0x01
	verified = 0x04
)

func newToken(t *testing.T, algo string) *token {
	t.Helper()
	k := &token{app: "ssh:", flags: touched, counter: 7}
	var wire []byte
	switch algo {
	case gossh.KeyAlgoSKED25519:
		pub, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		k.private = private
		wire = gossh.Marshal(struct {
			Name        string
			Key         []byte
			Application string
		}{algo, pub, "ssh:"})
	case gossh.KeyAlgoSKECDSA256:
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		point, err := private.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		k.private = private
		wire = gossh.Marshal(struct {
			Name, Curve string
			Point       []byte
			Application string
		}{algo, "nistp256", point, "ssh:"})
	}
	var err error
	if k.pub, err = gossh.ParsePublicKey(wire); err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *token) PublicKey() gossh.PublicKey { return k.pub }

func (k *token) Sign(random io.Reader, data []byte) (*gossh.Signature, error) {
	app, message := sha256.Sum256([]byte(k.app)), sha256.Sum256(data)
	signed := append([]byte(nil), app[:]...)
	signed = append(signed, k.flags, byte(k.counter>>24), byte(k.counter>>16), byte(k.counter>>8), byte(k.counter))
	signed = append(signed, message[:]...)
	sig := &gossh.Signature{Format: k.pub.Type(), Rest: []byte{k.flags, byte(k.counter >> 24), byte(k.counter >> 16), byte(k.counter >> 8), byte(k.counter)}}
	var err error
	if k.pub.Type() == gossh.KeyAlgoSKED25519 {
		sig.Blob, err = k.private.Sign(random, signed, crypto.Hash(0))
	} else {
		digest := sha256.Sum256(signed)
		var der []byte
		if der, err = k.private.Sign(random, digest[:], crypto.SHA256); err == nil {
			var rs struct{ R, S *big.Int }
			if _, err = asn1.Unmarshal(der, &rs); err == nil {
				sig.Blob = gossh.Marshal(rs)
			}
		}
	}
	if err == nil && k.spoil != nil {
		k.spoil(sig)
	}
	return sig, err
}

// SSH-6: a security key proves its owner's presence with each login. The counter is the token's own business, as
// OpenSSH holds it too: tokens that are copied, or have one counter for all sites, must not lock anyone out.
func TestSecurityKeysNeedATouch(t *testing.T) {
	for _, algo := range []string{gossh.KeyAlgoSKED25519, gossh.KeyAlgoSKECDSA256} {
		t.Run(algo, func(t *testing.T) {
			mine, other := newToken(t, algo), newToken(t, algo)
			s := startServer(t, func(_ *Config, b *fakeBackend) { b.keys[string(mine.pub.Marshal())] = "alice" })
			login := func(change func(k *token)) error {
				k := *mine
				change(&k)
				c, err := s.dial(t, func(cfg *gossh.ClientConfig) { cfg.Auth = []gossh.AuthMethod{gossh.PublicKeys(&k)} })
				if err == nil {
					c.Close()
				}
				return err
			}
			for name, c := range map[string]struct {
				change func(k *token)
				in     bool
			}{
				"touched":              {func(*token) {}, true},
				"touched and verified": {func(k *token) { k.flags = touched | verified }, true},
				"a smaller counter":    {func(k *token) { k.counter = 0 }, true},
				"the greatest counter": {func(k *token) { k.counter = 1<<32 - 1 }, true},
				"not touched":          {func(k *token) { k.flags = 0 }, false},
				"verified only":        {func(k *token) { k.flags = verified }, false},
				"touch added after":    {func(k *token) { k.flags = 0; k.spoil = func(s *gossh.Signature) { s.Rest[0] = touched } }, false},
				"counter changed":      {func(k *token) { k.spoil = func(s *gossh.Signature) { s.Rest[4]++ } }, false},
				"for another site":     {func(k *token) { k.app = "https://example.org" }, false},
				"another token":        {func(k *token) { k.private = other.private }, false},
				"no flags":             {func(k *token) { k.spoil = func(s *gossh.Signature) { s.Rest = nil } }, false},
				"half the flags":       {func(k *token) { k.spoil = func(s *gossh.Signature) { s.Rest = s.Rest[:3] } }, false},
				"more than the flags":  {func(k *token) { k.spoil = func(s *gossh.Signature) { s.Rest = append(s.Rest, 0) } }, false},
				"an empty signature":   {func(k *token) { k.spoil = func(s *gossh.Signature) { s.Blob = nil } }, false},
				"a spoiled signature":  {func(k *token) { k.spoil = func(s *gossh.Signature) { s.Blob = bytes.Repeat([]byte{1}, len(s.Blob)) } }, false},
			} {
				if err := login(c.change); (err == nil) != c.in {
					t.Errorf("%s: %v, want in: %v", name, err, c.in)
				}
			}
		})
	}
}

// The certificate of a security key that waives the touch is no way round it: x/crypto would take the signature, so
// the accounts' side refuses the certificate (its test holds that), and what is here proves the other half.
func TestACertificatesWaiverDoesNotReachThePlainKey(t *testing.T) {
	mine := newToken(t, gossh.KeyAlgoSKED25519)
	ca := newKey(t)
	cert := &gossh.Certificate{
		Key: mine.pub, CertType: gossh.UserCert, ValidPrincipals: []string{"alice"}, ValidBefore: gossh.CertTimeInfinity,
		Permissions: gossh.Permissions{Extensions: map[string]string{"no-touch-required": ""}},
	}
	if err := cert.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	mine.flags = 0
	both, err := gossh.NewCertSigner(cert, mine)
	if err != nil {
		t.Fatal(err)
	}
	s := startServer(t, func(_ *Config, b *fakeBackend) {
		b.judge = nil
		b.keys[string(mine.pub.Marshal())] = "alice" // and not the certificate
	})
	if c, err := s.dial(t, func(cfg *gossh.ClientConfig) { cfg.Auth = []gossh.AuthMethod{gossh.PublicKeys(both, mine)} }); err == nil {
		c.Close()
		t.Error("a login without a touch")
	}
}
