package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

func testHasher(t testing.TB, algo string, parallel int) *Hasher {
	t.Helper()
	cfg := DefaultHashConfig()
	cfg.Algo, cfg.Bcrypt.Cost, cfg.Argon2.Memory = algo, 4, 64
	h, err := NewHasher(cfg, parallel)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestHashAndVerify(t *testing.T) {
	for _, algo := range []string{"bcrypt", "argon2id"} {
		h := testHasher(t, algo, 2)
		for _, plain := range []string{"secret", "päss wörd", "x", strings.Repeat("x", 72), "nul\x00inside"} {
			stored, err := h.Hash(t.Context(), plain)
			if err != nil {
				t.Fatalf("%s %q: %v", algo, plain, err)
			}
			again, _ := h.Hash(t.Context(), plain)
			if again == stored {
				t.Errorf("%s: two hashes of one password are equal: no salt", algo)
			}
			// Each hasher checks the forms of both.
			for _, other := range []string{"bcrypt", "argon2id"} {
				h := testHasher(t, other, 1)
				if ok, err := h.Verify(t.Context(), stored, plain); !ok || err != nil {
					t.Errorf("%s of %q: %v, %v", stored, plain, ok, err)
				}
				for _, wrong := range []string{"", plain + "y", "y" + plain[1:], strings.ToUpper(plain) + " "} {
					if len(plain) == 72 && algo == "bcrypt" && strings.HasPrefix(wrong, plain) {
						continue // bcrypt looks at 72 bytes
					}
					if ok, err := h.Verify(t.Context(), stored, wrong); ok || err != nil {
						t.Errorf("%s: %q for %q: %v, %v", stored, wrong, plain, ok, err)
					}
				}
			}
		}
	}
}

// Hashes made by other programs.
func TestForeignHashes(t *testing.T) {
	h := testHasher(t, "bcrypt", 1)
	raw, _ := bcrypt.GenerateFromPassword([]byte("secret"), 4)
	for _, prefix := range []string{"$2a$", "$2b$", "$2y$"} {
		if ok, err := h.Verify(t.Context(), prefix+string(raw[4:]), "secret"); !ok || err != nil {
			t.Errorf("%s: %v, %v", prefix, ok, err)
		}
	}
	enc := base64.RawStdEncoding.EncodeToString
	for _, p := range []struct{ m, t, p, salt, n int }{{8, 1, 1, 8, 16}, {64, 3, 4, 16, 32}, {1024, 2, 2, 32, 64}} {
		salt := make([]byte, p.salt)
		stored := fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", p.m, p.t, p.p, enc(salt),
			enc(argon2.IDKey([]byte("secret"), salt, uint32(p.t), uint32(p.m), uint8(p.p), uint32(p.n))))
		if ok, err := h.Verify(t.Context(), stored, "secret"); !ok || err != nil {
			t.Errorf("%s: %v, %v", stored, ok, err)
		}
	}
}

