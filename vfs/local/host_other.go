//go:build !linux

package local

import (
	"context"
	"os"

	"github.com/gantryhq/gantry/vfs"
)

// OpenHost implements vfs.HostOpener.
func (f *FS) OpenHost(_ context.Context, name vfs.Path) (*os.File, error) {
	return nil, opError("open", name, vfs.ErrUnsupported)
}
