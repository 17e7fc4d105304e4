package httpfs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

const (
	// window is how far ahead of the first missing byte a write may end, in bytes.
	window = 2 << 20
	// backlog is how much may wait for the service.
	backlog = 1 << 20
	// piece is how much of a write is taken at once.
	piece = 256 << 10
	// maxRuns bounds how many pieces may lie ahead of a gap.
	maxRuns = 256
	// cleanWait is how long the end of an upload that nobody waits for may take.
	cleanWait = 30 * time.Second
)

// upload is a file being written. It lies in a ring until the service takes it. Safe for concurrent use.
type upload struct {
	f      *FS // immutable, as all up to done
	name   vfs.Path
	temp   string // the service's path until Commit
	mode   vfs.OpenMode
	ctx    context.Context
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when the service has answered, or failed

	mu       sync.Mutex // guards the fields below
	progress sync.Cond  // the service has taken something, or the upload ends
	old      *vfs.FileInfo
	ring     []byte // that at offset x is ring[x % len]
	kept     int64  // from here on ring holds all that was written
	sent     int64  // what the service has taken
	next     int64  // the first byte that is missing
	ahead    []run  // beyond next, sorted, apart
	whole    bool   // Commit has begun: nothing comes after next
	over     bool
	err      error // the service's
	attr     vfs.Attr
}

// run is a piece that was received ahead of its turn.
type run struct{ from, to int64 }

var _ vfs.Upload = (*upload)(nil)

// Create implements vfs.FS. The file is written as a whole, whatever mode says, and stands there with Commit.
func (f *FS) Create(ctx context.Context, name vfs.Path, mode vfs.OpenMode) (vfs.Upload, error) {
	u, err := f.create(ctx, name, mode)
	if err != nil {
		return nil, opError("create", name, err)
	}
	return u, nil
}

func (f *FS) create(ctx context.Context, name vfs.Path, mode vfs.OpenMode) (*upload, error) {
	if name.IsRoot() {
		return nil, vfs.ErrIsDir
	}
	if err := f.creatable(ctx, name); err != nil {
		return nil, err
	}
	if mode.Read {
		return nil, fmt.Errorf("%w: a file of this storage is not read while it is written", vfs.ErrUnsupported)
	}
	old, err := f.standing(ctx, name, mode)
	if err != nil {
		return nil, err
	}
	if old == nil { // the temporary name must not be what makes a directory
		if err := f.isDir(ctx, name.Dir()); err != nil {
			return nil, err
		}
	}
	u := &upload{
		f: f, name: name, mode: mode, old: old, done: make(chan struct{}),
		temp: below(name.Dir(), tempPrefix+strings.ToLower(rand.Text())),
	}
	u.ctx, u.cancel = context.WithCancelCause(context.WithoutCancel(ctx)) // Abort ends it
	u.progress.L = &u.mu
	go u.send() // ends with the service's answer, which Abort cancels; Commit and Abort wait for it
	return u, nil
}

// standing looks at what is there, nil for nothing, and refuses what cannot be written.
func (f *FS) standing(ctx context.Context, name vfs.Path, mode vfs.OpenMode) (*vfs.FileInfo, error) {
	if mode.Missing && !mode.MustExist {
		return nil, nil // who asks has just looked, and Commit looks again
	}
	i, err := f.r.stat(ctx, name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !mode.MustExist:
		return nil, nil
	case err != nil:
		return nil, err
	case mode.Exclusive:
		return nil, fs.ErrExist
	case !mode.Truncate && i.Mode.IsRegular() && i.Size > 0:
		return nil, fmt.Errorf("%w: a file of this storage is written as a whole", vfs.ErrUnsupported)
	}
	return &i, vfs.Regular(i)
}

func (f *FS) isDir(ctx context.Context, dir vfs.Path) error {
	if dir.IsRoot() {
		return nil
	}
	i, err := f.r.stat(ctx, dir)
	if err == nil && !i.IsDir() {
		err = vfs.ErrNotDir
	}
	return err
}

