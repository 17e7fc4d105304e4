// Package guard decides who may come in, before any protocol reads a byte: lists of networks, bans, rate limits and
// caps on connections, one gate for every protocol (guard.md 1-3).
//
// A peer controls its address and how often it comes. Every table here is bounded, IPv6 peers count by their /64, and
// no call touches a store.
package guard

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Reasons of a refusal. Test with errors.Is.
var (
	ErrTooMany    = errors.New("too many connections")
	ErrNotAllowed = errors.New("the address is not in the allow list")
	ErrBlocked    = errors.New("the address is in the defender's block list")
	ErrBanned     = errors.New("the address is banned")
	ErrRate       = errors.New("the rate limit is exceeded")
)

// Guard admits connections. Safe for concurrent use.
type Guard struct {
	log  *slog.Logger
	now  func() time.Time
	seed maphash.Seed // a peer must not be able to choose its shard

	cfg      atomic.Pointer[Config]
	lists    atomic.Pointer[Lists]
	defender atomic.Pointer[defender] // nil: off
	limiters atomic.Pointer[[]*limiter]
	shared   atomic.Pointer[sharing] // nil: the defender's driver is memory

	total  atomic.Int64
	said   [5][decisions]atomic.Uint64 // by protocol (the last: none of them) and decision
	shards [shardCount]shard
}

const shardCount = 64

// shard counts the connections of some of the hosts.
type shard struct {
	mu    sync.Mutex // guards hosts; held for a map access
	hosts map[netip.Addr]int
	_     [48]byte // a cache line each
}

// New makes a guard. now is the clock, nil means time.Now.
func New(cfg Config, log *slog.Logger, now func() time.Time) *Guard {
	if now == nil {
		now = time.Now
	}
	g := &Guard{log: log, now: now, seed: maphash.MakeSeed()}
	for i := range g.shards {
		g.shards[i].hosts = map[netip.Addr]int{}
	}
	g.SetConfig(cfg)
	return g
}

// SetConfig changes the rules for connections to come. Those that are open stay, and count; bans and scores stay too.
func (g *Guard) SetConfig(cfg Config) {
	old := g.cfg.Swap(&cfg)
	switch d := g.defender.Load(); {
	case !cfg.Defender.Enabled:
		g.defender.Store(nil)
	case d == nil:
		g.defender.Store(newDefender(cfg.Defender, &g.shared, g.seed, g.now, g.log))
	default:
		d.cfg.Store(&cfg.Defender)
	}
	if old != nil && sameLimiters(old.RateLimiters, cfg.RateLimiters) {
		return
	}
	var all []*limiter
	for _, c := range cfg.RateLimiters {
		if c.Average > 0 {
			all = append(all, newLimiter(c, g.seed, g.now))
		}
	}
	g.limiters.Store(&all)
}

// SetLists replaces the lists. Until the first call there are none: with allowlist_status 1 nobody comes in.
func (g *Guard) SetLists(l *Lists) { g.lists.Store(l) }

var noLists Lists

func (g *Guard) list() (l *Lists, known bool) {
	if l := g.lists.Load(); l != nil {
		return l, true
	}
	return &noLists, false
}

// Precheck tells without counting whether Admit would refuse addr now, rates aside: for the moment of accepting a
// socket, whose address may be a proxy's. It does not wait and allocates nothing for those who pass.
func (g *Guard) Precheck(addr netip.Addr, p Protocol) error {
	cfg := g.cfg.Load()
	safe, err := g.judge(addr.Unmap(), p, cfg, false)
	if err != nil {
		return err
	}
	if n := g.total.Load(); cfg.MaxTotal > 0 && n >= int64(cfg.MaxTotal) {
		return tooMany{int(n), netip.Addr{}}
	}
	if cfg.MaxPerHost <= 0 || safe {
		return nil
	}
	host := hostOf(addr)
	s := g.shard(host)
	s.mu.Lock()
	n := s.hosts[host]
	s.mu.Unlock()
	if n >= cfg.MaxPerHost {
		return tooMany{n, host}
	}
	return nil
}

// Knock refuses a peer by the lists and the bans alone, when its socket is accepted: a ban gets longer by it as by
// Admit. The caps are for Admit, whose refusal the peer is told of.
func (g *Guard) Knock(addr netip.Addr, p Protocol) error {
	_, err := g.judge(addr.Unmap(), p, g.cfg.Load(), true)
	if err != nil {
		g.note(p, err)
	}
	return err
}

// judge asks the lists and the bans. touch says that a peer really came: it makes its ban longer.
func (g *Guard) judge(addr netip.Addr, p Protocol, cfg *Config, touch bool) (safe bool, err error) {
	lists, known := g.list()
	if cfg.AllowListStatus == 1 {
		if _, ok := lists.Allow.Match(addr, p); !ok || !known {
			return false, ErrNotAllowed
		}
	}
	d := g.defender.Load()
	if d == nil {
		return false, nil
	}
	if deny, ok := lists.Defender.Match(addr, p); ok {
		if deny {
			return false, ErrBlocked
		}
		return true, nil
	}
	return false, d.check(hostOf(addr), touch)
}

