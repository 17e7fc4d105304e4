// Package sftpfs is a storage on another SFTP server (draft-ietf-secsh-filexfer-02 with OpenSSH's extensions).
//
// Storages with equal settings share connections: at most five, with a sign of life every 15 seconds, so that a
// server that falls silent ends what waits for it within half a minute. What loses its connection fails; only
// what changes nothing is asked again, once. Requests of all users go side by side, and every wait ends with its
// context.
//
// A file is read ahead and written behind its acknowledgements within a window, 2 MiB unless the settings say
// more: that is all the memory a transfer holds. A write that fails is told of by a later one or by Commit.
//
// What the server sends is judged here: sizes of packets, handles and listings, and names, which are one component
// or left out. It resolves paths and links itself, so that only it knows where they lead.
package sftpfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

// tempPrefix begins the names of our temporary files there. The server may be a Gantry too, and hide its own.
const tempPrefix = ".gantry-part."

// FS is a directory of a server. Safe for concurrent use.
type FS struct {
	r      *remote
	cfg    Config
	closed atomic.Bool
}

var (
	_ vfs.FS         = (*FS)(nil)
	_ vfs.Linker     = (*FS)(nil)
	_ vfs.AttrSetter = (*FS)(nil)
	_ vfs.StatFSer   = (*FS)(nil)
	_ vfs.DirSizer   = (*FS)(nil)
	_ vfs.Sweeper    = (*FS)(nil)
	_ vfs.Describer  = (*FS)(nil)
	_ vfs.Crosser    = (*FS)(nil)
)

// New gives the storage of cfg. It connects when it is used.
func (p *Pool) New(cfg Config) (*FS, error) {
	cfg.Prefix = path.Clean("/" + cfg.Prefix)
	if cfg.Window <= 0 {
		cfg.Window = 2 << 20
	}
	r, err := p.remote(&cfg)
	if err != nil {
		return nil, err
	}
	return &FS{r: r, cfg: cfg}, nil
}

// Close implements vfs.FS. Open handles stay usable.
func (f *FS) Close() error {
	if f.closed.Swap(true) {
		return fs.ErrClosed
	}
	f.r.pool.release(f.r)
	return nil
}

