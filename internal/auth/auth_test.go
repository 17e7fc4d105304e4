package auth

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/gantryhq/gantry/cache"
	"github.com/gantryhq/gantry/internal/account"
)

// fakeStore is an account store in memory that counts and fails on demand.
type fakeStore struct {
	mu      sync.Mutex
	users   map[string]account.User
	groups  map[string]account.Group
	reads   int
	err     error // of every read
	groupEr error // of every read of a group
	block   bool  // reads wait for their context
	rows    []account.Change
	seqErr  error // of every read of the changes
}

func newFakeStore(users ...account.User) *fakeStore {
	s := &fakeStore{users: map[string]account.User{}, groups: map[string]account.Group{}}
	for _, u := range users {
		s.users[u.Username] = u
	}
	return s
}

func (s *fakeStore) User(ctx context.Context, name string) (account.User, error) {
	s.mu.Lock()
	block, err := s.block, s.err
	s.reads++
	u, ok := s.users[name]
	s.mu.Unlock()
	switch {
	case block:
		<-ctx.Done()
		return account.User{}, ctx.Err()
	case err != nil:
		return account.User{}, err
	case !ok:
		return account.User{}, fmt.Errorf("user %q: %w", name, account.ErrNotFound)
	}
	return u, nil
}

func (s *fakeStore) Group(ctx context.Context, name string) (account.Group, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	g, ok := s.groups[name]
	switch {
	case s.groupEr != nil:
		return account.Group{}, s.groupEr
	case !ok:
		return account.Group{}, fmt.Errorf("group %q: %w", name, account.ErrNotFound)
	}
	return g, nil
}

func (s *fakeStore) ChangesSince(ctx context.Context, after int64, limit int) ([]account.Change, int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seqErr != nil {
		return nil, 0, s.seqErr
	}
	var out []account.Change
	var newest int64
	for _, r := range s.rows {
		newest = max(newest, r.Seq)
		if r.Seq > after && len(out) < limit {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b account.Change) int { return int(a.Seq - b.Seq) })
	return out, newest, nil
}

// set changes the store under its lock.
func (s *fakeStore) set(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn()
}

func (s *fakeStore) change(kind account.Kind, key string) {
	s.rows = append(s.rows, account.Change{Seq: int64(len(s.rows) + 1), Kind: kind, Key: key})
}

func (s *fakeStore) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

// fakePasswords is a Passwords whose hashes are "h:" and the password. It counts.
type fakePasswords struct {
	mu             sync.Mutex
	verify, dummys int
	err            error
}

func (p *fakePasswords) Verify(ctx context.Context, stored, plain string) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.verify++
	if p.err != nil {
		return false, p.err
	}
	return stored == "h:"+plain, ctx.Err()
}

func (p *fakePasswords) Dummy(ctx context.Context, plain string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dummys++
	return p.err
}

func (p *fakePasswords) counts() (verify, dummy int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.verify, p.dummys
}

// monday is a Monday at noon, UTC.
var monday = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

var peer = netip.MustParseAddr("192.0.2.7")

type world struct {
	*Authenticator
	store *fakeStore
	pw    *fakePasswords
	tick  chan time.Time
	log   *strings.Builder
	now   time.Time
}

func newWorld(t testing.TB, users ...account.User) *world {
	w := &world{store: newFakeStore(users...), pw: &fakePasswords{}, tick: make(chan time.Time), log: &strings.Builder{}, now: monday}
	a, err := build(Config{Caching: true}, w.store, w.pw, slog.New(slog.NewTextHandler(w.log, nil)), func() time.Time { return w.now }, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	w.Authenticator = a
	return w
}

// follow starts to follow the store; it returns after the first poll.
func (w *world) follow(t testing.TB) {
	w.start(cache.FollowConfig{Tick: w.tick, Now: func() time.Time { return monday }})
	w.poll()
}

// poll returns when a whole poll has been applied that began after the call.
func (w *world) poll() {
	w.tick <- time.Time{}
	w.tick <- time.Time{}
}

// settle waits until the caches hold what was put.
func (w *world) settle() {
	w.accounts.known.Wait()
	w.accounts.absent.Wait()
	w.verified.memo.Wait()
}

func user(name string, change ...func(*account.User)) account.User {
	u := account.User{
		ID: 1, Username: name, Status: 1, Password: "h:secret", HomeDir: "/srv/" + name,
		Permissions: map[string][]string{"/": {"*"}}, Version: 1,
	}
	for _, c := range change {
		c(&u)
	}
	return u
}

func password(name, plain string) *Attempt {
	return &Attempt{Protocol: account.ProtocolSSH, Method: account.MethodPassword, Username: name, Password: plain, Remote: peer}
}

func key(name string, wire []byte) *Attempt {
	return &Attempt{Protocol: account.ProtocolSSH, Method: account.MethodPublicKey, Username: name, PublicKey: wire, Remote: peer}
}

// testKey is an Ed25519 key by number: its authorized_keys line and wire form.
func testKey(t testing.TB, n byte) (line string, wire []byte) {
	t.Helper()
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = n
	pub, err := gossh.NewPublicKey(ed25519.NewKeyFromSeed(seed).Public())
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(gossh.MarshalAuthorizedKey(pub))), pub.Marshal()
}

