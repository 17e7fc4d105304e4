// Package guard decides who may come in, before any protocol reads a byte: now the caps on connections;
// lists, limiters and the defender come with the engine.
//
// A peer controls its address and how often it comes. What is kept is bounded by the connections that are
// open: a host without one is forgotten. No call waits, and none touches a store.
package guard

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
)

// ErrTooMany: a cap on connections is reached.
var ErrTooMany = errors.New("too many connections")

// Config is the caps, in connections; 0 means none. The keys are those of the section "common".
type Config struct {
	MaxTotal   int `json:"max_total_connections"`
	MaxPerHost int `json:"max_per_host_connections"`
}

// DefaultConfig is what holds for keys that the configuration does not name.
func DefaultConfig() Config { return Config{MaxPerHost: 20} }

// Validate says what is wrong with c, naming the key.
func (c Config) Validate() error {
	if c.MaxTotal < 0 || c.MaxPerHost < 0 {
		return errors.New("max_total_connections and max_per_host_connections: must be 0 (no limit) or more")
	}
	return nil
}

// Guard counts connections. Safe for concurrent use.
type Guard struct {
	cfg    atomic.Pointer[Config]
	total  atomic.Int64
	seed   maphash.Seed // a peer must not be able to choose its shard
	shards [64]shard
}

// shard counts some of the hosts.
type shard struct {
	mu    sync.Mutex // guards hosts; held for a map access
	hosts map[netip.Addr]int
	_     [48]byte // a cache line each
}

// New makes a guard.
func New(cfg Config) *Guard {
	g := &Guard{seed: maphash.MakeSeed()}
	for i := range g.shards {
		g.shards[i].hosts = map[netip.Addr]int{}
	}
	g.SetConfig(cfg)
	return g
}

// SetConfig changes the caps for connections to come. Those that are open stay, and count.
func (g *Guard) SetConfig(cfg Config) { g.cfg.Store(&cfg) }

// Precheck tells without counting whether Admit would refuse addr now: for the moment of accepting a
// socket, whose address may be a proxy's.
func (g *Guard) Precheck(addr netip.Addr) error {
	cfg := g.cfg.Load()
	if n := g.total.Load(); cfg.MaxTotal > 0 && n >= int64(cfg.MaxTotal) {
		return tooMany{int(n), netip.Addr{}}
	}
	if cfg.MaxPerHost <= 0 {
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

// Admit counts a connection of addr in, in one step with the check, or refuses with ErrTooMany. release
// counts it out, once however often it is called. Loopback is a host like any other; peers whose address
// is not known are one host together.
func (g *Guard) Admit(_ context.Context, addr netip.Addr) (release func(), err error) {
	cfg := g.cfg.Load()
	host := hostOf(addr)
	s := g.shard(host)
	s.mu.Lock()
	n := s.hosts[host]
	if cfg.MaxPerHost > 0 && n >= cfg.MaxPerHost {
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

// Total is how many connections are counted in.
func (g *Guard) Total() int { return int(g.total.Load()) }

func (g *Guard) shard(host netip.Addr) *shard {
	b := host.As16()
	return &g.shards[maphash.Bytes(g.seed, b[:])%uint64(len(g.shards))]
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
