//go:build !linux

package bench

import (
	"errors"
	"syscall"
	"time"
)

func processClock(int) (time.Duration, bool)       { return 0, false }
func maxFiles() int                                { return 1024 }
func ownGroup() *syscall.SysProcAttr               { return nil }
func killGroup(int)                                {}
func discard(syscall.RawConn, []byte) (int, error) { return 0, errors.ErrUnsupported }
