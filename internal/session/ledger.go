package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gantryhq/gantry/internal/account"
)

// ledger keeps the accounts' counters in memory, writes what changed to the store in batches, and keeps
// the durable marks of accounts that change. A store that is lost delays the writes; it never undoes what
// was done, nor gives room that nobody knows to be free.
type ledger struct {
	store account.Counters // immutable, as log, node and now
	log   *slog.Logger
	node  string
	now   func() time.Time
	wake  chan struct{}
	wait  time.Duration // for one call of the store
	every time.Duration // between two batches

	cluster *cluster // nil: nobody else counts

	settling sync.Mutex // guards the fields below; taken before a tally's token
	unsent   *batch     // what may or may not be in the store
	batches  int64      // the number of the last one

	mu      sync.Mutex // guards the fields below
	tallies map[account.CounterKey]*tally
	logins  map[string]int64 // ms, to be written
	// doubtful are accounts that a crash left and that could not be scanned: their marks stay.
	doubtful map[account.CounterKey]bool
}

// The ledger's rhythm.
const (
	settleEvery = 500 * time.Millisecond
	clearAfter  = 2 * time.Second // an account at rest loses its mark
	retryMax    = 30 * time.Second
)

func newLedger(d Deps) *ledger {
	return &ledger{
		store: d.Counters, log: d.Log, node: d.Node, now: d.Now, wake: make(chan struct{}, 1), wait: storeWait, every: settleEvery,
		tallies: map[account.CounterKey]*tally{}, logins: map[string]int64{}, doubtful: map[account.CounterKey]bool{},
	}
}

// tally is one account's counters. The numbers include what is not yet in the store.
type tally struct {
	key    account.CounterKey
	ledger *ledger
	mark   chan struct{} // holds one token; who has it may load, mark or clear

	refs int // guarded by ledger.mu

	// Totals of data transfers in bytes, with what is under way; moved without a lock.
	up, down atomic.Int64

	mu        sync.Mutex // guards the fields below
	loaded    bool
	marked    bool // the store has the durable mark
	busy      int  // operations under way
	rested    time.Time
	files     int64
	bytes     int64
	heldFiles int64 // reserved
	heldBytes int64
	owedFiles int64 // not yet in the store
	owedBytes int64
	saidUp    int64 // of up and down, what the store has
	saidDown  int64

	// With other nodes: what the store holds for us beyond what is in it and on its way to it, when we last read it,
	// and what is on its way.
	lease   account.Room
	read    time.Time
	sending account.Delta
}

// tally finds the counters of key and holds them until release.
func (l *ledger) tally(key account.CounterKey) *tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tallies[key]
	if t == nil {
		t = &tally{key: key, ledger: l, mark: make(chan struct{}, 1), rested: l.now()}
		l.tallies[key] = t
	}
	t.refs++
	return t
}

func (t *tally) release() {
	t.ledger.mu.Lock()
	t.refs--
	t.ledger.mu.Unlock()
	t.ledger.poke() // it may be forgotten once it is at rest
}

// poke asks for a round of the writer.
func (l *ledger) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// begin opens an operation that may change the counters: it sees that they are known and that the durable
// mark stands before anything is published. end closes it. The operation is open even if there is an
// error: what may go on without the store (a removal, an account without limits) does.
func (t *tally) begin(ctx context.Context) error {
	t.mu.Lock()
	t.busy++
	ready := t.marked && t.loaded
	t.mu.Unlock()
	if ready {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, t.ledger.wait)
	defer cancel()
	select {
	case t.mark <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("counters of %s %q: %w", t.key.Kind, t.key.Name, ctx.Err())
	}
	defer func() { <-t.mark }()
	if err := t.load(ctx); err != nil {
		return err
	}
	t.mu.Lock()
	marked := t.marked
	t.mu.Unlock()
	if marked {
		return nil
	}
	if err := t.ledger.store.MarkDirty(ctx, t.ledger.node, []account.CounterKey{t.key}); err != nil {
		return fmt.Errorf("mark %s %q: %w", t.key.Kind, t.key.Name, err)
	}
	t.mu.Lock()
	t.marked = true
	t.mu.Unlock()
	return nil
}

