package cache

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func newMemo[V any](t testing.TB, cfg Config) *Memo[string, V] {
	t.Helper()
	m, err := New[string, V](cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func TestMemoRemembersUntilItsTime(t *testing.T) {
	c := &clock{t: time.Now()}
	m := newMemo[int](t, Config{MaxCost: 100, TTL: time.Minute, Now: c.now})
	e := NewEpochs()
	if v, ok := m.Get("a", e.At("a")); ok {
		t.Errorf("an empty memo gave %d", v)
	}
	m.Put("a", 7, e.At("a"), 1)
	m.Wait()
	c.add(time.Minute - 1)
	if v, ok := m.Get("a", e.At("a")); !ok || v != 7 {
		t.Errorf("got %d, %v, want 7", v, ok)
	}
	c.add(1)
	if v, ok := m.Get("a", e.At("a")); ok {
		t.Errorf("after its TTL: got %d", v)
	}
	m.Put("a", 8, e.At("a"), 1)
	m.Wait()
	m.Drop("a")
	m.Wait()
	if v, ok := m.Get("a", e.At("a")); ok {
		t.Errorf("after Drop: got %d", v)
	}
}

// A value read before a change must not be taken for one read after it, whenever it is put.
func TestOldEpochIsAMiss(t *testing.T) {
	m := newMemo[string](t, Config{MaxCost: 100, TTL: time.Hour})
	e := NewEpochs()
	for _, drop := range []func(){func() { e.Drop("a") }, e.DropAll} {
		at := e.At("a")
		m.Put("a", "old", at, 1)
		m.Wait()
		if _, ok := m.Get("a", e.At("a")); !ok {
			t.Fatal("not remembered at all")
		}
		drop()
		if v, ok := m.Get("a", e.At("a")); ok {
			t.Errorf("after a change: got %q", v)
		}
		m.Put("a", "read before the change", at, 1)
		m.Wait()
		if v, ok := m.Get("a", e.At("a")); ok {
			t.Errorf("put after a change, read before it: got %q", v)
		}
	}
}

func TestDropOfOneTagKeepsOthers(t *testing.T) {
	e := NewEpochs()
	kept := 0
	for i := range 100 {
		other := fmt.Sprint("other", i)
		at := e.At(other)
		e.Drop("a")
		if e.At(other) == at {
			kept++
		}
	}
	if kept < 95 { // tags share counters, one in 4096
		t.Errorf("the drop of one tag kept %d of 100 others", kept)
	}
}

func TestMemoIsBounded(t *testing.T) {
	m := newMemo[[]byte](t, Config{MaxCost: 64, Entries: 64, TTL: time.Hour})
	for i := range 10000 {
		m.Put(fmt.Sprint(i), nil, Epoch{}, 1)
	}
	m.Wait()
	n := 0
	for i := range 10000 {
		if _, ok := m.Get(fmt.Sprint(i), Epoch{}); ok {
			n++
		}
	}
	if n > 64 {
		t.Errorf("%d entries are kept, want at most 64", n)
	}
}

func TestMemoRefusesToBeUnbounded(t *testing.T) {
	for _, c := range []Config{{}, {MaxCost: 10}, {TTL: time.Second}, {MaxCost: -1, TTL: time.Second}} {
		if _, err := New[string, int](c); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
}

func TestClosedMemoKeepsNothing(t *testing.T) {
	m, err := New[string, int](Config{MaxCost: 10, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	m.Put("a", 1, Epoch{}, 1)
	m.Close()
	m.Put("a", 2, Epoch{}, 1)
	if v, ok := m.Get("a", Epoch{}); ok {
		t.Errorf("got %d", v)
	}
	m.Drop("a")
	m.Close()
}

// Whatever is put, dropped and forgotten, a hit is the value that the source had at the last change.
func TestHitIsNeverStale(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m, err := New[string, int](Config{MaxCost: 8, TTL: time.Hour})
		if err != nil {
			rt.Fatal(err)
		}
		defer m.Close()
		e := NewEpochs()
		type read struct {
			key string
			v   int
			at  Epoch
		}
		source, underWay := map[string]int{}, []read{}
		keys := rapid.SampledFrom([]string{"a", "b", "c"})
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			k := keys.Draw(rt, "key")
			switch rapid.IntRange(0, 4).Draw(rt, "step") {
			case 0: // a reader takes the epoch, then reads
				at := e.At(k)
				underWay = append(underWay, read{k, source[k], at})
			case 1: // and puts later
				if len(underWay) > 0 {
					r := underWay[0]
					underWay = underWay[1:]
					m.Put(r.key, r.v, r.at, 1)
					m.Wait()
				}
			case 2:
				source[k]++
				e.Drop(k)
			case 3:
				for k := range source {
					source[k]++
				}
				e.DropAll()
			default:
				if v, ok := m.Get(k, e.At(k)); ok && v != source[k] {
					rt.Fatalf("%s: got %d, the source has %d", k, v, source[k])
				}
			}
		}
	})
}

func BenchmarkGet(b *testing.B) {
	m := newMemo[*int](b, Config{MaxCost: 100, TTL: time.Hour})
	e := NewEpochs()
	m.Put("someone", new(int), e.At("someone"), 1)
	m.Wait()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, ok := m.Get("someone", e.At("someone")); !ok {
				b.Fatal("miss")
			}
		}
	})
}

func TestStatsCountHitsAndMisses(t *testing.T) {
	m := newMemo[int](t, Config{MaxCost: 100, TTL: time.Minute})
	e := NewEpochs()
	m.Get("a", e.At("a"))
	m.Put("a", 1, e.At("a"), 1)
	m.Wait()
	m.Get("a", e.At("a"))
	m.Get("a", e.At("a"))
	e.Drop("a")
	m.Get("a", e.At("a")) // of an old epoch
	if s := m.Stats(); s != (Stats{Hits: 2, Misses: 2}) {
		t.Errorf("got %+v", s)
	}
}
