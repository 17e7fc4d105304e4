package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"path"
	"sync"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

const (
	// window is how far ahead of the first missing byte a write may be, in bytes: clients that send writes at once
	// mix them up by less.
	window = 2 << 20
	// reread is the largest old content, in bytes, that a change in it may read again.
	reread = 16 << 20
	// maxRuns bounds how many pieces may lie ahead of a gap.
	maxRuns = 256
	// growth is how many times the size of parts is doubled before the service's limit of parts is reached.
	growth = 5
)

// Create implements vfs.FS. Uploads are hidden until Commit whatever mode says of that. Without Truncate, writes
// may continue an old file at its end, or change a small one in one run.
func (f *FS) Create(ctx context.Context, name vfs.Path, mode vfs.OpenMode) (vfs.Upload, error) {
	if err := f.begin(ctx, "create", name); err != nil {
		return nil, err
	}
	u, err := f.create(ctx, name, mode)
	if err != nil {
		return nil, opError("create", name, err)
	}
	return u, nil
}

func (f *FS) create(ctx context.Context, name vfs.Path, mode vfs.OpenMode) (*upload, error) {
	switch {
	case name.IsRoot():
		return nil, vfs.ErrIsDir
	case name.HasTempName():
		return nil, fs.ErrPermission
	}
	key, err := f.key(name)
	if err != nil {
		return nil, err
	}
	var old Object
	if err = fs.ErrNotExist; !mode.Missing || mode.MustExist { // else who asks has just looked
		old, err = f.find(ctx, name)
	}
	exists := err == nil
	switch {
	case exists && mode.Exclusive:
		return nil, fs.ErrExist
	case exists && old.Dir:
		return nil, vfs.ErrIsDir
	case errors.Is(err, fs.ErrNotExist) && !mode.MustExist:
		if err := f.parent(ctx, name); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	}
	if mode.Read && !(mode.Truncate || !exists) {
		return nil, fmt.Errorf("%w: a file of this storage cannot be read and written through one handle", vfs.ErrUnsupported)
	}
	f.refs.Add(1)
	life, cancel := context.WithCancelCause(context.WithoutCancel(ctx)) // the upload outlives the call that opens it
	u := &upload{f: f.core, name: name, key: key, mode: mode, ctx: life, cancel: cancel, began: time.Now()}
	u.meta.Type = typeOf(name)
	u.progress.L = &u.mu
	if exists && !mode.Truncate {
		u.old, u.keep = &old, old.Size
		u.meta.Type = old.Type
	}
	return u, nil
}

// typeOf is the content type that a name says, or "".
func typeOf(name vfs.Path) string { return mime.TypeByExtension(path.Ext(name.Base())) }

// upload is a file being written. What is before next has been received without a gap; parts before cur are sealed:
// sent or being sent.
type upload struct {
	f      *core // immutable, as all up to began
	name   vfs.Path
	key    string
	mode   vfs.OpenMode
	ctx    context.Context // of the requests
	cancel context.CancelCauseFunc
	began  time.Time

	seating sync.Mutex // held while the memory for the first part is waited for; taken before mu

	sending sync.WaitGroup // of parts; nobody adds once closed

	mu       sync.Mutex // guards the fields below
	progress sync.Cond  // a part has ended, or the upload has
	closed   bool
	ending   bool  // Commit has begun
	ended    bool  // everything is given back
	err      error // the storage failed; nothing more is taken
	meta     Meta
	stood    time.Time // when Standing found nothing at the name
	old      *Object   // whose content stays, until the first write decides; nil none
	keep     int64     // of old, in bytes
	onto     *Object   // that the parts follow
	starting bool      // the first write reads what stays before it
	started  bool      // base is decided
	base     int64     // the file's offset of the first part
	next     int64     // the file's offset of the first byte that is missing
	ahead    []run     // beyond next, sorted, apart
	cur      *part
	more     []*part // after cur, that writes ahead have begun
	count    int     // parts sealed
	flying   int     // parts being sent
	chunks   int     // held
	seated   int64   // bytes reserved for what is always allowed
	extra    int64   // bytes reserved beyond that
	parts    Parts
	opening  chan struct{} // closed when parts is there or err
}

