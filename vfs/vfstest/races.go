package vfstest

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

var raceCases = []testCase{
	{"ManyAtOnce", nil, func(e *env) {
		const workers, rounds = 8, 60
		e.mkdir("/d")
		var all sync.WaitGroup
		for w := range workers {
			all.Go(func() {
				for i := range rounds {
					if err := e.churn(w, i); err != nil {
						e.Errorf("worker %d: %v", w, err)
						return
					}
				}
			})
		}
		all.Wait()
		for _, n := range e.list("/d") {
			e.ok("remove", e.fs.Remove(ctx, e.path("/d/"+n)))
		}
		err := e.fs.Remove(ctx, e.path("/d"))
		if s, ok := vfs.As[vfs.Sweeper](e.fs); ok && e.caps.Late { // a service may begin what was aborted after it was cleared
			for end := time.Now().Add(5 * time.Second); err != nil && time.Now().Before(end); {
				s.Sweep(ctx, time.Now().Add(time.Hour))
				err = e.fs.Remove(ctx, e.path("/d"))
			}
		}
		e.ok("remove", err)
	}},
}

// churn does some of everything on names that all workers share; only what a loser may see is an error.
func (e *env) churn(worker, round int) error {
	name := e.path(fmt.Sprintf("/d/%d", (worker*7+round*3)%5))
	other := e.path(fmt.Sprintf("/d/%d", (worker+round)%5))
	mine := fmt.Sprintf("%d:%d", worker, round)
	u, err := e.fs.Create(ctx, name, vfs.OpenMode{Truncate: true, Atomic: e.caps.Atomic})
	if err == nil {
		if _, err := u.WriteAt([]byte(mine), 0); err != nil {
			return err
		}
		if round%4 == 0 {
			err = u.Abort(ctx)
		} else {
			_, err = u.Commit(ctx)
		}
	}
	if lost(err) {
		return err
	}
	if f, err := e.fs.Open(ctx, name); err == nil {
		b := make([]byte, 16)
		if n, _ := f.ReadAt(b, 0); e.caps.Atomic && n < 3 {
			return fmt.Errorf("read a torn file %q", b[:n])
		}
		f.Close()
	} else if lost(err) {
		return err
	}
	if err := e.fs.Rename(ctx, name, other, round%2 == 0); lost(err) {
		return err
	}
	for _, err := range e.fs.List(ctx, e.path("/d")) {
		if err != nil {
			return err
		}
	}
	if round%3 == 0 {
		if err := e.fs.Remove(ctx, other); lost(err) {
			return err
		}
	}
	return nil
}

// lost reports an error that is not merely another worker's being first.
func lost(err error) bool {
	return err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist)
}
