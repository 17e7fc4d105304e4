package guard

import (
	"net/netip"
	"testing"
)

// limited is a guard whose limiters never have anybody wait.
func limited() *Guard {
	l := DefaultLimiter()
	l.Average, l.Burst, l.SoftLimit, l.HardLimit = 1_000_000, 1_000_000_000, 1000, 1500
	all := l
	all.Type = 1
	return New(Config{MaxTotal: 1 << 20, MaxPerHost: 1 << 20, RateLimiters: []LimiterConfig{all, l}}, quiet(), nil)
}

// What every connection and every request of WebDAV and HTTP asks.
func TestTakingAllocatesNothing(t *testing.T) {
	g, a := limited(), netip.MustParseAddr("2001:db8::1")
	if g.Unlimited() {
		t.Fatal("there are no limiters")
	}
	if n := testing.AllocsPerRun(1000, func() {
		if err := g.Take(t.Context(), a, DAV); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTake(b *testing.B) {
	g := limited()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if err := g.Take(b.Context(), netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), DAV); err != nil {
				b.Fatal(err)
			}
		}
	})
}
