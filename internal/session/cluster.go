package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/vfs"
)

// cluster is this server's place among the nodes of one database. What it holds there (room of accounts, sessions) is
// its own while it gives signs of life; after a silence it asks for all of it anew.
type cluster struct {
	shared account.Shared
	node   account.Node
	log    *slog.Logger
	now    func() time.Time
	fenced func(ctx context.Context) // everything that was held is gone

	beating sync.Mutex // one sign of life at a time

	mu     sync.Mutex // guards the fields below
	joined bool
	until  time.Time // what we hold is ours up to here, by our clock
	left   []string  // sessions whose end the store does not know yet

	recovering sync.Mutex           // one search for dead nodes at a time; guards scanned
	scanned    map[string]time.Time // dead nodes by when we counted what they left
}

// The cluster's rhythm.
const (
	beatEvery   = 2 * time.Second
	beatMargin  = 2 * time.Second // our clock may run slower than the database's
	orphanEvery = 3               // beats
	leaveWait   = 2 * time.Second
	sweepAfter  = 15 * time.Minute // a temporary file that nobody has touched for so long is a dead node's
	claimLife   = 10 * time.Minute // for counting what a dead node left
)

// Join makes the server one of the nodes that share its database, where Deps.Shared says that it is. It is called
// before Recover, once.
func (s *Server) Join(ctx context.Context) error {
	c := s.cluster
	if c == nil {
		return nil
	}
	if err := c.beat(ctx); err != nil {
		return fmt.Errorf("join the nodes of the database: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background()) // ends with Close
	s.leave = stop
	s.done.Go(func() { s.beats(ctx) })
	return nil
}

// beats gives signs of life until ctx ends, and looks after what dead nodes left.
func (s *Server) beats(ctx context.Context) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	var last error
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := s.cluster.beat(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			if last == nil {
				s.log.Error("no sign of life to the other nodes, will try again", "error", err)
			}
			last = err
			continue
		}
		last = nil
		if n%orphanEvery == 0 {
			if err := s.recoverOrphans(ctx); err != nil && ctx.Err() == nil {
				s.log.Error("what a dead node left is not counted yet", "error", err)
			}
		}
	}
}

// beat gives one sign of life. A node that the others took for dead comes back with nothing.
func (c *cluster) beat(ctx context.Context) error {
	c.beating.Lock()
	defer c.beating.Unlock()
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	at := c.now()
	fresh, err := c.shared.Beat(ctx, c.node)
	if err != nil {
		return err
	}
	c.mu.Lock()
	again := fresh && c.joined
	c.joined = true
	left := c.left
	c.left = nil
	c.mu.Unlock()
	if again {
		c.log.Warn("the other nodes took this one for dead; it begins anew")
		c.fenced(ctx)
	}
	c.mu.Lock()
	c.until = at.Add(account.NodeLife - beatMargin)
	c.mu.Unlock()
	for i, id := range left {
		if err := c.shared.LeaveSession(ctx, c.node.ID, id); err != nil {
			c.mu.Lock()
			c.left = append(c.left, left[i:]...)
			c.mu.Unlock()
			return err
		}
	}
	return nil
}

// good reports whether what we hold is ours now.
func (c *cluster) good() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now().Before(c.until)
}

// enter counts a session in over all nodes. An error other than ErrTooManySessions: nobody knows how many there are.
func (c *cluster) enter(ctx context.Context, x *Session, max int) error {
	if !c.good() {
		if err := c.beat(ctx); err != nil {
			return err
		}
	}
	ok, err := c.shared.EnterSession(ctx, c.node.ID, x.conn.ID, x.Username(), max)
	switch {
	case err != nil:
		c.leaveLater(x.conn.ID)
		return err
	case !ok:
		return fmt.Errorf("%w: %q may have %d on all nodes", ErrTooManySessions, x.Username(), max)
	}
	x.counted.Store(true)
	return nil
}

// leave counts a session out, later if the store does not answer.
func (c *cluster) leave(x *Session) {
	if !x.counted.Swap(false) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveWait) // the peer has gone
	defer cancel()
	if err := c.shared.LeaveSession(ctx, c.node.ID, x.conn.ID); err != nil {
		c.leaveLater(x.conn.ID)
	}
}

