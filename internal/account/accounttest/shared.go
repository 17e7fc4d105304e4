package accounttest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/account"
)

// RunShared checks what nodes tell each other: a and b are two stores on one empty database. kill has a node taken for
// dead, as if its last sign were old.
func RunShared(t *testing.T, open func(t *testing.T) (a, b account.Store, kill func(node string))) {
	type suite func(t *testing.T, a, b account.Store, x, y account.Shared, kill func(string))
	for name, f := range map[string]suite{"nodes": nodes, "leases": leases, "batches": batches, "sessions": sessions, "hosts": hosts, "values": values, "wake": wake} {
		t.Run(name, func(t *testing.T) {
			a, b, kill := open(t)
			f(t, a, b, shared(t, a), shared(t, b), kill)
		})
	}
}

func shared(t *testing.T, s account.Store) account.Shared {
	t.Helper()
	x := s.(interface{ Shared() account.Shared }).Shared()
	if x == nil {
		t.Fatal("the store has no Shared")
	}
	return x
}

func beat(t *testing.T, x account.Shared, node string, fresh bool) {
	t.Helper()
	got, err := x.Beat(t.Context(), account.Node{ID: node, Host: "h"})
	must(t, err)
	if got != fresh {
		t.Fatalf("beat of %s: fresh %v, want %v", node, got, fresh)
	}
}

func nodes(t *testing.T, a, b account.Store, x, y account.Shared, kill func(string)) {
	ctx := t.Context()
	beat(t, x, "a", true)
	beat(t, y, "b", true)
	beat(t, x, "a", false)
	l, err := y.Nodes(ctx)
	must(t, err)
	if len(l) != 2 || l[0].ID != "a" || l[1].Host != "h" || l[0].LastSeen == 0 {
		t.Errorf("nodes: %+v", l)
	}
	u := User("u")
	must(t, a.AddUser(ctx, &u))
	key := account.CounterKey{Kind: account.KindUser, Name: "u"}
	must(t, a.MarkDirty(ctx, "a", []account.CounterKey{key}))
	if o, err := y.Orphans(ctx); err != nil || len(o) != 0 {
		t.Errorf("orphans of living nodes: %v, %v", o, err)
	}
	for node, want := range map[string]bool{"a": false, "b": true} {
		if got, err := y.DirtyElsewhere(ctx, node, key); err != nil || got != want {
			t.Errorf("seen from %s, dirty elsewhere: %v, %v", node, got, err)
		}
	}
	kill("a")
	if o, err := y.Orphans(ctx); err != nil || len(o) != 1 || o[0] != "a" {
		t.Errorf("orphans: %v, %v; want a", o, err)
	}
	if l, err := y.Nodes(ctx); err != nil || len(l) != 1 || l[0].ID != "b" {
		t.Errorf("nodes: %+v, %v", l, err)
	}
	beat(t, x, "a", true)
	must(t, y.Leave(ctx, "b"))
	if l, err := x.Nodes(ctx); err != nil || len(l) != 1 || l[0].ID != "a" {
		t.Errorf("after b left: %+v, %v", l, err)
	}
	if ok, err := x.ReplaceUsage(ctx, key, account.Usage{Files: 1}, 5, 50); err != nil || ok {
		t.Errorf("a use that had changed was replaced: %v, %v", ok, err)
	}
	if ok, err := x.ReplaceUsage(ctx, key, account.Usage{}, 5, 50); err != nil || !ok {
		t.Errorf("replace the use: %v, %v", ok, err)
	}
	must(t, x.Sweep(ctx, time.Minute))
}

// leases: whatever two nodes ask for at once, they never hold more than the limit.
func leases(t *testing.T, a, b account.Store, x, y account.Shared, kill func(string)) {
	ctx := t.Context()
	u := User("u")
	must(t, a.AddUser(ctx, &u))
	key := account.CounterKey{Kind: account.KindUser, Name: "u"}
	limit := account.Room{Files: 10, Bytes: 1000}
	if _, _, err := x.Lease(ctx, "a", key, account.Room{Files: 1}, account.Room{}, limit); !errors.Is(err, account.ErrFenced) {
		t.Errorf("a lease of a node that does not live: %v, want ErrFenced", err)
	}
	beat(t, x, "a", true)
	beat(t, y, "b", true)
	must(t, a.SetUsage(ctx, key, 2, 200))
	got, use, err := x.Lease(ctx, "a", key, account.Room{Files: 3, Bytes: 100}, account.Room{Bytes: 10_000}, limit)
	must(t, err)
	if got != (account.Room{Files: 3, Bytes: 100 + 700/4}) || use.Files != 2 || use.Bytes != 200 {
		t.Errorf("a holds %+v of what leaves %+v", got, use)
	}
	got, _, err = y.Lease(ctx, "b", key, account.Room{Files: 20, Bytes: 2000}, account.Room{}, limit)
	must(t, err)
	if got != (account.Room{Files: 5, Bytes: 525}) {
		t.Errorf("b holds %+v, want what a leaves", got)
	}
	kill("b")
	got, _, err = x.Lease(ctx, "a", key, account.Room{Files: 8, Bytes: 800}, account.Room{}, limit)
	must(t, err)
	if got != (account.Room{Files: 8, Bytes: 800}) {
		t.Errorf("after b died a holds %+v, want all that is left", got)
	}
	beat(t, y, "b", true)
	got, _, err = y.Lease(ctx, "b", key, account.Room{Files: 1, Bytes: 1}, account.Room{}, limit)
	must(t, err)
	if got != (account.Room{}) {
		t.Errorf("b came back and holds %+v, want nothing", got)
	}
	if _, _, err := x.Lease(ctx, "a", account.CounterKey{Kind: account.KindFolder, Name: "none"}, account.Room{Files: 1}, account.Room{}, limit); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("a lease of what is not there: %v", err)
	}
}

