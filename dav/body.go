package dav

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/gantryhq/gantry/engine"
)

// noBody is the body of a request without one.
type emptyBody struct{}

func (emptyBody) Read([]byte) (int, error) { return 0, io.EOF }

// wire is where a body is read from: the borrowed connection.
type wire interface {
	io.Reader
	SetReadDeadline(t time.Time) error
	ReadAhead() (end func())
	Unread(p []byte)
	Held() int
}

var _ wire = (*engine.Lifted)(nil)

// body reads the body of a request off its connection, which it borrows at the first Read.
type body struct {
	borrow func() (wire, error)
	expect func() error // says 100 Continue; nil when that is not waited for
	limit  int64        // bytes that may come; 0 no bound
	pace   pace

	chunked bool
	left    int64 // bytes of the body that are to come, without chunks
	chunks  chunks
	w       wire
	ahead   func() // ends w's reading ahead; nil without
	buf     []byte // read ahead, of chunks
	got     int64
	begun   bool
	err     error // the end, which stays
}

// aheadSize is what is read ahead to find the heads of chunks, in bytes.
const aheadSize = 4 << 10

// done reports whether the whole body has been read.
func (b *body) done() bool {
	if b.chunked {
		return b.chunks.state == chunksEnd
	}
	return b.left == 0
}

// Read reads the body. io.EOF says that it came whole; a connection that ends before gives io.ErrUnexpectedEOF.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.done() {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	if !b.begun {
		if err := b.begin(); err != nil {
			b.err = err
			return 0, err
		}
	}
	n, err := b.read(p)
	b.got += int64(n)
	if err == nil && b.limit > 0 && b.got > b.limit {
		n, err = 0, errTooLong
	}
	b.err = err
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

func (b *body) begin() (err error) {
	if b.limit > 0 && b.left > b.limit {
		return errTooLong // before it is asked for
	}
	b.begun = true
	if b.w, err = b.borrow(); err != nil {
		return err
	}
	if b.limit == 0 { // a file
		b.ahead = b.w.ReadAhead()
	}
	if b.expect != nil && b.w.Held() == 0 {
		return b.expect()
	}
	return nil
}

// rest ends what the body does with the connection, before that goes back to its loop.
func (b *body) rest() {
	if b.ahead != nil {
		b.ahead()
		b.ahead = nil
	}
}

func (b *body) read(p []byte) (int, error) {
	if !b.chunked {
		n, err := b.fetch(p[:min(int64(len(p)), b.left)])
		b.left -= int64(n)
		return n, err
	}
	for {
		if len(b.buf) > 0 {
			n, used, err := b.chunks.decode(p, b.buf)
			b.buf = b.buf[used:]
			if b.chunks.state == chunksEnd {
				b.w.Unread(b.buf) // the next request
				b.buf = nil
				return n, io.EOF
			}
			if n > 0 || err != nil {
				return n, err
			}
		}
		if n := b.chunks.data(); n > 0 && len(p) >= aheadSize { // past the buffer
			m, err := b.fetch(p[:min(int64(len(p)), n)])
			b.chunks.took(int64(m))
			return m, err
		}
		buf := make([]byte, aheadSize)
		n, err := b.fetch(buf)
		if err != nil {
			return 0, err
		}
		b.buf = buf[:n]
	}
}

// fetch reads bytes of the connection.
func (b *body) fetch(p []byte) (int, error) {
	begun := time.Now()
	b.w.SetReadDeadline(begun.Add(b.pace.stall))
	n, err := b.w.Read(p)
	switch {
	case n > 0:
		if !b.pace.came(n, time.Since(begun)) {
			return n, errRate
		}
		return n, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, errRate
	case err == io.EOF:
		return 0, io.ErrUnexpectedEOF
	}
	return 0, err
}

// pace is the guard against who sends, but next to nothing: what counts is the time that we waited (HTTP-1).
type pace struct {
	stall  time.Duration // nothing may come for this long
	rate   int64         // bytes per second; 0 is any
	bytes  int64
	waited time.Duration
}

