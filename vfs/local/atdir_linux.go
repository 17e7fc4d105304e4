package local

import (
	"context"
	"encoding/binary"
	"io/fs"
	"iter"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/gantryhq/gantry/vfs"
)

// atDir is a directory by its O_PATH descriptor.
type atDir struct {
	fd   int
	tree *beneath // if fd is the tree's own
}

func (d *atDir) close() error {
	if d.tree != nil {
		d.tree.release()
		return nil
	}
	return unix.Close(d.fd)
}

func (d *atDir) stat(name string) (vfs.FileInfo, error) {
	var st unix.Statx_t
	if err := statx(d.fd, name, &st); err != nil {
		return vfs.FileInfo{}, err
	}
	return statxInfo(&st, name), nil
}

func (d *atDir) mkdir(name string, perm fs.FileMode, uid, gid int) error {
	err := retry(func() error { return unix.Mkdirat(d.fd, name, uint32(perm.Perm())) })
	if err != nil || uid <= 0 && gid <= 0 {
		return err
	}
	// By descriptor and only if it is a directory: nobody can have put a second name of somebody's file there.
	fd, err := openat2(d.fd, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0, 0)
	if err != nil {
		return nil // it is made; somebody has taken it away since
	}
	defer unix.Close(fd)
	_ = unix.Fchownat(fd, "", chownID(uid), chownID(gid), unix.AT_EMPTY_PATH)
	return nil
}

func (d *atDir) remove(name string) error {
	err := retry(func() error { return unix.Unlinkat(d.fd, name, 0) })
	if err == unix.EISDIR || err == unix.EPERM { // POSIX says EPERM of a directory
		if rmErr := retry(func() error { return unix.Unlinkat(d.fd, name, unix.AT_REMOVEDIR) }); rmErr != unix.ENOTDIR {
			err = rmErr
		}
	}
	return err
}

func (d *atDir) symlink(target, name string) error {
	return retry(func() error { return unix.Symlinkat(target, d.fd, name) })
}

func (d *atDir) readlink(name string) (string, error) {
	buf := make([]byte, vfs.MaxPathBytes)
	n, err := ignoringEINTR(func() (int, error) { return unix.Readlinkat(d.fd, name, buf) })
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

func (d *atDir) create(name string, flag int, perm fs.FileMode) (*os.File, error) {
	fd, err := openat2(d.fd, name, uint64(flag)|unix.O_CREAT|unix.O_EXCL|unix.O_LARGEFILE, uint32(perm.Perm()), 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (d *atDir) rename(from, to string, replace bool) error {
	return renameat(d.fd, from, d.fd, to, replace)
}

func (d *atDir) sub(rel string) (dir, error) {
	fd, err := openat2(d.fd, rel, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0, unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return nil, err
	}
	return &atDir{fd: fd}, nil
}

func (d *atDir) sync() error {
	fd, err := openat2(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return retry(func() error { return unix.Fsync(fd) })
}

// listBytes is one chunk of a listing: what a listing holds in memory, however long the directory is.
const listBytes = 32 << 10

// listBuffers lends them.
var listBuffers = sync.Pool{New: func() any { return new([listBytes]byte) }}

// list costs one allocation (the name) and one statx for each entry.
func (d *atDir) list(ctx context.Context) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		fd, err := openat2(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0, 0)
		if err != nil {
			yield(entry{}, err)
			return
		}
		defer unix.Close(fd)
		buf := listBuffers.Get().(*[listBytes]byte)
		defer listBuffers.Put(buf)
		var st unix.Statx_t
		for {
			n, err := ignoringEINTR(func() (int, error) { return unix.Getdents(fd, buf[:]) })
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(entry{}, err)
				return
			}
			if n == 0 {
				return
			}
			for rest := buf[:n]; len(rest) > 0; {
				name, next := dirent(rest)
				if name == nil {
					break
				}
				rest = next
				if len(name) == 2 && name[0] == '.' || len(name) == 3 && name[0] == '.' && name[1] == '.' {
					continue // name ends with NUL
				}
				e := entry{}
				err := statxBytes(fd, name, &st)
				if err == unix.ENOENT {
					continue
				}
				text := string(name[:len(name)-1])
				if err != nil {
					e.Name = text
				} else {
					e.FileInfo = statxInfo(&st, text)
					e.changed = st.Ctime.Sec*1e9 + int64(st.Ctime.Nsec)
				}
				if !yield(e, err) {
					return
				}
			}
		}
	}
}

// dirent takes the first name, with its NUL, off the records of getdents64.
func dirent(buf []byte) (name, rest []byte) {
	const nameAt = 19 // after ino, off, reclen and type
	if len(buf) < nameAt {
		return nil, nil
	}
	size := int(binary.NativeEndian.Uint16(buf[16:]))
	if size <= nameAt || size > len(buf) {
		return nil, nil
	}
	name = buf[nameAt:size]
	for i, c := range name {
		if c == 0 {
			return name[:i+1], buf[size:]
		}
	}
	return nil, nil
}

const statxMask = unix.STATX_BASIC_STATS

// statx describes name in the directory fd without following it, or fd itself if name is "".
func statx(fd int, name string, st *unix.Statx_t) error {
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	for {
		if err := unix.Statx(fd, name, flags, statxMask, st); err != unix.EINTR {
			return err
		}
	}
}

// statxBytes is statx of a name that ends with NUL already, so that it need not be copied.
func statxBytes(fd int, name []byte, st *unix.Statx_t) error {
	for {
		_, _, no := unix.Syscall6(unix.SYS_STATX, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(name))),
			unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, statxMask, uintptr(unsafe.Pointer(st)), 0)
		switch no {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return no
		}
	}
}

