// Package guard decides who may come in, before any protocol reads a byte: now the caps on connections;
// lists, limiters and the defender come with the engine.
package guard

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
)

// ErrTooMany: a cap on connections is reached.
var ErrTooMany = errors.New("too many connections")

// Config is the caps, in connections; 0 means none.
type Config struct {
	MaxTotal   int // common.max_total_connections
	MaxPerHost int // common.max_per_host_connections
}

// Validate says what is wrong with c, naming the key.
func (c Config) Validate() error {
	if c.MaxTotal < 0 || c.MaxPerHost < 0 {
		return errors.New("max_total_connections and max_per_host_connections: must be 0 (no limit) or more")
	}
	return nil
}

// Guard counts connections. Safe for concurrent use.
type Guard struct {
	mu    sync.Mutex // guards the fields below; held for a map access
	cfg   Config
	total int
	hosts map[netip.Addr]int // IPv6 by its /64
}

// New makes a guard.
func New(cfg Config) *Guard { return &Guard{cfg: cfg, hosts: map[netip.Addr]int{}} }

// SetConfig changes the caps for connections to come.
func (g *Guard) SetConfig(cfg Config) {
	g.mu.Lock()
	g.cfg = cfg
	g.mu.Unlock()
}

// Admit counts a connection of addr in, in one step with the check, or refuses with ErrTooMany. release
// counts it out, once however often it is called.
func (g *Guard) Admit(_ context.Context, addr netip.Addr) (release func(), err error) {
	host := hostOf(addr)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cfg.MaxTotal > 0 && g.total >= g.cfg.MaxTotal {
		return nil, fmt.Errorf("%w: %d in all", ErrTooMany, g.total)
	}
	if n := g.hosts[host]; g.cfg.MaxPerHost > 0 && n >= g.cfg.MaxPerHost {
		return nil, fmt.Errorf("%w: %d from %s", ErrTooMany, n, host)
	}
	g.total++
	g.hosts[host]++
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.total--
		if g.hosts[host]--; g.hosts[host] == 0 {
			delete(g.hosts, host)
		}
	}), nil
}

// hostOf is whom a connection counts for: an IPv4 address, or an IPv6 /64.
func hostOf(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}