// run is a piece that was received ahead of its turn.
type run struct{ from, to int64 }

// part is a piece of the file being filled.
type part struct {
	*buffer
	n     int   // number
	start int64 // offset in the file
	size  int   // bytes when full
}

func (p *part) end() int64 { return p.start + int64(p.size) }

// sizeOf is the size of part n: it grows, so that what a service allows of parts is enough for large files.
func (u *upload) sizeOf(n int) int {
	size := u.f.limits.PartSize
	if m := u.f.limits.MaxParts; m > 0 {
		size <<= min(n/(m/growth), growth-1)
	}
	return size
}

// WriteAt implements vfs.Upload. It waits for the service alone: for a part to be sent, or for memory.
func (u *upload) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, opError("write", u.name, fs.ErrInvalid)
	}
	n, err := u.write(p, off)
	if err != nil {
		return n, opError("write", u.name, err)
	}
	return n, nil
}

func (u *upload) write(p []byte, off int64) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for u.starting { // another write reads what stays of the old file
		u.progress.Wait()
	}
	if err := u.open(); err != nil || len(p) == 0 {
		return 0, err
	}
	if u.mode.Append {
		if off = u.next; !u.started {
			off = u.keep
		}
	}
	if err := u.start(off); err != nil {
		return 0, err
	}
	switch end := off + int64(len(p)); {
	case end < off || u.f.limits.MaxSize > 0 && end > u.f.limits.MaxSize:
		return 0, fmt.Errorf("%w: an object of this storage may have %d bytes", vfs.ErrTooLarge, u.f.limits.MaxSize)
	case off > u.next && (end > u.next+window || len(u.ahead) >= maxRuns):
		return 0, fmt.Errorf("%w: at %d while %d is the next byte; this storage takes one run of bytes", vfs.ErrOutOfOrder, off, u.next)
	case off < u.cur.start:
		return 0, fmt.Errorf("%w: what is before %d is already sent", vfs.ErrOutOfOrder, u.cur.start)
	}
	done := 0
	for len(p) > 0 {
		n, err := u.put(p, off)
		done, p, off = done+n, p[n:], off+int64(n)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// open reports why the upload takes nothing. The caller holds mu, as for all below.
func (u *upload) open() error {
	if u.ending {
		return fs.ErrClosed
	}
	return u.failed()
}

// failed reports why the upload cannot go on.
func (u *upload) failed() error {
	if u.closed {
		return fs.ErrClosed
	}
	return u.err
}

// start decides by the first write where the parts begin.
func (u *upload) start(off int64) error {
	if u.started {
		return nil
	}
	switch {
	case u.old == nil && off > window:
		return fmt.Errorf("%w: the first write is at %d; a new file of this storage begins at 0", vfs.ErrUnsupported, off)
	case u.old == nil:
	case off > u.keep:
		return fmt.Errorf("%w: the file has %d bytes and goes on at %d: this storage has no holes", vfs.ErrUnsupported, u.keep, off)
	case u.old.Size <= reread: // read again what stays before it
		u.begin(0)
		u.starting = true
		err := u.refill(0, off)
		u.starting = false
		u.progress.Broadcast()
		return err
	case off == u.keep && u.keep == u.old.Size:
		u.onto = u.old
		u.begin(off)
		return nil
	default:
		return fmt.Errorf("%w: a file of %d bytes can be continued at its end only", vfs.ErrUnsupported, u.old.Size)
	}
	u.begin(0)
	return nil
}

func (u *upload) begin(base int64) {
	u.started, u.base, u.next = true, base, base
	u.cur = u.newPart(0, base)
}

func (u *upload) newPart(n int, start int64) *part {
	size := u.sizeOf(n)
	return &part{buffer: newBuffer(u.f.opts.Memory, size), n: n, start: start, size: size}
}

// refill writes what the old object has from from to to.
func (u *upload) refill(from, to int64) error {
	if from >= to {
		return nil
	}
	u.mu.Unlock()
	ctx, cancel := context.WithTimeout(u.ctx, partTime(u.f.limits.ReadTime, to-from))
	b, err := readObject(ctx, u.f.bucket, u.old, from, to-from)
	cancel()
	u.mu.Lock()
	if err == nil && u.closed {
		err = fs.ErrClosed
	}
	for off := from; err == nil && len(b) > 0; {
		var n int
		n, err = u.put(b, off)
		b, off = b[n:], off+int64(n)
	}
	if err != nil && u.err == nil {
		u.err = err
	}
	return err
}

func readObject(ctx context.Context, b Bucket, o *Object, off, n int64) ([]byte, error) {
	r, _, err := b.Get(ctx, o.Key, off, n, o.Version)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	buf := make([]byte, n)
	_, err = io.ReadFull(r, buf)
	return buf, err
}

// put stores a beginning of p, which is within one part, and sends what is full.
func (u *upload) put(p []byte, off int64) (int, error) {
	t, err := u.partAt(off)
	if err != nil {
		return 0, err
	}
	at := int(off - t.start)
	n := min(len(p), t.size-at)
	if off <= u.next {
		// In order, piece by piece: no more memory is asked for at once than a piece needs.
		n = min(n, chunkSize-at%chunkSize)
	}
	if err := u.room(t, at, n); err != nil {
		return 0, err
	}
	t.writeAt(p[:n], at)
	u.mark(off, off+int64(n))
	for u.next >= u.cur.end() {
		if err := u.seal(); err != nil {
			return n, err
		}
	}
	return n, nil
}

// partAt is the part that holds off, made if need be.
func (u *upload) partAt(off int64) (*part, error) {
	if off < u.cur.start {
		return nil, fmt.Errorf("%w: what is before %d is already sent", vfs.ErrOutOfOrder, u.cur.start)
	}
	t := u.cur
	for i := 0; off >= t.end(); i++ {
		if i == len(u.more) {
			u.more = append(u.more, u.newPart(t.n+1, t.end()))
		}
		t = u.more[i]
	}
	return t, nil
}

// mark notes that from to to is there.
func (u *upload) mark(from, to int64) {
	if from <= u.next {
		u.next = max(u.next, to)
		for len(u.ahead) > 0 && u.ahead[0].from <= u.next {
			u.next = max(u.next, u.ahead[0].to)
			u.ahead = u.ahead[1:]
		}
		return
	}
	out := u.ahead[:0:0]
	r := run{from, to}
	for i, a := range u.ahead {
		switch {
		case a.to < r.from:
			out = append(out, a)
		case a.from > r.to:
			out = append(append(out, r), u.ahead[i:]...)
			u.ahead = out
			return
		default:
			r = run{min(a.from, r.from), max(a.to, r.to)}
		}
	}
	u.ahead = append(out, r)
}

// seat is what an upload may always hold: the part being sent and the window after it, so that it never waits for
// the memory of others while it holds some itself.
func (u *upload) seat(n int) int64 {
	return int64(u.sizeOf(n)) + window + 3*chunkSize + int64(u.f.limits.Overhead)
}

// room makes sure that a write to t may take its chunks. An upload of one chunk costs nothing; a larger one first
// waits for its seat. More than the seat is taken if it is free, and else waits for a part of its own to be sent.
func (u *upload) room(t *part, at, n int) error {
	for {
		missing := t.missing(at, n)
		if missing == 0 || u.chunks+missing <= 1 {
			break
		}
		if want := u.seat(u.cur.n); u.seated < want {
			if err := u.sit(want); err != nil {
				return err
			}
			continue
		}
		if int64(u.chunks+missing)*chunkSize+int64(u.f.limits.Overhead) <= u.seated+u.extra {
			break
		}
		size := int64(u.sizeOf(u.cur.n))
		most := int64(u.f.limits.Concurrency-1) * int64(u.f.limits.PartSize)
		if u.extra+size <= most && u.f.opts.Memory.try(size) {
			u.extra += size
			continue
		}
		if u.flying == 0 { // cannot be: the seat is enough for what is not being sent
			return fmt.Errorf("%w: the window is full", vfs.ErrOutOfOrder)
		}
		u.progress.Wait()
		if err := u.failed(); err != nil {
			return err
		}
	}
	if t.start < u.cur.start { // while this one waited, another wrote the same bytes
		return fmt.Errorf("%w: what is before %d is already sent", vfs.ErrOutOfOrder, u.cur.start)
	}
	u.chunks += t.missing(at, n)
	return nil
}

// sit reserves the seat. mu is given up while it waits.
func (u *upload) sit(want int64) error {
	u.mu.Unlock()
	u.seating.Lock()
	u.mu.Lock()
	defer u.seating.Unlock()
	need := want - u.seated
	if need <= 0 {
		return nil
	}
	if u.closed {
		return fs.ErrClosed
	}
	u.mu.Unlock()
	err := u.f.opts.Memory.reserve(u.ctx, need)
	u.mu.Lock()
	if err != nil {
		return err
	}
	if u.closed {
		u.f.opts.Memory.release(need)
		return fs.ErrClosed
	}
	u.seated += need
	return nil
}

// seal sends the current part, which is full or the last, once fewer than Concurrency are being sent.
func (u *upload) seal() error {
	limit := u.f.limits.Concurrency
	if size := u.sizeOf(u.cur.n); size > u.f.limits.PartSize { // larger parts, fewer of them
		limit = max(1, limit*u.f.limits.PartSize/size)
	}
	if u.f.limits.Sequential {
		limit = 1
	}
	t := u.cur
	for u.flying >= limit {
		u.progress.Wait()
		if err := u.failed(); err != nil {
			return err
		}
		if u.cur != t { // another write has sent it
			return nil
		}
	}
	t.buffer.size = min(u.next, t.end()) - t.start
	u.count++
	u.flying++
	if len(u.more) > 0 {
		u.cur, u.more = u.more[0], u.more[1:]
	} else {
		u.cur = u.newPart(t.n+1, t.end())
	}
	u.sending.Go(func() { u.send(t) }) // ends with its request, which Abort cancels; Commit and Abort wait
	return nil
}

// send sends one part and frees it.
func (u *upload) send(t *part) {
	parts, err := u.ready()
	if err == nil {
		ctx, cancel := context.WithTimeout(u.ctx, partTime(u.f.limits.PartTime, t.buffer.size))
		err = parts.Put(ctx, t.n, t.buffer)
		cancel()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.chunks -= t.free()
	u.flying--
	if u.extra > 0 {
		n := min(u.extra, int64(u.sizeOf(t.n)))
		u.extra -= n
		u.f.opts.Memory.release(n)
	}
	if err != nil && u.err == nil {
		u.err = fmt.Errorf("send part %d: %w", t.n+1, err)
	}
	u.progress.Broadcast()
}

// partTime is the time that n bytes may take.
func partTime(set time.Duration, n int64) time.Duration {
	if set > 0 {
		return set
	}
	return max(5, time.Duration(n>>20)) * time.Minute
}

// ready begins the upload of parts, once.
func (u *upload) ready() (Parts, error) {
	u.mu.Lock()
	if u.opening == nil {
		opening := make(chan struct{})
		u.opening = opening
		meta, onto := u.meta, u.onto
		u.mu.Unlock()
		ctx, cancel := context.WithTimeout(u.ctx, time.Minute)
		parts, err := u.f.bucket.Begin(ctx, u.key, meta, onto, u.mode.Exclusive)
		cancel()
		u.mu.Lock()
		if u.parts = parts; err != nil {
			u.parts = nil
			if u.err == nil {
				u.err = err
			}
		}
		close(opening)
	}
	opening := u.opening
	u.mu.Unlock()
	<-opening
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.parts == nil {
		return nil, u.err
	}
	return u.parts, nil
}

// Truncate implements vfs.Upload, as far as a stream can: to what is there, to nothing at the start, or to less of
// an old file before anything is written.
func (u *upload) Truncate(size int64) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	err := u.open()
	switch {
	case err != nil:
	case size < 0:
		err = fs.ErrInvalid
	case size == u.size():
	case !u.started && u.old != nil && size < u.keep && (size == 0 || u.old.Size <= reread):
		if u.keep = size; size == 0 {
			u.old = nil
		}
	default:
		err = fmt.Errorf("%w: the size of a file that is sent to this storage cannot be changed", vfs.ErrUnsupported)
	}
	if err != nil {
		return opError("truncate", u.name, err)
	}
	return nil
}

// DropAhead implements vfs.AheadDropper.
func (u *upload) DropAhead() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.open(); err != nil {
		return opError("truncate", u.name, err)
	}
	u.ahead = nil
	return nil
}

