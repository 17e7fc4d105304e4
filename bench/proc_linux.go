package bench

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// processClock is the processor time of a process and all its threads, ended ones included, as its POSIX clock has it:
// to the nanosecond, where /proc/PID/stat has hundredths of a second.
func processClock(pid int) (time.Duration, bool) {
	const scheduled = 2 // CPUCLOCK_SCHED
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^uint32(pid)<<3|scheduled), &t); err != nil {
		return 0, false
	}
	return time.Duration(t.Nano()), true
}

// maxFiles is how many descriptors a process may have at most.
func maxFiles() int {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
		return 1024
	}
	return int(min(l.Max, 1<<20))
}

// ownGroup makes a server the head of a process group: the terminal's interrupt is ours alone, and killGroup finds
// what a server has left behind.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func killGroup(pid int) { syscall.Kill(-pid, syscall.SIGKILL) }

// discard reads at most len(buf) bytes of a TCP connection away without copying them.
func discard(c syscall.RawConn, buf []byte) (n int, err error) {
	werr := c.Read(func(fd uintptr) bool {
		for {
			n, _, err = syscall.Recvfrom(int(fd), buf, syscall.MSG_TRUNC)
			if err != syscall.EINTR {
				return err != syscall.EAGAIN
			}
		}
	})
	if werr != nil {
		return 0, werr
	}
	if err != nil {
		return 0, os.NewSyscallError("recvfrom", err)
	}
	return n, nil
}
