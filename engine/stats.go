package engine

import (
	"context"
	"time"
)

// Stats are counts of an engine at one moment.
type Stats struct {
	Parked int // connections on an event loop
	Aside  int // that wait on a goroutine of their own: what no loop takes, or that a peer is slow to read from
	Lifted int // in the hands of a goroutine
	Moving int // between two of these
	Lifts  int64

	Workers, Idle   int // goroutines of the pool that work, and that are kept
	Running, Queued int // functions in lanes
	Handshakes      int
}

// Stats looks at every connection, for a moment each.
func (e *Engine) Stats() Stats {
	s := Stats{Lifts: e.loops.lifts.Load(), Handshakes: int(e.handshakes.Load())}
	e.mu.Lock()
	servers := e.servers[:len(e.servers):len(e.servers)]
	e.mu.Unlock()
	for _, x := range servers {
		x.mu.Lock()
		conns := make([]*Conn, 0, len(x.conns))
		for c := range x.conns {
			conns = append(conns, c)
		}
		x.mu.Unlock()
		for _, c := range conns {
			c.mu.Lock()
			switch _, aside := c.seat.(*aside); {
			case c.state == lifted:
				s.Lifted++
			case c.state == moving:
				s.Moving++
			case c.state == seated && aside:
				s.Aside++
			case c.state == seated:
				s.Parked++
			}
			c.mu.Unlock()
		}
	}
	e.pool.mu.Lock()
	s.Idle = len(e.pool.idle)
	s.Workers = e.pool.size - s.Idle
	e.pool.mu.Unlock()
	e.lanes.mu.Lock()
	all := []*Lane{e.short}
	for _, l := range e.lanes.m {
		all = append(all, l)
	}
	e.lanes.mu.Unlock()
	for _, l := range all {
		l.mu.Lock()
		s.Running, s.Queued = s.Running+l.running, s.Queued+len(l.queue)
		l.mu.Unlock()
	}
	return s
}

// Lag is how long each event loop that has had a connection takes to come to a function that is given to it now. A loop
// that does not before ctx ends has the time that was waited. It must not be called after Close.
func (e *Engine) Lag(ctx context.Context) []time.Duration { return e.loops.lag(ctx) }
