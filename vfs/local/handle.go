package local

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/gantryhq/gantry/vfs"
)

// Open implements vfs.FS.
func (f *FS) Open(ctx context.Context, name vfs.Path) (vfs.File, error) {
	if err := visible(ctx, name); err != nil {
		return nil, opError("open", name, err)
	}
	if t, ok := f.tree.(reader); ok {
		file, err := t.openRead(name)
		if err != nil {
			return nil, opError("open", name, err)
		}
		return file, nil
	}
	file, i, err := f.openRegular(name, os.O_RDONLY)
	if err != nil {
		return nil, opError("open", name, err)
	}
	i.Name = name.Base()
	return &openFile{handle{f: file, name: name}, i}, nil
}

// instant is a tree that knows what the system has in memory.
type instant interface {
	readInstant(name vfs.Path, b []byte, most int) ([]byte, vfs.FileInfo, bool)
	statInstant(name vfs.Path) (vfs.FileInfo, bool)
}

// ReadInstant implements vfs.Instant.
func (f *FS) ReadInstant(name vfs.Path, b []byte, most int) ([]byte, vfs.FileInfo, bool) {
	t, ok := f.tree.(instant)
	if !ok || name.HasTempName() {
		return b, vfs.FileInfo{}, false
	}
	b, i, ok := t.readInstant(name, b, most)
	i.Name = name.Base()
	return b, i, ok
}

// StatInstant implements vfs.Instant.
func (f *FS) StatInstant(name vfs.Path) (vfs.FileInfo, bool) {
	t, ok := f.tree.(instant)
	if !ok || name.HasTempName() {
		return vfs.FileInfo{}, false
	}
	i, ok := t.statInstant(name)
	i.Name = name.Base()
	return i, ok
}

// reader is a tree that opens regular files for reading at less than the cost of an os.File.
type reader interface {
	openRead(name vfs.Path) (vfs.File, error)
}

// openRegular opens an existing regular file.
func (f *FS) openRegular(name vfs.Path, flag int) (*os.File, vfs.FileInfo, error) {
	file, err := f.tree.open(name, flag, 0)
	if err != nil {
		return nil, vfs.FileInfo{}, err
	}
	i, err := fileInfo(file)
	if err == nil {
		err = vfs.Regular(i)
	}
	if err != nil {
		file.Close()
		return nil, vfs.FileInfo{}, err
	}
	return file, i, nil
}

// Create implements vfs.FS.
func (f *FS) Create(ctx context.Context, name vfs.Path, mode vfs.OpenMode) (vfs.Upload, error) {
	u, err := f.create(ctx, name, mode)
	if err != nil {
		return nil, opError("create", name, err)
	}
	if mode.Read {
		return &readUpload{u}, nil
	}
	return u, nil
}

func (f *FS) create(ctx context.Context, name vfs.Path, mode vfs.OpenMode) (*upload, error) {
	if name.IsRoot() {
		return nil, vfs.ErrIsDir
	}
	if err := creatable(ctx, name); err != nil {
		return nil, err
	}
	flag := os.O_WRONLY
	if mode.Read {
		flag = os.O_RDWR
	}
	u := &upload{handle: handle{name: name}, append: mode.Append, exclusive: mode.Exclusive, sync: f.opts.Sync}
	if mode.Atomic {
		return u, f.createTemp(ctx, u, flag, mode)
	}
	if mode.Append {
		flag |= os.O_APPEND
	}
	return u, f.createInPlace(u, flag, mode)
}

