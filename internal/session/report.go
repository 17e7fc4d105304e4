package session

import (
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/gantryhq/gantry/vfs"
)

// StatFS is the room at p as the account may use it: the smaller of storage and quota.
func (x *Session) StatFS(ctx context.Context, p vfs.Path) (vfs.StatFS, error) {
	v, err := x.begin()
	if err != nil {
		return vfs.StatFS{}, pathError("statfs", p, err)
	}
	defer x.done()
	if err := v.may("statfs", p, mayList); err != nil {
		return vfs.StatFS{}, err
	}
	pl := v.place(p)
	if !pl.IsMount && !pl.LeadsToMount && v.patterns.judge(p) != allowed {
		return vfs.StatFS{}, v.seen("statfs", p)
	}
	st, known := vfs.StatFS{BlockSize: 4096, NameMax: vfs.MaxNameBytes}, false
	if s, ok := vfs.As[vfs.StatFSer](pl.FS); ok {
		got, err := s.StatFS(ctx, pl.Path)
		switch {
		case err == nil:
			st, known = got, true
		case !errors.Is(err, vfs.ErrUnsupported) && !pl.LeadsToMount:
			return vfs.StatFS{}, fail("statfs", p, err)
		}
	}
	if st.BlockSize == 0 {
		st.BlockSize = 4096
	}
	if err := x.limitRoom(ctx, &st, pl.charge, known); err != nil {
		return vfs.StatFS{}, fail("statfs", p, err)
	}
	return st, nil
}

// What an unknown storage without limits is said to have beside what is used.
const (
	roomUnknown  = 8 << 40
	filesUnknown = 1_000_000
)

// limitRoom lowers st to the account's limits. Reservations count as used.
func (x *Session) limitRoom(ctx context.Context, st *vfs.StatFS, c *charge, known bool) error {
	var files, bytes int64
	if c.tracked {
		t := x.srv.ledger.tally(c.key)
		defer t.release()
		if err := t.known(ctx); err != nil && c.limited() {
			return err
		}
		t.renew()
		var heldFiles, heldBytes int64
		files, bytes, heldFiles, heldBytes = t.used()
		files, bytes = files+heldFiles, bytes+heldBytes
	}
	if !known {
		st.Blocks = uint64(bytes+roomUnknown) / st.BlockSize
		st.Free = roomUnknown / st.BlockSize
		st.Avail = st.Free
		st.Files, st.FilesFree = uint64(files)+filesUnknown, filesUnknown
	}
	if c.tracked && c.bytes > 0 {
		st.Blocks = min(st.Blocks, uint64(c.bytes)/st.BlockSize)
		left := uint64(max(0, c.bytes-bytes)) / st.BlockSize
		st.Free, st.Avail = min(st.Free, left), min(st.Avail, left)
	}
	if c.tracked && c.files > 0 {
		st.Files = min(st.Files, uint64(c.files))
		st.FilesFree = min(st.FilesFree, uint64(max(0, c.files-files)))
	}
	return nil
}

// Hashes are the algorithms of Hash, the preferred first.
func Hashes() []string {
	return []string{"sha256", "sha512", "sha384", "sha224", "sha1", "md5", "crc32"}
}

func newHash(algo string) (hash.Hash, bool) {
	switch algo {
	case "md5":
		return md5.New(), true
	case "sha1":
		return sha1.New(), true
	case "sha224":
		return sha256.New224(), true
	case "sha256":
		return sha256.New(), true
	case "sha384":
		return sha512.New384(), true
	case "sha512":
		return sha512.New(), true
	case "crc32":
		return crc32.NewIEEE(), true
	}
	return nil, false
}

// Hash is the sum of length bytes of a file from off; to its end if length is 0 or less, or past it. It
// needs download, as the sum of a short range is the range. An unknown algo is ErrUnsupported.
func (x *Session) Hash(ctx context.Context, p vfs.Path, algo string, off, length int64) ([]byte, error) {
	sums, err := x.HashBlocks(ctx, p, algo, off, length, 0, 1)
	if err != nil || len(sums) == 0 {
		return nil, err
	}
	return sums[0], nil
}

// HashBlocks is Hash for each block of so many bytes of the range; 0 takes the whole of it as one. More
// than max blocks are ErrUnsupported.
func (x *Session) HashBlocks(ctx context.Context, p vfs.Path, algo string, off, length, block int64, max int) ([][]byte, error) {
	v, err := x.begin()
	if err != nil {
		return nil, pathError("hash", p, err)
	}
	defer x.done()
	if err := v.seen("hash", p); err != nil {
		return nil, err
	}
	if err := v.may("hash", p, mayDownload); err != nil {
		return nil, err
	}
	sum, ok := newHash(algo)
	if !ok {
		return nil, pathError("hash", p, fmt.Errorf("%w: algorithm %q", vfs.ErrUnsupported, algo))
	}
	pl := v.place(p)
	if pl.fixed() {
		return nil, pathError("hash", p, vfs.ErrIsDir)
	}
	f, err := pl.FS.Open(ctx, pl.Path)
	if err != nil {
		return nil, fail("hash", p, err)
	}
	defer f.Close()
	i, err := f.Stat()
	if err != nil {
		return nil, fail("hash", p, err)
	}
	if off < 0 {
		return nil, pathError("hash", p, fmt.Errorf("%w: offset %d", vfs.ErrUnsupported, off))
	}
	left := i.Size - off
	if left < 0 {
		left = 0
	}
	if length > 0 {
		left = min(left, length)
	}
	if block <= 0 {
		block = left
	}
	if block > 0 && (left+block-1)/block > int64(max) {
		return nil, pathError("hash", p, fmt.Errorf("%w: more than %d blocks", vfs.ErrUnsupported, max))
	}
	var sums [][]byte
	for first := true; first || left > 0; first = false {
		n := min(block, left)
		sum.Reset()
		if err := x.hashRange(ctx, sum, f, off, n); err != nil {
			return nil, fail("hash", p, err)
		}
		sums = append(sums, sum.Sum(nil))
		off, left = off+n, left-n
	}
	return sums, nil
}

func (x *Session) hashRange(ctx context.Context, sum hash.Hash, f io.ReaderAt, off, n int64) error {
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := (*buf)[:min(n, int64(len(*buf)))]
		got, err := f.ReadAt(b, off)
		sum.Write(b[:got])
		off, n = off+int64(got), n-int64(got)
		switch {
		case err == io.EOF:
			return nil // it became shorter meanwhile
		case err != nil:
			return err
		}
		x.Touch()
	}
	return nil
}
