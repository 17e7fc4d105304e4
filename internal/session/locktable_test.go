package session

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/account/kvstore"
	"github.com/gantryhq/gantry/internal/account/recordstore"
)

// countingProps counts the reads of a store.
type countingProps struct {
	kept
	reads int
}

type kept interface{ account.Props }

func (c *countingProps) Props(ctx context.Context, at account.Resource) ([]account.Prop, error) {
	c.reads++
	return c.kept.Props(ctx, at)
}

func (c *countingProps) PropsIn(ctx context.Context, dir account.Resource, n int) (map[string][]account.Prop, bool, error) {
	c.reads++
	return c.kept.PropsIn(ctx, dir, n)
}

func memoryStore() *recordstore.Store {
	return kvstore.Memory(recordstore.Config{Rules: account.DefaultRules()})
}

func TestPropertiesAreReadOnlyWhereThereAreAny(t *testing.T) {
	ctx := t.Context()
	c := &countingProps{kept: memoryStore()}
	var s propStore
	s.init(c)
	at := func(p string) lockKey { return lockKey{"local", p} }
	if _, err := s.of(ctx, at("/a/b")); err != nil || c.reads != 1 {
		t.Errorf("before it is known what there is, the store is asked: %d reads, %v", c.reads, err)
	}
	if err := s.sync(ctx); err != nil {
		t.Fatal(err)
	}
	c.reads = 0
	s.of(ctx, at("/a/b"))
	s.in(ctx, at("/a"))
	if c.reads != 0 || !s.none() {
		t.Errorf("%d reads of a store that has none", c.reads)
	}
	if err := s.patch(ctx, at("/a/b/c"), []Prop{{PropName: PropName{Local: "x"}}}, nil); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"/a", "/a/b", "", "/x/y"} {
		s.of(ctx, at(p))
	}
	s.in(ctx, at("/a"))
	if c.reads != 0 {
		t.Errorf("%d reads of directories without properties", c.reads)
	}
	list, err := s.of(ctx, at("/a/b/c"))
	in, _, _ := s.in(ctx, at("/a/b"))
	if err != nil || len(list) != 1 || len(in["c"]) != 1 || c.reads != 2 {
		t.Errorf("%v, %v, %v; %d reads", list, in, err, c.reads)
	}
	var other propStore
	other.init(c)
	if err := other.sync(ctx); err != nil || !other.may(at("/a/b"), false) || !other.may(at("/a"), true) || other.may(at("/a"), false) {
		t.Errorf("after a restart: %v", err)
	}
	// What has been taken away is forgotten when the sets are read again.
	s.remove(ctx, at("/a/b/c"), false)
	if err := s.sync(ctx); err != nil || !s.none() {
		t.Errorf("nothing is left: %v, %v", err, s.none())
	}
}

func TestLocksOfOneUserAndOfAllAreBounded(t *testing.T) { // DAV-3
	var tab lockTable
	tab.init(nil)
	now := time.Now()
	add := func(user string, i int) error {
		return tab.add(t.Context(), account.Lock{Token: fmt.Sprint(user, i), Storage: "s", Path: fmt.Sprintf("/%s/%d", user, i),
			Exclusive: true, Username: user, Expires: now.Add(time.Minute).UnixMilli()}, now, func(context.Context) error { return nil })
	}
	for i := range 100_000 {
		if err := add("bomb", i); err != nil && i < maxUserLocks || err == nil && i >= maxUserLocks {
			t.Fatalf("lock %d: %v", i, err)
		}
	}
	for u := 0; u < maxLocks/maxUserLocks+1; u++ {
		for i := range maxUserLocks {
			add(fmt.Sprint("u", u), i)
		}
	}
	if n := tab.n.Load(); n != maxLocks {
		t.Errorf("%d locks in all, want %d", n, maxLocks)
	}
	// What is over makes room.
	now = now.Add(2 * time.Minute)
	if err := add("bomb", 100_001); err != nil {
		t.Error(err)
	}
}

func TestLockScopes(t *testing.T) {
	k := func(p string) lockKey { return lockKey{"s", p} }
	for _, c := range []struct {
		root     string
		infinite bool
		at       string
		covers   bool
		reaches  bool
	}{
		{"/a", false, "/a", true, true},
		{"/a", false, "/a/b", false, true}, // a member
		{"/a", false, "/a/b/c", false, false},
		{"/a", false, "/ab", false, false}, // PATH-3
		{"/a", true, "/ab", false, false},
		{"/a", true, "/a/b/c", true, true},
		{"/a/b", false, "/a", false, true}, // a tree is moved
		{"/a/b", false, "", false, true},
		{"", true, "/x/y", true, true},
		{"", false, "/x", false, true},
	} {
		l := &account.Lock{Storage: "s", Path: c.root, Infinite: c.infinite}
		if got := covers(l, k(c.at)); got != c.covers {
			t.Errorf("%q (infinite %v) covers %q: %v", c.root, c.infinite, c.at, got)
		}
		if got := reaches(l, k(c.at)); got != c.reaches {
			t.Errorf("%q (infinite %v) reaches %q: %v", c.root, c.infinite, c.at, got)
		}
	}
}
