//go:build unix && !linux

package local

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// fileTimes sets the times of an open file, to the microsecond.
func fileTimes(f *os.File, atime, mtime time.Time) error {
	return unix.Futimes(int(f.Fd()), []unix.Timeval{
		unix.NsecToTimeval(atime.UnixNano()), unix.NsecToTimeval(mtime.UnixNano()),
	})
}
