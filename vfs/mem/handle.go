package mem

import (
	"cmp"
	"context"
	"io"
	"io/fs"

	"github.com/gantryhq/gantry/vfs"
)

// Open implements vfs.FS.
func (f *FS) Open(ctx context.Context, name vfs.Path) (vfs.File, error) {
	if err := f.begin(ctx, Op{Verb: "open", Path: name}, false); err != nil {
		return nil, err
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	n, err := f.lookup(name, true)
	if err == nil && n.children != nil {
		err = vfs.ErrIsDir
	}
	if err != nil {
		return nil, opError("open", name, err)
	}
	return &file{handle{fs: f, name: name, n: n}}, nil
}

// Create implements vfs.FS.
func (f *FS) Create(ctx context.Context, name vfs.Path, mode vfs.OpenMode) (vfs.Upload, error) {
	if err := f.begin(ctx, Op{Verb: "create", Path: name}, true); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	u, err := f.create(name, mode)
	if err != nil {
		return nil, opError("create", name, err)
	}
	if mode.Read {
		return &readUpload{u}, nil
	}
	return u, nil
}

func (f *FS) create(name vfs.Path, mode vfs.OpenMode) (*upload, error) {
	if name.IsRoot() {
		return nil, vfs.ErrIsDir
	}
	dir, base, err := f.place(name)
	if err != nil {
		return nil, err
	}
	if mode.Exclusive && dir.children[base] != nil {
		return nil, fs.ErrExist
	}
	// old is what a reader of name would see, at its real place.
	oldDir, oldBase, old, err := f.walk(name, true)
	notThere := err != nil && oldDir != nil
	switch {
	case err == nil && old.children != nil:
		return nil, vfs.ErrIsDir
	case notThere && mode.MustExist:
		return nil, fs.ErrNotExist
	case err != nil && !notThere:
		// A link that leads nowhere: an atomic upload replaces the link, if nothing of the old is asked for.
		if !mode.Atomic || !mode.Truncate || !dir.children[base].isLinkNode() {
			return nil, err
		}
	}
	u := &upload{handle: handle{fs: f, name: name}, mode: mode, dir: dir, base: base}
	perm := cmp.Or(mode.Perm&fs.ModePerm, 0o666) &^ f.opts.Umask
	if !mode.Atomic {
		if old == nil {
			old = f.newNode(perm, mode.UID, mode.GID)
			f.attach(oldDir, oldBase, old)
		} else if mode.Truncate {
			if err := f.resize(old, 0); err != nil {
				return nil, err
			}
			old.mtime = f.opts.Now()
		}
		u.handle.n = old
		return u, nil
	}
	u.handle.n = f.newNode(perm, mode.UID, mode.GID)
	if old != nil {
		u.handle.n.mode, u.handle.n.uid, u.handle.n.gid = old.mode&fs.ModePerm, old.uid, old.gid
	}
	u.temp = vfs.NewTempName()
	f.attach(dir, u.temp, u.handle.n)
	if old != nil && !mode.Truncate {
		if err := f.copyOf(u.handle.n, old); err != nil {
			f.detach(dir, u.temp)
			return nil, err
		}
	}
	return u, nil
}

func (n *node) isLinkNode() bool { return n != nil && n.isLink() }

// handle is what File and Upload share. closed is guarded by fs.mu.
type handle struct {
	fs     *FS
	name   vfs.Path
	n      *node
	closed bool
}

// begin is FS.begin for a call of a handle, whose FS may be closed.
func (h *handle) begin(op Op) error {
	op.Path = h.name
	if h.fs.opts.Fault != nil {
		if err := h.fs.opts.Fault(op); err != nil {
			return opError(op.Verb, op.Path, err)
		}
	}
	return nil
}

func (h *handle) ReadAt(p []byte, off int64) (int, error) {
	if err := h.begin(Op{Verb: "read", Off: off, Len: len(p)}); err != nil {
		return 0, err
	}
	h.fs.mu.RLock()
	defer h.fs.mu.RUnlock()
	if h.closed {
		return 0, opError("read", h.name, fs.ErrClosed)
	}
	n, err := h.n.readAt(p, off)
	if err != nil && err != io.EOF {
		err = opError("read", h.name, err)
	}
	return n, err
}

func (h *handle) Stat() (vfs.FileInfo, error) {
	if err := h.begin(Op{Verb: "fstat"}); err != nil {
		return vfs.FileInfo{}, err
	}
	h.fs.mu.RLock()
	defer h.fs.mu.RUnlock()
	if h.closed {
		return vfs.FileInfo{}, opError("fstat", h.name, fs.ErrClosed)
	}
	return h.n.info(h.fs, h.name.Base()), nil
}

type file struct{ handle }

func (h *file) Close() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.closed {
		return opError("close", h.name, fs.ErrClosed)
	}
	h.closed = true
	return nil
}

