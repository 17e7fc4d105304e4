package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/event"
	"github.com/gantryhq/gantry/vfs"
)

// Handle is one open file, a transfer in the registry.
type Handle struct {
	s      *Session // immutable once open, as all up to fresh
	v      *view
	flags  Flags
	x      *transfer
	file   vfs.File        // of a download
	wr     vfs.Upload      // of an upload
	rd     io.ReaderAt     // nil: not to be read
	about  vfs.Description // of opened, once the meter runs
	opened place           // where the storage's handle stands
	atomic bool
	quiet  bool // a part of another operation: no event of its own
	// initial is the size that the file had, -1 without one; fresh says there was none.
	initial int64
	fresh   bool

	books    *books
	node     *openFile // in place and counted; else nil
	own      growth    // of what is hidden
	room     *growth
	links    int64
	tokens   []string // of locks, as submitted when it was opened
	limit    int64    // bytes of the account, 0 none
	max      int64    // bytes of the file, 0 none
	heldFile bool

	// The data-transfer limit, if there is one.
	meterTally  *tally
	dir, other  *atomic.Int64
	mine, total int64

	failed atomic.Pointer[error] // the first write that failed

	io   sync.RWMutex // shared by reads and writes; exclusive for the end
	over bool         // guarded by io
	end  sync.Once

	next, prev *Handle // of the session's; guarded by its mu

	published vfs.FileInfo // owned by end
	gone      bool         // the storage's upload is aborted already; owned by end

	mu      sync.Mutex // guards the fields below
	where   place      // where the file will stand
	key     pendingKey
	attr    vfs.Attr // to be given again at the end
	removed bool     // its name was removed: nothing is published
}

// ReadAt reads at most len(p) bytes; io.EOF at the end of the file.
func (h *Handle) ReadAt(p []byte, off int64) (int, error) {
	if h.rd == nil {
		return 0, h.error("read", fs.ErrPermission)
	}
	h.io.RLock()
	defer h.io.RUnlock()
	if h.over {
		return 0, h.error("read", fs.ErrClosed)
	}
	if err := h.x.dead(); err != nil {
		return 0, h.error("read", err)
	}
	if h.meterTally != nil && h.file != nil {
		return h.readLimited(p, off)
	}
	return h.read(p, off)
}

func (h *Handle) read(p []byte, off int64) (int, error) {
	n, err := h.rd.ReadAt(p, off)
	if n > 0 && h.file != nil {
		if paced := h.x.pace(n); paced != nil {
			return 0, h.error("read", paced)
		}
		h.moved(n)
	}
	if err != nil && err != io.EOF {
		err = h.error("read", unwrapped(err))
	}
	return n, err
}

// readLimited takes what it reads from the account's limit before it reads.
func (h *Handle) readLimited(p []byte, off int64) (int, error) {
	want := len(p)
	for want > 0 && !take(h.dir, h.other, int64(want), h.mine, h.total) {
		want /= 2 // near the end of the limit
	}
	if want == 0 {
		// Nothing is left: an end of the file is still that, and not a refusal.
		var probe [1]byte
		if n, err := h.rd.ReadAt(probe[:], off); n == 0 && err == io.EOF {
			return 0, io.EOF
		}
		return 0, h.error("read", ErrReadQuota)
	}
	n, err := h.read(p[:want], off)
	h.dir.Add(int64(n - want))
	if n < len(p) && err == nil {
		err = nil
		if more, e := h.readLimited(p[n:], off+int64(n)); more > 0 || e == io.EOF {
			return n + more, e
		}
		return n, h.error("read", ErrReadQuota)
	}
	return n, err
}

