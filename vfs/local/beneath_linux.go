package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/gantryhq/gantry/vfs"
)

// openTree opens root with the kernel's own confinement, or with os.Root where that is asked for or the
// kernel (before 5.6, or a seccomp filter) has no openat2.
func openTree(root string, portable bool) (tree, error) {
	if portable {
		return openRootTree(root)
	}
	fd, err := ignoringEINTR(func() (int, error) {
		return unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, err
	}
	probe, err := openat2(fd, ".", unix.O_PATH|unix.O_DIRECTORY, 0, 0)
	if err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
			return openRootTree(root)
		}
		return nil, err
	}
	unix.Close(probe)
	return newBeneath(fd), nil
}

func newBeneath(fd int) *beneath {
	t := &beneath{residence: residenceOf(fd)}
	t.root.open(fd)
	return t
}

// beneath resolves every path from one root descriptor with RESOLVE_BENEATH, then acts on the last name by
// *at calls on its directory, which follow nothing.
type beneath struct {
	root      descriptor
	residence residence
	slow      atomic.Bool // the kernel or the file system turned out to have no instant answers
}

func (t *beneath) acquire() error { return t.root.acquire() }

func (t *beneath) release() {
	if t.root.release() {
		unix.Close(t.root.fd)
	}
}

func (t *beneath) close() error {
	last, err := t.root.end()
	if last {
		unix.Close(t.root.fd)
	}
	return err
}

// fd opens name from the root.
func (t *beneath) fd(name vfs.Path, flag uint64, perm uint32) (int, error) {
	if err := t.acquire(); err != nil {
		return -1, err
	}
	defer t.release()
	return openat2(t.root.fd, name.Relative(), flag, perm, 0)
}

func (t *beneath) dir(name vfs.Path) (dir, error) {
	if name.IsRoot() {
		if err := t.acquire(); err != nil {
			return nil, err
		}
		return &atDir{fd: t.root.fd, tree: t}, nil
	}
	fd, err := t.fd(name, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	return &atDir{fd: fd}, nil
}

// at runs act on the directory of name and its last component, without a dir value on the heap.
func (t *beneath) at(name vfs.Path, act func(fd int, base string) error) error {
	parent := name.Dir()
	if parent.IsRoot() {
		if err := t.acquire(); err != nil {
			return err
		}
		defer t.release()
		return act(t.root.fd, name.Relative()) // "." for the root itself
	}
	fd, err := t.fd(parent, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return act(fd, name.Base())
}

func (t *beneath) sub(name vfs.Path) (tree, error) {
	fd, err := t.fd(name, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	return newBeneath(fd), nil
}

func (t *beneath) stat(name vfs.Path, follow bool) (i vfs.FileInfo, err error) {
	var st unix.Statx_t
	if !follow || name.Depth() <= 1 { // one call instead of three, unless it is a link
		err = t.at(name, func(fd int, base string) error { return statx(fd, base, &st) })
		if err == nil && name.IsRoot() && st.Nlink == 0 {
			err = fs.ErrNotExist // the root directory was removed while we hold it
		}
		if err != nil || !follow || st.Mode&unix.S_IFMT != unix.S_IFLNK {
			return statxInfo(&st, ""), err
		}
	}
	fd, err := t.fd(name, unix.O_PATH, 0)
	if err != nil {
		return i, err
	}
	defer unix.Close(fd)
	if err := statx(fd, "", &st); err != nil {
		return i, err
	}
	return statxInfo(&st, ""), nil
}

func (t *beneath) open(name vfs.Path, flag int, perm fs.FileMode) (*os.File, error) {
	fd, err := t.fd(name, uint64(flag)|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_LARGEFILE, uint32(perm.Perm()))
	if err != nil {
		return nil, err
	}
	return newFile(fd, flag, name.String()), nil
}

// newFile makes a file of a descriptor opened with O_NONBLOCK, which only the open needed.
func newFile(fd, flag int, name string) *os.File {
	_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flag&unix.O_APPEND)
	return os.NewFile(uintptr(fd), name)
}

func (t *beneath) rename(from, to vfs.Path, replace bool) error {
	return t.at(from, func(fromFD int, fromBase string) error {
		if from.Dir() == to.Dir() {
			return renameat(fromFD, fromBase, fromFD, to.Base(), replace)
		}
		return t.at(to, func(toFD int, toBase string) error {
			return renameat(fromFD, fromBase, toFD, toBase, replace)
		})
	})
}

func (t *beneath) link(old, new vfs.Path) error {
	return t.at(old, func(oldFD int, oldBase string) error {
		return t.at(new, func(newFD int, newBase string) error {
			return retry(func() error { return unix.Linkat(oldFD, oldBase, newFD, newBase, 0) }) // does not follow old
		})
	})
}

// setAttr holds the object itself, so that what is judged is what is changed.
func (t *beneath) setAttr(name vfs.Path, attr vfs.Attr, follow bool) error {
	flag := uint64(unix.O_PATH)
	if !follow {
		flag |= unix.O_NOFOLLOW
	}
	fd, err := t.fd(name, flag, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if attr.Set&vfs.AttrOwner != 0 { // first: a change of owner drops the set-id bits
		err := retry(func() error { return unix.Fchownat(fd, "", attr.UID, attr.GID, unix.AT_EMPTY_PATH) })
		if err != nil {
			return err
		}
	}
	if attr.Set&vfs.AttrMode != 0 {
		if err := retry(func() error { return fchmod(fd, unixMode(attr.Mode)) }); err != nil {
			return err
		}
	}
	if attr.Set&vfs.AttrTimes != 0 {
		return retry(func() error { return utimens(fd, attr.Atime, attr.Mtime) })
	}
	return nil
}

// fchmod changes the mode of an O_PATH descriptor. Kernels before 6.6 do it through /proc, where the
// descriptor's own entry is not a link that anybody can change.
func fchmod(fd int, mode uint32) error {
	var st unix.Statx_t
	if err := statx(fd, "", &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return vfs.ErrUnsupported
	}
	var empty [1]byte
	_, _, no := unix.Syscall6(unix.SYS_FCHMODAT2, uintptr(fd), uintptr(unsafe.Pointer(&empty)), uintptr(mode), unix.AT_EMPTY_PATH, 0, 0)
	switch no {
	case 0:
		return nil
	case unix.ENOSYS, unix.EINVAL, unix.EPERM:
		return unix.Fchmodat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), mode, 0)
	}
	return no
}

// utimens sets the times of an O_PATH descriptor. Kernels before 5.8 do it through /proc.
func utimens(fd int, atime, mtime time.Time) error {
	ts, err := timespecs(atime, mtime)
	if err != nil {
		return err
	}
	err = unix.UtimesNanoAt(fd, "", ts[:], unix.AT_EMPTY_PATH)
	if err == unix.EINVAL {
		err = unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), ts[:], 0)
	}
	return err
}