// createInPlace opens the file that name leads to, or makes it there.
func (f *FS) createInPlace(u *upload, flag int, mode vfs.OpenMode) error {
	for i := range 3 { // again only if somebody makes or removes it at the same time
		if !mode.Exclusive && (i > 0 || !mode.Missing || mode.MustExist) {
			file, _, err := f.openRegular(u.name, flag)
			if err == nil && mode.Truncate {
				if err = file.Truncate(0); err != nil {
					file.Close()
				}
			}
			if err == nil {
				u.f = file
				return nil
			}
			if mode.MustExist || !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		file, err := f.tree.open(u.name, flag|os.O_CREATE|os.O_EXCL, f.newPerm(mode.Perm))
		if err == nil {
			u.f = file
			f.own(file, mode.UID, mode.GID)
			return nil
		}
		if mode.Exclusive || !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	// A link whose target is not there yet: the file is made where it leads, if that is inside.
	file, err := f.tree.open(u.name, flag|os.O_CREATE, f.newPerm(mode.Perm))
	if err != nil {
		return err
	}
	i, err := fileInfo(file)
	if err == nil {
		err = vfs.Regular(i)
	}
	if err == nil && mode.Truncate {
		err = file.Truncate(0)
	}
	if err != nil {
		file.Close()
		return err
	}
	u.f = file
	f.own(file, mode.UID, mode.GID)
	return nil
}

// createTemp opens a temporary file beside name, with the old content if that is to stay. It holds the
// directory, so that a rename of it meanwhile moves the upload along and a link in its place is not followed.
func (f *FS) createTemp(ctx context.Context, u *upload, flag int, mode vfs.OpenMode) (err error) {
	d, err := f.tree.dir(u.name.Dir())
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	base := u.name.Base()
	old, oldInfo, err := f.old(d, u.name, mode)
	if err != nil {
		return err
	}
	if old != nil {
		defer old.Close()
	}
	perm := f.newPerm(mode.Perm)
	if oldInfo != nil {
		perm = oldInfo.Mode.Perm()
	}
	temp := vfs.NewTempName()
	file, err := d.create(temp, flag, perm)
	if err != nil {
		return err
	}
	if oldInfo == nil {
		f.own(file, mode.UID, mode.GID)
	} else {
		// As much of the old file's owner and mode as the process may give.
		_ = file.Chown(int(oldInfo.UID), int(oldInfo.GID))
		_ = file.Chmod(perm)
	}
	if old != nil {
		if err = clone(ctx, file, old); err == nil && mode.Append {
			_, err = file.Seek(0, io.SeekEnd)
		}
	}
	if err != nil {
		file.Close()
		_ = d.remove(temp)
		return err
	}
	u.f, u.dir, u.base, u.temp = file, d, base, temp
	return nil
}

// old looks at what an atomic upload will replace: its attributes if it is there, and the open file if its
// content is to stay.
func (f *FS) old(d dir, name vfs.Path, mode vfs.OpenMode) (*os.File, *vfs.FileInfo, error) {
	i, err := d.stat(name.Base())
	if err == nil && mode.Exclusive {
		return nil, nil, fs.ErrExist
	}
	if err == nil && i.IsSymlink() {
		i, err = f.tree.stat(name, true)
		if err != nil && mode.Truncate && !mode.MustExist {
			return nil, nil, nil // it leads nowhere: the link itself is replaced
		}
	}
	if errors.Is(err, fs.ErrNotExist) && !mode.MustExist {
		return nil, nil, nil
	}
	if err == nil {
		err = vfs.Regular(i)
	}
	if err != nil {
		return nil, nil, err
	}
	if mode.Truncate {
		return nil, &i, nil
	}
	file, i, err := f.openRegular(name, os.O_RDONLY)
	if err != nil {
		return nil, nil, err
	}
	return file, &i, nil
}

// own gives a new file to its owner, where the process may.
func (f *FS) own(file *os.File, uid, gid int) {
	uid, gid = owner(uid, f.opts.UID), owner(gid, f.opts.GID)
	if uid > 0 || gid > 0 {
		_ = file.Chown(chownID(uid), chownID(gid))
	}
}

// chownID is what chown takes: -1 leaves one alone.
func chownID(id int) int {
	if id > 0 {
		return id
	}
	return -1
}

// handle is what openFile and upload share.
type handle struct {
	f    *os.File
	name vfs.Path
}

func (h *handle) readAt(p []byte, off int64) (int, error) {
	n, err := h.f.ReadAt(p, off)
	if err != nil && err != io.EOF {
		err = h.fail("read", off, err)
	}
	return n, err
}

func (h *handle) Stat() (vfs.FileInfo, error) {
	i, err := fileInfo(h.f)
	if err != nil {
		return vfs.FileInfo{}, opError("fstat", h.name, err)
	}
	i.Name = h.name.Base()
	return i, nil
}

// fail names an error of a read or write at off.
func (h *handle) fail(op string, off int64, err error) error {
	if off < 0 {
		err = fs.ErrInvalid
	}
	return opError(op, h.name, err)
}

type openFile struct {
	handle
	opened vfs.FileInfo
}

var (
	_ vfs.File    = (*openFile)(nil)
	_ vfs.OSFiler = (*openFile)(nil)
	_ vfs.Opened  = (*openFile)(nil)
)

func (h *openFile) ReadAt(p []byte, off int64) (int, error) { return h.readAt(p, off) }

// Opened implements vfs.Opened.
func (h *openFile) Opened() vfs.FileInfo { return h.opened }

// OSFile implements vfs.OSFiler.
func (h *openFile) OSFile() *os.File { return h.f }

func (h *openFile) Close() error {
	if err := h.f.Close(); err != nil {
		return opError("close", h.name, err)
	}
	return nil
}