// batches: many nodes settle at once what they have, some twice; the sum is exact.
func batches(t *testing.T, a, b account.Store, x, y account.Shared, kill func(string)) {
	ctx := t.Context()
	var keys []account.CounterKey
	for i := range 3 {
		u := User(fmt.Sprint("u", i))
		must(t, a.AddUser(ctx, &u))
		keys = append(keys, account.CounterKey{Kind: account.KindUser, Name: u.Username})
	}
	beat(t, x, "a", true)
	beat(t, y, "b", true)
	var wg sync.WaitGroup
	for node, s := range map[string]account.Shared{"a": x, "b": y} {
		wg.Go(func() {
			for batch := range int64(20) {
				var list []account.Settlement
				for i := range keys { // in different orders
					k := keys[i]
					if node == "b" {
						k = keys[len(keys)-1-i]
					}
					list = append(list, account.Settlement{Delta: account.Delta{Key: k, Files: 1, Bytes: 10}, Lease: account.Room{Bytes: 5}})
				}
				for range 1 + batch%2 {
					if err := s.SettleLeased(ctx, node, batch+1, list); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	for _, k := range keys {
		if u, err := a.Usage(ctx, k); err != nil || u.Files != 40 || u.Bytes != 400 {
			t.Errorf("%s: %+v, %v; want 40 files, 400 bytes", k.Name, u, err)
		}
	}
	got, _, err := x.Lease(ctx, "a", keys[0], account.Room{Bytes: 1000}, account.Room{}, account.Room{Bytes: 500})
	must(t, err)
	if got.Bytes != 95 { // 500, less 400 used, less 5 of b
		t.Errorf("a holds %d bytes, want 95", got.Bytes)
	}
	kill("a")
	if err := x.SettleLeased(ctx, "a", 100, nil); !errors.Is(err, account.ErrFenced) {
		t.Errorf("a dead node settled: %v", err)
	}
	beat(t, x, "a", true)
	must(t, x.SettleLeased(ctx, "a", 20, []account.Settlement{{Delta: account.Delta{Key: keys[0], Files: 1}}})) // was done before the death
	if u, err := a.Usage(ctx, keys[0]); err != nil || u.Files != 40 {
		t.Errorf("an old batch was applied again: %+v, %v", u, err)
	}
}

// sessions: a storm on both nodes never opens more than the user may have.
func sessions(t *testing.T, a, b account.Store, x, y account.Shared, kill func(string)) {
	ctx := t.Context()
	u := User("u")
	must(t, a.AddUser(ctx, &u))
	beat(t, x, "a", true)
	beat(t, y, "b", true)
	var open, most atomic.Int64
	var wg sync.WaitGroup
	for i := range 16 {
		node, s := "a", x
		if i%2 == 1 {
			node, s = "b", y
		}
		wg.Go(func() {
			for j := range 5 {
				id := fmt.Sprint(i, "-", j)
				ok, err := s.EnterSession(ctx, node, id, "u", 2)
				if err != nil {
					t.Error(err)
				}
				if !ok {
					continue
				}
				n := open.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				open.Add(-1)
				if err := s.LeaveSession(ctx, node, id); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if most.Load() > 2 || most.Load() == 0 {
		t.Errorf("%d sessions were open at once, want 1 or 2", most.Load())
	}
	for i := range 3 {
		if ok, err := x.EnterSession(ctx, "a", fmt.Sprint("s", i), "u", 2); err != nil || ok != (i < 2) {
			t.Errorf("session %d: %v, %v", i, ok, err)
		}
	}
	if ok, err := y.EnterSession(ctx, "b", "t", "u", 2); err != nil || ok {
		t.Errorf("a third session on another node: %v, %v", ok, err)
	}
	kill("a")
	if ok, err := y.EnterSession(ctx, "b", "t", "u", 2); err != nil || !ok {
		t.Errorf("after the other node died: %v, %v", ok, err)
	}
}

func hosts(t *testing.T, _, _ account.Store, x, y account.Shared, _ func(string)) {
	ctx := t.Context()
	for i, s := range []account.Shared{x, y, x} {
		if n, err := s.ScoreHost(ctx, "192.0.2.1", 2, time.Minute); err != nil || n != 2*(i+1) {
			t.Errorf("score %d: %d, %v", i, n, err)
		}
	}
	must(t, y.BanHost(ctx, "192.0.2.1", time.Minute))
	must(t, y.BanHost(ctx, "192.0.2.1", time.Second)) // does not shorten it
	if _, err := y.ScoreHost(ctx, "2001:db8::", 1, time.Minute); err != nil {
		t.Error(err)
	}
	l, at, err := x.HostsSince(ctx, 0, time.Minute)
	must(t, err)
	if len(l) != 2 || l[0].Host != "192.0.2.1" || l[0].Score != 0 || l[0].Ban < 30*time.Second || l[0].Ban > time.Minute || l[1].Score != 1 || l[1].Ban != 0 {
		t.Errorf("hosts: %+v", l)
	}
	must(t, x.ExtendBan(ctx, "192.0.2.1", time.Minute, time.Hour))
	must(t, x.ExtendBan(ctx, "192.0.2.1", time.Hour, time.Hour)) // more than the most
	must(t, x.ExtendBan(ctx, "192.0.2.9", time.Minute, time.Hour))
	l, _, err = y.HostsSince(ctx, at, time.Minute)
	must(t, err)
	if len(l) == 0 || l[0].Ban < 90*time.Second || l[0].Ban > 2*time.Minute {
		t.Errorf("after it was extended: %+v", l)
	}
	if ok, err := y.FreeHost(ctx, "192.0.2.1"); err != nil || !ok {
		t.Errorf("free: %v, %v", ok, err)
	}
	if ok, err := y.FreeHost(ctx, "192.0.2.1"); err != nil || ok {
		t.Errorf("free again: %v, %v", ok, err)
	}
	l, _, err = x.HostsSince(ctx, at, time.Minute)
	must(t, err)
	if len(l) == 0 || l[0].Ban != 0 {
		t.Errorf("after it was freed: %+v", l)
	}
}

func values(t *testing.T, _, _ account.Store, x, y account.Shared, _ func(string)) {
	ctx := t.Context()
	must(t, x.PutValue(ctx, "revoked", "k", []byte("1"), time.Hour))
	must(t, x.PutValue(ctx, "revoked", "k", []byte("2"), time.Hour))
	must(t, x.PutValue(ctx, "revoked", "over", []byte("1"), -time.Second))
	if v, ok, err := y.Value(ctx, "revoked", "k"); err != nil || !ok || string(v) != "2" {
		t.Errorf("value: %q, %v, %v", v, ok, err)
	}
	for _, k := range []string{"over", "none"} {
		if _, ok, err := y.Value(ctx, "revoked", k); err != nil || ok {
			t.Errorf("%s: %v, %v", k, ok, err)
		}
	}
	l, at, err := y.ValuesSince(ctx, "revoked", 0)
	must(t, err)
	if len(l) != 1 || l[0].Key != "k" {
		t.Errorf("values: %+v", l)
	}
	if l, _, err := y.ValuesSince(ctx, "revoked", at+int64(time.Hour/time.Millisecond)); err != nil || len(l) != 0 {
		t.Errorf("values of later: %+v, %v", l, err)
	}
	var wins atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		s := x
		if i%2 == 1 {
			s = y
		}
		wg.Go(func() {
			mine, err := s.ClaimValue(ctx, "claim", "backup", []byte(fmt.Sprint(i)), time.Hour)
			if err != nil {
				t.Error(err)
			}
			if mine {
				wins.Add(1)
			}
		})
	}
	wg.Wait()
	if wins.Load() != 1 {
		t.Errorf("%d claimed it, want 1", wins.Load())
	}
	must(t, x.DropValue(ctx, "claim", "backup"))
	if mine, err := y.ClaimValue(ctx, "claim", "backup", []byte("new"), time.Hour); err != nil || !mine {
		t.Errorf("a claim of what was dropped: %v, %v", mine, err)
	}
	must(t, x.Sweep(ctx, time.Minute))
}

// wake: where the database can tell, a change on one node is heard on the other.
func wake(t *testing.T, a, _ account.Store, _, y account.Shared, _ func(string)) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	heard, over := make(chan struct{}, 100), make(chan error, 1)
	go func() { over <- y.Listen(ctx, func() { heard <- struct{}{} }) }()
	select {
	case err := <-over:
		if err != nil {
			t.Error(err)
		}
		return // it cannot
	case <-heard: // the first call, when it listens
	}
	u := User("u")
	must(t, a.AddUser(ctx, &u))
	select {
	case <-heard:
	case <-time.After(30 * time.Second):
		t.Error("the change was not heard")
	}
	cancel()
	if err := <-over; err == nil {
		t.Error("a listener that ended told no error")
	}
}