// paceWindow is the time over which the rate is looked at.
const paceWindow = 30 * time.Second

// came counts n bytes that were waited for for d. It reports whether that is fast enough.
func (p *pace) came(n int, d time.Duration) bool {
	p.bytes += int64(n)
	if p.waited += d; p.waited < paceWindow {
		return true
	}
	ok := p.bytes >= int64(p.waited.Seconds()*float64(p.rate))
	p.bytes, p.waited = 0, 0
	return ok
}

// chunks decodes the chunked transfer coding (RFC 9112 7.1), from pieces of any size.
type chunks struct {
	state  chunkState
	left   int64 // of the chunk's data
	digits int
	over   int // bytes that were no data, less what data excuses
	line   int // bytes in the trailer's line
}

type chunkState uint8

const (
	chunksSize chunkState = iota
	chunksExtension
	chunksSizeEnd // LF
	chunksData
	chunksDataEnd // CR
	chunksDataLF
	chunksTrailer
	chunksTrailerEnd // LF
	chunksEnd
)

// Bounds of what surrounds the data.
const (
	maxChunkOver = 16 << 10 // bytes; a byte of data each with an extension would cost a lot for nothing
	maxChunkSize = 1 << 50
)

// data is how many bytes of data come next, 0 if something else does.
func (d *chunks) data() int64 {
	if d.state == chunksData {
		return d.left
	}
	return 0
}

// took counts n bytes of data that were read elsewhere.
func (d *chunks) took(n int64) {
	d.over -= int(min(n, maxChunkOver))
	if d.over < 0 {
		d.over = 0
	}
	if d.left -= n; d.left == 0 {
		d.state = chunksDataEnd
	}
}

// decode puts data of in into dst. It says how much it gave and how much of in it used; it stops at the end of either,
// and at the end of the body.
func (d *chunks) decode(dst, in []byte) (n, used int, err error) {
	for used < len(in) && d.state != chunksEnd {
		if d.state == chunksData {
			if n == len(dst) {
				return n, used, nil
			}
			m := copy(dst[n:], in[used:min(int64(len(in)), int64(used)+d.left)])
			n, used = n+m, used+m
			d.took(int64(m))
			continue
		}
		c := in[used]
		used++
		if d.over++; d.over > maxChunkOver {
			return n, used, errBody
		}
		if !d.step(c) {
			return n, used, errBody
		}
	}
	return n, used, nil
}

// step takes one byte that is no data. It reports whether it may stand there.
func (d *chunks) step(c byte) bool {
	switch d.state {
	case chunksSize:
		if v := unhex(c); v < 16 {
			d.left = d.left<<4 | int64(v)
			d.digits++
			return d.digits <= 16 && d.left <= maxChunkSize
		}
		if d.digits == 0 {
			return false
		}
		switch c {
		case '\r':
			d.state = chunksSizeEnd
		case ';':
			d.state = chunksExtension
		default:
			return false // spaces, too: others may stop reading there
		}
	case chunksExtension:
		if c == '\r' {
			d.state = chunksSizeEnd
			return true
		}
		return c >= ' ' && c != 0x7f || c == '\t'
	case chunksSizeEnd:
		if c != '\n' {
			return false
		}
		d.digits = 0
		if d.state = chunksData; d.left == 0 {
			d.state, d.line = chunksTrailer, 0
		}
	case chunksDataEnd:
		d.state = chunksDataLF
		return c == '\r'
	case chunksDataLF:
		d.state = chunksSize
		return c == '\n'
	case chunksTrailer:
		if c == '\r' {
			d.state = chunksTrailerEnd
			return true
		}
		d.line++
		return c >= ' ' && c != 0x7f || c == '\t'
	case chunksTrailerEnd:
		if c != '\n' {
			return false
		}
		if d.state = chunksTrailer; d.line == 0 {
			d.state = chunksEnd
		}
		d.line = 0
	}
	return true
}
