package sftpfs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

// cleanWait is how long the end of an upload that nobody waits for may take.
const cleanWait = 30 * time.Second

// upload is a file being written. Safe for concurrent use.
type upload struct {
	f      *FS
	name   vfs.Path
	target string // where it will stand on the server
	temp   string // where it stands until then, "" in place
	h      string
	c      *conn
	mode   vfs.OpenMode
	ctx    context.Context // ends with Abort
	end    context.CancelCauseFunc
	tokens chan struct{} // one for each WRITE that may be under way

	order sync.Mutex // held by an append while it is written

	mu    sync.Mutex // guards the fields below
	busy  int        // WRITEs under way
	quiet chan struct{}
	err   error // the first WRITE that failed
	size  int64 // the end of what was written
	over  bool
	shut  bool // the handle is closed: the server may give its name to another
}

var _ vfs.Upload = (*upload)(nil)

// readUpload is an upload that is also a reader: OpenMode.Read.
type readUpload struct{ *upload }

// Create implements vfs.FS. A file that is written in place is opened as it is asked for; an atomic one is written
// beside its target and renamed over it.
func (f *FS) Create(ctx context.Context, name vfs.Path, mode vfs.OpenMode) (vfs.Upload, error) {
	u, err := f.create(ctx, name, mode)
	if err != nil {
		return nil, opError("create", name, err)
	}
	if mode.Read {
		return &readUpload{u}, nil
	}
	return u, nil
}

func (f *FS) create(ctx context.Context, name vfs.Path, mode vfs.OpenMode) (_ *upload, err error) {
	if name.IsRoot() {
		return nil, vfs.ErrIsDir
	}
	if err := creatable(name); err != nil {
		return nil, err
	}
	u := &upload{f: f, name: name, target: f.full(name), mode: mode, tokens: make(chan struct{}, max(f.cfg.Window/chunk, 1))}
	if u.c, err = f.get(ctx); err != nil {
		return nil, err
	}
	u.ctx, u.end = context.WithCancelCause(context.WithoutCancel(ctx)) // Abort ends it
	defer func() {
		if err != nil {
			u.end(err)
			u.c.put()
		}
	}()
	leads := name
	if mode.Atomic || mode.Exclusive {
		leads = name.Dir() // the link itself is replaced, or refused
	}
	if err := f.inside(ctx, u.c, leads); err != nil {
		return nil, err
	}
	old, err := f.standing(ctx, u.c, name, mode)
	if err != nil {
		return nil, err
	}
	if mode.Atomic {
		return u, u.beginTemp(ctx, old)
	}
	return u, u.beginInPlace(ctx, old)
}

// standing looks at what is there, nil for nothing, and refuses what cannot be written.
func (f *FS) standing(ctx context.Context, c *conn, name vfs.Path, mode vfs.OpenMode) (*vfs.FileInfo, error) {
	i, err := c.attrs(ctx, fxpLstat, f.full(name), name.Base())
	link := err == nil && i.IsSymlink()
	if link {
		if mode.Exclusive {
			return nil, fs.ErrExist
		}
		i, err = c.attrs(ctx, fxpStat, f.full(name), name.Base())
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && !mode.MustExist:
		return nil, nil
	case err != nil:
		return nil, err
	case mode.Exclusive:
		return nil, fs.ErrExist
	}
	return &i, vfs.Regular(i)
}

func (u *upload) open(ctx context.Context, name string, flags uint32, a vfs.Attr) (string, error) {
	return u.c.handle(ctx, fxpOpen, func(w *builder) {
		w.str(name)
		w.u32(flags)
		w.attrs(a, -1)
	})
}

// permOf is the mode of a new file, as far as it is asked for.
func permOf(m fs.FileMode) vfs.Attr {
	if m.Perm() == 0 {
		return vfs.Attr{}
	}
	return vfs.Attr{Set: vfs.AttrMode, Mode: m.Perm()}
}