// size is what the file would have now.
func (u *upload) size() int64 {
	if !u.started {
		return u.keep
	}
	n := u.next
	if len(u.ahead) > 0 {
		n = u.ahead[len(u.ahead)-1].to
	}
	if u.onto == nil {
		n = max(n, u.keep)
	}
	return n
}

// Sync implements vfs.Upload: only Commit makes anything last.
func (u *upload) Sync() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.open(); err != nil {
		return opError("sync", u.name, err)
	}
	return nil
}

// Stat implements vfs.Upload.
func (u *upload) Stat() (vfs.FileInfo, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return vfs.FileInfo{}, opError("fstat", u.name, fs.ErrClosed)
	}
	o := Object{Size: u.size(), ModTime: u.meta.ModTime, Changed: u.began, Type: u.meta.Type}
	return info(u.name.Base(), o), nil
}

// SetAttr implements vfs.Upload. Times are those of the object at Commit.
func (u *upload) SetAttr(a vfs.Attr) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	err := u.open()
	if err == nil && a.Set&vfs.AttrTimes != 0 {
		u.meta.ModTime = a.Mtime
	}
	if err == nil && a.Set&^vfs.AttrTimes != 0 {
		err = fmt.Errorf("%w: objects have no mode and no owner", vfs.ErrUnsupported)
	}
	if err != nil {
		return opError("fsetattr", u.name, err)
	}
	return nil
}

