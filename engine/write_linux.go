//go:build !stdengine

package engine

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// writeNow is write of a socket that does not block. The runtime is not told of the call: it would hand the loop's place
// to another thread and take it back, which costs as much as half of a short write.
func writeNow(fd int, p []byte) (int, error) {
	n, _, no := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if no != 0 {
		return 0, no
	}
	return int(n), nil
}