func wantReason(t *testing.T, id *Identity, err error, reason string) {
	t.Helper()
	if reason == "" {
		if err != nil || id == nil {
			t.Fatalf("got identity %v, error %v; want a login", id, err)
		}
		return
	}
	d, ok := errors.AsType[*Denied](err)
	if !ok || id != nil || d.Reason != reason {
		t.Fatalf("got identity %v, error %v; want a denial with reason %q", id, err, reason)
	}
}

func TestPasswordAndKeyLogIn(t *testing.T) {
	line, wire := testKey(t, 1)
	_, other := testKey(t, 2)
	w := newWorld(t, user("ann", func(u *account.User) { u.PublicKeys = []string{line} }))
	ctx := t.Context()

	id, err := w.Authenticate(ctx, password("ann", "secret"))
	wantReason(t, id, err, "")
	if id.User.Username != "ann" || id.Method != account.MethodPassword || id.KeyFingerprint != "" {
		t.Errorf("password login gave %+v", id)
	}
	id, err = w.Authenticate(ctx, key("ann", wire))
	wantReason(t, id, err, "")
	if !strings.HasPrefix(id.KeyFingerprint, "SHA256:") || id.Method != account.MethodPublicKey {
		t.Errorf("key login gave %+v", id)
	}
	id, err = w.Authenticate(ctx, key("ann", other))
	wantReason(t, id, err, ReasonKey)
	id, err = w.Authenticate(ctx, password("ann", "Secret"))
	wantReason(t, id, err, ReasonPassword)
	id, err = w.Authenticate(ctx, password("bob", "secret"))
	wantReason(t, id, err, ReasonUnknownUser)
	if d, _ := errors.AsType[*Denied](err); !d.Unknown {
		t.Error("an unknown user's denial does not say so")
	}
}

func TestGroupsAreMerged(t *testing.T) {
	w := newWorld(t, user("ann", func(u *account.User) {
		u.Groups = []account.GroupMapping{{Name: "staff", Type: account.GroupPrimary}, {Name: "club", Type: account.GroupMembership}}
	}))
	w.store.groups["staff"] = account.Group{Name: "staff", UserSettings: account.GroupSettings{
		MaxSessions: 7, Filters: account.BaseFilters{DeniedProtocols: []string{account.ProtocolFTP}}}}
	id, err := w.Authenticate(t.Context(), password("ann", "secret"))
	wantReason(t, id, err, "")
	if id.User.MaxSessions != 7 {
		t.Errorf("max_sessions %d, want the group's 7", id.User.MaxSessions)
	}
	at := password("ann", "secret")
	at.Protocol = account.ProtocolFTP
	id, err = w.Authenticate(t.Context(), at)
	wantReason(t, id, err, ReasonProtocol)

	delete(w.store.groups, "staff")
	id, err = w.Authenticate(t.Context(), password("ann", "secret"))
	wantReason(t, id, err, ReasonAccount)
}

