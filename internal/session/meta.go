package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"strings"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/event"
	"github.com/gantryhq/gantry/vfs"
)

// The metadata verbs. Each checks permission, pattern and locks on both ends, acts, settles quota and
// emits one event. Errors satisfy errors.Is for fs.ErrNotExist, fs.ErrExist, fs.ErrPermission and the
// errors of vfs; ErrQuota and ErrReadQuota for limits of the account.

// Stat follows links. A path of a mount or of a directory that leads to one always exists.
func (x *Session) Stat(ctx context.Context, p vfs.Path) (vfs.FileInfo, error) {
	return x.stat(ctx, "stat", p, vfs.FS.Stat)
}

// Lstat does not follow a link.
func (x *Session) Lstat(ctx context.Context, p vfs.Path) (vfs.FileInfo, error) {
	return x.stat(ctx, "lstat", p, vfs.FS.Lstat)
}

func (x *Session) stat(ctx context.Context, op string, p vfs.Path, do func(vfs.FS, context.Context, vfs.Path) (vfs.FileInfo, error)) (vfs.FileInfo, error) {
	v, err := x.begin()
	if err != nil {
		return vfs.FileInfo{}, pathError(op, p, err)
	}
	defer x.done()
	if err := v.may(op, p, mayList); err != nil {
		return vfs.FileInfo{}, err
	}
	virtual := !p.IsRoot() && v.tree.IsVirtual(p)
	if !virtual && v.patterns.judge(p) == hidden {
		return vfs.FileInfo{}, pathError(op, p, fs.ErrNotExist)
	}
	if err := x.unlinked(ctx, v, p); err != nil {
		return vfs.FileInfo{}, pathError(op, p, err)
	}
	pl := v.place(p)
	var i vfs.FileInfo
	if h := x.hiddenAt(&pl); h != nil {
		i, err = h.wr.Stat()
	} else {
		i, err = do(pl.FS, ctx, pl.Path)
	}
	if err != nil && (virtual || p.IsRoot()) && !pl.IsMount {
		i, err = vfs.VirtualDir(p.Base()), nil
	}
	if err != nil && pl.IsMount {
		i, err = vfs.VirtualDir(p.Base()), nil // it exists, whatever its storage says; uses of it tell more
	}
	i.Name = p.Base()
	return i, fail(op, p, err)
}

// List streams the entries of dir, mounts merged in, hidden names left out, without "." and "..". The first
// error is the permission check or the open; an error with a FileInfo that has a name is one bad entry.
func (x *Session) List(ctx context.Context, dir vfs.Path) iter.Seq2[vfs.FileInfo, error] {
	return func(yield func(vfs.FileInfo, error) bool) {
		v, err := x.begin()
		if err != nil {
			yield(vfs.FileInfo{}, pathError("list", dir, err))
			return
		}
		defer x.done()
		if !v.perms.at(dir).has(mayList) {
			yield(vfs.FileInfo{}, refuse("list", dir))
			return
		}
		virtual := v.tree.IsVirtual(dir)
		if !virtual && v.patterns.judge(dir) == hidden {
			yield(vfs.FileInfo{}, pathError("list", dir, fs.ErrNotExist))
			return
		}
		if err := x.unlinked(ctx, v, dir); err != nil {
			yield(vfs.FileInfo{}, pathError("list", dir, err))
			return
		}
		for _, name := range v.tree.Children(dir) {
			if p, err := dir.Child(name); err == nil && v.patterns.judgeName(p) != hidden && !yield(vfs.VirtualDir(name), nil) {
				return
			}
		}
		pl := v.place(dir)
		for i, err := range pl.FS.List(ctx, pl.Path) {
			if err != nil {
				if i.Name == "" && pl.LeadsToMount && errors.Is(err, fs.ErrNotExist) {
					return // a directory that only leads to mounts
				}
				if !yield(i, fail("list", dir, err)) {
					return
				}
				continue
			}
			if v.tree.HasChild(dir, i.Name) {
				continue
			}
			if v.patterns != nil {
				if p, err := dir.Child(i.Name); err == nil && v.patterns.judgeName(p) == hidden {
					continue
				}
			}
			if !yield(i, nil) {
				return
			}
		}
	}
}

