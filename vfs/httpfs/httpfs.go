// Package httpfs is a storage behind a small REST service: whoever writes that service brings any storage to the
// server. A call is an operation and a path, which is escaped to one segment of the URL and begins with a slash:
//
//	GET    /stat/{path}                     an object: {"name", "size", "mode", "last_modified"}, and "last_accessed" where known
//	GET    /readdir/{path}                  an array of objects
//	GET    /open/{path}?offset=N            the content from there to the end
//	POST   /create/{path}                   the body becomes the file's content, whole
//	PATCH  /rename/{path}?target={path}     a file at the target is replaced
//	DELETE /remove/{path}                   a file or an empty directory
//	POST   /mkdir/{path}
//	PATCH  /chmod/{path}?mode=N             decimal
//	PATCH  /chtimes/{path}?access_time=T&modification_time=T
//	GET    /dirsize/{path}                  {"files", "size"}; optional
//	GET    /statvfs/{path}                  {"bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail", "namemax"}; optional
//
// A mode has the bits of Go's fs.FileMode; times are RFC 3339. An answer to open should tell its Content-Length. Names
// that are no UTF-8 are escaped as in vfs/object. 404 is what is not there, 403 what is not allowed, 409
// what is in the way, 507 no room, 501 and 405 what the service cannot do; {"message", "error"} goes to the log.
// Credentials are basic authentication and the header X-API-KEY.
//
// Uploads stream into a temporary name beside their target and are renamed when their length is what was sent, so
// that a lost client or service leaves the old file or none. A file is written as a whole: writes may be out of order
// within 2 MiB, outside it they are vfs.ErrOutOfOrder; to resume, to append and to truncate is vfs.ErrUnsupported. An
// upload holds at most 3 MiB, a download 2 MiB.
//
// What the service sends is judged here: names are one component or left out, lengths and listings are bounded by
// entry and by time. It is asked again, with back-off, only for what changes nothing.
package httpfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/object"
)

// tempPrefix begins the names of our temporary files there. The service may hide what Gantry's own begin with.
const tempPrefix = ".gantry-part."

// FS is the tree of a service. Safe for concurrent use.
type FS struct {
	r      *remote
	byUser bool
	closed atomic.Bool
}

var (
	_ vfs.FS         = (*FS)(nil)
	_ vfs.AttrSetter = (*FS)(nil)
	_ vfs.StatFSer   = (*FS)(nil)
	_ vfs.DirSizer   = (*FS)(nil)
	_ vfs.Sweeper    = (*FS)(nil)
	_ vfs.Describer  = (*FS)(nil)
	_ vfs.Crosser    = (*FS)(nil)
)

// Close implements vfs.FS. Open handles stay usable.
func (f *FS) Close() error {
	if f.closed.Swap(true) {
		return fs.ErrClosed
	}
	f.r.pool.release(f.r)
	return nil
}

// Describe implements vfs.Describer.
func (f *FS) Describe(name vfs.Path) vfs.Description {
	return vfs.Description{
		Provider: 6, Endpoint: f.r.cfg.Endpoint, StoragePath: name.String(), Remote: true, Whole: true, Identity: f.r.identity(),
	}
}

// opError says what was tried, by the virtual path. It is nil for a nil err.
func opError(op string, name vfs.Path, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name.String(), Err: err}
}

// isTemp reports whether name, one component, is that of a temporary file of ours or of a Gantry's.
func isTemp(name string) bool { return strings.HasPrefix(name, tempPrefix) || vfs.IsTempName(name) }

// visible, removable and creatable judge a path before the service sees it.
func (f *FS) visible(ctx context.Context, name vfs.Path) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case f.closed.Load():
		return fs.ErrClosed
	case hasTemp(name):
		return fs.ErrNotExist
	}
	return nil
}

func hasTemp(name vfs.Path) bool {
	return name.HasTempName() || strings.Contains(name.String(), "/"+tempPrefix)
}

func (f *FS) removable(ctx context.Context, name vfs.Path) error {
	if name.IsRoot() {
		return fs.ErrPermission
	}
	return f.visible(ctx, name)
}

func (f *FS) creatable(ctx context.Context, name vfs.Path) error {
	switch err := f.visible(ctx, name); {
	case name.IsRoot():
		return fs.ErrExist
	case errors.Is(err, fs.ErrNotExist):
		return fs.ErrPermission
	default:
		return err
	}
}

// Stat implements vfs.FS.
func (f *FS) Stat(ctx context.Context, name vfs.Path) (vfs.FileInfo, error) {
	return f.stat(ctx, "stat", name)
}

// Lstat is Stat: the service follows links or has none.
func (f *FS) Lstat(ctx context.Context, name vfs.Path) (vfs.FileInfo, error) {
	return f.stat(ctx, "lstat", name)
}

func (f *FS) stat(ctx context.Context, op string, name vfs.Path) (i vfs.FileInfo, err error) {
	if err = f.visible(ctx, name); err == nil {
		i, err = f.r.stat(ctx, name)
	}
	return i, opError(op, name, err)
}

