package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gantryhq/gantry/cache"
	"github.com/gantryhq/gantry/internal/account"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A warm login makes no store read and no password hash, by password and by key.
func TestWarmLoginReadsAndHashesNothing(t *testing.T) {
	line, wire := testKey(t, 1)
	w := newWorld(t, user("ann", func(u *account.User) {
		u.PublicKeys = []string{line}
		u.Groups = []account.GroupMapping{{Name: "staff", Type: account.GroupPrimary}}
	}))
	w.store.groups["staff"] = account.Group{Name: "staff"}
	w.follow(t)
	attempts := []*Attempt{password("ann", "secret"), key("ann", wire)}
	var cold *Identity
	for _, a := range attempts {
		id, err := w.Authenticate(t.Context(), a)
		wantReason(t, id, err, "")
		w.settle()
		cold = id
	}
	reads := w.store.count()
	v0, d0 := w.pw.counts()
	for _, a := range attempts {
		id, err := w.Authenticate(t.Context(), a)
		wantReason(t, id, err, "")
		if id.User != cold.User {
			t.Error("a warm login gave another copy of the account: policies would be compiled anew")
		}
		if _, err := w.Current(t.Context(), id, a.Way()); err != nil {
			t.Error(err)
		}
	}
	v1, d1 := w.pw.counts()
	if n := w.store.count() - reads; n != 0 || v1 != v0 || d1 != d0 {
		t.Errorf("warm logins: %d store reads, %d verifications, %d dummies, want none", n, v1-v0, d1-d0)
	}
	// The wrong password of a warm account costs a hash.
	id, err := w.Authenticate(t.Context(), password("ann", "wrong"))
	wantReason(t, id, err, ReasonPassword)
	if v2, _ := w.pw.counts(); v2 != v1+1 {
		t.Errorf("a wrong guess cost %d hashes, want 1", v2-v1)
	}
}

func TestWithoutCachingEveryLoginHashes(t *testing.T) {
	w := newWorld(t, user("ann"))
	w.verified.close()
	w.verified = nil
	for i := range 3 {
		id, err := w.Authenticate(t.Context(), password("ann", "secret"))
		wantReason(t, id, err, "")
		if v, _ := w.pw.counts(); v != i+1 {
			t.Errorf("%d hashes after %d logins", v, i+1)
		}
	}
	// Close must not close the memo twice.
}

// Verified passwords are kept as a keyed hash, bound to the stored one.
func TestVerifiedPasswordIsBoundToTheStoredHash(t *testing.T) {
	w := newWorld(t, user("ann"), user("bob"))
	in := func(name, plain, reason string) {
		t.Helper()
		id, err := w.Authenticate(t.Context(), password(name, plain))
		wantReason(t, id, err, reason)
		w.settle()
	}
	in("ann", "secret", "")
	v0, _ := w.pw.counts()
	in("ann", "secret", "")
	in("bob", "secret", "")
	if v, _ := w.pw.counts(); v != v0+1 {
		t.Errorf("%d hashes, want one for bob", v-v0)
	}
	w.store.set(func() { w.store.users["ann"] = user("ann", func(u *account.User) { u.Password = "h:new" }) })
	in("ann", "secret", ReasonPassword)
	in("ann", "new", "")
	sums := map[proof]bool{}
	for _, c := range [][3]string{{"ann", "h", "x"}, {"ann", "hx", ""}, {"annh", "", "x"}, {"ann", "h", "y"}, {"bob", "h", "x"}} {
		sums[w.verified.sum(&account.User{Username: c[0], Password: c[1]}, c[2])] = true
	}
	if len(sums) != 5 {
		t.Errorf("%d different proofs of 5", len(sums))
	}
	other := newWorld(t)
	if u := user("ann"); w.verified.sum(&u, "secret") == other.verified.sum(&u, "secret") {
		t.Error("two processes keep the same hash: it has no key")
	}
}

// slowPasswords has its checks wait.
type slowPasswords struct {
	fakePasswords
	begun chan struct{}
	go_   chan struct{}
}

func (p *slowPasswords) Verify(ctx context.Context, stored, plain string) (bool, error) {
	p.begun <- struct{}{}
	<-p.go_
	return p.fakePasswords.Verify(ctx, stored, plain)
}

func (p *slowPasswords) Dummy(ctx context.Context, plain string) error {
	p.begun <- struct{}{}
	<-p.go_
	return p.fakePasswords.Dummy(ctx, plain)
}