// Readlink gives what a link names: a relative text as it is stored, so that it means the same where a client
// mounts the tree somewhere else, and else the virtual path.
func (x *Session) Readlink(ctx context.Context, p vfs.Path) (string, error) {
	v, err := x.begin()
	if err != nil {
		return "", pathError("readlink", p, err)
	}
	defer x.done()
	if err := v.may("readlink", p, mayList); err != nil {
		return "", err
	}
	if v.patterns.judge(p) == hidden {
		return "", pathError("readlink", p, fs.ErrNotExist)
	}
	pl := v.place(p)
	l, ok := vfs.As[vfs.Linker](pl.FS)
	if !ok {
		return "", pathError("readlink", p, vfs.ErrUnsupported)
	}
	text, err := l.Readlink(ctx, pl.Path)
	if err != nil {
		return "", fail("readlink", p, err)
	}
	target, ok := v.linkTarget(&pl, text)
	if !ok {
		return "", refuse("readlink", p)
	}
	if err := v.may("readlink", target, mayList); err != nil {
		return "", refuse("readlink", p)
	}
	if !path.IsAbs(text) {
		return text, nil
	}
	return target.String(), nil
}

// linkTarget is the virtual path that a link at pl means by its stored text, or false if it leaves the
// mount or is no path.
func (v *view) linkTarget(pl *place, text string) (vfs.Path, bool) {
	if vfs.CheckLinkTarget(text, pl.Path) != nil {
		return vfs.Path{}, false
	}
	inner, err := pl.Path.Dir().Resolve(text)
	if err != nil {
		return vfs.Path{}, false
	}
	return v.tree.Virtual(pl.Index, inner)
}

// Mkdir makes one directory.
func (x *Session) Mkdir(ctx context.Context, p vfs.Path, attr vfs.Attr) error {
	v, err := x.begin()
	if err != nil {
		return pathError("mkdir", p, err)
	}
	defer x.done()
	if err := v.may("mkdir", p, mayCreateDirs); err != nil {
		return err
	}
	if err := v.namable("mkdir", p); err != nil {
		return err
	}
	if err := x.unlinked(ctx, v, p); err != nil {
		return pathError("mkdir", p, err)
	}
	pl := v.place(p)
	if pl.fixed() {
		return refuse("mkdir", p)
	}
	e := x.event(event.Mkdir, &pl)
	if err := x.mkdir(ctx, &pl, v.dirAttr(p, attr)); err != nil {
		return fail("mkdir", p, err)
	}
	x.report(ctx, e)
	return nil
}

// mkdir makes a directory that the locks allow.
func (x *Session) mkdir(ctx context.Context, pl *place, attr vfs.Attr) error {
	unlock, err := x.srv.names.lock(ctx, pl)
	if err != nil {
		return err
	}
	defer unlock()
	if err := x.unlocked(ctx, nil, pl, touchMember); err != nil {
		return err
	}
	err = pl.FS.Mkdir(ctx, pl.Path, attr)
	if err == nil {
		x.fresh(ctx, pl)
	}
	return err
}

// dirAttr is what a peer asks for a new directory, as far as it may, and the account's owner.
func (v *view) dirAttr(p vfs.Path, ask vfs.Attr) vfs.Attr {
	var a vfs.Attr
	held := v.perms.at(p.Dir())
	if ask.Set&vfs.AttrMode != 0 {
		a.Set, a.Mode = vfs.AttrMode, ask.Mode.Perm()
	}
	if ask.Set&vfs.AttrTimes != 0 && held.has(mayChtimes) {
		a.Set |= vfs.AttrTimes
		a.Atime, a.Mtime = ask.Atime, ask.Mtime
	}
	if v.user.UID > 0 || v.user.GID > 0 {
		a.Set |= vfs.AttrOwner
		a.UID, a.GID = ownerOf(v.user.UID), ownerOf(v.user.GID)
	}
	return a
}

