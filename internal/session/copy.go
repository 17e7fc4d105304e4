package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/gantryhq/gantry/internal/event"
	"github.com/gantryhq/gantry/vfs"
)

// Copy copies a file or a tree. It needs copy in the directories of both ends, and what reading the one and
// writing the other need: download, or list for a directory; upload, overwrite or create_dirs. Entries that
// are no regular files are left out, directories that are there already are left whole.
func (x *Session) Copy(ctx context.Context, from, to vfs.Path, replace bool) error {
	_, err := x.copy(ctx, from, to, CopyOptions{Replace: replace}, false)
	return err
}

// CopyOptions of CopyTree.
type CopyOptions struct {
	Replace bool // what stands at the target goes first, a whole tree too
	Shallow bool // of a directory only itself, without what is in it
	// Failed is told of each entry below that could not be made at the target; the others are copied all the same. nil ends the
	// copy at the first.
	Failed func(p vfs.Path, err error)
}

// CopyTree copies as WebDAV does (RFC 4918 9.8): reading and writing are enough for it, the right to copy is not asked
// for. An existing target is fs.ErrExist without Replace; replaced says that there was one.
func (x *Session) CopyTree(ctx context.Context, from, to vfs.Path, o CopyOptions) (replaced bool, err error) {
	return x.copy(ctx, from, to, o, true)
}

func (x *Session) copy(ctx context.Context, from, to vfs.Path, o CopyOptions, whole bool) (replaced bool, err error) {
	v, err := x.begin()
	if err != nil {
		return false, pathError("copy", from, err)
	}
	defer x.done()
	if from == to || to.Within(from) && !o.Shallow || from.Within(to) {
		return false, pathError("copy", from, vfs.ErrUnsupported)
	}
	src, dst := v.place(from), v.place(to)
	if dst.fixed() || from.IsRoot() {
		return false, refuse("copy", to)
	}
	c := &copier{x: x, v: v, replace: o.Replace, judge: true, free: whole, shallow: o.Shallow, report: true}
	if o.Failed != nil {
		c.failed = func(_, to vfs.Path, err error) error {
			o.Failed(to, err)
			return nil
		}
	}
	for _, p := range []vfs.Path{from, to} {
		if err := c.mayCopy(p); err != nil {
			return false, err
		}
	}
	if !v.perms.at(from.Dir()).has(mayDownload|mayList) && !v.perms.at(from).has(mayList) {
		return false, refuse("copy", from)
	}
	if err := v.seen("copy", from); err != nil {
		return false, err
	}
	i, err := src.FS.Lstat(ctx, src.Path)
	if err != nil {
		return false, fail("copy", from, err)
	}
	if !i.IsDir() && !i.Mode.IsRegular() {
		return false, pathError("copy", from, vfs.ErrUnsupported)
	}
	if err := x.unlocked(ctx, nil, &dst, touchMember|touchTree); err != nil {
		return false, fail("copy", to, err)
	}
	if whole {
		if replaced, err = x.makeRoom(ctx, v, &dst, i.IsDir(), o.Replace); err != nil {
			return false, fail("copy", to, err)
		}
	}
	return replaced, fail("copy", from, c.tree(ctx, from, to, i, 0))
}

// makeRoom removes what stands at dst where a directory is to come or is there; a file over a file is replaced
// by itself, in one step.
func (x *Session) makeRoom(ctx context.Context, v *view, dst *place, dir, replace bool) (replaced bool, err error) {
	old, err := dst.FS.Lstat(ctx, dst.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case !v.perms.at(dst.p.Dir()).has(mayOverwrite):
		return false, fs.ErrPermission
	case !replace:
		return false, fs.ErrExist
	case old.IsDir():
		return true, x.removeTree(ctx, v, dst.p, nil)
	case dir:
		return true, x.remove(ctx, v, dst.p)
	}
	return true, nil
}

// copier copies a tree. judge asks for the permissions of a copy at every entry; a rename has asked its own.
type copier struct {
	x                      *Session
	v                      *view
	replace, judge, report bool
	free                   bool // the right to copy is not asked for
	shallow                bool
	// failed is told of what was not copied, and may end the copy; nil ends it at the first.
	failed func(from, to vfs.Path, err error) error
}