// AUTH-3: one row for each rule of Admit, checked by password, by key and by Current.
func TestAdmit(t *testing.T) {
	line, wire := testKey(t, 1)
	ms := func(d time.Duration) int64 { return monday.Add(d).UnixMilli() }
	proto := func(p string) func(*Attempt) { return func(a *Attempt) { a.Protocol = p } }
	from := func(ip string) func(*Attempt) {
		return func(a *Attempt) { a.Remote, _ = netip.ParseAddr(ip) }
	}
	type row struct {
		name    string
		user    func(*account.User)
		attempt func(*Attempt)
		now     time.Time
		reason  string // by password
		byKey   string // "=" for the same
	}
	f := func(fn func(*account.UserFilters)) func(*account.User) {
		return func(u *account.User) { fn(&u.Filters) }
	}
	rows := []row{
		{name: "plain", reason: "", byKey: "="},
		{name: "disabled", user: func(u *account.User) { u.Status = 0 }, reason: ReasonDisabled, byKey: "="},
		{name: "status 2", user: func(u *account.User) { u.Status = 2 }, reason: ReasonDisabled, byKey: "="},
		{name: "expired", user: func(u *account.User) { u.ExpirationDate = ms(-time.Millisecond) }, reason: ReasonExpired, byKey: "="},
		{name: "negative expiry", user: func(u *account.User) { u.ExpirationDate = -1 }, reason: ReasonExpired, byKey: "="},
		{name: "expires now", user: func(u *account.User) { u.ExpirationDate = ms(0) }, byKey: "="},
		{name: "home relative", user: func(u *account.User) { u.HomeDir = "ann" }, reason: ReasonHome, byKey: "="},
		{name: "home empty", user: func(u *account.User) { u.HomeDir = "" }, reason: ReasonHome, byKey: "="},
		{name: "protocol denied", user: f(func(f *account.UserFilters) { f.DeniedProtocols = []string{"SSH"} }), reason: ReasonProtocol, byKey: "="},
		{name: "other protocol denied", user: f(func(f *account.UserFilters) { f.DeniedProtocols = []string{"FTP", "DAV", "HTTP"} }), byKey: "="},
		{name: "protocol unknown", attempt: proto("GOPHER"), reason: ReasonProtocol, byKey: "="},
		{name: "protocol empty", attempt: proto(""), reason: ReasonProtocol, byKey: "="},
		{name: "password denied", user: f(func(f *account.UserFilters) { f.DeniedLoginMethods = []string{"password"} }), reason: ReasonMethod},
		{name: "password over SSH denied", user: f(func(f *account.UserFilters) { f.DeniedLoginMethods = []string{"password-over-SSH"} }), reason: ReasonMethod},
		{name: "password over SSH denied, FTP", user: f(func(f *account.UserFilters) { f.DeniedLoginMethods = []string{"password-over-SSH"} }), attempt: proto("FTP"), byKey: ReasonMethod},
		{name: "publickey denied", user: f(func(f *account.UserFilters) { f.DeniedLoginMethods = []string{"publickey"} }), byKey: ReasonMethod},
		{name: "only two steps", user: f(func(f *account.UserFilters) {
			f.DeniedLoginMethods = []string{"publickey", "password", "keyboard-interactive"}
		}), reason: ReasonMethod, byKey: "="},
		{name: "two steps denied", user: f(func(f *account.UserFilters) {
			f.DeniedLoginMethods = []string{"publickey+password", "publickey+keyboard-interactive", "TLSCertificate"}
		}), byKey: "="},
		{name: "key over FTP", attempt: proto("FTP"), byKey: ReasonMethod},
		{name: "in allowed_ip", user: f(func(f *account.UserFilters) { f.AllowedIP = []string{"192.0.2.0/24"} }), byKey: "="},
		{name: "not in allowed_ip", user: f(func(f *account.UserFilters) { f.AllowedIP = []string{"198.51.100.0/24"} }), reason: ReasonAddress, byKey: "="},
		{name: "in denied_ip", user: f(func(f *account.UserFilters) { f.DeniedIP = []string{"192.0.2.7/32"} }), reason: ReasonAddress, byKey: "="},
		{name: "not in denied_ip", user: f(func(f *account.UserFilters) { f.DeniedIP = []string{"192.0.2.8/32"} }), byKey: "="},
		{name: "in both", user: f(func(f *account.UserFilters) {
			f.AllowedIP, f.DeniedIP = []string{"192.0.2.7/32"}, []string{"192.0.2.0/24"}
		}), byKey: "="},
		{name: "4in6 peer", user: f(func(f *account.UserFilters) { f.DeniedIP = []string{"192.0.2.0/24"} }), attempt: from("::ffff:192.0.2.7"), reason: ReasonAddress, byKey: "="},
		{name: "4in6 filter", user: f(func(f *account.UserFilters) { f.DeniedIP = []string{"::ffff:192.0.2.0/120"} }), reason: ReasonAddress, byKey: "="},
		{name: "IPv6", user: f(func(f *account.UserFilters) { f.AllowedIP = []string{"2001:db8::/32"} }), attempt: from("2001:db8::1"), byKey: "="},
		{name: "IPv6 with zone", user: f(func(f *account.UserFilters) { f.DeniedIP = []string{"fe80::/10"} }), attempt: from("fe80::1%eth0"), reason: ReasonAddress, byKey: "="},
		{name: "no address, filters", user: f(func(f *account.UserFilters) { f.DeniedIP = []string{"192.0.2.8/32"} }), attempt: from(""), reason: ReasonAddress, byKey: "="},
		{name: "no address, no filters", attempt: from(""), byKey: "="},
		{name: "bad allowed_ip", user: f(func(f *account.UserFilters) { f.AllowedIP = []string{"192.0.2.0/24", "x"} }), reason: ReasonAddress, byKey: "="},
		{name: "bad denied_ip", user: f(func(f *account.UserFilters) { f.DeniedIP = []string{"192.0.2/24"} }), reason: ReasonAddress, byKey: "="},
		{name: "must change password", user: f(func(f *account.UserFilters) { f.RequirePasswordChange = true }), reason: ReasonPasswordChange, byKey: "="},
		{name: "must change password, HTTP", user: f(func(f *account.UserFilters) { f.RequirePasswordChange = true }), attempt: proto("HTTP"), byKey: ReasonMethod},
		{name: "password never changed", user: f(func(f *account.UserFilters) { f.PasswordExpiration = 10 }), reason: ReasonPasswordChange, byKey: "="},
		{name: "password old", user: func(u *account.User) { u.Filters.PasswordExpiration, u.LastPasswordChange = 10, ms(-10*24*time.Hour) }, reason: ReasonPasswordChange, byKey: "="},
		{name: "password not old", user: func(u *account.User) {
			u.Filters.PasswordExpiration, u.LastPasswordChange = 10, ms(time.Second-10*24*time.Hour)
		}, byKey: "="},
		{name: "no password that could be old", user: func(u *account.User) { u.Filters.PasswordExpiration, u.Password = 10, "" }, reason: ReasonNoPassword, byKey: ""},
		{name: "second factor required", user: f(func(f *account.UserFilters) { f.TwoFactorProtocols = []string{"SSH"} }), reason: ReasonSecondFactor, byKey: "="},
		{name: "second factor required elsewhere", user: f(func(f *account.UserFilters) { f.TwoFactorProtocols = []string{"FTP"} }), byKey: "="},
		{name: "second factor set up for another", user: f(func(f *account.UserFilters) {
			f.TwoFactorProtocols = []string{"SSH"}
			f.TOTPConfig = account.UserTOTPConfig{Enabled: true, Protocols: []string{"HTTP"}}
		}), reason: ReasonSecondFactor, byKey: "="},
		{name: "second factor set up, password and key are not challenged", user: f(func(f *account.UserFilters) {
			f.TwoFactorProtocols = []string{"SSH"}
			f.TOTPConfig = account.UserTOTPConfig{Enabled: true, Protocols: []string{"SSH"}}
		}), byKey: "="},
		{name: "TOTP over FTP", user: f(func(f *account.UserFilters) {
			f.TOTPConfig = account.UserTOTPConfig{Enabled: true, Protocols: []string{"FTP"}}
		}), attempt: proto("FTP"), reason: ReasonSecondFactor, byKey: ReasonMethod},
	}
	at := func(day int, hour, minute, second int) time.Time {
		return monday.AddDate(0, 0, day).Add(time.Duration(hour-12)*time.Hour + time.Duration(minute)*time.Minute + time.Duration(second)*time.Second)
	}
	hours := f(func(f *account.UserFilters) {
		f.AccessTime = []account.TimePeriod{{DayOfWeek: 1, From: "08:30", To: "17:00"}, {DayOfWeek: 0, From: "00:00", To: "23:59"}}
	})
	for _, c := range []struct {
		at     time.Time
		reason string
	}{
		{at(0, 8, 29, 59), ReasonAccessTime}, {at(0, 8, 30, 0), ""}, {at(0, 17, 0, 59), ""}, {at(0, 17, 1, 0), ReasonAccessTime},
		{at(1, 12, 0, 0), ReasonAccessTime}, {at(6, 0, 0, 0), ""}, {at(6, 23, 59, 59), ""},
	} {
		rows = append(rows, row{name: "access time " + c.at.Format("Mon 15:04:05"), user: hours, now: c.at, reason: c.reason, byKey: "="})
	}
	rows = append(rows, row{name: "access time unreadable", user: f(func(f *account.UserFilters) {
		f.AccessTime = []account.TimePeriod{{DayOfWeek: 1, From: "8", To: "25:00"}}
	}), reason: ReasonAccessTime, byKey: "="})

	for _, r := range rows {
		t.Run(strings.ReplaceAll(r.name, " ", "_"), func(t *testing.T) {
			u := user("ann", func(u *account.User) { u.PublicKeys = []string{line} })
			w := newWorld(t, u)
			changed := u
			if r.user != nil {
				r.user(&changed)
			}
			if !r.now.IsZero() {
				w.now = r.now
			}
			for _, c := range []struct {
				a      *Attempt
				reason string
			}{{password("ann", "secret"), r.reason}, {key("ann", wire), r.byKey}} {
				want := c.reason
				if want == "=" {
					want = r.reason
				}
				before, err := w.Authenticate(t.Context(), c.a)
				if r.now.IsZero() && (err != nil || before == nil) {
					t.Fatalf("before the rule: %v", err)
				}
				at := *c.a
				if r.attempt != nil {
					r.attempt(&at)
				}
				w.store.set(func() { w.store.users["ann"] = changed })
				id, err := w.Authenticate(t.Context(), &at)
				if _, step := errors.AsType[*Step](err); step && id == nil && want == ReasonMethod && at.Method == account.MethodPublicKey {
					err = deny(ReasonMethod, err) // the key is right and not enough
				}
				wantReason(t, id, err, want)
				if before != nil && want != ReasonNoPassword {
					id, err = w.Current(t.Context(), before, at.Way())
					wantReason(t, id, err, want)
				}
				w.store.set(func() { w.store.users["ann"] = u })
			}
		})
	}
}

