package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/gantryhq/gantry/internal/event"
	"github.com/gantryhq/gantry/vfs"
)

// Rename moves from to to. Without replace an existing target is fs.ErrExist.
//
// The checks go in the order of reference permissions-and-filters.md 2. Between two storages on local
// disks, or two devices of one, it is a copy and a removal: not atomic, and links are left out.
func (x *Session) Rename(ctx context.Context, from, to vfs.Path, replace bool) error {
	_, err := x.rename(ctx, from, to, replace, false, nil)
	return err
}

// MoveTree moves as WebDAV does (RFC 4918 9.9): with replace a directory at the target, or a file where a directory
// comes, is removed first with all in it, by its own permissions. A file over a file is one step. replaced says that
// something stood there. Between two storages it goes on behind what could not be made at the target, which failed is told
// of: that stays where it was, with the directories above it, and the error is ErrStays.
func (x *Session) MoveTree(ctx context.Context, from, to vfs.Path, replace bool, failed func(to vfs.Path, err error)) (replaced bool, err error) {
	return x.rename(ctx, from, to, replace, true, failed)
}

func (x *Session) rename(ctx context.Context, from, to vfs.Path, replace, tree bool, failed func(vfs.Path, error)) (replaced bool, err error) {
	v, err := x.begin()
	if err != nil {
		return false, pathError("rename", from, err)
	}
	defer x.done()
	m := &move{x: x, v: v, from: v.place(from), to: v.place(to), replace: replace, tree: tree, failed: failed}
	e := x.event(event.Rename, &m.from)
	e.Target, e.VirtualTarget = m.to.describe().StoragePath, to.String()
	if err := m.check(ctx); err != nil {
		return false, err
	}
	if err := m.unlocked(ctx); err != nil {
		return false, fail("rename", from, err)
	}
	// What an interrupted rename left may be all that there is of some files: it is gone on with, never replaced.
	if tree && !m.resumes(ctx) {
		if replaced, err = x.makeRoom(ctx, v, &m.to, m.info.IsDir(), replace); err != nil {
			return false, fail("rename", to, err)
		}
	}
	if err := m.do(ctx); err == ErrStays {
		return replaced, err
	} else if err != nil {
		return false, fail("rename", from, err)
	}
	x.report(ctx, e)
	return replaced, nil
}

// move is one rename under way.
type move struct {
	x        *Session
	v        *view
	from, to place
	replace  bool
	tree     bool                         // a directory may be replaced
	failed   func(to vfs.Path, err error) // nil ends a copy at the first failure

	info    vfs.FileInfo // of the source
	pending *Handle      // the source is this upload, not published yet
	across  bool         // copy and remove
	cross   vfs.Crosser  // the source's, if both storages stand on one server
}

// check goes through the rules but quota. The numbers are the reference's.
func (m *move) check(ctx context.Context) error {
	v, from, to := m.v, m.from.p, m.to.p
	if from == to || m.from.name() == m.to.name() { // 1
		return pathError("rename", from, vfs.ErrUnsupported)
	}
	if err := m.source(ctx); err != nil { // 2
		return err
	}
	if err := m.resource(); err != nil { // 3
		return err
	}
	if err := m.fixedEnds(&m.from, &m.to); err != nil { // 4
		return err
	}
	if err := m.entry(from, to, m.info); err != nil { // 5, 6
		return err
	}
	old, err := m.to.FS.Lstat(ctx, m.to.Path)
	switch {
	case err == nil && old.IsDir() && m.resumes(ctx):
	case err == nil && old.IsDir() && !(m.tree && m.replace): // 7
		if m.tree {
			return pathError("rename", to, fs.ErrExist)
		}
		return pathError("rename", to, fmt.Errorf("%w: %w", vfs.ErrUnsupported, vfs.ErrIsDir))
	case err == nil && !v.perms.at(to.Dir()).has(mayOverwrite): // 8
		return refuse("rename", to)
	case err == nil && !m.replace:
		return pathError("rename", to, fs.ErrExist)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fail("rename", to, err)
	}
	if !m.info.IsDir() {
		return m.linkStays(ctx, &m.from, &m.to, m.info)
	}
	if m.from.LeadsToMount || m.to.LeadsToMount || from.Within(to) || to.Within(from) { // 9
		return pathError("rename", from, vfs.ErrUnsupported)
	}
	if m.x.srv.pendings.below(&m.from) {
		return pathError("rename", from, ErrBusy)
	}
	if !m.mustWalk() {
		return nil
	}
	return m.walk(ctx, from, to, 0) // 10
}

