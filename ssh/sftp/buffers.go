package sftp

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

// Sizes of buffers, in bytes.
const (
	// bigSize holds the largest packet, and eight replies of 32 KiB data.
	bigSize = MaxPacket + 32<<10
	// smallInput is what an idle connection reads into. What is left of a burst of requests is then read into
	// a borrowed buffer.
	smallInput = 256
	// smallOutput holds the replies to a few requests; more go to a borrowed buffer.
	smallOutput = 256
	// gatherSize of replies are sent at once, even if more requests wait.
	gatherSize = 256 << 10
	// exactAbove: a packet longer than this is read up to its end and no further, so that the next one
	// begins at the front of the buffer and nothing large is moved there.
	exactAbove = 64 << 10
)

// Buffers lends the memory that bytes are moved in: a connection holds some only while it works. Share one
// between all connections. Safe for concurrent use; the zero value is ready.
type Buffers struct{ big sync.Pool }

type bigBuffer [bigSize]byte

func (b *Buffers) get() *bigBuffer {
	if x, ok := b.big.Get().(*bigBuffer); ok {
		return x
	}
	return new(bigBuffer)
}

func (b *Buffers) put(x *bigBuffer) { b.big.Put(x) }

// input cuts a stream into packets. Owned by the serve goroutine.
type input struct {
	r     io.Reader
	pool  *Buffers
	big   *bigBuffer // borrowed while a packet is there that small cannot hold or has not got in full
	buf   []byte     // small or big
	start int        // buf[start:end] is unread
	end   int
	small [smallInput]byte
}

func newInput(r io.Reader, pool *Buffers) *input {
	in := &input{r: r, pool: pool}
	in.buf = in.small[:]
	return in
}

// next takes the next packet, without its length field, or nil if it is not there in full. The bytes stay
// valid until fill. A length that cannot be is ErrMalformed, before memory is borrowed for it (SFTP-1).
func (in *input) next() ([]byte, error) {
	n, err := in.length()
	if err != nil || n == 0 || in.end-in.start < n {
		return nil, err
	}
	p := in.buf[in.start+4 : in.start+n]
	in.start += n
	return p, nil
}

// length is that of the packet at the front, with its length field; 0 if that is not there yet.
func (in *input) length() (int, error) {
	if in.end-in.start < 4 {
		return 0, nil
	}
	n := binary.BigEndian.Uint32(in.buf[in.start:])
	if n < 1 || n > MaxPacket {
		return 0, fmt.Errorf("%w: length %d, must be 1 to %d", ErrMalformed, n, MaxPacket)
	}
	return 4 + int(n), nil
}

// fill reads once, which may wait. It is called when next has nothing more. io.EOF stands for an end between
// two packets, io.ErrUnexpectedEOF for one within.
func (in *input) fill() error {
	if in.start == in.end {
		in.release()
	}
	need, err := in.length()
	if err != nil {
		return err
	}
	need = max(need, 4)
	if in.big == nil && (need > len(in.buf) || in.start < in.end) { // the rest of a packet is on its way, and more behind it
		in.big = in.pool.get()
		in.end = copy(in.big[:], in.buf[in.start:in.end])
		in.start, in.buf = 0, in.big[:]
	} else if in.start > 0 && len(in.buf)-in.end < max(need-(in.end-in.start), len(in.buf)/8) {
		in.end = copy(in.buf, in.buf[in.start:in.end])
		in.start = 0
	}
	limit := len(in.buf)
	if need > exactAbove {
		limit = in.start + need
	}
	n, err := in.r.Read(in.buf[in.end:limit])
	if n < 0 || n > limit-in.end {
		return fmt.Errorf("sftp: reader returned %d", n)
	}
	in.end += n
	if n > 0 {
		return nil // an error comes again
	}
	if err == io.EOF && in.start != in.end {
		return io.ErrUnexpectedEOF
	}
	return err
}

// release gives the large buffer back; what is unread is lost.
func (in *input) release() {
	if in.big != nil {
		in.pool.put(in.big)
		in.big = nil
	}
	in.buf, in.start, in.end = in.small[:], 0, 0
}

// output gathers replies. Owned by one goroutine.
type output struct {
	b       []byte // in small or big
	pool    *Buffers
	big     *bigBuffer         // borrowed while small does not hold what is gathered
	send    func([]byte) error // nil: never flushes by itself
	err     error              // of the first send that failed
	flushes int                // how often replies were sent
	small   [smallOutput]byte
}

// reserve makes room for n more bytes, n up to bigSize, and sends what is there if that takes too much.
func (o *output) reserve(n int) {
	if o.b == nil {
		o.b = o.small[:0]
	}
	if cap(o.b)-len(o.b) >= n {
		return
	}
	if len(o.b)+n > bigSize {
		o.flush()
		o.reserve(n)
		return
	}
	o.big = o.pool.get()
	o.b = append(o.big[:0], o.b...)
}

// flush sends what is gathered and gives the buffer back.
func (o *output) flush() {
	if len(o.b) > 0 && o.err == nil {
		o.flushes++
		o.err = o.send(o.b)
	}
	o.drop()
}

// drop forgets what is gathered and gives the buffer back.
func (o *output) drop() {
	if o.big != nil {
		o.pool.put(o.big)
		o.big = nil
	}
	o.b = o.small[:0]
}

// begin starts a reply of at most n bytes after its id; end, with what begin returned, completes it.
func (o *output) begin(t Type, id uint32, n int) (start int) {
	o.reserve(9 + n)
	start = len(o.b)
	o.b = append(o.b, 0, 0, 0, 0, byte(t))
	o.b = binary.BigEndian.AppendUint32(o.b, id)
	return start
}

func (o *output) end(start int) { setLength(o.b, start) }

func (o *output) status(id uint32, s status) {
	start := o.begin(TypeStatus, id, 4+4+len(s.text)+4+len(statusLang))
	o.b = binary.BigEndian.AppendUint32(o.b, uint32(s.code))
	o.b = appendString(appendString(o.b, s.text), statusLang)
	o.end(start)
}

func (o *output) handle(id uint32, h *handle) {
	start := o.begin(TypeHandle, id, 4+len(h.id))
	o.b = appendString(o.b, h.id[:])
	o.end(start)
}

func (o *output) attrs(id uint32, a Attrs) {
	start := o.begin(TypeAttrs, id, 64)
	o.b = a.append(o.b)
	o.end(start)
}

// name replies with one name and no attributes, as REALPATH and its kin do.
func (o *output) name(id uint32, name string) {
	start := o.begin(TypeName, id, 4+2*(4+len(name))+4)
	o.b = binary.BigEndian.AppendUint32(o.b, 1)
	o.b = appendString(appendString(o.b, name), name)
	o.b = binary.BigEndian.AppendUint32(o.b, 0)
	o.end(start)
}
