package local

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/gantryhq/gantry/vfs"
)

// openRootTree is the tree by os.Root: every system has it.
func openRootTree(root string) (tree, error) {
	r, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	return &rootTree{r: r}, nil
}

// rootTree asks os.Root, which walks component by component. Its calls on the last name follow a link only
// within the root.
type rootTree struct {
	r      *os.Root
	closed atomic.Bool
}

func (t *rootTree) close() error {
	if t.closed.Swap(true) {
		return fs.ErrClosed
	}
	return t.r.Close()
}

func osName(name vfs.Path) string { return filepath.FromSlash(name.Relative()) }

func (t *rootTree) stat(name vfs.Path, follow bool) (vfs.FileInfo, error) {
	get := t.r.Lstat
	if follow {
		get = t.r.Stat
	}
	i, err := get(osName(name))
	if err != nil {
		return vfs.FileInfo{}, rootError(err)
	}
	info := sysInfo(i)
	if name.IsRoot() && info.Ino != 0 && info.Nlink == 0 {
		return vfs.FileInfo{}, fs.ErrNotExist // removed while we hold it
	}
	return info, nil
}

func (t *rootTree) open(name vfs.Path, flag int, perm fs.FileMode) (*os.File, error) {
	f, err := t.r.OpenFile(osName(name), flag|openNoWait, perm.Perm())
	return f, rootError(err)
}

func (t *rootTree) sub(name vfs.Path) (tree, error) {
	r, err := t.openDir(name)
	if err != nil {
		return nil, err
	}
	return &rootTree{r: r}, nil
}

func (t *rootTree) dir(name vfs.Path) (dir, error) {
	r, err := t.openDir(name)
	if err != nil {
		return nil, err
	}
	return &rootDir{r: r}, nil
}

func (t *rootTree) openDir(name vfs.Path) (*os.Root, error) {
	// os.Root opens the last name without O_DIRECTORY, and a pipe would block it.
	i, err := t.r.Stat(osName(name))
	if err != nil {
		return nil, rootError(err)
	}
	if !i.IsDir() {
		return nil, vfs.ErrNotDir
	}
	r, err := t.r.OpenRoot(osName(name))
	return r, rootError(err)
}

func (t *rootTree) rename(from, to vfs.Path, replace bool) error {
	return renameInRoot(t.r, osName(from), osName(to), replace)
}

// renameInRoot refuses to replace atomically where the system has hard links and the object can have one;
// a directory is only looked for first.
func renameInRoot(r *os.Root, from, to string, replace bool) error {
	i, err := r.Lstat(from)
	if err != nil {
		return rootError(err)
	}
	if replace {
		return replaceInRoot(r, i, from, to)
	}
	if !i.IsDir() {
		err := r.Link(from, to)
		if err == nil {
			return rootError(r.Remove(from))
		}
		if err = rootError(err); !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	switch _, err := r.Lstat(to); {
	case err == nil:
		return fs.ErrExist
	case errors.Is(err, fs.ErrNotExist):
		return rootError(r.Rename(from, to))
	default:
		return rootError(err)
	}
}

// replaceInRoot holds the rules that systems differ in: one kind never replaces the other, and a directory
// may replace an empty one (which os.Root refuses, so the empty one goes first).
func replaceInRoot(r *os.Root, i fs.FileInfo, from, to string) error {
	old, err := r.Lstat(to)
	switch {
	case err != nil || os.SameFile(i, old):
	case old.IsDir() && !i.IsDir():
		return vfs.ErrIsDir
	case !old.IsDir() && i.IsDir():
		return vfs.ErrNotDir
	case old.IsDir():
		if within(to, from) {
			return fs.ErrInvalid
		}
		if err := r.Remove(to); err != nil {
			return rootError(err)
		}
	}
	return rootError(r.Rename(from, to))
}

// within reports whether name is dir or lies below it.
func within(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, dir+string(filepath.Separator))
}

func (t *rootTree) link(old, new vfs.Path) error {
	return rootError(t.r.Link(osName(old), osName(new)))
}

