package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

const (
	// headSize is what Open reads with its one request: a small file needs no other.
	headSize = 256 << 10
	// slack is how far from the reader's place a read may be to belong to the same run: clients ask for many pieces
	// at once, and not in order.
	slack = 2 << 20
	// tries is how often a part that breaks off is asked for again, from where it broke off.
	tries = 5
)

// Open implements vfs.FS. The handle reads the version that it opened: if the object is replaced or removed, what
// is not in memory yet fails with ErrChanged or fs.ErrNotExist.
func (f *FS) Open(ctx context.Context, name vfs.Path) (vfs.File, error) {
	if err := f.begin(ctx, "open", name); err != nil {
		return nil, err
	}
	r, err := f.open(ctx, name)
	if err != nil {
		return nil, opError("open", name, err)
	}
	return r, nil
}

func (f *FS) open(ctx context.Context, name vfs.Path) (*file, error) {
	switch {
	case name.IsRoot():
		return nil, vfs.ErrIsDir
	case name.HasTempName():
		return nil, fs.ErrNotExist
	}
	key, err := f.key(name)
	if err != nil {
		return nil, err
	}
	body, o, err := f.bucket.Get(ctx, key, 0, headSize, "")
	if errors.Is(err, fs.ErrNotExist) {
		if _, derr := f.dir(ctx, key+"/"); derr == nil {
			return nil, vfs.ErrIsDir
		} else if !errors.Is(derr, fs.ErrNotExist) {
			return nil, derr
		}
		return nil, f.missing(ctx, name)
	}
	if err != nil {
		return nil, err
	}
	head := make([]byte, min(o.Size, headSize))
	n, err := io.ReadFull(body, head)
	body.Close()
	if o.Dir {
		return nil, vfs.ErrIsDir
	}
	life, cancel := context.WithCancelCause(context.WithoutCancel(ctx)) // the file outlives the call that opens it
	r := &file{f: f.core, name: name, o: o, ctx: life, cancel: cancel, jump: -1}
	r.arrived.L = &r.mu
	if err != nil { // broken off: once more, as a part does
		if err = r.fetch(0, head, n); err != nil {
			cancel(nil)
			return nil, err
		}
	}
	r.head = head
	f.refs.Add(1)
	return r, nil
}

// file is an open file. Reads in one run are served from blocks that are fetched ahead, others by a request each.
type file struct {
	f      *core // immutable, as all up to cancel
	name   vfs.Path
	o      Object
	head   []byte
	ctx    context.Context // of the requests
	cancel context.CancelCauseFunc

	fetching sync.WaitGroup // of blocks and reads; nobody adds once closed

	mu      sync.Mutex // guards the fields below
	arrived sync.Cond  // bytes of a block, or its end, or the file's
	closed  bool
	blocks  []*block // one after the other
	first   int64    // where the run of reads began
	held    int      // blocks that hold memory: those, and dropped ones that are being fetched
	last    int64    // the end of the furthest read of it
	jump    int64    // the end of the last read outside it
}

// block is a part of the file being fetched.
type block struct {
	*buffer
	start, end int64
	have       int64 // bytes from start that are there
	taken      []int // bytes of each chunk that were read
	whole      int   // chunks that were read whole
	err        error
	cost       int64 // reserved
	cancel     context.CancelFunc
}

// ReadAt implements vfs.File.
func (r *file) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.readAt(p, off)
	if err != nil && err != io.EOF {
		return n, opError("read", r.name, err)
	}
	return n, err
}

