package auth

import (
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// parsedHash is a stored password that may be checked.
type parsedHash struct {
	memory int // KiB that check takes
	// check tells whether a plain password is the one of the hash. It does the whole work of hashing.
	check func(plain string) bool
}

// formats are the stored forms of passwords by prefix (data-model.md 8). Read-only.
var formats = []struct {
	prefix string
	parse  func(stored string) (parsedHash, error)
}{
	{"$2a$", parseBcrypt}, {"$2b$", parseBcrypt}, {"$2y$", parseBcrypt},
	{"$argon2id$", parseArgon2id},
	{"$pbkdf2-sha1$", parsePBKDF2("$pbkdf2-sha1$", sha1New, false)},
	{"$pbkdf2-sha256$", parsePBKDF2("$pbkdf2-sha256$", sha256New, false)},
	{"$pbkdf2-sha512$", parsePBKDF2("$pbkdf2-sha512$", sha512New, false)},
	{"$pbkdf2-b64salt-sha256$", parsePBKDF2("$pbkdf2-b64salt-sha256$", sha256New, true)},
	{"$1$", parseMD5Crypt("$1$")}, {"$apr1$", parseMD5Crypt("$apr1$")},
	{"$5$", parseSHACrypt("$5$", sha256New, 43)}, {"$6$", parseSHACrypt("$6$", sha512New, 86)},
	{"$y$", parseYescrypt},
	{"{MD5}", parseHex("{MD5}", sumMD5)}, {"{SHA256}", parseHex("{SHA256}", sumSHA256)}, {"{SHA512}", parseHex("{SHA512}", sumSHA512)},
}

// parseHash reads a stored password and bounds what it asks for. Its errors never show the hash.
func parseHash(stored string) (parsedHash, error) {
	for _, f := range formats {
		if !strings.HasPrefix(stored, f.prefix) {
			continue
		}
		return f.parse(stored)
	}
	return parsedHash{}, fmt.Errorf("%w: it begins with no known prefix", ErrUnsupportedHash)
}

func parseBcrypt(stored string) (parsedHash, error) {
	if len(stored) != 60 {
		return parsedHash{}, fmt.Errorf("%w: a bcrypt hash has 60 characters, this one %d", ErrMalformedHash, len(stored))
	}
	cost, err := bcrypt.Cost([]byte(stored))
	if err != nil {
		return parsedHash{}, fmt.Errorf("%w: %w", ErrMalformedHash, err)
	}
	if cost > maxBcryptCost {
		return parsedHash{}, fmt.Errorf("%w: bcrypt cost %d, at most %d is taken", ErrHashParameters, cost, maxBcryptCost)
	}
	if strings.Trim(stored[7:], "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return parsedHash{}, fmt.Errorf("%w: a bcrypt hash with characters outside its alphabet", ErrMalformedHash)
	}
	return parsedHash{check: func(plain string) bool {
		return bcrypt.CompareHashAndPassword([]byte(stored), []byte(plain)) == nil
	}}, nil
}

// parseArgon2id reads v=19$m=<KiB>,t=<n>,p=<n>$<salt>$<hash>.
func parseArgon2id(stored string) (parsedHash, error) {
	if len(stored) > 512 {
		return parsedHash{}, fmt.Errorf("%w: an argon2id hash of %d characters", ErrMalformedHash, len(stored))
	}
	parts := strings.Split(stored, "$")
	if len(parts) != 6 {
		return parsedHash{}, fmt.Errorf("%w: an argon2id hash has 5 fields, this one %d", ErrMalformedHash, len(parts)-1)
	}
	if parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return parsedHash{}, fmt.Errorf("%w: argon2id of another version than %d", ErrMalformedHash, argon2.Version)
	}
	var m, t, p uint32
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &m, &t, &p); err != nil || parts[3] != fmt.Sprintf("m=%d,t=%d,p=%d", m, t, p) {
		return parsedHash{}, fmt.Errorf("%w: argon2id parameters", ErrMalformedHash)
	}
	switch {
	case t == 0 || p == 0 || uint64(m) < 8*uint64(p):
		return parsedHash{}, fmt.Errorf("%w: argon2id m=%d,t=%d,p=%d", ErrMalformedHash, m, t, p)
	case m > maxArgonMemory || t > maxArgonPasses || p > maxArgonLanes || uint64(m)*uint64(t) > maxArgonWork:
		return parsedHash{}, fmt.Errorf("%w: argon2id m=%d,t=%d,p=%d; at most m=%d, t=%d, p=%d and m×t=%d are taken", ErrHashParameters, m, t, p, maxArgonMemory, maxArgonPasses, maxArgonLanes, maxArgonWork)
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	if err != nil || len(salt) < 8 {
		return parsedHash{}, fmt.Errorf("%w: argon2id salt", ErrMalformedHash)
	}
	want, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil || len(want) < 16 || len(want) > 128 {
		return parsedHash{}, fmt.Errorf("%w: argon2id digest", ErrMalformedHash)
	}
	return parsedHash{memory: int(m), check: func(plain string) bool {
		got := argon2.IDKey([]byte(plain), salt, t, m, uint8(p), uint32(len(want)))
		return subtle.ConstantTimeCompare(got, want) == 1
	}}, nil
}
