package object

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

// Options of a tree.
type Options struct {
	// Prefix is where the tree begins in the bucket: "" or a text that ends with a slash.
	Prefix string
	// Memory is shared by all trees of the process.
	Memory *Memory
	// RenameDirs allows the rename of directories that are not empty: a copy of each object, and its removal.
	RenameDirs bool
	// SweepAge is how old an unfinished upload must be for Sweep to remove it, whatever it is asked: another node
	// or program may be writing to the bucket.
	SweepAge time.Duration
	Log      *slog.Logger // of long operations and refusals; nil: none
	// Observe, if set, is told of each request to the service: head, list, get (to its first byte), put, begin, part,
	// complete, abort, copy, delete or sweep; how long it took, and its error. What is not there is no error.
	Observe func(provider int, operation string, d time.Duration, err error)
	Pool    *Pool // where equal settings meet; nil: nothing is shared
}

// FS is a tree in a bucket. Safe for concurrent use.
type FS struct {
	*core
	prefix string // immutable
	closed atomic.Bool
}

// core is what an FS shares with those that Sub made of it, and with its open files.
type core struct {
	bucket Bucket
	limits Limits
	opts   Options
	refs   atomic.Int64 // of trees and files; the last one closes the bucket
	ended  func()       // nil, or told then

	mu    sync.Mutex // guards the fields below
	dirs  map[string]time.Time
	locks map[string]*keyLock
}

// dirTTL is how long a directory that was seen is taken to exist when something is made in it.
const dirTTL = 10 * time.Second

// maxDirs bounds what is remembered of directories.
const maxDirs = 4096

var (
	_ vfs.FS           = (*FS)(nil)
	_ vfs.AttrSetter   = (*FS)(nil)
	_ vfs.Copier       = (*FS)(nil)
	_ vfs.DirSizer     = (*FS)(nil)
	_ vfs.Sweeper      = (*FS)(nil)
	_ vfs.Subber       = (*FS)(nil)
	_ vfs.Describer    = (*FS)(nil)
	_ vfs.Resumer      = (*FS)(nil)
	_ vfs.FilesRemover = (*FS)(nil)
)

// New makes a tree of b, which it closes with the last file.
func New(b Bucket, o Options) *FS {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	b = &observed{Bucket: b, about: b.Describe(), tell: o.Observe, log: o.Log}
	c := &core{bucket: b, limits: b.Limits(), opts: o, dirs: map[string]time.Time{}, locks: map[string]*keyLock{}}
	c.refs.Store(1)
	return &FS{core: c, prefix: o.Prefix}
}

func (c *core) release() {
	if c.refs.Add(-1) == 0 {
		if c.ended != nil {
			c.ended()
		}
		c.bucket.Close()
	}
}

