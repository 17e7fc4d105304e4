//go:build unix

package local

import (
	"errors"
	"io/fs"
	"syscall"

	"github.com/gantryhq/gantry/vfs"
)

// errnoKind names the system's error.
func errnoKind(err error) (error, bool) {
	var no syscall.Errno
	if !errors.As(err, &no) {
		return nil, false
	}
	switch no {
	case syscall.ENOENT:
		return fs.ErrNotExist, true
	case syscall.ENOTEMPTY:
		return vfs.ErrNotEmpty, true
	case syscall.EEXIST:
		return fs.ErrExist, true
	case syscall.EACCES, syscall.EPERM:
		return fs.ErrPermission, true
	case syscall.ENOTDIR:
		return vfs.ErrNotDir, true
	case syscall.EISDIR:
		return vfs.ErrIsDir, true
	case syscall.ENOSPC, syscall.EDQUOT:
		return vfs.ErrQuota, true
	case syscall.EFBIG:
		return vfs.ErrTooLarge, true
	case syscall.EROFS:
		return vfs.ErrReadOnly, true
	case syscall.ELOOP:
		return vfs.ErrLoop, true
	case syscall.EXDEV:
		return vfs.ErrCrossDevice, true
	case syscall.ENAMETOOLONG:
		return vfs.ErrInvalidPath, true
	case syscall.EINVAL:
		return fs.ErrInvalid, true
	case syscall.ENXIO, syscall.ENODEV: // a pipe or socket without its other end
		return vfs.ErrSpecial, true
	case syscall.ENOSYS, syscall.EOPNOTSUPP:
		return vfs.ErrUnsupported, true
	}
	return no, true
}
