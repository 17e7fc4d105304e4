package guard

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Event is what a host is scored for.
type Event string

// The events, with their names in the log.
const (
	LoginFailed   Event = "LoginFailed"
	UserNotFound  Event = "UserNotFound"
	NoLoginTried  Event = "NoLoginTried"
	LimitExceeded Event = "LimitExceeded"
)

// Host is what the defender knows of an address.
type Host struct {
	Addr  netip.Addr
	Score int       // within the observation time; 0 of a banned one
	Ban   time.Time // when the ban ends; zero without one
}

// defender scores hosts and bans them. A host has a score or a ban, never both.
type defender struct {
	cfg    atomic.Pointer[DefenderConfig]
	shared *atomic.Pointer[sharing] // the guard's
	log    *slog.Logger
	now    func() time.Time
	seed   maphash.Seed
	shards [shardCount]struct {
		mu    sync.RWMutex // guards hosts
		hosts map[netip.Addr]*suspect
		_     [32]byte
	}
	scored, banned atomic.Int64 // hosts
	trimming       sync.Mutex
}

// suspect is guarded by its shard's mu.
type suspect struct {
	events []scored
	ban    time.Time // its end; zero: not banned
}

type scored struct {
	at    time.Time
	score int
}

func newDefender(cfg DefenderConfig, shared *atomic.Pointer[sharing], seed maphash.Seed, now func() time.Time, log *slog.Logger) *defender {
	d := &defender{shared: shared, log: log, now: now, seed: seed}
	d.cfg.Store(&cfg)
	for i := range d.shards {
		d.shards[i].hosts = map[netip.Addr]*suspect{}
	}
	return d
}

// check refuses a banned host. touch makes its ban longer.
func (d *defender) check(host netip.Addr, touch bool) error {
	s := &d.shards[shardOf(d.seed, host)]
	s.mu.RLock()
	x := s.hosts[host]
	banned := x != nil && !x.ban.IsZero()
	var until time.Time
	if banned {
		until = x.ban
	}
	s.mu.RUnlock()
	if !banned {
		return nil
	}
	now := d.now()
	if !now.Before(until) {
		s.mu.Lock()
		if x := s.hosts[host]; x != nil && x.ban.Equal(until) {
			delete(s.hosts, host)
			d.banned.Add(-1)
		}
		s.mu.Unlock()
		return nil
	}
	if touch {
		cfg := d.cfg.Load()
		more := minutes(max(1, cfg.BanTime*cfg.BanTimeIncrement/100))
		d.shared.Load().send(job{kind: jobExtend, host: host, d: more})
		s.mu.Lock()
		if x := s.hosts[host]; x != nil && !x.ban.IsZero() {
			longest := now.Add(maxBan)
			x.ban = x.ban.Add(more)
			if x.ban.After(longest) {
				x.ban = longest
			}
		}
		s.mu.Unlock()
	}
	return ErrBanned
}

// maxBan bounds how far a ban grows.
const maxBan = 10 * 366 * 24 * time.Hour

func (c *DefenderConfig) score(e Event) int {
	switch e {
	case LoginFailed:
		return c.ScoreValid
	case UserNotFound:
		return c.ScoreInvalid
	case NoLoginTried:
		return c.ScoreNoAuth
	case LimitExceeded:
		return c.ScoreLimit
	}
	return 0
}

// event scores a host, and bans it at the threshold.
func (d *defender) event(host netip.Addr, p Protocol, e Event) {
	cfg := d.cfg.Load()
	points := cfg.score(e)
	if points <= 0 {
		return
	}
	now := d.now()
	s := &d.shards[shardOf(d.seed, host)]
	s.mu.Lock()
	x := s.hosts[host]
	if x != nil && !x.ban.IsZero() {
		if now.Before(x.ban) { // of a connection from before the ban
			s.mu.Unlock()
			return
		}
		d.banned.Add(-1)
		delete(s.hosts, host)
		x = nil
	}
	if x == nil {
		x = &suspect{}
		s.hosts[host] = x
		d.scored.Add(1)
	}
	x.events = append(x.within(now.Add(-minutes(cfg.ObservationTime))), scored{now, points})
	total := x.score()
	ban := total >= cfg.Threshold
	if all := d.shared.Load(); all != nil {
		all.send(job{kind: jobScore, host: host, p: p, points: points})
		if ban = ban && !all.healthy.Load(); ban { // else the store decides, by what all nodes know
			all.send(job{kind: jobBan, host: host, d: minutes(cfg.BanTime)})
		}
	}
	if ban {
		x.events, x.ban = nil, now.Add(minutes(cfg.BanTime))
		d.scored.Add(-1)
		d.banned.Add(1)
	}
	s.mu.Unlock()
	if ban {
		d.log.Info("banned", "sender", "defender", "client_ip", host.String(), "protocol", p.String(), "event", "banned", "until", now.Add(minutes(cfg.BanTime)))
	} else {
		d.log.Debug("scored", "sender", "defender", "client_ip", host.String(), "protocol", p.String(), "event", string(e), "increase_score_by", points, "score", total)
	}
	if int(d.scored.Load()) > cfg.HardLimit || int(d.banned.Load()) > cfg.HardLimit {
		d.trim(cfg, now)
	}
}

