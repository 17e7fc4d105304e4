package vfstest

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"math/rand/v2"
	"strings"

	"github.com/gantryhq/gantry/vfs"
)

func stream(c Caps) bool { return c.Stream }

// pattern is n bytes that differ everywhere.
func pattern(n int) string {
	b := make([]byte, n)
	var block [8 << 10]byte
	rand.NewChaCha8([32]byte{1}).Read(block[:])
	for off := 0; off < n; off += len(block) {
		binary.BigEndian.PutUint32(block[:], uint32(off))
		copy(b[off:], block[:])
	}
	return string(b)
}

// pour writes s from base on in pieces of 32 KiB, each eight of them in a mixed order, as clients with many
// requests under way do.
func (e *env) pour(u vfs.Upload, s string, base int64) {
	e.Helper()
	const piece = 32 << 10
	var offs []int
	for off := 0; off < len(s); off += piece {
		offs = append(offs, off)
	}
	for len(offs) > 0 {
		n := min(8, len(offs))
		for _, i := range rand.Perm(n) {
			off := offs[i]
			e.writeAt(u, s[off:min(len(s), off+piece)], base+int64(off))
		}
		offs = offs[n:]
	}
}

func (e *env) wantBig(name, want string) {
	e.Helper()
	if got := e.get(name); got != want {
		at := 0
		for at < min(len(got), len(want)) && got[at] == want[at] {
			at++
		}
		e.Errorf("%s has %d bytes, want %d; they differ at %d", name, len(got), len(want), at)
	}
}