// WriteAt writes p. Past the quota or max_upload_file_size it fails with ErrQuota and the upload is lost as section 5 of the reference says.
func (h *Handle) WriteAt(p []byte, off int64) (int, error) {
	if h.wr == nil {
		return 0, h.error("write", fs.ErrPermission)
	}
	h.io.RLock()
	defer h.io.RUnlock()
	if h.over {
		return 0, h.error("write", fs.ErrClosed)
	}
	if err := h.x.dead(); err != nil {
		return 0, h.error("write", err)
	}
	if err := h.pay(len(p), off); err != nil {
		return 0, h.fail("write", err)
	}
	if err := h.x.pace(len(p)); err != nil {
		return 0, h.error("write", err)
	}
	n, err := h.wr.WriteAt(p, off)
	if h.meterTally != nil && n < len(p) {
		h.dir.Add(int64(n - len(p)))
	}
	h.moved(n)
	if err != nil {
		if errors.Is(err, vfs.ErrOutOfOrder) { // it may be tried again
			return n, h.error("write", unwrapped(err))
		}
		return n, h.fail("write", unwrapped(err))
	}
	return n, nil
}

// pay checks a write of n bytes at off against every limit, before the storage sees it.
func (h *Handle) pay(n int, off int64) error {
	if h.flags.Append {
		off = h.room.end.Add(int64(n)) - int64(n)
	}
	end, ok := endOf(off, n)
	switch {
	case !ok:
		return fmt.Errorf("%w: offset %d", vfs.ErrTooLarge, off)
	case h.max > 0 && end > h.max:
		return fmt.Errorf("%w: the largest upload is %d bytes", ErrQuota, h.max)
	}
	if h.limit > 0 {
		h.room.raise(end)
		if err := h.room.ensure(end, h.limit); err != nil {
			return err
		}
	}
	if h.meterTally != nil && !take(h.dir, h.other, int64(n), h.mine, h.total) {
		return ErrQuota
	}
	return nil
}

// moved counts n bytes and notes the activity.
func (h *Handle) moved(n int) {
	now := h.s.srv.deps.Now()
	h.x.moved(n, now)
	h.s.last.Store(now.UnixNano())
}

// fail remembers the first failed write: the file is not what the peer sent.
func (h *Handle) fail(op string, err error) error {
	err = h.error(op, err)
	h.failed.CompareAndSwap(nil, &err)
	return err
}

func (h *Handle) error(op string, err error) error { return pathError(op, h.Path(), err) }

// Path is the virtual path, or where the file has been renamed to since.
func (h *Handle) Path() vfs.Path {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.where.p
}

// Stat describes the open file.
func (h *Handle) Stat(ctx context.Context) (vfs.FileInfo, error) {
	h.io.RLock()
	defer h.io.RUnlock()
	if h.over {
		return vfs.FileInfo{}, h.error("stat", fs.ErrClosed)
	}
	var i vfs.FileInfo
	var err error
	if h.file != nil {
		i, err = h.file.Stat()
	} else {
		i, err = h.wr.Stat()
	}
	p := h.Path()
	i.Name = p.Base()
	return i, fail("stat", p, err)
}

// Opened describes a download that has just been opened: as the opening found the file, where the storage keeps that.
func (h *Handle) Opened(ctx context.Context) (vfs.FileInfo, error) {
	if o, ok := h.file.(vfs.Opened); ok {
		i := o.Opened()
		i.Name = h.Path().Base()
		return i, nil
	}
	return h.Stat(ctx)
}

// SetAttr, Truncate and Sync act on the open file. Attributes of an upload survive its commit.
func (h *Handle) SetAttr(ctx context.Context, attr vfs.Attr) error {
	return h.s.SetAttr(ctx, h.Path(), attr, true)
}

// Truncate sets the size of the file being written.
func (h *Handle) Truncate(ctx context.Context, size int64) error {
	if h.wr == nil {
		return h.s.Truncate(ctx, h.Path(), size)
	}
	h.io.RLock()
	defer h.io.RUnlock()
	if h.over {
		return h.error("truncate", fs.ErrClosed)
	}
	if err := h.x.dead(); err != nil {
		return h.error("truncate", err)
	}
	if err := h.truncate(ctx, size); err != nil {
		return h.fail("truncate", unwrapped(err))
	}
	return nil
}

