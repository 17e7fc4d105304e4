//go:build linux || darwin || freebsd

package local

import (
	"golang.org/x/sys/unix"

	"github.com/gantryhq/gantry/vfs"
)

// statFS is the room of the file system that fd is on.
func statFS(fd int) (vfs.StatFS, error) {
	var s unix.Statfs_t
	for {
		err := unix.Fstatfs(fd, &s)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return vfs.StatFS{}, err
		}
	}
	const readOnly = 1 // ST_RDONLY, MNT_RDONLY
	return vfs.StatFS{
		BlockSize: uint64(s.Bsize),
		Blocks:    uint64(s.Blocks),
		Free:      uint64(s.Bfree),
		Avail:     uint64(max(0, int64(s.Bavail))),
		Files:     uint64(s.Files),
		FilesFree: uint64(max(0, int64(s.Ffree))),
		NameMax:   vfs.MaxNameBytes,
		ReadOnly:  uint64(s.Flags)&readOnly != 0,
	}, nil
}