// SetAttr changes what attr.Set names, each by its permission and the setstat_mode: times, mode, owner. The
// first that fails ends it. Truncate sets the size.
func (x *Session) SetAttr(ctx context.Context, p vfs.Path, attr vfs.Attr, follow bool) error {
	v, err := x.begin()
	if err != nil {
		return pathError("setattr", p, err)
	}
	defer x.done()
	if err := v.seen("setattr", p); err != nil {
		return err
	}
	pl := v.place(p)
	for _, step := range []struct {
		set    vfs.AttrMask
		need   rights
		action string
	}{
		{vfs.AttrTimes, mayChtimes, event.Chtimes},
		{vfs.AttrMode, mayChmod, event.Chmod},
		{vfs.AttrOwner, mayChown, event.Chown},
	} {
		if attr.Set&step.set == 0 {
			continue
		}
		if err := v.may(step.action, p, step.need); err != nil {
			return err
		}
		if x.srv.cfg.SetstatMode == 1 {
			continue // answered, not done
		}
		one := attr
		one.Set = step.set
		if err := x.setAttr(ctx, &pl, one, follow); err != nil {
			if x.srv.cfg.SetstatMode == 2 && errors.Is(err, vfs.ErrUnsupported) {
				continue
			}
			return fail(step.action, p, err)
		}
		x.report(ctx, attrEvent(x.event(step.action, &pl), one))
	}
	return nil
}

func attrEvent(e *event.Event, a vfs.Attr) *event.Event {
	switch a.Set {
	case vfs.AttrMode:
		e.Mode = fmt.Sprintf("%#o", unixMode(a.Mode))
	case vfs.AttrOwner:
		e.UID, e.GID = a.UID, a.GID
	case vfs.AttrTimes:
		e.Atime, e.Mtime = a.Atime, a.Mtime
	}
	return e
}

// unixMode is m's bits as chmod takes them.
func unixMode(m fs.FileMode) uint32 {
	n := uint32(m.Perm())
	for _, b := range []struct {
		go_  fs.FileMode
		unix uint32
	}{{fs.ModeSetuid, 0o4000}, {fs.ModeSetgid, 0o2000}, {fs.ModeSticky, 0o1000}} {
		if m&b.go_ != 0 {
			n |= b.unix
		}
	}
	return n
}

// setAttr acts on the file, and on uploads to it: theirs is the file that will stand there.
func (x *Session) setAttr(ctx context.Context, pl *place, a vfs.Attr, follow bool) error {
	unlock, err := x.srv.names.lock(ctx, pl)
	if err != nil {
		return err
	}
	defer unlock()
	if err := x.unlocked(ctx, nil, pl, touchSelf); err != nil {
		return err
	}
	list := x.srv.pendings.at(x.pendingKey(pl))
	for _, h := range list {
		h.remember(a)
	}
	if h := x.hiddenAt(pl); h != nil {
		return h.wr.SetAttr(a)
	}
	s, ok := vfs.As[vfs.AttrSetter](pl.FS)
	if !ok {
		return vfs.ErrUnsupported
	}
	return s.SetAttr(ctx, pl.Path, a, follow)
}

// Truncate sets the size of a file that is there.
func (x *Session) Truncate(ctx context.Context, p vfs.Path, size int64) error {
	v, err := x.begin()
	if err != nil {
		return pathError("truncate", p, err)
	}
	defer x.done()
	if err := v.seen("truncate", p); err != nil {
		return err
	}
	if err := v.may("truncate", p, mayOverwrite); err != nil {
		return err
	}
	pl := v.place(p)
	if pl.fixed() {
		return pathError("truncate", p, vfs.ErrIsDir)
	}
	e := x.event(event.Truncate, &pl)
	e.Size = size
	if h := x.hiddenAt(&pl); h != nil {
		err = h.Truncate(ctx, size)
	} else {
		err = x.truncate(ctx, v, &pl, size)
	}
	if err != nil {
		return fail("truncate", p, err)
	}
	x.report(ctx, e)
	return nil
}