func timespecs(atime, mtime time.Time) (ts [2]unix.Timespec, err error) {
	for i, t := range [2]time.Time{atime, mtime} {
		// Not by UnixNano, which ends in 2262.
		if ts[i], err = unix.TimeToTimespec(t); err != nil {
			return ts, fs.ErrInvalid
		}
	}
	return ts, nil
}

func (t *beneath) statFS(name vfs.Path) (vfs.StatFS, error) {
	fd, err := t.fd(name, unix.O_PATH, 0)
	if err != nil {
		return vfs.StatFS{}, err
	}
	defer unix.Close(fd)
	return statFS(fd)
}

// openat2 opens name beneath fd, never by a magic link. An escape is vfs.ErrEscape.
func openat2(fd int, name string, flag uint64, perm uint32, resolve uint64) (int, error) {
	how := unix.OpenHow{Flags: flag | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS | resolve}
	if flag&unix.O_CREAT != 0 {
		how.Mode = uint64(perm)
	}
	// EAGAIN: a ".." raced with a rename somewhere, and the kernel cannot tell whether it stayed inside.
	// Whoever keeps renaming gets the error in the end.
	for tries := 0; ; tries++ {
		got, err := unix.Openat2(fd, name, &how)
		switch {
		case err == nil:
			return got, nil
		case (err == unix.EINTR || err == unix.EAGAIN) && tries < 100:
		case err == unix.EXDEV:
			return -1, vfs.ErrEscape
		default:
			return -1, err
		}
	}
}

// renameat is one step in the kernel also without replace, where the file system knows how.
func renameat(fromFD int, from string, toFD int, to string, replace bool) error {
	return retry(func() error {
		if replace {
			return unix.Renameat(fromFD, from, toFD, to)
		}
		err := unix.Renameat2(fromFD, from, toFD, to, unix.RENAME_NOREPLACE)
		if err == unix.EINVAL || err == unix.ENOSYS {
			return renameNoReplace(fromFD, from, toFD, to)
		}
		return err
	})
}

// renameNoReplace serves file systems without RENAME_NOREPLACE (and says EINVAL again where that was the
// answer to the rename itself). A file gets a second name, which refuses to replace, before it loses the
// first; only a directory, or a file system without hard links, leaves a gap between look and rename.
func renameNoReplace(fromFD int, from string, toFD int, to string) error {
	var st unix.Statx_t
	if err := statx(fromFD, from, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		switch err := unix.Linkat(fromFD, from, toFD, to, 0); err {
		case nil:
			return unix.Unlinkat(fromFD, from, 0)
		case unix.EOPNOTSUPP, unix.EPERM, unix.ENOSYS:
		default:
			return err
		}
	}
	switch err := statx(toFD, to, &st); err {
	case unix.ENOENT:
		return unix.Renameat(fromFD, from, toFD, to)
	case nil:
		return unix.EEXIST
	default:
		return err
	}
}

func ignoringEINTR(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != syscall.EINTR {
			return n, err
		}
	}
}

// retry repeats a call that a signal interrupted, as network and FUSE file systems let it happen.
func retry(call func() error) error {
	for {
		if err := call(); err != syscall.EINTR {
			return err
		}
	}
}