// send is the call that carries the content. While all of it is still at hand, a failure that may pass is tried again:
// the temporary name is ours alone.
func (u *upload) send() {
	defer close(u.done)
	for try := 1; ; try++ {
		err := u.sendOnce()
		u.mu.Lock()
		again := err != nil && try < u.f.r.pool.o.Tries && passing(err) && u.ctx.Err() == nil && u.rewind()
		if err != nil && !again && u.err == nil {
			u.err = err
		}
		u.progress.Broadcast()
		u.mu.Unlock()
		if !again {
			return
		}
		t := time.NewTimer(100 * time.Millisecond << try)
		select {
		case <-t.C:
		case <-u.ctx.Done():
			t.Stop()
		}
	}
}

func (u *upload) sendOnce() error {
	silent := time.AfterFunc(u.f.r.pool.o.Wait, func() { u.cancel(errSilent) })
	defer silent.Stop()
	body := &source{u: u, silent: silent}
	resp, err := u.f.r.send(u.ctx, http.MethodPost, "create", u.temp, nil, body)
	body.Close() // an answer may come before the content's end
	if err != nil {
		return err
	}
	drain(resp)
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.whole || u.sent != u.next {
		return errors.New("the service answers before it has the whole file")
	}
	return nil
}

// rewind has the content sent from its beginning, if that was not written over in the ring. The caller holds mu.
func (u *upload) rewind() bool {
	if u.over || u.kept > 0 {
		return false
	}
	u.sent = 0
	return true
}

// source is the body of one call.
type source struct {
	u      *upload
	silent *time.Timer
	shut   bool // guarded by u.mu
}

func (s *source) Read(p []byte) (int, error) {
	u := s.u
	s.silent.Stop() // it is the client that is waited for
	u.mu.Lock()
	defer u.mu.Unlock()
	for u.sent == u.next && !u.whole && !u.over && !s.shut {
		u.progress.Wait()
	}
	switch {
	case u.over || s.shut:
		return 0, fs.ErrClosed
	case u.sent == u.next:
		s.silent.Reset(u.f.r.pool.o.Wait)
		return 0, io.EOF
	}
	s.silent.Reset(u.f.r.pool.o.Wait)
	at := int(u.sent % int64(len(u.ring)))
	n := copy(p, u.ring[at:min(len(u.ring), at+int(u.next-u.sent))])
	u.sent += int64(n)
	u.progress.Broadcast()
	return n, nil
}

// Close ends a Read that waits: the call is over.
func (s *source) Close() error {
	s.u.mu.Lock()
	defer s.u.mu.Unlock()
	s.shut = true
	s.silent.Stop()
	s.u.progress.Broadcast()
	return nil
}

// WriteAt implements vfs.Upload. It waits for the service alone.
func (u *upload) WriteAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, opError("write", u.name, fs.ErrInvalid)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.mode.Append {
		off = u.size()
	}
	if off > 1<<63-1-int64(len(p)) {
		return 0, opError("write", u.name, vfs.ErrTooLarge)
	}
	if err := u.failed(); err != nil {
		return 0, opError("write", u.name, err)
	}
	for n < len(p) && err == nil {
		m := min(len(p)-n, piece)
		if err = u.put(p[n:n+m], off+int64(n)); err == nil {
			n += m
		}
	}
	return n, opError("write", u.name, err)
}

// failed is why nothing more can be written. The caller holds mu, as for all below.
func (u *upload) failed() error {
	if u.over || u.whole {
		return fs.ErrClosed
	}
	return u.err
}

// put takes one piece. While the service has something to take, what does not fit waits for it.
func (u *upload) put(p []byte, off int64) error {
	end := off + int64(len(p))
	for {
		if err := u.failed(); err != nil {
			return err
		}
		if off < u.next {
			return fmt.Errorf("%w: what is before %d is already sent", vfs.ErrOutOfOrder, u.next)
		}
		fits := end <= u.next+window && (off == u.next || len(u.ahead) < maxRuns)
		if fits && end-u.sent <= window+backlog && (off != u.next || u.next-u.sent < backlog) {
			break
		}
		if u.sent == u.next { // the service waits for what is missing
			return fmt.Errorf("%w: at %d while %d is the next byte", vfs.ErrOutOfOrder, off, u.next)
		}
		u.progress.Wait()
	}
	u.grow(min(end-u.kept, window+backlog))
	u.kept = max(u.kept, end-int64(len(u.ring)))
	for n := 0; n < len(p); {
		n += copy(u.ring[(off+int64(n))%int64(len(u.ring)):], p[n:])
	}
	u.mark(off, end)
	u.progress.Broadcast()
	return nil
}

