package ssh

import (
	"errors"
	"net/netip"
	"sync"
)

// Why a connection is dropped before a byte has passed.
var (
	errTooMany       = errors.New("ssh: too many connections before login (max_startups)")
	errTooManySource = errors.New("ssh: too many connections before login from one source (max_handshakes)")
)

// doorway counts the connections that have not logged in (SSH-3). Safe for concurrent use.
type doorway struct {
	limit     startups
	perSource int
	chance    func() int // 0 to 99

	mu      sync.Mutex
	total   int
	sources map[netip.Addr]int
}

// enter lets a connection in or says why not. leave is called once, at its login or its end.
func (d *doorway) enter(addr netip.Addr) (leave func(), err error) {
	key := source(addr)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.total >= d.limit.full || d.total >= d.limit.start && d.chance() < d.dropRate() {
		return nil, errTooMany
	}
	if d.sources[key] >= d.perSource {
		return nil, errTooManySource
	}
	d.total++
	d.sources[key]++
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.total--
		if d.sources[key]--; d.sources[key] == 0 {
			delete(d.sources, key)
		}
	}), nil
}

// dropRate grows from rate to 100 percent between start and full, so that a flood pushes out strangers at
// random and not everyone.
func (d *doorway) dropRate() int {
	l := d.limit
	if l.full == l.start {
		return l.rate
	}
	return l.rate + (100-l.rate)*(d.total-l.start)/(l.full-l.start)
}

// source is what counts as one peer: an address, or a /64 of IPv6.
func source(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}