// List implements vfs.FS: in the service's order, as the answer comes.
func (f *FS) List(ctx context.Context, dir vfs.Path) iter.Seq2[vfs.FileInfo, error] {
	return func(yield func(vfs.FileInfo, error) bool) {
		err := f.listAll(ctx, dir, func(i vfs.FileInfo) bool { return isTemp(i.Name) || yield(i, nil) })
		if err != nil {
			yield(vfs.FileInfo{}, opError("list", dir, err))
		}
	}
}

// listAll shows the entries, temporary files too, until show says false.
func (f *FS) listAll(ctx context.Context, dir vfs.Path, show func(vfs.FileInfo) bool) error {
	if err := f.visible(ctx, dir); err != nil {
		return err
	}
	stopped := false
	err := f.r.entries(ctx, dir.String(), func(i info) bool {
		e := i.show("")
		if _, err := dir.Child(e.Name); err != nil {
			return true // no name that anybody could ask for
		}
		if ctx.Err() != nil {
			return false
		}
		stopped = !show(e)
		return !stopped
	})
	if err == nil && !stopped {
		err = ctx.Err()
	}
	if err != nil && statusOf(err) != 0 && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		if i, serr := f.r.stat(ctx, dir); serr == nil && !i.IsDir() {
			err = fmt.Errorf("%w: %w", vfs.ErrNotDir, err)
		}
	}
	return err
}

// Mkdir implements vfs.FS. Owners are the service's.
func (f *FS) Mkdir(ctx context.Context, name vfs.Path, attr vfs.Attr) error {
	return opError("mkdir", name, f.mkdir(ctx, name, attr))
}

func (f *FS) mkdir(ctx context.Context, name vfs.Path, attr vfs.Attr) error {
	if err := f.creatable(ctx, name); err != nil {
		return err
	}
	unlock, err := f.r.names.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	switch _, err := f.r.stat(ctx, name); { // not every service refuses a second one
	case err == nil:
		return fs.ErrExist
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := f.r.do(ctx, http.MethodPost, "mkdir", name.String(), nil); err != nil {
		return f.taken(ctx, name, err)
	}
	attr.Set &= vfs.AttrMode | vfs.AttrTimes
	return f.setAttr(ctx, name, attr)
}

// taken finds out whether a refusal is that name is there.
func (f *FS) taken(ctx context.Context, name vfs.Path, err error) error {
	if s := statusOf(err); s == http.StatusConflict || s == http.StatusInternalServerError || s == http.StatusBadRequest {
		if _, serr := f.r.stat(ctx, name); serr == nil {
			return fmt.Errorf("%w: %w", fs.ErrExist, err)
		}
	}
	return err
}

// Remove implements vfs.FS.
func (f *FS) Remove(ctx context.Context, name vfs.Path) error {
	err := f.removable(ctx, name)
	if err == nil {
		err = f.remove(ctx, name)
	}
	return opError("remove", name, err)
}

func (f *FS) remove(ctx context.Context, name vfs.Path) error {
	unlock, err := f.r.names.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	i, err := f.r.stat(ctx, name)
	if err != nil {
		return err
	}
	if i.IsDir() { // a service may remove all that is in it
		empty, err := f.empty(ctx, name)
		if err != nil {
			return err
		}
		if !empty {
			return vfs.ErrNotEmpty
		}
	}
	return f.r.do(ctx, http.MethodDelete, "remove", name.String(), nil)
}

// empty reports whether a directory has no entries, temporary files included.
func (f *FS) empty(ctx context.Context, dir vfs.Path) (bool, error) {
	empty := true
	err := f.r.entries(ctx, dir.String(), func(i info) bool {
		if i.Name == "." || i.Name == ".." {
			return true
		}
		empty = false
		return false
	})
	return empty, err
}

// Rename implements vfs.FS. What stands at the target is looked at first; two processes that do so at once are the
// service's to judge.
func (f *FS) Rename(ctx context.Context, from, to vfs.Path, replace bool) error {
	return f.RenameTo(ctx, from, f, to, replace)
}

// Reaches implements vfs.Crosser: other is on the same service, and has the same user if either storage wants that.
func (f *FS) Reaches(other vfs.FS) bool {
	o, ok := other.(*FS)
	if !ok || o.r.cfg.Endpoint != f.r.cfg.Endpoint {
		return false
	}
	return o.r.cfg.Username == f.r.cfg.Username || !f.byUser && !o.byUser
}

// RenameTo implements vfs.Crosser, with the credentials of f.
func (f *FS) RenameTo(ctx context.Context, from vfs.Path, target vfs.FS, to vfs.Path, replace bool) error {
	t, ok := target.(*FS)
	if !ok {
		return opError("rename", from, vfs.ErrUnsupported)
	}
	err := f.removable(ctx, from)
	if err == nil {
		err = t.creatable(ctx, to)
	}
	if err == nil && from != to && to.Within(from) {
		err = fs.ErrInvalid
	}
	if err == nil {
		err = f.rename(ctx, from, to, replace)
	}
	return opError("rename", from, err)
}

func (f *FS) rename(ctx context.Context, from, to vfs.Path, replace bool) error {
	unlock, err := f.r.names.lock(ctx, from, to)
	if err != nil {
		return err
	}
	defer unlock()
	src, err := f.r.stat(ctx, from)
	if err != nil {
		return err
	}
	old, err := f.r.stat(ctx, to)
	exists := err == nil
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case exists && !replace:
		return fs.ErrExist
	case from == to:
		return nil
	case exists && src.IsDir() && !old.IsDir():
		return vfs.ErrNotDir
	case exists && !src.IsDir() && old.IsDir():
		return vfs.ErrIsDir
	case exists && old.IsDir(): // not every service puts one over another
		empty, err := f.empty(ctx, to)
		if err != nil {
			return err
		}
		if !empty {
			return vfs.ErrNotEmpty
		}
		if err := f.r.do(ctx, http.MethodDelete, "remove", to.String(), nil); err != nil {
			return err
		}
	}
	return f.move(ctx, from.String(), to)
}

