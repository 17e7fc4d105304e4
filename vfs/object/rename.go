package object

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

// copiers is how many objects are copied at once when a directory is renamed.
const copiers = 16

// Copy implements vfs.Copier.
func (f *FS) Copy(ctx context.Context, from, to vfs.Path, replace bool) error {
	if err := f.begin(ctx, "copy", from); err != nil {
		return err
	}
	if err := f.copy(ctx, from, to, replace); err != nil {
		return opError("copy", from, err)
	}
	return nil
}

func (f *FS) copy(ctx context.Context, from, to vfs.Path, replace bool) error {
	src, err := f.find(ctx, from)
	switch {
	case err != nil:
		return err
	case src.Dir:
		return vfs.ErrIsDir
	}
	if err := f.mayMake(to); err != nil {
		return err
	}
	key, err := f.key(to)
	if err != nil {
		return err
	}
	unlock, err := f.lock(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	if err := f.target(ctx, to, replace); err != nil || from == to {
		return err
	}
	_, err = f.bucket.Copy(ctx, src, key, nil, !replace)
	return err
}

// target checks that a file may come to name.
func (f *FS) target(ctx context.Context, name vfs.Path, replace bool) error {
	old, err := f.find(ctx, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return f.parent(ctx, name)
	case err != nil:
		return err
	case !replace:
		return fs.ErrExist
	case old.Dir:
		return vfs.ErrIsDir
	}
	return nil
}

// Rename implements vfs.FS. A file is copied by the service and then removed. So is each object of a directory, if
// the options allow that: all are copied before the first is removed, so that at any time one of the two trees is
// whole. The marker of the new directory tells what is under way; the same Rename, said again, goes on with it.
func (f *FS) Rename(ctx context.Context, from, to vfs.Path, replace bool) error {
	if err := f.begin(ctx, "rename", from); err != nil {
		return err
	}
	if err := f.rename(ctx, from, to, replace); err != nil {
		return opError("rename", from, err)
	}
	return nil
}

func (f *FS) rename(ctx context.Context, from, to vfs.Path, replace bool) error {
	if from.IsRoot() {
		return fs.ErrPermission
	}
	fromKey, err := f.key(from)
	if err != nil {
		return err
	}
	src, err := f.find(ctx, from)
	if err != nil {
		return err
	}
	if err := f.mayMake(to); err != nil {
		return err
	}
	toKey, err := f.key(to)
	if err != nil {
		return err
	}
	if src.Dir && from != to && to.Within(from) {
		return fs.ErrInvalid
	}
	unlock, err := f.lock(ctx, fromKey, toKey)
	if err != nil {
		return err
	}
	defer unlock()
	if src, err = f.find(ctx, from); err != nil { // another rename may have been first
		return err
	}
	if !src.Dir {
		if err := f.target(ctx, to, replace); err != nil || from == to {
			return err
		}
		if _, err := f.bucket.Copy(ctx, src, toKey, nil, !replace); err != nil {
			return err
		}
		return f.bucket.Delete(context.WithoutCancel(ctx), []string{fromKey}) // half a rename helps nobody
	}
	return f.renameDir(ctx, from, to, fromKey, toKey, replace)
}

// renameNote is what the marker of a directory notes while a rename of the one at key to it is under way.
func renameNote(key string) string {
	sum := sha256.Sum256([]byte(key)) // a key may be longer than metadata
	return "rename from " + hex.EncodeToString(sum[:20])
}

// Interrupted implements vfs.Resumer.
func (f *FS) Interrupted(ctx context.Context, from, to vfs.Path) bool {
	fromKey, err := f.key(from)
	if err != nil || from.IsRoot() || to.IsRoot() {
		return false
	}
	toKey, err := f.key(to)
	return err == nil && f.interrupted(ctx, fromKey, toKey)
}

func (f *FS) interrupted(ctx context.Context, fromKey, toKey string) bool {
	o, err := f.bucket.Head(ctx, f.markerKey(toKey))
	return err == nil && o.Note == renameNote(fromKey)
}

func (f *FS) renameDir(ctx context.Context, from, to vfs.Path, fromKey, toKey string, replace bool) error {
	again := f.interrupted(ctx, fromKey, toKey)
	if old, err := f.find(ctx, to); err == nil && !again {
		switch {
		case !replace:
			return fs.ErrExist
		case from == to:
			return nil
		case !old.Dir:
			return vfs.ErrNotDir
		}
		if empty, err := f.empty(ctx, toKey); err != nil {
			return err
		} else if !empty {
			return vfs.ErrNotEmpty
		}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	} else if err := f.parent(ctx, to); err != nil {
		return err
	}
	empty, err := f.empty(ctx, fromKey)
	if err != nil {
		return err
	}
	if !empty && !f.opts.RenameDirs {
		return fmt.Errorf("%w: directories that are not empty are not renamed on this storage (common.rename_mode)", vfs.ErrUnsupported)
	}
	mark := func(ctx context.Context, note string) error {
		_, err := f.bucket.Put(ctx, f.markerKey(toKey), Text(""), Meta{Dir: true, Note: note}, false)
		return err
	}
	if !empty {
		if err := mark(ctx, renameNote(fromKey)); err != nil {
			return err
		}
		m := &mover{f: f, from: fromKey + "/", to: toKey + "/", began: time.Now()}
		m.said.Store(m.began.UnixNano())
		if err := m.copyAll(ctx); err != nil {
			return err
		}
		if err := m.removeAll(ctx); err != nil {
			return err
		}
	}
	f.seen(toKey + "/")
	f.forget(fromKey + "/")
	ctx = context.WithoutCancel(ctx) // the last steps
	if err := mark(ctx, ""); err != nil {
		return err
	}
	return f.removeDir(ctx, fromKey)
}

// mover is a rename of a directory under way.
type mover struct {
	f        *FS
	from, to string // prefixes
	began    time.Time
	copied   atomic.Int64
	removed  atomic.Int64
	said     atomic.Int64 // when the log was told last, ns
}

// progress tells the log every ten seconds.
func (m *mover) progress() {
	now := time.Now().UnixNano()
	if last := m.said.Load(); now-last > int64(10*time.Second) && m.said.CompareAndSwap(last, now) {
		m.f.opts.Log.Info("a directory is being renamed", "from", m.from, "to", m.to, "copied", m.copied.Load(), "removed", m.removed.Load(), "dur", time.Since(m.began).Round(time.Second))
	}
}

// pair is an object of the old tree, and its copy if there is one.
type pair struct {
	src  Object
	dst  Object
	done bool // dst is a copy of src as it is now
}

// pairs walks both trees in their order. Markers of the directories themselves are left out.
func (m *mover) pairs(ctx context.Context) iter.Seq2[pair, error] {
	return func(yield func(pair, error) bool) {
		next, stop := iter.Pull2(m.f.objects(ctx, m.to))
		defer stop()
		dst, err, ok := next()
		for src, serr := range m.f.objects(ctx, m.from) {
			if serr != nil {
				yield(pair{}, serr)
				return
			}
			name := strings.TrimPrefix(src.Key, m.from)
			for ok && err == nil && strings.TrimPrefix(dst.Key, m.to) < name {
				dst, err, ok = next()
			}
			if err != nil {
				yield(pair{}, err)
				return
			}
			p := pair{src: src}
			if ok && strings.TrimPrefix(dst.Key, m.to) == name {
				p.dst = dst
				p.done = marker(&src) || dst.Size == src.Size && (dst.ETag != "" && dst.ETag == src.ETag || !dst.Changed.Before(src.Changed))
			}
			if !yield(p, nil) {
				return
			}
		}
	}
}

// objects streams all objects below prefix but its own marker.
func (f *FS) objects(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		for p, err := range f.pages(ctx, Query{Prefix: prefix, Flat: true}) {
			if err != nil {
				yield(Object{}, err)
				return
			}
			for _, o := range p.Objects {
				if o.Key != prefix && !yield(o, nil) {
					return
				}
			}
		}
	}
}

