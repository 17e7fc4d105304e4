package auth

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/account"
)

// Every form, made by the programs that people migrate from.
func TestHashesOfOtherPrograms(t *testing.T) {
	h := testHasher(t, "bcrypt", 2)
	data, err := os.ReadFile("testdata/hashes.txt")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, line := range strings.Split(string(data), "\n") {
		if strings.HasPrefix(line, "#") || line == "" {
			continue
		}
		plain, stored, ok := strings.Cut(line, "\t")
		if !ok {
			t.Fatalf("no tab in %q", line)
		}
		if !account.IsHash(stored) {
			t.Errorf("%s would be stored as a plain password", stored)
		}
		for _, f := range formats {
			if strings.HasPrefix(stored, f.prefix) {
				seen[f.prefix]++
			}
		}
		if ok, err := h.Verify(t.Context(), stored, plain); !ok || err != nil {
			t.Errorf("%q with %s: %v, %v", plain, stored, ok, err)
		}
		wrongs := []string{"", "y" + plain[1:], strings.ToUpper(plain[:1]) + plain[1:]}
		if len(plain) < 70 {
			wrongs = append(wrongs, plain+"y")
		}
		for _, wrong := range wrongs {
			if ok, err := h.Verify(t.Context(), stored, wrong); ok || err != nil {
				t.Errorf("%q taken for %q with %s: %v, %v", wrong, plain, stored, ok, err)
			}
		}
	}
	for _, f := range formats {
		if seen[f.prefix] == 0 {
			t.Errorf("no vector for %s", f.prefix)
		}
	}
}

// AUTH-10: a hostile hash in a dump costs nothing but its reading.
func TestHostileHashesAreRefusedAtOnce(t *testing.T) {
	h := testHasher(t, "bcrypt", 1)
	digest := func(n int) string { return strings.Repeat("A", n) }
	start := time.Now()
	for stored, want := range map[string]error{
		"$6$rounds=999999999$salt$" + digest(86):       ErrHashParameters,
		"$6$rounds=1000001$salt$" + digest(86):         ErrHashParameters,
		"$5$rounds=4294967296$salt$" + digest(43):      ErrMalformedHash,
		"$5$rounds=-1$salt$" + digest(43):              ErrMalformedHash,
		"$5$rounds=5000salt" + digest(43):              ErrMalformedHash,
		"$5$salt$" + digest(42):                        ErrMalformedHash,
		"$6$salt$" + digest(85) + "!":                  ErrMalformedHash,
		"$6$" + digest(129) + "$" + digest(86):         ErrMalformedHash,
		"$1$salt$" + digest(23):                        ErrMalformedHash,
		"$apr1$" + digest(22):                          ErrMalformedHash,
		"$y$jzz$salt$" + digest(43):                    ErrHashParameters,
		"$y$jGT$salt$" + digest(43):                    ErrHashParameters,
		"$y$j/T$salt$" + digest(43):                    ErrHashParameters,
		"$y$k9T$salt$" + digest(43):                    ErrUnsupportedHash,
		"$y$j9T5$salt$" + digest(43):                   ErrUnsupportedHash,
		"$y$j9T$sa!t$" + digest(43):                    ErrMalformedHash,
		"$y$j9T$salt":                                  ErrMalformedHash,
		"$y$":                                          ErrUnsupportedHash,
		"$pbkdf2-sha512$4294967295$salt$" + digest(64): ErrHashParameters,
		"$pbkdf2-sha1$5000000$salt$" + digest(128):     ErrHashParameters,
		"$pbkdf2-sha256$0$salt$" + digest(44):          ErrMalformedHash,
		"$pbkdf2-sha256$1000$salt$AAAA":                ErrMalformedHash,
		"$pbkdf2-sha256$1000$salt$" + digest(4096):     ErrMalformedHash,
		"$pbkdf2-sha256$1000$salt":                     ErrMalformedHash,
		"$pbkdf2-b64salt-sha256$1000$*$" + digest(44):  ErrMalformedHash,
		"{MD5}":                              ErrMalformedHash,
		"{MD5}zz":                            ErrMalformedHash,
		"{SHA256}" + strings.Repeat("0", 62): ErrMalformedHash,
		"{SHA512}" + strings.Repeat("0", 64): ErrMalformedHash,
	} {
		ok, err := h.Verify(t.Context(), stored, "secret")
		if ok || !errors.Is(err, want) {
			t.Errorf("%q: got %v, %v, want %v", stored, ok, err, want)
		}
		if errors.Is(want, ErrHashParameters) && err != nil && !strings.ContainsAny(err.Error(), "0123456789") {
			t.Errorf("%q: the error names no limit: %v", stored, err)
		}
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("refusing took %v: work was done", d)
	}
}

func TestPreferredAndCheap(t *testing.T) {
	b, a := testHasher(t, "bcrypt", 1), testHasher(t, "argon2id", 1)
	for _, c := range []struct {
		h                *Hasher
		stored           string
		preferred, cheap bool
	}{
		{b, b.dummy, true, false},
		{a, a.dummy, true, false},
		{b, a.dummy, false, true},
		{a, b.dummy, false, true},
		{b, "{MD5}x", false, true},
		{a, "$argon2id$v=19$m=8,t=1,p=1$x$y", true, true},
		{b, "$2y$05$" + b.dummy[7:], true, false},
		{b, "$2y$xx$", true, true},
	} {
		if p, ch := c.h.Preferred(c.stored), c.h.Cheap(c.stored); p != c.preferred || ch != c.cheap {
			t.Errorf("%s: preferred %v, cheap %v, want %v, %v", c.stored, p, ch, c.preferred, c.cheap)
		}
	}
}
