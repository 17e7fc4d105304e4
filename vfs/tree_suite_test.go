package vfs_test

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"testing"

	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/mem"
	"github.com/gantryhq/gantry/vfs/vfstest"
)

// mounted is what a session makes of a Tree, without its checks: every verb goes where Resolve says.
type mounted struct {
	tree *vfs.Tree
	at   vfs.Path
}

func (m mounted) of(p vfs.Path) vfs.Resolved { return m.tree.Resolve(m.at.Join(p)) }

// named shows the virtual path instead of the storage's.
func named(err error, p vfs.Path) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return &fs.PathError{Op: pe.Op, Path: p.String(), Err: pe.Err}
	}
	return err
}

func (m mounted) Stat(ctx context.Context, p vfs.Path) (vfs.FileInfo, error) {
	r := m.of(p)
	i, err := r.FS.Stat(ctx, r.Path)
	i.Name = p.Base()
	return i, named(err, p)
}

func (m mounted) Lstat(ctx context.Context, p vfs.Path) (vfs.FileInfo, error) {
	r := m.of(p)
	return r.FS.Lstat(ctx, r.Path)
}

func (m mounted) List(ctx context.Context, p vfs.Path) iter.Seq2[vfs.FileInfo, error] {
	r := m.of(p)
	return r.FS.List(ctx, r.Path)
}

func (m mounted) Open(ctx context.Context, p vfs.Path) (vfs.File, error) {
	r := m.of(p)
	return r.FS.Open(ctx, r.Path)
}

func (m mounted) Create(ctx context.Context, p vfs.Path, mode vfs.OpenMode) (vfs.Upload, error) {
	if p.IsRoot() {
		return nil, vfs.ErrIsDir
	}
	r := m.of(p)
	u, err := r.FS.Create(ctx, r.Path, mode)
	return u, named(err, p)
}

func (m mounted) Mkdir(ctx context.Context, p vfs.Path, attr vfs.Attr) error {
	r := m.of(p)
	return r.FS.Mkdir(ctx, r.Path, attr)
}

func (m mounted) Remove(ctx context.Context, p vfs.Path) error {
	r := m.of(p)
	if r.IsMount || r.LeadsToMount {
		return vfs.ErrEscape // any fs.ErrPermission
	}
	return r.FS.Remove(ctx, r.Path)
}

func (m mounted) Rename(ctx context.Context, from, to vfs.Path, replace bool) error {
	a, b := m.of(from), m.of(to)
	if a.IsMount {
		return vfs.ErrEscape
	}
	if b.IsMount {
		return fs.ErrExist
	}
	return a.FS.Rename(ctx, a.Path, b.Path, replace)
}

func (m mounted) Close() error {
	var err error
	m.tree.Each(func(f vfs.FS) bool { err = f.Close(); return true })
	return err
}

// A mounted directory of another storage behaves as a storage of its own.
func TestSuiteThroughAMount(t *testing.T) {
	plain := vfstest.Caps{Modes: true, Atomic: true, Resume: true, DirNoRepl: true}
	vfstest.Run(t, func(t *testing.T) vfs.FS {
		home, other := mem.New(mem.Options{}), mem.New(mem.Options{})
		sub := path(t, "/tenants/one")
		for _, p := range []vfs.Path{sub.Dir(), sub} {
			if err := other.Mkdir(t.Context(), p, vfs.Attr{}); err != nil {
				t.Fatal(err)
			}
		}
		tree, err := vfs.NewTree(home, []vfs.Mount{{Path: path(t, "/deep/mount"), FS: other, Base: sub}})
		if err != nil {
			t.Fatal(err)
		}
		return mounted{tree, path(t, "/deep/mount")}
	}, plain)
}