// Many connections with one password cost one hash; guesses cost one each, of unknown users too (AUTH-4).
func TestConnectionsTogetherCostOneHash(t *testing.T) {
	for _, c := range []struct {
		name, plain string
		ok          bool
		want        int
	}{{"ann", "secret", true, 1}, {"ann", "wrong", false, 8}, {"unknown", "wrong", false, 8}} {
		w := newWorld(t, user("ann"))
		slow := &slowPasswords{begun: make(chan struct{}), go_: make(chan struct{})}
		w.passwords = slow
		var wg sync.WaitGroup
		ready := make(chan struct{}, 8)
		for range 8 {
			wg.Go(func() {
				ready <- struct{}{}
				id, err := w.Authenticate(t.Context(), password(c.name, c.plain))
				if (err == nil) != c.ok || (id != nil) != c.ok {
					t.Errorf("%s: %v", c.name, err)
				}
			})
		}
		for range 8 {
			<-ready
		}
		<-slow.begun
		w.settle()
		go func() { // the others come after the first has begun, or find it proven
			for range slow.begun {
			}
		}()
		close(slow.go_)
		wg.Wait()
		close(slow.begun)
		v, d := slow.counts()
		if c.ok && v > 2 || !c.ok && v+d != c.want {
			t.Errorf("%s with %q: %d hashes, want %d", c.name, c.plain, v+d, c.want)
		}
		if len(w.verified.waiting) != 0 {
			t.Errorf("%d checks are still under way", len(w.verified.waiting))
		}
	}
}

func TestChangesAreSeen(t *testing.T) {
	w := newWorld(t, user("ann"), user("bob", func(u *account.User) { u.ID = 2 }))
	told := make(chan Changed, 10)
	w.OnChange(func(_ context.Context, ch Changed) { told <- ch })
	w.follow(t)
	if ch := <-told; !ch.All {
		t.Errorf("the first poll told %+v, want all", ch)
	}
	login := func(name string) (reads int) {
		t.Helper()
		n := w.store.count()
		id, err := w.Authenticate(t.Context(), password(name, "secret"))
		wantReason(t, id, err, "")
		w.settle()
		return w.store.count() - n
	}
	login("ann")
	login("bob")
	// Another process disables ann.
	w.store.set(func() {
		w.store.users["ann"] = user("ann", func(u *account.User) { u.Status = 0 })
		w.store.change(account.KindUser, "ann")
		w.store.change(account.KindShare, "s")
		w.store.change(account.KindLock, "urn:uuid:1")
	})
	w.poll()
	if ch := <-told; ch.All || !ch.Kept || !slices.Equal(ch.Users, []string{"ann"}) {
		t.Errorf("told %+v, want ann", ch)
	}
	id, err := w.Authenticate(t.Context(), password("ann", "secret"))
	wantReason(t, id, err, ReasonDisabled)
	if n := login("bob"); n != 0 {
		t.Errorf("a change of ann cost bob %d reads", n)
	}
	// A group or a folder may belong to anybody.
	w.store.set(func() { w.store.change(account.KindGroup, "g") })
	w.poll()
	if ch := <-told; !ch.All {
		t.Errorf("a group changed: told %+v, want all", ch)
	}
	if n := login("bob"); n != 1 {
		t.Errorf("a group changed: %d reads, want 1", n)
	}
	// A name that was not there is looked for again when it is made.
	for range 2 {
		id, err := w.Authenticate(t.Context(), password("new", "secret"))
		wantReason(t, id, err, ReasonUnknownUser)
		w.settle()
	}
	w.store.set(func() {
		w.store.users["new"] = user("new", func(u *account.User) { u.ID = 3 })
		w.store.change(account.KindUser, "new")
	})
	w.poll()
	<-told
	login("new")
	// This process's own changes need no poll.
	w.store.set(func() { delete(w.store.users, "new") })
	w.Forget(account.KindUser, "NEW ")
	<-told
	id, err = w.Authenticate(t.Context(), password("new", "secret"))
	wantReason(t, id, err, ReasonUnknownUser)
}

func TestUnknownNamesAreRemembered(t *testing.T) {
	w := newWorld(t, user("ann"))
	w.follow(t)
	for i := range 2 {
		n := w.store.count()
		id, err := w.Authenticate(t.Context(), password("nobody", "secret"))
		wantReason(t, id, err, ReasonUnknownUser)
		w.settle()
		if got := w.store.count() - n; got != 1-i {
			t.Errorf("try %d: %d reads, want %d", i+1, got, 1-i)
		}
	}
}