// AUTH-10: what a stored hash asks for is bounded, and refused before any work is done.
func TestStoredHashesAreBounded(t *testing.T) {
	h := testHasher(t, "bcrypt", 1)
	digest := strings.Repeat("A", 43)
	start := time.Now()
	for stored, want := range map[string]error{
		"$2a$31$abcdefghijklmnopqrstuuKzRjZxH0yVq6x3lqTqT7Cz9eUu2Jm6S": ErrHashParameters,
		"$2a$17$abcdefghijklmnopqrstuuKzRjZxH0yVq6x3lqTqT7Cz9eUu2Jm6S": ErrHashParameters,
		"$2a$99$abcdefghijklmnopqrstuuKzRjZxH0yVq6x3lqTqT7Cz9eUu2Jm6S": ErrMalformedHash,
		"$2a$10$abcdefghijklmnopqrstuuKzRjZxH0yVq6x3lqTqT7Cz9eUu2Jm6!": ErrMalformedHash,
		"$2a$": ErrMalformedHash,
		"$2x$10$abcdefghijklmnopqrstuuKzRjZxH0yVq6x3lqTqT7Cz9eUu2Jm6S": ErrUnsupportedHash,
		"$argon2id$v=19$m=4194304,t=1,p=1$c2FsdHNhbHQ$" + digest:       ErrHashParameters,
		"$argon2id$v=19$m=4294967295,t=1,p=1$c2FsdHNhbHQ$" + digest:    ErrHashParameters,
		"$argon2id$v=19$m=4294967296,t=1,p=1$c2FsdHNhbHQ$" + digest:    ErrMalformedHash,
		"$argon2id$v=19$m=1048576,t=64,p=1$c2FsdHNhbHQ$" + digest:      ErrHashParameters,
		"$argon2id$v=19$m=64,t=4000000000,p=1$c2FsdHNhbHQ$" + digest:   ErrHashParameters,
		"$argon2id$v=19$m=65536,t=1,p=255$c2FsdHNhbHQ$" + digest:       ErrHashParameters,
		"$argon2id$v=19$m=64,t=0,p=1$c2FsdHNhbHQ$" + digest:            ErrMalformedHash,
		"$argon2id$v=19$m=64,t=1,p=0$c2FsdHNhbHQ$" + digest:            ErrMalformedHash,
		"$argon2id$v=19$m=0,t=1,p=1$c2FsdHNhbHQ$" + digest:             ErrMalformedHash,
		"$argon2id$v=19$m=-1,t=1,p=1$c2FsdHNhbHQ$" + digest:            ErrMalformedHash,
		"$argon2id$v=19$m=64,t=1,p=1x$c2FsdHNhbHQ$" + digest:           ErrMalformedHash,
		"$argon2id$v=16$m=64,t=1,p=1$c2FsdHNhbHQ$" + digest:            ErrMalformedHash,
		"$argon2id$v=19$m=64,t=1,p=1$c2Fs$" + digest:                   ErrMalformedHash,
		"$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$":                     ErrMalformedHash,
		"$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$AAAA":                 ErrMalformedHash,
		"$argon2id$v=19$m=64,t=1,p=1$***$" + digest:                    ErrMalformedHash,
		"$argon2id$": ErrMalformedHash,
		"$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$" + strings.Repeat("A", 1000): ErrMalformedHash,
		"": ErrUnsupportedHash, "secret": ErrUnsupportedHash, "$6$salt$x": ErrMalformedHash,
		"$pbkdf2-sha256$1$salt$x": ErrMalformedHash, "$y$j9T$x$y": ErrMalformedHash, "$argon2i$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$" + digest: ErrUnsupportedHash,
	} {
		ok, err := h.Verify(t.Context(), stored, "secret")
		if ok || !errors.Is(err, want) {
			t.Errorf("%q: got %v, %v, want %v", stored, ok, err, want)
		}
		if err != nil && len(stored) > 30 && strings.Contains(err.Error(), stored[len(stored)-20:]) {
			t.Errorf("the error shows the hash: %v", err)
		}
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("refusing took %v: work was done", d)
	}
}

// AUTH-4: the dummy is a hash of the configured algorithm and cost.
func TestDummyCostsAsConfigured(t *testing.T) {
	h := testHasher(t, "bcrypt", 1)
	if cost, err := bcrypt.Cost([]byte(h.dummy)); err != nil || cost != 4 {
		t.Errorf("bcrypt dummy: cost %d, %v, want 4", cost, err)
	}
	a := testHasher(t, "argon2id", 1)
	if !strings.HasPrefix(a.dummy, "$argon2id$v=19$m=64,t=1,p=2$") {
		t.Errorf("argon2id dummy %q", a.dummy)
	}
	for _, h := range []*Hasher{h, a} {
		for _, plain := range []string{"", "secret", strings.Repeat("x", maxPassword)} {
			if ok, err := h.Verify(t.Context(), h.dummy, plain); ok || err != nil {
				t.Errorf("%q is the dummy's password: %v, %v", plain, ok, err)
			}
			if err := h.Dummy(t.Context(), plain); err != nil {
				t.Error(err)
			}
		}
	}
}