func (h *Handle) truncate(ctx context.Context, size int64) error {
	switch {
	case size < 0:
		return fs.ErrInvalid
	case h.max > 0 && size > h.max:
		return fmt.Errorf("%w: the largest upload is %d bytes", ErrQuota, h.max)
	}
	if h.limit > 0 {
		h.room.raise(size)
		if err := h.room.ensure(size, h.limit); err != nil {
			return err
		}
	}
	if err := h.wr.Truncate(size); err != nil {
		return err
	}
	if h.node == nil {
		return nil
	}
	pl := h.at()
	_, err := h.s.srv.files.settle(h.node, func() (vfs.FileInfo, error) { return statOpen(ctx, h.wr, &pl) })
	return err
}

// Sync has the storage keep what is written.
func (h *Handle) Sync(ctx context.Context) error {
	h.io.RLock()
	defer h.io.RUnlock()
	if h.over || h.wr == nil {
		return nil
	}
	return fail("sync", h.Path(), h.wr.Sync())
}

// Fast gives what a read or write with no wait needs: the operating system's file for zero-copy, or nil. It
// is nil for what must be counted or shaped as it moves.
func (h *Handle) Fast() *os.File {
	if h.x.bucket != nil || h.meterTally != nil || h.limit > 0 || h.max > 0 {
		return nil
	}
	if o, ok := h.wr.(vfs.OSFiler); ok {
		return o.OSFile()
	}
	return osFile(h.file)
}

// osFile is the operating system's file of f, or nil.
func osFile(f vfs.File) *os.File {
	if o, ok := f.(vfs.OSFiler); ok {
		return o.OSFile()
	}
	return nil
}

// File is what the kernel may send the bytes of a download from, each of them asked for by Pass; nil where there is
// no such file.
func (h *Handle) File() *os.File {
	if h.about.Remote {
		return nil
	}
	return osFile(h.file)
}

// Pass lets n bytes of File go: it takes them from the transfer limit, waits as long as the bandwidth wants, and counts
// them. It says how many may go, which near the end of the limit are fewer. A negative n takes back what did not go.
func (h *Handle) Pass(n int) (int, error) {
	h.io.RLock()
	defer h.io.RUnlock()
	if n < 0 {
		if h.meterTally != nil {
			h.dir.Add(int64(n))
		}
		h.x.moved(n, h.s.srv.deps.Now())
		return n, nil
	}
	if h.over {
		return 0, h.error("read", fs.ErrClosed)
	}
	if err := h.x.dead(); err != nil {
		return 0, h.error("read", err)
	}
	if h.meterTally != nil {
		for n > 0 && !take(h.dir, h.other, int64(n), h.mine, h.total) {
			n /= 2
		}
		if n == 0 {
			return 0, h.error("read", ErrReadQuota)
		}
	}
	if err := h.x.pace(n); err != nil {
		return 0, h.error("read", err)
	}
	h.moved(n)
	return n, nil
}

// Chunk is the most that should move at once, in bytes: an eighth of a second's bandwidth, between 64 KiB and 4 MiB.
func (h *Handle) Chunk() int {
	if h.x.bucket == nil {
		return 4 << 20
	}
	return int(min(max(h.x.bucket.rate/8, 64<<10), 4<<20))
}

// Remote reports whether reads and writes may wait on a network.
func (h *Handle) Remote() bool { return h.about.Remote }

// Published describes the file that Close has published. It is for whoever called Close, after it.
func (h *Handle) Published() vfs.FileInfo {
	i := h.published
	i.Name = h.Path().Base()
	return i
}

func (h *Handle) info(now time.Time) TransferInfo {
	op := "download"
	if h.wr != nil {
		op = "upload"
	}
	return TransferInfo{
		Operation: op, Path: h.Path().String(), Started: h.x.started,
		Bytes: h.x.bytes.Load(), Speed: h.x.speed(now),
	}
}

