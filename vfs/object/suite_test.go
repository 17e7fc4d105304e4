package object

import (
	"testing"

	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/vfstest"
)

// caps are what every object store declares.
var caps = vfstest.Caps{
	Attrs: true, Atomic: true, DirNoRepl: true, Copy: true, DirSize: true, Sweep: true, Sub: true, Describe: true, Stream: true, Files: true,
}

func suite(t *testing.T, prefix string, set func(*fake)) {
	vfstest.Run(t, func(t *testing.T) vfs.FS {
		b := newFake()
		set(b)
		m := NewMemory(64 << 20)
		f := New(b, Options{Prefix: prefix, Memory: m, RenameDirs: true})
		t.Cleanup(func() {
			f.Close()
		})
		return f
	}, caps)
}

func TestSuite(t *testing.T) { suite(t, "", func(*fake) {}) }

// TestSuiteBelowAPrefix: with markers that have no slash, and names that the service does not take.
func TestSuiteBelowAPrefix(t *testing.T) {
	suite(t, "some/where/", func(b *fake) {
		b.limits.MarkerSlash = false
		b.limits.Escape = func(name string, i int) bool { return name[i] < ' ' || name[i] == '\\' }
	})
}
