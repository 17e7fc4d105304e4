//go:build linux || openbsd || dragonfly || solaris || illumos

package local

import (
	"syscall"
	"time"
)

func atime(st *syscall.Stat_t) time.Time { return time.Unix(st.Atim.Unix()) }
func ctime(st *syscall.Stat_t) time.Time { return time.Unix(st.Ctim.Unix()) }
