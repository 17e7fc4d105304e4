package account

import (
	"crypto/rsa"

	"golang.org/x/crypto/ssh"
)

// minRSABits is the shortest RSA key that may log in.
const minRSABits = 2048

// badPublicKey says what is wrong with a line of public_keys; empty if nothing is (data-model.md 2).
func badPublicKey(line string) string {
	key, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	switch {
	case err != nil:
		return "is not a line of authorized_keys, such as \"ssh-ed25519 AAAA… comment\""
	case len(rest) > 0:
		return "holds more than one key; give each its own element"
	case key.Type() == "ssh-dss":
		return "is a DSA key, which is too weak; use ed25519"
	}
	if k, ok := key.(ssh.CryptoPublicKey); ok {
		if r, ok := k.CryptoPublicKey().(*rsa.PublicKey); ok && r.N.BitLen() < minRSABits {
			return "is an RSA key of fewer than 2048 bits, which is too weak; use ed25519"
		}
	}
	return ""
}
