package object

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

func TestRequestsAreTold(t *testing.T) {
	b := newFake()
	var mu sync.Mutex
	said := map[string]int{}
	m := NewMemory(64 << 20)
	f := New(b, Options{Memory: m, Observe: func(_ int, operation string, d time.Duration, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			operation += " failed"
		}
		said[operation]++
		if d < 0 {
			t.Errorf("%s took %v", operation, d)
		}
	}})
	defer f.Close()
	ctx := context.Background()
	up, err := f.Create(ctx, mustPath(t, "/big"), vfs.OpenMode{Truncate: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := up.WriteAt(content(12<<20), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := up.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Stat(ctx, mustPath(t, "/none")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	b.fault = func(op, key string, n int) error { return errors.New("503") }
	if err := f.Remove(ctx, mustPath(t, "/big")); err == nil {
		t.Fatal("no error")
	}
	mu.Lock()
	defer mu.Unlock()
	if said["begin"] != 1 || said["part"] != 3 || said["complete"] != 1 || said["head"] == 0 || said["head failed"]+said["list failed"]+said["delete failed"] == 0 {
		t.Errorf("told: %v", said)
	}
	for _, never := range []string{"begin failed", "part failed", "complete failed"} {
		if said[never] > 0 {
			t.Errorf("%s: %d", never, said[never])
		}
	}
}

// TestRefusalsAreLogged, not once for each request.
func TestRefusalsAreLogged(t *testing.T) {
	b := newFake()
	b.fault = func(string, string, int) error { return fs.ErrPermission }
	var log bytes.Buffer
	f := New(b, Options{Memory: NewMemory(64 << 20), Log: slog.New(slog.NewTextHandler(&log, nil))})
	defer f.Close()
	for range 5 {
		if _, err := f.Stat(context.Background(), mustPath(t, "/x")); !errors.Is(err, fs.ErrPermission) {
			t.Fatal(err)
		}
	}
	if n := strings.Count(log.String(), "the storage refuses"); n < 1 || n > 2 { // of some seconds at most
		t.Errorf("%d lines:\n%s", n, &log)
	}
}