// AUTH-5: a store whose changes cannot be read is asked at each login, and grants nothing while it fails.
func TestLostChangesRememberNothing(t *testing.T) {
	w := newWorld(t, user("ann"))
	w.follow(t)
	at := password("ann", "secret")
	id, err := w.Authenticate(t.Context(), at)
	wantReason(t, id, err, "")
	w.settle()
	w.store.set(func() { w.store.seqErr, w.store.err = errors.New("boom"), errors.New("boom") })
	w.poll()
	got, err := w.Authenticate(t.Context(), at)
	wantReason(t, got, err, ReasonStore)
	got, err = w.Current(t.Context(), id, at.Way())
	wantReason(t, got, err, ReasonStore)
	w.store.set(func() { w.store.err = nil })
	for range 2 {
		n := w.store.count()
		id, err := w.Authenticate(t.Context(), at)
		wantReason(t, id, err, "")
		w.settle()
		if got := w.store.count() - n; got != 1 {
			t.Errorf("while changes are lost: %d reads, want 1", got)
		}
	}
	w.store.set(func() { w.store.seqErr = nil })
	w.poll()
	for i := range 2 {
		n := w.store.count()
		id, err := w.Authenticate(t.Context(), at)
		wantReason(t, id, err, "")
		w.settle()
		if got := w.store.count() - n; got != 1-i {
			t.Errorf("after changes are heard again, try %d: %d reads, want %d", i+1, got, 1-i)
		}
	}
}

func TestNothingIsRememberedWithoutFollowing(t *testing.T) {
	w := newWorld(t, user("ann"))
	for range 2 {
		id, err := w.Authenticate(t.Context(), password("ann", "secret"))
		wantReason(t, id, err, "")
		w.settle()
	}
	if n := w.store.count(); n != 2 {
		t.Errorf("%d reads, want 2", n)
	}
}

// A slow subscriber holds up neither the follower nor the others' memory.
func TestSlowSubscriberIsToldTogether(t *testing.T) {
	w := newWorld(t)
	begun, go_ := make(chan Changed), make(chan struct{})
	w.OnChange(func(_ context.Context, ch Changed) {
		begun <- ch
		<-go_
	})
	w.follow(t)
	<-begun // all, from the first poll
	for i := range 3 {
		w.store.set(func() { w.store.change(account.KindUser, fmt.Sprint("u", i)) })
		w.poll()
	}
	go_ <- struct{}{}
	if ch := <-begun; ch.All || !slices.Equal(ch.Users, []string{"u0", "u1", "u2"}) {
		t.Errorf("told %+v, want three users", ch)
	}
	for i := range maxChanged + 1 {
		w.changes.tell(Changed{Users: []string{fmt.Sprint(i)}})
	}
	go_ <- struct{}{}
	if ch := <-begun; !ch.All || len(ch.Users) != 0 {
		t.Errorf("told %d users, want all", len(ch.Users))
	}
	close(go_)
}

func TestNewFollowsAtOnce(t *testing.T) {
	s := newFakeStore(user("ann"))
	a, err := New(Config{Caching: true}, s, &fakePasswords{}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan Changed, 1)
	a.OnChange(func(_ context.Context, ch Changed) { told <- ch })
	a.Forget(account.KindRole, "x") // the first poll may have been told before OnChange
	select {
	case <-told:
	case <-time.After(5 * time.Second):
		t.Error("nothing is told")
	}
	a.Close()
	if _, err := a.Authenticate(t.Context(), password("ann", "secret")); err != nil {
		t.Errorf("after Close: %v", err) // without memory, as right as before
	}
	for _, c := range []struct {
		s  Store
		pw Passwords
		l  *slog.Logger
	}{{nil, &fakePasswords{}, slog.Default()}, {s, nil, slog.Default()}, {s, &fakePasswords{}, nil}} {
		if _, err := New(Config{}, c.s, c.pw, c.l, nil); err == nil {
			t.Errorf("New with %+v: no error", c)
		}
	}
}

func benchWorld(b *testing.B, u account.User) *world {
	w := newWorld(b, u)
	w.start(cache.FollowConfig{Tick: w.tick})
	w.poll()
	w.Authenticate(b.Context(), password("ann", "secret"))
	w.settle()
	b.ReportAllocs()
	return w
}

func BenchmarkWarmPassword(b *testing.B) {
	w := benchWorld(b, user("ann"))
	at := password("ann", "secret")
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := w.Authenticate(b.Context(), at); err != nil {
				b.Fatal(err)
			}
		}
	})
	if v, _ := w.pw.counts(); v != 1 {
		b.Errorf("%d hashes", v)
	}
}

func BenchmarkWarmKey(b *testing.B) {
	line, wire := testKey(b, 1)
	w := benchWorld(b, user("ann", func(u *account.User) { u.PublicKeys = []string{line} }))
	at := key("ann", wire)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := w.Authenticate(b.Context(), at); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkCurrent(b *testing.B) {
	w := benchWorld(b, user("ann"))
	at := password("ann", "secret")
	id, err := w.Authenticate(b.Context(), at)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := w.Current(b.Context(), id, at.Way()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBcrypt10(b *testing.B) {
	h, err := NewHasher(DefaultHashConfig(), 1)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		h.Dummy(b.Context(), "secret")
	}
}
