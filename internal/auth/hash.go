package auth

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// Errors of hashing. Test with errors.Is.
var (
	ErrPasswordTooLong = errors.New("the password is too long")
	ErrUnsupportedHash = errors.New("the stored password has a form that is not supported")
	ErrHashParameters  = errors.New("the stored password asks for more work than is allowed")
	ErrMalformedHash   = errors.New("the stored password is malformed")
	ErrBusy            = errors.New("too many passwords are being checked")
)

// maxPassword bounds what is hashed, in bytes (AUTH-10).
const maxPassword = 1 << 10

// The bounds of waiting for the work of hashing (AUTH-10, RES-2).
const (
	maxHashWaiting = 256
	hashWait       = 10 * time.Second
)

// Passwords checks passwords. A Hasher is one; tests count the calls of another.
type Passwords interface {
	// Verify reports whether plain is the password of the stored hash. An error means that it could not
	// be told, perhaps before a hash's cost was spent.
	Verify(ctx context.Context, stored, plain string) (bool, error)
	// Dummy does the work of a Verify of the configured algorithm and cost, for nothing (AUTH-4).
	Dummy(ctx context.Context, plain string) error
}

// Hasher hashes and checks passwords, a bounded number at a time. Safe for concurrent use.
type Hasher struct {
	cfg     HashConfig
	dummy   string // of the configured algorithm and cost
	slots   chan struct{}
	big     chan struct{} // the one slot of hashes with much memory
	waiting atomic.Int64
	wait    time.Duration
}

var _ Passwords = (*Hasher)(nil)

// NewHasher makes a Hasher that works on at most parallel passwords at once.
func NewHasher(cfg HashConfig, parallel int) (*Hasher, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	h := &Hasher{cfg: cfg, slots: make(chan struct{}, max(1, parallel)), big: make(chan struct{}, 1), wait: hashWait}
	if cfg.Algo == "argon2id" {
		h.dummy = h.argon2id(rand.Text())
	} else {
		// No password has this digest but with a chance of 2^-184, and Dummy forgets the answer.
		h.dummy = fmt.Sprintf("$2a$%02d$%s", cfg.Bcrypt.Cost, (rand.Text() + rand.Text() + rand.Text())[:53])
	}
	return h, nil
}

// Hash gives the form in which plain is stored.
func (h *Hasher) Hash(ctx context.Context, plain string) (string, error) {
	if len(plain) > maxPassword {
		return "", fmt.Errorf("%w: %d bytes, at most %d are taken", ErrPasswordTooLong, len(plain), maxPassword)
	}
	if h.cfg.Algo == "bcrypt" && len(plain) > 72 {
		return "", fmt.Errorf("%w: bcrypt takes at most 72 bytes; shorten it, or set password_hashing.algo to argon2id", ErrPasswordTooLong)
	}
	memory := 0
	if h.cfg.Algo == "argon2id" {
		memory = h.cfg.Argon2.Memory
	}
	release, err := h.acquire(ctx, memory)
	if err != nil {
		return "", err
	}
	defer release()
	if h.cfg.Algo == "argon2id" {
		return h.argon2id(plain), nil
	}
	b, err := bcrypt.GenerateFromPassword([]byte(plain), h.cfg.Bcrypt.Cost)
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return string(b), nil
}

func (h *Hasher) argon2id(plain string) string {
	a := h.cfg.Argon2
	salt := make([]byte, 16)
	rand.Read(salt)
	key := argon2.IDKey([]byte(plain), salt, uint32(a.Iterations), uint32(a.Memory), uint8(a.lanes()), 32)
	enc := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, a.Memory, a.Iterations, a.lanes(), enc.EncodeToString(salt), enc.EncodeToString(key))
}

// Verify implements Passwords. A hash of unknown form, or whose parameters ask for too much work, is an
// error before any work is done.
func (h *Hasher) Verify(ctx context.Context, stored, plain string) (bool, error) {
	if len(plain) > maxPassword {
		return false, fmt.Errorf("%w: %d bytes, at most %d are taken", ErrPasswordTooLong, len(plain), maxPassword)
	}
	p, err := parseHash(stored)
	if err != nil {
		return false, err
	}
	release, err := h.acquire(ctx, p.memory)
	if err != nil {
		return false, err
	}
	defer release()
	return p.check(plain), nil
}

// Preferred reports whether stored has the algorithm of new passwords. A changed cost is not noticed.
func (h *Hasher) Preferred(stored string) bool {
	if h.cfg.Algo == "argon2id" {
		return strings.HasPrefix(stored, "$argon2id$")
	}
	return strings.HasPrefix(stored, "$2")
}

// Cheap reports whether checking stored takes less work than Dummy, as far as the parameters tell: the time
// of a wrong password would then tell that the account exists.
func (h *Hasher) Cheap(stored string) bool {
	if !h.Preferred(stored) {
		return true
	}
	if h.cfg.Algo == "argon2id" {
		var m, t int
		if _, err := fmt.Sscanf(stored, "$argon2id$v=19$m=%d,t=%d,", &m, &t); err != nil {
			return true
		}
		return m*t < h.cfg.Argon2.Memory*h.cfg.Argon2.Iterations
	}
	cost, err := bcrypt.Cost([]byte(stored))
	return err != nil || cost < h.cfg.Bcrypt.Cost
}

// Dummy implements Passwords.
func (h *Hasher) Dummy(ctx context.Context, plain string) error {
	_, err := h.Verify(ctx, h.dummy, plain)
	return err
}

// acquire takes a slot, and for much memory (in KiB) the one slot of that too. It waits among a bounded
// number of others, for a bounded time.
func (h *Hasher) acquire(ctx context.Context, memory int) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if h.waiting.Add(1) > maxHashWaiting {
		h.waiting.Add(-1)
		return nil, ErrBusy
	}
	defer h.waiting.Add(-1)
	t := time.NewTimer(h.wait)
	defer t.Stop()
	take := func(slots chan struct{}) error {
		select {
		case slots <- struct{}{}:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			return fmt.Errorf("%w: waited %v", ErrBusy, h.wait)
		}
	}
	if memory > bigArgonMemory {
		// Before the other slot: who waits for this one holds up nobody else.
		if err := take(h.big); err != nil {
			return nil, err
		}
	}
	if err := take(h.slots); err != nil {
		if memory > bigArgonMemory {
			<-h.big
		}
		return nil, err
	}
	return func() {
		<-h.slots
		if memory > bigArgonMemory {
			<-h.big
		}
	}, nil
}