// within drops the events before a time. They are in order.
func (x *suspect) within(from time.Time) []scored {
	i := 0
	for i < len(x.events) && x.events[i].at.Before(from) {
		i++
	}
	return slices.Delete(x.events, 0, i)
}

func (x *suspect) score() (n int) {
	for _, e := range x.events {
		n += e.score
	}
	return n
}

// trim brings the tables down to the soft limit: hosts whose last event is longest ago go first, and bans that end
// soonest.
func (d *defender) trim(cfg *DefenderConfig, now time.Time) {
	if !d.trimming.TryLock() {
		return // somebody is at it
	}
	defer d.trimming.Unlock()
	type old struct {
		host netip.Addr
		at   time.Time
	}
	var hosts, bans []old
	for i := range d.shards {
		s := &d.shards[i]
		s.mu.RLock()
		for h, x := range s.hosts {
			if x.ban.IsZero() {
				hosts = append(hosts, old{h, x.events[len(x.events)-1].at})
			} else {
				bans = append(bans, old{h, x.ban})
			}
		}
		s.mu.RUnlock()
	}
	drop := func(list []old, count *atomic.Int64) {
		if len(list) <= cfg.HardLimit {
			return
		}
		slices.SortFunc(list, func(a, b old) int { return cmp.Or(a.at.Compare(b.at), a.host.Compare(b.host)) })
		for _, o := range list[:len(list)-cfg.SoftLimit] {
			s := &d.shards[shardOf(d.seed, o.host)]
			s.mu.Lock()
			if x := s.hosts[o.host]; x != nil && (x.ban.Equal(o.at) || x.ban.IsZero() && len(x.events) > 0 && x.events[len(x.events)-1].at.Equal(o.at)) {
				delete(s.hosts, o.host)
				count.Add(-1)
			}
			s.mu.Unlock()
		}
	}
	drop(hosts, &d.scored)
	drop(bans, &d.banned)
}

// Event scores the host of addr, unless the defender is off or the host is in a list.
func (g *Guard) Event(addr netip.Addr, p Protocol, e Event) {
	d := g.defender.Load()
	if d == nil {
		return
	}
	addr = addr.Unmap()
	lists, _ := g.list()
	if _, listed := lists.Defender.Match(addr, p); listed {
		return
	}
	d.event(hostOf(addr), p, e)
}

// LoginDelay is how long the answer to a login with a password is held back.
func (g *Guard) LoginDelay(ok bool) time.Duration {
	d := g.cfg.Load().Defender
	if !d.Enabled {
		return 0
	}
	ms := d.LoginDelay.PasswordFailed
	if ok {
		ms = d.LoginDelay.Success
	}
	return time.Duration(ms) * time.Millisecond
}

// Hosts lists who has a score or a ban, bans first.
func (g *Guard) Hosts() []Host {
	d := g.defender.Load()
	if d == nil {
		return nil
	}
	now := d.now()
	from := now.Add(-minutes(d.cfg.Load().ObservationTime))
	var out []Host
	for i := range d.shards {
		s := &d.shards[i]
		s.mu.Lock()
		for h, x := range s.hosts {
			if x.ban.After(now) {
				out = append(out, Host{Addr: h, Ban: x.ban})
			} else if x.ban.IsZero() {
				x.events = x.within(from)
				if n := x.score(); n > 0 {
					out = append(out, Host{Addr: h, Score: n})
				} else {
					delete(s.hosts, h)
					d.scored.Add(-1)
				}
			}
		}
		s.mu.Unlock()
	}
	slices.SortFunc(out, func(a, b Host) int {
		return cmp.Or(b.Ban.Compare(a.Ban), cmp.Compare(b.Score, a.Score), a.Addr.Compare(b.Addr))
	})
	return out
}

// Unban forgets what is known of the host of addr and reports whether there was something.
func (g *Guard) Unban(addr netip.Addr) bool {
	d := g.defender.Load()
	if d == nil {
		return false
	}
	host := hostOf(addr)
	d.shared.Load().send(job{kind: jobFree, host: host})
	s := &d.shards[shardOf(d.seed, host)]
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.hosts[host]
	if x == nil {
		return false
	}
	delete(s.hosts, host)
	if x.ban.IsZero() {
		d.scored.Add(-1)
	} else {
		d.banned.Add(-1)
	}
	return true
}

// String is for logs.
func (h Host) String() string { return fmt.Sprintf("%s score %d ban %v", h.Addr, h.Score, h.Ban) }
