package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// source is a feed in memory.
type source struct {
	mu   sync.Mutex
	rows []Row
	err  error
}

func (s *source) feed(ctx context.Context, after int64, limit int) ([]Row, int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, 0, s.err
	}
	slices.SortFunc(s.rows, func(a, b Row) int { return int(a.Seq - b.Seq) })
	var out []Row
	var newest int64
	for _, r := range s.rows {
		newest = max(newest, r.Seq)
		if r.Seq > after && len(out) < limit {
			out = append(out, r)
		}
	}
	return out, newest, nil
}

func (s *source) add(seqs ...int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range seqs {
		s.rows = append(s.rows, Row{Seq: n, Kind: "user", Key: fmt.Sprint(n)})
	}
}

func (s *source) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// following polls a source by hand.
type following struct {
	*source
	clock *clock
	f     follower
}

func newFollowing() *following {
	c := &clock{t: time.Unix(1000, 0)}
	s := &source{}
	return &following{s, c, follower{feed: s.feed, cfg: FollowConfig{Overlap: 10 * time.Second, Timeout: time.Second, Now: c.now}}}
}

func (w *following) poll() Batch { return w.f.poll(context.Background()) }

func want(t *testing.T, b Batch, all bool, seqs ...int64) {
	t.Helper()
	var got []int64
	for _, r := range b.Rows {
		got = append(got, r.Seq)
	}
	if b.All != all || !slices.Equal(got, seqs) {
		t.Fatalf("got all %v, rows %v, error %v; want all %v, rows %v", b.All, got, b.Err, all, seqs)
	}
}

func TestFollowTellsEachRowOnce(t *testing.T) {
	w := newFollowing()
	w.add(1, 2)
	want(t, w.poll(), true) // what is remembered from before may be old
	want(t, w.poll(), false)
	w.add(3)
	want(t, w.poll(), false, 3)
	for range 30 {
		w.clock.add(time.Second)
		want(t, w.poll(), false)
	}
	w.add(4, 5)
	want(t, w.poll(), false, 4, 5)
	if len(w.f.seen) > 2 {
		t.Errorf("%d rows are kept in mind, want 2", len(w.f.seen))
	}
}

func TestFollowSeesRowsThatCommitLate(t *testing.T) {
	w := newFollowing()
	w.add(1, 2, 10)
	w.poll()
	w.add(9) // committed after 10, and after the follower began
	want(t, w.poll(), false, 9)
	w.add(13)
	want(t, w.poll(), false, 13)
	w.clock.add(9 * time.Second)
	w.add(11, 12)
	want(t, w.poll(), false, 11, 12)
	w.clock.add(time.Hour)
	w.poll()
	want(t, w.poll(), false)
}

func TestLostPollDropsAll(t *testing.T) {
	w := newFollowing()
	w.add(1)
	w.poll()
	w.add(2)
	boom := errors.New("boom")
	w.fail(boom)
	for range 2 {
		b := w.poll()
		if want(t, b, true); !errors.Is(b.Err, boom) {
			t.Errorf("error %v", b.Err)
		}
	}
	w.fail(nil)
	want(t, w.poll(), true)
	want(t, w.poll(), false)
	w.add(3)
	want(t, w.poll(), false, 3)
}

func TestReplacedStoreDropsAll(t *testing.T) {
	w := newFollowing()
	w.add(100)
	w.poll()
	w.clock.add(time.Minute)
	w.add(101)
	w.poll()
	w.clock.add(time.Minute)
	w.poll()
	w.mu.Lock()
	w.rows = []Row{{Seq: 5}}
	w.mu.Unlock()
	if b := w.poll(); !b.All || b.Err == nil {
		t.Errorf("the changes went back: got %+v", b)
	}
	if b := w.poll(); !b.All || b.Err != nil {
		t.Errorf("after it: got %+v", b)
	}
	want(t, w.poll(), false)
}

func TestFloodDropsAllAndIsBounded(t *testing.T) {
	w := newFollowing()
	w.poll()
	for i := range int64(3 * followRows) {
		w.add(i + 1)
	}
	want(t, w.poll(), true)
	for range 12 {
		w.clock.add(time.Second)
		w.poll()
		if len(w.f.seen) > 2*followRows {
			t.Fatalf("%d rows are kept in mind", len(w.f.seen))
		}
	}
	w.add(3*followRows + 1)
	want(t, w.poll(), false, 3*followRows+1)
}

// A poll that hangs is lost at its deadline (RES-2), and the follower ends with its context.
func TestHangingPollIsLost(t *testing.T) {
	hang := func(ctx context.Context, _ int64, _ int) ([]Row, int64, error) {
		<-ctx.Done()
		return nil, 0, ctx.Err()
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := make(chan Batch, 1)
	done := make(chan error, 1)
	go func() {
		done <- Follow(ctx, hang, FollowConfig{Timeout: time.Millisecond, Tick: make(chan time.Time)}, func(b Batch) { got <- b })
	}()
	if b := <-got; !b.All || !errors.Is(b.Err, context.DeadlineExceeded) {
		t.Errorf("got %+v", b)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Follow ended with %v", err)
	}
}

// Rows that commit in any order within the overlap are all told of, by name or by All, each once by name.
func TestFollowMissesNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newFollowing()
		told := map[int64]int{}
		var next int64
		var late []int64 // given a number, not committed yet
		born := map[int64]time.Time{}
		committed := map[int64]bool{}
		for range rapid.IntRange(1, 80).Draw(rt, "steps") {
			switch rapid.IntRange(0, 4).Draw(rt, "step") {
			case 0:
				next++
				late = append(late, next)
				born[next] = w.clock.now()
			case 1:
				if len(late) > 0 {
					i := rapid.IntRange(0, len(late)-1).Draw(rt, "which")
					w.add(late[i])
					committed[late[i]] = true
					late = slices.Delete(late, i, i+1)
				}
			case 2:
				w.fail(errors.New("boom"))
				w.poll()
				w.fail(nil)
			case 3:
				d := time.Duration(rapid.IntRange(0, 4).Draw(rt, "wait")) * time.Second
				for i := 0; i < len(late); { // a commit takes less than the overlap
					if w.clock.now().Add(d).Sub(born[late[i]]) >= 10*time.Second {
						w.add(late[i])
						committed[late[i]] = true
						late = slices.Delete(late, i, i+1)
						continue
					}
					i++
				}
				w.clock.add(d)
			default:
				b := w.poll()
				for _, r := range b.Rows {
					if told[r.Seq]++; told[r.Seq] > 1 {
						rt.Fatalf("row %d was told twice", r.Seq)
					}
				}
				for seq := range committed {
					if b.All {
						told[seq] = max(told[seq], 1)
					}
					if told[seq] == 0 {
						rt.Fatalf("row %d was committed and not told of", seq)
					}
				}
			}
		}
	})
}

// One who wakes has a poll made at once; one who was lost has everything looked at anew.
func TestFollowWakes(t *testing.T) {
	s := &source{}
	ctx, cancel := context.WithCancel(t.Context())
	wake, got, over := make(chan bool), make(chan Batch), make(chan error, 1)
	go func() {
		over <- Follow(ctx, s.feed, FollowConfig{Tick: make(chan time.Time), Wake: wake}, func(b Batch) { got <- b })
	}()
	want(t, <-got, true)
	s.add(1)
	wake <- true
	want(t, <-got, false, 1)
	s.add(2)
	wake <- false
	want(t, <-got, true)
	wake <- true
	want(t, <-got, false)
	cancel()
	if err := <-over; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
