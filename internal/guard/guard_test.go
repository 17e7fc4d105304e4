package guard

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
)

func TestCapsAreCheckedAndCountedInOneStep(t *testing.T) {
	g := New(Config{MaxTotal: 50, MaxPerHost: 10})
	a := netip.MustParseAddr("192.0.2.1")
	var in atomic.Int64
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if _, err := g.Admit(t.Context(), a); err == nil {
				in.Add(1)
			} else if !errors.Is(err, ErrTooMany) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if in.Load() != 10 {
		t.Errorf("admitted %d, want 10", in.Load())
	}
}

func TestReleaseCountsOnce(t *testing.T) {
	g := New(Config{MaxPerHost: 1})
	a := netip.MustParseAddr("::ffff:192.0.2.1")
	r, err := g.Admit(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	r()
	r()
	for i := range 2 {
		if _, err := g.Admit(t.Context(), netip.MustParseAddr("192.0.2.1")); (err == nil) != (i == 0) {
			t.Errorf("admit %d after two releases: %v", i+1, err)
		}
	}
	if len(g.hosts) != 1 {
		t.Errorf("hosts kept: %d", len(g.hosts))
	}
}

func TestIPv6CountsByItsNetwork(t *testing.T) {
	g := New(Config{MaxPerHost: 1})
	g.Admit(t.Context(), netip.MustParseAddr("2001:db8::1"))
	if _, err := g.Admit(t.Context(), netip.MustParseAddr("2001:db8::2")); err == nil {
		t.Error("two addresses of one /64 were counted apart")
	}
	if _, err := g.Admit(t.Context(), netip.MustParseAddr("2001:db8:0:1::1")); err != nil {
		t.Errorf("another /64: %v", err)
	}
}