// Commit implements vfs.Upload. It returns once the service has every part and shows the object.
func (u *upload) Commit(ctx context.Context) (vfs.FileInfo, error) {
	o, err := u.commit(ctx)
	if err != nil {
		return vfs.FileInfo{}, opError("commit", u.name, err)
	}
	return info(u.name.Base(), o), nil
}

func (u *upload) commit(ctx context.Context) (o Object, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.open(); err != nil {
		return o, err
	}
	if err := ctx.Err(); err != nil {
		return o, err
	}
	if len(u.ahead) > 0 {
		return o, fmt.Errorf("%w: the bytes from %d to %d were never written", vfs.ErrOutOfOrder, u.next, u.ahead[0].from)
	}
	u.ending = true
	stop := context.AfterFunc(ctx, func() { u.cancel(context.Cause(ctx)) }) // the parts end with the caller's patience
	defer stop()
	if o, err = u.publish(ctx); err != nil {
		u.ending = false
		if u.err == nil {
			u.err = err
		}
		return o, err
	}
	u.end()
	return o, nil
}

// publish makes the object. The caller holds mu, which is given up during requests.
func (u *upload) publish(ctx context.Context) (o Object, err error) {
	if !u.started && u.old != nil && u.keep == u.old.Size { // nothing was written: the old file stays
		if u.meta.ModTime.IsZero() {
			return *u.old, nil
		}
		u.mu.Unlock()
		defer u.mu.Lock()
		return u.f.bucket.Copy(ctx, *u.old, u.key, &Meta{Type: u.meta.Type, ModTime: u.meta.ModTime}, false)
	}
	if !u.started {
		if u.old != nil {
			u.begin(0)
			if err := u.refill(0, u.keep); err != nil {
				return o, err
			}
		} else {
			u.begin(0)
		}
	}
	if u.onto == nil && u.next < u.keep { // the end of the old file
		if err := u.refill(u.next, u.keep); err != nil {
			return o, err
		}
	}
	single := u.count == 0 && u.onto == nil
	if !single && (u.next > u.cur.start || u.count == 0) {
		if err := u.seal(); err != nil {
			return o, err
		}
	}
	for u.flying > 0 {
		u.progress.Wait()
	}
	if err := u.failed(); err != nil {
		return o, err
	}
	meta, count, onlyNew := u.meta, u.count, u.mode.Exclusive
	stood := time.Since(u.stood) < lookTTL
	last := u.cur
	u.mu.Unlock()
	defer u.mu.Lock()
	ctx, cancel := context.WithCancelCause(ctx) // an Abort ends the requests too
	defer cancel(nil)
	defer context.AfterFunc(u.ctx, func() { cancel(context.Cause(u.ctx)) })()
	unlock, err := u.f.lock(ctx, u.key)
	if err != nil {
		return o, err
	}
	defer unlock()
	looked := false
	// A directory of that name may have been made since Create looked.
	if !stood && u.mayBeDir() {
		if _, err := u.f.dir(ctx, u.key+"/"); err == nil {
			return o, vfs.ErrIsDir
		} else if !errors.Is(err, fs.ErrNotExist) {
			return o, err
		}
		looked = !u.f.limits.MarkerSlash
	}
	if !stood && onlyNew || looked { // a service that knows no conditions must not be trusted with them alone
		switch old, err := u.f.bucket.Head(ctx, u.key); {
		case err == nil && old.Dir:
			return o, vfs.ErrIsDir
		case err == nil && onlyNew:
			return o, fs.ErrExist
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return o, err
		}
	}
	if single {
		last.buffer.size = u.next - last.start
		ctx, cancel := context.WithTimeout(ctx, partTime(u.f.limits.PartTime, last.buffer.size))
		defer cancel()
		return u.f.bucket.Put(ctx, u.key, last.buffer, meta, onlyNew)
	}
	return u.parts.Complete(ctx, count, meta, onlyNew)
}

