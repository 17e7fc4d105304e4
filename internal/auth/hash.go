package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// MaxPasswordBytes is the longest password that is looked at (AUTH-10).
const MaxPasswordBytes = 1024

// errMismatch: the password is not the one that was hashed.
var errMismatch = errors.New("wrong password")

// hashWait is how long a login waits for its turn to hash.
const hashWait = 10 * time.Second

// HashConfig is the section data_provider.password_hashing.
type HashConfig struct {
	Algo   string `json:"algo"`
	Bcrypt struct {
		Cost int `json:"cost"`
	} `json:"bcrypt_options"`
	Argon2 struct {
		Memory      uint32 `json:"memory"` // KiB
		Iterations  uint32 `json:"iterations"`
		Parallelism uint8  `json:"parallelism"`
	} `json:"argon2_options"`
}

// DefaultHashConfig is what holds for keys that the configuration does not name.
func DefaultHashConfig() HashConfig {
	c := HashConfig{Algo: "bcrypt"}
	c.Bcrypt.Cost = bcrypt.DefaultCost
	c.Argon2.Memory, c.Argon2.Iterations, c.Argon2.Parallelism = 65536, 1, 2
	return c
}

// Validate says what is wrong with c, naming the key.
func (c HashConfig) Validate() error {
	switch {
	case c.Algo != "bcrypt" && c.Algo != "argon2id":
		return fmt.Errorf("algo: must be bcrypt or argon2id, it is %q", c.Algo)
	case c.Bcrypt.Cost < bcrypt.MinCost || c.Bcrypt.Cost > 20:
		return fmt.Errorf("bcrypt_options.cost: must be between %d and 20, it is %d", bcrypt.MinCost, c.Bcrypt.Cost)
	case c.Argon2.Memory < 8 || c.Argon2.Memory > maxArgonKiB || c.Argon2.Iterations < 1 || c.Argon2.Iterations > maxArgonTime || c.Argon2.Parallelism < 1:
		return fmt.Errorf("argon2_options: memory 8 to %d KiB, iterations 1 to %d, parallelism from 1", maxArgonKiB, maxArgonTime)
	}
	return nil
}

// The dearest stored hash that we verify: a record must not be able to stop the server.
const (
	maxArgonKiB  = 1 << 20
	maxArgonTime = 16
	maxBcrypt    = 16
)

// Hasher makes and checks password hashes, a bounded number at a time (AUTH-10). Safe for concurrent use.
type Hasher struct {
	cfg   HashConfig
	turns chan struct{}
	dummy string // of the configured algorithm and cost
}

// NewHasher makes a hasher that works on at most parallel passwords at once.
func NewHasher(cfg HashConfig, parallel int) (*Hasher, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	h := &Hasher{cfg: cfg, turns: make(chan struct{}, max(1, parallel))}
	var err error
	h.dummy, err = h.Hash(context.Background(), rand.Text())
	return h, err
}

func (h *Hasher) turn(ctx context.Context) (func(), error) {
	ctx, cancel := context.WithTimeout(ctx, hashWait)
	defer cancel()
	select {
	case h.turns <- struct{}{}:
		return func() { <-h.turns }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("too many logins at once: %w", ctx.Err())
	}
}

// Hash makes the stored form of a plain password.
func (h *Hasher) Hash(ctx context.Context, plain string) (string, error) {
	if len(plain) > MaxPasswordBytes {
		return "", fmt.Errorf("longer than %d bytes", MaxPasswordBytes)
	}
	done, err := h.turn(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	if h.cfg.Algo == "bcrypt" {
		b, err := bcrypt.GenerateFromPassword([]byte(plain), h.cfg.Bcrypt.Cost)
		if errors.Is(err, bcrypt.ErrPasswordTooLong) {
			return "", errors.New("longer than 72 bytes, which bcrypt cannot hash; use argon2id (data_provider.password_hashing.algo)")
		}
		return string(b), err
	}
	a := h.cfg.Argon2
	salt := make([]byte, 16)
	rand.Read(salt)
	key := argon2.IDKey([]byte(plain), salt, a.Iterations, a.Memory, a.Parallelism, 32)
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, a.Memory, a.Iterations, a.Parallelism, b64(salt), b64(key)), nil
}

// Verify reports whether plain is the password of stored: nil, errMismatch, or why it cannot be known.
func (h *Hasher) Verify(ctx context.Context, stored, plain string) error {
	if len(plain) > MaxPasswordBytes {
		plain = plain[:MaxPasswordBytes] + "x" // never equal, same cost
	}
	done, err := h.turn(ctx)
	if err != nil {
		return err
	}
	defer done()
	switch {
	case strings.HasPrefix(stored, "$2a$"), strings.HasPrefix(stored, "$2b$"), strings.HasPrefix(stored, "$2y$"):
		if cost, err := bcrypt.Cost([]byte(stored)); err != nil || cost > maxBcrypt {
			return fmt.Errorf("stored bcrypt hash: bad form, or a cost above %d", maxBcrypt)
		}
		if err := bcrypt.CompareHashAndPassword([]byte(stored), []byte(plain)); err != nil {
			return errMismatch
		}
		return nil
	case strings.HasPrefix(stored, "$argon2id$"):
		return verifyArgon(stored, plain)
	}
	bcrypt.CompareHashAndPassword([]byte(h.dummy), []byte(plain))
	return errors.New("the stored password is of a form that is not supported yet; set a new one")
}

// Dummy costs what Verify does, for an account that is not there (AUTH-4).
func (h *Hasher) Dummy(ctx context.Context, plain string) { h.Verify(ctx, h.dummy, plain) }

func verifyArgon(stored, plain string) error {
	f := strings.Split(stored, "$")
	var v int
	var m, t uint32
	var p uint8
	bad := errors.New("stored argon2id hash: bad form")
	if len(f) != 6 {
		return bad
	}
	if _, err := fmt.Sscanf(f[2], "v=%d", &v); err != nil || v != argon2.Version {
		return bad
	}
	if _, err := fmt.Sscanf(f[3], "m=%d,t=%d,p=%d", &m, &t, &p); err != nil || m > maxArgonKiB || t < 1 || t > maxArgonTime || p < 1 {
		return fmt.Errorf("stored argon2id hash: parameters %q are refused", f[3])
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(f[4])
	key, err2 := base64.RawStdEncoding.DecodeString(f[5])
	if err1 != nil || err2 != nil || len(key) < 16 || len(key) > 128 {
		return bad
	}
	if subtle.ConstantTimeCompare(argon2.IDKey([]byte(plain), salt, t, m, p, uint32(len(key))), key) != 1 {
		return errMismatch
	}
	return nil
}
