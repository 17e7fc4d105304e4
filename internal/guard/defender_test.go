package guard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// clock is a time that tests move.
type clock struct{ at time.Time }

func (c *clock) now() time.Time           { return c.at }
func (c *clock) step(by time.Duration)    { c.at = c.at.Add(by) }
func newClock() *clock                    { return &clock{time.Unix(1_800_000_000, 0)} }
func ip(s string) netip.Addr              { return netip.MustParseAddr(s) }
func deny(net string, p Protocol) Entry   { return Entry{netip.MustParsePrefix(net), true, p} }
func allow(net string, p Protocol) Entry  { return Entry{netip.MustParsePrefix(net), false, p} }
func entries(list ...Entry) List          { return NewList(list) }
func admits(g *Guard, a netip.Addr) error { return admitsOn(g, a, SSH) }

func admitsOn(g *Guard, a netip.Addr, p Protocol) error {
	r, err := g.Admit(context.Background(), a, p)
	if err == nil {
		r()
	}
	return err
}

// defended is a guard with a defender and nothing else.
func defended(c *clock, change func(*DefenderConfig)) *Guard {
	cfg := DefaultConfig()
	cfg.Defender.Enabled = true
	if change != nil {
		change(&cfg.Defender)
	}
	return New(cfg, quiet(), c.now)
}

func TestBanAtTheThreshold(t *testing.T) {
	c := newClock()
	g := defended(c, nil) // threshold 15
	a, other := ip("192.0.2.1"), ip("192.0.2.2")
	for range 14 {
		g.Event(a, SSH, LoginFailed)
	}
	if err := admits(g, a); err != nil {
		t.Fatalf("with 14 of 15 points: %v", err)
	}
	g.Event(a, FTP, LoginFailed)
	for _, p := range []Protocol{SSH, FTP, DAV, HTTP} {
		if err := g.Precheck(a, p); !errors.Is(err, ErrBanned) {
			t.Errorf("%v with 15 points: %v, want ErrBanned", p, err)
		}
	}
	if err := admits(g, other); err != nil {
		t.Errorf("another host: %v", err)
	}
	c.step(30*time.Minute - time.Second)
	if err := g.Precheck(a, SSH); !errors.Is(err, ErrBanned) {
		t.Errorf("a second before the end: %v", err)
	}
	c.step(time.Second)
	if err := admits(g, a); err != nil {
		t.Errorf("at the end: %v", err)
	}
	if h := g.Hosts(); len(h) != 0 {
		t.Errorf("left: %v", h)
	}
}

func TestScoresOfEvents(t *testing.T) {
	for e, n := range map[Event]int{LoginFailed: 15, UserNotFound: 8, LimitExceeded: 5, NoLoginTried: -1} {
		g := defended(newClock(), nil)
		for i := 1; i < 40; i++ {
			g.Event(ip("192.0.2.1"), SSH, e)
			banned := g.Precheck(ip("192.0.2.1"), SSH) != nil
			if banned != (n > 0 && i >= n) {
				t.Errorf("%s: banned %v after %d", e, banned, i)
			}
		}
	}
}

func TestABanGrowsWithEachTry(t *testing.T) {
	c := newClock()
	g := defended(c, func(d *DefenderConfig) { d.Threshold, d.ScoreValid, d.ScoreInvalid, d.ScoreLimit = 4, 2, 2, 2 })
	a := ip("192.0.2.1")
	g.Event(a, SSH, LoginFailed)
	g.Event(a, SSH, LoginFailed)
	for range 3 {
		if err := admits(g, a); !errors.Is(err, ErrBanned) {
			t.Fatal(err)
		}
	}
	g.Precheck(a, SSH) // only looks
	h := g.Hosts()
	if len(h) != 1 || h[0].Addr != a || !h[0].Ban.Equal(c.at.Add((30+3*15)*time.Minute)) {
		t.Errorf("after three tries: %v, want a ban of 75 minutes", h)
	}
	// It does not grow for ever.
	for range 400_000 {
		admits(g, a)
	}
	if h := g.Hosts(); h[0].Ban.After(c.at.Add(maxBan)) {
		t.Errorf("the ban ends %v", h[0].Ban)
	}
	if !g.Unban(a) || g.Unban(a) || admits(g, a) != nil {
		t.Error("the ban was not lifted, or twice")
	}
}

