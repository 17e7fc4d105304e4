//go:build !unix

package local

import (
	"errors"
	"io/fs"
	"syscall"

	"github.com/gantryhq/gantry/vfs"
)

// errnoKind names the system's error. The numbers are those of Windows.
func errnoKind(err error) (error, bool) {
	var no syscall.Errno
	if !errors.As(err, &no) {
		for _, kind := range []error{fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, fs.ErrInvalid, vfs.ErrUnsupported} {
			if errors.Is(err, kind) {
				return kind, true
			}
		}
		return nil, false
	}
	switch uintptr(no) {
	case 17: // ERROR_NOT_SAME_DEVICE
		return vfs.ErrCrossDevice, true
	case 19: // ERROR_WRITE_PROTECT
		return vfs.ErrReadOnly, true
	case 39, 112: // ERROR_HANDLE_DISK_FULL, ERROR_DISK_FULL
		return vfs.ErrQuota, true
	case 87, 123, 206: // ERROR_INVALID_PARAMETER, ERROR_INVALID_NAME, ERROR_FILENAME_EXCED_RANGE
		return vfs.ErrInvalidPath, true
	case 145: // ERROR_DIR_NOT_EMPTY
		return vfs.ErrNotEmpty, true
	case 223: // ERROR_FILE_TOO_LARGE
		return vfs.ErrTooLarge, true
	case 267: // ERROR_DIRECTORY
		return vfs.ErrNotDir, true
	}
	for _, kind := range []error{fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, vfs.ErrUnsupported} {
		if errors.Is(no, kind) {
			return kind, true
		}
	}
	return no, true
}
