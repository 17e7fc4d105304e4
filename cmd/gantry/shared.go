package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/gantryhq/gantry/cache"
	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/guard"
)

// The rhythm of a database that several nodes share.
const (
	followShared  = 500 * time.Millisecond // between two looks for changes, where nothing wakes us
	listenAgain   = time.Second            // before a lost listener is replaced
	sweepShared   = time.Minute
	sweepDeadline = 30 * time.Second
)

// NodeConfig is the section data_provider.node: how the others name this node.
type NodeConfig struct {
	Host  string `json:"host"` // empty: the machine's name
	Port  int    `json:"port"`
	Proto string `json:"proto"`
}

// member makes this process one of the nodes that share the database, under a name that no earlier start had.
func (s *settings) member() account.Node {
	n := account.Node{Host: s.DataProvider.Node.Host, Port: s.DataProvider.Node.Port, Proto: s.DataProvider.Node.Proto, Version: version, Started: time.Now().UnixMilli()}
	if n.Host == "" {
		n.Host, _ = os.Hostname()
	}
	b := make([]byte, 6)
	rand.Read(b) // never fails
	n.ID = n.Host + "-" + hex.EncodeToString(b)
	return n
}

// isShared reports whether other nodes may work on the database.
func (d *DataProvider) isShared() bool { return d.IsShared == 1 && d.isServer() }

// sharing is what a node of a shared database does beside serving.
type sharing struct {
	account.Shared
	node account.Node
	wake chan bool // for cache.FollowConfig
	stop context.CancelFunc
	done sync.WaitGroup
}

// share begins it, where the configuration says so; else it gives nil.
func (n *node) share() *sharing {
	if !n.s.DataProvider.isShared() {
		return nil
	}
	store, ok := n.store.(interface{ Shared() account.Shared })
	if !ok {
		return nil
	}
	ctx, stop := context.WithCancel(context.Background()) // ends with the node's stop
	s := &sharing{Shared: store.Shared(), node: n.member, wake: make(chan bool, 1), stop: stop}
	s.done.Go(func() { s.listen(ctx, n) })
	s.done.Go(func() { s.sweep(ctx, n) })
	n.later(func(context.Context) error {
		s.stop()
		s.done.Wait()
		return nil
	})
	return s
}

// follow is how the changes of a shared store are followed.
func (s *sharing) follow() cache.FollowConfig {
	if s == nil {
		return cache.FollowConfig{}
	}
	return cache.FollowConfig{Interval: followShared, Wake: s.wake}
}

// tell wakes the follower. A loss that waits to be told is not forgotten for a mere change.
func (s *sharing) tell(whole bool) {
	for {
		select {
		case s.wake <- whole:
			return
		default:
		}
		if whole {
			return // one is on its way
		}
		select {
		case <-s.wake:
		default:
		}
	}
}

// listen hears of changes until ctx ends. Each time the listener is lost all caches are dropped.
func (s *sharing) listen(ctx context.Context, n *node) {
	for ctx.Err() == nil {
		err := s.Listen(ctx, func() { s.tell(true) })
		if err == nil {
			return // the database cannot tell: the follower looks by itself
		}
		if ctx.Err() != nil {
			return
		}
		n.log.Warn("the listener for changes was lost, what was remembered is dropped", "sender", "service", "error", err)
		s.tell(false)
		t := time.NewTimer(listenAgain)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
}

// sweep removes what has expired, until ctx ends. Every node does it; there is little.
func (s *sharing) sweep(ctx context.Context, n *node) {
	tick := time.NewTicker(sweepShared)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		c, cancel := context.WithTimeout(ctx, sweepDeadline)
		err := s.Sweep(c, time.Duration(n.s.Common.Guard.Defender.ObservationTime)*3*time.Minute)
		cancel()
		if err != nil && ctx.Err() == nil {
			n.log.Warn("what expired is still in the database", "sender", "service", "error", err)
		}
	}
}

// shareDefender has the defender's scores and bans be those of all nodes.
func (s *sharing) shareDefender(n *node) {
	if s == nil || n.s.Common.Guard.Defender.Driver != "provider" {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { n.guard.Share(ctx, hosts{s.Shared}) })
	n.later(func(context.Context) error {
		stop()
		done.Wait()
		return nil
	})
}

// hosts is guard.Shared.
type hosts struct{ account.Shared }

// HostsSince implements guard.Shared.
func (h hosts) HostsSince(ctx context.Context, since int64, window time.Duration) ([]guard.HostState, int64, error) {
	list, now, err := h.Shared.HostsSince(ctx, since, window)
	out := make([]guard.HostState, 0, len(list))
	for _, x := range list {
		if a, err := netip.ParseAddr(x.Host); err == nil {
			out = append(out, guard.HostState{Host: a, Score: x.Score, Ban: x.Ban})
		}
	}
	return out, now, err
}