// AUTH-10: a bounded number of hashes at once, a bounded number of waiters, for a bounded time.
func TestHashingIsBounded(t *testing.T) {
	h := testHasher(t, "bcrypt", 2)
	h.wait = time.Millisecond
	stored, _ := h.Hash(t.Context(), "secret")
	r1, err1 := h.acquire(t.Context(), 0)
	r2, err2 := h.acquire(t.Context(), 0)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if ok, err := h.Verify(t.Context(), stored, "secret"); ok || !errors.Is(err, ErrBusy) {
		t.Errorf("with every slot taken: %v, %v", ok, err)
	}
	if err := h.Dummy(t.Context(), "secret"); !errors.Is(err, ErrBusy) {
		t.Errorf("dummy with every slot taken: %v", err)
	}
	if _, err := h.Hash(t.Context(), "secret"); !errors.Is(err, ErrBusy) {
		t.Errorf("hash with every slot taken: %v", err)
	}

	// One more than may wait is refused at once; the others get their turn.
	h.wait = time.Minute
	got := make(chan error, maxHashWaiting)
	for range maxHashWaiting {
		go func() {
			r, err := h.acquire(t.Context(), 0)
			if err == nil {
				r()
			}
			got <- err
		}()
	}
	for h.waiting.Load() < maxHashWaiting {
		time.Sleep(time.Millisecond) // no event tells that all wait
	}
	if _, err := h.acquire(t.Context(), 0); !errors.Is(err, ErrBusy) {
		t.Errorf("one waiter too many: %v", err)
	}
	r1()
	r2()
	for range maxHashWaiting {
		if err := <-got; err != nil {
			t.Error(err)
		}
	}
	if h.waiting.Load() != 0 || len(h.slots) != 0 {
		t.Errorf("%d wait, %d slots are taken", h.waiting.Load(), len(h.slots))
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if ok, err := h.Verify(ctx, stored, "secret"); ok || !errors.Is(err, context.Canceled) {
		t.Errorf("with a cancelled context: %v, %v", ok, err)
	}
}

// AUTH-10, RES-1: hashes with much memory go one at a time, and do not hold up others.
func TestBigHashesGoOneAtATime(t *testing.T) {
	h := testHasher(t, "bcrypt", 3)
	big, err := h.acquire(t.Context(), bigArgonMemory+1)
	if err != nil {
		t.Fatal(err)
	}
	h.wait = time.Millisecond
	if _, err := h.acquire(t.Context(), bigArgonMemory+1); !errors.Is(err, ErrBusy) {
		t.Errorf("a second big hash: %v", err)
	}
	small, err := h.acquire(t.Context(), bigArgonMemory)
	if err != nil {
		t.Errorf("a small hash beside a big one: %v", err)
	}
	small()
	big()
	if len(h.slots)+len(h.big) != 0 {
		t.Error("slots are still taken")
	}
}

func TestLongPasswordsAreRefused(t *testing.T) {
	b, a := testHasher(t, "bcrypt", 1), testHasher(t, "argon2id", 1)
	if _, err := b.Hash(t.Context(), strings.Repeat("x", 73)); !errors.Is(err, ErrPasswordTooLong) || !strings.Contains(err.Error(), "argon2id") {
		t.Errorf("73 bytes with bcrypt: %v", err)
	}
	if _, err := a.Hash(t.Context(), strings.Repeat("x", maxPassword)); err != nil {
		t.Errorf("1 KiB with argon2id: %v", err)
	}
	for _, h := range []*Hasher{a, b} {
		long := strings.Repeat("x", maxPassword+1)
		if _, err := h.Hash(t.Context(), long); !errors.Is(err, ErrPasswordTooLong) {
			t.Errorf("hash of more than 1 KiB: %v", err)
		}
		if ok, err := h.Verify(t.Context(), h.dummy, long); ok || !errors.Is(err, ErrPasswordTooLong) {
			t.Errorf("verification of more than 1 KiB: %v, %v", ok, err)
		}
	}
}

func TestHashConfig(t *testing.T) {
	if err := DefaultHashConfig().Validate(); err != nil {
		t.Errorf("default: %v", err)
	}
	for name, c := range map[string]struct {
		change func(*HashConfig)
		want   string // part of the error, "" for none
	}{
		"algo":         {func(c *HashConfig) { c.Algo = "md5" }, "algo"},
		"no algo":      {func(c *HashConfig) { c.Algo = "" }, "algo"},
		"cost 3":       {func(c *HashConfig) { c.Bcrypt.Cost = 3 }, "bcrypt_options.cost"},
		"cost 31":      {func(c *HashConfig) { c.Bcrypt.Cost = 31 }, "bcrypt_options.cost"},
		"no memory":    {func(c *HashConfig) { c.Argon2.Memory = 0 }, "argon2_options.memory"},
		"4 GiB":        {func(c *HashConfig) { c.Argon2.Memory = 4 << 20 }, "argon2_options.memory"},
		"no iteration": {func(c *HashConfig) { c.Argon2.Iterations = 0 }, "argon2_options.iterations"},
		"lanes":        {func(c *HashConfig) { c.Argon2.Parallelism = -1 }, "argon2_options.parallelism"},
		"all CPUs":     {func(c *HashConfig) { c.Argon2.Parallelism = 0 }, ""},
		"work":         {func(c *HashConfig) { c.Argon2.Memory, c.Argon2.Iterations = 1<<20, 5 }, "memory times iterations"},
	} {
		cfg := DefaultHashConfig()
		c.change(&cfg)
		err := cfg.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error about %q", name, err, c.want)
		}
		if _, err2 := NewHasher(cfg, 1); (err2 == nil) != (err == nil) {
			t.Errorf("%s: NewHasher says %v", name, err2)
		}
	}
}