// unlocked asks the locks on both ends.
func (m *move) unlocked(ctx context.Context) error {
	if err := m.x.unlocked(ctx, nil, &m.from, touchMember|touchTree); err != nil {
		return err
	}
	return m.x.unlocked(ctx, nil, &m.to, touchMember|touchTree)
}

// source finds what is to be moved, which may be an upload of ours that is not published.
func (m *move) source(ctx context.Context) error {
	from := m.from.p
	if m.v.patterns.judge(from) == hidden && !m.from.IsMount && !m.from.LeadsToMount {
		return refuse("rename", from)
	}
	if !m.from.fixed() {
		if h := m.x.hiddenAt(&m.from); h != nil {
			i, err := h.wr.Stat()
			m.pending, m.info = h, i
			return fail("rename", from, err)
		}
	}
	if m.from.IsMount || m.from.LeadsToMount || from.IsRoot() {
		m.info = vfs.VirtualDir(from.Base())
		return nil
	}
	// Whoever may not rename there is told no more than that.
	if !m.v.perms.at(from.Dir()).has(anyRenameFile | anyRenameDir) {
		return refuse("rename", from)
	}
	i, err := m.from.FS.Lstat(ctx, m.from.Path)
	m.info = i
	return fail("rename", from, err)
}

// resumes reports whether the target is what an interrupted rename of this directory left.
func (m *move) resumes(ctx context.Context) bool {
	r, ok := vfs.As[vfs.Resumer](m.from.FS)
	return ok && m.info.IsDir() && m.from.id == m.to.id && r.Interrupted(ctx, m.from.Path, m.to.Path)
}

// resource decides whether both ends are on one resource, and whether the storage can do it alone.
func (m *move) resource() error {
	if m.from.id == m.to.id && m.from.Mount.FS == m.to.Mount.FS && *m.from.charge == *m.to.charge {
		return nil
	}
	a, b := m.from.describe(), m.to.describe()
	near, ok := vfs.As[vfs.Crosser](m.from.FS)
	reached := ok && near.Reaches(m.to.FS)
	if m.from.id != m.to.id && !reached && (a.Provider != b.Provider || a.Remote || b.Remote) {
		return pathError("rename", m.from.p, ErrOtherStorage)
	}
	if m.pending != nil {
		return pathError("rename", m.from.p, ErrBusy)
	}
	if reached && *m.from.charge == *m.to.charge {
		if len(m.x.srv.pendings.at(m.x.pendingKey(&m.from))) > 0 {
			return pathError("rename", m.from.p, ErrBusy)
		}
		m.cross = near
		return nil
	}
	m.across = true
	return nil
}

// fixedEnds refuses mount points, the root, and directories of the disk that a folder maps.
func (m *move) fixedEnds(list ...*place) error {
	for _, pl := range list {
		if pl.p.IsRoot() || pl.IsMount || pl.Path.IsRoot() || m.mapped(pl) {
			return refuse("rename", pl.p)
		}
	}
	return nil
}

// mapped reports whether pl is the directory of a local folder of the account.
func (m *move) mapped(pl *place) bool {
	d := pl.describe()
	if d.Provider != 0 || d.StoragePath == "" {
		return false
	}
	for i := range m.v.user.VirtualFolders {
		f := &m.v.user.VirtualFolders[i]
		if f.Filesystem.Provider == 0 && filepath.Clean(f.MappedPath) == filepath.Clean(d.StoragePath) {
			return true
		}
	}
	return false
}

// entry asks the patterns and the permissions for one object at its old and its new name.
func (m *move) entry(from, to vfs.Path, i vfs.FileInfo) error {
	any := anyRenameFile
	if i.IsDir() {
		any = anyRenameDir
	}
	for _, p := range []vfs.Path{from, to} {
		if err := m.v.namable("rename", p); err != nil {
			return err
		}
		if err := m.v.may("rename", p, any); err != nil {
			return err
		}
	}
	return nil
}

