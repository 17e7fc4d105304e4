package local

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/gantryhq/gantry/vfs"
)

// resolveCached is RESOLVE_CACHED, which x/sys does not name: EAGAIN where a step is not in memory.
const resolveCached = 0x20

// resident are the file systems that open, describe and read what is in memory without waiting: those in the kernel on
// this machine's own disks. In user space or over a network even an open may wait. Read-only.
var resident = map[int64]residence{
	unix.EXT4_SUPER_MAGIC: onDisk, unix.XFS_SUPER_MAGIC: onDisk, unix.BTRFS_SUPER_MAGIC: onDisk, unix.F2FS_SUPER_MAGIC: onDisk,
	unix.OVERLAYFS_SUPER_MAGIC: onDisk, unix.TMPFS_MAGIC: inMemory,
}

// residence is where a file system keeps its content.
type residence uint8

const (
	elsewhere residence = iota
	onDisk
	inMemory
)

func residenceOf(fd int) residence {
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) != nil {
		return elsewhere
	}
	return resident[int64(st.Type)]
}

// openInstant opens name if every step to it is in memory, and on the root's own file system.
func (t *beneath) openInstant(name vfs.Path, flag uint64) (fd int, ok bool) {
	if t.residence == elsewhere || t.slow.Load() {
		return -1, false
	}
	how := unix.OpenHow{
		Flags:   flag | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV | resolveCached,
	}
	var path [maxInstantName + 1]byte
	if n := copy(path[:], name.Relative()); n > maxInstantName {
		return -1, false
	}
	r, _, no := unix.RawSyscall6(unix.SYS_OPENAT2, uintptr(t.root.fd), uintptr(unsafe.Pointer(&path)), uintptr(unsafe.Pointer(&how)), unix.SizeofOpenHow, 0, 0)
	if no == unix.EINVAL { // a kernel before 5.12
		t.slow.Store(true)
	}
	return int(r), no == 0
}

// The system calls of what is in memory wait for nothing, so the runtime need not be told of them: who is told looks
// whether another thread should take over, and calls that are over in a microsecond cost twice as much.

// maxInstantName is the longest path that is opened without waiting, in bytes. Longer ones go the other way.
const maxInstantName = 1023

func statInstant(fd int, st *unix.Statx_t) bool {
	var empty byte
	_, _, no := unix.RawSyscall6(unix.SYS_STATX, uintptr(fd), uintptr(unsafe.Pointer(&empty)), unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC,
		statxMask, uintptr(unsafe.Pointer(st)), 0)
	return no == 0
}

func closeInstant(fd int) { unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

func (t *beneath) statInstant(name vfs.Path) (i vfs.FileInfo, ok bool) {
	if t.acquire() != nil {
		return i, false
	}
	defer t.release()
	fd, ok := t.openInstant(name, unix.O_PATH)
	if !ok {
		return i, false
	}
	defer closeInstant(fd)
	var st unix.Statx_t
	if !statInstant(fd, &st) || st.Nlink == 0 {
		return i, false
	}
	return statxInfo(&st, ""), true
}

func (t *beneath) readInstant(name vfs.Path, b []byte, most int) (out []byte, i vfs.FileInfo, ok bool) {
	if t.acquire() != nil {
		return b, i, false
	}
	defer t.release()
	fd, ok := t.openInstant(name, openNoWait|unix.O_LARGEFILE)
	if !ok {
		return b, i, false
	}
	defer closeInstant(fd)
	var st unix.Statx_t
	if !statInstant(fd, &st) {
		return b, i, false
	}
	size := int(min(st.Size, uint64(most)+1))
	if st.Mode&unix.S_IFMT != unix.S_IFREG || size > most {
		return b, i, false
	}
	at := len(b)
	if cap(b)-at < size {
		b = append(make([]byte, 0, at+size), b...)
	}
	if size > 0 {
		flag := uintptr(unix.RWF_NOWAIT)
		if t.residence == inMemory { // which does not know the flag
			flag = 0
		}
		n, err := preadv2(fd, b[at:at+size], flag)
		if err == unix.EOPNOTSUPP {
			t.slow.Store(true)
		}
		if err != nil || n < size {
			return b, i, false
		}
	}
	return b[:at+size], statxInfo(&st, ""), true
}

// preadv2 reads the beginning of a file; with RWF_NOWAIT as far as it is in memory.
func preadv2(fd int, p []byte, flag uintptr) (int, error) {
	iov := unix.Iovec{Base: unsafe.SliceData(p)}
	iov.SetLen(len(p))
	n, _, no := unix.RawSyscall6(unix.SYS_PREADV2, uintptr(fd), uintptr(unsafe.Pointer(&iov)), 1, 0, 0, flag)
	if no != 0 {
		return 0, no
	}
	return int(n), nil
}
