// Package local is the storage on a local directory. Nothing beneath its root reaches outside it, also
// while somebody swaps directories for symbolic links (SYM-1): on Linux the kernel resolves every path
// beneath one root descriptor (openat2), elsewhere os.Root does. Relative links that stay inside work;
// absolute ones, and those that leave the root, are vfs.ErrEscape. Devices, pipes and sockets are not opened.
//
// What a peer controls is the vfs.Path, link targets, attributes and bytes. The text of an error holds
// virtual paths only.
package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	"github.com/gantryhq/gantry/vfs"
)

// Options of a storage. The zero value is usable.
type Options struct {
	// UID and GID own new files and directories, where the process may say so; 0 and -1 leave them alone.
	UID, GID int
	// Umask is taken off the mode of new files and directories, beside the process's own.
	Umask fs.FileMode
	// Sync makes Commit wait until the file, and the directory of an atomic upload, are on the disk.
	Sync bool
	// Portable takes os.Root on Linux too. Listings are slower, Rename without replace of a directory is not
	// atomic, and a link's own times cannot be set.
	Portable bool
}

// FS is a directory of the operating system. Safe for concurrent use.
type FS struct {
	opts Options
	root string // the operating system's absolute path
	host string // root without links and with "/"
	id   string
	tree tree
}

var (
	_ vfs.FS         = (*FS)(nil)
	_ vfs.Linker     = (*FS)(nil)
	_ vfs.AttrSetter = (*FS)(nil)
	_ vfs.Copier     = (*FS)(nil)
	_ vfs.StatFSer   = (*FS)(nil)
	_ vfs.DirSizer   = (*FS)(nil)
	_ vfs.Sweeper    = (*FS)(nil)
	_ vfs.Describer  = (*FS)(nil)
	_ vfs.Subber     = (*FS)(nil)
	_ vfs.HostOpener = (*FS)(nil)
	_ vfs.Instant    = (*FS)(nil)
)

// tree is the operating system beneath a root. Paths resolve through links that stay inside. Errors may be
// the system's: FS names them.
type tree interface {
	stat(name vfs.Path, follow bool) (vfs.FileInfo, error)
	// open follows a link in the last place and does not wait on a pipe; what it opens may be anything.
	open(name vfs.Path, flag int, perm fs.FileMode) (*os.File, error)
	// dir holds a directory open.
	dir(name vfs.Path) (dir, error)
	rename(from, to vfs.Path, replace bool) error
	link(old, new vfs.Path) error
	setAttr(name vfs.Path, attr vfs.Attr, follow bool) error
	statFS(name vfs.Path) (vfs.StatFS, error)
	// sub is the tree beneath a directory.
	sub(name vfs.Path) (tree, error)
	close() error
}

// dir is an open directory, wherever it moves to. A name is one component and never followed.
type dir interface {
	stat(name string) (vfs.FileInfo, error)
	// mkdir makes a directory and gives it to uid and gid where positive.
	mkdir(name string, perm fs.FileMode, uid, gid int) error
	remove(name string) error
	symlink(target, name string) error
	readlink(name string) (string, error)
	// create makes a file that must not exist.
	create(name string, flag int, perm fs.FileMode) (*os.File, error)
	rename(from, to string, replace bool) error
	// list streams all entries, temporary files too. An entry that vanished meanwhile is left out.
	list(ctx context.Context) iter.Seq2[entry, error]
	// sub opens a directory below by its relative path, which must not lead through a link.
	sub(rel string) (dir, error)
	sync() error
	close() error
}

// entry is one of a listing. With an error it has the name only, or nothing if the listing ended.
type entry struct {
	vfs.FileInfo
	changed int64 // nanoseconds since the epoch; the newest change that a client cannot date back
}

// New opens the directory root, which must exist.
func New(root string, o Options) (*FS, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("local: root %q: %w", root, err)
	}
	t, err := openTree(abs, o.Portable)
	if err != nil {
		return nil, fmt.Errorf("local: open the root directory %q: %w", abs, mapError(err))
	}
	f, err := newFS(abs, o, t)
	if err != nil {
		return nil, fmt.Errorf("local: the root directory %q: %w", abs, mapError(err))
	}
	return f, nil
}

func newFS(root string, o Options, t tree) (*FS, error) {
	i, err := t.stat(vfs.Root, true)
	if err != nil {
		t.close()
		return nil, err
	}
	id := "local:" + root
	if i.Ino != 0 {
		id = fmt.Sprintf("local:%d:%d", i.Dev, i.Ino)
	}
	host := root
	if real, err := filepath.EvalSymlinks(root); err == nil {
		host = real
	}
	return &FS{opts: o, root: root, host: filepath.ToSlash(host), tree: t, id: id}, nil
}

// Sub implements vfs.Subber: beneath dir, wherever that is moved to.
func (f *FS) Sub(ctx context.Context, dir vfs.Path) (vfs.FS, error) {
	err := visible(ctx, dir)
	var t tree
	if err == nil {
		t, err = f.tree.sub(dir)
	}
	var sub *FS
	if err == nil {
		sub, err = newFS(f.Describe(dir).StoragePath, f.opts, t)
	}
	if err != nil {
		return nil, opError("sub", dir, err)
	}
	return sub, nil
}

// Close implements vfs.FS. Open handles and listings stay usable.
func (f *FS) Close() error { return f.tree.close() }

// Stat implements vfs.FS.
func (f *FS) Stat(ctx context.Context, name vfs.Path) (vfs.FileInfo, error) {
	return f.stat(ctx, "stat", name, true)
}

// Lstat implements vfs.FS.
func (f *FS) Lstat(ctx context.Context, name vfs.Path) (vfs.FileInfo, error) {
	return f.stat(ctx, "lstat", name, false)
}

