package session_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
	"github.com/gantryhq/gantry/vfs"
)

// TestNoWriteSlipsByAnExclusiveLock lets writers of every kind run against one who locks, looks, waits and looks
// again: what it sees under its lock does not change, whichever way the writers take.
func TestNoWriteSlipsByAnExclusiveLock(t *testing.T) {
	for _, mode := range []int{0, 1} {
		t.Run(fmt.Sprintf("upload_mode %d", mode), func(t *testing.T) { lockRace(t, mode) })
	}
}

func lockRace(t *testing.T, mode int) {
	cfg := session.DefaultConfig()
	cfg.UploadMode = mode
	a, b := sessiontest.User("a"), sessiontest.User("b")
	b.HomeDir = a.HomeDir
	env := sessiontest.New(t, sessiontest.Options{Config: &cfg}, a, b)
	x := env.Login("a")
	if err := x.Mkdir(t.Context(), path(t, "/d"), vfs.Attr{}); err != nil {
		t.Fatal(err)
	}
	state := func() string {
		var out string
		for i, err := range x.List(t.Context(), path(t, "/d")) {
			if err != nil {
				t.Error(err)
			}
			h, err := x.OpenFile(t.Context(), path(t, "/d/"+i.Name), session.Flags{Read: true})
			if err != nil {
				out += i.Name + ": " + err.Error() + "\n"
				continue
			}
			buf := make([]byte, 64)
			n, _ := h.ReadAt(buf, 0)
			h.Close(t.Context())
			out += fmt.Sprintf("%s=%q %v\n", i.Name, buf[:n], i.Mode)
		}
		return out
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var refused, done atomic.Int64
	for w := range 4 {
		y := env.Login("b")
		rnd := rand.New(rand.NewPCG(uint64(w), 7))
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				f := path(t, fmt.Sprintf("/d/f%d", rnd.IntN(3)))
				var err error
				switch rnd.IntN(6) {
				case 0, 1:
					var h *session.Handle
					h, err = y.OpenFile(t.Context(), f, session.Flags{Write: true, Create: true, Truncate: true, Whole: rnd.IntN(2) == 0})
					if err == nil {
						h.WriteAt([]byte(fmt.Sprint(w, n)), 0)
						err = h.Close(t.Context())
					}
				case 2:
					err = y.Remove(t.Context(), f)
				case 3:
					err = y.Rename(t.Context(), f, path(t, fmt.Sprintf("/d/f%d", rnd.IntN(3))), true)
				case 4:
					err = y.SetAttr(t.Context(), f, vfs.Attr{Set: vfs.AttrMode, Mode: 0o600 | fs.FileMode(0o11*rnd.IntN(3))}, true)
				case 5:
					err = y.Truncate(t.Context(), f, int64(rnd.IntN(3)))
				}
				if errors.Is(err, session.ErrLocked) {
					refused.Add(1)
				} else if err == nil {
					done.Add(1)
				}
			}
		})
	}
	locked := 0
	for n := 0; n < 2000 && locked < 60; n++ {
		l, _, err := x.Lock(t.Context(), path(t, "/d"), session.LockRequest{Exclusive: true, Infinite: true})
		if errors.Is(err, session.ErrBusy) { // somebody writes in place just now
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		locked++
		was := state()
		for range 5 {
			if now := state(); now != was {
				t.Fatalf("under an exclusive lock\n%sbecame\n%s", was, now)
			}
		}
		if err := x.Unlock(t.Context(), path(t, "/d"), l.Token); err != nil {
			t.Fatal(err)
		}
		for before := done.Load(); done.Load() < before+10; {
			runtime.Gosched()
		}
	}
	close(stop)
	wg.Wait()
	if locked < 5 || refused.Load() == 0 {
		t.Errorf("nothing was tried: %d locks, refused %d, done %d", locked, refused.Load(), done.Load())
	}
	t.Logf("%d locks, writes refused %d, done %d", locked, refused.Load(), done.Load())
}
