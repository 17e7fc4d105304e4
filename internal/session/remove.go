package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

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
	return x.removeAll(ctx, p, nil)
}

// ErrStays says that not all of a tree was removed, or moved: what stays has been told of.
var ErrStays = errors.New("not all of the tree could be dealt with")

// maxStays is how many entries of a tree may stay before the rest is left alone.
const maxStays = 1000

// RemoveTree is RemoveAll as WebDAV has it (RFC 4918 9.6.1): it goes on behind what stays, which failed is told of, and
// leaves the directories above that. ErrStays says that there was some; any other error is about p itself.
func (x *Session) RemoveTree(ctx context.Context, p vfs.Path, failed func(p vfs.Path, err error)) error {
	return x.removeAll(ctx, p, failed)
}

func (x *Session) removeAll(ctx context.Context, p vfs.Path, failed func(vfs.Path, error)) error {
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
	if failed == nil {
		if err := x.unlocked(ctx, nil, &pl, touchMember|touchTree); err != nil {
			return fail("remove", p, err)
		}
	}
	return x.removeTree(ctx, v, p, failed)
}

// removeTree removes a directory and all below it, of which the locks have been asked unless there is failed.
func (x *Session) removeTree(ctx context.Context, v *view, dir vfs.Path, failed func(vfs.Path, error)) error {
	now := time.Now()
	r := &remover{x: x, v: v, failed: failed, began: now, said: now, alone: x.srv.asks(event.PreDelete)}
	return r.tree(ctx, dir, 0)
}

// remover removes a tree.
type remover struct {
	x      *Session
	v      *view
	failed func(vfs.Path, error) // nil ends it at the first that stays
	told   int
	alone  bool // entries are removed one by one: somebody wants to be asked about each

	began, said time.Time // said is when the log was told last
	files       int
}

// progress tells the log every ten seconds.
func (r *remover) progress(p vfs.Path, n int) {
	r.files += n
	if now := time.Now(); now.Sub(r.said) > 10*time.Second {
		r.said = now
		r.x.srv.log.Info("a directory is being removed", "user", r.x.Username(), "path", p.String(), "removed", r.files, "dur", now.Sub(r.began).Round(time.Second))
	}
}

func (r *remover) tree(ctx context.Context, dir vfs.Path, depth int) error {
	if depth > maxDepth {
		return pathError("remove", dir, fmt.Errorf("%w: more than %d levels", vfs.ErrUnsupported, maxDepth))
	}
	pl, err := r.v.removable("rmdir", dir, anyDeleteDir)
	if err != nil {
		return err
	}
	if r.failed != nil { // what is locked is told of as one, not as all that is in it
		if err := r.x.unlocked(ctx, nil, &pl, touchMember); err != nil {
			return fail("remove", dir, err)
		}
	}
	before := r.files
	// vanished: a directory that nothing holds but its files is gone with the last of them (object stores without a marker
	// of it). Then we have removed it.
	vanished := func(err error) error {
		if !errors.Is(err, fs.ErrNotExist) || r.files == before {
			return err
		}
		r.x.removed(ctx, &pl, true)
		r.x.report(ctx, r.x.event(event.Rmdir, &pl))
		return nil
	}
	if many, ok := vfs.As[vfs.FilesRemover](pl.FS); ok && !r.alone {
		if err := r.inSteps(ctx, &pl, many); err != nil {
			return err
		}
	}
	var stay map[string]bool
	seen := 0 // of them; the others must not be told of
	for {
		entries, err := someEntries(ctx, &pl, stay)
		if err != nil {
			return fail("remove", dir, vanished(err))
		}
		if len(entries) == 0 {
			break
		}
		for _, i := range entries {
			p, err := dir.Child(i.Name)
			if err != nil {
				return err
			}
			if err = r.entry(ctx, p, i, depth+1); err == nil {
				continue
			}
			if r.failed == nil || ctx.Err() != nil || r.told+len(stay) >= maxStays {
				return err
			}
			if stay == nil {
				stay = map[string]bool{}
			}
			stay[i.Name] = true
			if r.v.patterns.judge(p) == hidden {
				continue
			}
			if seen++; err != ErrStays { // else it is told of; the directories above are not (RFC 4918 9.6.1)
				r.failed(p, err)
				r.told++
			}
		}
	}
	switch {
	case seen > 0:
		return ErrStays
	case len(stay) > 0:
		return refuse("rmdir", dir)
	}
	return vanished(r.x.rmdir(ctx, r.v, dir))
}

// entry removes one entry of a directory. What has gone meanwhile is no failure.
func (r *remover) entry(ctx context.Context, p vfs.Path, i vfs.FileInfo, depth int) error {
	var err error
	if i.IsDir() {
		err = r.tree(ctx, p, depth)
	} else if err = r.x.remove(ctx, r.v, p); err == nil {
		r.progress(p.Dir(), 1)
	}
	if errors.Is(err, fs.ErrNotExist) && r.v.patterns.judge(p) != hidden {
		return nil
	}
	return err
}

// someEntries reads the beginning of a directory, without the names in but: what removes as it goes needs no more in
// memory.
func someEntries(ctx context.Context, pl *place, but map[string]bool) ([]vfs.FileInfo, error) {
	var list []vfs.FileInfo
	for i, err := range pl.FS.List(ctx, pl.Path) {
		switch {
		case but[i.Name]:
			continue
		case err != nil:
			return nil, err
		}
		if list = append(list, i); len(list) == 1000 {
			break
		}
	}
	return list, nil
}