func (f *FS) stat(ctx context.Context, op string, name vfs.Path, follow bool) (vfs.FileInfo, error) {
	if err := visible(ctx, name); err != nil {
		return vfs.FileInfo{}, opError(op, name, err)
	}
	i, err := f.tree.stat(name, follow)
	if err != nil {
		return vfs.FileInfo{}, opError(op, name, err)
	}
	i.Name = name.Base()
	return i, nil
}

// List implements vfs.FS, in the order of the directory.
func (f *FS) List(ctx context.Context, name vfs.Path) iter.Seq2[vfs.FileInfo, error] {
	return func(yield func(vfs.FileInfo, error) bool) {
		fail := func(err error) { yield(vfs.FileInfo{}, opError("list", name, err)) }
		if err := visible(ctx, name); err != nil {
			fail(err)
			return
		}
		d, err := f.tree.dir(name)
		if err != nil {
			fail(err)
			return
		}
		defer d.close()
		for e, err := range d.list(ctx) {
			switch {
			case err != nil && e.Name == "":
				fail(err)
				return
			case vfs.IsTempName(e.Name):
			case err != nil:
				p, _ := name.Child(e.Name)
				if !yield(vfs.FileInfo{Name: e.Name}, opError("list", p, err)) {
					return
				}
			default:
				if !yield(e.FileInfo, nil) {
					return
				}
			}
		}
	}
}

// Mkdir implements vfs.FS.
func (f *FS) Mkdir(ctx context.Context, name vfs.Path, attr vfs.Attr) error {
	perm := fs.FileMode(0o777)
	if attr.Set&vfs.AttrMode != 0 {
		perm = attr.Mode.Perm()
	}
	uid, gid := f.opts.UID, f.opts.GID
	if attr.Set&vfs.AttrOwner != 0 {
		uid, gid = owner(attr.UID, uid), owner(attr.GID, gid)
	}
	err := f.inParent(ctx, name, func(d dir, base string) error {
		return d.mkdir(base, perm&^f.opts.Umask, uid, gid)
	})
	if err == nil && attr.Set&vfs.AttrTimes != 0 {
		attr.Set = vfs.AttrTimes
		err = f.tree.setAttr(name, attr, false)
	}
	return opError("mkdir", name, err)
}

// Remove implements vfs.FS.
func (f *FS) Remove(ctx context.Context, name vfs.Path) error {
	err := removable(ctx, name)
	if err == nil {
		var d dir
		if d, err = f.tree.dir(name.Dir()); err == nil {
			err = d.remove(name.Base())
			d.close()
		}
	}
	return opError("remove", name, err)
}

// Rename implements vfs.FS.
func (f *FS) Rename(ctx context.Context, from, to vfs.Path, replace bool) error {
	err := removable(ctx, from)
	if err == nil {
		err = creatable(ctx, to)
	}
	if err == nil {
		err = f.tree.rename(from, to, replace)
		if replace && errors.Is(err, fs.ErrExist) {
			err = vfs.ErrNotEmpty // some systems say EEXIST of a directory with entries
		}
	}
	return opError("rename", from, err)
}

// Describe implements vfs.Describer.
func (f *FS) Describe(name vfs.Path) vfs.Description {
	at := f.root
	switch {
	case name.IsRoot():
	case filepath.Separator == '/' && f.root != "/": // both are clean
		at += name.String()
	default:
		at = filepath.Join(f.root, filepath.FromSlash(name.Relative()))
	}
	return vfs.Description{StoragePath: at, Identity: f.id, HostRoot: f.host}
}

// inParent runs act in the directory of a new name.
func (f *FS) inParent(ctx context.Context, name vfs.Path, act func(d dir, base string) error) error {
	if err := creatable(ctx, name); err != nil {
		return err
	}
	d, err := f.tree.dir(name.Dir())
	if err != nil {
		return err
	}
	defer d.close()
	return act(d, name.Base())
}

// visible, removable and creatable judge a path before the system sees it.
func visible(ctx context.Context, name vfs.Path) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if name.HasTempName() {
		return fs.ErrNotExist
	}
	return nil
}

func removable(ctx context.Context, name vfs.Path) error {
	if name.IsRoot() {
		return fs.ErrPermission
	}
	return visible(ctx, name)
}

func creatable(ctx context.Context, name vfs.Path) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if name.IsRoot() {
		return fs.ErrExist
	}
	if name.HasTempName() {
		return fs.ErrPermission
	}
	return nil
}

// owner is id where it names one, else the storage's own.
func owner(id, def int) int {
	if id > 0 {
		return id
	}
	return def
}

// opError says what was tried, by the virtual path. It is nil for a nil err.
func opError(op string, name vfs.Path, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name.String(), Err: mapError(err)}
}

// mapError turns the system's error into one of vfs's, without the system's paths.
func mapError(err error) error {
	for _, known := range known {
		if errors.Is(err, known) {
			return known
		}
	}
	if kind, ok := errnoKind(err); ok {
		return kind
	}
	return err
}

// known are the errors that say all there is to say. Read only.
var known = []error{
	vfs.ErrEscape, vfs.ErrSpecial, vfs.ErrTooLarge, vfs.ErrCrossDevice, vfs.ErrNotEmpty, vfs.ErrNotDir,
	vfs.ErrIsDir, vfs.ErrLoop, vfs.ErrQuota, vfs.ErrReadOnly, vfs.ErrInvalidPath, fs.ErrClosed,
	context.Canceled, context.DeadlineExceeded,
}

// newPerm is the mode of a new file.
func (f *FS) newPerm(perm fs.FileMode) fs.FileMode {
	return cmp.Or(perm.Perm(), 0o666) &^ f.opts.Umask
}
