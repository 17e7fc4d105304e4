package guard

import (
	"net/netip"
	"testing"
)

func TestDecisionsAreCounted(t *testing.T) {
	cfg := Config{MaxTotal: 3, MaxPerHost: 2, Defender: DefaultConfig().Defender, RateLimiters: []LimiterConfig{{
		Average: 1, Period: 60_000, Burst: 1, Type: 2, Protocols: []string{"DAV"}, SoftLimit: 1, HardLimit: 2}}}
	cfg.Defender.Enabled = true
	g := New(cfg, quiet(), nil)
	admit := func(addr string, p Protocol) { g.Admit(t.Context(), netip.MustParseAddr(addr), p) }
	for range 3 { // the third is one too many from its host
		admit("192.0.2.1", SSH)
	}
	admit("192.0.2.2", FTP)
	admit("192.0.2.3", FTP) // one too many in all
	bad := netip.MustParseAddr("192.0.2.9")
	for range cfg.Defender.Threshold {
		g.Event(bad, SSH, LoginFailed)
	}
	g.Knock(bad, HTTP)
	g.Take(t.Context(), netip.MustParseAddr("192.0.2.4"), DAV)
	g.Take(t.Context(), netip.MustParseAddr("192.0.2.4"), DAV)
	g.Admit(t.Context(), bad, 0)
	s := g.Stats()
	want := map[[2]int]uint64{{0, 0}: 2, {0, 4}: 1, {1, 0}: 1, {1, 5}: 1, {3, 3}: 1, {2, 6}: 1, {4, 3}: 1}
	for p := range s.Said {
		for d, n := range s.Said[p] {
			if n != want[[2]int{p, d}] {
				t.Errorf("protocol %d, %s: got %d, want %d", p, Decisions[d], n, want[[2]int{p, d}])
			}
		}
	}
	if s.Connections != 3 || s.Banned != 1 || s.Scored != 1 || s.RateWaiting != 0 { // .1 is scored for its third connection
		t.Errorf("got %+v", s)
	}
}
