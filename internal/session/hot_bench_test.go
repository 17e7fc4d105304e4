package session

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

// hotPaths are what every operation or every chunk asks, each with all that it needs at hand.
func hotPaths(t testing.TB) map[string]func() {
	perms, err := newPermTable(map[string][]string{"/": {"*"}, "/a/b": {"list", "download"}, "/team/*/drop": {"upload", "list"}})
	if err != nil {
		t.Fatal(err)
	}
	one, err := newPermTable(map[string][]string{"/": {"*"}})
	if err != nil {
		t.Fatal(err)
	}
	deep, err := vfs.ParsePath("/a/b/c/d/e/f")
	if err != nil {
		t.Fatal(err)
	}
	other, err := vfs.ParsePath("/team/red/keep/x")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	shaped, counted := &bucket{rate: 1 << 40}, newTransfer(now, nil)
	var up, down atomic.Int64
	var room growth
	room.ceiling.Store(1 << 40)
	return map[string]func(){
		"permissions/one-entry": func() { one.at(deep) },
		"permissions/deep":      func() { perms.at(deep) },
		"permissions/globs":     func() { perms.at(other) },
		"bandwidth":             func() { shaped.take(256<<10, now) },
		"transfer-limit":        func() { take(&up, &down, 256<<10, 1<<62, 1<<62) },
		"quota-in-reservation": func() {
			if err := room.ensure(1<<30, 1<<40); err != nil {
				t.Fatal(err)
			}
		},
		"counting": func() { counted.moved(256<<10, now) },
	}
}

func TestHotPathsAllocateNothing(t *testing.T) {
	for name, f := range hotPaths(t) {
		if n := testing.AllocsPerRun(100, f); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkHotPaths(b *testing.B) {
	for name, f := range hotPaths(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
	}
}