// get gives a connection for a call on the tree.
func (f *FS) get(ctx context.Context) (*conn, error) {
	if f.closed.Load() {
		return nil, fs.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return f.r.get(ctx)
}

// full is where name is on the server.
func (f *FS) full(name vfs.Path) string { return path.Join(f.cfg.Prefix, name.String()) }

// isTemp reports whether name, one component, is that of a temporary file of ours or of a Gantry's.
func isTemp(name string) bool { return strings.HasPrefix(name, tempPrefix) || vfs.IsTempName(name) }

func hasTemp(name vfs.Path) bool {
	return name.HasTempName() || strings.Contains(name.String(), "/"+tempPrefix)
}

// visible, removable and creatable judge a path before the server sees it.
func visible(name vfs.Path) error {
	if hasTemp(name) {
		return fs.ErrNotExist
	}
	return nil
}

func removable(name vfs.Path) error {
	if name.IsRoot() {
		return fs.ErrPermission
	}
	return visible(name)
}

func creatable(name vfs.Path) error {
	if name.IsRoot() {
		return fs.ErrExist
	}
	if hasTemp(name) {
		return fs.ErrPermission
	}
	return nil
}

// use runs do on a connection.
func (f *FS) use(ctx context.Context, do func(c *conn) error) error {
	c, err := f.get(ctx)
	if err != nil {
		return err
	}
	defer c.put()
	return do(c)
}

// ask is use for what changes nothing: after a lost connection it runs once more.
func (f *FS) ask(ctx context.Context, do func(c *conn) error) error {
	err := f.use(ctx, do)
	if errors.Is(err, errLost) && ctx.Err() == nil {
		err = f.use(ctx, do)
	}
	return err
}

// inside refuses a path whose directory a link leads out of the prefix, where that is asked for.
func (f *FS) inside(ctx context.Context, c *conn, names ...vfs.Path) error {
	if !f.cfg.Confine || f.cfg.Prefix == "/" {
		return nil
	}
	root, err := c.text(ctx, fxpRealpath, f.cfg.Prefix)
	if err != nil {
		return err
	}
	for _, name := range names {
		real, err := c.text(ctx, fxpRealpath, f.full(name))
		if err != nil { // what is not there yet has a directory that is
			if i, err := c.attrs(ctx, fxpLstat, f.full(name), ""); err == nil && i.IsSymlink() {
				return vfs.ErrEscape // nobody knows where it leads
			}
			if real, err = c.text(ctx, fxpRealpath, f.full(name.Dir())); err != nil {
				return err
			}
		}
		if real != root && !strings.HasPrefix(real, strings.TrimSuffix(root, "/")+"/") {
			return vfs.ErrEscape
		}
	}
	return nil
}

// Stat implements vfs.FS.
func (f *FS) Stat(ctx context.Context, name vfs.Path) (vfs.FileInfo, error) {
	return f.stat(ctx, "stat", fxpStat, name)
}

// Lstat implements vfs.FS.
func (f *FS) Lstat(ctx context.Context, name vfs.Path) (vfs.FileInfo, error) {
	return f.stat(ctx, "lstat", fxpLstat, name)
}

func (f *FS) stat(ctx context.Context, op string, typ byte, name vfs.Path) (i vfs.FileInfo, err error) {
	if err = visible(name); err == nil {
		err = f.ask(ctx, func(c *conn) error {
			p := name
			if typ == fxpLstat {
				p = name.Dir()
			}
			if err := f.inside(ctx, c, p); err != nil {
				return err
			}
			var err error
			i, err = c.attrs(ctx, typ, f.full(name), name.Base())
			return err
		})
	}
	return i, opError(op, name, err)
}

// List implements vfs.FS: in the server's order, as the answers come.
func (f *FS) List(ctx context.Context, dir vfs.Path) iter.Seq2[vfs.FileInfo, error] {
	return func(yield func(vfs.FileInfo, error) bool) {
		if err := f.list(ctx, dir, yield); err != nil {
			yield(vfs.FileInfo{}, opError("list", dir, err))
		}
	}
}

func (f *FS) list(ctx context.Context, dir vfs.Path, yield func(vfs.FileInfo, error) bool) error {
	return f.listAll(ctx, dir, func(i vfs.FileInfo) bool { return isTemp(i.Name) || yield(i, nil) })
}

// listAll shows the entries, temporary files too, until show says false.
func (f *FS) listAll(ctx context.Context, dir vfs.Path, show func(vfs.FileInfo) bool) error {
	if err := visible(dir); err != nil {
		return err
	}
	var c *conn
	var h string
	open := func() (err error) {
		if c, err = f.get(ctx); err != nil {
			return err
		}
		if err = f.inside(ctx, c, dir); err == nil {
			h, err = c.handle(ctx, fxpOpendir, func(w *builder) { w.str(f.full(dir)) })
		}
		if err != nil {
			c.put()
		}
		return err
	}
	err := open()
	if errors.Is(err, errLost) && ctx.Err() == nil {
		err = open()
	}
	if err != nil {
		return f.notDir(ctx, dir, err)
	}
	defer c.put()
	defer c.closeHandle(h)
	for {
		list, err := c.names(ctx, h)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		for _, i := range list {
			if i.Name == "." || i.Name == ".." {
				continue
			}
			if _, err := dir.Child(i.Name); err != nil {
				continue // no name that anybody could ask for
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if !show(i) {
				return nil
			}
		}
	}
}

// notDir finds out why a directory could not be used.
func (f *FS) notDir(ctx context.Context, dir vfs.Path, err error) error {
	if !isFailure(err) && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if i, serr := f.Stat(ctx, dir); serr == nil && !i.IsDir() {
		return fmt.Errorf("%w: %w", vfs.ErrNotDir, err)
	}
	return err
}

// Mkdir implements vfs.FS. Owners are the server's.
func (f *FS) Mkdir(ctx context.Context, name vfs.Path, attr vfs.Attr) error {
	err := creatable(name)
	if err == nil {
		a := vfs.Attr{Set: attr.Set & vfs.AttrMode, Mode: attr.Mode.Perm()}
		err = f.use(ctx, func(c *conn) error {
			if err := f.inside(ctx, c, name.Dir()); err != nil {
				return err
			}
			return c.do(ctx, fxpMkdir, func(w *builder) {
				w.str(f.full(name))
				w.attrs(a, -1)
			})
		})
		if isFailure(err) || errors.Is(err, fs.ErrPermission) {
			if _, serr := f.Lstat(ctx, name); serr == nil {
				err = fmt.Errorf("%w: %w", fs.ErrExist, err)
			}
		}
	}
	if err == nil && attr.Set&vfs.AttrTimes != 0 {
		attr.Set = vfs.AttrTimes
		err = f.setAttr(ctx, name, attr)
	}
	return opError("mkdir", name, err)
}

// Remove implements vfs.FS.
func (f *FS) Remove(ctx context.Context, name vfs.Path) error {
	err := removable(name)
	if err == nil {
		err = f.use(ctx, func(c *conn) error { return f.remove(ctx, c, name) })
	}
	return opError("remove", name, err)
}

func (f *FS) remove(ctx context.Context, c *conn, name vfs.Path) error {
	if err := f.inside(ctx, c, name.Dir()); err != nil {
		return err
	}
	i, err := c.attrs(ctx, fxpLstat, f.full(name), name.Base())
	if err != nil {
		return err
	}
	typ := byte(fxpRemove)
	if i.IsDir() {
		typ = fxpRmdir
	}
	err = c.do(ctx, typ, func(w *builder) { w.str(f.full(name)) })
	if isFailure(err) && i.IsDir() {
		for range f.List(ctx, name) {
			return fmt.Errorf("%w: %w", vfs.ErrNotEmpty, err)
		}
	}
	return err
}

// Rename implements vfs.FS. Without replace it asks first what stands at the target; two that do so at once are the
// server's to judge.
func (f *FS) Rename(ctx context.Context, from, to vfs.Path, replace bool) error {
	return f.RenameTo(ctx, from, f, to, replace)
}

// Reaches implements vfs.Crosser: other is on the same server, and has the same user if either storage wants that.
func (f *FS) Reaches(other vfs.FS) bool {
	o, ok := other.(*FS)
	if !ok || o.cfg.Endpoint != f.cfg.Endpoint || f.cfg.Confine || o.cfg.Confine {
		return ok && o == f
	}
	return o.cfg.Username == f.cfg.Username || !f.cfg.ByUser && !o.cfg.ByUser
}

// RenameTo implements vfs.Crosser, with the credentials of f.
func (f *FS) RenameTo(ctx context.Context, from vfs.Path, target vfs.FS, to vfs.Path, replace bool) error {
	t, ok := target.(*FS)
	if !ok {
		return opError("rename", from, vfs.ErrUnsupported)
	}
	err := removable(from)
	if err == nil {
		err = creatable(to)
	}
	if err == nil && f == t && from != to && to.Within(from) {
		err = fs.ErrInvalid
	}
	if err == nil {
		err = f.use(ctx, func(c *conn) error {
			if err := f.inside(ctx, c, from.Dir(), to.Dir()); err != nil {
				return err
			}
			return f.rename(ctx, c, f.full(from), t.full(to), replace)
		})
	}
	return opError("rename", from, err)
}

// rename moves from to to, both the server's paths. What it found out may be wrong a moment later, so that a failure
// that this could explain is looked at again, a few times.
func (f *FS) rename(ctx context.Context, c *conn, from, to string, replace bool) (err error) {
	for range 3 {
		var again bool
		if again, err = f.tryRename(ctx, c, from, to, replace); !again {
			break
		}
	}
	return err
}

func (f *FS) tryRename(ctx context.Context, c *conn, from, to string, replace bool) (again bool, err error) {
	src, err := c.attrs(ctx, fxpLstat, from, "")
	if err != nil {
		return false, err
	}
	old, err := c.attrs(ctx, fxpLstat, to, "")
	exists := err == nil || from == to
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, err
	case exists && !replace:
		return false, fs.ErrExist
	case from == to:
		return false, nil
	case exists && src.IsDir() && !old.IsDir():
		return false, vfs.ErrNotDir
	case exists && !src.IsDir() && old.IsDir():
		return false, vfs.ErrIsDir
	case src.IsDir() && strings.HasPrefix(to, from+"/"):
		return false, fs.ErrInvalid
	}
	paths := func(w *builder) {
		w.str(from)
		w.str(to)
	}
	remove := func(typ byte, name string) error {
		return c.do(ctx, typ, func(w *builder) { w.str(name) })
	}
	const hard, posix = "hardlink@openssh.com", "posix-rename@openssh.com"
	switch {
	case !replace && src.Mode.IsRegular() && c.has(hard):
		// A second name is made in one step only where there is none; RENAME of some servers replaces.
		if err = c.extended(ctx, hard, paths); err == nil {
			return false, remove(fxpRemove, from)
		}
		if _, serr := c.attrs(ctx, fxpLstat, to, ""); serr == nil {
			return false, fmt.Errorf("%w: %w", fs.ErrExist, err)
		}
		if errors.Is(err, errLost) || ctx.Err() != nil {
			return false, err
		}
		err = c.do(ctx, fxpRename, paths) // there are file systems without hard links
	case replace && c.has(posix):
		err = c.extended(ctx, posix, paths)
		if err != nil && exists && old.IsDir() && !errors.Is(err, errLost) { // not every server puts one over another
			if rerr := remove(fxpRmdir, to); isFailure(rerr) {
				return false, fmt.Errorf("%w: %w", vfs.ErrNotEmpty, rerr)
			} else if err = rerr; err == nil {
				err = c.do(ctx, fxpRename, paths)
			}
		}
	case exists:
		// This server renames over nothing: between the two calls the target is missing.
		typ := byte(fxpRemove)
		if old.IsDir() {
			typ = fxpRmdir
		}
		if err = remove(typ, to); isFailure(err) && old.IsDir() {
			return false, fmt.Errorf("%w: %w", vfs.ErrNotEmpty, err)
		}
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			err = c.do(ctx, fxpRename, paths)
		}
	default:
		err = c.do(ctx, fxpRename, paths)
	}
	return isFailure(err), err
}