func TestObservationTime(t *testing.T) {
	c := newClock()
	g := defended(c, func(d *DefenderConfig) { d.Threshold = 3 })
	a := ip("192.0.2.1")
	for range 20 { // one each 16 minutes: never three in 30
		g.Event(a, SSH, LoginFailed)
		c.step(16 * time.Minute)
	}
	if err := admits(g, a); err != nil {
		t.Errorf("slow failures: %v", err)
	}
	g.Event(a, SSH, LoginFailed)
	if h := g.Hosts(); len(h) != 1 || h[0].Score != 2 {
		t.Errorf("hosts: %v, want a score of 2", h)
	}
	c.step(31 * time.Minute)
	if h := g.Hosts(); len(h) != 0 {
		t.Errorf("hosts after the observation time: %v", h)
	}
}

func TestDefenderLists(t *testing.T) {
	c := newClock()
	g := defended(c, func(d *DefenderConfig) { d.Threshold = 4 })
	g.SetLists(&Lists{Defender: entries(allow("192.0.2.0/24", 0), deny("192.0.2.66/32", 0), deny("198.51.100.0/24", FTP), deny("2001:db8::/32", 0), allow("2001:db8:1::/48", 0))})
	for _, x := range []struct {
		addr string
		p    Protocol
		want error
	}{
		{"192.0.2.66", SSH, ErrBlocked}, {"192.0.2.65", SSH, nil}, {"::ffff:192.0.2.66", HTTP, ErrBlocked}, {"198.51.100.1", SSH, nil}, {"198.51.100.1", FTP, ErrBlocked},
		{"2001:db8::1", SSH, ErrBlocked}, {"2001:db8:1::1", SSH, nil}, {"203.0.113.1", SSH, nil},
	} {
		if err := admitsOn(g, ip(x.addr), x.p); !errors.Is(err, x.want) || (err == nil) != (x.want == nil) {
			t.Errorf("%s over %v: %v, want %v", x.addr, x.p, err, x.want)
		}
	}
	for range 100 {
		g.Event(ip("192.0.2.1"), SSH, UserNotFound)
		g.Event(ip("192.0.2.66"), SSH, UserNotFound)
	}
	if err := admits(g, ip("192.0.2.1")); err != nil {
		t.Errorf("a safe host was banned: %v", err)
	}
	if h := g.Hosts(); len(h) != 0 {
		t.Errorf("listed hosts were scored: %v", h)
	}
	// A safe host passes the cap of a host.
	for range 25 {
		if _, err := g.Admit(t.Context(), ip("192.0.2.1"), SSH); err != nil {
			t.Fatal(err)
		}
	}
	g.SetLists(&Lists{})
	if err := admits(g, ip("192.0.2.66")); err != nil {
		t.Errorf("after the list went: %v", err)
	}
}

func TestAllowList(t *testing.T) {
	cfg := DefaultConfig()
	cfg.AllowListStatus = 1
	g := New(cfg, quiet(), nil)
	if err := admits(g, ip("192.0.2.1")); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("before the list was read: %v, want ErrNotAllowed", err) // fail closed
	}
	g.SetLists(&Lists{Allow: entries(allow("192.0.2.0/24", SSH|FTP), allow("2001:db8::/64", 0))})
	for addr, want := range map[string]bool{"192.0.2.1": true, "192.0.3.1": false, "2001:db8::9": true, "2001:db8:0:1::9": false, "127.0.0.1": false} {
		if err := admits(g, ip(addr)); (err == nil) != want {
			t.Errorf("%s: %v, want admitted %v", addr, err, want)
		}
	}
	if err := admitsOn(g, ip("192.0.2.1"), HTTP); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("a protocol that the entry is not for: %v", err)
	}
	cfg.AllowListStatus = 0
	g.SetConfig(cfg)
	if err := admits(g, ip("127.0.0.1")); err != nil {
		t.Errorf("with the list switched off: %v", err)
	}
}