func (t *tally) end() {
	t.mu.Lock()
	t.busy--
	t.rested = t.ledger.now()
	t.mu.Unlock()
	t.ledger.poke()
}

// known loads the counters if they are not; for reports and transfer limits.
func (t *tally) known(ctx context.Context) error {
	t.mu.Lock()
	ok := t.loaded
	t.mu.Unlock()
	if ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, t.ledger.wait)
	defer cancel()
	select {
	case t.mark <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-t.mark }()
	return t.load(ctx)
}

// load reads the counters once. The caller holds mark. Nothing is written before, so that what is owed
// comes on top.
func (t *tally) load(ctx context.Context) error {
	t.mu.Lock()
	loaded := t.loaded
	t.mu.Unlock()
	if loaded {
		return nil
	}
	u, err := t.ledger.store.Usage(ctx, t.key)
	if err != nil {
		return fmt.Errorf("usage of %s %q: %w", t.key.Kind, t.key.Name, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.files += int64(u.Files)
	t.bytes += u.Bytes
	t.up.Add(u.Uploaded)
	t.down.Add(u.Downloaded)
	t.saidUp, t.saidDown = u.Uploaded, u.Downloaded
	t.loaded, t.read = true, t.ledger.now()
	return nil
}

// move changes the counters.
func (t *tally) move(files, bytes int64) {
	if files == 0 && bytes == 0 {
		return
	}
	t.mu.Lock()
	t.moveLocked(files, bytes)
	t.mu.Unlock()
	t.ledger.poke()
}

func (t *tally) moveLocked(files, bytes int64) {
	t.files += files
	t.bytes += bytes
	t.owedFiles += files
	t.owedBytes += bytes
}

// used is the account's use, reservations apart.
func (t *tally) used() (files, bytes, heldFiles, heldBytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return max(0, t.files), max(0, t.bytes), t.heldFiles, t.heldBytes
}

// take counts n bytes of a data transfer, unless max would be passed (0: none). With both, the other
// direction counts too. Concurrent transfers are summed: together they cannot pass it.
func take(mine, other *atomic.Int64, n, max, total int64) bool {
	now := mine.Add(n)
	if max > 0 && now > max || total > 0 && now+other.Load() > total {
		mine.Add(-n)
		return false
	}
	return true
}

// noteLogin has the time of a login written with the next batch.
func (l *ledger) noteLogin(name string, ms int64) {
	l.mu.Lock()
	l.logins[name] = ms
	l.mu.Unlock()
	l.poke()
}

// run writes batches until ctx ends.
func (l *ledger) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	pause := l.every
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		}
		// Let more of it gather, and accounts come to rest.
		timer.Reset(pause)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		again, err := l.round(ctx, clearAfter)
		switch {
		case err != nil && ctx.Err() == nil:
			l.log.Error("counters cannot be written, will try again", "error", err)
			pause = min(2*pause, retryMax)
			l.poke()
		case again:
			pause = l.every
			l.poke()
		default:
			pause = l.every
		}
	}
}

// settleAll writes everything and clears every mark, for the end of the server.
func (l *ledger) settleAll(ctx context.Context) error {
	for range 3 {
		again, err := l.round(ctx, 0)
		if err != nil || !again {
			return err
		}
	}
	return nil
}

// round writes what is owed, clears the marks of accounts at rest for that long, and forgets those that
// nobody holds. again says that something is left for a later round.
func (l *ledger) round(ctx context.Context, rest time.Duration) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*l.wait)
	defer cancel()
	l.mu.Lock()
	list := slices.Collect(maps.Values(l.tallies))
	logins := l.logins
	l.logins = map[string]int64{}
	l.mu.Unlock()
	for name, ms := range logins {
		if err := l.store.SetLastLogin(ctx, name, ms); err != nil && !errors.Is(err, account.ErrNotFound) {
			l.log.Warn("last login cannot be written", "user", name, "error", err)
		}
	}
	var errs []error
	if err := l.settle(ctx, list); err != nil {
		errs = append(errs, err)
	}
	for _, t := range list {
		left, err := t.tidy(ctx, rest)
		again = again || left
		if err != nil {
			errs = append(errs, err)
		}
	}
	return again, errors.Join(errs...)
}

