// Package mem is a storage in memory with the full semantics of a local one: links, attributes, atomic
// uploads, hard links, sparse files, a room limit. It serves tests, and trees that need not last.
// Permission bits are kept but not enforced.
package mem

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

// Options of a tree. The zero value is usable.
type Options struct {
	// MaxFileBytes is the largest file, holes included; 0 means 16 GiB. Past it writes fail with vfs.ErrTooLarge.
	MaxFileBytes int64
	// MaxBytes is the room of the whole tree, counted by file sizes; 0 means no limit. Past it writes fail with vfs.ErrQuota.
	MaxBytes int64
	// ReadOnly makes every change fail with vfs.ErrReadOnly.
	ReadOnly bool
	// Umask is taken off the mode of new files and directories; 0 means 022.
	Umask fs.FileMode
	// UID and GID own new files and directories unless the caller says otherwise.
	UID, GID uint32
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Identity is what Describe tells; "" makes a new one.
	Identity string
	// Fault, if set, is called before each operation with no lock held; its error is the operation's
	// result. It may also wait, to hold an operation open.
	Fault func(Op) error
}

// Op is what a Fault hook sees.
type Op struct {
	// Verb is the FS method in lower case (stat, lstat, list, open, create, mkdir, remove, rename, symlink,
	// readlink, link, setattr, copy, statfs, dirsize, sweep), the handle's (fstat, read, write, truncate,
	// sync, fsetattr, commit, abort), or entry: one entry of a listing, which an error makes a bad one.
	Verb string
	Path vfs.Path
	To   vfs.Path // rename, link, copy
	Off  int64    // read, write, truncate
	Len  int      // read, write
}

// FS is a tree in memory, or one of its directories (Sub). Safe for concurrent use.
type FS struct {
	*store
	root     *node // immutable
	identity string
	closed   atomic.Bool
}

// store is what an FS shares with those that Sub made of it.
type store struct {
	opts Options // immutable
	dev  uint64

	mu   sync.RWMutex // guards everything below, and the nodes
	ino  uint64
	used int64 // bytes, the sizes of all linked files
}

var (
	_ vfs.FS         = (*FS)(nil)
	_ vfs.Linker     = (*FS)(nil)
	_ vfs.AttrSetter = (*FS)(nil)
	_ vfs.Copier     = (*FS)(nil)
	_ vfs.StatFSer   = (*FS)(nil)
	_ vfs.DirSizer   = (*FS)(nil)
	_ vfs.Sweeper    = (*FS)(nil)
	_ vfs.Describer  = (*FS)(nil)
	_ vfs.Subber     = (*FS)(nil)
)

// lastDev numbers the trees, so that two of them have files of different identity.
var lastDev atomic.Uint64

// New makes an empty tree.
func New(o Options) *FS {
	o.MaxFileBytes = cmp.Or(o.MaxFileBytes, 16<<30)
	o.Umask = cmp.Or(o.Umask, 0o022)
	if o.Now == nil {
		o.Now = time.Now
	}
	f := &FS{store: &store{opts: o, dev: lastDev.Add(1)}, identity: o.Identity}
	if f.identity == "" {
		f.identity = fmt.Sprintf("mem:%d", f.dev)
	}
	f.root = f.newNode(fs.ModeDir|0o777, -1, -1)
	f.root.children = map[string]*node{}
	return f
}

// Stat implements vfs.FS.
func (f *FS) Stat(ctx context.Context, name vfs.Path) (vfs.FileInfo, error) {
	return f.stat(ctx, "stat", name, true)
}

// Lstat implements vfs.FS.
func (f *FS) Lstat(ctx context.Context, name vfs.Path) (vfs.FileInfo, error) {
	return f.stat(ctx, "lstat", name, false)
}