// lookTTL is how long Commit trusts what Create saw of other programs' directories: a small file needs no more requests.
const lookTTL = 2 * time.Second

// mayBeDir reports whether a directory may have been made at the name since Create looked.
func (u *upload) mayBeDir() bool { return time.Since(u.began) > lookTTL || u.f.known(u.key+"/") }

// Standing implements vfs.Stander. A Commit that follows at once looks no more.
func (u *upload) Standing(ctx context.Context) (vfs.FileInfo, error) {
	o, err := u.f.bucket.Head(ctx, u.key)
	if errors.Is(err, fs.ErrNotExist) && u.mayBeDir() {
		o, err = u.f.dir(ctx, u.key+"/")
	}
	if errors.Is(err, fs.ErrNotExist) {
		u.mu.Lock()
		u.stood = time.Now()
		u.mu.Unlock()
	}
	if err != nil {
		return vfs.FileInfo{}, opError("lstat", u.name, err)
	}
	return info(u.name.Base(), o), nil
}

// abortTime bounds the clearing of an upload whose peer has gone.
const abortTime = 30 * time.Second

// Abort implements vfs.Upload. It works on a cancelled context too.
func (u *upload) Abort(context.Context) error {
	u.mu.Lock()
	if u.closed {
		u.mu.Unlock()
		return opError("abort", u.name, fs.ErrClosed)
	}
	u.closed = true
	u.cancel(fs.ErrClosed)
	u.progress.Broadcast()
	u.mu.Unlock()
	u.sending.Wait()
	u.mu.Lock()
	defer u.mu.Unlock()
	var err error
	if parts := u.parts; parts != nil {
		u.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), abortTime) // what was begun must be cleared
		err = parts.Abort(ctx)
		cancel()
		u.mu.Lock()
	}
	u.end()
	if err != nil && !errors.Is(err, ErrGone) {
		return opError("abort", u.name, err)
	}
	return nil
}

// end gives everything back. The caller holds mu.
func (u *upload) end() {
	if u.ended {
		return
	}
	u.closed, u.ending, u.ended = true, true, true
	u.cancel(fs.ErrClosed)
	if u.cur != nil {
		u.chunks -= u.cur.free()
	}
	for _, t := range u.more {
		u.chunks -= t.free()
	}
	u.more = nil
	u.f.opts.Memory.release(u.seated + u.extra)
	u.seated, u.extra = 0, 0
	u.progress.Broadcast()
	u.f.release()
}
