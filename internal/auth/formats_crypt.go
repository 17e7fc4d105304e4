package auth

import (
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"fmt"
	"hash"
	"strconv"
	"strings"

	"github.com/go-crypt/x/crypt"
	"github.com/go-crypt/x/yescrypt"
)

// The forms of crypt(3) and of Apache. Their characters are those of crypt's own base 64.
const cryptAlphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// maxSHARounds bounds sha256crypt and sha512crypt: a second or so of one login.
const maxSHARounds = 1_000_000

// parseSHACrypt reads [rounds=<n>$]<salt>$<digest>, after U. Drepper's specification.
func parseSHACrypt(prefix string, newHash func() hash.Hash, digits int) func(string) (parsedHash, error) {
	return func(stored string) (parsedHash, error) {
		rest := strings.TrimPrefix(stored, prefix)
		rounds := 5000
		if s, ok := strings.CutPrefix(rest, "rounds="); ok {
			n, tail, ok := strings.Cut(s, "$")
			v, err := strconv.ParseUint(n, 10, 32)
			if !ok || err != nil {
				return parsedHash{}, fmt.Errorf("%w: the rounds of %s", ErrMalformedHash, prefix)
			}
			if v > maxSHARounds {
				return parsedHash{}, fmt.Errorf("%w: %s with %d rounds, at most %d are taken", ErrHashParameters, prefix, v, maxSHARounds)
			}
			rounds, rest = max(int(v), 1000), tail
		}
		salt, want, err := saltAndDigest(prefix, rest, digits)
		if err != nil {
			return parsedHash{}, err
		}
		if len(salt) > 16 {
			salt = salt[:16]
		}
		return parsedHash{check: func(plain string) bool {
			return equal(crypt.KeySHACrypt(newHash, []byte(plain), []byte(salt), rounds), want)
		}}, nil
	}
}

// parseMD5Crypt reads <salt>$<digest> of FreeBSD's crypt ($1$) and Apache's variant ($apr1$).
func parseMD5Crypt(prefix string) func(string) (parsedHash, error) {
	return func(stored string) (parsedHash, error) {
		salt, want, err := saltAndDigest(prefix, strings.TrimPrefix(stored, prefix), 22)
		if err != nil {
			return parsedHash{}, err
		}
		if len(salt) > 8 {
			salt = salt[:8]
		}
		return parsedHash{check: func(plain string) bool { return equal(md5Crypt(prefix, plain, salt), want) }}, nil
	}
}

// parseYescrypt reads j<N><r>$<salt>$<digest>: the native flavour, which is what libcrypt makes.
func parseYescrypt(stored string) (parsedHash, error) {
	rest := strings.TrimPrefix(stored, "$y$")
	if len(rest) < 4 || rest[0] != 'j' || rest[3] != '$' {
		return parsedHash{}, fmt.Errorf("%w: yescrypt of another flavour than j, or with more parameters than N and r", ErrUnsupportedHash)
	}
	_, log2N, r, err := yescrypt.DecodeSetting([]byte(rest[:3]))
	if err != nil || log2N > 64 || r > 64 {
		return parsedHash{}, fmt.Errorf("%w: yescrypt parameters", ErrMalformedHash)
	}
	if log2N < 10 || log2N > 18 || r > 32 {
		return parsedHash{}, fmt.Errorf("%w: yescrypt N=2^%d, r=%d; N from 2^10 to 2^18 and r up to 32 are taken", ErrHashParameters, log2N, r)
	}
	salt, want, err := saltAndDigest("$y$", rest[4:], 43)
	if err != nil {
		return parsedHash{}, err
	}
	if yescrypt.Decode64([]byte(salt)) == nil {
		return parsedHash{}, fmt.Errorf("%w: the salt of $y$", ErrMalformedHash)
	}
	setting := stored[:len(stored)-len(want)-1]
	return parsedHash{memory: r << log2N / 8, check: func(plain string) bool {
		// The whole form comes back; it ends with the digest.
		got, err := yescrypt.Hash([]byte(plain), []byte(setting+"$"))
		return err == nil && equal(got, stored)
	}}, nil
}

// saltAndDigest parts what follows the parameters, and checks its characters.
func saltAndDigest(prefix, s string, digits int) (salt, digest string, err error) {
	salt, digest, ok := strings.Cut(s, "$")
	switch {
	case !ok || len(digest) != digits || strings.Trim(digest, cryptAlphabet) != "":
		return "", "", fmt.Errorf("%w: %s wants a salt and %d characters of digest", ErrMalformedHash, prefix, digits)
	case len(salt) > 128:
		return "", "", fmt.Errorf("%w: the salt of %s has %d characters", ErrMalformedHash, prefix, len(salt))
	}
	return salt, digest, nil
}

func equal(got []byte, want string) bool {
	return subtle.ConstantTimeCompare(got, []byte(want)) == 1
}

// md5Crypt is the algorithm of P.-H. Kamp, FreeBSD 2; its marker is part of what is hashed.
func md5Crypt(marker, plain, salt string) []byte {
	p, s := []byte(plain), []byte(salt)
	inner := md5.New()
	inner.Write(p)
	inner.Write(s)
	inner.Write(p)
	in := inner.Sum(nil)

	d := md5.New()
	d.Write(p)
	d.Write([]byte(marker))
	d.Write(s)
	for n := len(p); n > 0; n -= len(in) {
		d.Write(in[:min(n, len(in))])
	}
	for n := len(p); n > 0; n >>= 1 {
		if n&1 == 1 {
			d.Write([]byte{0})
		} else {
			d.Write(p[:1])
		}
	}
	sum := d.Sum(nil)
	for i := range 1000 {
		d.Reset()
		if i&1 == 1 {
			d.Write(p)
		} else {
			d.Write(sum)
		}
		if i%3 != 0 {
			d.Write(s)
		}
		if i%7 != 0 {
			d.Write(p)
		}
		if i&1 == 1 {
			d.Write(sum)
		} else {
			d.Write(p)
		}
		sum = d.Sum(sum[:0])
	}
	var out []byte
	put := func(v uint32, n int) {
		for range n {
			out = append(out, cryptAlphabet[v&63])
			v >>= 6
		}
	}
	for _, t := range [][3]int{{0, 6, 12}, {1, 7, 13}, {2, 8, 14}, {3, 9, 15}, {4, 10, 5}} {
		put(uint32(sum[t[0]])<<16|uint32(sum[t[1]])<<8|uint32(sum[t[2]]), 4)
	}
	put(uint32(sum[11]), 2)
	return out
}

func sha256New() hash.Hash { return sha256.New() }
func sha512New() hash.Hash { return sha512.New() }
