package auth

import (
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"strconv"
	"strings"
)

// maxPBKDF2Work bounds the iterations of a PBKDF2 hash times the blocks that it makes.
const maxPBKDF2Work = 10_000_000

// parsePBKDF2 reads <iterations>$<salt>$<hash>: the hash is padded base64, the salt is the text itself, or
// base64 where the prefix says so.
func parsePBKDF2(prefix string, newHash func() hash.Hash, base64Salt bool) func(string) (parsedHash, error) {
	return func(stored string) (parsedHash, error) {
		bad := func(what string) (parsedHash, error) {
			return parsedHash{}, fmt.Errorf("%w: the %s of %s", ErrMalformedHash, what, prefix)
		}
		part := strings.Split(strings.TrimPrefix(stored, prefix), "$")
		if len(stored) > 2048 || len(part) != 3 {
			return bad("fields")
		}
		n, err := strconv.ParseUint(part[0], 10, 32)
		if err != nil || n == 0 {
			return bad("iterations")
		}
		salt := []byte(part[1])
		if base64Salt {
			if salt, err = base64.StdEncoding.DecodeString(part[1]); err != nil {
				return bad("salt")
			}
		}
		want, err := base64.StdEncoding.DecodeString(part[2])
		if err != nil || len(want) < 16 || len(want) > 256 {
			return bad("digest")
		}
		size := newHash().Size()
		if work := n * uint64((len(want)+size-1)/size); work > maxPBKDF2Work {
			return parsedHash{}, fmt.Errorf("%w: %s with %d iterations for %d bytes; iterations times blocks of %d bytes may be %d", ErrHashParameters, prefix, n, len(want), size, maxPBKDF2Work)
		}
		return parsedHash{check: func(plain string) bool {
			got, err := pbkdf2.Key(newHash, plain, salt, int(n), len(want))
			return err == nil && subtle.ConstantTimeCompare(got, want) == 1
		}}, nil
	}
}

// parseHex reads an unsalted digest.
func parseHex(prefix string, sum func([]byte) []byte) func(string) (parsedHash, error) {
	return func(stored string) (parsedHash, error) {
		want, err := hex.DecodeString(strings.TrimPrefix(stored, prefix))
		if err != nil || len(want) != len(sum(nil)) {
			return parsedHash{}, fmt.Errorf("%w: %s wants %d hexadecimal digits", ErrMalformedHash, prefix, 2*len(sum(nil)))
		}
		return parsedHash{check: func(plain string) bool {
			return subtle.ConstantTimeCompare(sum([]byte(plain)), want) == 1
		}}, nil
	}
}

func sumMD5(b []byte) []byte    { s := md5.Sum(b); return s[:] }
func sumSHA256(b []byte) []byte { s := sha256.Sum256(b); return s[:] }
func sumSHA512(b []byte) []byte { s := sha512.Sum512(b); return s[:] }
func sha1New() hash.Hash        { return sha1.New() }