// marker reports whether o is a directory's. Some services give those a size.
func marker(o *Object) bool { return o.Dir || strings.HasSuffix(o.Key, "/") }

// copyAll copies what is not copied yet.
func (m *mover) copyAll(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan Object)
	var all sync.WaitGroup
	for range copiers {
		all.Go(func() { // ends with work
			for o := range work {
				if err := m.copyOne(ctx, o); err != nil {
					cancel(err)
				}
			}
		})
	}
	err := func() error {
		defer all.Wait()
		defer close(work)
		for p, err := range m.pairs(ctx) {
			if err != nil {
				return err
			}
			if p.done {
				continue
			}
			select {
			case work <- p.src:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	}()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func (m *mover) copyOne(ctx context.Context, o Object) error {
	key := m.to + strings.TrimPrefix(o.Key, m.from)
	if len(key) > m.f.limits.MaxKey {
		return fmt.Errorf("%w: a key would be longer than %d bytes", vfs.ErrInvalidPath, m.f.limits.MaxKey)
	}
	var err error
	if marker(&o) {
		_, err = m.f.bucket.Put(ctx, key, Text(""), Meta{Dir: true, ModTime: o.ModTime}, false)
	} else {
		_, err = m.f.bucket.Copy(ctx, o, key, nil, false)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // removed meanwhile
		return err
	}
	m.copied.Add(1)
	m.progress()
	return nil
}

// removeAll removes what has its copy. Objects that came or changed since are copied first.
func (m *mover) removeAll(ctx context.Context) error {
	var batch []string
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := m.f.bucket.Delete(ctx, batch)
		m.removed.Add(int64(len(batch)))
		m.progress()
		batch = batch[:0]
		return err
	}
	for p, err := range m.pairs(ctx) {
		if err != nil {
			return err
		}
		if !p.done {
			if err := m.copyOne(ctx, p.src); err != nil {
				return err
			}
			// Not removed unless it is still what was copied.
			if now, err := m.f.bucket.Head(ctx, p.src.Key); err != nil || now.ETag != p.src.ETag {
				continue
			}
		}
		if batch = append(batch, p.src.Key); len(batch) >= m.f.limits.Batch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}
