package crypt

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/minio/sio"

	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/local"
	"github.com/gantryhq/gantry/vfs/mem"
	"github.com/gantryhq/gantry/vfs/vfstest"
)

const phrase = "correct horse battery staple"

var ctx = context.Background()

func open(t testing.TB, dir, passphrase string) *FS {
	t.Helper()
	base, err := local.New(dir, local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f, err := New(base, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func path(t testing.TB, s string) vfs.Path {
	t.Helper()
	p, err := vfs.ParsePath(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSuite(t *testing.T) {
	caps := vfstest.All
	caps.Owners = os.Getuid() == 0
	caps.Resume, caps.Whole = false, true
	roots := map[vfs.FS]string{}
	caps.Reopen = func(t *testing.T, f vfs.FS) vfs.FS { return open(t, roots[f], phrase) }
	vfstest.Run(t, func(t *testing.T) vfs.FS {
		dir := t.TempDir()
		f := open(t, dir, phrase)
		roots[f] = dir
		return f
	}, caps)
}

// sizes are those around the packages' bounds.
var sizes = []int{0, 1, 15, 16, 17, 4096, contentSize - 1, contentSize, contentSize + 1, 2*contentSize - 1, 2 * contentSize, 5*contentSize + 12345, 1 << 20}

// noise is content that two runs have alike.
func noise(n int) []byte {
	b := make([]byte, n)
	var seed [32]byte
	rand.NewChaCha8(seed).Read(b)
	return b
}

func put(t testing.TB, f *FS, name string, data []byte) {
	t.Helper()
	u, err := f.Create(ctx, path(t, name), vfs.OpenMode{Truncate: true})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := u.WriteAt(data, 0); n != len(data) || err != nil {
		t.Fatalf("write: %d, %v", n, err)
	}
	if i, err := u.Commit(ctx); err != nil || i.Size != int64(len(data)) {
		t.Fatalf("commit: %d bytes, %v", i.Size, err)
	}
}

// sioFile is a stored file as the reference describes it, made by the library that its format comes from.
func sioFile(t testing.TB, data []byte, cipher byte) []byte {
	t.Helper()
	out := bytes.NewBuffer([]byte{version})
	salt := noise(saltSize)
	out.Write(salt)
	key, err := hkdf.Key(sha256.New, []byte(phrase), salt, "", 32)
	if err != nil {
		t.Fatal(err)
	}
	w, err := sio.EncryptWriter(out, sio.Config{MinVersion: sio.Version20, MaxVersion: sio.Version20, CipherSuites: []byte{cipher}, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	w.Write(data)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestReadsWhatTheLibraryWrote and the next hold the format to github.com/minio/sio.
func TestReadsWhatTheLibraryWrote(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, phrase)
	for _, cipher := range []byte{sio.AES_256_GCM, sio.CHACHA20_POLY1305} {
		for _, n := range sizes {
			data := noise(n)
			if err := os.WriteFile(filepath.Join(dir, "f"), sioFile(t, data, cipher), 0o600); err != nil {
				t.Fatal(err)
			}
			i, err := f.Stat(ctx, path(t, "/f"))
			if err != nil || i.Size != int64(n) {
				t.Errorf("cipher %d, %d bytes: stat says %d, %v", cipher, n, i.Size, err)
			}
			for j, err := range f.List(ctx, vfs.Root) {
				if err != nil || j.Size != int64(n) {
					t.Errorf("cipher %d, %d bytes: the listing says %d, %v", cipher, n, j.Size, err)
				}
			}
			h, err := f.Open(ctx, path(t, "/f"))
			if err != nil {
				t.Fatal(err)
			}
			for _, step := range []int{1 << 20, 256 << 10, 100_000, 32 << 10, 4097} {
				got, err := io.ReadAll(io.NewSectionReader(chunked{h, step}, 0, 1<<40))
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("cipher %d, %d bytes read by %d: %d bytes, %v", cipher, n, step, len(got), err)
				}
			}
			h.Close()
		}
	}
}

// chunked reads at most n bytes at once.
type chunked struct {
	io.ReaderAt
	n int
}

func (c chunked) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p[:min(len(p), c.n)], off)
	return n, err
}

func TestTheLibraryReadsWhatWeWrite(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, phrase)
	for _, n := range sizes {
		data := noise(n)
		put(t, f, "/f", data)
		stored, err := os.ReadFile(filepath.Join(dir, "f"))
		if err != nil {
			t.Fatal(err)
		}
		if stored[0] != 0x10 || n > 64 && bytes.Contains(stored, data[:64]) {
			t.Fatalf("%d bytes: the stored file begins with %#x, or shows its content", n, stored[0])
		}
		if n == 0 {
			if len(stored) != prefixSize {
				t.Errorf("an empty file takes %d bytes", len(stored))
			}
			continue
		}
		key, _ := hkdf.Key(sha256.New, []byte(phrase), stored[1:33], "", 32)
		var got bytes.Buffer
		if _, err := sio.Decrypt(&got, bytes.NewReader(stored[33:]), sio.Config{MinVersion: sio.Version20, Key: key}); err != nil || !bytes.Equal(got.Bytes(), data) {
			t.Errorf("%d bytes: the library reads %d, %v", n, got.Len(), err)
		}
	}
}

// TestAChangedByteIsAnError is CRY-2: whatever is done to the stored bytes, a read gives an error or what was written.
func TestAChangedByteIsAnError(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, phrase)
	name := filepath.Join(dir, "f")
	data := noise(2*contentSize + 1000)
	put(t, f, "/f", data)
	stored, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	other := open(t, t.TempDir(), phrase)
	put(t, other, "/f", data)
	pkg := func(b []byte, i int) []byte { return b[prefixSize+i*packageSize:][:packageSize] }
	damaged := map[string]func(b []byte) []byte{
		"cut at a package":       func(b []byte) []byte { return b[:prefixSize+2*packageSize] },
		"cut inside":             func(b []byte) []byte { return b[:len(b)-1] },
		"cut to a header's part": func(b []byte) []byte { return b[:prefixSize+2*packageSize+overhead] },
		"cut to the prefix's":    func(b []byte) []byte { return b[:10] },
		"a byte more":            func(b []byte) []byte { return append(b, 0) },
		"a package more":         func(b []byte) []byte { return append(b, pkg(b, 0)...) },
		"packages swapped": func(b []byte) []byte {
			first := bytes.Clone(pkg(b, 0))
			copy(pkg(b, 0), pkg(b, 1))
			copy(pkg(b, 1), first)
			return b
		},
		"a package twice": func(b []byte) []byte { copy(pkg(b, 1), pkg(b, 0)); return b },
		"a marked middle": func(b []byte) []byte { pkg(b, 0)[4] ^= lastFlag; return b },
	}
	for i := 0; i < prefixSize+headSize+4; i++ {
		damaged[fmt.Sprintf("byte %d", i)] = func(b []byte) []byte { b[i] ^= 1; return b }
	}
	for range 100 {
		i, bit := rand.IntN(len(stored)), rand.IntN(8)
		damaged[fmt.Sprintf("bit %d of byte %d", bit, i)] = func(b []byte) []byte { b[i] ^= 1 << bit; return b }
	}
	for what, change := range damaged {
		if err := os.WriteFile(name, change(bytes.Clone(stored)), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, step := range []int{1 << 20, 32 << 10} {
			h, err := f.Open(ctx, path(t, "/f"))
			if err == nil {
				var got []byte
				got, err = io.ReadAll(io.NewSectionReader(chunked{h, step}, 0, 1<<40))
				if !bytes.HasPrefix(data, got) {
					t.Errorf("%s: wrong content", what)
				}
				h.Close()
			}
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("%s: error %v, want ErrDamaged", what, err)
			}
		}
	}
}

func TestAnotherPassphraseReadsNothing(t *testing.T) {
	dir := t.TempDir()
	put(t, open(t, dir, phrase), "/f", noise(100))
	h, err := open(t, dir, "another").Open(ctx, path(t, "/f"))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	p := make([]byte, 100)
	if n, err := h.ReadAt(p, 0); n != 0 || !errors.Is(err, ErrDamaged) || !bytes.Equal(p, make([]byte, 100)) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if _, err := New(mem.New(mem.Options{}), ""); err == nil {
		t.Error("an empty passphrase passed")
	}
}

// TestWritesInAnyOrder: packets of several lengths, shuffled within a window, by several writers.
func TestWritesInAnyOrder(t *testing.T) {
	f := open(t, t.TempDir(), phrase)
	for _, size := range []int{3*contentSize + 5, 10 * contentSize} {
		for _, step := range []int{1000, 32 << 10, 100_000, 255 << 10} {
			data := noise(size)
			var offs []int
			for off := 0; off < size; off += step {
				offs = append(offs, off)
			}
			rand.Shuffle(len(offs), func(i, j int) { offs[i], offs[j] = offs[j], offs[i] })
			u, err := f.Create(ctx, path(t, "/f"), vfs.OpenMode{Truncate: true})
			if err != nil {
				t.Fatal(err)
			}
			work := make(chan int)
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					for off := range work {
						if _, err := u.WriteAt(data[off:min(off+step, size)], int64(off)); err != nil && !errors.Is(err, vfs.ErrOutOfOrder) {
							t.Errorf("write at %d: %v", off, err)
						}
					}
				})
			}
			for _, off := range offs {
				work <- off
			}
			close(work)
			all.Wait()
			if i, err := u.Commit(ctx); err != nil || i.Size != int64(size) {
				t.Fatalf("%d by %d: commit %d, %v", size, step, i.Size, err)
			}
			h, err := f.Open(ctx, path(t, "/f"))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(io.NewSectionReader(h, 0, 1<<40)); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d by %d: %d bytes back, %v", size, step, len(got), err)
			}
			h.Close()
		}
	}
}