func (u *upload) beginInPlace(ctx context.Context, old *vfs.FileInfo) (err error) {
	m := u.mode
	flags := uint32(fxfWrite)
	if m.Read {
		flags |= fxfRead
	}
	if m.Append {
		flags |= fxfAppend
	}
	if m.Truncate {
		flags |= fxfTrunc
	}
	if m.Exclusive {
		flags |= fxfExcl
	}
	if !m.MustExist {
		flags |= fxfCreat
	}
	if m.MustExist && m.Truncate {
		flags &^= fxfTrunc // which some servers take with CREAT only
	}
	if u.h, err = u.open(ctx, u.target, flags, permOf(m.Perm)); err != nil {
		if m.Exclusive {
			err = u.f.taken(ctx, u.name, err)
		}
		return err
	}
	if m.MustExist && m.Truncate {
		if err := u.setstat(ctx, vfs.Attr{}, 0); err != nil {
			u.c.closeHandle(u.h)
			return err
		}
	} else if old != nil && !m.Truncate {
		u.size = old.Size
	}
	return nil
}

// beginTemp opens a temporary file, with the old content if that is to stay.
func (u *upload) beginTemp(ctx context.Context, old *vfs.FileInfo) (err error) {
	u.temp = path.Join(path.Dir(u.target), tempPrefix+strings.ToLower(rand.Text()))
	perm := permOf(u.mode.Perm)
	if old != nil && old.Mode.Perm() != 0 {
		perm = vfs.Attr{Set: vfs.AttrMode, Mode: old.Mode.Perm()}
	}
	flags := uint32(fxfWrite | fxfCreat | fxfExcl)
	if u.mode.Read {
		flags |= fxfRead
	}
	if u.h, err = u.open(ctx, u.temp, flags, perm); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			u.c.closeHandle(u.h)
			u.removeTemp()
		}
	}()
	if old != nil && perm.Set != 0 { // as much as the server allows
		if err := u.setstat(ctx, perm, -1); errors.Is(err, errLost) {
			return err
		}
	}
	if old == nil || u.mode.Truncate {
		return nil
	}
	return u.clone(ctx, old.Size)
}

