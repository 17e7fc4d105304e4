package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/gantryhq/gantry/internal/event"
	"github.com/gantryhq/gantry/vfs"
)

// maxDepth bounds what walks a tree.
const maxDepth = 1000

// Remove removes a file or a link, Rmdir an empty directory, RemoveAll either with all below it.
func (x *Session) Remove(ctx context.Context, p vfs.Path) error {
	v, err := x.begin()
	if err != nil {
		return pathError("remove", p, err)
	}
	defer x.done()
	return x.remove(ctx, v, p)
}

// removable asks everything about taking p away but what stands there.
func (v *view) removable(op string, p vfs.Path, any rights) (place, error) {
	pl := v.place(p)
	switch {
	case p.IsRoot() || pl.IsMount:
		return pl, refuse(op, p)
	case pl.LeadsToMount:
		return pl, pathError(op, p, vfs.ErrUnsupported)
	}
	if err := v.may(op, p, any); err != nil {
		return pl, err
	}
	return pl, v.seen(op, p)
}

func (x *Session) remove(ctx context.Context, v *view, p vfs.Path) error {
	pl, err := v.removable("remove", p, anyDeleteFile)
	if err != nil {
		return err
	}
	pending := x.hiddenAt(&pl) != nil
	if err := x.unlocked(ctx, nil, &pl, touchMember); err != nil {
		return fail("remove", p, err)
	}
	if pending {
		if err := x.removePending(ctx, &pl); err != nil {
			return fail("remove", p, err)
		}
	}
	books, err := x.srv.enter(ctx, pl.charge, false, false)
	if err != nil {
		return fail("remove", p, err)
	}
	defer books.leave()
	unlock, err := x.srv.names.lock(ctx, &pl)
	if err != nil {
		return fail("remove", p, err)
	}
	defer unlock()
	if err := x.unlocked(ctx, nil, &pl, touchMember); err != nil {
		return fail("remove", p, err)
	}
	i, err := pl.FS.Lstat(ctx, pl.Path)
	switch {
	case pending && errors.Is(err, fs.ErrNotExist):
		return nil // there was only the upload
	case err == nil && i.IsDir():
		err = vfs.ErrIsDir
	}
	if err != nil {
		return fail("remove", p, err)
	}
	e := x.event(event.PreDelete, &pl)
	if i.Mode.IsRegular() {
		e.FileSize = i.Size
	}
	// The name stays locked: what is gone after the hook, the hook removed.
	if err := x.srv.before(ctx, e); err != nil {
		return refuse("remove", p)
	}
	if err := x.removeFile(ctx, &pl, i, books); err != nil {
		return fail("remove", p, err)
	}
	x.removed(ctx, &pl, false)
	e.Action = event.Delete
	x.report(ctx, e)
	return nil
}

// removeFile removes what i says stands at pl, and counts it, also if it has gone just now. The caller holds
// the lock of the name.
func (x *Session) removeFile(ctx context.Context, pl *place, i vfs.FileInfo, books *books) error {
	if !i.Mode.IsRegular() {
		if err := pl.FS.Remove(ctx, pl.Path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	u := x.srv.files.unlink(pl, i)
	defer u.end()
	if err := pl.FS.Remove(ctx, pl.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	u.done = true
	books.move(-1, -u.counted)
	return nil
}

// removePending takes the name from the account's own hidden uploads to it: they go on, and publish nothing.
func (x *Session) removePending(ctx context.Context, pl *place) error {
	unlock, err := x.srv.names.lock(ctx, pl)
	if err != nil {
		return err
	}
	defer unlock()
	for _, h := range x.srv.pendings.at(x.pendingKey(pl)) {
		if h.atomic {
			h.forget()
		}
	}
	return nil
}

// Rmdir removes an empty directory.
func (x *Session) Rmdir(ctx context.Context, p vfs.Path) error {
	v, err := x.begin()
	if err != nil {
		return pathError("rmdir", p, err)
	}
	defer x.done()
	return x.rmdir(ctx, v, p)
}

func (x *Session) rmdir(ctx context.Context, v *view, p vfs.Path) error {
	pl, err := v.removable("rmdir", p, anyDeleteDir)
	if err != nil {
		return err
	}
	unlock, err := x.srv.names.lock(ctx, &pl)
	if err != nil {
		return fail("rmdir", p, err)
	}
	defer unlock()
	if err := x.unlocked(ctx, nil, &pl, touchMember|touchTree); err != nil {
		return fail("rmdir", p, err)
	}
	i, err := pl.FS.Lstat(ctx, pl.Path)
	if err == nil && !i.IsDir() {
		err = vfs.ErrNotDir
	}
	if err == nil {
		e := x.event(event.Rmdir, &pl)
		if err = pl.FS.Remove(ctx, pl.Path); err == nil {
			x.removed(ctx, &pl, true)
			x.report(ctx, e)
		}
	}
	return fail("rmdir", p, err)
}

// RemoveAll removes p and all below it, each entry by its own permission, and stops at the first that may
// not or cannot be removed. If a lock stands against any of it, nothing is removed. Links are removed, never followed (SYM-2).
func (x *Session) RemoveAll(ctx context.Context, p vfs.Path) error {
	v, err := x.begin()
	if err != nil {
		return pathError("remove", p, err)
	}
	defer x.done()
	pl := v.place(p)
	i, err := pl.FS.Lstat(ctx, pl.Path)
	if v.patterns.judge(p) == hidden {
		err = fs.ErrNotExist
	}
	if err != nil {
		return fail("remove", p, err)
	}
	if !i.IsDir() {
		return x.remove(ctx, v, p)
	}
	if err := x.unlocked(ctx, nil, &pl, touchMember|touchTree); err != nil {
		return fail("remove", p, err)
	}
	return x.removeTree(ctx, v, p, 0)
}

func (x *Session) removeTree(ctx context.Context, v *view, dir vfs.Path, depth int) error {
	if depth > maxDepth {
		return pathError("remove", dir, fmt.Errorf("%w: more than %d levels", vfs.ErrUnsupported, maxDepth))
	}
	pl, err := v.removable("rmdir", dir, anyDeleteDir)
	if err != nil {
		return err
	}
	for {
		entries, err := someEntries(ctx, &pl)
		if err != nil {
			return fail("remove", dir, err)
		}
		if len(entries) == 0 {
			break
		}
		for _, i := range entries {
			p, err := dir.Child(i.Name)
			if err != nil {
				return err
			}
			if i.IsDir() {
				err = x.removeTree(ctx, v, p, depth+1)
			} else {
				err = x.remove(ctx, v, p)
			}
			if err != nil && (!errors.Is(err, fs.ErrNotExist) || v.patterns.judge(p) == hidden) {
				return err
			}
		}
	}
	return x.rmdir(ctx, v, dir)
}

// someEntries reads the beginning of a directory: what removes as it goes needs no more in memory.
func someEntries(ctx context.Context, pl *place) ([]vfs.FileInfo, error) {
	var list []vfs.FileInfo
	for i, err := range pl.FS.List(ctx, pl.Path) {
		if err != nil {
			return nil, err
		}
		if list = append(list, i); len(list) == 1000 {
			break
		}
	}
	return list, nil
}
