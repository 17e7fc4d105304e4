package event

import (
	"context"
	"log/slog"
	"sync"
)

// The bounds of a Queue.
const (
	queueLength  = 4096
	queueWorkers = 32
)

// Queue does work that nobody waits for, such as hooks after the fact, on a bounded number of goroutines.
// What does not fit is dropped, and said. Safe for concurrent use.
type Queue struct {
	name string
	log  *slog.Logger
	ctx  context.Context // ends when Close has waited long enough
	stop context.CancelFunc
	done sync.WaitGroup

	mu      sync.Mutex // guards what follows
	waiting []func(context.Context)
	workers int
	dropped int64 // since the last time that nothing waited
	closed  bool
}

// NewQueue makes a queue; name is for the log. Close ends it.
func NewQueue(name string, log *slog.Logger) *Queue {
	ctx, stop := context.WithCancel(context.Background()) // the work outlives what caused it
	return &Queue{name: name, log: log, ctx: ctx, stop: stop}
}

// Post has work done soon and does not wait. False: it was dropped.
func (q *Queue) Post(work func(ctx context.Context)) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || len(q.waiting) >= queueLength {
		if q.dropped++; q.dropped == 1 || q.dropped%1000 == 0 {
			q.log.Error("work for a hook is dropped: too much waits", "queue", q.name, "dropped", q.dropped, "waiting", len(q.waiting))
		}
		return false
	}
	q.waiting = append(q.waiting, work)
	if q.workers < queueWorkers {
		q.workers++
		q.done.Go(q.run) // ends when nothing waits
	}
	return true
}

// Len is how much work waits.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

func (q *Queue) run() {
	for {
		q.mu.Lock()
		if len(q.waiting) == 0 {
			q.workers--
			q.waiting = nil
			if q.dropped > 0 && q.workers == 0 {
				q.log.Warn("work for a hook was dropped; nothing waits now", "queue", q.name, "dropped", q.dropped)
				q.dropped = 0
			}
			q.mu.Unlock()
			return
		}
		work := q.waiting[0]
		q.waiting[0] = nil
		q.waiting = q.waiting[1:]
		q.mu.Unlock()
		work(q.ctx)
	}
}

// Close takes no more work and waits for what there is until ctx ends; then that is interrupted.
func (q *Queue) Close(ctx context.Context) {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	over := make(chan struct{})
	go func() { // ends with the workers
		q.done.Wait()
		close(over)
	}()
	select {
	case <-over:
	case <-ctx.Done():
		q.mu.Lock()
		lost := len(q.waiting)
		q.waiting = nil
		q.mu.Unlock()
		q.log.Warn("hooks are interrupted by the stop", "queue", q.name, "not_begun", lost)
		q.stop()
		<-over
	}
	q.stop()
}