// grow makes room for n bytes from kept on, or less if that is enough from sent on.
func (u *upload) grow(n int64) {
	if int64(len(u.ring)) >= n {
		return
	}
	size := int64(max(len(u.ring), 64<<10))
	for size < n {
		size *= 2
	}
	size = min(size, window+backlog)
	ring := make([]byte, size)
	for _, r := range append([]run{{u.kept, u.next}}, u.ahead...) {
		for off := r.from; off < r.to; {
			from, to := off%int64(len(u.ring)), off%size
			off += int64(copy(ring[to:], u.ring[from:min(int64(len(u.ring)), from+r.to-off)]))
		}
	}
	u.ring = ring
}

// mark notes that from to to is there.
func (u *upload) mark(from, to int64) {
	if from == u.next {
		u.next = to
		for len(u.ahead) > 0 && u.ahead[0].from <= u.next {
			u.next = max(u.next, u.ahead[0].to)
			u.ahead = u.ahead[1:]
		}
		return
	}
	var out []run
	r, in := run{from, to}, false
	for _, a := range u.ahead {
		switch {
		case a.to < r.from:
			out = append(out, a)
		case a.from > r.to:
			if !in {
				out, in = append(out, r), true
			}
			out = append(out, a)
		default:
			r = run{min(a.from, r.from), max(a.to, r.to)}
		}
	}
	if !in {
		out = append(out, r)
	}
	u.ahead = out
}

// size is what the file would have now.
func (u *upload) size() int64 {
	if len(u.ahead) > 0 {
		return u.ahead[len(u.ahead)-1].to
	}
	return u.next
}

// Truncate implements vfs.Upload, as far as a stream can: to the size that is there.
func (u *upload) Truncate(size int64) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	err := u.failed()
	switch {
	case err != nil:
	case size < 0:
		err = fs.ErrInvalid
	case size != u.size():
		err = fmt.Errorf("%w: the size of a file that is sent to this storage cannot be changed", vfs.ErrUnsupported)
	}
	return opError("truncate", u.name, err)
}

// Sync implements vfs.Upload: only Commit makes anything last.
func (u *upload) Sync() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return opError("sync", u.name, u.failed())
}

// Stat implements vfs.Upload.
func (u *upload) Stat() (vfs.FileInfo, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over {
		return vfs.FileInfo{}, opError("fstat", u.name, fs.ErrClosed)
	}
	i := vfs.FileInfo{Name: u.name.Base(), Size: u.size(), Mode: 0o666, ModTime: time.Now(), Nlink: 1}
	if u.old != nil {
		i.Mode = u.old.Mode
	}
	if u.mode.Perm != 0 && u.old == nil {
		i.Mode = u.mode.Perm.Perm()
	}
	if u.attr.Set&vfs.AttrMode != 0 {
		i.Mode = u.attr.Mode
	}
	if u.attr.Set&vfs.AttrTimes != 0 {
		i.ModTime = u.attr.Mtime
	}
	return i, nil
}

// SetAttr implements vfs.Upload: modes and times are given with Commit.
func (u *upload) SetAttr(a vfs.Attr) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	err := u.failed()
	if err == nil && a.Set&vfs.AttrOwner != 0 {
		err = fmt.Errorf("%w: files of this storage have no owner", vfs.ErrUnsupported)
	}
	if err == nil {
		if a.Set&vfs.AttrMode != 0 {
			u.attr.Mode = a.Mode
		}
		if a.Set&vfs.AttrTimes != 0 {
			u.attr.Atime, u.attr.Mtime = a.Atime, a.Mtime
		}
		u.attr.Set |= a.Set
	}
	return opError("fsetattr", u.name, err)
}