// readUpload is an upload that is also a reader.
type readUpload struct{ *upload }

func (u *readUpload) ReadAt(p []byte, off int64) (int, error) { return u.handle.ReadAt(p, off) }

// upload hides handle's ReadAt: only OpenMode.Read gives it.
type upload struct {
	handle handle
	mode   vfs.OpenMode
	dir    *node // where Commit publishes
	base   string
	temp   string // "" in place
}

func (u *upload) Stat() (vfs.FileInfo, error) { return u.handle.Stat() }

func (u *upload) WriteAt(p []byte, off int64) (n int, err error) {
	err = u.change(Op{Verb: "write", Off: off, Len: len(p)}, func() (err error) {
		if u.mode.Append {
			off = u.handle.n.size
		}
		n, err = u.handle.fs.writeAt(u.handle.n, p, off)
		return err
	})
	return n, err
}

func (u *upload) Truncate(size int64) error {
	return u.change(Op{Verb: "truncate", Off: size}, func() error {
		u.handle.n.mtime = u.handle.fs.opts.Now()
		return u.handle.fs.resize(u.handle.n, size)
	})
}

func (u *upload) Sync() error { return u.change(Op{Verb: "sync"}, func() error { return nil }) }

func (u *upload) SetAttr(a vfs.Attr) error {
	return u.change(Op{Verb: "fsetattr"}, func() error { u.handle.n.setAttr(a); return nil })
}

// Commit implements vfs.Upload.
func (u *upload) Commit(ctx context.Context) (i vfs.FileInfo, err error) {
	if err := ctx.Err(); err != nil {
		return i, opError("commit", u.handle.name, err)
	}
	err = u.change(Op{Verb: "commit"}, func() error {
		if u.temp != "" {
			if err := u.publish(); err != nil {
				return err
			}
		}
		u.handle.closed = true
		i = u.handle.n.info(u.handle.fs, u.base)
		return nil
	})
	return i, err
}

func (u *upload) publish() error {
	f, old := u.handle.fs, u.dir.children[u.base]
	switch {
	case u.dir.children[u.temp] != u.handle.n:
		return fs.ErrNotExist // swept
	case old != nil && u.mode.Exclusive:
		return fs.ErrExist
	case old != nil && old.children != nil:
		return vfs.ErrIsDir
	case old != nil:
		f.detach(u.dir, u.base)
	}
	delete(u.dir.children, u.temp)
	u.dir.children[u.base] = u.handle.n
	u.dir.mtime = f.opts.Now()
	return nil
}

// Abort implements vfs.Upload. It works on a cancelled context too.
func (u *upload) Abort(context.Context) error {
	return u.change(Op{Verb: "abort"}, func() error {
		if u.temp != "" && u.dir.children[u.temp] == u.handle.n {
			u.handle.fs.detach(u.dir, u.temp)
		}
		u.handle.closed = true
		return nil
	})
}

// change runs act on an upload that is still open.
func (u *upload) change(op Op, act func() error) error {
	if err := u.handle.begin(op); err != nil {
		return err
	}
	u.handle.fs.mu.Lock()
	defer u.handle.fs.mu.Unlock()
	err := fs.ErrClosed
	if !u.handle.closed {
		err = act()
	}
	if err != nil {
		return opError(op.Verb, u.handle.name, err)
	}
	return nil
}
