package sftpfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/gantryhq/gantry/vfs"
)

// near is how far ahead of what was asked for a read may begin and still belong to a file read in order, by
// several requests at once.
const near = 256 << 10

// file is an open file. Safe for concurrent use.
type file struct {
	f    *FS
	name vfs.Path
	info vfs.FileInfo // as it was opened
	h    string
	c    *conn
	ctx  context.Context // ends with the file
	end  context.CancelCauseFunc

	one sync.Mutex // held by a read of Config.Sequential

	mu     sync.Mutex // guards the fields below
	ahead  []*piece   // asked for, without gaps, in order
	next   int64      // the end of ahead
	window int        // bytes to ask for in advance; it grows while the file is read in order
	closed bool
}

// piece is one READ under way or answered.
type piece struct {
	off   int64
	size  int           // asked for
	ready chan struct{} // closed when the fields of the answer are valid
	r     reply
	data  []byte // of r
	err   error

	left  int  // bytes that nobody has read yet; guarded by file.mu, as the rest
	users int  // who wait for it or copy from it
	out   bool // nobody will come for it any more
}

var _ vfs.File = (*file)(nil)

// Open implements vfs.FS. What is no regular file is not opened: the open of a pipe would hold the server up.
func (f *FS) Open(ctx context.Context, name vfs.Path) (vfs.File, error) {
	h, err := f.open(ctx, name)
	if err != nil {
		return nil, opError("open", name, err)
	}
	return h, nil
}

func (f *FS) open(ctx context.Context, name vfs.Path) (*file, error) {
	i, err := f.Stat(ctx, name)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	if err := vfs.Regular(i); err != nil {
		return nil, err
	}
	h := &file{f: f, name: name, info: i}
	open := func() (err error) {
		if h.c, err = f.get(ctx); err != nil {
			return err
		}
		if h.h, err = h.c.handle(ctx, fxpOpen, func(w *builder) {
			w.str(f.full(name))
			w.u32(fxfRead)
			w.u32(0)
		}); err != nil {
			h.c.put()
		}
		return err
	}
	err = open()
	if errors.Is(err, errLost) && ctx.Err() == nil {
		err = open()
	}
	if err != nil {
		return nil, err
	}
	h.ctx, h.end = context.WithCancelCause(context.WithoutCancel(ctx)) // Close ends it
	return h, nil
}

// ReadAt implements vfs.File.
func (h *file) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, opError("read", h.name, fs.ErrInvalid)
	}
	for n < len(p) {
		k, err := h.readSome(p[n:], off+int64(n))
		n += k
		if err == io.EOF {
			return n, io.EOF
		}
		if err != nil {
			if c := context.Cause(h.ctx); c != nil {
				err = c
			}
			return n, opError("read", h.name, err)
		}
	}
	return n, nil
}

// readSome reads at least one byte: of the piece that holds off.
func (h *file) readSome(p []byte, off int64) (int, error) {
	if h.f.cfg.Sequential {
		h.one.Lock()
		defer h.one.Unlock()
	}
	k, err := h.piece(off, len(p))
	if err != nil {
		return 0, err
	}
	select {
	case <-k.ready:
		err = k.err
	case <-h.ctx.Done():
		err = context.Cause(h.ctx)
	}
	n := 0
	if err == nil {
		if at := off - k.off; at < int64(len(k.data)) {
			n = copy(p, k.data[at:])
		}
		// Else the answer was shorter than asked for, which leaves a gap behind it: it is asked for anew.
	}
	h.drop(k, n, err != nil || len(k.data) < k.size)
	return n, err
}

