package guard

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// RateError is an ErrRate.
type RateError struct {
	RetryAfter time.Duration
}

func (e *RateError) Error() string {
	return fmt.Sprintf("%v: try again in %v", ErrRate, e.RetryAfter.Round(time.Millisecond))
}

func (e *RateError) Unwrap() error { return ErrRate }

// limiter is one of the rate limiters: a token bucket for all, or for each source. A bucket is the time at which it
// will be full again, from which its level follows.
type limiter struct {
	cfg       LimiterConfig
	protocols Protocol
	exempt    prefixes
	every     time.Duration // one token
	longest   time.Duration // that a missing token is waited for
	seed      maphash.Seed
	now       func() time.Time
	wait      func(context.Context, time.Duration) error
	waiting   atomic.Int64

	buckets [shardCount]struct {
		mu     sync.Mutex // guards fullAt
		fullAt map[netip.Addr]time.Time
		_      [40]byte
	}
	entries  atomic.Int64
	trimming sync.Mutex
}

// maxWaiting bounds how many connections wait for a limiter; above it they are refused at once.
const maxWaiting = 1000

func newLimiter(cfg LimiterConfig, seed maphash.Seed, now func() time.Time) *limiter {
	period := time.Duration(cfg.Period) * time.Millisecond
	l := &limiter{cfg: cfg, every: max(1, period/time.Duration(cfg.Average)), seed: seed, now: now, wait: sleep}
	for _, p := range cfg.Protocols {
		l.protocols |= ProtocolOf(p)
	}
	l.exempt, _ = parsePrefixes(cfg.AllowList) // Validate has looked
	if perSecond := float64(cfg.Average) / period.Seconds(); perSecond < 1 {
		l.longest = period / 2
	} else {
		l.longest = time.Second / time.Duration(2*int64(perSecond))
	}
	l.longest = min(l.longest, 10*time.Second)
	for i := range l.buckets {
		l.buckets[i].fullAt = map[netip.Addr]time.Time{}
	}
	return l
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// take takes one token of host's bucket, and waits for it if that is short.
func (l *limiter) take(ctx context.Context, host netip.Addr) error {
	if l.cfg.Type == 1 {
		host = netip.Addr{}
	}
	wait, err := l.reserve(host)
	if err != nil || wait <= 0 {
		return err
	}
	if l.waiting.Add(1) > maxWaiting {
		l.waiting.Add(-1)
		return &RateError{wait} // the token is lost: a flood is under way
	}
	defer l.waiting.Add(-1)
	return l.wait(ctx, wait)
}

// reserve takes a token that is there now or after wait.
func (l *limiter) reserve(host netip.Addr) (wait time.Duration, err error) {
	now := l.now()
	b := &l.buckets[shardOf(l.seed, host)]
	b.mu.Lock()
	full, known := b.fullAt[host]
	if !known {
		l.entries.Add(1)
	}
	if full.Before(now) {
		full = now
	}
	// The bucket holds a token when it is full again within what burst tokens need, less this one.
	wait = full.Sub(now) - time.Duration(l.cfg.Burst-1)*l.every
	if wait > l.longest {
		b.fullAt[host] = full
		b.mu.Unlock()
		return 0, &RateError{wait}
	}
	b.fullAt[host] = full.Add(l.every)
	b.mu.Unlock()
	if l.cfg.Type == 2 && int(l.entries.Load()) > l.cfg.HardLimit {
		l.trim()
	}
	return max(0, wait), nil
}

// trim brings the buckets down to the soft limit; those that were used longest ago go first.
func (l *limiter) trim() {
	if !l.trimming.TryLock() {
		return
	}
	defer l.trimming.Unlock()
	type old struct {
		host netip.Addr
		at   time.Time
	}
	var all []old
	for i := range l.buckets {
		b := &l.buckets[i]
		b.mu.Lock()
		for h, at := range b.fullAt {
			all = append(all, old{h, at})
		}
		b.mu.Unlock()
	}
	if len(all) <= l.cfg.HardLimit {
		return
	}
	slices.SortFunc(all, func(a, b old) int { return cmp.Or(a.at.Compare(b.at), a.host.Compare(b.host)) })
	for _, o := range all[:len(all)-l.cfg.SoftLimit] {
		b := &l.buckets[shardOf(l.seed, o.host)]
		b.mu.Lock()
		if at, ok := b.fullAt[o.host]; ok && at.Equal(o.at) {
			delete(b.fullAt, o.host)
			l.entries.Add(-1)
		}
		b.mu.Unlock()
	}
}
