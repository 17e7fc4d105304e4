package crypt

import (
	"context"
	"crypto/rand"
	"fmt"
	"io/fs"
	"sync"

	"github.com/gantryhq/gantry/vfs"
)

// The window of writes that do not come in order.
const (
	maxBegun = 64       // packages in memory: 4 MiB
	maxAhead = 16 << 10 // packages that may be written ahead of the first that is missing: 1 GiB
	maxSpans = 32       // separate pieces of one package
)

// upload is a file being encrypted. Safe for concurrent use.
type upload struct {
	in     vfs.Upload // immutable, as all up to append
	name   vfs.Path
	seal   sealer
	append bool

	mu    sync.Mutex // guards the fields below; not held while bytes move
	begun map[int64]*begun
	first int64          // all packages before it are sealed
	ahead map[int64]bool // those after it that are
	end   int64          // of the content
	err   error          // a write that failed: the file cannot be whole any more
	over  bool
	times times
}

// begun is a package that is not sealed yet.
type begun struct {
	data  [contentSize]byte
	spans []span // what is written of it, in order and apart
	room  [maxSpans]span
}

var begins = sync.Pool{New: func() any { return new(begun) }}

func newBegun() *begun {
	b := begins.Get().(*begun)
	b.spans = b.room[:0]
	return b
}

type span struct{ from, to int }

var _ vfs.Upload = (*upload)(nil)

// newUpload writes the prefix, which the keys come from.
func (f *FS) newUpload(in vfs.Upload, name vfs.Path, appends bool) (*upload, error) {
	var prefix [prefixSize]byte
	prefix[0] = version
	rand.Read(prefix[1:]) // never fails
	key, err := fileKey(f.passphrase, prefix[1:])
	if err != nil {
		return nil, err
	}
	u := &upload{in: in, name: name, append: appends, begun: map[int64]*begun{}, ahead: map[int64]bool{}}
	u.seal.id = bestCipher()
	rand.Read(u.seal.nonce[:])
	u.seal.nonce[0] &^= lastFlag
	if u.seal.aead, err = newAEAD(u.seal.id, key); err != nil {
		return nil, err
	}
	if _, err := in.WriteAt(prefix[:], 0); err != nil {
		return nil, err
	}
	return u, nil
}

// WriteAt implements vfs.Upload. What was sealed already is vfs.ErrUnsupported; what is outside the window
// vfs.ErrOutOfOrder, and then nothing of p past the returned count is written.
func (u *upload) WriteAt(p []byte, off int64) (n int, err error) {
	u.mu.Lock()
	if u.append {
		off = u.end
	}
	switch {
	case u.over:
		err = fs.ErrClosed
	case u.err != nil:
		err = u.err
	case off < 0:
		err = fs.ErrInvalid
	case off > maxSize-int64(len(p)):
		err = vfs.ErrTooLarge
	case len(p) > 0 && (off+int64(len(p))-1)/contentSize >= u.first+maxAhead:
		err = vfs.ErrOutOfOrder
	}
	var held *begun // the package that was the last one until now, and whole
	var heldAt int64
	if err == nil && off+int64(len(p)) > u.end && len(p) > 0 {
		if i := u.end/contentSize - 1; u.end%contentSize == 0 && u.end > 0 && u.begun[i] != nil && u.begun[i].whole() {
			held, heldAt = u.take(i), i
		}
		u.end = off + int64(len(p))
	}
	u.mu.Unlock()
	if err == nil && held != nil {
		err = u.put(held, heldAt)
	}
	for err == nil && n < len(p) {
		at := off + int64(n)
		i := at / contentSize
		skip := int(at - i*contentSize)
		var m int
		if skip == 0 && len(p)-n > contentSize {
			m, err = u.writeWhole(p[n:], i)
		}
		if m == 0 && err == nil {
			m = min(len(p)-n, contentSize-skip)
			err = u.writePart(p[n:n+m], i, skip)
		}
		if err == nil {
			n += m
		}
	}
	return n, opError("write", u.name, err)
}

// claim marks package i as sealed, if nothing of it was written. The caller holds mu.
func (u *upload) claim(i int64) bool {
	if i < u.first || u.ahead[i] || u.begun[i] != nil {
		return false
	}
	u.mark(i)
	return true
}

// mark notes that package i is sealed. The caller holds mu.
func (u *upload) mark(i int64) {
	if i != u.first {
		u.ahead[i] = true
		return
	}
	for u.first++; u.ahead[u.first]; u.first++ {
		delete(u.ahead, u.first)
	}
}

// take gives out a begun package to be sealed. The caller holds mu.
func (u *upload) take(i int64) *begun {
	b := u.begun[i]
	delete(u.begun, i)
	u.mark(i)
	return b
}

// writeWhole seals packages straight from p, at most a batch, as long as more content follows: the last package
// waits for the commit. It wrote nothing if the first is begun already.
func (u *upload) writeWhole(p []byte, i int64) (n int, err error) {
	u.mu.Lock()
	count := int64(0)
	for ; count < batch && len(p)-int(count)*contentSize >= contentSize && (i+count+1)*contentSize < u.end && u.claim(i+count); count++ {
	}
	u.mu.Unlock()
	if count == 0 {
		return 0, nil
	}
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	stored := 0
	for k := range count {
		stored += u.seal.seal(b, int(k), p[n:n+contentSize], i+k, false)
		n += contentSize
	}
	return n, u.store(b.b[:stored], i)
}

