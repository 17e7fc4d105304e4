//go:build !race

package cache

import (
	"testing"
	"time"
)

func TestGetAllocatesNothing(t *testing.T) {
	m := newMemo[*int](t, Config{MaxCost: 100, TTL: time.Hour})
	e := NewEpochs()
	m.Put("someone", new(int), e.At("someone"), 1)
	m.Wait()
	if n := testing.AllocsPerRun(1000, func() {
		if _, ok := m.Get("someone", e.At("someone")); !ok {
			t.Fatal("miss")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
