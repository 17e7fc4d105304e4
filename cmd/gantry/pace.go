package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

const (
	// A server holds little: at 100 % the collector comes after every 15 MiB that SSH packets or storages' bodies have
	// taken, 15 times a second in an upload, for a seventh of its cost. paceRoom is what may lie there instead.
	paceRoom = 32 << 20
	// paceShare of the memory that there is bounds it on a small machine.
	paceShare = 32
	paceFast  = 250 * time.Millisecond // between two collections: there is work
	paceSlow  = 2 * time.Second        // there is not
	paceMost  = 800                    // percent
	// paceMany is while clients come, and stay: what lies between them as garbage would be holes for as long as they do.
	// A sixth of a KiB for each of 10,000 idle ones in clear, one in TLS; their logins are not slower.
	paceMany = 50 // percent
)

// pacer gives the collector more room while it comes often, less while clients come, and else what is usual.
type pacer struct {
	room int64 // bytes

	mu      sync.Mutex
	percent int
	last    time.Time // of a collection
	alive   uint64    // bytes that it has left

	set  func(percent int) int
	live func() uint64 // bytes that the last collection has left
	now  func() time.Time
}

// newPacer is nil where GOGC says what is wanted.
func newPacer() *pacer {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	return &pacer{room: min(paceRoom, memoryLimit()/paceShare), percent: 100, set: debug.SetGCPercent, live: readLive, now: time.Now}
}

// follow has collected called after each collection until ctx ends.
func (p *pacer) follow(ctx context.Context) {
	type mark struct{ p *pacer } // more than a tiny allocation, which several share
	runtime.AddCleanup(&mark{p}, func(p *pacer) {
		if ctx.Err() == nil {
			p.collected()
			p.follow(ctx)
		}
	}, p)
}

func (p *pacer) collected() {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.now()
	gap, alive, before := at.Sub(p.last), p.live(), p.alive
	p.last, p.alive = at, alive
	switch {
	case before > 0 && alive > before+before/32:
		p.be(paceMany)
	case gap < paceFast:
		want := int(min(paceMost, p.room*100/int64(max(1<<20, alive))))
		if want = max(100, want); want > p.percent+p.percent/4 || want < p.percent-p.percent/4 {
			p.be(want)
		}
	case gap > paceSlow || p.percent < 100:
		p.be(100)
	}
}

// rest is told that the server has become quiet.
func (p *pacer) rest() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.be(100)
}

func (p *pacer) be(percent int) {
	if p.percent != percent {
		p.percent = percent
		p.set(percent)
	}
}

func readLive() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