// hold adds a reference, unless the last one has gone.
func (c *core) hold() bool {
	for {
		n := c.refs.Load()
		if n == 0 {
			return false
		}
		if c.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Close implements vfs.FS.
func (f *FS) Close() error {
	if !f.closed.Swap(true) {
		f.release()
	}
	return nil
}

// Sub implements vfs.Subber.
func (f *FS) Sub(ctx context.Context, dir vfs.Path) (vfs.FS, error) {
	i, err := f.Stat(ctx, dir)
	switch {
	case err != nil:
		return nil, err
	case !i.IsDir():
		return nil, opError("open", dir, vfs.ErrNotDir)
	}
	prefix, err := f.dirKey(dir)
	if err != nil {
		return nil, opError("open", dir, err)
	}
	f.refs.Add(1)
	return &FS{core: f.core, prefix: prefix}, nil
}

// Describe implements vfs.Describer.
func (f *FS) Describe(name vfs.Path) vfs.Description {
	d := f.bucket.Describe()
	d.Remote, d.Whole = true, true
	d.Identity += "/" + f.prefix
	if k, err := f.key(name); err == nil && !name.IsRoot() {
		d.StoragePath = k
	} else {
		d.StoragePath = f.prefix
	}
	return d
}

func opError(op string, name vfs.Path, err error) error {
	return &fs.PathError{Op: op, Path: name.String(), Err: err}
}

// begin opens every operation on name.
func (f *FS) begin(ctx context.Context, op string, name vfs.Path) error {
	if err := ctx.Err(); err != nil {
		return opError(op, name, err)
	}
	if f.closed.Load() {
		return opError(op, name, fs.ErrClosed)
	}
	return nil
}

// Stat implements vfs.FS.
func (f *FS) Stat(ctx context.Context, name vfs.Path) (vfs.FileInfo, error) {
	return f.stat(ctx, "stat", name)
}

// Lstat is Stat: there are no links.
func (f *FS) Lstat(ctx context.Context, name vfs.Path) (vfs.FileInfo, error) {
	return f.stat(ctx, "lstat", name)
}

func (f *FS) stat(ctx context.Context, op string, name vfs.Path) (vfs.FileInfo, error) {
	if err := f.begin(ctx, op, name); err != nil {
		return vfs.FileInfo{}, err
	}
	o, err := f.find(ctx, name)
	if err != nil {
		return vfs.FileInfo{}, opError(op, name, err)
	}
	return info(name.Base(), o), nil
}

// info shows an object. All of them look as their owner's, and no more than that is known.
func info(name string, o Object) vfs.FileInfo {
	i := vfs.FileInfo{Name: name, Size: o.Size, Mode: 0o666, ModTime: o.ModTime, ETag: o.ETag, ContentType: o.Type, Nlink: 1}
	if i.ModTime.IsZero() {
		i.ModTime = o.Changed
	}
	if o.Dir {
		i.Mode, i.Size, i.ETag, i.ContentType = fs.ModeDir|0o777, 0, "", ""
	}
	i.AccessTime = i.ModTime
	return i
}

// find tells what stands at name: an object, or a directory (Dir).
func (f *FS) find(ctx context.Context, name vfs.Path) (Object, error) {
	if name.IsRoot() {
		return Object{Dir: true}, nil
	}
	if name.HasTempName() {
		return Object{}, fs.ErrNotExist
	}
	key, err := f.key(name)
	if err != nil {
		return Object{}, err
	}
	o, err := f.bucket.Head(ctx, key)
	switch {
	case err == nil:
		if o.Dir {
			f.seen(key + "/")
		}
		return o, nil
	case !errors.Is(err, fs.ErrNotExist):
		return o, err
	}
	if o, err = f.dir(ctx, key+"/"); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return o, err
	}
	return o, f.missing(ctx, name)
}

// dir asks whether anything begins with prefix.
func (f *core) dir(ctx context.Context, prefix string) (Object, error) {
	p, err := f.bucket.List(ctx, Query{Prefix: prefix, Flat: true, Max: 1})
	if err != nil {
		return Object{}, err
	}
	if len(p.Objects) == 0 {
		f.forget(prefix)
		return Object{}, fs.ErrNotExist
	}
	f.seen(prefix)
	o := Object{Key: strings.TrimSuffix(prefix, "/"), Dir: true}
	if m := p.Objects[0]; m.Key == prefix {
		o.Changed, o.ModTime = m.Changed, m.ModTime
	}
	return o, nil
}

// missing is the error of a name that is not there: fs.ErrNotExist, or vfs.ErrNotDir below a file.
func (f *FS) missing(ctx context.Context, name vfs.Path) error {
	for name = name.Dir(); !name.IsRoot(); name = name.Dir() {
		key, err := f.key(name)
		if err != nil {
			return err
		}
		if f.known(key + "/") {
			break
		}
		if _, err := f.dir(ctx, key+"/"); err == nil {
			break
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		switch o, err := f.bucket.Head(ctx, key); {
		case err == nil && !o.Dir:
			return vfs.ErrNotDir
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		case err == nil:
			return fs.ErrNotExist
		}
	}
	return fs.ErrNotExist
}

// parent checks that name may be made: its directory exists. A directory of another program's may vanish with its
// last object; what was seen a moment ago is taken to be there still.
func (f *FS) parent(ctx context.Context, name vfs.Path) error {
	dir := name.Dir()
	if dir.IsRoot() {
		return nil
	}
	prefix, err := f.dirKey(dir)
	if err != nil {
		return err
	}
	if f.known(prefix) {
		return nil
	}
	o, err := f.find(ctx, dir)
	if err == nil && !o.Dir {
		return vfs.ErrNotDir
	}
	return err
}

func (c *core) known(prefix string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, ok := c.dirs[prefix]
	return ok && time.Now().Before(t)
}

func (c *core) seen(prefix string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.dirs) >= maxDirs {
		clear(c.dirs)
	}
	c.dirs[prefix] = time.Now().Add(dirTTL)
}

// forget drops what is known of prefix and all below it.
func (c *core) forget(prefix string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := range c.dirs {
		if strings.HasPrefix(p, prefix) {
			delete(c.dirs, p)
		}
	}
}

// keyLock makes the steps of one operation on a key one step for this process. Between processes only the
// service's own conditions do.
type keyLock struct {
	held chan struct{}
	refs int
}

// lock locks keys in their order.
func (c *core) lock(ctx context.Context, keys ...string) (unlock func(), err error) {
	if len(keys) == 2 {
		switch {
		case keys[0] == keys[1]:
			keys = keys[:1]
		case keys[0] > keys[1]:
			keys[0], keys[1] = keys[1], keys[0]
		}
	}
	var got []string
	unlock = func() {
		for _, k := range got {
			c.mu.Lock()
			l := c.locks[k]
			<-l.held
			c.drop(k, l)
			c.mu.Unlock()
		}
	}
	for _, k := range keys {
		c.mu.Lock()
		l := c.locks[k]
		if l == nil {
			l = &keyLock{held: make(chan struct{}, 1)}
			c.locks[k] = l
		}
		l.refs++
		c.mu.Unlock()
		select {
		case l.held <- struct{}{}:
			got = append(got, k)
		case <-ctx.Done():
			c.mu.Lock()
			c.drop(k, l)
			c.mu.Unlock()
			unlock()
			return nil, ctx.Err()
		}
	}
	return unlock, nil
}

func (c *core) drop(k string, l *keyLock) {
	if l.refs--; l.refs == 0 {
		delete(c.locks, k)
	}
}

// List implements vfs.FS: a page is in memory, and the one that is fetched meanwhile.
func (f *FS) List(ctx context.Context, dir vfs.Path) iter.Seq2[vfs.FileInfo, error] {
	return func(yield func(vfs.FileInfo, error) bool) {
		if err := f.begin(ctx, "list", dir); err != nil {
			yield(vfs.FileInfo{}, err)
			return
		}
		if err := f.list(ctx, dir, yield); err != nil {
			yield(vfs.FileInfo{}, opError("list", dir, err))
		}
	}
}

// list yields until it is told to stop, or returns what ends the listing.
func (f *FS) list(ctx context.Context, dir vfs.Path, yield func(vfs.FileInfo, error) bool) error {
	if dir.HasTempName() {
		return fs.ErrNotExist
	}
	prefix, err := f.dirKey(dir)
	if err != nil {
		return err
	}
	l := &listing{prefix: prefix, yield: yield, ctx: ctx}
	first := true
	for p, err := range f.pages(ctx, Query{Prefix: prefix}) {
		if err != nil {
			return err
		}
		if first && len(p.Objects)+len(p.Prefixes) == 0 && p.Token == "" && !dir.IsRoot() {
			if o, err := f.find(ctx, dir); err != nil {
				return err
			} else if !o.Dir {
				return vfs.ErrNotDir
			}
		}
		if first = false; !dir.IsRoot() {
			f.seen(prefix)
		}
		if done, err := l.page(&p); done || err != nil {
			return err
		}
	}
	return nil
}

// pages streams the pages of q, one ahead. The last one yielded may hold an error.
func (f *FS) pages(ctx context.Context, q Query) iter.Seq2[Page, error] {
	return func(yield func(Page, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		type result struct {
			p   Page
			err error
		}
		next := make(chan result, 1)
		var fetching sync.WaitGroup
		fetch := func(token string) { // ends with its call; the loop's end waits for it
			fetching.Go(func() {
				q := q
				q.Token = token
				p, err := f.bucket.List(ctx, q)
				next <- result{p, err}
			})
		}
		defer fetching.Wait()
		defer cancel()
		fetch("")
		for token := ""; ; {
			r := <-next
			if r.err == nil && r.p.Token != "" {
				if r.p.Token == token {
					r.err = fmt.Errorf("the service repeats the page %q", clip(token))
				} else {
					token = r.p.Token
					fetch(token)
				}
			}
			if !yield(r.p, r.err) || r.err != nil || r.p.Token == "" {
				return
			}
		}
	}
}

func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}

// listing turns pages into entries.
type listing struct {
	ctx    context.Context
	prefix string
	yield  func(vfs.FileInfo, error) bool
	// open are the names of files and markers that a later key may still have as its beginning: the same name as a
	// directory would come after them.
	open []openName
	last string // the key before: some services list a prefix twice
}

type openName struct {
	key string
	dir bool
}

// page yields one page, its two lists merged by their order.
func (l *listing) page(p *Page) (done bool, err error) {
	objects, prefixes := p.Objects, p.Prefixes
	for len(objects)+len(prefixes) > 0 {
		if err := l.ctx.Err(); err != nil {
			return true, err
		}
		var o Object
		if len(prefixes) == 0 || len(objects) > 0 && objects[0].Key <= prefixes[0] {
			o, objects = objects[0], objects[1:]
		} else {
			o, prefixes = Object{Key: prefixes[0], Dir: true}, prefixes[1:]
		}
		if !l.entry(o) {
			return true, nil
		}
	}
	return false, nil
}

// entry yields one object or directory. It reports false when told to stop.
func (l *listing) entry(o Object) bool {
	text, ok := strings.CutPrefix(o.Key, l.prefix)
	if !ok || text == "" || o.Key == l.last { // the directory's own marker
		return true
	}
	l.last = o.Key
	for len(l.open) > 0 && !strings.HasPrefix(o.Key, l.open[len(l.open)-1].key) {
		l.open = l.open[:len(l.open)-1]
	}
	if key, isDir := strings.CutSuffix(o.Key, "/"); isDir {
		text, o.Dir = strings.TrimSuffix(text, "/"), true
		for _, n := range l.open {
			if n.key != key {
				continue
			}
			if n.dir {
				return true // its marker was listed
			}
			return l.bad(text, "an object and a directory have this name; only the object can be reached")
		}
	} else {
		l.open = append(l.open, openName{o.Key, o.Dir})
	}
	name := UnescapeName(text)
	if _, err := vfs.Root.Child(name); err != nil {
		return l.bad(text, "this key is no path")
	}
	if vfs.IsTempName(name) {
		return true
	}
	return l.yield(info(name, o), nil)
}

// bad tells of an entry that cannot be used.
func (l *listing) bad(name, why string) bool {
	if name == "" {
		name = "/"
	}
	return l.yield(vfs.FileInfo{Name: name}, fmt.Errorf("%q: %s", clip(name), why))
}

// Mkdir implements vfs.FS: it makes a marker.
func (f *FS) Mkdir(ctx context.Context, name vfs.Path, attr vfs.Attr) error {
	if err := f.begin(ctx, "mkdir", name); err != nil {
		return err
	}
	if err := f.mkdir(ctx, name, attr); err != nil {
		return opError("mkdir", name, err)
	}
	return nil
}

func (f *FS) mkdir(ctx context.Context, name vfs.Path, attr vfs.Attr) error {
	if err := f.mayMake(name); err != nil {
		return err
	}
	key, err := f.key(name)
	if err != nil {
		return err
	}
	unlock, err := f.lock(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	switch _, err := f.find(ctx, name); {
	case err == nil:
		return fs.ErrExist
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := f.parent(ctx, name); err != nil {
		return err
	}
	if _, err := f.bucket.Put(ctx, f.markerKey(key), Text(""), Meta{Dir: true, ModTime: mtimeOf(attr)}, true); err != nil {
		return err
	}
	f.seen(key + "/")
	return nil
}

// mayMake refuses the root and the names of temporary files.
func (f *FS) mayMake(name vfs.Path) error {
	switch {
	case name.IsRoot():
		return fs.ErrExist
	case name.HasTempName():
		return fs.ErrPermission
	}
	return nil
}

// markerKey is where the marker of the directory at key stands.
func (f *FS) markerKey(key string) string {
	if f.limits.MarkerSlash {
		return key + "/"
	}
	return key
}

func mtimeOf(a vfs.Attr) time.Time {
	if a.Set&vfs.AttrTimes != 0 {
		return a.Mtime
	}
	return time.Time{}
}

// Remove implements vfs.FS.
func (f *FS) Remove(ctx context.Context, name vfs.Path) error {
	if err := f.begin(ctx, "remove", name); err != nil {
		return err
	}
	if err := f.remove(ctx, name); err != nil {
		return opError("remove", name, err)
	}
	return nil
}

func (f *FS) remove(ctx context.Context, name vfs.Path) error {
	if name.IsRoot() {
		return fs.ErrPermission
	}
	key, err := f.key(name)
	if err != nil {
		return err
	}
	unlock, err := f.lock(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	o, err := f.find(ctx, name)
	if err != nil {
		return err
	}
	if !o.Dir {
		return f.bucket.Delete(ctx, []string{key})
	}
	return f.removeDir(ctx, key)
}

// RemoveFiles implements vfs.FilesRemover.
func (f *FS) RemoveFiles(ctx context.Context, names []vfs.Path) error {
	keys := make([]string, 0, len(names))
	for _, name := range names {
		if err := f.begin(ctx, "remove", name); err != nil {
			return err
		}
		if name.IsRoot() {
			return opError("remove", name, fs.ErrPermission)
		}
		if name.HasTempName() {
			continue // it is not there
		}
		key, err := f.key(name)
		if err != nil {
			return opError("remove", name, err)
		}
		keys = append(keys, key)
	}
	for batch := range slices.Chunk(keys, f.limits.Batch) {
		if err := f.bucket.Delete(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

// removeDir removes the markers of an empty directory.
func (f *FS) removeDir(ctx context.Context, key string) error {
	empty, err := f.empty(ctx, key)
	switch {
	case err != nil:
		return err
	case !empty:
		return vfs.ErrNotEmpty
	}
	f.forget(key + "/")
	keys := []string{key + "/"}
	if !f.limits.MarkerSlash {
		keys = append(keys, key)
	}
	return f.bucket.Delete(ctx, keys)
}

// empty reports whether nothing but its marker begins with the directory at key.
func (f *FS) empty(ctx context.Context, key string) (bool, error) {
	p, err := f.bucket.List(ctx, Query{Prefix: key + "/", Flat: true, Max: 2})
	if err != nil {
		return false, err
	}
	for _, o := range p.Objects {
		if o.Key != key+"/" {
			return false, nil
		}
	}
	return true, nil
}

// SetAttr implements vfs.AttrSetter: the time of change of a file is kept in its metadata. There is nothing else.
func (f *FS) SetAttr(ctx context.Context, name vfs.Path, attr vfs.Attr, _ bool) error {
	if err := f.begin(ctx, "setattr", name); err != nil {
		return err
	}
	if err := f.setAttr(ctx, name, attr); err != nil {
		return opError("setattr", name, err)
	}
	return nil
}

func (f *FS) setAttr(ctx context.Context, name vfs.Path, attr vfs.Attr) error {
	o, err := f.find(ctx, name)
	switch {
	case err != nil:
		return err
	case attr.Set&^vfs.AttrTimes != 0:
		return fmt.Errorf("%w: objects have no mode and no owner", vfs.ErrUnsupported)
	case attr.Set == 0:
		return nil
	case o.Dir:
		return fmt.Errorf("%w: directories of this storage have no times", vfs.ErrUnsupported)
	case o.Size > f.limits.MaxSingle:
		return fmt.Errorf("%w: the time of a file of %d bytes cannot be changed", vfs.ErrUnsupported, o.Size)
	}
	_, err = f.bucket.Copy(ctx, o, o.Key, &Meta{Type: o.Type, ModTime: attr.Mtime}, false)
	return err
}

// DirSize implements vfs.DirSizer.
func (f *FS) DirSize(ctx context.Context, name vfs.Path) (files int, bytes int64, err error) {
	if err := f.begin(ctx, "dirsize", name); err != nil {
		return 0, 0, err
	}
	o, err := f.find(ctx, name)
	if err != nil {
		return 0, 0, opError("dirsize", name, err)
	}
	if !o.Dir {
		return 1, o.Size, nil
	}
	prefix, err := f.dirKey(name)
	if err != nil {
		return 0, 0, opError("dirsize", name, err)
	}
	for p, err := range f.pages(ctx, Query{Prefix: prefix, Flat: true}) {
		if err != nil {
			return files, bytes, opError("dirsize", name, err)
		}
		for _, o := range p.Objects {
			if !o.Dir && !strings.HasSuffix(o.Key, "/") && !f.temporary(o.Key) {
				files++
				bytes += o.Size
			}
		}
	}
	return files, bytes, nil
}

// temporary reports whether a name in key is that of a temporary file.
func (f *FS) temporary(key string) bool {
	return strings.Contains(key, "-upload.") && (strings.Contains(key, "/"+vfs.TempPrefix) || strings.HasPrefix(key, f.prefix+vfs.TempPrefix))
}

// Sweep implements vfs.Sweeper.
func (f *FS) Sweep(ctx context.Context, t time.Time) (int, error) {
	if err := f.begin(ctx, "sweep", vfs.Root); err != nil {
		return 0, err
	}
	if old := time.Now().Add(-f.opts.SweepAge); f.opts.SweepAge > 0 && old.Before(t) {
		t = old
	}
	return f.bucket.Sweep(ctx, f.prefix, t)
}
