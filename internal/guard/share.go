package guard

import (
	"context"
	"net/netip"
	"sync/atomic"
	"time"
)

// Shared keeps scores and bans that several nodes have together (defender.driver "provider"). Addresses are those of
// hosts. No peer waits for it.
type Shared interface {
	// ScoreHost notes points of a host and gives the sum of the window.
	ScoreHost(ctx context.Context, host string, points int, window time.Duration) (total int, err error)
	// BanHost bans a host for d from now, or longer if it is banned longer, and forgets its points.
	BanHost(ctx context.Context, host string, d time.Duration) error
	ExtendBan(ctx context.Context, host string, d, most time.Duration) error
	FreeHost(ctx context.Context, host string) (known bool, err error)
	// HostsSince lists the hosts whose state changed after a time (ms) that an earlier call gave.
	HostsSince(ctx context.Context, since int64, window time.Duration) (list []HostState, now int64, err error)
}

// HostState is what the nodes know together of a host. Without score and ban it is free.
type HostState struct {
	Host  netip.Addr
	Score int
	Ban   time.Duration // what is left of it
}

// The bounds of sharing.
const (
	shareJobs    = 4096 // that wait for the store; more are dropped, the node knows them still
	shareEvery   = 500 * time.Millisecond
	shareOverlap = 5000 // ms: a change may be committed later than a newer one was seen
	shareWait    = 5 * time.Second
)

// jobKind is what the store is to be told.
type jobKind int

const (
	jobScore jobKind = iota
	jobBan
	jobExtend
	jobFree
)

type job struct {
	kind   jobKind
	host   netip.Addr
	p      Protocol
	points int
	d      time.Duration
}

// sharing is the way to the other nodes.
type sharing struct {
	jobs    chan job
	healthy atomic.Bool // the store answers: it decides who is banned
}

func (s *sharing) send(j job) {
	if s == nil {
		return
	}
	select {
	case s.jobs <- j:
	default:
	}
}

// Share has this guard's scores and bans be those of all nodes, until ctx ends. While the store does not answer the
// guard goes on with what it knows.
func (g *Guard) Share(ctx context.Context, store Shared) {
	s := &sharing{jobs: make(chan job, shareJobs)}
	g.shared.Store(s)
	defer g.shared.Store(nil)
	var waiting []job // in order; the first one failed
	var since int64
	tick := time.NewTicker(shareEvery)
	defer tick.Stop()
	for first := true; ; first = false {
		if !first {
			select {
			case <-ctx.Done():
				return
			case j := <-s.jobs:
				if len(waiting) < shareJobs {
					waiting = append(waiting, j)
				}
				if !s.healthy.Load() {
					continue // at the next tick
				}
			case <-tick.C:
			}
		}
		err := g.share(ctx, store, s, &waiting, &since)
		if ctx.Err() != nil {
			return
		}
		if was := s.healthy.Swap(err == nil); was && err != nil || first && err != nil {
			g.log.Error("the defender does not reach the other nodes, it goes on by itself", "sender", "defender", "error", err)
		}
	}
}

// share tells what waits and reads what is new.
func (g *Guard) share(ctx context.Context, store Shared, s *sharing, waiting *[]job, since *int64) error {
	ctx, cancel := context.WithTimeout(ctx, shareWait)
	defer cancel()
	for {
		for len(*waiting) > 0 {
			if err := g.tellJob(ctx, store, (*waiting)[0]); err != nil {
				return err
			}
			*waiting = (*waiting)[1:]
		}
		select {
		case j := <-s.jobs:
			*waiting = append(*waiting, j)
			continue
		default:
		}
		break
	}
	d := g.defender.Load()
	if d == nil {
		return nil
	}
	list, now, err := store.HostsSince(ctx, max(0, *since-shareOverlap), minutes(d.cfg.Load().ObservationTime))
	if err != nil {
		return err
	}
	*since = now
	for _, h := range list {
		d.set(h)
	}
	return nil
}

func (g *Guard) tellJob(ctx context.Context, store Shared, j job) error {
	d := g.defender.Load()
	if d == nil {
		return nil
	}
	cfg := d.cfg.Load()
	host := j.host.String()
	switch j.kind {
	case jobScore:
		total, err := store.ScoreHost(ctx, host, j.points, minutes(cfg.ObservationTime))
		if err != nil || total < cfg.Threshold {
			return err
		}
		if err := store.BanHost(ctx, host, minutes(cfg.BanTime)); err != nil {
			return err
		}
		d.ban(j.host, j.p, cfg)
	case jobBan:
		return store.BanHost(ctx, host, j.d)
	case jobExtend:
		return store.ExtendBan(ctx, host, j.d, maxBan)
	case jobFree:
		_, err := store.FreeHost(ctx, host)
		return err
	}
	return nil
}

// ban bans a host that the nodes together have scored enough.
func (d *defender) ban(host netip.Addr, p Protocol, cfg *DefenderConfig) {
	until := d.now().Add(minutes(cfg.BanTime))
	d.set(HostState{Host: host, Ban: minutes(cfg.BanTime)})
	d.log.Info("banned", "sender", "defender", "client_ip", host.String(), "protocol", p.String(), "event", "banned", "until", until)
}

// set makes what is known of a host what all nodes know.
func (d *defender) set(h HostState) {
	now := d.now()
	s := &d.shards[shardOf(d.seed, h.Host)]
	s.mu.Lock()
	x := s.hosts[h.Host]
	if x != nil {
		if x.ban.IsZero() {
			d.scored.Add(-1)
		} else {
			d.banned.Add(-1)
		}
		delete(s.hosts, h.Host)
	}
	switch {
	case h.Ban > 0:
		s.hosts[h.Host] = &suspect{ban: now.Add(h.Ban)}
		d.banned.Add(1)
	case h.Score > 0:
		s.hosts[h.Host] = &suspect{events: []scored{{now, h.Score}}}
		d.scored.Add(1)
	}
	s.mu.Unlock()
	if cfg := d.cfg.Load(); int(d.scored.Load()) > cfg.HardLimit || int(d.banned.Load()) > cfg.HardLimit {
		d.trim(cfg, now)
	}
}
