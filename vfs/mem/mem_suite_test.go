package mem

import (
	"testing"

	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/vfstest"
)

func TestSuite(t *testing.T) {
	vfstest.Run(t, func(*testing.T) vfs.FS { return New(Options{}) }, vfstest.All)
}

func TestSuiteOnADirectory(t *testing.T) {
	vfstest.Run(t, func(t *testing.T) vfs.FS {
		f := New(Options{})
		if err := f.Mkdir(t.Context(), mustPath(t, "/d"), vfs.Attr{}); err != nil {
			t.Fatal(err)
		}
		sub, err := f.Sub(t.Context(), mustPath(t, "/d"))
		if err != nil {
			t.Fatal(err)
		}
		return sub
	}, vfstest.All)
}
