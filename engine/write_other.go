//go:build (darwin || freebsd) && !stdengine

package engine

import "golang.org/x/sys/unix"

// writeNow is write of a socket that does not block.
func writeNow(fd int, p []byte) (int, error) { return unix.Write(fd, p) }
