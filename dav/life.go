package dav

import (
	"context"
	"slices"
	"sync"
	"time"
)

// life is the context of a request, and of a connection's session. It is small, and a timer is made only if somebody
// waits: most requests end before.
type life struct {
	deadline time.Time // immutable; zero for none

	mu    sync.Mutex // guards what follows
	done  chan struct{}
	err   error
	after []*func()
	timer *time.Timer
}

var _ context.Context = (*life)(nil)

// Deadline is the time at which it ends by itself.
func (l *life) Deadline() (time.Time, bool) { return l.deadline, !l.deadline.IsZero() }

// Value is none.
func (l *life) Value(any) any { return nil }

// Done is closed at the end.
func (l *life) Done() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done == nil {
		l.done = make(chan struct{})
		if l.err != nil {
			close(l.done)
		}
	}
	l.watch()
	return l.done
}

// watch has the deadline end it. The caller holds mu.
func (l *life) watch() {
	if l.err == nil && l.timer == nil && !l.deadline.IsZero() {
		l.timer = time.AfterFunc(time.Until(l.deadline), func() { l.end(context.DeadlineExceeded) })
	}
}

// Err says why it ended.
func (l *life) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil && !l.deadline.IsZero() && !time.Now().Before(l.deadline) {
		return context.DeadlineExceeded
	}
	return l.err
}

// AfterFunc has f run on a goroutine of its own at the end. The context package derives children by it.
func (l *life) AfterFunc(f func()) (stop func() bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		go f()
		return func() bool { return false }
	}
	l.watch()
	p := &f
	l.after = append(l.after, p)
	return func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		i := slices.Index(l.after, p)
		if i >= 0 {
			l.after = slices.Delete(l.after, i, i+1)
		}
		return i >= 0
	}
}

// end ends it. Safe for any goroutine.
func (l *life) end(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return
	}
	l.err = err
	if l.done != nil {
		close(l.done)
	}
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	for _, f := range l.after {
		go (*f)()
	}
	l.after = nil
}