func TestAccessTimeInLocalTime(t *testing.T) {
	w := newWorld(t, user("ann", func(u *account.User) {
		u.Filters.AccessTime = []account.TimePeriod{{DayOfWeek: 1, From: "20:00", To: "20:00"}}
	}))
	id, err := w.Authenticate(t.Context(), password("ann", "secret"))
	wantReason(t, id, err, ReasonAccessTime)
	w.loc = time.FixedZone("east", 8*3600)
	id, err = w.Authenticate(t.Context(), password("ann", "secret"))
	wantReason(t, id, err, "")
}

func TestKeyboardInteractivePassword(t *testing.T) {
	w := newWorld(t, user("ann"), user("tot", func(u *account.User) {
		u.Filters.TOTPConfig = account.UserTOTPConfig{Enabled: true, Protocols: []string{"SSH"}}
	}), user("den", func(u *account.User) { u.Filters.DeniedLoginMethods = []string{account.MethodKeyboardInteractive} }))
	for name, reason := range map[string]string{"ann": "", "tot": ReasonSecondFactor, "den": ReasonMethod} {
		a := password(name, "secret")
		a.Method = account.MethodKeyboardInteractive
		id, err := w.Authenticate(t.Context(), a)
		wantReason(t, id, err, reason)
	}
}

