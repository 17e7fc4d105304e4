package session

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// bucketKey names a bandwidth that is shared: by direction, and by the entry that sets it.
type bucketKey struct {
	up    bool
	entry int // of bandwidth_limits; -1 the user's own
	rate  int64
}

// bucket shapes the sum of what goes through it: a token bucket kept as the time at which it would be
// empty of debt. Waiters are served in the order in which they came.
type bucket struct {
	mu   sync.Mutex
	rate int64 // bytes/s, fixed
	next time.Time
}

// bucketBurst is how much of an idle time may be caught up.
const bucketBurst = 100 * time.Millisecond

// bucket finds the shared bucket of a client's transfers, or nil if there is no limit.
func (st *userState) bucket(v *view, ip netip.Addr, up bool) *bucket {
	rate, entry := v.bandwidth(ip, up)
	if rate <= 0 {
		return nil
	}
	key := bucketKey{up, entry, rate}
	st.mu.Lock()
	defer st.mu.Unlock()
	b := st.buckets[key]
	if b == nil {
		b = &bucket{rate: rate}
		if len(st.buckets) > 64 { // rates that changed long ago
			clear(st.buckets)
		}
		st.buckets[key] = b
	}
	return b
}

// take books n bytes and says how long to wait before they may go on.
func (b *bucket) take(n int, now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if earliest := now.Add(-bucketBurst); b.next.Before(earliest) {
		b.next = earliest
	}
	b.next = b.next.Add(time.Duration(float64(n) / float64(b.rate) * float64(time.Second)))
	return b.next.Sub(now)
}

// transfer is a moving file: its counts, its speed and its kill switch.
type transfer struct {
	started time.Time
	bytes   atomic.Int64
	bucket  *bucket // nil: no limit

	// Bytes by slots of speedSlot, roughly: two goroutines at a slot's edge may miscount a chunk.
	slot, cur, prev atomic.Int64

	once    sync.Once
	stopped chan struct{}
	cause   atomic.Pointer[error]
}

// speedSlot is the grain of a transfer's speed.
const speedSlot = 2 * time.Second

func newTransfer(now time.Time, b *bucket) *transfer {
	return &transfer{started: now, bucket: b, stopped: make(chan struct{})}
}

// halt fails every further read and write with cause, and wakes those that wait.
func (t *transfer) halt(cause error) {
	t.once.Do(func() {
		t.cause.Store(&cause)
		close(t.stopped)
	})
}

// dead is why the transfer was halted, or nil.
func (t *transfer) dead() error {
	if e := t.cause.Load(); e != nil {
		return *e
	}
	return nil
}

// pace waits until n more bytes may go. It ends when the transfer is halted.
func (t *transfer) pace(n int) error {
	if t.bucket == nil {
		return nil
	}
	d := t.bucket.take(n, time.Now())
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-t.stopped:
		return t.dead()
	}
}

// moved counts n bytes.
func (t *transfer) moved(n int, now time.Time) {
	t.bytes.Add(int64(n))
	slot := now.UnixNano() / int64(speedSlot)
	if was := t.slot.Load(); was != slot && t.slot.CompareAndSwap(was, slot) {
		last := t.cur.Swap(0)
		if was != slot-1 {
			last = 0
		}
		t.prev.Store(last)
	}
	t.cur.Add(int64(n))
}

// speed is the bytes/s over the last seconds.
func (t *transfer) speed(now time.Time) float64 {
	at := now.UnixNano()
	slot, into := at/int64(speedSlot), at%int64(speedSlot)
	cur, prev := t.cur.Load(), t.prev.Load()
	switch t.slot.Load() {
	case slot:
	case slot - 1:
		cur, prev = 0, cur
	default:
		return 0
	}
	span := speedSlot
	if lived := now.Sub(t.started); lived < speedSlot && lived > 0 {
		span, prev = lived, 0
		into = 0
	}
	rest := 1 - float64(into)/float64(speedSlot)
	return (float64(cur) + float64(prev)*rest) / span.Seconds()
}