var streamCases = []testCase{
	{"StreamsOfManyPartsArriveWhole", stream, func(e *env) {
		s := pattern(23<<20 + 12345)
		u := e.create("/f", vfs.OpenMode{Truncate: true})
		e.pour(u, s, 0)
		e.wantGone("/f")
		e.wantList("/")
		if i, err := u.Stat(); err != nil || i.Size != int64(len(s)) {
			e.Errorf("fstat = %+v, %v", i, err)
		}
		if i := e.commit(u); i.Size != int64(len(s)) {
			e.Errorf("commit = %+v", i)
		}
		e.wantBig("/f", s)
		// Random access within it.
		f, err := e.fs.Open(ctx, e.path("/f"))
		e.ok("open", err)
		defer f.Close()
		b := make([]byte, 5000)
		for _, off := range []int64{20 << 20, 5, 11<<20 + 1, 11<<20 + 5001, 0, 22 << 20} {
			if _, err := f.ReadAt(b, off); err != nil || string(b) != s[off:off+5000] {
				e.Errorf("ReadAt(%d): %v", off, err)
			}
		}
	}},
	{"StreamsOfExactlyOnePart", stream, func(e *env) {
		for _, n := range []int{5 << 20, 10 << 20, 5<<20 + 1} {
			s := pattern(n)
			u := e.create("/f", vfs.OpenMode{Truncate: true})
			e.pour(u, s, 0)
			e.commit(u)
			e.wantBig("/f", s)
		}
	}},
	{"WritesOutsideTheWindowAreOutOfOrder", stream, func(e *env) {
		u := e.create("/f", vfs.OpenMode{Truncate: true})
		e.writeAt(u, "b", 1) // a gap before it
		_, err := u.WriteAt([]byte("x"), 1<<30)
		e.want("far ahead", err, vfs.ErrOutOfOrder)
		_, err = u.Commit(ctx)
		e.want("commit with a gap", err, vfs.ErrOutOfOrder)
		e.writeAt(u, "a", 0) // it may be filled
		e.commit(u)
		e.wantContent("/f", "ab")

		u = e.create("/g", vfs.OpenMode{Truncate: true})
		e.pour(u, pattern(16<<20), 0)
		_, err = u.WriteAt([]byte("x"), 0)
		e.want("what is sent", err, vfs.ErrOutOfOrder)
		e.want("shrink", u.Truncate(5), vfs.ErrUnsupported)
		e.want("grow", u.Truncate(1<<30), vfs.ErrUnsupported)
		e.ok("same size", u.Truncate(16<<20))
		e.ok("abort", u.Abort(ctx))
		e.wantList("/", "f")
	}},
	{"OffsetsThatCannotBeAreRefused", stream, func(e *env) { // SFTP-1
		u := e.create("/f", vfs.OpenMode{Truncate: true})
		_, err := u.WriteAt([]byte("x"), -1)
		e.want("negative", err, fs.ErrInvalid)
		for _, off := range []int64{1 << 62, 1<<63 - 1} {
			if _, err := u.WriteAt([]byte("x"), off); err == nil {
				e.Errorf("a write at %d passed", off)
			}
		}
		e.ok("abort", u.Abort(ctx))
	}},
	{"ADroppedStreamIsSwept", func(c Caps) bool { return c.Stream && c.Sweep }, func(e *env) {
		s := pattern(12 << 20)
		u := e.create("/f", vfs.OpenMode{Truncate: true})
		e.pour(u, s, 0)
		e.ok("abort", u.Abort(ctx))
		e.wantList("/")
		u = e.create("/f", vfs.OpenMode{Truncate: true})
		e.pour(u, s[:100], 0)
		e.commit(u)
		e.wantContent("/f", s[:100])
		e.want("write", func() error { _, err := u.WriteAt([]byte("x"), 100); return err }(), fs.ErrClosed)
	}},
	{"AStreamContinuesASmallFile", stream, func(e *env) {
		e.put("/f", "0123456789")
		u := e.create("/f", vfs.OpenMode{})
		if i, err := u.Stat(); err != nil || i.Size != 10 {
			e.Errorf("fstat = %+v, %v", i, err)
		}
		e.writeAt(u, "ab", 10)
		e.wantContent("/f", "0123456789")
		e.commit(u)
		e.wantContent("/f", "0123456789ab")
		u = e.create("/f", vfs.OpenMode{}) // in the middle
		e.writeAt(u, "XY", 3)
		e.commit(u)
		e.wantContent("/f", "012XY56789ab")
		u = e.create("/f", vfs.OpenMode{Append: true})
		e.writeAt(u, "1", 0)
		e.writeAt(u, "2", 100)
		e.commit(u)
		e.wantContent("/f", "012XY56789ab12")
		u = e.create("/f", vfs.OpenMode{})
		e.ok("cut", u.Truncate(3))
		e.commit(u)
		e.wantContent("/f", "012")
		u = e.create("/f", vfs.OpenMode{})
		_, err := u.WriteAt([]byte("x"), 5)
		e.want("a hole", err, vfs.ErrUnsupported)
		e.ok("abort", u.Abort(ctx))
		e.commit(e.create("/f", vfs.OpenMode{})) // nothing written
		e.wantContent("/f", "012")
		_, err = e.fs.Create(ctx, e.path("/f"), vfs.OpenMode{Read: true})
		e.want("reading too", err, vfs.ErrUnsupported)
	}},
	{"AStreamContinuesALargeFileAtItsEnd", stream, func(e *env) {
		s := pattern(18 << 20)
		u := e.create("/f", vfs.OpenMode{Truncate: true})
		e.pour(u, s, 0)
		e.commit(u)
		u = e.create("/f", vfs.OpenMode{})
		_, err := u.WriteAt([]byte("x"), 100)
		e.want("in the middle", err, vfs.ErrUnsupported)
		e.ok("abort", u.Abort(ctx))
		tail := pattern(7 << 20)
		u = e.create("/f", vfs.OpenMode{Append: true})
		_, err = u.WriteAt([]byte(tail), 0)
		if err == nil {
			_, err = u.Commit(ctx)
		}
		if err == nil {
			e.wantBig("/f", s+tail)
		} else { // what cannot be done is said clearly
			e.want("continue", err, vfs.ErrUnsupported)
			e.ok("abort", u.Abort(ctx))
			e.wantBig("/f", s)
		}
	}},
	{"AbortUnblocksAWriterAndLeavesNothing", stream, func(e *env) {
		u := e.create("/f", vfs.OpenMode{Truncate: true})
		done := make(chan error)
		go func() {
			b := []byte(strings.Repeat("x", 64<<10))
			for off := int64(0); ; off += int64(len(b)) {
				if _, err := u.WriteAt(b, off); err != nil {
					done <- err
					return
				}
			}
		}()
		for {
			if i, err := u.Stat(); err != nil || i.Size > 11<<20 {
				break
			}
		}
		e.ok("abort", u.Abort(ctx))
		if err := <-done; !errors.Is(err, fs.ErrClosed) {
			e.Errorf("write: %v", err)
		}
		e.wantList("/")
	}},
}
