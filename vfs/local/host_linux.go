package local

import (
	"context"
	"os"

	"golang.org/x/sys/unix"

	"github.com/gantryhq/gantry/vfs"
)

// OpenHost implements vfs.HostOpener. It follows links that stay inside.
func (f *FS) OpenHost(ctx context.Context, name vfs.Path) (*os.File, error) {
	err := visible(ctx, name)
	fd := -1
	if err == nil {
		if t, ok := f.tree.(*beneath); ok {
			fd, err = t.fd(name, unix.O_PATH, 0)
		} else {
			err = vfs.ErrUnsupported
		}
	}
	if err != nil {
		return nil, opError("open", name, err)
	}
	return os.NewFile(uintptr(fd), name.String()), nil
}
