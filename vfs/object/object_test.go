package object

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

func mustPath(t testing.TB, s string) vfs.Path {
	t.Helper()
	p, err := vfs.ParsePath(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newTree(t testing.TB, b *fake, m *Memory) *FS {
	t.Helper()
	f := New(b, Options{Memory: m, RenameDirs: true})
	t.Cleanup(func() {
		f.Close()
		if now, _ := m.Use(); now != 0 {
			t.Errorf("%d bytes are still reserved", now)
		}
		if n := b.orphans(); n != 0 {
			t.Errorf("%d unfinished uploads", n)
		}
	})
	return f
}

// content is n bytes that differ everywhere.
func content(n int) []byte {
	b := make([]byte, n)
	var block [8 << 10]byte
	rand.NewChaCha8([32]byte{3}).Read(block[:])
	for off := 0; off < n; off += len(block) {
		binary.BigEndian.PutUint32(block[:], uint32(off))
		copy(b[off:], block[:])
	}
	return b
}

func write(u vfs.Upload, b []byte) error {
	for off := 0; off < len(b); off += 32 << 10 {
		if _, err := u.WriteAt(b[off:min(len(b), off+32<<10)], int64(off)); err != nil {
			return err
		}
	}
	return nil
}

func store(t testing.TB, f *FS, name string, b []byte) {
	t.Helper()
	u, err := f.Create(t.Context(), mustPath(t, name), vfs.OpenMode{Truncate: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := write(u, b); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestAnUploadHoldsItsPartsAndTheWindow is the formula of the documentation (RES-1): Concurrency parts and 2.75 MiB.
func TestAnUploadHoldsItsPartsAndTheWindow(t *testing.T) {
	b, m := newFake(), NewMemory(1<<30)
	f := newTree(t, b, m)
	store(t, f, "/f", content(100<<20))
	_, peak := m.Use()
	if limit := int64(b.limits.Concurrency*b.limits.PartSize + window + 3*chunkSize); peak > limit {
		t.Errorf("%d bytes were reserved, at most %d should be", peak, limit)
	}
	if n := b.peak.Load(); n > int64(b.limits.Concurrency) {
		t.Errorf("%d parts at once", n)
	}
	if b.count("part") != 20 || b.count("put") != 0 {
		t.Errorf("%d parts, %d puts", b.count("part"), b.count("put"))
	}
	store(t, f, "/small", content(100))
	if b.count("put") != 1 || b.count("begin") != 1 {
		t.Errorf("a small file took %d puts and %d uploads of parts", b.count("put"), b.count("begin")-1)
	}
}

// TestWhatLiesBeyondAGapIsDropped, and the rest may be committed.
func TestWhatLiesBeyondAGapIsDropped(t *testing.T) {
	b, m := newFake(), NewMemory(64<<20)
	f := newTree(t, b, m)
	for _, n := range []int{10, 7 << 20} {
		u, err := f.Create(t.Context(), mustPath(t, "/f"), vfs.OpenMode{Truncate: true})
		if err != nil {
			t.Fatal(err)
		}
		data := content(n)
		if err := write(u, data); err != nil {
			t.Fatal(err)
		}
		for _, off := range []int{n + 5, n + 1<<20} {
			if _, err := u.WriteAt([]byte("ahead"), int64(off)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := u.Commit(t.Context()); !errors.Is(err, vfs.ErrOutOfOrder) {
			t.Errorf("commit with a gap: %v", err)
		}
		if err := u.(vfs.AheadDropper).DropAhead(); err != nil {
			t.Fatal(err)
		}
		if i, err := u.Stat(); err != nil || i.Size != int64(n) {
			t.Errorf("fstat = %+v, %v", i, err)
		}
		if i, err := u.Commit(t.Context()); err != nil || i.Size != int64(n) {
			t.Errorf("commit = %+v, %v", i, err)
		}
		if got := b.objects["f"].data; !bytes.Equal(got, data) {
			t.Errorf("%d bytes are stored, want %d", len(got), n)
		}
	}
}

// TestManyUploadsShareTheMemory: with less memory than all of them want, all of them finish (RES-1).
func TestManyUploadsShareTheMemory(t *testing.T) {
	b, m := newFake(), NewMemory(18<<20)
	f := newTree(t, b, m)
	data := content(12 << 20)
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			u, err := f.Create(t.Context(), mustPath(t, fmt.Sprint("/", i)), vfs.OpenMode{Truncate: true})
			if err == nil {
				err = write(u, data)
			}
			if err == nil {
				_, err = u.Commit(t.Context())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if _, peak := m.Use(); peak > 18<<20 {
		t.Errorf("%d bytes were reserved", peak)
	}
	if n := len(b.keys()); n != 12 {
		t.Errorf("%d objects", n)
	}
}

// TestAFailedPartEndsTheUpload: nothing is visible, nothing is left, and the error says why.
func TestAFailedPartEndsTheUpload(t *testing.T) {
	expired := fmt.Errorf("%w: the token has expired", fs.ErrPermission)
	for _, op := range []string{"begin", "part", "complete", "put"} {
		b, m := newFake(), NewMemory(1<<30)
		f := newTree(t, b, m)
		b.fault = func(o, _ string, n int) error {
			if o == op && (op != "part" || n >= 2) {
				return expired
			}
			return nil
		}
		size := 40 << 20
		if op == "put" {
			size = 100
		}
		u, err := f.Create(t.Context(), mustPath(t, "/f"), vfs.OpenMode{Truncate: true})
		if err != nil {
			t.Fatal(err)
		}
		err = write(u, content(size))
		if err == nil {
			_, err = u.Commit(t.Context())
		}
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: %v", op, err)
		}
		if err := u.Abort(t.Context()); err != nil {
			t.Errorf("%s: abort: %v", op, err)
		}
		if keys := b.keys(); len(keys) != 0 {
			t.Errorf("%s: %q are there", op, keys)
		}
	}
}

// TestCommitWaitsForTheLastPart: the object shows once the service has all of it, not before.
func TestCommitWaitsForTheLastPart(t *testing.T) {
	b, m := newFake(), NewMemory(1<<30)
	f := newTree(t, b, m)
	arrived, release := make(chan struct{}), make(chan struct{})
	b.fault = func(op, _ string, n int) error {
		if op == "part" && n == 2 {
			close(arrived)
			<-release
		}
		return nil
	}
	u, err := f.Create(t.Context(), mustPath(t, "/f"), vfs.OpenMode{Truncate: true})
	if err != nil {
		t.Fatal(err)
	}
	data := content(11 << 20)
	if err := write(u, data); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := u.Commit(t.Context())
		done <- err
	}()
	<-arrived
	if _, err := f.Stat(t.Context(), mustPath(t, "/f")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before the last part: %v", err)
	}
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if i, err := f.Stat(t.Context(), mustPath(t, "/f")); err != nil || i.Size != int64(len(data)) {
		t.Errorf("%+v, %v", i, err)
	}
}

// TestAbortEndsACommitThatWaits (RES-2).
func TestAbortEndsACommitThatWaits(t *testing.T) {
	b, m := newFake(), NewMemory(1<<30)
	f := newTree(t, b, m)
	arrived := make(chan context.Context, 100)
	hang := &hanging{fake: b, arrived: arrived}
	f.core.bucket = hang
	u, err := f.Create(t.Context(), mustPath(t, "/f"), vfs.OpenMode{Truncate: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := write(u, content(100)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := u.Commit(t.Context())
		done <- err
	}()
	<-arrived
	if err := u.Abort(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-done; err == nil {
		t.Error("the commit succeeded")
	}
}

// hanging is a bucket whose puts end with their context only.
type hanging struct {
	*fake
	arrived chan context.Context
}

func (h *hanging) Put(ctx context.Context, _ string, _ Body, _ Meta, _ bool) (Object, error) {
	h.arrived <- ctx
	<-ctx.Done()
	return Object{}, ctx.Err()
}

// TestBrokenEntriesDoNotEndAListing: what other programs stored under keys that are no paths is told entry by entry.
func TestBrokenEntriesDoNotEndAListing(t *testing.T) {
	b := newFake()
	b.limits.Page = 2
	f := newTree(t, b, NewMemory(1<<30))
	for _, k := range []string{"a", "a-b", "a/x", "//slash", "./dot", "../up", "ok", "n\x00l", strings.Repeat("l", 300), "dir/", "dir/f", vfs.TempPrefix + "x", "z"} {
		if _, err := b.store(k, nil, Meta{}, false); err != nil {
			t.Fatal(err)
		}
	}
	var good []string
	bad := 0
	for i, err := range f.List(t.Context(), vfs.Root) {
		switch {
		case err == nil:
			good = append(good, i.Name)
		case i.Name == "":
			t.Fatal(err)
		default:
			bad++
		}
	}
	slices.Sort(good)
	if got := strings.Join(good, " "); got != "a a-b dir ok z" || bad != 6 {
		t.Errorf("listed %q and %d bad entries", got, bad)
	}
}

// TestListingsStream: the first entry comes with the first page, and no more than two pages are held.
func TestListingsStream(t *testing.T) {
	b := newFake()
	f := newTree(t, b, NewMemory(1<<30))
	for i := range 1000 {
		b.store(fmt.Sprintf("k%04d", i), nil, Meta{}, false)
	}
	n := 0
	for i, err := range f.List(t.Context(), vfs.Root) {
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("k%04d", n); i.Name != want {
			t.Fatalf("%s, want %s", i.Name, want)
		}
		if n++; n == 1 && b.count("list") > 2 {
			t.Errorf("%d pages before the first entry", b.count("list"))
		}
	}
	if n != 1000 || b.count("list") != 10 {
		t.Errorf("%d entries of %d pages", n, b.count("list"))
	}
}

// TestReadsGoOnWhereTheConnectionBroke: every answer breaks off early, and the content is whole.
func TestReadsGoOnWhereTheConnectionBroke(t *testing.T) {
	b := newFake()
	f := newTree(t, b, NewMemory(1<<30))
	data := content(3 << 20)
	b.store("f", data, Meta{}, false)
	b.torn = func(string, int64) int { return 700_001 }
	r, err := f.Open(t.Context(), mustPath(t, "/f"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(io.NewSectionReader(r, 0, 1<<40))
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	b.torn = func(string, int64) int { return 0 } // for good
	if _, err := r.ReadAt(make([]byte, 10), 1<<20); err == nil {
		t.Error("a read of what never comes passed")
	}
}

// TestReadsDoNotMixVersions: what is replaced meanwhile is an error, never other bytes.
func TestReadsDoNotMixVersions(t *testing.T) {
	b := newFake()
	f := newTree(t, b, NewMemory(1<<30))
	b.store("f", content(1<<20), Meta{}, false)
	r, err := f.Open(t.Context(), mustPath(t, "/f"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b.store("f", make([]byte, 1<<20), Meta{}, false)
	if _, err := r.ReadAt(make([]byte, 10), 1<<20-10); !errors.Is(err, ErrChanged) {
		t.Errorf("after a change: %v", err)
	}
	b.Delete(t.Context(), []string{"f"})
	if _, err := r.ReadAt(make([]byte, 10), 1<<20-10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after a removal: %v", err)
	}
}

// TestReadsInARunAreFetchedAhead: in blocks, by many readers at once, within the formula; and reads here and there
// cost one request of their own size.
func TestReadsInARunAreFetchedAhead(t *testing.T) {
	b, m := newFake(), NewMemory(1<<30)
	f := newTree(t, b, m)
	data := content(40 << 20)
	b.store("f", data, Meta{}, false)
	var asked atomic.Int64
	b.fault = func(op, _ string, n int) error {
		if op == "get" {
			asked.Add(int64(n))
		}
		return nil
	}
	r, err := f.Open(t.Context(), mustPath(t, "/f"))
	if err != nil {
		t.Fatal(err)
	}
	const piece = 32 << 10
	next := make(chan int64)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			p := make([]byte, piece)
			for off := range next {
				if _, err := r.ReadAt(p, off); err != nil || !bytes.Equal(p, data[off:off+piece]) {
					t.Errorf("read at %d: %v", off, err)
				}
			}
		})
	}
	for off := int64(0); off < int64(len(data)); off += piece {
		next <- off
	}
	close(next)
	all.Wait()
	if _, peak := m.Use(); peak > int64(b.limits.Readers*b.limits.ReadSize) {
		t.Errorf("%d bytes were reserved", peak)
	}
	if n := b.count("get"); n > 150 {
		t.Errorf("%d requests for 40 MiB", n)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}

	if r, err = f.Open(t.Context(), mustPath(t, "/f")); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	before, bytesBefore := b.count("get"), asked.Load()
	for i := range 10 {
		off := int64(i*37%10) * 4 << 20
		p := make([]byte, 100)
		if _, err := r.ReadAt(p, off+3<<20); err != nil || !bytes.Equal(p, data[off+3<<20:][:100]) {
			t.Errorf("read at %d: %v", off, err)
		}
	}
	if n, sum := b.count("get")-before, asked.Load()-bytesBefore; n != 10 || sum != 1000 {
		t.Errorf("10 reads of 100 bytes took %d requests for %d bytes", n, sum)
	}
}

// TestADirectoryRenameIsGoneOnWith: cut off again and again, at any step, and said again, it ends with everything
// there once; at each moment nothing is lost.
func TestADirectoryRenameIsGoneOnWith(t *testing.T) {
	b := newFake()
	f := newTree(t, b, NewMemory(1<<30))
	want := map[string]string{}
	for i := range 400 {
		name := fmt.Sprintf("%d/f%03d", i%7, i)
		want[name] = fmt.Sprint("content of ", i)
		b.store("a/"+name, []byte(want[name]), Meta{}, false)
	}
	b.store("a/", nil, Meta{Dir: true}, false)
	b.store("a/empty/", nil, Meta{Dir: true}, false)
	from, to := mustPath(t, "/a"), mustPath(t, "/x")
	cut := errors.New("cut off")
	broken := 0
	for try := 1; ; try++ {
		var left atomic.Int64
		left.Store(60) // enough for the listings and some of the work
		b.fault = func(op, _ string, _ int) error {
			if op != "head" && op != "get" && left.Add(-1) < 0 {
				return cut
			}
			return nil
		}
		err := f.Rename(t.Context(), from, to, false)
		b.fault = nil
		for name, text := range want {
			b.mu.Lock()
			old, okOld := b.objects["a/"+name]
			moved, okNew := b.objects["x/"+name]
			b.mu.Unlock()
			if !(okOld && string(old.data) == text || okNew && string(moved.data) == text) {
				t.Fatalf("try %d: %s is lost", try, name)
			}
		}
		if err == nil {
			break
		}
		if !errors.Is(err, cut) {
			t.Fatalf("try %d: %v", try, err)
		}
		if broken++; broken > 2 && !f.Interrupted(t.Context(), from, to) {
			if _, err := f.Stat(t.Context(), to); err == nil {
				t.Fatalf("try %d: the rename cannot be gone on with", try)
			}
		}
		if f.Interrupted(t.Context(), mustPath(t, "/other"), to) {
			t.Fatal("another rename may go on with it")
		}
	}
	if broken < 5 {
		t.Errorf("it was cut off %d times only", broken)
	}
	for _, k := range b.keys() {
		if !strings.HasPrefix(k, "x/") {
			t.Errorf("%s is left", k)
		}
	}
	if n := len(b.keys()); n != len(want)+2 {
		t.Errorf("%d objects, want %d", n, len(want)+2)
	}
	if f.Interrupted(t.Context(), from, to) {
		t.Error("the journal is left")
	}
}

// TestAFullDirectoryIsRenamedOnlyIfAllowed (common.rename_mode).
func TestAFullDirectoryIsRenamedOnlyIfAllowed(t *testing.T) {
	b := newFake()
	f := newTree(t, b, NewMemory(1<<30))
	f.core.opts.RenameDirs = false
	b.store("a/f", nil, Meta{}, false)
	if err := f.Rename(t.Context(), mustPath(t, "/a"), mustPath(t, "/b"), false); !errors.Is(err, vfs.ErrUnsupported) {
		t.Error(err)
	}
	if err := f.Mkdir(t.Context(), mustPath(t, "/e"), vfs.Attr{}); err != nil {
		t.Fatal(err)
	}
	if err := f.Rename(t.Context(), mustPath(t, "/e"), mustPath(t, "/b"), false); err != nil {
		t.Error(err)
	}
	if got := strings.Join(b.keys(), " "); got != "a/f b/" {
		t.Error(got)
	}
}

// TestTheBucketIsClosedWithTheLastFile: handles outlive the tree.
func TestTheBucketIsClosedWithTheLastFile(t *testing.T) {
	b := newFake()
	f := newTree(t, b, NewMemory(1<<30))
	b.store("f", content(10), Meta{}, false)
	r, err := f.Open(t.Context(), mustPath(t, "/f"))
	if err != nil {
		t.Fatal(err)
	}
	u, err := f.Create(t.Context(), mustPath(t, "/u"), vfs.OpenMode{Truncate: true})
	if err != nil {
		t.Fatal(err)
	}
	for i, end := range []func() error{f.Close, r.Close, func() error { _, err := u.Commit(t.Context()); return err }} {
		if b.closed {
			t.Errorf("closed before step %d", i)
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
	}
	if !b.closed {
		t.Error("not closed")
	}
}

// TestWhoWaitsForMemoryMayLeave: a cancelled upload does not keep its place (RES-2).
func TestWhoWaitsForMemoryMayLeave(t *testing.T) {
	m := NewMemory(100)
	if err := m.reserve(t.Context(), 90); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error)
	go func() { left <- m.reserve(ctx, 50) }()
	for {
		m.mu.Lock()
		n := len(m.waiting)
		m.mu.Unlock()
		if n == 1 {
			break
		}
		time.Sleep(time.Millisecond) // until the goroutine has got there
	}
	if m.try(5) {
		t.Error("5 bytes were taken past one who waits")
	}
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if !m.try(10) {
		t.Error("what is free cannot be had")
	}
	m.release(100)
}

// FuzzNames: every name has one key and every key one name, both ways.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"a", "é", "\xe9", "\uf7e9", "\xef\x9f\xa9", "\xef\x9f", "a\\b", "a.", "\x1b", "\uf700\xff"} {
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, s string, strict bool) {
		var refused func(string, int) bool
		if strict {
			refused = func(n string, i int) bool { return n[i] < ' ' || n[i] == '\\' || n[i] == '.' && i == len(n)-1 }
		}
		key := EscapeName(s, refused)
		if got := UnescapeName(key); got != s {
			t.Fatalf("%q became %q and then %q", s, key, got)
		}
		if len(key) > 3*len(s) {
			t.Fatalf("%q became %q", s, key)
		}
		for i := range key {
			if strict && refused(key, i) {
				t.Fatalf("%q became %q", s, key)
			}
		}
	})
}

// TestTreesOfEqualSettingsShareABucket, as long as one of them is open.
func TestTreesOfEqualSettingsShareABucket(t *testing.T) {
	p, m := NewPool(), NewMemory(64<<20)
	var made []*fake
	open := func(key, prefix string) *FS {
		f, err := p.Open(key, Options{Prefix: prefix, Memory: m, Pool: p}, func() (Bucket, error) {
			made = append(made, newFake())
			return made[len(made)-1], nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	a, b, other := open("x", "a/"), open("x", "b/"), open("y", "")
	if len(made) != 2 {
		t.Fatalf("%d buckets", len(made))
	}
	store(t, a, "/f", []byte("1"))
	store(t, b, "/f", []byte("2"))
	if got := strings.Join(made[0].keys(), " "); got != "a/f b/f" {
		t.Errorf("keys %q", got)
	}
	if a.Describe(vfs.Root).Identity == b.Describe(vfs.Root).Identity {
		t.Error("two prefixes are one storage")
	}
	a.Close()
	if made[0].closed {
		t.Error("closed while a tree is open")
	}
	store(t, b, "/g", []byte("3"))
	b.Close()
	other.Close()
	if !made[0].closed || !made[1].closed || len(p.cores) != 0 {
		t.Errorf("%v, %v, %d are kept", made[0].closed, made[1].closed, len(p.cores))
	}
	again := open("x", "")
	defer again.Close()
	if len(made) != 3 {
		t.Error("a closed bucket is used again")
	}
	// Who opens and closes at once gets one that is open.
	var all sync.WaitGroup
	q := NewPool()
	for range 8 {
		all.Go(func() {
			for range 200 {
				f, err := q.Open("z", Options{Memory: m}, func() (Bucket, error) { return newFake(), nil })
				if err != nil {
					t.Error(err)
					return
				}
				if f.bucket.(*observed).Bucket.(*fake).isClosed() {
					t.Error("a closed bucket is given out")
				}
				f.Close()
			}
		})
	}
	all.Wait()
	if len(q.cores) != 0 {
		t.Errorf("%d are kept", len(q.cores))
	}
	if _, err := q.Open("bad", Options{Memory: m}, func() (Bucket, error) { return nil, errors.New("no") }); err == nil {
		t.Error("a bucket that cannot be opened is given out")
	}
}