func (f *FS) stat(ctx context.Context, verb string, name vfs.Path, follow bool) (vfs.FileInfo, error) {
	if err := f.begin(ctx, Op{Verb: verb, Path: name}, false); err != nil {
		return vfs.FileInfo{}, err
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	n, err := f.lookup(name, follow)
	if err != nil {
		return vfs.FileInfo{}, opError(verb, name, err)
	}
	return n.info(f, name.Base()), nil
}

// Mkdir implements vfs.FS.
func (f *FS) Mkdir(ctx context.Context, name vfs.Path, attr vfs.Attr) error {
	if err := f.begin(ctx, Op{Verb: "mkdir", Path: name}, true); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	dir, base, err := f.place(name)
	if err != nil {
		return opError("mkdir", name, err)
	}
	if dir.children[base] != nil {
		return opError("mkdir", name, fs.ErrExist)
	}
	mode, uid, gid := fs.FileMode(0o777), -1, -1
	if attr.Set&vfs.AttrMode != 0 {
		mode = attr.Mode & settable
	}
	if attr.Set&vfs.AttrOwner != 0 {
		uid, gid = attr.UID, attr.GID
	}
	n := f.newNode(fs.ModeDir|mode&^f.opts.Umask, uid, gid)
	n.children = map[string]*node{}
	if attr.Set&vfs.AttrTimes != 0 {
		n.atime, n.mtime = attr.Atime, attr.Mtime
	}
	f.attach(dir, base, n)
	return nil
}

// Remove implements vfs.FS.
func (f *FS) Remove(ctx context.Context, name vfs.Path) error {
	if err := f.begin(ctx, Op{Verb: "remove", Path: name}, true); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	dir, base, n, err := f.find(name)
	switch {
	case err != nil:
	case len(n.children) > 0:
		err = vfs.ErrNotEmpty
	default:
		f.detach(dir, base)
		return nil
	}
	return opError("remove", name, err)
}

// Rename implements vfs.FS.
func (f *FS) Rename(ctx context.Context, from, to vfs.Path, replace bool) error {
	if err := f.begin(ctx, Op{Verb: "rename", Path: from, To: to}, true); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.rename(from, to, replace); err != nil {
		return opError("rename", from, err)
	}
	return nil
}

func (f *FS) rename(from, to vfs.Path, replace bool) error {
	fromDir, fromBase, n, err := f.find(from)
	if err != nil {
		return err
	}
	toDir, toBase, err := f.place(to)
	if err != nil {
		return err
	}
	if n.children != nil && f.below(toDir, n) {
		return fs.ErrInvalid
	}
	if old := toDir.children[toBase]; old != nil {
		switch {
		case !replace:
			return fs.ErrExist
		case old == n:
			return nil // the same file under both names: POSIX leaves both
		case n.children != nil && old.children == nil:
			return vfs.ErrNotDir
		case n.children == nil && old.children != nil:
			return vfs.ErrIsDir
		case len(old.children) > 0:
			return vfs.ErrNotEmpty
		}
		f.detach(toDir, toBase)
	}
	delete(fromDir.children, fromBase)
	toDir.children[toBase] = n
	now := f.opts.Now()
	fromDir.mtime, toDir.mtime = now, now
	return nil
}

// Close implements vfs.FS. The handles stay usable.
func (f *FS) Close() error {
	f.closed.Store(true)
	return nil
}

// begin opens every operation: the context, the fault hook, the read-only switch.
func (f *FS) begin(ctx context.Context, op Op, change bool) error {
	if err := ctx.Err(); err != nil {
		return opError(op.Verb, op.Path, err)
	}
	if f.opts.Fault != nil {
		if err := f.opts.Fault(op); err != nil {
			return opError(op.Verb, op.Path, err)
		}
	}
	if change && f.opts.ReadOnly {
		return opError(op.Verb, op.Path, vfs.ErrReadOnly)
	}
	if f.closed.Load() {
		return opError(op.Verb, op.Path, fs.ErrClosed)
	}
	return nil
}

func opError(verb string, name vfs.Path, err error) error {
	return &fs.PathError{Op: verb, Path: name.String(), Err: err}
}

// lookup finds what stands at name. The caller holds mu, as for all below.
func (f *FS) lookup(name vfs.Path, follow bool) (*node, error) {
	if name.HasTempName() {
		return nil, fs.ErrNotExist
	}
	_, _, n, err := f.walk(name, follow)
	return n, err
}

// find finds what stands at name, not following a link, and its directory. The root has none.
func (f *FS) find(name vfs.Path) (dir *node, base string, n *node, err error) {
	if name.IsRoot() {
		return nil, "", nil, fs.ErrPermission
	}
	if name.HasTempName() {
		return nil, "", nil, fs.ErrNotExist
	}
	return f.walk(name, false)
}

// place finds the directory where name may be made.
func (f *FS) place(name vfs.Path) (dir *node, base string, err error) {
	if name.IsRoot() {
		return nil, "", fs.ErrExist
	}
	if name.HasTempName() {
		return nil, "", fs.ErrPermission
	}
	n, err := f.lookup(name.Dir(), true)
	if err != nil {
		return nil, "", err
	}
	if n.children == nil {
		return nil, "", vfs.ErrNotDir
	}
	return n, name.Base(), nil
}

// maxLinks is how many links one walk follows: the kernel's bound.
const maxLinks = 40

// walk resolves name. With fs.ErrNotExist for the last component only, dir and base say where it would be.
func (f *FS) walk(name vfs.Path, follow bool) (dir *node, base string, n *node, err error) {
	stack := []*node{f.root}
	pending, links := name.Relative(), 0
	for pending != "" {
		var part string
		part, pending, _ = strings.Cut(pending, "/")
		pending = strings.TrimLeft(pending, "/")
		top := stack[len(stack)-1]
		switch part {
		case "", ".":
			continue
		case "..": // from a link's target only
			if len(stack) == 1 {
				return nil, "", nil, vfs.ErrEscape
			}
			stack = stack[:len(stack)-1]
			continue
		}
		child := top.children[part]
		switch {
		case top.children == nil:
			return nil, "", nil, vfs.ErrNotDir
		case child == nil && pending == "":
			return top, part, nil, fs.ErrNotExist
		case child == nil:
			return nil, "", nil, fs.ErrNotExist
		case child.isLink() && (follow || pending != ""):
			if links++; links > maxLinks {
				return nil, "", nil, vfs.ErrLoop
			}
			if strings.HasPrefix(child.target, "/") {
				return nil, "", nil, vfs.ErrEscape
			}
			if pending != "" {
				pending = child.target + "/" + pending
			} else {
				pending = child.target
			}
		case pending == "":
			return top, part, child, nil
		default:
			stack = append(stack, child)
		}
	}
	return nil, "", stack[len(stack)-1], nil
}

// below reports whether n is top or lies below it.
func (f *FS) below(n, top *node) bool {
	if n == top {
		return true
	}
	for _, c := range top.children {
		if c.children != nil && f.below(n, c) {
			return true
		}
	}
	return false
}
