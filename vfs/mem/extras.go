package mem

import (
	"context"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

// List implements vfs.FS, in the order of the names.
func (f *FS) List(ctx context.Context, dir vfs.Path) iter.Seq2[vfs.FileInfo, error] {
	return func(yield func(vfs.FileInfo, error) bool) {
		n, names, err := f.names(ctx, dir)
		if err != nil {
			yield(vfs.FileInfo{}, err)
			return
		}
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				yield(vfs.FileInfo{}, opError("list", dir, err))
				return
			}
			if vfs.IsTempName(name) {
				continue
			}
			if f.opts.Fault != nil {
				p, _ := dir.Child(name)
				if err := f.opts.Fault(Op{Verb: "entry", Path: p}); err != nil {
					if !yield(vfs.FileInfo{Name: name}, opError("list", p, err)) {
						return
					}
					continue
				}
			}
			f.mu.RLock()
			var info vfs.FileInfo
			c := n.children[name]
			if c != nil {
				info = c.info(f, name)
			}
			f.mu.RUnlock()
			if c != nil && !yield(info, nil) {
				return
			}
		}
	}
}

func (f *FS) names(ctx context.Context, dir vfs.Path) (*node, []string, error) {
	if err := f.begin(ctx, Op{Verb: "list", Path: dir}, false); err != nil {
		return nil, nil, err
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	n, err := f.lookup(dir, true)
	if err == nil && n.children == nil {
		err = vfs.ErrNotDir
	}
	if err != nil {
		return nil, nil, opError("list", dir, err)
	}
	return n, slices.Sorted(maps.Keys(n.children)), nil
}

// Symlink implements vfs.Linker. A target that is absolute or leaves the root is vfs.ErrEscape.
func (f *FS) Symlink(ctx context.Context, target string, link vfs.Path) error {
	if err := f.begin(ctx, Op{Verb: "symlink", Path: link}, true); err != nil {
		return err
	}
	if err := vfs.CheckLinkTarget(target, link); err != nil {
		return opError("symlink", link, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	dir, base, err := f.place(link)
	if err == nil && dir.children[base] != nil {
		err = fs.ErrExist
	}
	if err != nil {
		return opError("symlink", link, err)
	}
	n := f.newNode(fs.ModeSymlink|fs.ModePerm, -1, -1)
	n.target = target
	f.attach(dir, base, n)
	return nil
}

// Readlink implements vfs.Linker.
func (f *FS) Readlink(ctx context.Context, name vfs.Path) (string, error) {
	if err := f.begin(ctx, Op{Verb: "readlink", Path: name}, false); err != nil {
		return "", err
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	n, err := f.lookup(name, false)
	if err == nil && !n.isLink() {
		err = fs.ErrInvalid
	}
	if err != nil {
		return "", opError("readlink", name, err)
	}
	return n.target, nil
}

// Link implements vfs.Linker.
func (f *FS) Link(ctx context.Context, old, new vfs.Path) error {
	if err := f.begin(ctx, Op{Verb: "link", Path: old, To: new}, true); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.link(old, new); err != nil {
		return opError("link", old, err)
	}
	return nil
}

func (f *FS) link(old, new vfs.Path) error {
	n, err := f.lookup(old, false)
	if err != nil {
		return err
	}
	if n.children != nil {
		return fs.ErrPermission
	}
	dir, base, err := f.place(new)
	if err != nil {
		return err
	}
	if dir.children[base] != nil {
		return fs.ErrExist
	}
	f.attach(dir, base, n)
	return nil
}

// SetAttr implements vfs.AttrSetter.
func (f *FS) SetAttr(ctx context.Context, name vfs.Path, attr vfs.Attr, follow bool) error {
	if err := f.begin(ctx, Op{Verb: "setattr", Path: name}, true); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.lookup(name, follow)
	if err == nil && n.isLink() && attr.Set&vfs.AttrMode != 0 {
		err = vfs.ErrUnsupported
	}
	if err != nil {
		return opError("setattr", name, err)
	}
	n.setAttr(attr)
	return nil
}

// Copy implements vfs.Copier.
func (f *FS) Copy(ctx context.Context, from, to vfs.Path, replace bool) error {
	if err := f.begin(ctx, Op{Verb: "copy", Path: from, To: to}, true); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.copy(from, to, replace); err != nil {
		return opError("copy", from, err)
	}
	return nil
}

func (f *FS) copy(from, to vfs.Path, replace bool) error {
	n, err := f.lookup(from, true)
	if err != nil {
		return err
	}
	if n.children != nil {
		return vfs.ErrIsDir
	}
	u, err := f.create(to, vfs.OpenMode{Truncate: true, Exclusive: !replace, Atomic: true, Perm: n.mode & fs.ModePerm})
	if err != nil {
		return err
	}
	if err := f.copyOf(u.handle.n, n); err != nil {
		f.detach(u.dir, u.temp)
		return err
	}
	return u.publish()
}

// StatFS implements vfs.StatFSer.
func (f *FS) StatFS(ctx context.Context, name vfs.Path) (vfs.StatFS, error) {
	if err := f.begin(ctx, Op{Verb: "statfs", Path: name}, false); err != nil {
		return vfs.StatFS{}, err
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	if _, err := f.lookup(name, true); err != nil {
		return vfs.StatFS{}, opError("statfs", name, err)
	}
	total := f.opts.MaxBytes
	if total == 0 {
		total = 1 << 40
	}
	const block = 4096
	free := uint64(max(0, total-f.used)) / block
	return vfs.StatFS{
		BlockSize: block, Blocks: uint64(total) / block, Free: free, Avail: free,
		Files: 1 << 32, FilesFree: 1<<32 - f.ino, NameMax: vfs.MaxNameBytes, ReadOnly: f.opts.ReadOnly, ID: f.dev,
	}, nil
}

// DirSize implements vfs.DirSizer.
func (f *FS) DirSize(ctx context.Context, name vfs.Path) (files int, bytes int64, err error) {
	if err := f.begin(ctx, Op{Verb: "dirsize", Path: name}, false); err != nil {
		return 0, 0, err
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	n, err := f.lookup(name, false)
	if err != nil {
		return 0, 0, opError("dirsize", name, err)
	}
	n.each(nil, "", func(_ *node, name string, n *node) {
		if n.mode.IsRegular() && !vfs.IsTempName(name) {
			files, bytes = files+1, bytes+n.size
		}
	})
	return files, bytes, nil
}

// Sweep implements vfs.Sweeper.
func (f *FS) Sweep(ctx context.Context, t time.Time) (removed int, err error) {
	if err := f.begin(ctx, Op{Verb: "sweep"}, true); err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.root.each(nil, "", func(dir *node, name string, n *node) {
		if vfs.IsTempName(name) && n.mode.IsRegular() && n.born.Before(t) {
			f.detach(dir, name)
			removed++
		}
	})
	return removed, nil
}

// each calls visit for n and all that lies below it.
func (n *node) each(dir *node, name string, visit func(dir *node, name string, n *node)) {
	visit(dir, name, n)
	for name, c := range n.children {
		c.each(n, name, visit)
	}
}

// Describe implements vfs.Describer.
func (f *FS) Describe(name vfs.Path) vfs.Description {
	return vfs.Description{Provider: -1, StoragePath: name.String(), Identity: f.identity}
}

// Sub implements vfs.Subber. Room and limits stay those of the whole.
func (f *FS) Sub(ctx context.Context, dir vfs.Path) (vfs.FS, error) {
	if err := f.begin(ctx, Op{Verb: "sub", Path: dir}, false); err != nil {
		return nil, err
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	n, err := f.lookup(dir, true)
	if err == nil && n.children == nil {
		err = vfs.ErrNotDir
	}
	if err != nil {
		return nil, opError("sub", dir, err)
	}
	return &FS{store: f.store, root: n, identity: fmt.Sprintf("%s:%d", f.identity, n.ino)}, nil
}
