// Package life has contexts that cost little until somebody waits for their end: most commands, requests and logins are
// over before anybody does.
package life

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Life is a context that begins one. The zero value is ready, and must not be copied once it is used. It is small, and
// keeps nothing of its children once they have ended.
type Life struct {
	At time.Time // when it ends by itself, immutable once it is used; zero for never

	mu    sync.Mutex // guards what follows
	done  chan struct{}
	err   error
	after []*func()
	timer *time.Timer
}

var _ context.Context = (*Life)(nil)

// Deadline is At.
func (l *Life) Deadline() (time.Time, bool) { return l.At, !l.At.IsZero() }

// Value is none.
func (l *Life) Value(any) any { return nil }

// Done is closed at the end.
func (l *Life) Done() <-chan struct{} {
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
func (l *Life) watch() {
	if l.err == nil && l.timer == nil && !l.At.IsZero() {
		l.timer = time.AfterFunc(time.Until(l.At), func() { l.End(context.DeadlineExceeded) })
	}
}

// Err says why it ended.
func (l *Life) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil && !l.At.IsZero() && !time.Now().Before(l.At) {
		return context.DeadlineExceeded
	}
	return l.err
}

// AfterFunc has f run on a goroutine of its own at the end. The context package derives children by it.
func (l *Life) AfterFunc(f func()) (stop func() bool) {
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
		if i < 0 {
			return false
		}
		if l.after = slices.Delete(l.after, i, i+1); len(l.after) == 0 {
			l.after = nil
		}
		return true
	}
}

// End ends it because of err, a context's error. Safe for any goroutine; only the first counts.
func (l *Life) End(err error) {
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

// Within is context.WithTimeout for what hardly ever waits: the timer, the channel and the place among the parent's
// children are made when Done is first asked for. They are given up by cancel, which must be called.
func Within(parent context.Context, d time.Duration) (ctx context.Context, cancel context.CancelFunc) {
	w := &within{Context: parent, at: time.Now().Add(d)}
	if at, ok := parent.Deadline(); ok && at.Before(w.at) {
		w.at = at
	}
	return w, w.cancel
}

type within struct {
	context.Context // the parent
	at              time.Time

	mu    sync.Mutex // guards what follows
	err   error
	own   bool            // err is not the parent's
	inner context.Context // nil until somebody waits
	stop  context.CancelFunc
}

// Deadline is never none.
func (w *within) Deadline() (time.Time, bool) { return w.at, true }

// Done is closed at the end.
func (w *within) Done() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wait()
	return w.inner.Done()
}

// wait makes what waits. The caller holds mu.
func (w *within) wait() {
	if w.inner != nil {
		return
	}
	parent := w.Context
	if w.over() != nil && w.own { // which the parent's end since then does not change
		parent = context.WithoutCancel(parent)
	}
	w.inner, w.stop = context.WithDeadline(parent, w.at)
	if w.err != nil {
		w.stop()
	}
}

// Err says why it ended.
func (w *within) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.over()
}

// over is Err. The caller holds mu.
func (w *within) over() error {
	if w.err != nil {
		return w.err
	}
	if w.inner != nil {
		w.err = w.inner.Err()
	} else if w.err = w.Context.Err(); w.err == nil && !time.Now().Before(w.at) {
		w.err, w.own = context.DeadlineExceeded, true
	}
	return w.err
}

// Value is the parent's; the context package finds by it why it ended, and what its children hang on.
func (w *within) Value(key any) any {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over() != nil {
		w.wait()
	}
	if w.inner == nil {
		return w.Context.Value(key)
	}
	return w.inner.Value(key)
}

func (w *within) cancel() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over() == nil {
		w.err, w.own = context.Canceled, true
	}
	if w.stop != nil {
		w.stop()
	}
}