// Close ends the transfer as the peer asked: an upload is committed. The error says that the file is not
// what the peer sent. Abort ends it because of cause (a lost connection, a kill): the upload mode says
// what stays. Both end once; the second call does nothing.
func (h *Handle) Close(ctx context.Context) error {
	var err error
	h.end.Do(func() { err = h.finish(ctx, nil) })
	return err
}

// Abort is the end that nobody asked for.
func (h *Handle) Abort(ctx context.Context, cause error) error {
	if cause == nil {
		cause = errors.New("aborted")
	}
	var err error
	h.end.Do(func() { err = h.finish(ctx, cause) })
	return err
}

// finish ends the handle. It returns why a close is not what was asked, or what went wrong at an abort.
func (h *Handle) finish(ctx context.Context, cause error) error {
	h.s.busy.Add(1)
	defer h.s.done()
	if cause != nil {
		h.x.halt(cause) // wakes reads and writes that wait for bandwidth
	}
	if h.about.Remote && cause != nil && h.wr != nil && !h.keepsPartial(cause) {
		h.wr.Abort(ctx) // wakes those that wait for the network
		h.gone = true
	}
	if h.file != nil {
		h.file.Close() // wakes reads
	}
	if !h.io.TryLock() {
		// A peer that waits for its close cannot be kept longer than its patience by one of its own writes.
		stop := context.AfterFunc(ctx, func() { h.x.halt(context.Cause(ctx)) })
		h.io.Lock()
		stop()
	}
	h.over = true
	h.io.Unlock()
	if cause == nil {
		cause = h.x.dead()
	}
	wrong := cause
	if f := h.failed.Load(); f != nil {
		wrong = *f
	}
	e := h.s.eventOf(event.Download, &h.opened, h.about)
	e.Time, e.Bytes = h.x.started, h.x.bytes.Load()
	e.FileSize = e.Bytes
	var err error
	if h.wr != nil {
		err = h.endUpload(ctx, wrong, e)
	}
	if wrong == nil {
		wrong = err
	}
	if wrong == nil && h.wr != nil && !h.quiet {
		err = h.approve(ctx, e)
		wrong = err
	}
	e.Err, e.Complete = wrong, wrong == nil
	switch {
	case errors.Is(wrong, ErrQuota), errors.Is(wrong, ErrReadQuota):
		e.Status = event.Quota
	case wrong != nil:
		e.Status = event.Failed
	}
	h.dropLimit()
	h.s.delist(h)
	if !h.quiet {
		h.s.report(ctx, e)
	}
	if cause != nil && err == nil {
		return nil // as was asked
	}
	return fail("close", h.Path(), errors.Join(err, wrongAtClose(cause, wrong, err)))
}

// wrongAtClose is the failed write that a close must tell of, if err does not.
func wrongAtClose(cause, wrong, err error) error {
	if cause == nil && wrong != err {
		return wrong
	}
	return nil
}

// endUpload commits, or does what the upload mode says of a failed one. wrong is why it failed, or nil.
func (h *Handle) endUpload(ctx context.Context, wrong error, e *event.Event) error {
	srv := h.s.srv
	e.Action, e.OpenFlags = event.Upload, 0
	if !h.fresh {
		e.OpenFlags = h.flags.posix()
	}
	// What was begun must be ended, also for a peer that has gone.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Minute)
	defer cancel()
	var i vfs.FileInfo
	var err error
	switch {
	case !h.atomic:
		i, err = h.endInPlace(ctx, wrong)
	case wrong == nil:
		i, err = h.publish(ctx, false)
	case h.keepsPartial(wrong):
		i, err = h.publish(ctx, true)
	default:
		err = h.drop(ctx)
	}
	h.mu.Lock()
	key, at := h.key, h.where
	h.mu.Unlock()
	srv.pendings.drop(key, h)
	h.closeRoom()
	h.books.leave()
	e.FileSize, h.published = i.Size, i
	e.VirtualPath, e.Path = at.p.String(), at.describe().StoragePath
	return err
}

