package local

import (
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/gantryhq/gantry/vfs"
)

// descriptor is one that is closed when nobody uses it any more: closed under a running call, its number could be
// another file's by the time the call is made.
type descriptor struct {
	fd     int
	refs   atomic.Int64 // one until it is closed, and one for each call
	gone   atomic.Bool  // closed
	closed sync.Once
}

func (d *descriptor) open(fd int) {
	d.fd = fd
	d.refs.Store(1)
}

// acquire lends fd until release.
func (d *descriptor) acquire() error {
	for {
		n := d.refs.Load()
		if n == 0 || d.gone.Load() {
			return fs.ErrClosed
		}
		if d.refs.CompareAndSwap(n, n+1) {
			return nil
		}
	}
}

// release reports whether it was the last: then the caller closes fd.
func (d *descriptor) release() bool { return d.refs.Add(-1) == 0 }

// end has no call begin any more. last is release's.
func (d *descriptor) end() (last bool, err error) {
	err = fs.ErrClosed
	d.closed.Do(func() {
		d.gone.Store(true)
		last, err = d.release(), nil
	})
	return last, err
}

// readFile is a regular file that is read. A small one is read once and closed: an os.File of it costs two more system
// calls and a finalizer, so that it is made only for who wants one.
type readFile struct {
	descriptor
	name   vfs.Path
	opened vfs.FileInfo

	mu   sync.Mutex              // guards the making of file
	file atomic.Pointer[os.File] // owns fd; nil until OSFile
}

var (
	_ vfs.File    = (*readFile)(nil)
	_ vfs.OSFiler = (*readFile)(nil)
	_ vfs.Opened  = (*readFile)(nil)
)

// openRead opens an existing regular file.
func (t *beneath) openRead(name vfs.Path) (vfs.File, error) {
	fd, err := t.fd(name, openNoWait|unix.O_LARGEFILE, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Statx_t
	f := &readFile{name: name}
	if err = statx(fd, "", &st); err == nil {
		f.opened = statxInfo(&st, name.Base())
		err = vfs.Regular(f.opened)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	f.open(fd)
	return f, nil
}

// ReadAt reads until p is full, or to the end.
func (f *readFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.readAt(p, off)
	if err != nil && err != io.EOF {
		err = opError("read", f.name, err)
	}
	return n, err
}

func (f *readFile) readAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	if err := f.acquire(); err != nil {
		return 0, err
	}
	defer f.letGo()
	for n < len(p) {
		m, err := unix.Pread(f.fd, p[n:], off+int64(n))
		switch {
		case err == syscall.EINTR:
		case err == syscall.EAGAIN: // only the opening was not to wait; some file systems in user space take it further
			if _, err := unix.FcntlInt(uintptr(f.fd), unix.F_SETFL, 0); err != nil {
				return n, err
			}
		case err != nil:
			return n, err
		case m == 0:
			return n, io.EOF
		default:
			n += m
		}
	}
	return n, nil
}

// Stat describes the file as it is now.
func (f *readFile) Stat() (vfs.FileInfo, error) {
	var st unix.Statx_t
	err := f.acquire()
	if err == nil {
		err = statx(f.fd, "", &st)
		f.letGo()
	}
	if err != nil {
		return vfs.FileInfo{}, opError("fstat", f.name, err)
	}
	return statxInfo(&st, f.name.Base()), nil
}

// Opened implements vfs.Opened.
func (f *readFile) Opened() vfs.FileInfo { return f.opened }

// OSFile implements vfs.OSFiler. It is nil once the file is closed.
func (f *readFile) OSFile() *os.File {
	if file := f.file.Load(); file != nil {
		return file
	}
	if f.acquire() != nil {
		return nil
	}
	defer f.letGo()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file.Load() == nil {
		f.file.Store(newFile(f.fd, 0, f.name.String()))
	}
	return f.file.Load()
}

// Close does not wait for calls under way.
func (f *readFile) Close() error {
	last, err := f.end()
	if last {
		err = f.shut()
	}
	return opError("close", f.name, err)
}

func (f *readFile) letGo() {
	if f.release() {
		f.shut()
	}
}

// shut closes fd. Nothing uses it any more but, perhaps, who has the os.File, which sees to that by itself.
func (f *readFile) shut() error {
	if file := f.file.Load(); file != nil {
		return file.Close()
	}
	return unix.Close(f.fd)
}