// TestNoPackageIsSealedTwice: the key of a cipher in counter mode must not meet two contents of one package.
func TestNoPackageIsSealedTwice(t *testing.T) {
	f := open(t, t.TempDir(), phrase)
	u, err := f.Create(ctx, path(t, "/f"), vfs.OpenMode{Truncate: true})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Abort(ctx)
	if _, err := u.WriteAt(noise(3*contentSize), 0); err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{0, 100, contentSize} {
		if _, err := u.WriteAt([]byte("again"), off); !errors.Is(err, vfs.ErrUnsupported) {
			t.Errorf("a write over sealed content at %d: %v", off, err)
		}
	}
	if _, err := u.WriteAt([]byte("again"), 3*contentSize-5); err != nil {
		t.Errorf("a write over content that waits: %v", err)
	}
	for _, size := range []int64{0, contentSize, 4 * contentSize} {
		if err := u.Truncate(size); !errors.Is(err, vfs.ErrUnsupported) {
			t.Errorf("truncate to %d: %v", size, err)
		}
	}
	if err := u.Truncate(3 * contentSize); err != nil {
		t.Errorf("truncate to the size it has: %v", err)
	}
}

// TestTheWindowIsBounded is RES-1: writes far ahead, and pieces without end, are refused and may be tried again.
func TestTheWindowIsBounded(t *testing.T) {
	f := open(t, t.TempDir(), phrase)
	u, err := f.Create(ctx, path(t, "/f"), vfs.OpenMode{Truncate: true})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Abort(ctx)
	if _, err := u.WriteAt([]byte("x"), maxAhead*contentSize); !errors.Is(err, vfs.ErrOutOfOrder) {
		t.Errorf("far ahead: %v", err)
	}
	if _, err := u.WriteAt([]byte("x"), maxSize); !errors.Is(err, vfs.ErrTooLarge) {
		t.Errorf("past the largest file: %v", err)
	}
	if _, err := u.WriteAt([]byte("x"), -1); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("before the begin: %v", err)
	}
	begun := 0
	for i := range int64(2 * maxBegun) {
		if _, err := u.WriteAt([]byte("x"), i*contentSize); err == nil {
			begun++
		} else if !errors.Is(err, vfs.ErrOutOfOrder) {
			t.Fatal(err)
		}
	}
	if begun != maxBegun {
		t.Errorf("%d packages are begun, want %d", begun, maxBegun)
	}
	pieces := 0
	for i := range int64(4 * maxSpans) {
		if _, err := u.WriteAt([]byte("x"), 2*i); err == nil {
			pieces++
		}
	}
	if pieces != maxSpans {
		t.Errorf("%d pieces, want %d", pieces, maxSpans)
	}
}