// AUTH-1: what a login may do follows from what was proven, not from what was offered before it.
func TestOfferOneKeyProveAnother(t *testing.T) {
	lineA, wireA := testKey(t, 1)
	lineB, wireB := testKey(t, 2)
	w := newWorld(t,
		user("ann", func(u *account.User) { u.PublicKeys = []string{lineA} }),
		user("bob", func(u *account.User) { u.ID, u.PublicKeys = 2, []string{lineB} }))
	a, err := w.Authenticate(t.Context(), key("ann", wireA))
	wantReason(t, a, err, "")
	b, err := w.Authenticate(t.Context(), key("bob", wireB))
	wantReason(t, b, err, "")
	if a.User.Username != "ann" || b.User.Username != "bob" || a.KeyFingerprint == b.KeyFingerprint {
		t.Errorf("got %+v and %+v", a, b)
	}
	x, err := w.Authenticate(t.Context(), key("bob", wireA))
	wantReason(t, x, err, ReasonKey)
}

// AUTH-4: whatever is wrong, one hash of the configured cost is spent; by key none.
func TestFailuresCostTheSame(t *testing.T) {
	line, _ := testKey(t, 1)
	_, other := testKey(t, 2)
	w := newWorld(t, user("ann", func(u *account.User) { u.PublicKeys = []string{line} }),
		user("keyonly", func(u *account.User) { u.Password, u.PublicKeys = "", []string{line} }),
		user("nothing", func(u *account.User) { u.Password = "" }),
		user("off", func(u *account.User) { u.Status = 0 }))
	names := []string{"ann", "keyonly", "nothing", "off", "unknown"}
	for _, following := range []bool{false, true} {
		if following {
			w.follow(t)
		}
		for range 2 { // cold and warm
			for _, name := range names {
				v0, d0 := w.pw.counts()
				id, err := w.Authenticate(t.Context(), password(name, "wrong"))
				if id != nil || err == nil {
					t.Fatalf("%s: got in", name)
				}
				v1, d1 := w.pw.counts()
				if v1-v0+d1-d0 != 1 {
					t.Errorf("%s by password: %d verifications and %d dummies, want one hash", name, v1-v0, d1-d0)
				}
				id, err = w.Authenticate(t.Context(), key(name, other))
				if id != nil || err == nil {
					t.Fatalf("%s: got in by key", name)
				}
				if v2, d2 := w.pw.counts(); v2 != v1 || d2 != d1 {
					t.Errorf("%s by key: %d hashes, want none", name, v2-v1+d2-d1)
				}
			}
			w.settle()
		}
	}
	// A warm login of the right user must not make the others' guesses cheaper.
	for range 2 {
		id, err := w.Authenticate(t.Context(), password("ann", "secret"))
		wantReason(t, id, err, "")
		w.settle()
	}
	v0, d0 := w.pw.counts()
	for _, name := range names {
		w.Authenticate(t.Context(), password(name, "wrong"))
	}
	if v1, d1 := w.pw.counts(); v1-v0+d1-d0 != len(names) {
		t.Errorf("%d hashes for %d wrong guesses", v1-v0+d1-d0, len(names))
	}
}