// Commit implements vfs.Upload. It returns once the service has the whole file at its place.
func (u *upload) Commit(ctx context.Context) (vfs.FileInfo, error) {
	i, err := u.commit(ctx)
	return i, opError("commit", u.name, err)
}

func (u *upload) commit(ctx context.Context) (i vfs.FileInfo, err error) {
	u.mu.Lock()
	if err = u.failed(); err == nil {
		err = ctx.Err()
	}
	if err == nil && len(u.ahead) > 0 {
		err = fmt.Errorf("%w: the bytes from %d to %d were never written", vfs.ErrOutOfOrder, u.next, u.ahead[0].from)
	}
	if err != nil {
		u.mu.Unlock()
		return i, err
	}
	u.whole = true
	u.progress.Broadcast()
	u.mu.Unlock()
	select {
	case <-u.done:
	case <-ctx.Done():
		u.cancel(context.Cause(ctx))
		<-u.done
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.err != nil {
		return i, u.err
	}
	if u.over {
		return i, fs.ErrClosed
	}
	size, attr, old := u.next, u.attr, u.old
	u.mu.Unlock()
	i, err = u.publish(ctx, size, attr, old)
	u.mu.Lock()
	if err == nil {
		u.end(fs.ErrClosed)
	}
	return i, err
}

// publish gives the file its attributes and its name.
func (u *upload) publish(ctx context.Context, size int64, attr vfs.Attr, old *vfs.FileInfo) (vfs.FileInfo, error) {
	ctx, cancel := context.WithCancelCause(ctx) // an Abort ends the calls too
	defer cancel(nil)
	defer context.AfterFunc(u.ctx, func() { cancel(context.Cause(u.ctx)) })()
	if attr.Set&vfs.AttrMode == 0 {
		switch {
		case old != nil && old.Mode.Perm() != 0: // an old file keeps its own
			attr.Set, attr.Mode = attr.Set|vfs.AttrMode, old.Mode
		case old == nil && u.mode.Perm != 0:
			attr.Set, attr.Mode = attr.Set|vfs.AttrMode, u.mode.Perm
		}
	}
	r := u.f.r
	i, err := r.statText(ctx, u.temp, u.name.Base())
	if err != nil {
		return i, err
	}
	if i.Size != size {
		return i, fmt.Errorf("the service stored %d of %d bytes", i.Size, size)
	}
	if attr.Set&vfs.AttrMode != 0 && attr.Mode.Perm() == i.Mode.Perm() && attr.Mode&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) == 0 {
		attr.Set &^= vfs.AttrMode
	}
	if err := u.f.setText(ctx, u.temp, attr); err != nil && !errors.Is(err, vfs.ErrUnsupported) {
		return i, err
	}
	unlock, err := r.names.lock(ctx, u.name)
	if err != nil {
		return i, err
	}
	defer unlock()
	switch now, err := r.stat(ctx, u.name); {
	case err == nil && u.mode.Exclusive:
		return i, fs.ErrExist
	case err == nil:
		if err := vfs.Regular(now); err != nil {
			return i, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return i, err
	}
	if err := u.f.move(ctx, u.temp, u.name); err != nil {
		return i, err
	}
	if attr.Set&vfs.AttrMode != 0 {
		i.Mode = attr.Mode
	}
	if attr.Set&vfs.AttrTimes != 0 {
		i.ModTime, i.AccessTime = attr.Mtime, attr.Atime
	}
	return i, nil
}

// Abort implements vfs.Upload. It works on a cancelled context too.
func (u *upload) Abort(context.Context) error {
	u.mu.Lock()
	if u.over {
		u.mu.Unlock()
		return opError("abort", u.name, fs.ErrClosed)
	}
	u.end(fs.ErrClosed)
	u.mu.Unlock()
	<-u.done
	ctx, cancel := context.WithTimeout(context.Background(), cleanWait) // what was begun must be cleared
	defer cancel()
	err := u.f.r.do(ctx, http.MethodDelete, "remove", u.temp, nil)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return opError("abort", u.name, err)
}

// end lets go of everything.
func (u *upload) end(cause error) {
	u.over = true
	u.cancel(cause)
	u.ring = nil
	u.progress.Broadcast()
}