// Bits of upload_mode: what a lost client left of a new file on that storage is published.
const (
	keepS3    = 4
	keepGCS   = 8
	keepAzure = 16
)

// keepsPartial reports whether what a lost connection left of a new file is published, so that it can be resumed. An
// old file is never replaced by a part of another.
func (h *Handle) keepsPartial(wrong error) bool {
	if !h.atomic || !h.fresh || h.flags.Whole || errors.Is(wrong, ErrQuota) {
		return false
	}
	d, mode := h.opened.describe(), h.s.srv.cfg.UploadMode
	switch account.Provider(d.Provider) {
	case account.S3Provider:
		return mode&keepS3 != 0
	case account.GCSProvider:
		return mode&keepGCS != 0
	case account.AzBlobProvider:
		return mode&keepAzure != 0
	}
	return mode&3 == 2 && !d.Whole
}

// endInPlace closes a file that was written where it stands.
func (h *Handle) endInPlace(ctx context.Context, wrong error) (vfs.FileInfo, error) {
	srv := h.s.srv
	var pl place
	for { // a rename may change the name until its lock is held
		pl = h.at()
		unlock, err := srv.names.lock(ctx, &pl)
		if err != nil {
			h.wr.Abort(ctx)
			return vfs.FileInfo{}, err
		}
		if now := h.at(); now.name() != pl.name() {
			unlock()
			continue
		}
		defer unlock()
		break
	}
	var err error
	cut := errors.Is(wrong, ErrQuota)
	if cut && !h.gone && h.initialKept() >= 0 && !h.fresh && !h.flags.Truncate {
		h.wr.Truncate(h.initial) // a resume that met a limit: what was there before stays
	}
	h.again()
	closeIt := func() (vfs.FileInfo, error) {
		var i vfs.FileInfo
		var serr error
		if wrong != nil {
			if i, serr = h.wr.Stat(); h.gone {
				serr = fs.ErrClosed // by its name then
			}
			err = h.drop(ctx)
		} else if i, serr = h.wr.Commit(ctx); serr != nil {
			err = serr
			h.wr.Abort(ctx)
		}
		if serr != nil {
			i, serr = pl.FS.Stat(ctx, pl.Path)
		}
		return i, serr
	}
	var i vfs.FileInfo
	if h.node != nil {
		i, _ = srv.files.settle(h.node, closeIt)
	} else {
		i, _ = closeIt()
	}
	if cut && (h.fresh || h.flags.Truncate) {
		if now, lerr := pl.FS.Lstat(ctx, pl.Path); lerr == nil && now.Ino == i.Ino && now.Dev == i.Dev && now.Mode.IsRegular() {
			err = errors.Join(err, h.s.removeFile(ctx, &pl, now, h.books))
			i.Size = 0
		}
	}
	return i, err
}

// again gives attributes that were set while the file was written: later writes changed its times.
func (h *Handle) again() {
	h.mu.Lock()
	a := h.attr
	h.mu.Unlock()
	if a.Set != 0 && !h.gone {
		if err := h.wr.SetAttr(a); err != nil && !errors.Is(err, vfs.ErrUnsupported) {
			h.s.srv.log.Warn("attributes of an upload", "path", h.Path().String(), "error", err)
		}
	}
}

// drop ends an upload without publishing it, once.
func (h *Handle) drop(ctx context.Context) error {
	if h.gone {
		return nil
	}
	h.gone = true
	return h.wr.Abort(ctx)
}