// Admit counts a connection of addr in, in one step with the check of the caps, or refuses it. A connection that only
// comes too fast may wait for a little, at most as long as ctx. release counts it out, once however often it is called.
// Loopback is a host like any other; peers whose address is not known are one host together.
func (g *Guard) Admit(ctx context.Context, addr netip.Addr, p Protocol) (release func(), err error) {
	addr = addr.Unmap()
	cfg := g.cfg.Load()
	safe, err := g.judge(addr, p, cfg, true)
	if err != nil {
		g.note(p, err)
		return nil, err
	}
	if release, err = g.count(addr, cfg, safe); err != nil {
		g.note(p, err)
		if t := (tooMany{}); errors.As(err, &t) && t.host.IsValid() {
			g.Event(addr, p, LimitExceeded)
		}
		return nil, err
	}
	if err := g.Take(ctx, addr, p); err != nil {
		release()
		return nil, err
	}
	g.note(p, nil)
	return release, nil
}

func (g *Guard) count(addr netip.Addr, cfg *Config, safe bool) (release func(), err error) {
	host := hostOf(addr)
	s := g.shard(host)
	s.mu.Lock()
	n := s.hosts[host]
	if cfg.MaxPerHost > 0 && n >= cfg.MaxPerHost && !safe {
		s.mu.Unlock()
		return nil, tooMany{n, host}
	}
	// After the host's cap, so that a host above its own takes no place of others for a moment.
	if all, ok := g.enter(cfg.MaxTotal); !ok {
		s.mu.Unlock()
		return nil, tooMany{int(all), netip.Addr{}}
	}
	s.hosts[host] = n + 1
	s.mu.Unlock()
	var once atomic.Bool
	return func() {
		if once.Swap(true) {
			return
		}
		s.mu.Lock()
		if n := s.hosts[host] - 1; n > 0 {
			s.hosts[host] = n
		} else {
			delete(s.hosts, host)
		}
		s.mu.Unlock()
		g.total.Add(-1)
	}, nil
}

// enter counts one more in all, or tells how many there are.
func (g *Guard) enter(limit int) (all int64, ok bool) {
	for {
		n := g.total.Load()
		if limit > 0 && n >= int64(limit) {
			return n, false
		}
		if g.total.CompareAndSwap(n, n+1) {
			return n + 1, true
		}
	}
}

// Take asks the rate limiters of a protocol for one event of addr: a connection, or a request of WebDAV and HTTP. It
// waits for what comes soon, at most as long as ctx. The error is a *RateError.
func (g *Guard) Take(ctx context.Context, addr netip.Addr, p Protocol) error {
	all := *g.limiters.Load()
	if len(all) == 0 {
		return nil
	}
	addr = addr.Unmap()
	lists, _ := g.list()
	if _, exempt := lists.RateSafe.Match(addr, p); exempt {
		return nil
	}
	host := hostOf(addr)
	for _, l := range all {
		if l.protocols&p == 0 || l.exempt.contains(addr) {
			continue
		}
		if err := l.take(ctx, host); err != nil {
			g.note(p, err)
			if l.cfg.DefenderEvents && errors.Is(err, ErrRate) {
				g.Event(addr, p, LimitExceeded)
			}
			return err
		}
	}
	return nil
}

// Unlimited reports whether Take lets everybody pass at once.
func (g *Guard) Unlimited() bool { return len(*g.limiters.Load()) == 0 }

// Total is how many connections are counted in.
func (g *Guard) Total() int { return int(g.total.Load()) }

func (g *Guard) shard(host netip.Addr) *shard { return &g.shards[shardOf(g.seed, host)] }

func shardOf(seed maphash.Seed, host netip.Addr) uint64 {
	b := host.As16()
	return maphash.Bytes(seed, b[:]) % shardCount
}

// tooMany is an ErrTooMany; its text is made only if somebody logs it.
type tooMany struct {
	n    int
	host netip.Addr // not valid for all hosts
}

func (e tooMany) Error() string {
	if !e.host.IsValid() {
		return fmt.Sprintf("%v: %d in all", ErrTooMany, e.n)
	}
	return fmt.Sprintf("%v: %d from %s", ErrTooMany, e.n, e.host)
}

func (e tooMany) Unwrap() error { return ErrTooMany }

// hostOf is whom a connection counts for: an IPv4 address, or an IPv6 /64, which one host has to itself.
func hostOf(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if !a.Is6() {
		return a
	}
	b := a.As16()
	clear(b[8:])
	return netip.AddrFrom16(b)
}