// No stored hash panics us or makes us work before it is bounded.
func FuzzStoredHash(f *testing.F) {
	f.Add("$2a$04$abcdefghijklmnopqrstuuKzRjZxH0yVq6x3lqTqT7Cz9eUu2Jm6S")
	f.Add("$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$6$rounds=999999999$x$y")
	f.Add("")
	data, err := os.ReadFile("testdata/hashes.txt")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if _, stored, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			f.Add(stored)
		}
	}
	f.Fuzz(func(t *testing.T, stored string) {
		p, err := parseHash(stored)
		if (err == nil) != (p.check != nil) {
			t.Fatalf("%q: check %v, error %v", stored, p.check != nil, err)
		}
		if err == nil && p.memory > maxArgonMemory {
			t.Fatalf("%q takes %d KiB", stored, p.memory)
		}
		if err == nil && p.memory <= 64 && !strings.HasPrefix(stored, "$2") && strings.Contains(stored, ",t=1,") {
			p.check("x")
		}
		if err == nil && (strings.HasPrefix(stored, "$1$") || strings.HasPrefix(stored, "$apr1$") || strings.HasPrefix(stored, "{") || strings.HasPrefix(stored, "$5$rounds=1000$") || strings.HasPrefix(stored, "$y$j./$")) {
			p.check("")
			p.check("x")
		}
		if cost, cerr := bcrypt.Cost([]byte(stored)); err == nil && strings.HasPrefix(stored, "$2") && (cerr != nil || cost > maxBcryptCost) {
			t.Fatalf("%q was taken: cost %d, %v", stored, cost, cerr)
		} else if err == nil && strings.HasPrefix(stored, "$2") && cost == 4 {
			p.check("x")
		}
	})
}
