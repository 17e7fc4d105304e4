package httpfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

const (
	// kept is how much of what was read stays at hand, in bytes: clients that send reads at once mix them up by less.
	kept = 2 << 20
	// skipped is how far ahead a read may be and still wait for the stream to come to it.
	skipped = 1 << 20
	// reopens bounds how often a stream that broke is gone on with, until one has given enough.
	reopens = 3
	enough  = 256 << 10
)

var errChanged = errors.New("the file was changed while it was read")

// file is an open file: one stream from the service, which is begun anew where a read is elsewhere. Safe for
// concurrent use.
type file struct {
	f    *FS
	name vfs.Path
	info vfs.FileInfo // as it was opened
	ctx  context.Context
	end  context.CancelCauseFunc

	mu     sync.Mutex // guards the fields below; held while the service is waited for, which Close ends
	body   *body      // nil: none
	got    int        // bytes of body
	breaks int        // of streams, since one gave enough
	next   int64      // offset of the stream
	ring   []byte     // the last bytes before next: that at offset x is ring[x % len]
	oldest int64      // offset of the first byte in ring
	closed bool
}

var (
	_ vfs.File   = (*file)(nil)
	_ vfs.Opened = (*file)(nil)
)

// Open implements vfs.FS. The stream begins now, so that what is read is what was opened.
func (f *FS) Open(ctx context.Context, name vfs.Path) (vfs.File, error) {
	for try := 1; ; try++ {
		h, err := f.open(ctx, name)
		if err == errChanged && try < 5 {
			continue
		}
		if err != nil {
			return nil, opError("open", name, err)
		}
		return h, nil
	}
}

// open gives errChanged if the file was replaced between the two questions.
func (f *FS) open(ctx context.Context, name vfs.Path) (_ *file, err error) {
	if err := f.visible(ctx, name); err != nil {
		return nil, err
	}
	i, err := f.r.stat(ctx, name)
	if err == nil {
		err = vfs.Regular(i)
	}
	if err != nil {
		return nil, err
	}
	h := &file{f: f, name: name, info: i}
	h.ctx, h.end = context.WithCancelCause(context.WithoutCancel(ctx)) // Close ends it
	if i.Size == 0 {
		return h, nil
	}
	defer func() {
		if err != nil {
			h.drop()
			h.end(err)
		}
	}()
	defer context.AfterFunc(ctx, func() { h.end(ctx.Err()) })() // as long as it is being opened
	if err := f.r.ask(ctx, func(context.Context) (err error) {
		h.body, err = f.r.open(h.ctx, name, 0)
		return err
	}); err != nil {
		return nil, err
	}
	if n := h.body.size; n >= 0 {
		if n != i.Size {
			return nil, errChanged
		}
		return h, nil
	}
	if now, err := f.r.stat(ctx, name); err != nil {
		return nil, err
	} else if now.Size != i.Size || !now.ModTime.Equal(i.ModTime) {
		return nil, errChanged
	}
	return h, nil
}

// ReadAt implements vfs.File.
func (h *file) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, opError("read", h.name, fs.ErrInvalid)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for n < len(p) && err == nil {
		var k int
		k, err = h.some(p[n:], off+int64(n))
		n += k
	}
	if err == io.EOF || err == nil {
		return n, err
	}
	if c := context.Cause(h.ctx); c != nil {
		err = c
	}
	return n, opError("read", h.name, err)
}

// some reads at least one byte at off. The caller holds mu, as for all below.
func (h *file) some(p []byte, off int64) (int, error) {
	if h.closed {
		return 0, fs.ErrClosed
	}
	if off >= h.info.Size {
		return 0, io.EOF
	}
	if off >= h.oldest && off < h.next {
		return h.fromRing(p, off), nil
	}
	if off < h.oldest || off > h.next+skipped || h.body == nil && off != h.next {
		h.drop()
		h.next, h.oldest = off, off
	}
	for h.next <= off {
		if err := h.more(); err != nil {
			return 0, err
		}
	}
	return h.fromRing(p, off), nil
}

func (h *file) fromRing(p []byte, off int64) int {
	at := int(off % int64(len(h.ring)))
	return copy(p, h.ring[at:min(len(h.ring), at+int(h.next-off))])
}