// publish commits a hidden upload and counts the net change. partial: it is what a lost connection left of
// a new file, and must not replace anything.
func (h *Handle) publish(ctx context.Context, partial bool) (i vfs.FileInfo, err error) {
	srv := h.s.srv
	var pl place
	for { // a rename may change the name until its lock is held
		pl = h.at()
		unlock, err := srv.names.lock(ctx, &pl, &h.opened)
		if err != nil {
			h.wr.Abort(ctx)
			return i, err
		}
		if now := h.at(); now.name() != pl.name() {
			unlock()
			continue
		}
		defer unlock()
		break
	}
	h.mu.Lock()
	removed := h.removed
	h.mu.Unlock()
	if removed {
		return i, h.wr.Abort(ctx)
	}
	defer func() {
		if err != nil {
			h.wr.Abort(ctx)
		}
	}()
	old, err := h.standing(ctx, &pl)
	exists := err == nil
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return i, err
	case exists && partial:
		return i, h.wr.Abort(ctx)
	case exists && pl.name() != h.opened.name() && old.IsDir():
		return i, vfs.ErrIsDir
	}
	if err := h.s.unlocked(ctx, h, &pl, newMember(standing{exists: exists})); err != nil { // taken since it was opened
		return i, err
	}
	files, bytes := int64(1), int64(0)
	var replaced *unlinking
	if exists && old.Mode.IsRegular() {
		replaced = srv.files.unlink(&pl, old)
		defer replaced.end()
		files, bytes = 0, -replaced.counted
	}
	if d, ok := h.wr.(vfs.AheadDropper); ok && partial {
		if err := d.DropAhead(); err != nil {
			return i, err
		}
	}
	cur, err := h.wr.Stat()
	if err != nil {
		return i, err
	}
	if h.books.limited() {
		if err := h.cover(files, bytes+cur.Size); err != nil {
			return i, err
		}
	}
	h.again()
	if i, err = h.commitAt(ctx, &pl); err != nil {
		return i, err
	}
	if !exists {
		h.s.fresh(ctx, &pl)
	}
	h.books.spend(&h.own, h.heldFile, files, bytes+i.Size)
	h.heldFile = false
	if replaced != nil {
		replaced.done = true
	}
	return i, nil
}

// standing is what the upload will replace at pl.
func (h *Handle) standing(ctx context.Context, pl *place) (vfs.FileInfo, error) {
	if w, ok := h.wr.(vfs.Stander); ok && pl.name() == h.opened.name() {
		return w.Standing(ctx)
	}
	return pl.FS.Lstat(ctx, pl.Path)
}

// commitAt commits and, if the file was renamed while it was written, moves it there.
func (h *Handle) commitAt(ctx context.Context, pl *place) (vfs.FileInfo, error) {
	if pl.name() == h.opened.name() {
		return h.wr.Commit(ctx)
	}
	if _, err := pl.FS.Lstat(ctx, h.opened.Path); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fmt.Errorf("%w: the name that the upload began with is taken again", fs.ErrExist)
		}
		return vfs.FileInfo{}, err
	}
	i, err := h.wr.Commit(ctx)
	if err != nil {
		return i, err
	}
	if err := pl.FS.Rename(ctx, h.opened.Path, pl.Path, true); err != nil {
		h.books.spend(&h.own, h.heldFile, 1, i.Size) // it is published, under its first name
		h.heldFile = false
		return i, err
	}
	i.Name = pl.p.Base()
	return i, nil
}

// cover holds what the account will have more of when the upload is published: what stood there may have
// changed since it was opened.
func (h *Handle) cover(files, bytes int64) error {
	if files > 0 {
		if err := h.holdFile(); err != nil {
			return err
		}
	}
	if h.limit <= 0 {
		return nil
	}
	g := &h.own
	g.t.mu.Lock()
	defer g.t.mu.Unlock()
	more := bytes - g.held
	if more <= 0 {
		return nil
	}
	if more > h.limit-max(0, g.t.bytes)-g.t.heldBytes {
		return ErrQuota
	}
	g.held += more
	g.t.heldBytes += more
	return nil
}
