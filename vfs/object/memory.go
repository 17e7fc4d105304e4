package object

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"strings"
	"sync"
	"time"
)

// chunkSize is the unit of memory: a part is a list of chunks, taken as bytes arrive and given back as they leave.
const chunkSize = 256 << 10

// seatWait is how long an upload waits for memory before it is refused.
const seatWait = 2 * time.Minute

// ErrMemory: the server's memory for transfers with object storages was in use for too long.
var ErrMemory = errors.New("the server's memory for cloud transfers is in use; try again later")

// Memory is what all uploads and downloads of a process may hold. Reservations are served in order.
type Memory struct {
	max    int64 // immutable
	chunks sync.Pool

	mu      sync.Mutex // guards the fields below
	used    int64
	peak    int64
	waiting []*seat
}

type seat struct {
	n     int64
	ready chan struct{}
}

// NewMemory makes a Memory of max bytes.
func NewMemory(max int64) *Memory {
	return &Memory{max: max, chunks: sync.Pool{New: func() any { return new([chunkSize]byte) }}}
}

// Use is what is reserved now and was at most, in bytes.
func (m *Memory) Use() (now, peak int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used, m.peak
}

// Limit is what may be reserved, in bytes.
func (m *Memory) Limit() int64 { return m.max }

// try reserves n bytes if they are free and nobody waits for them.
func (m *Memory) try(n int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.waiting) > 0 || m.used+n > m.max {
		return false
	}
	m.take(n)
	return true
}

func (m *Memory) take(n int64) {
	m.used += n
	m.peak = max(m.peak, m.used)
}

// reserve waits for n bytes. What is larger than all there is gets it when nobody else holds any.
func (m *Memory) reserve(ctx context.Context, n int64) error {
	m.mu.Lock()
	if len(m.waiting) == 0 && (m.used+n <= m.max || m.used == 0) {
		m.take(n)
		m.mu.Unlock()
		return nil
	}
	s := &seat{n: n, ready: make(chan struct{})}
	m.waiting = append(m.waiting, s)
	m.mu.Unlock()
	t := time.NewTimer(seatWait)
	defer t.Stop()
	var err error
	select {
	case <-s.ready:
		return nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-t.C:
		err = ErrMemory
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, w := range m.waiting {
		if w == s {
			m.waiting = append(m.waiting[:i], m.waiting[i+1:]...)
			m.serve()
			return err
		}
	}
	m.used -= n // it came just now
	m.serve()
	return err
}

func (m *Memory) release(n int64) {
	if n == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used -= n
	m.serve()
}

// serve gives what is free to those who wait. The caller holds mu.
func (m *Memory) serve() {
	for len(m.waiting) > 0 {
		s := m.waiting[0]
		if m.used+s.n > m.max && m.used != 0 {
			return
		}
		m.waiting = m.waiting[1:]
		m.take(s.n)
		close(s.ready)
	}
}

func (m *Memory) chunk() *[chunkSize]byte { return m.chunks.Get().(*[chunkSize]byte) }
func (m *Memory) give(c *[chunkSize]byte) { m.chunks.Put(c) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// buffer is a run of bytes in chunks. It is a Body once nobody writes to it.
type buffer struct {
	m      *Memory
	size   int64
	chunks []*[chunkSize]byte // nil where nothing was written
	crc    uint32
	summed bool

	reading sync.RWMutex // guards gone, and the chunks of a buffer that is being sent
	gone    bool
}

func newBuffer(m *Memory, capacity int) *buffer {
	return &buffer{m: m, chunks: make([]*[chunkSize]byte, (capacity+chunkSize-1)/chunkSize)}
}

// missing counts the chunks that a write of n bytes at off would take.
func (b *buffer) missing(off, n int) int {
	count := 0
	for i := off / chunkSize; n > 0 && i <= (off+n-1)/chunkSize; i++ {
		if b.chunks[i] == nil {
			count++
		}
	}
	return count
}

func (b *buffer) writeAt(p []byte, off int) {
	for len(p) > 0 {
		c := &b.chunks[off/chunkSize]
		if *c == nil {
			*c = b.m.chunk()
		}
		n := copy((*c)[off%chunkSize:], p)
		p, off = p[n:], off+n
	}
}

// free gives the chunks back and says how many there were. b is of no use then.
func (b *buffer) free() int {
	b.reading.Lock()
	defer b.reading.Unlock()
	b.gone = true
	n := 0
	for i, c := range b.chunks {
		if c != nil {
			b.m.give(c)
			b.chunks[i] = nil
			n++
		}
	}
	return n
}

func (b *buffer) Size() int64 { return b.size }

// CRC32C implements Body. It is computed once, by whoever sends the part.
func (b *buffer) CRC32C() uint32 {
	if !b.summed {
		b.summed = true
		left := b.size
		for _, c := range b.chunks {
			n := min(left, chunkSize)
			if n == 0 {
				break
			}
			b.crc = crc32.Update(b.crc, castagnoli, c[:n])
			left -= n
		}
	}
	return b.crc
}

// Reader implements Body.
func (b *buffer) Reader() io.ReadSeekCloser { return &bufferReader{b: b} }

type bufferReader struct {
	b   *buffer
	pos int64
}

// Read fails once the buffer is free: a connection that was given up may read on for a moment.
func (r *bufferReader) Read(p []byte) (int, error) {
	r.b.reading.RLock()
	defer r.b.reading.RUnlock()
	if r.b.gone {
		return 0, fs.ErrClosed
	}
	if r.pos >= r.b.size {
		return 0, io.EOF
	}
	c := r.b.chunks[r.pos/chunkSize]
	at := r.pos % chunkSize
	n := copy(p, c[at:min(chunkSize, at+r.b.size-r.pos)])
	r.pos += int64(n)
	return n, nil
}

func (r *bufferReader) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		off += r.pos
	case io.SeekEnd:
		off += r.b.size
	}
	if off < 0 {
		return 0, fmt.Errorf("%w: negative position", fs.ErrInvalid)
	}
	r.pos = off
	return off, nil
}

// Close leaves the chunks with the upload: a client may close a body and still read from it.
func (r *bufferReader) Close() error { return nil }

// Text is a Body in memory, for markers and tests.
type Text string

// Size implements Body, as do the others.
func (t Text) Size() int64    { return int64(len(t)) }
func (t Text) CRC32C() uint32 { return crc32.Checksum([]byte(t), castagnoli) }

// Reader implements Body.
func (t Text) Reader() io.ReadSeekCloser { return textReader{strings.NewReader(string(t))} }

type textReader struct{ *strings.Reader }

func (textReader) Close() error { return nil }
