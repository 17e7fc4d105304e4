package guard

import (
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// hosts counts the hosts that are remembered.
func (g *Guard) hosts() int {
	n := 0
	for i := range g.shards {
		g.shards[i].mu.Lock()
		n += len(g.shards[i].hosts)
		g.shards[i].mu.Unlock()
	}
	return n
}

func TestCapsAreCheckedAndCountedInOneStep(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want int64
	}{{Config{MaxTotal: 50, MaxPerHost: 10}, 10}, {Config{MaxTotal: 7, MaxPerHost: 10}, 7}, {Config{MaxTotal: 7}, 7}, {Config{}, 100}} {
		g := New(c.cfg, quiet(), nil)
		a := netip.MustParseAddr("192.0.2.1")
		var in atomic.Int64
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if _, err := g.Admit(t.Context(), a, SSH); err == nil {
					in.Add(1)
				} else if !errors.Is(err, ErrTooMany) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if in.Load() != c.want || int64(g.Total()) != c.want {
			t.Errorf("%+v: admitted %d, counted %d, want %d", c.cfg, in.Load(), g.Total(), c.want)
		}
	}
}

func TestReleaseCountsOnce(t *testing.T) {
	g := New(Config{MaxPerHost: 1}, quiet(), nil)
	a := netip.MustParseAddr("::ffff:192.0.2.1")
	r, err := g.Admit(t.Context(), a, SSH)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(r)
	}
	wg.Wait()
	for i := range 2 {
		if _, err := g.Admit(t.Context(), netip.MustParseAddr("192.0.2.1"), SSH); (err == nil) != (i == 0) {
			t.Errorf("admit %d after the releases: %v", i+1, err)
		}
	}
	if g.hosts() != 1 || g.Total() != 1 {
		t.Errorf("%d hosts and %d connections are kept, want 1 and 1", g.hosts(), g.Total())
	}
}

func TestIPv6CountsByItsNetwork(t *testing.T) {
	g := New(Config{MaxPerHost: 1}, quiet(), nil)
	for _, c := range []struct {
		addr string
		ok   bool
	}{
		{"2001:db8::1", true}, {"2001:db8::2", false}, {"2001:db8:0:1::1", true},
		{"fe80::1%eth0", true}, {"fe80::1%eth1", false}, // a zone makes no other host
		{"::1", true}, {"::1", false}, {"127.0.0.1", true}, {"127.0.0.1", false}, {"127.0.0.2", true},
	} {
		a := netip.MustParseAddr(c.addr)
		pre := g.Precheck(a, SSH)
		_, err := g.Admit(t.Context(), a, SSH)
		if (err == nil) != c.ok || (pre == nil) != c.ok {
			t.Errorf("%s: Precheck %v, Admit %v, want admitted %v", c.addr, pre, err, c.ok)
		}
	}
}

func TestUnknownAddressesAreOneHost(t *testing.T) {
	g := New(Config{MaxPerHost: 1}, quiet(), nil)
	r, err := g.Admit(t.Context(), netip.Addr{}, SSH)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Admit(t.Context(), netip.Addr{}, SSH); !errors.Is(err, ErrTooMany) {
		t.Errorf("a second peer without address: %v", err)
	}
	r()
	if g.hosts() != 0 {
		t.Errorf("%d hosts kept after the last left", g.hosts())
	}
}

func TestCapsChangeForConnectionsToCome(t *testing.T) {
	g := New(Config{}, quiet(), nil)
	a := netip.MustParseAddr("192.0.2.1")
	var releases []func()
	for range 3 {
		r, err := g.Admit(t.Context(), a, SSH)
		if err != nil {
			t.Fatal(err)
		}
		releases = append(releases, r)
	}
	g.SetConfig(Config{MaxPerHost: 2})
	for i, want := range []bool{false, false, true} {
		if i > 0 {
			releases[i]()
		}
		r, err := g.Admit(t.Context(), a, SSH)
		if (err == nil) != want {
			t.Errorf("with %d open and a cap of 2: %v", 3-i, err)
		}
		if r != nil {
			r()
		}
	}
}

// RES-1: after any mix, what is counted is what is open, and nothing of hosts that left remains.
func TestCountsAreWhatIsOpen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := Config{MaxTotal: rapid.IntRange(0, 6).Draw(t, "total"), MaxPerHost: rapid.IntRange(0, 3).Draw(t, "host")}
		g := New(cfg, quiet(), nil)
		open := map[netip.Addr][]func(){}
		n := 0
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			a := netip.AddrFrom4([4]byte{192, 0, 2, byte(rapid.IntRange(1, 4).Draw(t, "a"))})
			if rapid.Bool().Draw(t, "leave") && len(open[a]) > 0 {
				open[a][0]()
				if open[a] = open[a][1:]; len(open[a]) == 0 {
					delete(open, a)
				}
				n--
				continue
			}
			want := (cfg.MaxTotal == 0 || n < cfg.MaxTotal) && (cfg.MaxPerHost == 0 || len(open[a]) < cfg.MaxPerHost)
			r, err := g.Admit(t.Context(), a, SSH)
			if (err == nil) != want {
				t.Fatalf("%v with %d open, %d of it: %v, want admitted %v", a, n, len(open[a]), err, want)
			}
			if err == nil {
				open[a] = append(open[a], r)
				n++
			}
		}
		if g.Total() != n || g.hosts() != len(open) {
			t.Fatalf("counted %d of %d hosts, open are %d of %d", g.Total(), g.hosts(), n, len(open))
		}
	})
}

func BenchmarkAdmit(b *testing.B) {
	g := New(Config{MaxTotal: 1 << 20, MaxPerHost: 1 << 20}, quiet(), nil)
	b.ReportAllocs()
	var n atomic.Uint32
	b.RunParallel(func(pb *testing.PB) {
		i := n.Add(1)
		a := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		for pb.Next() {
			r, err := g.Admit(b.Context(), a, SSH)
			if err != nil {
				b.Fatal(err)
			}
			r()
		}
	})
}

func BenchmarkPrecheck(b *testing.B) {
	g := New(Config{MaxTotal: 1 << 20, MaxPerHost: 1 << 20}, quiet(), nil)
	a := netip.MustParseAddr("2001:db8::1")
	b.ReportAllocs()
	for b.Loop() {
		if err := g.Precheck(a, SSH); err != nil {
			b.Fatal(err)
		}
	}
}
