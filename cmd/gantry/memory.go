package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// memory gives memory back to the system once a busy time is over. The runtime keeps about twice of what was
// alive at its last collection and makes the next one when that is full, which on a server that has become
// idle may be hours later: a thousand logins would stay in memory as garbage. Nothing happens while the
// server allocates, so that no transfer pays for it.
type memory struct {
	allocated uint64 // bytes since the start, at the last look
	due       bool   // there was a busy time since memory was given back
	most      uint64 // goroutines since then

	read func() figures
	free func()
}

// figures are the runtime's.
type figures struct {
	allocated  uint64 // bytes since the start
	held       uint64 // bytes that the system has given
	goroutines uint64
}

const (
	memoryLook  = 5 * time.Second
	memoryQuiet = 4 << 20 // bytes between two looks that are no work: a look at the metrics of 10,000 connections is 1.3 MB
)

// watchMemory ends with ctx.
func watchMemory(ctx context.Context) {
	m := &memory{read: readMemory, free: debug.FreeOSMemory}
	if p := newPacer(); p != nil {
		p.follow(ctx)
		m.free = func() {
			p.rest()
			debug.FreeOSMemory()
		}
	}
	t := time.NewTicker(memoryLook)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			m.look()
		}
	}
}

// look collects if the server was busy before the last look, or has lost a quarter of its goroutines since
// it collected (clients that leave allocate nothing), and is quiet now. As long as that brings much it is
// done again: each collection halves what a deep call has left of a stack.
func (m *memory) look() {
	f := m.read()
	busy := f.allocated-m.allocated > memoryQuiet
	m.allocated = f.allocated
	m.most = max(m.most, f.goroutines)
	if busy {
		m.due = true
		return
	}
	if !m.due && f.goroutines >= m.most-m.most/4 {
		return
	}
	m.free()
	m.most = f.goroutines
	m.due = m.read().held < f.held-f.held/32
}

func readMemory() figures {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"}, {Name: "/sched/goroutines:goroutines"}}
	metrics.Read(s)
	return figures{s[0].Value.Uint64(), s[1].Value.Uint64() - s[2].Value.Uint64(), s[3].Value.Uint64()}
}