// clone copies the old content: by the server where it can (copy-data of draft-ietf-secsh-filexfer-extensions-00),
// else through us.
func (u *upload) clone(ctx context.Context, size int64) error {
	h, err := u.f.open(ctx, u.name)
	if err != nil {
		return err
	}
	defer h.Close()
	if size > 0 && h.c == u.c && u.c.has("copy-data") {
		err := u.c.extended(ctx, "copy-data", func(w *builder) {
			w.str(h.h)
			w.u64(0)
			w.u64(0) // to the end
			w.str(u.h)
			w.u64(0)
		})
		if err == nil {
			u.size = size
			return nil
		}
		if errors.Is(err, errLost) || ctx.Err() != nil {
			return err
		}
	}
	buf := make([]byte, 8*chunk)
	for off := int64(0); ; {
		n, err := h.ReadAt(buf, off)
		if n > 0 {
			if _, err := u.write(buf[:n], off); err != nil {
				return err
			}
			off += int64(n)
		}
		if err == io.EOF {
			return u.settle(ctx)
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

// WriteAt implements vfs.Upload. It waits until the window has room; what the server says of it comes later. With
// OpenMode.Read and in an append it is acknowledged.
func (u *upload) WriteAt(p []byte, off int64) (n int, err error) {
	switch {
	case u.mode.Append:
		n, err = u.writeEnd(p)
	case off < 0 || off > 1<<63-1-int64(len(p)):
		err = fs.ErrInvalid
	default:
		if n, err = u.write(p, off); err == nil && u.mode.Read {
			err = u.settle(u.ctx)
		}
	}
	return n, opError("write", u.name, u.cause(err))
}

// cause is why the upload ended, where that is what err says.
func (u *upload) cause(err error) error {
	if c := context.Cause(u.ctx); err != nil && c != nil {
		return c
	}
	return err
}

// writeEnd writes at the end: in place the server finds it, and nothing else of ours is under way; a temporary file
// has one writer.
func (u *upload) writeEnd(p []byte) (int, error) {
	u.order.Lock()
	defer u.order.Unlock()
	u.mu.Lock()
	end := u.size
	u.mu.Unlock()
	for n := 0; n < len(p); {
		m := min(len(p)-n, chunk)
		if _, err := u.write(p[n:n+m], end+int64(n)); err != nil {
			return n, err
		}
		if err := u.settle(u.ctx); err != nil {
			return n, err
		}
		n += m
	}
	return len(p), nil
}

// write sends p in pieces.
func (u *upload) write(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		select {
		case u.tokens <- struct{}{}:
		case <-u.ctx.Done():
			return n, context.Cause(u.ctx)
		}
		m := min(len(p)-n, chunk)
		u.mu.Lock()
		if err := u.failed(); err != nil {
			u.mu.Unlock()
			<-u.tokens
			return n, err
		}
		u.busy++
		u.size = max(u.size, off+int64(n+m))
		u.mu.Unlock()
		buf, w := begin(fxpWrite)
		w.str(u.h)
		w.u64(uint64(off) + uint64(n))
		w.u32(uint32(m))
		w.b = append(w.b, p[n:n+m]...)
		if err := u.c.send(u.ctx, buf, w, func(r reply) {
			err := r.want(fxpStatus)
			r.free()
			u.written(err)
		}); err != nil {
			u.written(err)
			return n, err
		}
		n += m
	}
	return n, nil
}

// failed is why nothing more can be written. The caller holds mu.
func (u *upload) failed() error {
	if u.over {
		return fs.ErrClosed
	}
	return u.err
}

// written ends one WRITE.
func (u *upload) written(err error) {
	u.mu.Lock()
	if err != nil && u.err == nil {
		u.err = err
	}
	u.busy--
	if u.busy == 0 && u.quiet != nil {
		close(u.quiet)
		u.quiet = nil
	}
	u.mu.Unlock()
	<-u.tokens
}

// settle waits for the acknowledgement of all that is written.
func (u *upload) settle(ctx context.Context) error {
	u.mu.Lock()
	var quiet chan struct{}
	if u.busy > 0 {
		if u.quiet == nil {
			u.quiet = make(chan struct{})
		}
		quiet = u.quiet
	}
	err := u.failed()
	u.mu.Unlock()
	if quiet == nil || err != nil {
		return err
	}
	select {
	case <-quiet:
	case <-ctx.Done():
		return ctx.Err()
	case <-u.ctx.Done():
		return context.Cause(u.ctx)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.failed()
}

// setstat changes the open file.
func (u *upload) setstat(ctx context.Context, a vfs.Attr, size int64) error {
	return u.c.do(ctx, fxpFsetstat, func(w *builder) {
		w.str(u.h)
		w.attrs(a, size)
	})
}

// ReadAt implements io.ReaderAt for OpenMode.Read.
func (u *readUpload) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, opError("read", u.name, fs.ErrInvalid)
	}
	for n < len(p) && err == nil {
		k := piece{size: min(len(p)-n, chunk)}
		buf, w := begin(fxpRead)
		w.str(u.h)
		w.u64(uint64(off) + uint64(n))
		w.u32(uint32(k.size))
		var r reply
		if r, err = u.c.ask(u.ctx, buf, w); err == nil {
			k.take(r)
			n += copy(p[n:], k.data)
			err = k.err
			k.r.free()
		}
	}
	if err == io.EOF {
		return n, err
	}
	return n, opError("read", u.name, u.cause(err))
}

// Truncate implements vfs.Upload.
func (u *upload) Truncate(size int64) error {
	err := error(fs.ErrInvalid)
	if size >= 0 {
		u.order.Lock()
		defer u.order.Unlock()
		if err = u.settle(u.ctx); err == nil {
			if err = u.setstat(u.ctx, vfs.Attr{}, size); err == nil {
				u.mu.Lock()
				u.size = size
				u.mu.Unlock()
			}
		}
	}
	return opError("truncate", u.name, u.cause(err))
}

// Sync implements vfs.Upload, vfs.ErrUnsupported where the server offers no fsync@openssh.com.
func (u *upload) Sync() error {
	err := u.settle(u.ctx)
	if err == nil {
		err = u.c.extended(u.ctx, "fsync@openssh.com", func(w *builder) { w.str(u.h) })
	}
	return opError("sync", u.name, u.cause(err))
}

// Stat implements vfs.Upload.
func (u *upload) Stat() (vfs.FileInfo, error) {
	err := u.settle(u.ctx)
	var i vfs.FileInfo
	if err == nil {
		i, err = u.c.attrs(u.ctx, fxpFstat, u.h, u.name.Base())
	}
	return i, opError("fstat", u.name, u.cause(err))
}

// SetAttr implements vfs.Upload.
func (u *upload) SetAttr(a vfs.Attr) error {
	err := u.settle(u.ctx)
	if err == nil {
		err = u.setstat(u.ctx, a, -1)
	}
	return opError("setattr", u.name, u.cause(err))
}

// Commit implements vfs.Upload.
func (u *upload) Commit(ctx context.Context) (vfs.FileInfo, error) {
	i, err := u.commit(ctx)
	return i, opError("commit", u.name, u.cause(err))
}

func (u *upload) commit(ctx context.Context) (i vfs.FileInfo, err error) {
	if err := ctx.Err(); err != nil {
		return i, err
	}
	if err := u.settle(ctx); err != nil {
		return i, err
	}
	if i, err = u.c.attrs(ctx, fxpFstat, u.h, u.name.Base()); err != nil {
		return i, err
	}
	// Some servers tell of a full disk only now.
	u.mu.Lock()
	if u.over || u.shut {
		u.mu.Unlock()
		return i, fs.ErrClosed
	}
	u.shut = true
	u.mu.Unlock()
	if err = u.c.do(ctx, fxpClose, func(w *builder) { w.str(u.h) }); err != nil {
		return i, err
	}
	if u.temp != "" {
		if err = u.publish(ctx); err != nil {
			return i, err
		}
	}
	u.mu.Lock()
	u.over = true
	u.mu.Unlock()
	u.end(fs.ErrClosed)
	u.c.put()
	return i, nil
}

// publish renames the temporary file to its target.
func (u *upload) publish(ctx context.Context) error {
	if !u.mode.Exclusive && u.c.has("posix-rename@openssh.com") {
		err := u.c.extended(ctx, "posix-rename@openssh.com", func(w *builder) {
			w.str(u.temp)
			w.str(u.target)
		})
		if err != nil && !errors.Is(err, errLost) {
			if i, serr := u.c.attrs(ctx, fxpLstat, u.target, ""); serr == nil && i.IsDir() {
				err = fmt.Errorf("%w: %w", vfs.ErrIsDir, err)
			}
		}
		return err
	}
	if !u.mode.Exclusive {
		return u.f.rename(ctx, u.c, u.temp, u.target, true)
	}
	// A second name is made in one step where there is none.
	err := u.c.extended(ctx, "hardlink@openssh.com", func(w *builder) {
		w.str(u.temp)
		w.str(u.target)
	})
	if err == nil {
		return u.c.do(ctx, fxpRemove, func(w *builder) { w.str(u.temp) })
	}
	if errors.Is(err, errLost) || ctx.Err() != nil {
		return err
	}
	return u.f.rename(ctx, u.c, u.temp, u.target, false)
}

// Abort implements vfs.Upload. The file is closed, and a temporary one removed: by another connection if this one is
// lost. It does not wait for that longer than 30 seconds.
func (u *upload) Abort(ctx context.Context) error {
	u.mu.Lock()
	if u.over {
		u.mu.Unlock()
		return opError("abort", u.name, fs.ErrClosed)
	}
	u.over = true
	shut := u.shut
	u.mu.Unlock()
	u.end(fs.ErrClosed)
	if !shut {
		u.c.closeHandle(u.h)
	}
	u.c.put()
	if u.temp == "" {
		return nil
	}
	return opError("abort", u.name, u.removeTemp())
}

// removeTemp removes the temporary file. Whoever wanted the upload may have gone.
func (u *upload) removeTemp() error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanWait)
	defer cancel()
	try := func() error {
		c, err := u.f.r.get(ctx) // also where the tree is closed
		if err != nil {
			return err
		}
		defer c.put()
		return c.do(ctx, fxpRemove, func(w *builder) { w.str(u.temp) })
	}
	err := try()
	if errors.Is(err, errLost) {
		err = try()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the temporary file %s stays: %w", path.Base(u.temp), err)
	}
	return nil
}
