package auth

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"golang.org/x/crypto/ssh"
)

// fakeStore counts reads and fails on demand.
type fakeStore struct {
	users  map[string]account.User
	groups map[string]account.Group
	reads  atomic.Int64
	seq    atomic.Int64
	err    error
}

func (s *fakeStore) User(ctx context.Context, name string) (account.User, error) {
	s.reads.Add(1)
	if s.err != nil {
		return account.User{}, s.err
	}
	u, ok := s.users[name]
	if !ok {
		return u, account.ErrNotFound
	}
	return u, ctx.Err()
}

func (s *fakeStore) Group(_ context.Context, name string) (account.Group, error) {
	g, ok := s.groups[name]
	if !ok {
		return g, account.ErrNotFound
	}
	return g, nil
}
func (s *fakeStore) SetLastLogin(context.Context, string, int64) error { s.reads.Add(1); return s.err }
func (s *fakeStore) ChangesSince(context.Context, int64, int) ([]account.Change, int64, error) {
	return nil, s.seq.Load(), nil
}

func hasher(t testing.TB) *Hasher {
	c := DefaultHashConfig()
	c.Bcrypt.Cost = 4
	h, err := NewHasher(c, 2)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func newAuth(t testing.TB, s *fakeStore) *Authenticator {
	a, err := New(Config{Caching: true}, s, hasher(t), slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

func user(t testing.TB, password string) account.User {
	h, err := hasher(t).Hash(context.Background(), password)
	if err != nil {
		t.Fatal(err)
	}
	return account.User{Username: "u", Status: 1, HomeDir: "/srv/u", Password: h, Permissions: map[string][]string{"/": {"*"}}}
}

func try(password string) *Attempt {
	return &Attempt{Protocol: account.ProtocolSSH, Method: account.MethodPassword, Username: "u", Password: password, Remote: netip.MustParseAddr("192.0.2.7")}
}

func TestPasswordLogin(t *testing.T) {
	s := &fakeStore{users: map[string]account.User{"u": user(t, "secret")}}
	a := newAuth(t, s)
	id, err := a.Authenticate(t.Context(), try("secret"))
	if err != nil || id.User.Username != "u" {
		t.Fatalf("right password: %v, %v", id, err)
	}
	for _, c := range []struct{ name, user, password, reason string }{
		{"wrong", "u", "Secret", "wrong password"},
		{"empty", "u", "", "empty password"}, // AUTH-5
		{"blank", "u", "  ", "empty password"},
		{"unknown", "v", "secret", "unknown user"},
		{"no name", "", "secret", "unknown user"},
		{"control", "u\n", "secret", "unknown user"},               // AUTH-6
		{"long", "u", strings.Repeat("x", 2000), "wrong password"}, // AUTH-10
	} {
		at := try(c.password)
		at.Username = c.user
		_, err := a.Authenticate(t.Context(), at)
		if d, ok := errors.AsType[*Denied](err); !ok || d.Reason != c.reason {
			t.Errorf("%s: got %v, want %s", c.name, err, c.reason)
		}
	}
}

func TestStoreFailureNeverGrants(t *testing.T) { // AUTH-5
	s := &fakeStore{users: map[string]account.User{"u": user(t, "secret")}, err: errors.New("disk I/O error")}
	a := newAuth(t, s)
	if _, err := a.Authenticate(t.Context(), try("secret")); err == nil {
		t.Error("a failing store granted a login")
	}
	s.err = nil
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Authenticate(ctx, try("secret")); err == nil {
		t.Error("a cancelled login was granted")
	}
	u := s.users["u"]
	u.Groups = []account.GroupMapping{{Name: "gone", Type: 1}}
	s.users["u"] = u
	a.Invalidate()
	if _, err := a.Authenticate(t.Context(), try("secret")); err == nil {
		t.Error("a missing group granted a login")
	}
}

func TestWarmLoginReadsNoStoreAndHashesNothing(t *testing.T) {
	s := &fakeStore{users: map[string]account.User{"u": user(t, "secret")}}
	a := newAuth(t, s)
	for range 3 { // ristretto may drop a Set
		if _, err := a.Authenticate(t.Context(), try("secret")); err != nil {
			t.Fatal(err)
		}
		a.users.Wait()
		a.verified.Wait()
	}
	reads := s.reads.Load()
	// With every hashing turn taken, only a remembered password can pass.
	a.hash.turns <- struct{}{}
	a.hash.turns <- struct{}{}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := a.Authenticate(ctx, try("secret")); err != nil {
		t.Errorf("warm login: %v", err)
	}
	if got := s.reads.Load(); got != reads {
		t.Errorf("warm login read the store %d times", got-reads)
	}
	if _, err := a.Authenticate(ctx, try("guess")); err == nil { // AUTH-10: no turn, no answer
		t.Error("a guess passed without being hashed")
	}
}

func TestChangedPasswordIsNotRemembered(t *testing.T) {
	s := &fakeStore{users: map[string]account.User{"u": user(t, "old")}}
	a := newAuth(t, s)
	a.Authenticate(t.Context(), try("old"))
	changed := make(chan struct{}, 1)
	a.OnChange(func() { changed <- struct{}{} })
	s.users["u"] = user(t, "new")
	a.Invalidate()
	<-changed
	if _, err := a.Authenticate(t.Context(), try("old")); err == nil {
		t.Error("the old password still passes")
	}
	if _, err := a.Authenticate(t.Context(), try("new")); err != nil {
		t.Errorf("new password: %v", err)
	}
}

func TestUnknownUserCostsADummyHash(t *testing.T) { // AUTH-4
	s := &fakeStore{users: map[string]account.User{}}
	a := newAuth(t, s)
	a.hash.turns <- struct{}{}
	a.hash.turns <- struct{}{}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	start := time.Now()
	a.Authenticate(ctx, try("x"))
	if time.Since(start) < 20*time.Millisecond {
		t.Error("an unknown user was answered without waiting for a turn to hash")
	}
}

func TestPublicKeyLogin(t *testing.T) {
	pub, _, _ := ed25519.GenerateKey(rand.Reader)
	other, _, _ := ed25519.GenerateKey(rand.Reader)
	small, _ := rsa.GenerateKey(rand.Reader, 1024)
	wire := func(k any) ssh.PublicKey {
		p, err := ssh.NewPublicKey(k)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	u := user(t, "x")
	u.PublicKeys = []string{"garbage", string(ssh.MarshalAuthorizedKey(wire(pub))), string(ssh.MarshalAuthorizedKey(wire(&small.PublicKey)))}
	a := newAuth(t, &fakeStore{users: map[string]account.User{"u": u}})
	at := func(k []byte) *Attempt {
		x := try("")
		x.Method, x.PublicKey = account.MethodPublicKey, k
		return x
	}
	id, err := a.Authenticate(t.Context(), at(wire(pub).Marshal()))
	if err != nil || id.KeyFingerprint != ssh.FingerprintSHA256(wire(pub)) {
		t.Errorf("stored key: %v, %v", id, err)
	}
	for name, k := range map[string][]byte{"other": wire(other).Marshal(), "small RSA": wire(&small.PublicKey).Marshal(), "garbage": []byte("x"), "none": nil} { // SSH-5
		if _, err := a.Authenticate(t.Context(), at(k)); err == nil {
			t.Errorf("%s key was accepted", name)
		}
	}
}

func TestAdmit(t *testing.T) { // AUTH-3
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) // a Tuesday
	day := int64(24 * 60 * 60 * 1000)
	for _, c := range []struct {
		name   string
		change func(u *account.User)
		ok     bool
	}{
		{"plain", func(u *account.User) {}, true},
		{"disabled", func(u *account.User) { u.Status = 0 }, false},
		{"expired", func(u *account.User) { u.ExpirationDate = now.UnixMilli() - 1 }, false},
		{"expires later", func(u *account.User) { u.ExpirationDate = now.UnixMilli() + 1 }, true},
		{"protocol", func(u *account.User) { u.Filters.DeniedProtocols = []string{"SSH"} }, false},
		{"other protocol", func(u *account.User) { u.Filters.DeniedProtocols = []string{"FTP"} }, true},
		{"method", func(u *account.User) { u.Filters.DeniedLoginMethods = []string{"password"} }, false},
		{"over SSH", func(u *account.User) { u.Filters.DeniedLoginMethods = []string{"password-over-SSH"} }, false},
		{"in time", func(u *account.User) {
			u.Filters.AccessTime = []account.TimePeriod{{DayOfWeek: 2, From: "11:00", To: "12:00"}}
		}, true},
		{"out of time", func(u *account.User) {
			u.Filters.AccessTime = []account.TimePeriod{{DayOfWeek: 2, From: "11:00", To: "11:59"}}
		}, false},
		{"other day", func(u *account.User) {
			u.Filters.AccessTime = []account.TimePeriod{{DayOfWeek: 3, From: "11:00", To: "13:00"}}
		}, false},
		{"must change", func(u *account.User) { u.Filters.RequirePasswordChange = true }, false},
		{"password old", func(u *account.User) {
			u.Filters.PasswordExpiration = 1
			u.LastPasswordChange = now.UnixMilli() - 2*day
		}, false},
		{"password fresh", func(u *account.User) {
			u.Filters.PasswordExpiration = 3
			u.LastPasswordChange = now.UnixMilli() - 2*day
		}, true},
		{"second factor", func(u *account.User) { u.Filters.TwoFactorProtocols = []string{"SSH"} }, false},
		{"allowed net", func(u *account.User) { u.Filters.AllowedIP = []string{"192.0.2.0/24"} }, true},
		{"other net", func(u *account.User) { u.Filters.AllowedIP = []string{"10.0.0.0/8"} }, false},
		{"denied net", func(u *account.User) { u.Filters.DeniedIP = []string{"192.0.2.0/24"} }, false},
		{"both", func(u *account.User) {
			u.Filters.AllowedIP, u.Filters.DeniedIP = []string{"192.0.2.7/32"}, []string{"192.0.2.0/24"}
		}, true},
		{"bad filter", func(u *account.User) { u.Filters.DeniedIP = []string{"nonsense"} }, false},
		{"nameless", func(u *account.User) { u.Username = "" }, false},
	} {
		u := account.User{Username: "u", Status: 1, Password: "x"}
		c.change(&u)
		if err := Admit(&u, try(""), now); (err == nil) != c.ok {
			t.Errorf("%s: got %v, want ok %v", c.name, err, c.ok)
		}
	}
	u := account.User{Username: "u", Status: 1}
	u.Filters.AllowedIP = []string{"10.0.0.0/8"}
	at := try("")
	at.Remote = netip.Addr{}
	if Admit(&u, at, now) == nil {
		t.Error("an unknown address passed the IP filters")
	}
}

func TestHashesAreBounded(t *testing.T) { // AUTH-10
	h := hasher(t)
	for _, stored := range []string{
		"$argon2id$v=19$m=4294967295,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=64,t=4000000,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=64,t=1,p=0$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
		"$2a$31$abcdefghijklmnopqrstuuKzRjZxH0yVq6x3lqTqT7Cz9eUu2Jm6S", "$2a$", "$6$x$y", "",
	} {
		if err := h.Verify(t.Context(), stored, "x"); err == nil || errors.Is(err, errMismatch) {
			t.Errorf("%q: got %v, want a refusal to check it", stored, err)
		}
	}
	c := DefaultHashConfig()
	c.Algo, c.Argon2.Memory = "argon2id", 64
	a, err := NewHasher(c, 1)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := a.Hash(t.Context(), "secret")
	if err != nil || a.Verify(t.Context(), stored, "secret") != nil || !errors.Is(a.Verify(t.Context(), stored, "other"), errMismatch) {
		t.Errorf("argon2id %q: %v", stored, err)
	}
}

func BenchmarkWarmLogin(b *testing.B) {
	s := &fakeStore{users: map[string]account.User{"u": user(b, "secret")}}
	a := newAuth(b, s)
	a.Authenticate(b.Context(), try("secret"))
	a.users.Wait()
	a.verified.Wait()
	at := try("secret")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Authenticate(b.Context(), at); err != nil {
			b.Fatal(err)
		}
	}
}
