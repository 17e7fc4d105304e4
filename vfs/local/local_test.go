package local

import (
	"os"
	"testing"

	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/vfstest"
)

// caps are what this system's storage declares; portable is for os.Root.
func caps(portable bool) vfstest.Caps {
	c := vfstest.All
	c.Owners = os.Getuid() == 0
	c.Reopen = func(t *testing.T, f vfs.FS) vfs.FS { return open(t, f.(*FS).root, Options{Portable: portable}) }
	if portable {
		c.LinkTimes, c.DirNoRepl = false, false
	}
	return c
}

// both runs a test on each implementation that this system has.
func both(t *testing.T, test func(t *testing.T, portable bool)) {
	t.Run("system", func(t *testing.T) { test(t, false) })
	t.Run("os.Root", func(t *testing.T) { test(t, true) })
}

func open(t testing.TB, dir string, o Options) *FS {
	t.Helper()
	f, err := New(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestSuite(t *testing.T) {
	both(t, func(t *testing.T, portable bool) {
		vfstest.Run(t, func(t *testing.T) vfs.FS {
			return open(t, t.TempDir(), Options{Portable: portable})
		}, caps(portable))
	})
}
