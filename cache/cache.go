// Package cache remembers what is dear to find: a memo whose entries may vanish at any time, so that
// nothing correct may depend on presence.
package cache

import (
	"sync/atomic"
	"time"

	"github.com/dgraph-io/ristretto/v2"
)

// Epoch is the count of invalidations. Read it before the store is read, and give it to Memo.Set: what
// was read before an invalidation is then never taken for newer.
type Epoch struct{ n atomic.Uint64 }

// Now is the current epoch.
func (e *Epoch) Now() uint64 { return e.n.Load() }

// Bump ends the current epoch: every entry made in it is a miss from now on.
func (e *Epoch) Bump() { e.n.Add(1) }

// Memo remembers values by name for a time. Safe for concurrent use.
type Memo[V any] struct {
	epoch *Epoch
	ttl   time.Duration
	c     *ristretto.Cache[string, entry[V]]
}

type entry[V any] struct {
	epoch uint64
	value V
}

// New makes a memo of at most max entries that live for ttl.
func New[V any](max int64, ttl time.Duration, epoch *Epoch) (*Memo[V], error) {
	c, err := ristretto.NewCache(&ristretto.Config[string, entry[V]]{NumCounters: 10 * max, MaxCost: max, BufferItems: 64, IgnoreInternalCost: true})
	if err != nil {
		return nil, err
	}
	return &Memo[V]{epoch: epoch, ttl: ttl, c: c}, nil
}

// Get gives a value of the current epoch.
func (m *Memo[V]) Get(key string) (V, bool) {
	e, ok := m.c.Get(key)
	if !ok || e.epoch != m.epoch.Now() {
		var none V
		return none, false
	}
	return e.value, true
}

// Set remembers a value whose source was read in epoch. It may be dropped.
func (m *Memo[V]) Set(key string, v V, epoch uint64) {
	if epoch == m.epoch.Now() {
		m.c.SetWithTTL(key, entry[V]{epoch, v}, 1, m.ttl)
	}
}

// Close ends the memo's goroutines.
func (m *Memo[V]) Close() { m.c.Close() }

// Wait returns once earlier Sets are visible or dropped.
func (m *Memo[V]) Wait() { m.c.Wait() }