// A /64 of IPv6 is one host.
func TestIPv6IsBannedByItsNetwork(t *testing.T) {
	g := defended(newClock(), func(d *DefenderConfig) { d.Threshold = 10 })
	for i := range 10 {
		g.Event(ip(fmt.Sprintf("2001:db8::%x", i+1)), SSH, LoginFailed)
	}
	if err := admits(g, ip("2001:db8::ffff")); !errors.Is(err, ErrBanned) {
		t.Errorf("the same network: %v", err)
	}
	if err := admits(g, ip("2001:db8:0:1::1")); err != nil {
		t.Errorf("another network: %v", err)
	}
}

func TestExceededCapsAreScored(t *testing.T) {
	cfg := DefaultConfig()
	cfg.MaxPerHost, cfg.Defender.Enabled = 1, true
	g := New(cfg, quiet(), nil)
	a := ip("192.0.2.1")
	if _, err := g.Admit(t.Context(), a, SSH); err != nil {
		t.Fatal(err)
	}
	for range 5 { // 3 points each, threshold 15
		if err := admits(g, a); !errors.Is(err, ErrTooMany) {
			t.Fatal(err)
		}
	}
	if err := admits(g, a); !errors.Is(err, ErrBanned) {
		t.Errorf("after five too many: %v", err)
	}
}

// RES-1: a flood of addresses does not grow the tables; those who matter most stay.
func TestTablesAreBounded(t *testing.T) {
	c := newClock()
	g := defended(c, func(d *DefenderConfig) { d.Threshold = 4 })
	d := g.defender.Load()
	size := func() (n int) {
		for i := range d.shards {
			n += len(d.shards[i].hosts)
		}
		return n
	}
	bad := ip("192.0.2.1")
	for range 4 {
		g.Event(bad, SSH, LoginFailed)
	}
	admits(g, bad) // a longer ban than the others'
	for i := range 5000 {
		c.step(time.Millisecond)
		g.Event(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), SSH, LoginFailed)
		if n := size(); n > 150+1+150 {
			t.Fatalf("%d hosts after %d", n, i)
		}
	}
	for i := range 1000 {
		a := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		for range 4 {
			g.Event(a, SSH, LoginFailed)
		}
	}
	if n := size(); n > 300 || int(d.scored.Load()+d.banned.Load()) != n {
		t.Errorf("%d hosts, counted %d scored and %d banned", n, d.scored.Load(), d.banned.Load())
	}
	if err := g.Precheck(bad, SSH); !errors.Is(err, ErrBanned) {
		t.Errorf("the longest ban was dropped: %v", err)
	}
}