// writePart puts p into package i, and seals that if it is whole and not the last.
func (u *upload) writePart(p []byte, i int64, skip int) error {
	u.mu.Lock()
	b := u.begun[i]
	switch {
	case b == nil && (i < u.first || u.ahead[i]):
		u.mu.Unlock()
		return fmt.Errorf("%w: what is encrypted is not written again", vfs.ErrUnsupported)
	case b == nil && len(u.begun) >= maxBegun:
		u.mu.Unlock()
		return vfs.ErrOutOfOrder
	case b == nil:
		b = newBegun()
		u.begun[i] = b
	}
	if !b.add(skip, skip+len(p)) {
		u.mu.Unlock()
		return vfs.ErrOutOfOrder
	}
	copy(b.data[skip:], p)
	if !b.whole() || (i+1)*contentSize >= u.end {
		u.mu.Unlock()
		return nil
	}
	u.take(i)
	u.mu.Unlock()
	return u.put(b, i)
}

// add notes that from..to is written; false if that makes too many pieces.
func (b *begun) add(from, to int) bool {
	k := 0
	for k < len(b.spans) && b.spans[k].to < from {
		k++
	}
	j := k
	for ; j < len(b.spans) && b.spans[j].from <= to; j++ {
		from, to = min(from, b.spans[j].from), max(to, b.spans[j].to)
	}
	if j == k {
		if len(b.spans) >= maxSpans {
			return false
		}
		b.spans = append(b.spans, span{})
		copy(b.spans[k+1:], b.spans[k:])
	} else {
		b.spans = append(b.spans[:k+1], b.spans[j:]...)
	}
	b.spans[k] = span{from, to}
	return true
}

func (b *begun) whole() bool {
	return len(b.spans) == 1 && b.spans[0] == span{0, contentSize}
}

// put seals and stores a whole package that is not the last, and gives its memory back.
func (u *upload) put(b *begun, i int64) error {
	out := buffers.Get().(*buffer)
	defer buffers.Put(out)
	n := u.seal.seal(out, 0, b.data[:], i, false)
	begins.Put(b)
	return u.store(out.b[:n], i)
}

// store writes sealed packages. They cannot be sealed again, so that a failure is the upload's.
func (u *upload) store(sealed []byte, i int64) error {
	_, err := u.in.WriteAt(sealed, storedAt(i))
	if err != nil {
		u.mu.Lock()
		if u.err == nil {
			u.err = err
		}
		u.mu.Unlock()
	}
	return err
}

// Truncate implements vfs.Upload: to the size that the content has, or to nothing as long as nothing is sealed.
func (u *upload) Truncate(size int64) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case size < 0:
		return opError("truncate", u.name, fs.ErrInvalid)
	case u.over:
		return opError("truncate", u.name, fs.ErrClosed)
	case size == u.end:
		return nil
	case size == 0 && u.first == 0 && len(u.ahead) == 0:
		u.free()
		u.end = 0
		return nil
	}
	return opError("truncate", u.name, fmt.Errorf("%w: an encrypted file is written as a whole", vfs.ErrUnsupported))
}

// free gives the memory of begun packages back. The caller holds mu.
func (u *upload) free() {
	for i, b := range u.begun {
		begins.Put(b)
		delete(u.begun, i)
	}
}

// Sync implements vfs.Upload: for what is sealed.
func (u *upload) Sync() error { return u.in.Sync() }

// Stat implements vfs.Upload.
func (u *upload) Stat() (vfs.FileInfo, error) {
	i, err := u.in.Stat()
	u.mu.Lock()
	i.Size = u.end
	u.mu.Unlock()
	return i, err
}

// SetAttr implements vfs.Upload.
func (u *upload) SetAttr(a vfs.Attr) error {
	if a.Set&vfs.AttrTimes != 0 {
		u.mu.Lock()
		u.times = times{true, a.Atime, a.Mtime}
		u.mu.Unlock()
	}
	return u.in.SetAttr(a)
}

// Commit implements vfs.Upload. What was never written reads as zero.
func (u *upload) Commit(ctx context.Context) (vfs.FileInfo, error) {
	if err := u.finish(ctx); err != nil {
		return vfs.FileInfo{}, opError("commit", u.name, err)
	}
	i, err := u.in.Commit(ctx)
	if err == nil {
		i.Size = plainSize(i.Size)
	}
	return i, err
}

// finish seals what is left, the last package with its mark.
func (u *upload) finish(ctx context.Context) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.over:
		return fs.ErrClosed
	case u.err != nil:
		return u.err
	}
	u.over = true
	packages := (u.end + contentSize - 1) / contentSize
	out := buffers.Get().(*buffer)
	defer buffers.Put(out)
	for i := u.first; i < packages; i++ {
		if u.ahead[i] {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		b := u.begun[i]
		if b == nil {
			b = newBegun()
			u.begun[i] = b
		}
		at := 0
		for _, s := range b.spans {
			clear(b.data[at:s.from])
			at = s.to
		}
		clear(b.data[at:])
		size := min(contentSize, u.end-i*contentSize)
		n := u.seal.seal(out, 0, b.data[:size], i, i == packages-1)
		if _, err := u.in.WriteAt(out.b[:n], storedAt(i)); err != nil {
			return err
		}
		begins.Put(b)
		delete(u.begun, i)
	}
	if t := u.times; t.set {
		return u.in.SetAttr(vfs.Attr{Set: vfs.AttrTimes, Atime: t.atime, Mtime: t.mtime})
	}
	return nil
}

// Abort implements vfs.Upload.
func (u *upload) Abort(ctx context.Context) error {
	u.mu.Lock()
	u.over = true
	u.free()
	u.mu.Unlock()
	return u.in.Abort(ctx)
}
