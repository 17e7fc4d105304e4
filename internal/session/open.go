package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/gantryhq/gantry/internal/event"
	"github.com/gantryhq/gantry/vfs"
)

// OpenFile opens a file for a transfer: permission, pattern, transfer limit, quota reservation and
// pre-hook, once. The handle is registered as a transfer until Close or Abort.
func (x *Session) OpenFile(ctx context.Context, p vfs.Path, f Flags) (*Handle, error) {
	v, err := x.begin()
	if err != nil {
		return nil, pathError("open", p, err)
	}
	defer x.done()
	pl := v.place(p)
	if pl.fixed() {
		return nil, pathError("open", p, vfs.ErrIsDir)
	}
	if err := x.unlinked(ctx, v, p); err != nil {
		return nil, pathError("open", p, err)
	}
	h := &Handle{s: x, v: v, flags: f, where: pl, opened: pl, initial: -1, tokens: tokensOf(ctx)}
	if f.Write {
		err = h.openWrite(ctx)
	} else {
		err = h.openRead(ctx)
	}
	if err != nil {
		return nil, fail("open", p, err)
	}
	if err := x.enlist(h); err != nil {
		h.Abort(ctx, err)
		return nil, pathError("open", p, err)
	}
	return h, nil
}

// enlist registers the open handle, unless the session has ended meanwhile.
func (x *Session) enlist(h *Handle) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return ErrClosed
	}
	if h.next = x.handles; h.next != nil {
		h.next.prev = h
	}
	x.handles = h
	return nil
}

// delist takes the handle out, if it is in.
func (x *Session) delist(h *Handle) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if h.prev == nil && x.handles != h {
		return
	}
	if h.prev != nil {
		h.prev.next = h.next
	} else {
		x.handles = h.next
	}
	if h.next != nil {
		h.next.prev = h.prev
	}
	h.next, h.prev = nil, nil
}

func (h *Handle) openRead(ctx context.Context) error {
	x, v, pl := h.s, h.v, &h.where
	if err := v.seen("open", pl.p); err != nil {
		return err
	}
	if err := v.may("open", pl.p, mayDownload); err != nil {
		return err
	}
	if err := h.transferLimit(ctx, false); err != nil {
		return err
	}
	if x.srv.asks(event.PreDownload) {
		if err := x.srv.before(ctx, x.event(event.PreDownload, pl)); err != nil {
			return fmt.Errorf("%w: %w", fs.ErrPermission, err)
		}
	}
	file, err := pl.FS.Open(ctx, pl.Path)
	if err != nil {
		h.dropLimit()
		return err
	}
	h.file, h.rd = file, file
	h.startMeter(false)
	return nil
}

// transferLimit finds the account's data-transfer limit, if it has one, and refuses what is used up.
func (h *Handle) transferLimit(ctx context.Context, up bool) error {
	v := h.v
	h.total = v.totalMax
	if h.mine = v.downMax; up {
		h.mine = v.upMax
	}
	if h.mine == 0 && h.total == 0 {
		return nil
	}
	t := h.s.srv.ledger.tally(v.self)
	if err := t.known(ctx); err != nil {
		t.release()
		return fmt.Errorf("data transfer limit: %w", err) // closed: nobody knows what is left
	}
	dir, other, refusal := &t.down, &t.up, ErrReadQuota
	if up {
		dir, other, refusal = &t.up, &t.down, ErrQuota
	}
	if !take(dir, other, 1, h.mine, h.total) {
		t.release()
		return refusal
	}
	dir.Add(-1)
	h.meterTally, h.dir, h.other = t, dir, other
	return nil
}

func (h *Handle) dropLimit() {
	if h.meterTally != nil {
		h.meterTally.release()
		h.meterTally = nil
	}
}

func (h *Handle) startMeter(up bool) {
	x := h.s
	h.x = newTransfer(x.srv.deps.Now(), x.user.bucket(h.v, x.conn.Remote.Addr(), up))
	h.about = h.where.describe()
}

// standing is what an upload finds at its name.
type standing struct {
	exists bool // something
	link   bool // a symbolic link
	file   bool // a regular file, or a link to one: info describes it
	info   vfs.FileInfo
}

// look finds what stands at pl and refuses what is no file.
func look(ctx context.Context, pl *place) (standing, error) {
	i, err := pl.FS.Lstat(ctx, pl.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return standing{}, nil
	case err != nil:
		return standing{}, err
	}
	st := standing{exists: true, link: i.IsSymlink(), info: i}
	if st.link {
		if st.info, err = pl.FS.Stat(ctx, pl.Path); errors.Is(err, fs.ErrNotExist) {
			return standing{exists: true, link: true}, nil
		} else if err != nil {
			return st, err
		}
	}
	switch {
	case st.info.IsDir():
		return st, vfs.ErrIsDir
	case !st.info.Mode.IsRegular():
		return st, vfs.ErrSpecial
	}
	st.file = true
	return st, nil
}