func (c *cluster) leaveLater(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = append(c.left, id)
}

// fenced forgets what was held, and counts the live sessions in again.
func (s *Server) fenced(ctx context.Context) {
	s.ledger.mu.Lock()
	list := slices.Collect(maps.Values(s.ledger.tallies))
	s.ledger.mu.Unlock()
	for _, t := range list {
		t.mu.Lock()
		t.lease = account.Room{}
		t.mu.Unlock()
	}
	for _, x := range s.live("") {
		if !x.counted.Load() {
			continue
		}
		if _, err := s.cluster.shared.EnterSession(ctx, s.cluster.node.ID, x.conn.ID, x.Username(), 0); err != nil {
			s.log.Error("a session is not counted on the other nodes", "user", x.Username(), "connection_id", x.conn.ID, "error", err)
		}
	}
}

// Nodes lists the living nodes of a shared database; none if it is not shared.
func (s *Server) Nodes(ctx context.Context) ([]account.Node, error) {
	if s.cluster == nil {
		return nil, nil
	}
	return s.cluster.shared.Nodes(ctx)
}

// recoverOrphans puts the counters of accounts right that dead nodes were changing. One node does it. The mark of an
// account stays until its temporary files are old enough to be swept, and while another node is changing it.
func (s *Server) recoverOrphans(ctx context.Context) error {
	c := s.cluster
	c.recovering.Lock()
	defer c.recovering.Unlock()
	dead, err := c.shared.Orphans(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, node := range dead {
		first, counted := c.scanned[node]
		if counted && c.now().Sub(first) < sweepAfter {
			continue
		}
		mine, err := c.shared.ClaimValue(ctx, "recover", node, []byte(c.node.ID), claimLife)
		if err != nil || !mine {
			errs = append(errs, err)
			continue
		}
		err = s.recoverOrphan(ctx, node, counted)
		if err == nil && !counted {
			c.scanned[node] = c.now()
		}
		errs = append(errs, err, c.shared.DropValue(ctx, "recover", node))
	}
	return errors.Join(errs...)
}

func (s *Server) recoverOrphan(ctx context.Context, node string, sweep bool) error {
	keys, err := s.deps.Counters.Dirty(ctx, node)
	if err != nil {
		return err
	}
	var errs []error
	for _, key := range keys {
		if sweep {
			busy, err := s.cluster.shared.DirtyElsewhere(ctx, node, key)
			if err != nil {
				return err
			}
			if !busy {
				err = s.sweepAndScan(ctx, key)
			}
			if busy || err != nil && !errors.Is(err, account.ErrNotFound) {
				errs = append(errs, err)
				continue
			}
			if err := s.deps.Counters.ClearDirty(ctx, node, []account.CounterKey{key}); err != nil {
				return err
			}
			continue
		}
		begin := s.deps.Now()
		_, _, err := s.Scan(ctx, key)
		switch {
		case errors.Is(err, account.ErrNotFound): // deleted since
			if err := s.deps.Counters.ClearDirty(ctx, node, []account.CounterKey{key}); err != nil {
				return err
			}
		case err != nil:
			errs = append(errs, fmt.Errorf("recover %s %q: %w", key.Kind, key.Name, err))
		default:
			s.log.Info("counted after a node died", "node", node, "kind", key.Kind, "name", key.Name, "dur", s.deps.Now().Sub(begin))
		}
	}
	return errors.Join(errs...)
}

// sweepAndScan removes temporary files that nobody has touched for long, and counts.
func (s *Server) sweepAndScan(ctx context.Context, key account.CounterKey) error {
	trees, free, err := s.trees(ctx, key)
	if err != nil {
		return err
	}
	defer free()
	for _, t := range trees {
		if sw, ok := vfs.As[vfs.Sweeper](t.fs); ok {
			if _, err := sw.Sweep(ctx, s.deps.Now().Add(-sweepAfter)); err != nil {
				return err
			}
		}
	}
	return s.scan(ctx, key, trees)
}

// limit is what the account may have in all.
func (c *charge) limit() account.Room { return account.Room{Files: c.files, Bytes: c.bytes} }

// withRoom calls take with what is free of limit, the tally locked, until it took what it wants. With other nodes what
// we hold is free, and more is asked for: at least need, and some of spare.
func (t *tally) withRoom(need, spare, limit account.Room, take func(free account.Room) bool) error {
	c := t.ledger.cluster
	t.mu.Lock()
	defer t.mu.Unlock()
	if c == nil {
		if !take(account.Room{Files: limit.Files - max(0, t.files) - t.heldFiles, Bytes: limit.Bytes - max(0, t.bytes) - t.heldBytes}) {
			return ErrQuota
		}
		return nil
	}
	if c.good() && take(t.held()) {
		return nil
	}
	t.mu.Unlock()
	err := t.more(need, spare, limit)
	t.mu.Lock()
	if err != nil {
		return err
	}
	if !take(t.held()) {
		return ErrQuota
	}
	return nil
}

// held is what of our lease is free. The caller holds mu.
func (t *tally) held() account.Room {
	return account.Room{
		Files: t.lease.Files - (t.owedFiles - int64(t.sending.Files)) - t.heldFiles,
		Bytes: t.lease.Bytes - (t.owedBytes - t.sending.Bytes) - t.heldBytes,
	}
}

// more asks the store for room, need beyond what is in use here. What is granted is in the lease; it may be less.
func (t *tally) more(need, spare, limit account.Room) error {
	ctx, cancel := context.WithTimeout(context.Background(), t.ledger.wait) // writes have no context of their own
	defer cancel()
	if err := t.hold(ctx); err != nil {
		return err
	}
	defer t.unhold()
	c := t.ledger.cluster
	if !c.good() {
		if err := c.beat(ctx); err != nil {
			return fmt.Errorf("room of %s %q: %w", t.key.Kind, t.key.Name, err)
		}
	}
	for try := 0; ; try++ {
		t.mu.Lock()
		// What was being sent and may not be there is still covered by what we ask for.
		used := account.Room{Files: max(0, t.owedFiles+t.heldFiles), Bytes: max(0, t.owedBytes+t.heldBytes)}
		ask := account.Room{Files: used.Files + need.Files, Bytes: used.Bytes + need.Bytes}
		more := spare
		if need.Files == 0 {
			ask.Files = max(ask.Files, t.lease.Files+int64(max(0, t.sending.Files)))
		}
		if need.Bytes == 0 {
			ask.Bytes = max(ask.Bytes, t.lease.Bytes+max(0, t.sending.Bytes))
		}
		t.mu.Unlock()
		got, _, err := c.shared.Lease(ctx, c.node.ID, t.key, ask, more, limit)
		if errors.Is(err, account.ErrFenced) && try == 0 {
			if err := c.beat(ctx); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("room of %s %q: %w", t.key.Kind, t.key.Name, err)
		}
		t.mu.Lock()
		t.lease = account.Room{Files: got.Files - int64(max(0, t.sending.Files)), Bytes: got.Bytes - max(0, t.sending.Bytes)}
		t.mu.Unlock()
		return nil
	}
}

// hold takes the token of load, mark, lease and settlement.
func (t *tally) hold(ctx context.Context) error {
	select {
	case t.mark <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("counters of %s %q: %w", t.key.Kind, t.key.Name, ctx.Err())
	}
}

func (t *tally) unhold() { <-t.mark }

// refresh reads what all nodes have counted. The caller holds the token.
func (t *tally) refresh(ctx context.Context) (account.Usage, error) {
	u, err := t.ledger.store.Usage(ctx, t.key)
	if err != nil {
		return u, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.read = t.ledger.now()
	if t.sending != (account.Delta{}) { // nobody knows whether it is in u
		return u, nil
	}
	t.files, t.bytes = int64(u.Files)+t.owedFiles, u.Bytes+t.owedBytes
	t.up.Add(u.Uploaded - t.saidUp)
	t.down.Add(u.Downloaded - t.saidDown)
	t.saidUp, t.saidDown = u.Uploaded, u.Downloaded
	return u, nil
}

// usageAge is how old the counters may be that are shown, when other nodes count too.
const usageAge = time.Second

// renew reads the counters again if other nodes may have moved them. Where that fails the old ones stay.
func (t *tally) renew() {
	if t.ledger.cluster == nil {
		return
	}
	t.mu.Lock()
	old := t.loaded && t.ledger.now().Sub(t.read) >= usageAge
	t.mu.Unlock()
	if !old {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), t.ledger.wait)
	defer cancel()
	if t.hold(ctx) == nil {
		t.refresh(ctx)
		t.unhold()
	}
}

// giveBack ends the lease. The caller holds the token, and has emptied t.lease.
func (t *tally) giveBack(ctx context.Context) error {
	_, _, err := t.ledger.cluster.shared.Lease(ctx, t.ledger.cluster.node.ID, t.key, account.Room{}, account.Room{}, account.Room{})
	if errors.Is(err, account.ErrNotFound) {
		err = nil
	}
	return err
}

// batch is what is sent to the store in one step, under a number.
type batch struct {
	number int64
	of     []*tally
	deltas []account.Delta
}

// settleShared writes what is owed, once, whatever happens on the way: a batch whose outcome is not known is sent again
// under its number before another is made. The caller holds settling.
func (l *ledger) settleShared(ctx context.Context, list []*tally) error {
	if l.unsent != nil {
		if err := l.send(ctx, l.unsent, false); err != nil {
			return err
		}
	}
	b := &batch{number: l.now().UnixNano()}
	if b.number <= l.batches {
		b.number = l.batches + 1
	}
	for _, t := range list {
		if _, ok := t.owed(); !ok {
			continue
		}
		if err := t.known(ctx); err != nil && !errors.Is(err, account.ErrNotFound) {
			return err
		}
		select {
		case t.mark <- struct{}{}:
		default:
			continue // its turn comes
		}
		d, ok := t.owed()
		if !ok {
			t.unhold()
			continue
		}
		t.mu.Lock()
		t.sending = d
		t.lease = account.Room{Files: max(0, t.lease.Files-int64(max(0, d.Files))), Bytes: max(0, t.lease.Bytes-max(0, d.Bytes))}
		t.mu.Unlock()
		b.of, b.deltas = append(b.of, t), append(b.deltas, d)
	}
	if len(b.of) == 0 {
		return nil
	}
	l.batches = b.number
	return l.send(ctx, b, true)
}

// send writes one batch. held says that the tokens of its tallies are taken; they are free afterwards.
func (l *ledger) send(ctx context.Context, b *batch, held bool) error {
	if !held {
		for i, t := range b.of {
			if err := t.hold(ctx); err != nil {
				for _, t := range b.of[:i] {
					t.unhold()
				}
				return err
			}
		}
	}
	defer func() {
		for _, t := range b.of {
			t.unhold()
		}
	}()
	settlements := make([]account.Settlement, len(b.of))
	for i, t := range b.of {
		t.mu.Lock()
		settlements[i] = account.Settlement{Delta: b.deltas[i], Lease: t.lease}
		t.mu.Unlock()
	}
	err := l.cluster.shared.SettleLeased(ctx, l.cluster.node.ID, b.number, settlements)
	if errors.Is(err, account.ErrFenced) {
		if err = l.cluster.beat(ctx); err == nil {
			for i := range settlements {
				settlements[i].Lease = account.Room{}
			}
			err = l.cluster.shared.SettleLeased(ctx, l.cluster.node.ID, b.number, settlements)
		}
	}
	if err != nil {
		l.unsent = b
		return err
	}
	l.unsent = nil
	for i, t := range b.of {
		t.paid(b.deltas[i])
		t.mu.Lock()
		t.sending = account.Delta{}
		t.mu.Unlock()
		if b.deltas[i].Uploaded != 0 || b.deltas[i].Downloaded != 0 {
			if _, err := t.refresh(ctx); err != nil && !errors.Is(err, account.ErrNotFound) {
				l.log.Warn("counters of other nodes cannot be read", "kind", t.key.Kind, "name", t.key.Name, "error", err)
			}
		}
	}
	return nil
}
