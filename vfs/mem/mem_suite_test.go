package mem

import (
	"testing"

	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/vfstest"
)

func TestSuite(t *testing.T) {
	vfstest.Run(t, func(*testing.T) vfs.FS { return New(Options{}) }, vfstest.All)
}