// Symlink implements vfs.Linker. A target that is absolute or leaves the root is vfs.ErrEscape.
func (f *FS) Symlink(ctx context.Context, target string, link vfs.Path) error {
	err := creatable(link)
	if err == nil {
		err = vfs.CheckLinkTarget(target, link)
	}
	if err == nil && strings.Contains("/"+target, "/"+tempPrefix) {
		err = vfs.ErrEscape
	}
	if err == nil {
		err = f.use(ctx, func(c *conn) error {
			if err := f.inside(ctx, c, link.Dir()); err != nil {
				return err
			}
			// In OpenSSH's order, which all servers have: the draft's is the other one.
			return c.do(ctx, fxpSymlink, func(w *builder) {
				w.str(target)
				w.str(f.full(link))
			})
		})
		err = f.taken(ctx, link, err)
	}
	return opError("symlink", link, err)
}

// taken finds out whether a failure is that name is there.
func (f *FS) taken(ctx context.Context, name vfs.Path, err error) error {
	if isFailure(err) {
		if _, serr := f.Lstat(ctx, name); serr == nil {
			return fmt.Errorf("%w: %w", fs.ErrExist, err)
		}
	}
	return err
}

// Readlink implements vfs.Linker.
func (f *FS) Readlink(ctx context.Context, name vfs.Path) (target string, err error) {
	if err = visible(name); err == nil {
		err = f.ask(ctx, func(c *conn) error {
			if err := f.inside(ctx, c, name.Dir()); err != nil {
				return err
			}
			var err error
			if target, err = c.text(ctx, fxpReadlink, f.full(name)); err != nil && !errors.Is(err, errLost) {
				if i, serr := c.attrs(ctx, fxpLstat, f.full(name), ""); serr == nil && !i.IsSymlink() {
					err = fmt.Errorf("%w: %w", fs.ErrInvalid, err)
				}
			}
			return err
		})
	}
	return target, opError("readlink", name, err)
}

