package ftp

import (
	"context"
	"slices"
	"sync"
	"time"
)

// life is the context of a connection, which ends with it. It is small: an idle connection keeps one, and the standard
// library's contexts keep a map for their children once they had one.
type life struct {
	mu    sync.Mutex // guards what follows
	done  chan struct{}
	over  bool
	after []*func()
}

var _ context.Context = (*life)(nil)

// Deadline is none.
func (l *life) Deadline() (time.Time, bool) { return time.Time{}, false }

// Value is none.
func (l *life) Value(any) any { return nil }

// Done is closed at the end.
func (l *life) Done() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done == nil {
		l.done = make(chan struct{})
		if l.over {
			close(l.done)
		}
	}
	return l.done
}

// Err is context.Canceled after the end.
func (l *life) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return context.Canceled
	}
	return nil
}

// AfterFunc has f run on a goroutine of its own at the end. The context package derives children by it.
func (l *life) AfterFunc(f func()) (stop func() bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		go f()
		return func() bool { return false }
	}
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

// end ends it.
func (l *life) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	l.over = true
	if l.done != nil {
		close(l.done)
	}
	for _, f := range l.after {
		go (*f)()
	}
	l.after = nil
}
