package local

import (
	"os"
	"time"

	"golang.org/x/sys/windows"
)

// fileTimes sets the times of an open file.
func fileTimes(f *os.File, atime, mtime time.Time) error {
	a, m := windows.NsecToFiletime(atime.UnixNano()), windows.NsecToFiletime(mtime.UnixNano())
	return windows.SetFileTime(windows.Handle(f.Fd()), nil, &a, &m)
}