// Link implements vfs.Linker, vfs.ErrUnsupported where the server has no hard links.
func (f *FS) Link(ctx context.Context, old, new vfs.Path) error {
	err := removable(old)
	if err == nil {
		err = creatable(new)
	}
	if err == nil {
		err = f.use(ctx, func(c *conn) error {
			if err := f.inside(ctx, c, old.Dir(), new.Dir()); err != nil {
				return err
			}
			return c.extended(ctx, "hardlink@openssh.com", func(w *builder) {
				w.str(f.full(old))
				w.str(f.full(new))
			})
		})
		err = f.taken(ctx, new, err)
		if isFailure(err) || errors.Is(err, fs.ErrPermission) {
			if i, serr := f.Lstat(ctx, old); serr == nil && i.IsDir() {
				err = fmt.Errorf("%w: %w", fs.ErrPermission, err)
			}
		}
	}
	return opError("link", old, err)
}

// SetAttr implements vfs.AttrSetter. A link's own attributes need the server's lsetstat@openssh.com.
func (f *FS) SetAttr(ctx context.Context, name vfs.Path, attr vfs.Attr, follow bool) error {
	err := visible(name)
	if err == nil {
		if follow {
			err = f.setAttr(ctx, name, attr)
		} else {
			err = f.use(ctx, func(c *conn) error {
				if err := f.inside(ctx, c, name.Dir()); err != nil {
					return err
				}
				i, err := c.attrs(ctx, fxpLstat, f.full(name), "")
				switch {
				case err != nil:
					return err
				case !i.IsSymlink():
					return f.setstat(ctx, c, name, attr)
				case attr.Set&vfs.AttrMode != 0:
					return vfs.ErrUnsupported // a link has no mode
				}
				return c.extended(ctx, "lsetstat@openssh.com", func(w *builder) {
					w.str(f.full(name))
					w.attrs(attr, -1)
				})
			})
		}
	}
	return opError("setattr", name, err)
}