func (t *rootTree) setAttr(name vfs.Path, attr vfs.Attr, follow bool) error {
	n := osName(name)
	if !follow {
		i, err := t.r.Lstat(n)
		if err != nil {
			return rootError(err)
		}
		if link := i.Mode()&fs.ModeSymlink != 0; link && attr.Set&(vfs.AttrMode|vfs.AttrTimes) != 0 {
			return vfs.ErrUnsupported
		}
	}
	var err error
	if attr.Set&vfs.AttrOwner != 0 {
		if follow {
			err = t.r.Chown(n, attr.UID, attr.GID)
		} else {
			err = t.r.Lchown(n, attr.UID, attr.GID)
		}
	}
	if err == nil && attr.Set&vfs.AttrMode != 0 {
		err = t.r.Chmod(n, attr.Mode)
	}
	if err == nil && attr.Set&vfs.AttrTimes != 0 {
		err = t.r.Chtimes(n, attr.Atime, attr.Mtime)
	}
	return rootError(err)
}

func (t *rootTree) statFS(name vfs.Path) (vfs.StatFS, error) {
	f, err := t.r.OpenFile(osName(name), os.O_RDONLY|openNoWait, 0)
	if err != nil {
		return vfs.StatFS{}, rootError(err)
	}
	defer f.Close()
	return statFS(int(f.Fd()))
}

// rootDir is a directory by its own os.Root.
type rootDir struct {
	r *os.Root
}

func (d *rootDir) close() error { return d.r.Close() }

func (d *rootDir) stat(name string) (vfs.FileInfo, error) {
	i, err := d.r.Lstat(name)
	if err != nil {
		return vfs.FileInfo{}, rootError(err)
	}
	return sysInfo(i), nil
}

func (d *rootDir) mkdir(name string, perm fs.FileMode, uid, gid int) error {
	if err := d.r.Mkdir(name, perm.Perm()); err != nil {
		return rootError(err)
	}
	if uid > 0 || gid > 0 {
		if sub, err := d.sub(name); err == nil {
			_ = sub.(*rootDir).r.Lchown(".", chownID(uid), chownID(gid))
			sub.close()
		}
	}
	return nil
}

func (d *rootDir) remove(name string) error          { return rootError(d.r.Remove(name)) }
func (d *rootDir) symlink(target, name string) error { return rootError(d.r.Symlink(target, name)) }
func (d *rootDir) readlink(name string) (string, error) {
	target, err := d.r.Readlink(name)
	return target, rootError(err)
}

func (d *rootDir) create(name string, flag int, perm fs.FileMode) (*os.File, error) {
	f, err := d.r.OpenFile(name, flag|os.O_CREATE|os.O_EXCL, perm.Perm())
	return f, rootError(err)
}

func (d *rootDir) rename(from, to string, replace bool) error {
	return renameInRoot(d.r, from, to, replace)
}

func (d *rootDir) sub(rel string) (dir, error) {
	was, err := d.r.Lstat(rel)
	if err != nil {
		return nil, rootError(err)
	}
	if !was.IsDir() {
		return nil, vfs.ErrNotDir
	}
	r, err := d.r.OpenRoot(rel)
	if err != nil {
		return nil, rootError(err)
	}
	// It may have become a link in between.
	if is, err := r.Stat("."); err != nil || !os.SameFile(was, is) {
		r.Close()
		return nil, vfs.ErrNotDir
	}
	return &rootDir{r: r}, nil
}

func (d *rootDir) sync() error {
	f, err := d.r.Open(".")
	if err != nil {
		return rootError(err)
	}
	defer f.Close()
	if err := f.Sync(); !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil // directories cannot be synced here
}

func (d *rootDir) list(ctx context.Context) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		f, err := d.r.Open(".")
		if err != nil {
			yield(entry{}, rootError(err))
			return
		}
		defer f.Close()
		for {
			if err := ctx.Err(); err != nil {
				yield(entry{}, err)
				return
			}
			names, err := f.Readdirnames(256)
			for _, name := range names {
				i, err := d.r.Lstat(name)
				if errors.Is(err, fs.ErrNotExist) {
					continue
				}
				e := entry{FileInfo: vfs.FileInfo{Name: name}}
				if err == nil {
					e.FileInfo, e.changed = sysInfo(i), changed(i)
				}
				if !yield(e, rootError(err)) {
					return
				}
			}
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(entry{}, rootError(err))
				return
			}
		}
	}
}

// rootError names os.Root's own refusal, which has no name, and leaves the system's errors as they are.
func rootError(err error) error {
	if err == nil {
		return nil
	}
	inner := err
	for {
		next := errors.Unwrap(inner)
		if next == nil {
			break
		}
		inner = next
	}
	if _, ok := errnoKind(inner); ok {
		return err
	}
	for _, kind := range append(known, fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, fs.ErrInvalid, io.EOF) {
		if errors.Is(err, kind) {
			return err
		}
	}
	return vfs.ErrEscape
}
