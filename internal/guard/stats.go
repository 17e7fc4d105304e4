package guard

import "errors"

// Decisions are what Stats counts, in its order: who was let in, and the reasons of refusals.
var Decisions = [decisions]string{"allowed", "not_allowed", "blocked", "banned", "too_many_from_host", "too_many", "rate_limited", "gave_up"}

const decisions = 8

// note counts a decision of a protocol.
func (g *Guard) note(p Protocol, err error) {
	i := 0
	switch {
	case err == nil:
	case errors.Is(err, ErrNotAllowed):
		i = 1
	case errors.Is(err, ErrBlocked):
		i = 2
	case errors.Is(err, ErrBanned):
		i = 3
	case errors.Is(err, ErrTooMany):
		i = 5
		if t, ok := errors.AsType[tooMany](err); ok && t.host.IsValid() {
			i = 4
		}
	case errors.Is(err, ErrRate):
		i = 6
	default: // it did not wait for its turn
		i = 7
	}
	g.said[protocolIndex(p)][i].Add(1)
}

func protocolIndex(p Protocol) int {
	switch p {
	case SSH:
		return 0
	case FTP:
		return 1
	case DAV:
		return 2
	case HTTP:
		return 3
	}
	return 4
}

// Stats are counts of the guard.
type Stats struct {
	// Said counts decisions since New, by protocol (SSH, FTP, DAV, HTTP, another one) and in the order of Decisions.
	Said           [5][decisions]uint64
	Connections    int // counted in now
	RateWaiting    int // wait for a limiter
	Scored, Banned int // hosts
}

// Stats counts.
func (g *Guard) Stats() Stats {
	s := Stats{Connections: g.Total()}
	for p := range g.said {
		for d := range g.said[p] {
			s.Said[p][d] = g.said[p][d].Load()
		}
	}
	for _, l := range *g.limiters.Load() {
		s.RateWaiting += int(l.waiting.Load())
	}
	if d := g.defender.Load(); d != nil {
		s.Scored, s.Banned = int(d.scored.Load()), int(d.banned.Load())
	}
	return s
}
