package cache

import (
	"context"
	"errors"
	"time"
)

// Row is one change that a Feed tells of.
type Row struct {
	Seq       int64
	Kind, Key string
}

// Feed tells what changed: up to limit rows with Seq > after, in order, and the newest Seq there is.
type Feed func(ctx context.Context, after int64, limit int) (rows []Row, newest int64, err error)

// FollowConfig says how a Feed is polled.
type FollowConfig struct {
	Interval time.Duration // between polls; 0 means a second
	// Overlap is how long rows are asked for again: a writer may commit a lower Seq after a higher one
	// was seen. 0 means 10 s.
	Overlap time.Duration
	// Wake has the next poll made at once. false says that the one who wakes was lost and may have missed something:
	// that poll's Batch is All.
	Wake <-chan bool
	// Timeout bounds one poll. 0 means 5 s.
	Timeout time.Duration
	// Tick, if set, replaces the timer: one poll for each value. For tests.
	Tick <-chan time.Time
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// The bounds of what a follower keeps: rows it asks for in one poll, and rows below the newest that it
// looks at when it starts.
const (
	followRows  = 4096
	followStart = 512
)

// Batch is what one poll found. All means that anything may have changed: the follower has just begun, a
// poll was lost, or too much changed to tell. A Batch with Err is a poll that failed; it is All too.
type Batch struct {
	All  bool
	Rows []Row
	Err  error
}

// Follow polls feed until ctx ends and hands each poll's outcome to apply, empty ones too, so that apply
// knows when the feed was last heard. apply is called by one goroutine, Follow's own. It returns ctx's
// error.
func Follow(ctx context.Context, feed Feed, cfg FollowConfig, apply func(Batch)) error {
	f := follower{feed: feed, cfg: cfg}
	if f.cfg.Interval <= 0 {
		f.cfg.Interval = time.Second
	}
	if f.cfg.Overlap <= 0 {
		f.cfg.Overlap = 10 * time.Second
	}
	if f.cfg.Timeout <= 0 {
		f.cfg.Timeout = 5 * time.Second
	}
	if f.cfg.Now == nil {
		f.cfg.Now = time.Now
	}
	tick := f.cfg.Tick
	if tick == nil {
		t := time.NewTicker(f.cfg.Interval)
		defer t.Stop()
		tick = t.C
	}
	for {
		b := f.poll(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		apply(b)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick:
		case whole := <-cfg.Wake:
			f.known = f.known && whole
		}
	}
}

// follower is the state between polls. Owned by Follow's goroutine.
type follower struct {
	feed Feed
	cfg  FollowConfig

	known bool           // the fields below hold
	after int64          // rows up to here were seen, and are older than the overlap
	seen  map[int64]bool // rows above after that were seen
	marks []mark         // by time
}

// mark says which Seq was the newest at a time.
type mark struct {
	at     time.Time
	newest int64
}

func (f *follower) poll(ctx context.Context) Batch {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Timeout)
	defer cancel()
	b, err := f.read(ctx)
	if err != nil {
		f.known = false // what was missed is not known: begin anew
		return Batch{All: true, Err: err}
	}
	return b
}

func (f *follower) read(ctx context.Context) (Batch, error) {
	now := f.cfg.Now()
	begin := !f.known
	if begin {
		_, newest, err := f.feed(ctx, 1<<62, 1)
		if err != nil {
			return Batch{}, err
		}
		f.after, f.seen, f.marks = max(0, newest-followStart), map[int64]bool{}, nil
	}
	rows, newest, err := f.feed(ctx, f.after, followRows)
	if err != nil {
		return Batch{}, err
	}
	if newest < f.after || newest == 0 && len(rows) > 0 {
		return Batch{}, errors.New("the changes went back: the store was replaced")
	}
	b := Batch{All: begin || len(rows) >= followRows}
	for _, r := range rows {
		if f.seen[r.Seq] {
			continue
		}
		f.seen[r.Seq] = true
		if !b.All {
			b.Rows = append(b.Rows, r)
		}
	}
	f.known = true
	f.settle(now, newest)
	return b, nil
}

// settle moves after to what was the newest an overlap ago.
func (f *follower) settle(now time.Time, newest int64) {
	if n := len(f.marks); n == 0 || f.marks[n-1].newest != newest {
		f.marks = append(f.marks, mark{now, newest})
	}
	old := f.after
	for len(f.marks) > 0 && now.Sub(f.marks[0].at) >= f.cfg.Overlap {
		f.after = max(f.after, f.marks[0].newest)
		f.marks = f.marks[1:]
	}
	if f.after != old {
		for seq := range f.seen {
			if seq <= f.after {
				delete(f.seen, seq)
			}
		}
	}
}