// newMember is what writing a file does to its name.
func newMember(st standing) touch {
	if st.exists {
		return touchSelf
	}
	return touchMember
}

// judge decides by what stands there whether the upload may begin, and how the storage is asked.
func (h *Handle) judge(st standing) (vfs.OpenMode, error) {
	f, held := h.flags, h.v.perms.at(h.where.p.Dir())
	mode := vfs.OpenMode{
		Truncate: f.Truncate, Append: f.Append, Read: f.Read, Offset: f.Offset,
		UID: h.v.user.UID, GID: h.v.user.GID, Atomic: h.atomic,
	}
	if f.Attr.Set&vfs.AttrMode != 0 {
		mode.Perm = f.Attr.Mode.Perm()
	}
	isNew := !st.exists || st.link
	switch {
	case isNew && !held.has(mayUpload), !isNew && !held.has(mayOverwrite):
		return mode, fs.ErrPermission
	case st.exists && f.Create && f.Exclusive:
		return mode, fs.ErrExist
	case !st.file && !f.Create:
		return mode, fs.ErrNotExist
	}
	if !st.exists {
		// Without overwrite a name that appears meanwhile must not be written over; the storage sees to it.
		mode.Exclusive = f.Exclusive || !held.has(mayOverwrite)
		mode.Truncate, mode.Missing = true, true
	} else if !st.link && !held.has(mayUpload) {
		mode.MustExist = true
	}
	return mode, nil
}

func (h *Handle) openWrite(ctx context.Context) (err error) {
	x, v, pl := h.s, h.v, &h.where
	if err := v.namable("open", pl.p); err != nil {
		return err
	}
	held := v.perms.at(pl.p.Dir())
	if !held.has(mayUpload | mayOverwrite) {
		return fs.ErrPermission // and do not tell what stands there
	}
	h.atomic = h.flags.Whole || x.srv.cfg.UploadMode&3 != 0 || pl.describe().Whole
	asks := x.srv.asks(event.PreUpload)
	var st standing
	if asks { // only about what would be done; without a hook the look below is enough
		if st, err = look(ctx, pl); err != nil {
			return err
		}
		if _, err := h.judge(st); err != nil {
			return err
		}
		if err := x.unlocked(ctx, nil, pl, newMember(st)); err != nil {
			return err
		}
	}
	if err := h.transferLimit(ctx, true); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			h.dropLimit()
		}
	}()
	if asks {
		if err := h.beforeUpload(ctx, st); err != nil {
			return err
		}
	}
	h.max = v.user.Filters.MaxUploadFileSize
	if h.books, err = x.srv.enter(ctx, pl.charge, true, h.atomic); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			h.books.leave()
		}
	}()
	unlock, err := x.srv.names.lock(ctx, pl)
	if err != nil {
		return err
	}
	defer unlock()
	if st, err = look(ctx, pl); err != nil { // once more: the hook took its time, another upload its chance
		return err
	}
	mode, err := h.judge(st)
	if err != nil {
		return err
	}
	if err := x.unlocked(ctx, nil, pl, newMember(st)); err != nil {
		return err
	}
	return h.create(ctx, st, mode, held)
}

func (h *Handle) beforeUpload(ctx context.Context, st standing) error {
	e := h.s.event(event.PreUpload, &h.where)
	if st.file && !st.link {
		e.FileSize = st.info.Size
		e.OpenFlags = h.flags.posix()
	}
	if err := h.s.srv.before(ctx, e); err != nil {
		return fmt.Errorf("%w: %w", fs.ErrPermission, err)
	}
	return nil
}

// posix are the flags' bits as Linux numbers them.
func (f Flags) posix() int {
	n := 1
	if f.Read {
		n = 2
	}
	for _, b := range []struct {
		on  bool
		bit int
	}{{f.Create, 0x40}, {f.Exclusive, 0x80}, {f.Truncate, 0x200}, {f.Append, 0x400}} {
		if b.on {
			n |= b.bit
		}
	}
	return n
}

