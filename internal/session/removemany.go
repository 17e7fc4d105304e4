package session

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/gantryhq/gantry/internal/event"
	"github.com/gantryhq/gantry/vfs"
)

// maxBatch is how many files are removed in one step of the storage.
const maxBatch = 1000

// goneWait bounds the look at what a step that failed has removed.
const goneWait = time.Minute

// inSteps removes the files of a directory in steps of many, while it is listed. What it leaves is to be removed one by
// one: directories, links, uploads that are not published, and with failed what may not be removed.
//
// What the listing told of a file's size holds unless the file was touched since (nameWatch). Changes that another
// node or program makes in that time are not seen.
func (r *remover) inSteps(ctx context.Context, pl *place, many vfs.FilesRemover) error {
	w := r.x.srv.names.watch(pl)
	defer r.x.srv.names.unwatch(w)
	b := &removeBatch{r: r, dir: pl, many: many, watch: w}
	for i, err := range pl.FS.List(ctx, pl.Path) {
		switch {
		case err != nil && i.Name == "":
			return fail("remove", pl.p, err)
		case err != nil:
			continue // an entry that cannot be used now
		}
		p, err := pl.p.Child(i.Name)
		if err != nil {
			return err
		}
		at := r.v.place(p)
		if !i.Mode.IsRegular() || at.FS != pl.FS || r.x.hiddenAt(&at) != nil {
			continue
		}
		if _, err := r.v.removable("remove", p, anyDeleteFile); err != nil {
			if r.failed != nil {
				continue
			}
			return cmp.Or(b.flush(ctx), err) // those before it go
		}
		if b.files = append(b.files, removing{pl: at, info: i}); len(b.files) >= maxBatch {
			if err := b.flush(ctx); err != nil {
				return err
			}
		}
	}
	return b.flush(ctx)
}

// removeBatch is files of one directory that are removed in one step.
type removeBatch struct {
	r     *remover
	dir   *place
	many  vfs.FilesRemover
	watch *nameWatch
	files []removing
}

// removing is one file of a batch.
type removing struct {
	pl   place
	info vfs.FileInfo
	ev   *event.Event
	un   *unlinking
}

// flush is one step; its error names the directory.
func (b *removeBatch) flush(ctx context.Context) error { return fail("remove", b.dir.p, b.step(ctx)) }

// step removes the files of the batch, counts and reports what is gone, and begins a new one.
func (b *removeBatch) step(ctx context.Context) error {
	x, files := b.r.x, b.files
	if len(files) == 0 {
		return nil
	}
	defer func() { b.files = b.files[:0] }()
	books, err := x.srv.enter(ctx, b.dir.charge, false, false)
	if err != nil {
		return err
	}
	defer books.leave()
	places := make([]*place, len(files))
	for i := range files {
		places[i] = &files[i].pl
	}
	unlock, err := x.srv.names.lock(ctx, places...)
	if err != nil {
		return err
	}
	defer unlock()
	files, locked := b.standing(ctx, files)
	paths := make([]vfs.Path, len(files))
	for i := range files {
		f := &files[i]
		paths[i] = f.pl.Path
		f.ev = x.event(event.PreDelete, &f.pl)
		f.ev.FileSize = f.info.Size
		f.un = x.srv.files.unlink(&f.pl, f.info)
		defer f.un.end()
	}
	if len(files) > 0 {
		err = b.many.RemoveFiles(ctx, paths)
	}
	b.settle(ctx, files, books, err)
	return errors.Join(locked, err)
}

// standing is what of files is to be removed, as it stands now. It ends before the first that a lock protects (with
// failed that is left out), or that cannot be looked at, with the reason. The names are held.
func (b *removeBatch) standing(ctx context.Context, files []removing) ([]removing, error) {
	out := files[:0]
	for i := range files {
		f := files[i]
		if err := b.r.x.unlocked(ctx, nil, &f.pl, touchMember); err != nil {
			if b.r.failed != nil {
				continue
			}
			return out, err
		}
		if b.r.x.srv.names.touched(b.watch, f.pl.name()) {
			now, err := f.pl.FS.Lstat(ctx, f.pl.Path)
			switch {
			case errors.Is(err, fs.ErrNotExist), err == nil && !now.Mode.IsRegular(): // the next listing tells
				continue
			case err != nil:
				return out, err
			}
			f.info = now
		}
		out = append(out, f)
	}
	return out, nil
}

// settle counts and reports what was removed: everything, or after an error what is not there any more.
func (b *removeBatch) settle(ctx context.Context, files []removing, books *books, failed error) {
	look, cancel := context.WithTimeout(context.WithoutCancel(ctx), goneWait) // what is gone must be counted
	defer cancel()
	n := 0
	for i := range files {
		f := &files[i]
		if failed != nil {
			if _, err := f.pl.FS.Lstat(look, f.pl.Path); !errors.Is(err, fs.ErrNotExist) {
				continue
			}
		}
		n++
		f.un.done = true
		books.move(-1, -f.un.counted)
		b.r.x.removed(ctx, &f.pl, false)
		f.ev.Action = event.Delete
		b.r.x.report(ctx, f.ev)
	}
	b.r.progress(b.dir.p, n)
}
