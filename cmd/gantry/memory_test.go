package main

import (
	"runtime/debug"
	"testing"
)

func TestMemoryIsGivenBackAfterABusyTime(t *testing.T) {
	var allocated, held, goroutines uint64 = 0, 100 << 20, 1000
	var frees int
	m := &memory{read: func() figures { return figures{allocated, held, goroutines} }}
	m.free = func() {
		frees++
		if frees < 3 {
			held /= 2
		}
	}
	step := func(alloc uint64, want int, when string) {
		t.Helper()
		allocated += alloc
		m.look()
		if frees != want {
			t.Errorf("%s: collected %d times, want %d", when, frees, want)
		}
	}
	step(0, 0, "at the start")
	step(500<<20, 0, "busy")
	step(500<<20, 0, "still busy")
	step(1000, 1, "quiet")
	step(1000, 2, "it brought much, so again")
	step(1000, 3, "and again")
	step(1000, 3, "it brought nothing, so no more")
	step(2<<20, 3, "somebody reads the metrics")
	step(0, 3, "which is no work")
	step(8<<20, 3, "busy again")
	step(0, 4, "quiet again")
	goroutines = 900
	step(0, 4, "a few clients left")
	goroutines = 100
	step(0, 5, "most clients left")
	step(0, 5, "nothing more")
}

func TestMemoryFiguresAreThere(t *testing.T) {
	before := readMemory()
	keep := make([]byte, 32<<20)
	for i := range keep {
		keep[i] = 1
	}
	at := readMemory()
	if at.allocated-before.allocated < 32<<20 || at.held < 32<<20 || at.goroutines == 0 {
		t.Errorf("after 32 MiB: %+v, before %+v", at, before)
	}
	keep[0]++
	keep = nil
	debug.FreeOSMemory()
	if after := readMemory(); after.held > at.held-24<<20 {
		t.Errorf("held %d before it was given back and %d after", at.held, after.held)
	}
}
