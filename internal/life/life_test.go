package life_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/gantryhq/gantry/internal/life"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l life.Life
		ctx, cancel := context.WithTimeout(&l, time.Hour)
		defer cancel()
		ran := make(chan bool)
		l.AfterFunc(func() { close(ran) })
		stop := l.AfterFunc(func() { t.Error("it was stopped") })
		if !stop() || stop() {
			t.Error("stop says what it did once")
		}
		if _, ok := l.Deadline(); ok || l.Err() != nil || ctx.Err() != nil {
			t.Error("over before it began")
		}
		l.End(context.Canceled)
		l.End(context.DeadlineExceeded)
		<-ctx.Done()
		<-l.Done()
		<-ran
		if !errors.Is(l.Err(), context.Canceled) {
			t.Error(l.Err())
		}
		late := make(chan bool)
		if l.AfterFunc(func() { close(late) })() {
			t.Error("stopped what has begun")
		}
		<-late

		d := life.Life{At: time.Now().Add(-time.Second)}
		if d.Err() != context.DeadlineExceeded {
			t.Error(d.Err())
		}
		<-d.Done()
		e := life.Life{At: time.Now().Add(time.Second)}
		child, cancel := context.WithCancel(&e)
		defer cancel()
		<-child.Done()
		if at, _ := e.Deadline(); !time.Now().Equal(at) {
			t.Error("ended at", time.Now())
		}
	})
}

// TestWithin: it says what the standard library's says, whether anybody waits or not.
func TestWithin(t *testing.T) {
	type key struct{}
	cause := errors.New("cause")
	deadline := time.Minute
	for _, x := range []struct {
		name string
		do   func(stop context.CancelCauseFunc, cancel func())
	}{
		{"nothing", func(context.CancelCauseFunc, func()) {}},
		{"cancel", func(_ context.CancelCauseFunc, cancel func()) { cancel() }},
		{"cancel twice", func(_ context.CancelCauseFunc, cancel func()) { cancel(); cancel() }},
		{"the parent ends", func(stop context.CancelCauseFunc, _ func()) { stop(cause) }},
		{"the parent ends, cancel", func(stop context.CancelCauseFunc, cancel func()) { stop(cause); cancel() }},
		{"cancel, the parent ends", func(stop context.CancelCauseFunc, cancel func()) { cancel(); stop(cause) }},
		{"time passes", func(context.CancelCauseFunc, func()) { time.Sleep(deadline) }},
		{"time passes, cancel", func(_ context.CancelCauseFunc, cancel func()) { time.Sleep(2 * deadline); cancel() }},
	} {
		for _, wait := range []string{"never", "before", "after"} {
			t.Run(x.name+", waited for "+wait, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					type made func(context.Context, time.Duration) (context.Context, context.CancelFunc)
					look := func(f made) (err, why, child error, value any) {
						parent, stop := context.WithCancelCause(context.WithValue(t.Context(), key{}, 1))
						defer stop(nil)
						ctx, cancel := f(parent, deadline)
						defer cancel()
						sub := context.Background()
						if wait == "before" {
							var done context.CancelFunc
							sub, done = context.WithCancel(ctx)
							defer done()
						}
						x.do(stop, cancel)
						synctest.Wait()
						if wait == "after" && ctx.Err() != nil {
							<-ctx.Done()
						}
						return ctx.Err(), context.Cause(ctx), sub.Err(), ctx.Value(key{})
					}
					err, why, child, value := look(context.WithTimeout)
					gotErr, gotWhy, gotChild, gotValue := look(life.Within)
					if err != gotErr || why != gotWhy || child != gotChild || value != gotValue {
						t.Errorf("%v %v %v %v, want %v %v %v %v", gotErr, gotWhy, gotChild, gotValue, err, why, child, value)
					}
				})
			})
		}
	}
}

func TestWithinDeadline(t *testing.T) {
	parent := &life.Life{At: time.Now().Add(time.Hour)}
	for d, want := range map[time.Duration]time.Duration{time.Minute: time.Minute, 2 * time.Hour: time.Hour} {
		ctx, cancel := life.Within(parent, d)
		defer cancel()
		at, ok := ctx.Deadline()
		if left := time.Until(at); !ok || left > want || left < want-time.Minute/2 {
			t.Errorf("%v: %v left", d, left)
		}
	}
}

// TestWithinLeaks: no goroutine for a child, and none when all is over. RES-1
func TestWithinLeaks(t *testing.T) {
	before := runtime.NumGoroutine()
	var l life.Life
	var all sync.WaitGroup
	for range 100 {
		ctx, cancel := life.Within(&l, time.Hour)
		child, stop := context.WithCancel(ctx)
		if n := runtime.NumGoroutine(); n > before+100 {
			t.Fatalf("%d goroutines, %d before", n, before)
		}
		all.Go(func() { <-child.Done() })
		defer cancel()
		defer stop()
	}
	l.End(context.Canceled)
	all.Wait()
}

func BenchmarkWithin(b *testing.B) {
	for name, f := range map[string]func(context.Context, time.Duration) (context.Context, context.CancelFunc){"life": life.Within, "context": context.WithTimeout} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var l life.Life
				ctx, cancel := f(&l, time.Minute)
				if ctx.Err() != nil {
					b.Fatal(ctx.Err())
				}
				cancel()
			}
		})
	}
}