// AUTH-4: a stored hash that cannot be read costs a dummy.
func TestUnusableStoredHashCostsTheSame(t *testing.T) {
	w := newWorld(t, user("ann"))
	w.pw.err = ErrUnsupportedHash
	id, err := w.Authenticate(t.Context(), password("ann", "secret"))
	wantReason(t, id, err, ReasonHash)
	if v, d := w.pw.counts(); v != 1 || d != 1 {
		t.Errorf("%d verifications and %d dummies, want 1 and 1", v, d)
	}
}

// AUTH-5: a fault at any step is a denial, and never a login.
func TestFaultsDeny(t *testing.T) {
	boom := errors.New("boom")
	line, wire := testKey(t, 1)
	withKey := func(u *account.User) { u.PublicKeys = []string{line} }
	for _, c := range []struct {
		name    string
		break_  func(w *world)
		attempt func(a *Attempt)
		reason  string
	}{
		{"store error", func(w *world) { w.store.err = boom }, nil, ReasonStore},
		{"store busy", func(w *world) { w.store.err = context.DeadlineExceeded }, nil, ReasonStore},
		{"store hangs", func(w *world) { w.store.block = true }, nil, ReasonStore},
		{"group error", func(w *world) {
			u := w.store.users["ann"]
			u.Groups = []account.GroupMapping{{Name: "g", Type: account.GroupSecondary}}
			w.store.users["ann"] = u
			w.store.groupEr = boom
		}, nil, ReasonStore},
		{"store gives an empty user", func(w *world) { w.store.users["ann"] = account.User{Status: 1, Password: "h:secret", HomeDir: "/"} }, nil, ReasonStore},
		{"store gives another user", func(w *world) { w.store.users["ann"] = user("eve", withKey) }, nil, ReasonStore},
		{"empty name", nil, func(a *Attempt) { a.Username = "" }, ReasonUsername},
		{"empty method", nil, func(a *Attempt) { a.Method = "" }, ReasonMethod},
		{"a step as a method", nil, func(a *Attempt) { a.Method = account.MethodKeyAndPassword }, ReasonMethod},
		{"certificate", nil, func(a *Attempt) { a.Method = account.MethodTLSCertificate }, ReasonMethod},
		{"none", nil, func(a *Attempt) { a.Method = "none" }, ReasonMethod},
	} {
		for _, a := range []*Attempt{password("ann", "secret"), key("ann", wire)} {
			t.Run(strings.ReplaceAll(c.name+" by "+a.Method, " ", "_"), func(t *testing.T) {
				w := newWorld(t, user("ann", withKey))
				id, err := w.Authenticate(t.Context(), a)
				wantReason(t, id, err, "")
				if c.break_ != nil {
					c.break_(w)
				}
				at := *a
				if c.attempt != nil {
					c.attempt(&at)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
				defer cancel()
				got, err := w.Authenticate(ctx, &at)
				wantReason(t, got, err, c.reason)
				if c.break_ != nil {
					got, err = w.Current(ctx, id, at.Way())
					wantReason(t, got, err, c.reason)
				}
			})
		}
	}
	w := newWorld(t, user("ann", withKey), user("bare", func(u *account.User) { u.Password = "" }))
	for _, a := range []*Attempt{
		nil, {}, password("ann", ""), password("ann", " \t"), password("bare", ""), password("", "secret"), password("", ""),
		key("ann", nil), key("ann", []byte{}), key("bare", wire), key("ann", make([]byte, maxKeyWire+1)), key("", wire),
	} {
		if id, err := w.Authenticate(t.Context(), a); id != nil || err == nil {
			t.Errorf("%+v: got in as %v", a, id)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, a := range []*Attempt{password("ann", "secret"), key("ann", wire)} {
		if id, err := w.Authenticate(ctx, a); id != nil || err == nil {
			t.Errorf("%s with a cancelled context: got in", a.Method)
		}
	}
	for _, id := range []*Identity{nil, {}, {User: &account.User{}}} {
		if got, err := w.Current(t.Context(), id, password("ann", "secret").Way()); got != nil || err == nil {
			t.Errorf("Current of %+v: got in", id)
		}
	}
}

type sourceFunc func(ctx context.Context, t *Attempt) (Found, error)

func (f sourceFunc) Find(ctx context.Context, t *Attempt) (Found, error) { return f(ctx, t) }

func TestSourcesInOrder(t *testing.T) {
	boom := errors.New("boom")
	ldap := user("ldap", func(u *account.User) { u.ID, u.Password = 2, "" })
	pass := sourceFunc(func(context.Context, *Attempt) (Found, error) { return Found{}, ErrPass })
	fail := sourceFunc(func(context.Context, *Attempt) (Found, error) { return Found{}, boom })
	none := sourceFunc(func(context.Context, *Attempt) (Found, error) { return Found{}, nil })
	noName := sourceFunc(func(context.Context, *Attempt) (Found, error) { return Found{User: &account.User{}, Proven: true}, nil })
	proves := sourceFunc(func(_ context.Context, t *Attempt) (Found, error) {
		if t.Password != "theirs" {
			return Found{}, &Denied{Reason: ReasonPassword}
		}
		return Found{User: &ldap, Proven: true}, nil
	})
	unproven := sourceFunc(func(context.Context, *Attempt) (Found, error) { return Found{User: &ldap}, nil })
	off := ldap
	off.Status = 0
	disabled := sourceFunc(func(context.Context, *Attempt) (Found, error) { return Found{User: &off, Proven: true}, nil })
	for _, c := range []struct {
		name           string
		sources        []Source
		user, password string
		as, reason     string
	}{
		{"store first", []Source{fail}, "ann", "secret", "ann", ""},
		{"store decides", []Source{proves}, "ann", "theirs", "", ReasonPassword},
		{"next source changes the name", []Source{pass, proves}, "DOMAIN\\ldap", "theirs", "ldap", ""},
		{"next source denies", []Source{proves, fail}, "x", "secret", "", ReasonPassword},
		{"a failing source ends the chain", []Source{fail, proves}, "x", "theirs", "", ReasonSource},
		{"no answer", []Source{none, proves}, "x", "theirs", "", ReasonSource},
		{"an account without name", []Source{noName}, "x", "theirs", "", ReasonSource},
		{"found but not proven", []Source{unproven}, "x", "theirs", "", ReasonNoPassword},
		{"proven but not admitted", []Source{disabled}, "x", "theirs", "", ReasonDisabled},
		{"nobody knows", []Source{pass, pass}, "x", "theirs", "", ReasonUnknownUser},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			w := newWorld(t, user("ann"))
			w.sources = append(w.sources, c.sources...)
			id, err := w.Authenticate(t.Context(), password(c.user, c.password))
			wantReason(t, id, err, c.reason)
			if id != nil && id.User.Username != c.as {
				t.Errorf("logged in as %q, want %q", id.User.Username, c.as)
			}
		})
	}
}

// AUTH-6: a malformed name is refused before anything is looked up or hashed.
func TestUserNameGrammar(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"", " ", "a\x00b", "a\nb", "a\x1b[2J", "a/b", "/", "..", ".hidden", "-rf", " -rf", "a\u202eb", "a\u2028b", "a\xffb", strings.Repeat("a", 256), "a\x7f", "a\u0085"} {
		id, err := w.Authenticate(t.Context(), password(name, "secret"))
		wantReason(t, id, err, ReasonUsername)
	}
	if v, d := w.pw.counts(); w.store.count() != 0 || v+d != 0 {
		t.Errorf("%d store reads and %d hashes for malformed names", w.store.count(), v+d)
	}
	for _, name := range []string{"a", "ann@example.org", "Ünïcode", "a.b-c_d~", "DOM\\ann", strings.Repeat("a", 255), "two words"} {
		id, err := w.Authenticate(t.Context(), password(name, "secret"))
		wantReason(t, id, err, ReasonUnknownUser)
	}
}