// settle writes the deltas in one transaction. An account that is gone takes its counters along.
func (l *ledger) settle(ctx context.Context, list []*tally) error {
	if l.cluster != nil {
		l.settling.Lock()
		defer l.settling.Unlock()
		return l.settleShared(ctx, list)
	}
	return l.settleAlone(ctx, list)
}

func (l *ledger) settleAlone(ctx context.Context, list []*tally) error {
	var deltas []account.Delta
	var of []*tally
	for _, t := range list {
		if _, ok := t.owed(); ok {
			if err := t.known(ctx); err != nil && !errors.Is(err, account.ErrNotFound) {
				return err
			}
			if d, ok := t.owed(); ok {
				deltas, of = append(deltas, d), append(of, t)
			}
		}
	}
	if len(deltas) == 0 {
		return nil
	}
	err := l.store.Settle(ctx, deltas)
	if errors.Is(err, account.ErrNotFound) && len(deltas) > 1 {
		err = nil
		for i, d := range deltas {
			one := l.store.Settle(ctx, []account.Delta{d})
			if one == nil || errors.Is(one, account.ErrNotFound) {
				of[i].paid(d)
			} else {
				err = errors.Join(err, one)
			}
		}
		return err
	}
	if err != nil && !errors.Is(err, account.ErrNotFound) {
		return err
	}
	for i, t := range of {
		t.paid(deltas[i])
	}
	return nil
}

// owed is what the store does not have yet.
func (t *tally) owed() (account.Delta, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := account.Delta{Key: t.key, Files: int(t.owedFiles), Bytes: t.owedBytes}
	if t.key.Kind == account.KindUser {
		d.Uploaded, d.Downloaded = t.up.Load()-t.saidUp, t.down.Load()-t.saidDown
	}
	return d, d.Files != 0 || d.Bytes != 0 || d.Uploaded != 0 || d.Downloaded != 0
}

// paid notes that the store has d.
func (t *tally) paid(d account.Delta) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.owedFiles -= int64(d.Files)
	t.owedBytes -= d.Bytes
	t.saidUp += d.Uploaded
	t.saidDown += d.Downloaded
	t.files, t.bytes = max(t.files, t.owedFiles, 0), max(t.bytes, t.owedBytes, 0) // as the store does
}

// doubt keeps the mark of key until the account is scanned.
func (l *ledger) doubt(key account.CounterKey, doubtful bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if doubtful {
		l.doubtful[key] = true
	} else {
		delete(l.doubtful, key)
	}
}

func (l *ledger) isDoubtful(key account.CounterKey) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.doubtful[key]
}

// tidy clears the mark of an account at rest and forgets one that nobody holds.
func (t *tally) tidy(ctx context.Context, rest time.Duration) (left bool, err error) {
	select {
	case t.mark <- struct{}{}:
	default:
		return true, nil // somebody marks it just now
	}
	defer func() { <-t.mark }()
	now, keep := t.ledger.now(), t.ledger.isDoubtful(t.key)
	t.mu.Lock()
	if t.busy > 0 || t.owedFiles != 0 || t.owedBytes != 0 {
		busy := t.busy > 0
		t.mu.Unlock()
		return !busy, nil // the end of the operation wakes the writer
	}
	if t.marked && now.Sub(t.rested) < rest {
		t.mu.Unlock()
		return true, nil
	}
	idle := t.lease != (account.Room{})
	t.lease = account.Room{}
	clear := t.marked && !keep
	t.marked = t.marked && !clear // before the store's: who comes now waits for the mark and sets it again
	t.mu.Unlock()
	if idle {
		if err := t.giveBack(ctx); err != nil {
			return true, err
		}
	}
	if clear {
		if err := t.ledger.store.ClearDirty(ctx, t.ledger.node, []account.CounterKey{t.key}); err != nil {
			t.mu.Lock()
			t.marked = true
			t.mu.Unlock()
			return true, fmt.Errorf("clear the mark of %s %q: %w", t.key.Kind, t.key.Name, err)
		}
	}
	_, owes := t.owed()
	t.ledger.mu.Lock()
	defer t.ledger.mu.Unlock()
	if t.refs == 0 && !owes {
		delete(t.ledger.tallies, t.key)
	}
	return false, nil
}
