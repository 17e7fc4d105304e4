package local

import (
	"context"
	"errors"

	"os"

	"github.com/gantryhq/gantry/vfs"
)

// Symlink implements vfs.Linker. A target that is absolute or leaves the root is vfs.ErrEscape.
func (f *FS) Symlink(ctx context.Context, target string, link vfs.Path) error {
	return opError("symlink", link, f.inParent(ctx, link, func(d dir, base string) error {
		if err := vfs.CheckLinkTarget(target, link); err != nil {
			return err
		}
		return d.symlink(target, base)
	}))
}

// Readlink implements vfs.Linker. What is no link is fs.ErrInvalid.
func (f *FS) Readlink(ctx context.Context, name vfs.Path) (string, error) {
	err := visible(ctx, name)
	if err != nil {
		return "", opError("readlink", name, err)
	}
	d, err := f.tree.dir(name.Dir())
	if err != nil {
		return "", opError("readlink", name, err)
	}
	defer d.close()
	base := name.Base()
	if name.IsRoot() {
		base = "."
	}
	target, err := d.readlink(base)
	return target, opError("readlink", name, err)
}

// Link implements vfs.Linker. The second name of a link is one of the link, not of its target.
func (f *FS) Link(ctx context.Context, old, new vfs.Path) error {
	err := removable(ctx, old)
	if err == nil {
		err = creatable(ctx, new)
	}
	if err == nil {
		err = f.tree.link(old, new)
	}
	return opError("link", old, err)
}

// SetAttr implements vfs.AttrSetter. A link itself has no mode: vfs.ErrUnsupported.
func (f *FS) SetAttr(ctx context.Context, name vfs.Path, attr vfs.Attr, follow bool) error {
	err := visible(ctx, name)
	if err == nil {
		err = f.tree.setAttr(name, attr, follow)
	}
	return opError("setattr", name, err)
}

// StatFS implements vfs.StatFSer.
func (f *FS) StatFS(ctx context.Context, name vfs.Path) (vfs.StatFS, error) {
	err := visible(ctx, name)
	var s vfs.StatFS
	if err == nil {
		s, err = f.tree.statFS(name)
	}
	return s, opError("statfs", name, err)
}

// Copy implements vfs.Copier: the copy stands at to when it is whole, or not at all. It has the mode of the
// original, and the time and owner of a new file.
func (f *FS) Copy(ctx context.Context, from, to vfs.Path, replace bool) error {
	return opError("copy", from, f.copy(ctx, from, to, replace))
}

func (f *FS) copy(ctx context.Context, from, to vfs.Path, replace bool) error {
	if err := visible(ctx, from); err != nil {
		return err
	}
	src, i, err := f.openRegular(from, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer src.Close()
	u, err := f.create(ctx, to, vfs.OpenMode{Atomic: true, Truncate: true, Exclusive: !replace, Perm: i.Mode.Perm(), UID: -1, GID: -1})
	if err != nil {
		return err
	}
	if err = clone(ctx, u.f, src); err == nil {
		_, err = u.commit(ctx)
	}
	if err != nil {
		return errors.Join(err, u.Abort(ctx))
	}
	return nil
}