func (f *FS) setAttr(ctx context.Context, name vfs.Path, attr vfs.Attr) error {
	return f.use(ctx, func(c *conn) error {
		if err := f.inside(ctx, c, name); err != nil {
			return err
		}
		return f.setstat(ctx, c, name, attr)
	})
}

func (f *FS) setstat(ctx context.Context, c *conn, name vfs.Path, attr vfs.Attr) error {
	return c.do(ctx, fxpSetstat, func(w *builder) {
		w.str(f.full(name))
		w.attrs(attr, -1)
	})
}

// StatFS implements vfs.StatFSer, vfs.ErrUnsupported where the server does not tell.
func (f *FS) StatFS(ctx context.Context, name vfs.Path) (s vfs.StatFS, err error) {
	const ext = "statvfs@openssh.com"
	if err = visible(name); err == nil {
		err = f.ask(ctx, func(c *conn) error {
			if !c.has(ext) {
				return vfs.ErrUnsupported
			}
			buf, w := begin(fxpExtended)
			w.str(ext)
			w.str(f.full(name))
			r, err := c.ask(ctx, buf, w)
			if err != nil {
				return err
			}
			defer r.free()
			if err := r.want(fxpExtReply); err != nil {
				return err
			}
			p := &r.body
			s.BlockSize = p.u64()
			if frag := p.u64(); frag > 0 {
				s.BlockSize = frag // which blocks are counted in
			}
			s.Blocks, s.Free, s.Avail = p.u64(), p.u64(), p.u64()
			s.Files, s.FilesFree = p.u64(), p.u64()
			p.u64()
			s.ID = p.u64()
			s.ReadOnly = p.u64()&1 != 0
			s.NameMax = p.u64()
			return p.err()
		})
	}
	return s, opError("statfs", name, err)
}

// DirSize implements vfs.DirSizer.
func (f *FS) DirSize(ctx context.Context, name vfs.Path) (files int, bytes int64, err error) {
	i, err := f.Lstat(ctx, name)
	switch {
	case err != nil:
		return 0, 0, err
	case i.Mode.IsRegular():
		return 1, i.Size, nil
	case !i.IsDir():
		return 0, 0, nil
	}
	err = f.walk(ctx, name, func(_ vfs.Path, i vfs.FileInfo) error {
		if i.Mode.IsRegular() && !isTemp(i.Name) {
			files, bytes = files+1, bytes+i.Size
		}
		return nil
	})
	return files, bytes, opError("dirsize", name, err)
}

// Sweep implements vfs.Sweeper. Times are the server's.
func (f *FS) Sweep(ctx context.Context, t time.Time) (removed int, err error) {
	err = f.walk(ctx, vfs.Root, func(dir vfs.Path, i vfs.FileInfo) error {
		if !strings.HasPrefix(i.Name, tempPrefix) || !i.Mode.IsRegular() || !i.ModTime.Before(t) {
			return nil
		}
		err := f.use(ctx, func(c *conn) error {
			return c.do(ctx, fxpRemove, func(w *builder) { w.str(path.Join(f.full(dir), i.Name)) })
		})
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			removed++
		}
		return err
	})
	return removed, opError("sweep", vfs.Root, err)
}

// walk visits what lies below dir.
func (f *FS) walk(ctx context.Context, dir vfs.Path, visit func(dir vfs.Path, i vfs.FileInfo) error) error {
	return vfs.Walk(ctx, dir, f.listAll, func(name string) bool { return !isTemp(name) }, visit)
}

// Describe implements vfs.Describer.
func (f *FS) Describe(name vfs.Path) vfs.Description {
	return vfs.Description{
		Provider: 5, Endpoint: f.cfg.Endpoint, StoragePath: f.full(name), Remote: true, Identity: f.cfg.identity(),
	}
}

// opError says what was tried, by the virtual path. It is nil for a nil err.
func opError(op string, name vfs.Path, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name.String(), Err: err}
}