// more reads a piece of the stream into the ring. A stream that breaks is gone on with, as long as the file is the same.
func (h *file) more() error {
	if h.ring == nil {
		h.ring = make([]byte, min(kept, max(h.info.Size, 1)))
	}
	for {
		err := h.read()
		if err == nil || h.breaks >= reopens || h.ctx.Err() != nil || !passing(err) {
			return err
		}
		t := time.NewTimer(50 * time.Millisecond << h.breaks)
		h.breaks++
		select {
		case <-t.C:
		case <-h.ctx.Done():
			t.Stop()
			return h.ctx.Err()
		}
		if now, serr := h.f.r.stat(h.ctx, h.name); serr != nil {
			return serr
		} else if now.Size != h.info.Size || !now.ModTime.Equal(h.info.ModTime) {
			return errChanged
		}
	}
}

// read reads once. At least one byte comes, or there is an error.
func (h *file) read() error {
	if h.body == nil {
		b, err := h.f.r.open(h.ctx, h.name, h.next)
		if err != nil {
			return err
		}
		h.body, h.got = b, 0
	}
	at := int(h.next % int64(len(h.ring)))
	room := h.ring[at:]
	if left := h.info.Size - h.next; int64(len(room)) > left {
		room = room[:left]
	}
	n, err := h.body.Read(room)
	h.next += int64(n)
	if h.got += n; h.got >= enough {
		h.breaks = 0
	}
	h.oldest = max(h.oldest, h.next-int64(len(h.ring)))
	if n > 0 {
		if h.next >= h.info.Size { // the rest, if there is more, is not this file's
			h.drop()
		}
		return nil
	}
	h.drop()
	switch err {
	case nil, io.EOF:
		return fmt.Errorf("%w: it ends after %d of %d bytes", io.ErrUnexpectedEOF, h.next, h.info.Size)
	}
	return err
}

func (h *file) drop() {
	if h.body != nil {
		h.body.Close()
		h.body = nil
	}
}

// Stat implements vfs.File.
func (h *file) Stat() (vfs.FileInfo, error) {
	if c := context.Cause(h.ctx); c != nil {
		return vfs.FileInfo{}, opError("fstat", h.name, c)
	}
	i, err := h.f.r.stat(h.ctx, h.name)
	if errors.Is(err, fs.ErrNotExist) { // removed since: it is what was opened
		return h.info, nil
	}
	return i, opError("fstat", h.name, err)
}

// Opened implements vfs.Opened.
func (h *file) Opened() vfs.FileInfo { return h.info }

// Close implements vfs.File.
func (h *file) Close() error {
	if h.ctx.Err() != nil {
		return opError("close", h.name, fs.ErrClosed)
	}
	h.end(fs.ErrClosed) // who waits lets go of mu
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return opError("close", h.name, fs.ErrClosed)
	}
	h.closed = true
	h.drop()
	h.ring = nil
	return nil
}

// body is a stream from the service that ends when it stands still.
type body struct {
	in     io.ReadCloser
	size   int64 // that it will give; -1 unknown
	cancel context.CancelCauseFunc
	silent *time.Timer
	wait   time.Duration
	ctx    context.Context
}

// open asks for a file's content from off on. The context is the stream's, too.
func (r *remote) open(ctx context.Context, name vfs.Path, off int64) (*body, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	b := &body{cancel: cancel, wait: r.pool.o.Wait, ctx: ctx}
	b.silent = time.AfterFunc(b.wait, func() { cancel(errSilent) })
	q := url.Values{}
	if off > 0 {
		q.Set("offset", strconv.FormatInt(off, 10))
	}
	resp, err := r.send(ctx, http.MethodGet, "open", name.String(), q, nil)
	if err != nil {
		b.silent.Stop()
		cancel(nil)
		return nil, err
	}
	b.in, b.size = resp.Body, resp.ContentLength
	b.silent.Stop() // who reads slowly holds nobody up
	return b, nil
}

func (b *body) Read(p []byte) (int, error) {
	b.silent.Reset(b.wait)
	n, err := b.in.Read(p)
	b.silent.Stop()
	if err != nil && err != io.EOF {
		if c := context.Cause(b.ctx); c != nil {
			err = c
		}
	}
	return n, err
}

func (b *body) Close() error {
	b.silent.Stop()
	b.cancel(nil)
	return b.in.Close()
}