func (x *Session) truncate(ctx context.Context, v *view, pl *place, size int64) error {
	if max := v.user.Filters.MaxUploadFileSize; size < 0 {
		return fs.ErrInvalid
	} else if max > 0 && size > max {
		return fmt.Errorf("%w: the largest upload is %d bytes", ErrQuota, max)
	}
	books, err := x.srv.enter(ctx, pl.charge, true, false)
	if err != nil {
		return err
	}
	defer books.leave()
	unlock, err := x.srv.names.lock(ctx, pl)
	if err != nil {
		return err
	}
	defer unlock()
	if err := x.unlocked(ctx, nil, pl, touchSelf); err != nil {
		return err
	}
	st, err := look(ctx, pl)
	if err != nil {
		return err
	}
	if !st.file {
		return fs.ErrNotExist
	}
	w, err := pl.FS.Create(ctx, pl.Path, vfs.OpenMode{MustExist: true, UID: -1, GID: -1})
	if err != nil {
		return err
	}
	if books == nil || !books.count {
		return x.resize(ctx, w, pl, size, nil, 0)
	}
	i, err := w.Stat()
	if err != nil {
		w.Abort(ctx)
		return err
	}
	node := x.srv.files.open(keyOf(pl, i), books.t, i.Size)
	defer x.srv.files.close(node)
	return x.resize(ctx, w, pl, size, node, books.charge.bytes)
}

// resize truncates an open file, pays for what it grows by, and counts the difference.
func (x *Session) resize(ctx context.Context, w vfs.Upload, pl *place, size int64, node *openFile, limit int64) error {
	if node != nil && limit > 0 {
		if err := node.room.extend(size, limit, 0); err != nil {
			w.Abort(ctx)
			return err
		}
	}
	err := w.Truncate(size)
	if node != nil {
		x.srv.files.settle(node, func() (vfs.FileInfo, error) { return statOpen(ctx, w, pl) })
	}
	if err != nil {
		w.Abort(ctx)
		return err
	}
	_, err = w.Commit(ctx)
	return err
}

// Symlink makes link, which names target: absolute ones are virtual paths, relative ones start at link's directory.
//
// A link may not lead to more than its own place gives: beside create_symlinks in both directories, the
// rights at the target must hold all that are held at the link, and nothing below it may be restricted
// further. Otherwise a link would carry rights to where they were not given.
func (x *Session) Symlink(ctx context.Context, target string, link vfs.Path) error {
	v, err := x.begin()
	if err != nil {
		return pathError("symlink", link, err)
	}
	defer x.done()
	to, err := link.Dir().Resolve(target)
	if err != nil || target == "" {
		return pathError("symlink", link, errors.Join(fs.ErrInvalid, err))
	}
	if link.IsRoot() || to.IsRoot() {
		return refuse("symlink", link)
	}
	if err := v.may("symlink", to, mayCreateSymlinks); err != nil {
		return err
	}
	if err := v.may("symlink", link, mayCreateSymlinks); err != nil {
		return err
	}
	if err := v.seen("symlink", to); err != nil {
		return err
	}
	if err := v.namable("symlink", link); err != nil {
		return err
	}
	if !v.linkKeepsRights(link, to) {
		return refuse("symlink", link)
	}
	from, dest := v.place(link), v.place(to)
	if from.fixed() {
		return refuse("symlink", link)
	}
	l, ok := vfs.As[vfs.Linker](from.FS)
	if !ok || from.Index != dest.Index || !x.srv.cfg.mayLink(from.describe().Provider) {
		return pathError("symlink", link, vfs.ErrUnsupported)
	}
	text := target
	if strings.HasPrefix(target, "/") {
		text = relative(from.Path.Dir(), dest.Path)
	}
	e := x.event(event.Symlink, &dest)
	e.Target, e.VirtualTarget = from.describe().StoragePath, link.String()
	if err := x.symlink(ctx, l, text, &from); err != nil {
		return fail("symlink", link, err)
	}
	x.report(ctx, e)
	return nil
}

func (x *Session) symlink(ctx context.Context, l vfs.Linker, text string, link *place) error {
	unlock, err := x.srv.names.lock(ctx, link)
	if err != nil {
		return err
	}
	defer unlock()
	if err := x.unlocked(ctx, nil, link, touchMember); err != nil {
		return err
	}
	return l.Symlink(ctx, text, link.Path)
}

// mayLink reports whether the configuration allows symbolic links on a storage.
func (c *Config) mayLink(provider int) bool {
	switch account.Provider(provider) {
	case account.SFTPProvider:
		return c.SymlinkMode&SymlinksSFTP != 0
	case account.S3Provider, account.GCSProvider, account.AzBlobProvider, account.HTTPProvider:
		return false
	}
	return c.SymlinkMode&SymlinksLocal != 0
}

