package main

import (
	"context"
	"runtime"
	"testing"
	"time"
)

func TestPaceOfTheCollector(t *testing.T) {
	at := time.Unix(1000, 0)
	live := uint64(16 << 20)
	got := 100
	p := &pacer{room: 64 << 20, percent: 100, set: func(n int) int { got = n; return 0 }, live: func() uint64 { return live }, now: func() time.Time { return at }}
	step := func(gap time.Duration, alive uint64, want int, when string) {
		t.Helper()
		at, live = at.Add(gap), alive
		p.collected()
		if got != want {
			t.Errorf("%s: %d %%, want %d", when, got, want)
		}
	}
	step(0, 16<<20, 100, "the first")
	step(time.Minute, 16<<20, 100, "quiet")
	step(time.Second, 16<<20, 100, "some work")
	step(70*time.Millisecond, 16<<20, 400, "an upload")
	step(300*time.Millisecond, 16<<20, 400, "the upload goes on")
	step(200*time.Millisecond, 16<<20+100<<10, 400, "a little more is alive")
	step(200*time.Millisecond, 40<<20, paceMany, "clients come")
	step(200*time.Millisecond, 40<<20, 160, "and stay")
	step(200*time.Millisecond, 400<<20, paceMany, "more than the room")
	step(200*time.Millisecond, 400<<20, 100, "and it stays")
	step(time.Second, 500<<20, paceMany, "more come")
	step(time.Second, 500<<20, 100, "and stay, and do something")
	step(200*time.Millisecond, 1<<20, paceMost, "nothing is alive")
	step(time.Second, 1<<20, paceMost, "less work")
	step(3*time.Second, 1<<20, 100, "quiet again")
	step(time.Millisecond, 1<<20, paceMost, "work")
	if p.rest(); got != 100 {
		t.Errorf("at rest: %d %%", got)
	}
}

// It hears of each collection, and of none after its end.
func TestPaceHearsCollections(t *testing.T) {
	heard := make(chan bool, 100)
	p := &pacer{room: 64 << 20, percent: 100, set: func(int) int { return 0 }, live: readLive, now: func() time.Time { heard <- true; return time.Now() }}
	ctx, cancel := context.WithCancel(t.Context())
	p.follow(ctx)
	for range 3 {
		for end := time.Now().Add(5 * time.Second); len(heard) == 0; { // it hears of the one after that in which it began to listen
			if time.Now().After(end) {
				t.Fatal("a collection was not heard of")
			}
			runtime.GC()
			time.Sleep(time.Millisecond)
		}
		<-heard
	}
	cancel()
	runtime.GC()
	time.Sleep(20 * time.Millisecond) // the last cleanup
	for len(heard) > 0 {
		<-heard
	}
	runtime.GC()
	select {
	case <-heard:
		t.Error("heard of a collection after its end")
	case <-time.After(50 * time.Millisecond):
	}
}