// AUTH-10: a password of more than 1 KiB is never hashed.
func TestLongPasswordIsNotHashed(t *testing.T) {
	w := newWorld(t, user("ann", func(u *account.User) { u.Password = "h:" + strings.Repeat("x", 1025) }), user("bob", func(u *account.User) { u.Password = "h:" + strings.Repeat("x", 1024) }))
	for _, name := range []string{"ann", "unknown"} {
		id, err := w.Authenticate(t.Context(), password(name, strings.Repeat("x", 1025)))
		wantReason(t, id, err, ReasonTooLong)
	}
	if v, d := w.pw.counts(); v+d != 0 || w.store.count() != 0 {
		t.Errorf("%d hashes, %d reads", v+d, w.store.count())
	}
	id, err := w.Authenticate(t.Context(), password("bob", strings.Repeat("x", 1024)))
	wantReason(t, id, err, "")
}

func TestCurrentFollowsTheAccount(t *testing.T) {
	line, wire := testKey(t, 1)
	w := newWorld(t, user("ann", func(u *account.User) { u.PublicKeys = []string{line} }))
	at := key("ann", wire)
	id, err := w.Authenticate(t.Context(), at)
	wantReason(t, id, err, "")

	save := maps.Clone(w.store.users)
	w.store.users["ann"] = user("ann")
	got, err := w.Current(t.Context(), id, at.Way())
	wantReason(t, got, err, ReasonKey)

	delete(w.store.users, "ann")
	got, err = w.Current(t.Context(), id, at.Way())
	wantReason(t, got, err, ReasonUnknownUser)

	u := save["ann"]
	u.ID = 9
	w.store.users["ann"] = u
	got, err = w.Current(t.Context(), id, at.Way())
	wantReason(t, got, err, ReasonUnknownUser)

	u = save["ann"]
	u.MaxSessions, u.Version = 3, 2
	w.store.users["ann"] = u
	got, err = w.Current(t.Context(), id, at.Way())
	wantReason(t, got, err, "")
	if got.User.MaxSessions != 3 || id.User.MaxSessions != 0 || got.KeyFingerprint != id.KeyFingerprint {
		t.Errorf("got %+v, the old identity is %+v", got, id)
	}
}
