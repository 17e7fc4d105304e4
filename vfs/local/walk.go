package local

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

// DirSize implements vfs.DirSizer. It never follows a link, name included (SYM-2). A directory that vanishes
// meanwhile counts as empty; one that cannot be read is an error.
func (f *FS) DirSize(ctx context.Context, name vfs.Path) (files int, bytes int64, err error) {
	err = visible(ctx, name)
	var i vfs.FileInfo
	if err == nil {
		i, err = f.tree.stat(name, false)
	}
	switch {
	case err != nil:
		return 0, 0, opError("dirsize", name, err)
	case i.Mode.IsRegular():
		return 1, i.Size, nil
	case !i.IsDir():
		return 0, 0, nil
	}
	err = f.walk(ctx, name, func(_ dir, e entry) error {
		if e.Mode.IsRegular() && !vfs.IsTempName(e.Name) {
			files, bytes = files+1, bytes+e.Size
		}
		return nil
	})
	return files, bytes, opError("dirsize", name, err)
}

// Sweep implements vfs.Sweeper. A temporary file that anybody has touched since t stays.
func (f *FS) Sweep(ctx context.Context, t time.Time) (removed int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, opError("sweep", vfs.Root, err)
	}
	var failed error
	err = f.walk(ctx, vfs.Root, func(d dir, e entry) error {
		if !vfs.IsTempName(e.Name) || !e.Mode.IsRegular() || e.changed >= t.UnixNano() {
			return nil
		}
		switch err := d.remove(e.Name); {
		case err == nil:
			removed++
		case !errors.Is(err, fs.ErrNotExist):
			failed = err // and go on with the others
		}
		return nil
	})
	if err == nil {
		err = failed
	}
	return removed, opError("sweep", vfs.Root, err)
}

// anchorBytes is how long a path below a held directory grows before another one is held: system calls
// take 4096 bytes, while renames can make trees of any depth.
const anchorBytes = 2048

// anchor is a directory held open while something below it is still to be walked.
type anchor struct {
	dir    dir
	parent *anchor
	uses   int
}

func (a *anchor) release() {
	for ; a != nil; a = a.parent {
		if a.uses--; a.uses > 0 {
			return
		}
		a.dir.close()
	}
}

// walk visits every entry below top, depth first, without recursion: it holds one descriptor per anchorBytes
// of depth, and one name for each directory that waits. Links are visited, never followed.
func (f *FS) walk(ctx context.Context, top vfs.Path, visit func(d dir, e entry) error) error {
	d, err := f.tree.dir(top)
	if err != nil {
		return err
	}
	type todo struct {
		from *anchor
		rel  string // "" is the anchor itself
	}
	stack := []todo{{from: &anchor{dir: d, uses: 1}}}
	defer func() {
		for _, t := range stack {
			t.from.release()
		}
	}()
	for len(stack) > 0 {
		t := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		base, d := t.from, t.from.dir
		if t.rel != "" {
			d, err = t.from.dir.sub(t.rel)
			if gone(err) {
				t.from.release()
				continue
			}
			if err != nil {
				t.from.release()
				return err
			}
			if len(t.rel) > anchorBytes {
				base = &anchor{dir: d, parent: t.from, uses: 1}
			}
		}
		held := t.rel == "" || base != t.from
		prefix := ""
		if !held {
			prefix = t.rel + "/"
		}
		for e, listErr := range d.list(ctx) {
			if gone(listErr) {
				continue
			}
			if err = listErr; err != nil {
				break
			}
			if e.IsDir() {
				base.uses++
				stack = append(stack, todo{base, prefix + e.Name})
			}
			if err = visit(d, e); err != nil {
				break
			}
		}
		if !held {
			d.close()
		}
		base.release() // this entry's own use; that of a new anchor's parent is the anchor's
		if err != nil {
			return err
		}
	}
	return nil
}

// gone reports whether an object vanished, or is not what it was listed as any more.
func gone(err error) bool {
	if err == nil {
		return false
	}
	err = mapError(err)
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, vfs.ErrNotDir) || errors.Is(err, vfs.ErrLoop) || errors.Is(err, vfs.ErrEscape)
}