// create opens the upload. The caller holds the lock of the name.
func (h *Handle) create(ctx context.Context, st standing, mode vfs.OpenMode, held rights) (err error) {
	x, pl := h.s, &h.where
	h.fresh = !st.file
	// newName: the account will have one file more.
	newName := h.fresh || st.link && h.atomic
	resume := st.file && !h.flags.Truncate
	if err := h.books.admit(newName); err != nil {
		return err
	}
	switch {
	case h.max > 0 && resume && st.info.Size >= h.max && !h.flags.Read, h.max > 0 && h.flags.Size > h.max:
		return fmt.Errorf("%w: the largest upload is %d bytes", ErrQuota, h.max)
	}
	if newName {
		if err := h.holdFile(); err != nil {
			return err
		}
	}
	defer func() {
		if err != nil {
			h.freeFile()
		}
	}()
	var counted int64 // of the file that will be written or replaced
	if st.file && !(st.link && h.atomic) {
		counted = x.srv.files.counted(pl, st.info)
	}
	if h.wr, err = pl.FS.Create(ctx, pl.Path, mode); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			h.wr.Abort(context.WithoutCancel(ctx))
		}
	}()
	if st.file {
		h.initial = st.info.Size
	}
	if err := h.openRoom(ctx, counted); err != nil {
		return err
	}
	if h.flags.Read {
		if r, ok := h.wr.(io.ReaderAt); ok && held.has(mayDownload) && h.v.patterns.judge(pl.p) == allowed {
			h.rd = r
		}
	}
	if h.flags.Attr.Set&vfs.AttrTimes != 0 && held.has(mayChtimes) {
		h.remember(vfs.Attr{Set: vfs.AttrTimes, Atime: h.flags.Attr.Atime, Mtime: h.flags.Attr.Mtime})
	}
	h.startMeter(true)
	if !st.exists && !h.atomic {
		x.fresh(ctx, pl)
	}
	h.key = x.pendingKey(pl)
	x.srv.pendings.add(h.key, h)
	return nil
}

// openRoom ties the upload to the counters. What is done in place shows at once; what is hidden counts when
// it is published.
func (h *Handle) openRoom(ctx context.Context, counted int64) error {
	x := h.s
	if h.books == nil || !h.books.count {
		h.room = &h.own
		return nil
	}
	if h.books.limited() {
		h.limit = h.books.charge.bytes
	}
	if h.atomic {
		h.own.start(h.books.t, counted)
		h.room = &h.own
		h.own.end.Store(max(0, h.initialKept()))
	} else {
		i, err := statOpen(ctx, h.wr, &h.where)
		if err != nil {
			return err
		}
		if h.fresh {
			h.books.spend(nil, h.heldFile, 1, 0)
			h.heldFile = false
		}
		h.links = int64(i.Nlink)
		h.node = x.srv.files.open(keyOf(&h.where, i), h.books.t, counted)
		h.room = &h.node.room
		if i, err = x.srv.files.settle(h.node, func() (vfs.FileInfo, error) { return statOpen(ctx, h.wr, &h.where) }); err != nil {
			x.srv.files.close(h.node)
			return err
		}
		h.room.raise(i.Size)
	}
	if h.flags.Size > 0 && h.limit > 0 {
		if err := h.room.extend(h.flags.Size, h.limit, 0); err != nil {
			h.closeRoom()
			if h.node != nil && h.fresh {
				h.takeBack()
			}
			return err
		}
	}
	return nil
}

// statOpen describes a file that is written in place, by its name if the handle cannot.
func statOpen(ctx context.Context, w vfs.Upload, pl *place) (vfs.FileInfo, error) {
	i, err := w.Stat()
	if err != nil {
		i, err = pl.FS.Stat(ctx, pl.Path)
	}
	return i, err
}

// initialKept is how much of the old content the upload begins with.
func (h *Handle) initialKept() int64 {
	if h.flags.Truncate {
		return 0
	}
	return h.initial
}

// closeRoom gives back what is reserved.
func (h *Handle) closeRoom() {
	if h.node != nil {
		h.s.srv.files.close(h.node)
	} else {
		h.own.release()
	}
	h.freeFile()
}

// holdFile reserves the file that the upload will be.
func (h *Handle) holdFile() error {
	if h.heldFile || !h.books.limited() || h.books.charge.files == 0 {
		return nil
	}
	err := h.books.holdFile()
	h.heldFile = err == nil
	return err
}

func (h *Handle) freeFile() {
	h.books.spend(nil, h.heldFile, 0, 0)
	h.heldFile = false
}

// takeBack removes the empty file that an upload in place made before it was refused.
func (h *Handle) takeBack() {
	ctx, cancel := context.WithTimeout(context.Background(), storeWait) // the refusal must not leave a file
	defer cancel()
	if h.where.FS.Remove(ctx, h.where.Path) == nil {
		h.books.move(-1, 0)
	}
}
