package auth

import (
	"bytes"
	"crypto/rsa"
	"fmt"

	"golang.org/x/crypto/ssh"
)

// maxKeys bounds how many keys of one account are looked at.
const maxKeys = 1000

// parseKey reads a key in wire form and refuses weak kinds (SSH-5).
func parseKey(wire []byte) (ssh.PublicKey, error) {
	k, err := ssh.ParsePublicKey(wire)
	if err != nil {
		return nil, err
	}
	return k, checkKey(k)
}

func checkKey(k ssh.PublicKey) error {
	switch k.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256:
		return nil
	case ssh.KeyAlgoRSA:
		c, ok := k.(ssh.CryptoPublicKey)
		if !ok {
			return fmt.Errorf("RSA key of unknown size")
		}
		p, ok := c.CryptoPublicKey().(*rsa.PublicKey)
		if !ok || p.N.BitLen() < 2048 || p.N.BitLen() > 8192 {
			return fmt.Errorf("RSA keys must have 2048 to 8192 bits")
		}
		return nil
	}
	return fmt.Errorf("keys of type %s are not accepted", k.Type())
}

// storedKeys gives the wire forms of an account's authorized_keys lines. A bad line is passed over and
// named in bad: it must not lock out the others.
func storedKeys(lines []string) (wires [][]byte, bad []error) {
	for i, l := range lines[:min(len(lines), maxKeys)] {
		k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(l))
		if err == nil {
			err = checkKey(k)
		}
		if err != nil {
			bad = append(bad, fmt.Errorf("public key %d: %w", i+1, err))
			continue
		}
		wires = append(wires, k.Marshal())
	}
	return wires, bad
}

func holdsKey(wires [][]byte, wire []byte) bool {
	for _, w := range wires {
		if bytes.Equal(w, wire) {
			return true
		}
	}
	return false
}