// mustWalk reports whether the rules inside the tree may differ from those at its ends.
func (m *move) mustWalk() bool {
	t, from, to := m.v.perms, m.from.p, m.to.p
	return t.restrictedWithin(from) || t.restrictedWithin(to) ||
		!t.at(from.Dir()).holdsRename() || !t.at(to.Dir()).holdsRename() ||
		!t.uniform() || m.v.patterns.differ(from, to)
}

// walk checks every entry of the tree at its old and its new path.
func (m *move) walk(ctx context.Context, from, to vfs.Path, depth int) error {
	if depth > maxDepth {
		return pathError("rename", from, fmt.Errorf("%w: more than %d levels", vfs.ErrUnsupported, maxDepth))
	}
	dir := m.v.place(from)
	for i, err := range dir.FS.List(ctx, dir.Path) {
		if err != nil {
			return fail("rename", from, err)
		}
		f, err := from.Child(i.Name)
		if err != nil {
			return err
		}
		t, err := to.Child(i.Name)
		if err != nil {
			return err
		}
		fp, tp := m.v.place(f), m.v.place(t)
		if err := m.fixedEnds(&fp, &tp); err != nil {
			return err
		}
		if err := m.entry(f, t, i); err != nil {
			return err
		}
		if i.IsDir() {
			err = m.walk(ctx, f, t, depth+1)
		} else {
			err = m.linkStays(ctx, &fp, &tp, i)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// linkStays refuses a move that would make a symbolic link lead to more than its new place gives, as
// Symlink does for a new one.
func (m *move) linkStays(ctx context.Context, from, to *place, i vfs.FileInfo) error {
	if !i.IsSymlink() || m.v.perms.uniform() {
		return nil
	}
	l, ok := vfs.As[vfs.Linker](from.FS)
	if !ok {
		return nil
	}
	text, err := l.Readlink(ctx, from.Path)
	if err != nil {
		return fail("rename", from.p, err)
	}
	target, ok := m.v.linkTarget(to, text)
	if ok && !m.v.linkKeepsRights(to.p, target) {
		return refuse("rename", from.p)
	}
	return nil
}

// do moves the object and settles what it replaces.
func (m *move) do(ctx context.Context) error {
	if m.across {
		return m.copyAndRemove(ctx)
	}
	err := m.rename(ctx)
	if errors.Is(err, vfs.ErrCrossDevice) && m.pending == nil {
		return m.copyAndRemove(ctx)
	}
	return err
}

func (m *move) rename(ctx context.Context) error {
	x := m.x
	books, err := x.srv.enter(ctx, m.from.charge, false, false)
	if err != nil {
		return err
	}
	defer books.leave()
	unlock, err := x.srv.names.lock(ctx, &m.from, &m.to)
	if err != nil {
		return err
	}
	defer unlock()
	if err := m.unlocked(ctx); err != nil {
		return err
	}
	uploads := x.srv.pendings.at(x.pendingKey(&m.from))
	src, err := m.from.FS.Lstat(ctx, m.from.Path)
	published := err == nil
	switch {
	case published && src.IsDir() != m.info.IsDir():
		return ErrBusy // another object since it was checked
	case errors.Is(err, fs.ErrNotExist) && m.pending != nil:
	case err != nil:
		return err
	}
	if published {
		if err := m.renamePublished(ctx, src, books); err != nil {
			return err
		}
	} else if !m.replace {
		if _, err := m.to.FS.Lstat(ctx, m.to.Path); err == nil {
			return fs.ErrExist
		}
	}
	for _, h := range uploads {
		h.retarget(&m.to)
	}
	return nil
}

// renamePublished moves what stands there and counts what it replaced. The locks of both names are held.
func (m *move) renamePublished(ctx context.Context, src vfs.FileInfo, books *books) error {
	files := &m.x.srv.files
	old, err := m.to.FS.Lstat(ctx, m.to.Path)
	exists := err == nil
	switch {
	case exists && old.IsDir() && m.resumes(ctx):
	case exists && old.IsDir(): // it came since it was checked
		return vfs.ErrIsDir
	case exists && !m.v.perms.at(m.to.p.Dir()).has(mayOverwrite):
		return fs.ErrPermission
	case exists && !m.replace:
		return fs.ErrExist
	}
	var replaced *unlinking
	if exists && old.Mode.IsRegular() && !(src.Ino != 0 && src.Ino == old.Ino && src.Dev == old.Dev) {
		replaced = files.unlink(&m.to, old)
		defer replaced.end()
	}
	// A name that was free must still be: without overwrite nothing may be written over by a race.
	replace := m.replace && exists || m.replace && m.v.perms.at(m.to.p.Dir()).has(mayOverwrite)
	if m.cross != nil {
		err = m.cross.RenameTo(ctx, m.from.Path, m.to.FS, m.to.Path, replace)
	} else {
		err = m.from.FS.Rename(ctx, m.from.Path, m.to.Path, replace)
	}
	if err != nil {
		return err
	}
	if src.Ino != 0 && src.Ino == old.Ino && src.Dev == old.Dev {
		return nil // two names of one file: POSIX leaves both
	}
	if replaced != nil {
		replaced.done = true
		books.move(-1, -replaced.counted)
	}
	if src.Mode.IsRegular() {
		files.moved(&m.from, &m.to, src)
	}
	m.x.renamed(ctx, &m.from, &m.to, src.IsDir())
	return nil
}

// copyAndRemove moves between two storages: the quota is that of a new file there and a removal here.
func (m *move) copyAndRemove(ctx context.Context) error {
	c := &copier{x: m.x, v: m.v, replace: m.replace}
	kept := keeper{}
	if m.failed != nil {
		n := 0
		c.failed = func(from, to vfs.Path, err error) error {
			m.failed(to, err)
			kept.add(from)
			if n++; n == maxStays {
				return ErrStays // nothing is removed
			}
			return nil
		}
	}
	if err := c.tree(ctx, m.from.p, m.to.p, m.info, 0); err != nil {
		return err
	}
	if err := m.clear(ctx, m.from, m.info, kept, 0); err != nil {
		return err
	}
	if len(kept) > 0 {
		return ErrStays
	}
	return nil
}

// keeper holds what must stay: true as a whole, false as a directory above such a thing.
type keeper map[vfs.Path]bool

func (k keeper) add(p vfs.Path) {
	k[p] = true
	for p = p.Dir(); !p.IsRoot() && !k[p]; p = p.Dir() {
		k[p] = false
	}
}

// clear removes what was moved. Links go too: they mean nothing elsewhere.
func (m *move) clear(ctx context.Context, pl place, i vfs.FileInfo, kept keeper, depth int) error {
	if depth > maxDepth {
		return vfs.ErrUnsupported
	}
	if i.IsDir() {
		var stay map[string]bool
		for {
			list, err := someEntries(ctx, &pl, stay)
			if err != nil {
				return err
			}
			if len(list) == 0 && len(stay) > 0 {
				return nil
			}
			if len(list) == 0 {
				if err := pl.FS.Remove(ctx, pl.Path); err != nil {
					return err
				}
				m.x.removed(ctx, &pl, true)
				return nil
			}
			for _, e := range list {
				p, err := pl.p.Child(e.Name)
				if err != nil {
					return err
				}
				whole, some := kept[p]
				if some {
					if stay == nil {
						stay = map[string]bool{}
					}
					stay[e.Name] = true
				}
				if whole {
					continue
				}
				if err := m.clear(ctx, m.v.place(p), e, kept, depth+1); err != nil {
					return err
				}
			}
		}
	}
	books, err := m.x.srv.enter(ctx, pl.charge, false, false)
	if err != nil {
		return err
	}
	defer books.leave()
	unlock, err := m.x.srv.names.lock(ctx, &pl)
	if err != nil {
		return err
	}
	defer unlock()
	if err := m.x.unlocked(ctx, nil, &pl, touchMember); err != nil {
		return err
	}
	now, err := pl.FS.Lstat(ctx, pl.Path)
	if err != nil {
		return err
	}
	if err := m.x.removeFile(ctx, &pl, now, books); err != nil {
		return err
	}
	m.x.removed(ctx, &pl, false)
	return nil
}