func (r *file) readAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return 0, fs.ErrClosed
	}
	r.fetching.Add(1)
	r.mu.Unlock()
	defer r.fetching.Done()
	if len(p) == 0 {
		return 0, nil
	}
	done := 0
	for done < len(p) {
		if off >= r.o.Size {
			return done, io.EOF
		}
		n, err := r.some(p[done:], off)
		done, off = done+n, off+int64(n)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// some reads a beginning of p.
func (r *file) some(p []byte, off int64) (int, error) {
	p = p[:min(int64(len(p)), r.o.Size-off)]
	if off < int64(len(r.head)) {
		n := copy(p, r.head[off:])
		r.mu.Lock()
		r.note(off, off+int64(n))
		r.mu.Unlock()
		return n, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note(off, off+int64(len(p)))
	b := r.at(off)
	for b != nil && off >= b.start+b.have && b.err == nil && !r.closed {
		r.arrived.Wait()
	}
	switch {
	case r.closed:
		return 0, fs.ErrClosed
	case b == nil || b.err == errDropped:
		r.mu.Unlock()
		defer r.mu.Lock()
		return r.direct(p, off)
	case off >= b.start+b.have:
		return 0, b.err
	}
	at := off - b.start
	p = p[:min(int64(len(p)), b.have-at)]
	return r.take(b, p, int(at)), nil
}

// take copies out of b and frees the chunks that were read whole. Where a chunk has gone already, the block does
// not hold it any more: 0 bytes. The caller holds mu, as for all below but fetch and direct.
func (r *file) take(b *block, p []byte, at int) int {
	done := 0
	for done < len(p) {
		i := at / chunkSize
		c := b.chunks[i]
		if c == nil {
			break
		}
		n := copy(p[done:], c[at%chunkSize:])
		done, at = done+n, at+n
		size := int(min(chunkSize, b.end-b.start-int64(i)*chunkSize))
		if b.taken[i] += n; b.taken[i] >= size {
			b.chunks[i] = nil
			r.f.opts.Memory.give(c)
			b.whole++
		}
	}
	if b.whole == len(b.chunks) {
		r.free(b)
		r.blocks = without(r.blocks, b)
	}
	return done
}

// at finds the block that holds off, or nil if it is to be read by itself.
func (r *file) at(off int64) *block {
	for _, b := range r.blocks {
		if off >= b.start && off < b.end && b.err == nil {
			if i := (off - b.start) / chunkSize; off < b.start+b.have && b.chunks[i] == nil {
				return nil // read before
			}
			return b
		}
	}
	return nil
}

// note follows the run of reads and fetches ahead of it.
func (r *file) note(from, to int64) {
	switch {
	case from <= r.last && to+slack >= r.last, from > r.last && from <= r.last+slack:
		r.last = max(r.last, to)
	case from != r.jump: // a jump: another run may begin there, if the next read goes on with it
		r.jump = to
		return
	default:
		r.first, r.last, r.jump = from, to, -1
		r.drop(func(*block) bool { return true })
	}
	r.drop(func(b *block) bool { return r.last > b.end+slack })
	r.ahead(from)
}

// ahead keeps enough blocks before the reader: twice as much as it has read, up to the limits.
func (r *file) ahead(from int64) {
	l := &r.f.limits
	next := max(int64(len(r.head)), from)
	if n := len(r.blocks); n > 0 {
		next = r.blocks[n-1].end
	}
	read := r.last - r.first
	for r.held < l.Readers && next < r.o.Size && next < r.last+min(2*read, int64(l.ReadSize)*int64(l.Readers)) {
		size := min(int64(l.ReadSize), max(1<<20, read), r.o.Size-next)
		cost := (size + chunkSize - 1) / chunkSize * chunkSize
		if !r.f.opts.Memory.try(cost) {
			return
		}
		ctx, cancel := context.WithTimeout(r.ctx, partTime(l.ReadTime, size))
		b := &block{buffer: newBuffer(r.f.opts.Memory, int(size)), start: next, end: next + size, cost: cost, cancel: cancel}
		b.taken = make([]int, len(b.chunks))
		r.blocks, r.held = append(r.blocks, b), r.held+1
		r.fetching.Go(func() { r.load(ctx, b) }) // ends with its requests, which drop and Close cancel; Close waits
		next = b.end
	}
}

// drop gives up blocks.
func (r *file) drop(which func(*block) bool) {
	keep := r.blocks[:0]
	for _, b := range r.blocks {
		if !which(b) {
			keep = append(keep, b)
			continue
		}
		if b.err == nil {
			b.err = errDropped
		}
		b.cancel()
		if b.have == b.end-b.start { // else load frees it
			r.free(b)
		}
	}
	clear(r.blocks[len(keep):])
	r.blocks = keep
	r.arrived.Broadcast()
}

// errDropped ends a block that nobody reads any more. Who waited for it reads by itself.
var errDropped = errors.New("dropped")

func (r *file) free(b *block) {
	b.free()
	if b.cost > 0 {
		r.held--
	}
	r.f.opts.Memory.release(b.cost)
	b.cost = 0
}

// load fetches a block.
func (r *file) load(ctx context.Context, b *block) {
	defer b.cancel()
	buf := r.f.opts.Memory.chunk() // of the block's first bytes; then each of the next
	err := r.fetchTo(ctx, b, buf)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && b.err == nil {
		b.err = err
	}
	if b.err != nil {
		r.free(b)
		r.blocks = without(r.blocks, b)
	}
	r.arrived.Broadcast()
}

func without(list []*block, b *block) []*block {
	out := list[:0]
	for _, x := range list {
		if x != b {
			out = append(out, x)
		}
	}
	clear(list[len(out):])
	return out
}

// fetchTo reads a block chunk by chunk. buf is its first chunk.
func (r *file) fetchTo(ctx context.Context, b *block, buf *[chunkSize]byte) error {
	give := func() {
		if buf != nil {
			r.f.opts.Memory.give(buf)
		}
	}
	s := &stream{r: r, ctx: ctx, pos: b.start, end: b.end}
	defer s.close()
	for at := b.start; at < b.end; {
		if buf == nil {
			buf = r.f.opts.Memory.chunk()
		}
		n := int(min(chunkSize, b.end-at))
		for got := 0; got < n; {
			m, err := s.read(buf[got:n])
			got += m
			if err != nil {
				give()
				return err
			}
		}
		r.mu.Lock()
		if b.err != nil {
			r.mu.Unlock()
			give()
			return b.err
		}
		b.chunks[(at-b.start)/chunkSize] = buf
		buf = nil
		at += int64(n)
		b.have = at - b.start
		r.arrived.Broadcast()
		r.mu.Unlock()
	}
	give()
	return nil
}

// stream is a range of the object that goes on after a connection breaks.
type stream struct {
	r        *file
	ctx      context.Context
	pos, end int64
	body     io.ReadCloser
	failed   int
}

// read reads some bytes, or says why there will be none.
func (s *stream) read(p []byte) (int, error) {
	for {
		err := error(nil)
		if s.body == nil {
			s.body, _, err = s.r.f.bucket.Get(s.ctx, s.r.o.Key, s.pos, s.end-s.pos, s.r.o.Version)
			if err != nil {
				return 0, err // the client has tried often enough
			}
		}
		n, err := s.body.Read(p)
		s.pos += int64(n)
		if n > 0 {
			s.failed = 0
			return n, nil
		}
		if err == nil {
			continue
		}
		s.close()
		if cerr := s.ctx.Err(); cerr != nil {
			return 0, cerr
		}
		if s.failed++; s.failed >= tries {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, fmt.Errorf("read at %d of %d: %w", s.pos, s.r.o.Size, err)
		}
		if err := pause(s.ctx, s.failed); err != nil {
			return 0, err
		}
	}
}

func (s *stream) close() {
	if s.body != nil {
		s.body.Close()
		s.body = nil
	}
}

// pause waits before try number n is repeated.
func pause(ctx context.Context, n int) error {
	t := time.NewTimer(min(100*time.Millisecond<<n, 5*time.Second))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// fetch fills p from got on with the object's bytes at off.
func (r *file) fetch(off int64, p []byte, got int) error {
	ctx, cancel := context.WithTimeout(r.ctx, partTime(r.f.limits.ReadTime, int64(len(p))))
	defer cancel()
	s := &stream{r: r, ctx: ctx, pos: off + int64(got), end: off + int64(len(p))}
	defer s.close()
	for got < len(p) {
		n, err := s.read(p[got:])
		got += n
		if err != nil {
			return err
		}
	}
	return nil
}

// direct reads p by a request of its own.
func (r *file) direct(p []byte, off int64) (int, error) {
	if err := r.fetch(off, p, 0); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Stat implements vfs.File.
func (r *file) Stat() (vfs.FileInfo, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return vfs.FileInfo{}, opError("fstat", r.name, fs.ErrClosed)
	}
	return info(r.name.Base(), r.o), nil
}

// Close implements vfs.File.
func (r *file) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return opError("close", r.name, fs.ErrClosed)
	}
	r.closed = true
	r.cancel(fs.ErrClosed)
	r.drop(func(*block) bool { return true })
	r.mu.Unlock()
	r.fetching.Wait()
	r.f.release()
	return nil
}
