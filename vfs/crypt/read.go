package crypt

import (
	"crypto/cipher"
	"encoding/binary"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/gantryhq/gantry/vfs"
)

const (
	batch  = 4 // packages that move at once
	cached = 4 // packages that a download keeps for reads of less than one
)

// contents hold the content of one package.
var contents = sync.Pool{New: func() any { return new([contentSize]byte) }}

// file is an open file. Safe for concurrent use.
type file struct {
	in       vfs.File // immutable, as all up to aead
	name     vfs.Path
	size     int64 // of the content
	packages int64
	last     int64 // content of the last package
	cipher   byte
	nonce    [12]byte
	aead     cipher.AEAD

	closed atomic.Bool
	slots  [cached]slot
}

// slot keeps the content of one package.
type slot struct {
	mu   sync.Mutex
	i    int64              // guarded by mu
	data *[contentSize]byte // guarded by mu; nil: none
}

var _ vfs.File = (*file)(nil)

// openFile reads what the keys come from: the prefix, and the first header that all others must be like.
func (f *FS) openFile(in vfs.File, name vfs.Path) (*file, error) {
	i, err := in.Stat()
	if err != nil {
		return nil, err
	}
	h := &file{in: in, name: name}
	if i.Size == 0 { // it was made, and nothing more
		return h, nil
	}
	if h.packages, h.last, err = layout(i.Size); err != nil {
		return nil, err
	}
	var begin [prefixSize + headSize]byte
	want := begin[:prefixSize]
	if h.packages > 0 {
		h.size = (h.packages-1)*contentSize + h.last
		want = begin[:]
	}
	if err := readFull(in, want, 0); err != nil {
		return nil, err
	}
	if begin[0] != version {
		return nil, ErrDamaged
	}
	if h.packages == 0 {
		return h, nil
	}
	key, err := fileKey(f.passphrase, begin[1:prefixSize])
	if err != nil {
		return nil, err
	}
	head := begin[prefixSize:]
	h.cipher = head[1]
	copy(h.nonce[:], head[4:])
	h.nonce[0] &^= lastFlag
	h.aead, err = newAEAD(h.cipher, key)
	return h, err
}

// readFull reads all of p. An early end is ErrDamaged: the size was looked at before.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		return ErrDamaged
	}
	return err
}

// contentOf is how much package i holds.
func (h *file) contentOf(i int64) int64 {
	if i == h.packages-1 {
		return h.last
	}
	return contentSize
}

// open decrypts package i, which stands at place k of buf, to dst, which has room for its content.
func (h *file) open(dst []byte, buf *buffer, k int, i int64) error {
	stored, n := buf.b[k*packageSize:], h.contentOf(i)
	head := stored[:headSize]
	nonce := h.nonce
	if i == h.packages-1 {
		nonce[0] |= lastFlag
	}
	if head[0] != dareVersion || head[1] != h.cipher || int64(binary.LittleEndian.Uint16(head[2:]))+1 != n || [12]byte(head[4:]) != nonce {
		return ErrDamaged
	}
	packageNonce(&buf.nonce, head[4:], i)
	if _, err := h.aead.Open(dst[:0], buf.nonce[:], stored[headSize:headSize+n+tagSize], head[:4]); err != nil {
		return ErrDamaged
	}
	return nil
}

// ReadAt implements vfs.File. Nothing is given of a package that is not whole and authentic.
func (h *file) ReadAt(p []byte, off int64) (n int, err error) {
	switch {
	case off < 0:
		return 0, opError("read", h.name, fs.ErrInvalid)
	case h.closed.Load():
		return 0, opError("read", h.name, fs.ErrClosed)
	}
	for n < len(p) {
		at := off + int64(n)
		if at >= h.size {
			return n, io.EOF
		}
		var m int
		i := at / contentSize
		if skip := at - i*contentSize; skip == 0 && int64(len(p)-n) >= h.contentOf(i) {
			m, err = h.readWhole(p[n:], i)
		} else {
			m, err = h.readPart(p[n:], i, skip)
		}
		if err != nil {
			return n, opError("read", h.name, err)
		}
		n += m
	}
	return n, nil
}

// readWhole decrypts packages from i on straight into p, as many as fit, at most a batch.
func (h *file) readWhole(p []byte, i int64) (n int, err error) {
	var count, stored int64
	for size := int64(0); count < batch && i+count < h.packages; count++ {
		if size += h.contentOf(i + count); size > int64(len(p)) {
			break
		}
		stored += h.contentOf(i+count) + overhead
	}
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	if err := readFull(h.in, b.b[:stored], storedAt(i)); err != nil {
		return 0, err
	}
	for k := range count {
		m := int(h.contentOf(i + k))
		if err := h.open(p[n:n+m:n+m], b, int(k), i+k); err != nil {
			clear(p[:n])
			return 0, err
		}
		n += m
	}
	return n, nil
}

// readPart copies from skip on what a package has for p. The package is kept: the next read goes on in it.
func (h *file) readPart(p []byte, i, skip int64) (int, error) {
	s := &h.slots[i%cached]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.data == nil || s.i != i {
		if s.data == nil {
			s.data = contents.Get().(*[contentSize]byte)
		}
		s.i = -1
		b := buffers.Get().(*buffer)
		defer buffers.Put(b)
		m := h.contentOf(i)
		if err := readFull(h.in, b.b[:m+overhead], storedAt(i)); err != nil {
			return 0, err
		}
		if err := h.open(s.data[:m:m], b, 0, i); err != nil {
			return 0, err
		}
		s.i = i
	}
	return copy(p, s.data[skip:h.contentOf(i)]), nil
}

// Stat implements vfs.File.
func (h *file) Stat() (vfs.FileInfo, error) {
	i, err := h.in.Stat()
	if err == nil {
		i.Size = h.size
	}
	return i, err
}

// Close implements vfs.File.
func (h *file) Close() error {
	if h.closed.Swap(true) {
		return h.in.Close()
	}
	err := h.in.Close() // wakes reads
	for k := range h.slots {
		s := &h.slots[k]
		s.mu.Lock()
		if s.data != nil {
			contents.Put(s.data)
			s.data = nil
		}
		s.mu.Unlock()
	}
	return err
}