// TestWhatCannotBe is the clear refusal of what would encrypt a package anew.
func TestWhatCannotBe(t *testing.T) {
	f := open(t, t.TempDir(), phrase)
	put(t, f, "/f", []byte("content"))
	for name, m := range map[string]vfs.OpenMode{"resume": {Offset: 7}, "append": {Append: true}, "read and write": {Truncate: true, Read: true}} {
		if _, err := f.Create(ctx, path(t, "/f"), m); !errors.Is(err, vfs.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	u, err := f.Create(ctx, path(t, "/new"), vfs.OpenMode{Append: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"one ", "two"} {
		if _, err := u.WriteAt([]byte(s), 99); err != nil {
			t.Fatal(err)
		}
	}
	if i, err := u.Commit(ctx); err != nil || i.Size != 7 {
		t.Errorf("an append to nothing: %d, %v", i.Size, err)
	}
}

func TestHolesReadAsZero(t *testing.T) {
	f := open(t, t.TempDir(), phrase)
	want := make([]byte, 3*contentSize+10)
	u, err := f.Create(ctx, path(t, "/f"), vfs.OpenMode{Truncate: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []int{5, contentSize + 7, 3*contentSize + 9} {
		want[off] = 'x'
		if _, err := u.WriteAt([]byte("x"), int64(off)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := u.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	h, err := f.Open(ctx, path(t, "/f"))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if got, err := io.ReadAll(io.NewSectionReader(h, 0, 1<<40)); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// TestIdentity: storages of one directory are one only if they read the same.
func TestIdentity(t *testing.T) {
	dir := t.TempDir()
	id := func(f vfs.Describer) string { return f.Describe(vfs.Root).Identity }
	a, b, c := open(t, dir, phrase), open(t, dir, phrase), open(t, dir, "another")
	if id(a) != id(b) || id(a) == id(c) || id(a) == id(a.Base) {
		t.Errorf("%q %q %q", id(a), id(b), id(c))
	}
	if d := a.Describe(vfs.Root); d.Provider != 4 || !d.Whole || d.Remote {
		t.Errorf("%+v", d)
	}
	if _, ok := vfs.As[vfs.HostOpener](a); ok {
		t.Error("programs of the system would get the encrypted files")
	}
}

// FuzzOpen: stored bytes are read or refused, never a panic, and no content appears without its key.
func FuzzOpen(f *testing.F) {
	for _, n := range []int{0, 1, 100, contentSize + 1} {
		f.Add(sioFile(f, noise(n), sio.AES_256_GCM))
	}
	f.Add([]byte{0x10})
	f.Fuzz(func(t *testing.T, stored []byte) {
		base := mem.New(mem.Options{})
		c, err := New(base, "another passphrase")
		if err != nil {
			t.Fatal(err)
		}
		u, err := base.Create(ctx, path(t, "/f"), vfs.OpenMode{Truncate: true})
		if err != nil {
			t.Fatal(err)
		}
		u.WriteAt(stored, 0)
		u.Commit(ctx)
		if i, err := c.Stat(ctx, path(t, "/f")); err != nil || i.Size < 0 || i.Size > int64(len(stored)) {
			t.Fatalf("stat: %d, %v", i.Size, err)
		}
		h, err := c.Open(ctx, path(t, "/f"))
		if err != nil {
			return
		}
		defer h.Close()
		if got, _ := io.ReadAll(io.NewSectionReader(h, 0, 1<<40)); len(got) > 0 {
			t.Fatalf("%d bytes came out", len(got))
		}
	})
}

func BenchmarkWrite(b *testing.B) { benchWrite(b, func(f *FS) vfs.FS { return f }) }
func BenchmarkWritePlain(b *testing.B) {
	benchWrite(b, func(f *FS) vfs.FS { return f.Base })
}

func benchWrite(b *testing.B, of func(*FS) vfs.FS) {
	f := of(open(b, shm(b), phrase))
	for _, step := range []int{32 << 10, 256 << 10} {
		b.Run(fmt.Sprint(step), func(b *testing.B) {
			data := noise(step)
			b.SetBytes(int64(step))
			b.ReportAllocs()
			u, err := f.Create(ctx, path(b, "/f"), vfs.OpenMode{Truncate: true})
			if err != nil {
				b.Fatal(err)
			}
			n := 0
			for b.Loop() {
				if n == 256<<20/step { // keep the file small
					u.Abort(ctx)
					u, _ = f.Create(ctx, path(b, "/f"), vfs.OpenMode{Truncate: true})
					n = 0
				}
				if _, err := u.WriteAt(data, int64(n)*int64(step)); err != nil {
					b.Fatal(err)
				}
				n++
			}
			u.Abort(ctx)
		})
	}
}

func BenchmarkRead(b *testing.B) { benchRead(b, func(f *FS) vfs.FS { return f }) }
func BenchmarkReadPlain(b *testing.B) {
	benchRead(b, func(f *FS) vfs.FS { return f.Base })
}

func benchRead(b *testing.B, of func(*FS) vfs.FS) {
	f := of(open(b, shm(b), phrase))
	u, err := f.Create(ctx, path(b, "/f"), vfs.OpenMode{Truncate: true})
	if err != nil {
		b.Fatal(err)
	}
	const size = 64 << 20
	if _, err := u.WriteAt(noise(size), 0); err != nil {
		b.Fatal(err)
	}
	if _, err := u.Commit(ctx); err != nil {
		b.Fatal(err)
	}
	for _, step := range []int{32 << 10, 256 << 10} {
		b.Run(fmt.Sprint(step), func(b *testing.B) {
			h, err := f.Open(ctx, path(b, "/f"))
			if err != nil {
				b.Fatal(err)
			}
			defer h.Close()
			p := make([]byte, step)
			b.SetBytes(int64(step))
			b.ReportAllocs()
			off := int64(0)
			for b.Loop() {
				if _, err := h.ReadAt(p, off); err != nil {
					b.Fatal(err)
				}
				if off += int64(step); off >= size {
					off = 0
				}
			}
		})
	}
}

// shm is a directory in memory where there is one.
func shm(b *testing.B) string {
	dir, err := os.MkdirTemp("/dev/shm", "crypt-")
	if err != nil {
		return b.TempDir()
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