func TestBansAreLogged(t *testing.T) {
	var out bytes.Buffer
	cfg := DefaultConfig()
	cfg.Defender.Enabled = true
	cfg.Defender.Threshold = 4
	g := New(cfg, slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})), nil)
	for range 4 {
		g.Event(ip("192.0.2.1"), FTP, LoginFailed)
	}
	for _, want := range []string{`"event":"LoginFailed","increase_score_by":1,"score":3`, `"sender":"defender","client_ip":"192.0.2.1","protocol":"FTP","event":"banned"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the log lacks %s: %s", want, out.String())
		}
	}
	if n := strings.Count(out.String(), `"event":"banned"`); n != 1 {
		t.Errorf("%d lines of the ban", n)
	}
}

func TestReloadKeepsBans(t *testing.T) {
	g := defended(newClock(), func(d *DefenderConfig) { d.Threshold = 4 })
	for range 4 {
		g.Event(ip("192.0.2.1"), SSH, LoginFailed)
	}
	cfg := DefaultConfig()
	cfg.Defender.Enabled = true
	g.SetConfig(cfg)
	if err := admits(g, ip("192.0.2.1")); !errors.Is(err, ErrBanned) {
		t.Errorf("after a reload: %v", err)
	}
	if d := g.LoginDelay(false); d != time.Second {
		t.Errorf("delay %v", d)
	}
	cfg.Defender.Enabled = false
	g.SetConfig(cfg)
	if err := admits(g, ip("192.0.2.1")); err != nil || g.LoginDelay(false) != 0 {
		t.Errorf("with the defender off: %v", err)
	}
}

// A limiter refuses exactly what a token bucket refuses.
func TestLimiterIsATokenBucket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newClock()
		cfg := DefaultLimiter()
		cfg.Average, cfg.Burst = rapid.IntRange(1, 20).Draw(t, "average"), rapid.IntRange(1, 10).Draw(t, "burst")
		cfg.Period = rapid.SampledFrom([]int{100, 1000, 60_000}).Draw(t, "period")
		l := newLimiter(cfg, New(Config{}, quiet(), nil).seed, c.now)
		l.longest = 0 // nothing is waited for
		every := time.Duration(cfg.Period) * time.Millisecond / time.Duration(cfg.Average)
		level := time.Duration(cfg.Burst) * every // tokens, in time
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			pause := time.Duration(rapid.IntRange(0, 3*cfg.Period/cfg.Average).Draw(t, "pause")) * time.Millisecond / 2
			c.step(pause)
			level = min(level+pause, time.Duration(cfg.Burst)*every)
			want := level >= every
			_, err := l.reserve(ip("192.0.2.1"))
			if (err == nil) != want {
				t.Fatalf("with %v of %v for a token: %v", level, every, err)
			}
			if want {
				level -= every
			} else if e := (*RateError)(nil); !errors.As(err, &e) || e.RetryAfter != every-level {
				t.Fatalf("try again: %v, want %v", err, every-level)
			}
		}
	})
}

func TestLimiterWaitsForWhatComesSoon(t *testing.T) {
	c := newClock()
	cfg := DefaultConfig()
	l := DefaultLimiter()
	l.Average, l.Burst = 10, 2 // one in 100 ms; at most 50 ms are waited for
	cfg.RateLimiters = []LimiterConfig{l}
	g := New(cfg, quiet(), c.now)
	var waited []time.Duration
	(*g.limiters.Load())[0].wait = func(_ context.Context, d time.Duration) error { waited = append(waited, d); return nil }
	a := ip("192.0.2.1")
	for range 2 {
		if err := admits(g, a); err != nil {
			t.Fatal(err)
		}
	}
	c.step(60 * time.Millisecond)
	if err := admits(g, a); err != nil || len(waited) != 1 || waited[0] != 40*time.Millisecond {
		t.Errorf("40 ms too early: %v, waited %v", err, waited)
	}
	if err := admits(g, a); !errors.Is(err, ErrRate) {
		t.Errorf("far too early: %v, want ErrRate", err)
	}
	if err := admits(g, ip("192.0.2.2")); err != nil {
		t.Errorf("another source: %v", err)
	}
	if g.Total() != 0 {
		t.Errorf("%d connections are counted", g.Total())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := sleep(ctx, time.Hour); err == nil {
		t.Error("a wait outlived its context")
	}
}

func TestLimitersOfProtocolsAndLists(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Defender.Enabled = true
	all := DefaultLimiter()
	all.Average, all.Period, all.Type, all.Protocols = 1, 60_000, 1, []string{"FTP"}
	each := DefaultLimiter()
	each.Average, each.Period, each.Burst, each.Protocols, each.DefenderEvents, each.AllowList = 1, 60_000, 3, []string{"SSH", "FTP"}, true, []string{"203.0.113.0/24"}
	cfg.RateLimiters = []LimiterConfig{all, each}
	c := newClock()
	g := New(cfg, quiet(), c.now)
	g.SetLists(&Lists{RateSafe: entries(allow("198.51.100.0/24", 0))})
	try := func(addr string, p Protocol) bool {
		err := admitsOn(g, ip(addr), p)
		if err != nil && !errors.Is(err, ErrRate) {
			t.Errorf("%s over %v: %v", addr, p, err)
		}
		return err == nil
	}
	if !try("192.0.2.1", FTP) || try("192.0.2.2", FTP) {
		t.Error("the bucket of all FTP connections did not hold one")
	}
	for i := range 4 { // the FTP connection took one of three
		if ok := try("192.0.2.1", SSH); ok != (i < 2) {
			t.Errorf("SSH connection %d: %v", i, ok)
		}
	}
	for range 10 {
		if !try("198.51.100.1", FTP) || !try("198.51.100.1", SSH) || !try("203.0.113.1", SSH) || !try("192.0.2.1", HTTP) {
			t.Error("an exempt address, or protocol, was limited")
		}
	}
	if h := g.Hosts(); len(h) != 1 || h[0].Score != 6 {
		t.Errorf("scores: %v, want 2 times 3 of one host", h)
	}
	if n := (*g.limiters.Load())[1]; n.entries.Load() != 1 {
		t.Errorf("%d buckets", n.entries.Load())
	}
	for i := range 2000 {
		c.step(time.Millisecond)
		try(fmt.Sprintf("10.0.%d.%d", i>>8, i&255), SSH)
	}
	if n := (*g.limiters.Load())[1].entries.Load(); n > 151 {
		t.Errorf("%d buckets after a flood", n)
	}
}

func TestConfigErrorsNameTheKey(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"common.max_total_connections":                     func(c *Config) { c.MaxTotal = -1 },
		"common.max_per_host_connections":                  func(c *Config) { c.MaxPerHost = -1 },
		"common.allowlist_status":                          func(c *Config) { c.AllowListStatus = 2 },
		"common.defender.driver":                           func(c *Config) { c.Defender.Driver = "paper" },
		"common.defender.ban_time:":                        func(c *Config) { c.Defender.BanTime = 0 },
		"common.defender.ban_time_increment":               func(c *Config) { c.Defender.BanTimeIncrement = 0 },
		"common.defender.threshold":                        func(c *Config) { c.Defender.Threshold = 0 },
		"common.defender.observation_time":                 func(c *Config) { c.Defender.ObservationTime = 0 },
		"common.defender.score_invalid":                    func(c *Config) { c.Defender.ScoreInvalid = 15 },
		"common.defender.score_valid":                      func(c *Config) { c.Defender.ScoreValid = -1 },
		"common.defender.score_limit_exceeded":             func(c *Config) { c.Defender.ScoreLimit = 99 },
		"common.defender.score_no_auth":                    func(c *Config) { c.Defender.ScoreNoAuth = 15 },
		"common.defender.entries_soft_limit":               func(c *Config) { c.Defender.SoftLimit = 0 },
		"common.defender.entries_hard_limit":               func(c *Config) { c.Defender.HardLimit = 100 },
		"common.defender.login_delay.success":              func(c *Config) { c.Defender.LoginDelay.Success = -1 },
		"common.defender.login_delay.password_failed":      func(c *Config) { c.Defender.LoginDelay.PasswordFailed = 70_000 },
		"common.rate_limiters[0].average":                  func(c *Config) { c.RateLimiters[0].Average = -1 },
		"common.rate_limiters[0].period":                   func(c *Config) { c.RateLimiters[0].Period = 99 },
		"common.rate_limiters[0].burst":                    func(c *Config) { c.RateLimiters[0].Burst = 0 },
		"common.rate_limiters[0].type":                     func(c *Config) { c.RateLimiters[0].Type = 3 },
		"common.rate_limiters[0].protocols":                func(c *Config) { c.RateLimiters[0].Protocols = []string{"SCP"} },
		"common.rate_limiters[0].entries_soft_limit":       func(c *Config) { c.RateLimiters[0].SoftLimit = 0 },
		"common.rate_limiters[0].entries_hard_limit":       func(c *Config) { c.RateLimiters[0].HardLimit = 1 },
		"common.rate_limiters[0].generate_defender_events": func(c *Config) { c.RateLimiters[0].Type, c.RateLimiters[0].DefenderEvents = 1, true },
		"common.rate_limiters[0].allow_list":               func(c *Config) { c.RateLimiters[0].AllowList = []string{"10.0.0.0/99"} },
	} {
		c := DefaultConfig()
		c.Defender.Enabled, c.RateLimiters[0].Average = true, 10
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
}

// The list finds what a search of all entries finds.
func TestMatchIsTheMostSpecific(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v6 := rapid.Bool().Draw(t, "v6")
		addr := func(name string) netip.Addr {
			if v6 {
				b := netip.MustParseAddr("2001:db8::").As16()
				b[7], b[8], b[15] = byte(rapid.IntRange(0, 3).Draw(t, name)), byte(rapid.IntRange(0, 3).Draw(t, name)), byte(rapid.IntRange(0, 7).Draw(t, name))
				return netip.AddrFrom16(b)
			}
			return netip.AddrFrom4([4]byte{10, 0, byte(rapid.IntRange(0, 3).Draw(t, name)), byte(rapid.IntRange(0, 15).Draw(t, name))})
		}
		var list []Entry
		for range rapid.IntRange(0, 30).Draw(t, "n") {
			a := addr("net")
			list = append(list, Entry{netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, "bits")), rapid.Bool().Draw(t, "deny"), Protocol(rapid.IntRange(0, 15).Draw(t, "p"))})
		}
		l := NewList(list)
		for range 20 {
			a, p := addr("addr"), SSH<<rapid.IntRange(0, 3).Draw(t, "proto")
			best, wantDeny, wantOK := -1, false, false
			for _, e := range list {
				if (e.Protocols == 0 || e.Protocols&p != 0) && e.Net.Contains(a) && e.Net.Bits() >= best {
					wantDeny = e.Deny || e.Net.Bits() == best && wantDeny
					best, wantOK = e.Net.Bits(), true
				}
			}
			// Equal networks: the first of the rules that is for p holds, and those that deny come first.
			if deny, ok := l.Match(a, p); deny != wantDeny || ok != wantOK {
				t.Fatalf("%v over %v: got %v %v, want %v %v in %v", a, p, deny, ok, wantDeny, wantOK, list)
			}
		}
	})
}

// crowded is a guard with 100,000 bans and a million entries in a list.
func crowded(tb testing.TB) *Guard {
	c := newClock()
	g := defended(c, func(d *DefenderConfig) {
		d.Threshold, d.ScoreInvalid, d.ScoreValid, d.ScoreLimit, d.SoftLimit, d.HardLimit = 2, 1, 1, 1, 200_000, 300_000
	})
	for i := range 100_000 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		g.Event(a, SSH, LoginFailed)
		g.Event(a, SSH, LoginFailed)
	}
	r := rand.New(rand.NewPCG(1, 2))
	list := make([]Entry, 1_000_000)
	for i := range list {
		n := r.Uint32()
		list[i] = Entry{Net: netip.PrefixFrom(netip.AddrFrom4([4]byte{100 + byte(n>>24)&63, byte(n >> 16), byte(n >> 8), byte(n)}), 16+r.IntN(17)), Deny: true}
	}
	g.SetLists(&Lists{Defender: NewList(list)})
	if n := g.lists.Load().Defender.Len(); n != len(list) {
		tb.Fatalf("%d entries", n)
	}
	return g
}

func BenchmarkCrowdedPrecheck(b *testing.B) {
	g := crowded(b)
	for name, addr := range map[string]string{"welcome": "192.0.2.1", "banned": "10.0.3.4", "v6": "2001:db8::1"} {
		b.Run(name, func(b *testing.B) {
			a := ip(addr)
			b.ReportAllocs()
			for b.Loop() {
				if err := g.Precheck(a, SSH); (err != nil) != (name == "banned") {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestPrecheckAllocatesNothing(t *testing.T) {
	g := defended(newClock(), nil)
	g.SetLists(&Lists{Defender: entries(deny("198.51.100.0/24", 0))})
	for _, addr := range []string{"192.0.2.1", "198.51.100.1"} {
		a := ip(addr)
		if n := testing.AllocsPerRun(100, func() { g.Precheck(a, SSH) }); n != 0 {
			t.Errorf("%s: %v allocations", addr, n)
		}
	}
}