// move is the service's rename.
func (f *FS) move(ctx context.Context, from string, to vfs.Path) error {
	return f.r.do(ctx, http.MethodPatch, "rename", from, url.Values{"target": {object.EscapeName(to.String(), nil)}})
}

// SetAttr implements vfs.AttrSetter: modes and times. Owners are the service's.
func (f *FS) SetAttr(ctx context.Context, name vfs.Path, attr vfs.Attr, _ bool) error {
	err := f.visible(ctx, name)
	if err == nil && attr.Set&vfs.AttrOwner != 0 {
		err = fmt.Errorf("%w: files of this storage have no owner", vfs.ErrUnsupported)
	}
	if err == nil {
		err = f.setAttr(ctx, name, attr)
	}
	return opError("setattr", name, err)
}

func (f *FS) setAttr(ctx context.Context, name vfs.Path, attr vfs.Attr) error {
	return f.setText(ctx, name.String(), attr)
}

// setText is setAttr by the service's path.
func (f *FS) setText(ctx context.Context, path string, attr vfs.Attr) error {
	if attr.Set&vfs.AttrMode != 0 {
		mode := attr.Mode & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
		if err := f.r.do(ctx, http.MethodPatch, "chmod", path, url.Values{"mode": {strconv.FormatUint(uint64(mode), 10)}}); err != nil {
			return err
		}
	}
	if attr.Set&vfs.AttrTimes != 0 {
		return f.r.do(ctx, http.MethodPatch, "chtimes", path, url.Values{
			"access_time": {attr.Atime.UTC().Format(time.RFC3339Nano)}, "modification_time": {attr.Mtime.UTC().Format(time.RFC3339Nano)},
		})
	}
	return nil
}

// StatFS implements vfs.StatFSer, vfs.ErrUnsupported where the service does not tell.
func (f *FS) StatFS(ctx context.Context, name vfs.Path) (vfs.StatFS, error) {
	err := f.visible(ctx, name)
	var st struct {
		Bsize, Frsize, Blocks, Bfree, Bavail, Files, Ffree, Favail, Namemax uint64
	}
	if err == nil {
		err = f.r.object(ctx, "statvfs", name.String(), &st)
	}
	if errors.Is(err, fs.ErrNotExist) {
		if _, serr := f.r.stat(ctx, name); serr == nil { // the operation is what is missing
			err = fmt.Errorf("%w: %w", vfs.ErrUnsupported, err)
		}
	}
	if err != nil {
		return vfs.StatFS{}, opError("statfs", name, err)
	}
	size := st.Frsize
	if size == 0 {
		size = st.Bsize
	}
	return vfs.StatFS{
		BlockSize: size, Blocks: st.Blocks, Free: st.Bfree, Avail: st.Bavail, Files: st.Files, FilesFree: st.Ffree, NameMax: st.Namemax,
	}, nil
}

// DirSize implements vfs.DirSizer: by walking, for the service would count what is hidden, too.
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

// Sweep implements vfs.Sweeper. Times are the service's.
func (f *FS) Sweep(ctx context.Context, t time.Time) (removed int, err error) {
	err = f.walk(ctx, vfs.Root, func(dir vfs.Path, i vfs.FileInfo) error {
		if !strings.HasPrefix(i.Name, tempPrefix) || !i.Mode.IsRegular() || !i.ModTime.Before(t) {
			return nil
		}
		err := f.r.do(ctx, http.MethodDelete, "remove", below(dir, i.Name), nil)
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

// below is the service's path of a name in dir that a Path does not take.
func below(dir vfs.Path, name string) string {
	return strings.TrimSuffix(dir.String(), "/") + "/" + name
}

// walk visits what lies below dir.
func (f *FS) walk(ctx context.Context, dir vfs.Path, visit func(dir vfs.Path, i vfs.FileInfo) error) error {
	return vfs.Walk(ctx, dir, f.listAll, func(name string) bool { return !isTemp(name) }, visit)
}
