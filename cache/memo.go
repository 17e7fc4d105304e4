// Package cache remembers what was read or computed, on ristretto, behind small generic types.
//
// A Memo is never the truth: absence is always legal, a Put may be dropped, and nothing correct may depend
// on an entry being there. What a Memo gives is right because each entry carries the Epoch that was taken
// before its source was read: a change moves the epoch, and an entry of an old epoch is a miss. Sessions,
// bans, locks, reservations and revocations do not belong here.
package cache

import (
	"fmt"
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/ristretto/v2"
)

// Key is what a Memo can be asked for.
type Key interface {
	uint64 | string | int | int64 | int32 | uint32
}

// Config bounds a Memo.
type Config struct {
	MaxCost int64         // the sum of the costs of Put
	Entries int64         // about how many entries that is; 0 means MaxCost
	TTL     time.Duration // must be above 0: nothing is remembered for ever
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Memo remembers values by key. Safe for concurrent use. Close it to end its goroutine.
type Memo[K Key, V any] struct {
	c   *ristretto.Cache[K, *entry[K, V]]
	ttl time.Duration
	now func() time.Time

	hits, misses atomic.Uint64
}

type entry[K Key, V any] struct {
	key     K // ristretto compares hashes only
	v       V
	at      Epoch
	expires int64 // ns
}

// New makes a Memo.
func New[K Key, V any](cfg Config) (*Memo[K, V], error) {
	if cfg.TTL <= 0 || cfg.MaxCost <= 0 {
		return nil, fmt.Errorf("cache: TTL %v and MaxCost %d must be above zero", cfg.TTL, cfg.MaxCost)
	}
	if cfg.Entries <= 0 {
		cfg.Entries = cfg.MaxCost
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	c, err := ristretto.NewCache(&ristretto.Config[K, *entry[K, V]]{
		NumCounters: max(100, 10*cfg.Entries), MaxCost: cfg.MaxCost, BufferItems: 64, IgnoreInternalCost: true,
	})
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	return &Memo[K, V]{c: c, ttl: cfg.TTL, now: cfg.Now}, nil
}

// Get gives the value of key if it was put at the epoch that holds now.
func (m *Memo[K, V]) Get(key K, now Epoch) (v V, ok bool) {
	e, ok := m.c.Get(key)
	if !ok || e == nil || e.key != key || e.at != now || e.expires <= m.now().UnixNano() {
		m.misses.Add(1)
		return v, false
	}
	m.hits.Add(1)
	return e.v, true
}

// Stats counts what Get found, and what it did not.
type Stats struct{ Hits, Misses uint64 }

// Stats counts since New.
func (m *Memo[K, V]) Stats() Stats { return Stats{m.hits.Load(), m.misses.Load()} }

// Put remembers v until the TTL is over. at is the epoch taken before v's source was read. cost is v's
// share of MaxCost. The value must not be changed any more.
func (m *Memo[K, V]) Put(key K, v V, at Epoch, cost int64) {
	e := &entry[K, V]{key: key, v: v, at: at, expires: m.now().Add(m.ttl).UnixNano()}
	m.c.SetWithTTL(key, e, max(1, cost), m.ttl)
}

// Drop forgets key.
func (m *Memo[K, V]) Drop(key K) { m.c.Del(key) }

// Wait returns when every Put before it took effect. For tests.
func (m *Memo[K, V]) Wait() { m.c.Wait() }

// Close ends the Memo. Calls after it find nothing and keep nothing.
func (m *Memo[K, V]) Close() { m.c.Close() }

// Epoch is a moment in the history of one tag. Equal epochs mean that nothing was dropped in between.
type Epoch struct{ all, tag uint64 }

// Epochs counts the changes of tagged things. Tags share a fixed number of counters, so that memory is
// bounded: a change may make entries of another tag miss, never hit. The zero value is not usable.
type Epochs struct {
	seed  maphash.Seed
	all   atomic.Uint64
	slots [1 << 12]atomic.Uint64
}

// NewEpochs makes an Epochs at its first epoch.
func NewEpochs() *Epochs { return &Epochs{seed: maphash.MakeSeed()} }

// At is the epoch of tag that holds now. Take it before reading what will be Put.
func (e *Epochs) At(tag string) Epoch {
	return Epoch{all: e.all.Load(), tag: e.slot(tag).Load()}
}

// Drop makes every entry of tag a miss.
func (e *Epochs) Drop(tag string) { e.slot(tag).Add(1) }

// DropAll makes every entry a miss.
func (e *Epochs) DropAll() { e.all.Add(1) }

func (e *Epochs) slot(tag string) *atomic.Uint64 {
	return &e.slots[maphash.String(e.seed, tag)%uint64(len(e.slots))]
}