// piece finds the piece that holds off, or asks for it and for what comes after it. want is how much is read.
func (h *file) piece(off int64, want int) (*piece, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, fs.ErrClosed
	}
	if h.f.cfg.Sequential {
		k, err := h.ask(off, min(want, chunk))
		if err == nil {
			k.users, k.out = 1, true
		}
		return k, err
	}
	begin := h.next
	if len(h.ahead) > 0 {
		begin = h.ahead[0].off
	}
	if k := h.holds(off); k != nil && off+int64(max(want, h.window)) <= h.next {
		k.users++
		return k, nil
	} else if k == nil && off < h.next && (off >= begin || begin-off <= near && h.window > 0) { // what others have read already
		k, err := h.ask(off, min(want, chunk))
		if err == nil {
			k.users, k.out = 1, true
		}
		return k, err
	} else if k == nil && (off < begin || off > h.next+near || h.next < 0) {
		h.reset()
		h.next, h.window = off, 0
	}
	end := off + int64(max(want, h.window))
	if size := h.info.Size; off < size {
		end = min(end, size+1) // the answer to the last one is the end of the file
	} else {
		end = min(end, off+1)
	}
	var asked error
	for h.next < end {
		size := chunk
		if h.next < h.info.Size {
			size = int(min(chunk, h.info.Size-h.next))
		}
		if h.window == 0 {
			size = int(min(int64(size), max(end-h.next, 4096)))
		}
		k, err := h.ask(h.next, size)
		if asked = err; err != nil {
			break
		}
		h.ahead = append(h.ahead, k)
		h.next += int64(size)
	}
	for h.next-h.ahead0() > int64(h.f.cfg.Window+2*near) && len(h.ahead) > 1 && h.ahead[0].off+int64(h.ahead[0].size) <= off {
		h.ahead[0].out = true
		h.ahead[0].release()
		h.ahead = h.ahead[1:]
	}
	if k := h.holds(off); k != nil {
		k.users++
		return k, nil
	}
	if asked == nil {
		asked = errMalformed
	}
	return nil, asked
}

// holds is the piece of ahead that off is in, or nil. The caller holds mu.
func (h *file) holds(off int64) *piece {
	for _, k := range h.ahead {
		if off >= k.off && off < k.off+int64(k.size) {
			return k
		}
	}
	return nil
}

// ahead0 is where ahead begins. The caller holds mu.
func (h *file) ahead0() int64 {
	if len(h.ahead) == 0 {
		return h.next
	}
	return h.ahead[0].off
}

// ask sends one READ. The caller holds mu.
func (h *file) ask(off int64, size int) (*piece, error) {
	k := &piece{off: off, size: size, left: size, ready: make(chan struct{})}
	buf, w := begin(fxpRead)
	w.str(h.h)
	w.u64(uint64(off))
	w.u32(uint32(size))
	return k, h.c.send(h.ctx, buf, w, func(r reply) {
		k.take(r)
		close(k.ready)
	})
}

// take keeps an answer.
func (k *piece) take(r reply) {
	k.r = r
	if k.err = r.want(fxpData); k.err == nil {
		if k.data = r.body.bytes(); r.body.bad || len(k.data) > k.size || len(k.data) == 0 {
			k.err = errMalformed
		}
	} else if s, ok := errors.AsType[*statusError](k.err); ok && s.code == fxEOF {
		k.err = io.EOF
	}
}

// drop ends a use of a piece, of which n bytes were read. What is read wholly goes; after a broken one nothing that
// was asked for in advance can be trusted.
func (h *file) drop(k *piece, n int, broken bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k.users--
	k.left -= n
	if n > 0 && k.left <= 0 && !k.out {
		h.window = min(max(2*h.window, 2*chunk), h.f.cfg.Window)
		for i, a := range h.ahead {
			if a == k {
				k.out = true
				h.ahead = append(h.ahead[:i], h.ahead[i+1:]...)
				break
			}
		}
	}
	if broken && !k.out {
		h.reset()
		h.next = -1
	}
	k.release()
}

// reset forgets what was read ahead. The caller holds mu.
func (h *file) reset() {
	for _, a := range h.ahead {
		a.out = true
		a.release()
	}
	h.ahead = h.ahead[:0]
}

// release gives the memory of a piece back that nobody will look at again. The caller holds file.mu.
func (k *piece) release() {
	if !k.out || k.users > 0 {
		return
	}
	select {
	case <-k.ready:
		k.r.free()
		k.data = nil
	default: // the garbage collector takes it
	}
}

// Stat implements vfs.File.
func (h *file) Stat() (vfs.FileInfo, error) {
	i, err := h.c.attrs(h.ctx, fxpFstat, h.h, h.name.Base())
	if err != nil {
		if c := context.Cause(h.ctx); c != nil {
			err = c
		}
		return i, opError("fstat", h.name, err)
	}
	return i, nil
}

// Close implements vfs.File.
func (h *file) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return opError("close", h.name, fs.ErrClosed)
	}
	h.closed = true
	h.reset()
	h.mu.Unlock()
	h.end(fmt.Errorf("%w", fs.ErrClosed))
	h.c.closeHandle(h.h)
	h.c.put()
	return nil
}