// mayCopy asks for the right to copy.
func (c *copier) mayCopy(p vfs.Path) error {
	if c.free {
		return nil
	}
	return c.v.may("copy", p, mayCopy)
}

func (c *copier) tree(ctx context.Context, from, to vfs.Path, i vfs.FileInfo, depth int) error {
	switch {
	case depth > maxDepth:
		return pathError("copy", from, fmt.Errorf("%w: more than %d levels", vfs.ErrUnsupported, maxDepth))
	case i.Mode.IsRegular():
		return c.file(ctx, from, to)
	case !i.IsDir():
		return nil
	}
	src, dst := c.v.place(from), c.v.place(to)
	if c.judge {
		if !c.v.perms.at(from).has(mayList) {
			return refuse("copy", from)
		}
		if err := c.v.may("copy", to, mayCreateDirs); err != nil {
			return err
		}
	}
	if err := c.v.namable("copy", to); err != nil {
		return err
	}
	err := c.x.mkdir(ctx, &dst, c.v.dirAttr(to, vfs.Attr{Set: vfs.AttrMode, Mode: i.Mode}))
	if errors.Is(err, fs.ErrExist) && depth > 0 {
		return nil
	}
	if err != nil {
		return err
	}
	c.x.copied(ctx, &src, &dst)
	if c.shallow {
		return nil
	}
	for e, err := range src.FS.List(ctx, src.Path) {
		if err != nil && e.Name != "" && c.failed != nil {
			f, ferr := from.Child(e.Name)
			t, terr := to.Child(e.Name)
			if ferr != nil || terr != nil {
				continue
			}
			if err := c.failed(f, t, err); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		f, err := from.Child(e.Name)
		if err != nil {
			return err
		}
		t, err := to.Child(e.Name)
		if err != nil {
			return err
		}
		if c.v.tree.HasChild(from, e.Name) || c.v.patterns.judgeName(f) == hidden {
			continue
		}
		if err := c.tree(ctx, f, t, e, depth+1); err != nil {
			if c.failed == nil || ctx.Err() != nil || err == ErrStays {
				return err
			}
			if err := c.failed(f, t, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// file copies one file: by the storage where it can, else through us. It is whole or not there.
func (c *copier) file(ctx context.Context, from, to vfs.Path) error {
	x, v := c.x, c.v
	src, dst := v.place(from), v.place(to)
	if c.judge {
		for _, p := range []vfs.Path{from, to} {
			if err := c.mayCopy(p); err != nil {
				return err
			}
		}
		if err := v.may("copy", from, mayDownload); err != nil {
			return err
		}
		if err := v.seen("copy", from); err != nil {
			return err
		}
	}
	if err := v.namable("copy", to); err != nil {
		return err
	}
	if dst.fixed() {
		return refuse("copy", to)
	}
	e := x.event(event.Copy, &src)
	e.Target, e.VirtualTarget = dst.describe().StoragePath, to.String()
	var i vfs.FileInfo
	var err error
	if n, ok := vfs.As[vfs.Copier](src.FS); ok && src.Mount.FS == dst.Mount.FS {
		i, err = c.native(ctx, n, &src, &dst)
	}
	if i.Name == "" && (err == nil || errors.Is(err, vfs.ErrUnsupported)) {
		i, err = c.stream(ctx, &src, &dst)
	}
	if err != nil {
		return err
	}
	c.x.copied(ctx, &src, &dst)
	e.FileSize = i.Size
	if c.report {
		x.report(ctx, e)
	}
	return nil
}

// mayWrite asks for the write right of a target, by what stands there.
func (c *copier) mayWrite(st standing, to vfs.Path) error {
	held := c.v.perms.at(to.Dir())
	switch {
	case c.judge && (!st.exists || st.link) && !held.has(mayUpload):
		return fs.ErrPermission
	case st.exists && !held.has(mayOverwrite):
		return fs.ErrPermission
	case st.exists && !c.replace:
		return fs.ErrExist
	}
	return nil
}

// native has the storage copy. The quota is held for the source's size first.
func (c *copier) native(ctx context.Context, n vfs.Copier, src, dst *place) (vfs.FileInfo, error) {
	x := c.x
	books, err := x.srv.enter(ctx, dst.charge, true, true)
	if err != nil {
		return vfs.FileInfo{}, err
	}
	defer books.leave()
	unlock, err := x.srv.names.lock(ctx, dst)
	if err != nil {
		return vfs.FileInfo{}, err
	}
	defer unlock()
	st, err := look(ctx, dst)
	if err == nil {
		err = c.mayWrite(st, dst.p)
	}
	if err == nil {
		err = x.unlocked(ctx, nil, dst, newMember(st))
	}
	if err != nil {
		return vfs.FileInfo{}, err
	}
	i, err := src.FS.Stat(ctx, src.Path)
	if err != nil {
		return vfs.FileInfo{}, err
	}
	if max := c.v.user.Filters.MaxUploadFileSize; max > 0 && i.Size > max {
		return vfs.FileInfo{}, fmt.Errorf("%w: the largest upload is %d bytes", ErrQuota, max)
	}
	replaced := st.file && !st.link
	if err := books.admit(!replaced); err != nil {
		return vfs.FileInfo{}, err
	}
	var was int64
	var old *unlinking
	if replaced {
		old = x.srv.files.unlink(dst, st.info)
		defer old.end()
		was = old.counted
	}
	room, err := books.hold(!replaced, i.Size-was)
	if err != nil {
		return vfs.FileInfo{}, err
	}
	defer room.free()
	if err := n.Copy(ctx, src.Path, dst.Path, st.exists); err != nil {
		return vfs.FileInfo{}, err
	}
	now, err := dst.FS.Lstat(ctx, dst.Path)
	if err != nil {
		return vfs.FileInfo{}, err
	}
	if replaced {
		room.spend(0, now.Size-was)
		old.done = true
	} else {
		room.spend(1, now.Size)
	}
	return now, nil
}

// copyBuffers are what streams copy with.
var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// stream copies through us, as an upload that is whole or nothing.
func (c *copier) stream(ctx context.Context, src, dst *place) (vfs.FileInfo, error) {
	st, err := look(ctx, dst)
	if err == nil {
		err = c.mayWrite(st, dst.p)
	}
	if err != nil {
		return vfs.FileInfo{}, err
	}
	file, err := src.FS.Open(ctx, src.Path)
	if err != nil {
		return vfs.FileInfo{}, err
	}
	defer file.Close()
	i, err := file.Stat()
	if err != nil {
		return vfs.FileInfo{}, err
	}
	h := &Handle{s: c.x, v: c.v, where: *dst, opened: *dst, initial: -1, atomic: true, quiet: true, flags: Flags{
		Write: true, Create: true, Truncate: true, Whole: true, Exclusive: !st.exists, Size: i.Size,
		Attr: vfs.Attr{Set: vfs.AttrMode | vfs.AttrTimes, Mode: i.Mode, Atime: i.AccessTime, Mtime: i.ModTime},
	}}
	if err := h.openCopy(ctx, st); err != nil {
		return vfs.FileInfo{}, err
	}
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	for off := int64(0); ; {
		n, err := file.ReadAt(*buf, off)
		if n > 0 {
			if _, werr := h.WriteAt((*buf)[:n], off); werr != nil {
				h.Abort(ctx, werr)
				return vfs.FileInfo{}, werr
			}
			off += int64(n)
		}
		if err == io.EOF {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			h.Abort(ctx, err)
			return vfs.FileInfo{}, err
		}
	}
	if err := h.Close(ctx); err != nil {
		return vfs.FileInfo{}, err
	}
	return dst.FS.Lstat(ctx, dst.Path)
}

// openCopy opens h for a copy, whose rights are asked already.
func (h *Handle) openCopy(ctx context.Context, st standing) (err error) {
	srv, pl := h.s.srv, &h.where
	h.max = h.v.user.Filters.MaxUploadFileSize
	if h.books, err = srv.enter(ctx, pl.charge, true, true); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			h.books.leave()
		}
	}()
	unlock, err := srv.names.lock(ctx, pl)
	if err != nil {
		return err
	}
	defer unlock()
	if err := h.s.unlocked(ctx, nil, pl, newMember(st)); err != nil {
		return err
	}
	mode := vfs.OpenMode{
		Truncate: true, Atomic: true, Exclusive: h.flags.Exclusive,
		Perm: h.flags.Attr.Mode.Perm(), UID: h.v.user.UID, GID: h.v.user.GID,
	}
	return h.create(ctx, st, mode, allRights)
}