// linkKeepsRights reports whether a link at link to target gives nothing that target does not.
func (v *view) linkKeepsRights(link, target vfs.Path) bool {
	if v.perms.uniform() {
		return true
	}
	holds := func(at, via rights) bool { return at&via == via }
	return holds(v.perms.at(target), v.perms.at(link)) &&
		holds(v.perms.at(target.Dir()), v.perms.at(link.Dir())) &&
		!v.perms.tighterWithin(target, v.perms.at(link))
}

// tighterWithin reports whether an entry strictly below p holds less than via.
func (t *permTable) tighterWithin(p vfs.Path, via rights) bool {
	for q, r := range t.exact {
		if q != p && q.Within(p) && r&via != via {
			return true
		}
	}
	for depth, list := range t.globs {
		if depth <= p.Depth() {
			continue
		}
		for _, g := range list {
			if g.held&via != via && g.leads(p) {
				return true
			}
		}
	}
	return false
}

// relative is the text of a link in dir that means target, both of one storage.
func relative(dir, target vfs.Path) string {
	var up int
	for !target.Within(dir) {
		dir, up = dir.Dir(), up+1
	}
	rel, _ := target.Rel(dir)
	text := path.Join(strings.Repeat("../", up), rel.Relative())
	return text
}

// Link makes a hard link: a second name by which the file may be read and written. So it needs download and
// overwrite where the file is, upload where the name will be, and create_symlinks in both. The new name
// counts as a file of its own (QUO-2).
func (x *Session) Link(ctx context.Context, old, new vfs.Path) error {
	v, err := x.begin()
	if err != nil {
		return pathError("link", new, err)
	}
	defer x.done()
	for _, need := range []struct {
		p   vfs.Path
		any rights
	}{{old, mayCreateSymlinks}, {old, mayDownload}, {old, mayOverwrite}, {new, mayCreateSymlinks}, {new, mayUpload}} {
		if err := v.may("link", need.p, need.any); err != nil {
			return err
		}
	}
	if err := v.seen("link", old); err != nil {
		return err
	}
	if err := v.namable("link", new); err != nil {
		return err
	}
	if !v.linkKeepsRights(new, old) {
		return refuse("link", new)
	}
	from, to := v.place(old), v.place(new)
	if from.fixed() || to.fixed() {
		return refuse("link", new)
	}
	l, ok := vfs.As[vfs.Linker](from.FS)
	if !ok || from.Index != to.Index {
		return pathError("link", new, vfs.ErrUnsupported)
	}
	e := x.event(event.Link, &from)
	e.Target, e.VirtualTarget = to.describe().StoragePath, new.String()
	if err := x.link(ctx, l, &from, &to); err != nil {
		return fail("link", new, err)
	}
	x.report(ctx, e)
	return nil
}

func (x *Session) link(ctx context.Context, l vfs.Linker, from, to *place) error {
	books, err := x.srv.enter(ctx, to.charge, true, false)
	if err != nil {
		return err
	}
	defer books.leave()
	unlock, err := x.srv.names.lock(ctx, from, to)
	if err != nil {
		return err
	}
	defer unlock()
	// A second name would be a way around a lock on the first.
	if err := x.unlocked(ctx, nil, from, touchSelf); err != nil {
		return err
	}
	if err := x.unlocked(ctx, nil, to, touchMember); err != nil {
		return err
	}
	i, err := from.FS.Lstat(ctx, from.Path)
	if err != nil {
		return err
	}
	if !i.Mode.IsRegular() {
		return fs.ErrPermission
	}
	if err := books.admit(true); err != nil {
		return err
	}
	size := x.srv.files.counted(from, i)
	room, err := books.hold(true, size)
	if err != nil {
		return err
	}
	defer room.free()
	if err := l.Link(ctx, from.Path, to.Path); err != nil {
		return err
	}
	room.spend(1, size)
	return nil
}

// Remote reports whether calls at p may wait on a network.
func (x *Session) Remote(p vfs.Path) bool {
	v, err := x.begin()
	if err != nil {
		return false
	}
	defer x.done()
	pl := v.place(p)
	if d, ok := vfs.As[vfs.Describer](pl.FS); ok {
		return d.Describe(pl.Path).Remote
	}
	return false
}