func statxInfo(st *unix.Statx_t, name string) vfs.FileInfo {
	return vfs.FileInfo{
		Name:       name,
		Size:       int64(st.Size),
		Mode:       goMode(st.Mode),
		ModTime:    time.Unix(st.Mtime.Sec, int64(st.Mtime.Nsec)),
		AccessTime: time.Unix(st.Atime.Sec, int64(st.Atime.Nsec)),
		UID:        st.Uid,
		GID:        st.Gid,
		Nlink:      uint64(st.Nlink),
		Dev:        unix.Mkdev(st.Dev_major, st.Dev_minor),
		Ino:        st.Ino,
	}
}

// goMode turns the system's mode into Go's.
func goMode(m uint16) fs.FileMode {
	mode := fs.FileMode(m & 0o777)
	switch m & unix.S_IFMT {
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	case unix.S_IFLNK:
		mode |= fs.ModeSymlink
	case unix.S_IFIFO:
		mode |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		mode |= fs.ModeSocket
	case unix.S_IFCHR:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFBLK:
		mode |= fs.ModeDevice
	}
	if m&unix.S_ISUID != 0 {
		mode |= fs.ModeSetuid
	}
	if m&unix.S_ISGID != 0 {
		mode |= fs.ModeSetgid
	}
	if m&unix.S_ISVTX != 0 {
		mode |= fs.ModeSticky
	}
	return mode
}

// unixMode turns Go's permission and set-id bits into the system's.
func unixMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	if m&fs.ModeSetuid != 0 {
		mode |= unix.S_ISUID
	}
	if m&fs.ModeSetgid != 0 {
		mode |= unix.S_ISGID
	}
	if m&fs.ModeSticky != 0 {
		mode |= unix.S_ISVTX
	}
	return mode
}

// fileInfo describes an open file.
func fileInfo(f *os.File) (vfs.FileInfo, error) {
	c, err := f.SyscallConn()
	if err != nil {
		return vfs.FileInfo{}, err
	}
	var st unix.Statx_t
	var statErr error
	if c.Control(func(fd uintptr) { statErr = statx(int(fd), "", &st) }) != nil {
		return vfs.FileInfo{}, fs.ErrClosed
	}
	return statxInfo(&st, ""), statErr
}

// fileTimes sets the times of an open file.
func fileTimes(f *os.File, atime, mtime time.Time) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var timesErr error
	if c.Control(func(fd uintptr) { timesErr = utimens(int(fd), atime, mtime) }) != nil {
		return fs.ErrClosed
	}
	return timesErr
}
