package sftpfs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/faultytest"
	"github.com/gantryhq/gantry/vfs/sftpfs"
)

// noise is content that two runs have alike.
func noise(n int) []byte {
	b := make([]byte, n)
	var seed [32]byte
	rand.NewChaCha8(seed).Read(b)
	return b
}

// until waits for what another goroutine does.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// faulty is a storage on our server behind a proxy, and its directory here.
func faulty(t *testing.T, o sftpfs.Options, change func(*sftpfs.Config)) (*sftpfs.FS, *faultytest.Proxy, string) {
	t.Helper()
	s := gantry(t)
	proxy := faultytest.New(t, s.cfg.Endpoint)
	s.cfg.Endpoint = proxy.Addr
	if change != nil {
		change(&s.cfg)
	}
	return s.open(t, pool(t, o), s.cfg), proxy, s.root
}

func put(t testing.TB, f vfs.FS, name string, data []byte, m vfs.OpenMode) {
	t.Helper()
	m.Truncate = true
	u, err := f.Create(ctx, path(t, name), m)
	if err != nil {
		t.Fatal(err)
	}
	for off := 0; off < len(data); off += 256 << 10 {
		if _, err := u.WriteAt(data[off:min(off+256<<10, len(data))], int64(off)); err != nil {
			t.Fatal(err)
		}
	}
	if i, err := u.Commit(ctx); err != nil || i.Size != int64(len(data)) {
		t.Fatalf("commit: %d bytes, %v", i.Size, err)
	}
}

func get(t testing.TB, f vfs.FS, name string, step int) []byte {
	t.Helper()
	h, err := f.Open(ctx, path(t, name))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	var out []byte
	buf := make([]byte, step)
	for {
		n, err := h.ReadAt(buf, int64(len(out)))
		out = append(out, buf[:n]...)
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatalf("read at %d: %v", len(out), err)
		}
	}
}

// TestReadsOfEveryKind: in order by several steps, by many at once, backwards and at random, sequential too.
func TestReadsOfEveryKind(t *testing.T) {
	s := gantry(t)
	p := pool(t, sftpfs.Options{})
	for _, sequential := range []bool{false, true} {
		cfg := s.cfg
		cfg.Sequential = sequential
		f := s.open(t, p, cfg)
		for _, size := range []int{0, 1, 32 << 10, 32<<10 + 1, 3<<20 + 77} {
			data := noise(size)
			put(t, f, "/f", data, vfs.OpenMode{})
			for _, step := range []int{1000, 32 << 10, 100_000, 256 << 10, 4 << 20} {
				if size > 1<<20 && step == 1000 {
					continue
				}
				if got := get(t, f, "/f", step); !bytes.Equal(got, data) {
					t.Errorf("sequential %t, %d bytes by %d: got %d", sequential, size, step, len(got))
				}
			}
			h, err := f.Open(ctx, path(t, "/f"))
			if err != nil {
				t.Fatal(err)
			}
			var all sync.WaitGroup
			const step = 32 << 10
			work := make(chan int, 4)
			for range 8 {
				all.Go(func() {
					for off := range work {
						buf := make([]byte, step)
						n, err := h.ReadAt(buf, int64(off))
						if want := data[min(off, size):min(off+step, size)]; !bytes.Equal(buf[:n], want) || err != nil && err != io.EOF {
							t.Errorf("sequential %t, %d bytes, at %d: %d bytes, want %d; %v", sequential, size, off, n, len(want), err)
						}
					}
				})
			}
			for off := 0; off <= size; off += step {
				work <- off
			}
			for off := size; off > 0; off -= 3 * step {
				work <- off
			}
			for range 50 {
				work <- rand.IntN(size + 1)
			}
			close(work)
			all.Wait()
			h.Close()
		}
	}
}

// TestAGrowingFileIsRead: what is written after the open is found.
func TestAGrowingFileIsRead(t *testing.T) {
	s := gantry(t)
	f := s.fresh(t, pool(t, sftpfs.Options{}))
	put(t, f, "/f", []byte("one "), vfs.OpenMode{})
	h, err := f.Open(ctx, path(t, "/f"))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	buf := make([]byte, 100)
	if n, err := h.ReadAt(buf, 0); n != 4 || err != io.EOF {
		t.Fatalf("%d, %v", n, err)
	}
	u, err := f.Create(ctx, path(t, "/f"), vfs.OpenMode{Append: true})
	if err != nil {
		t.Fatal(err)
	}
	u.WriteAt([]byte("two"), 0)
	if _, err := u.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if n, err := h.ReadAt(buf, 4); string(buf[:n]) != "two" || err != io.EOF {
		t.Errorf("%q, %v", buf[:n], err)
	}
}

// TestDistanceDoesNotStopTheStream: at 20 ms each way, 8 MiB take the window's time and not a round trip a packet's.
func TestDistanceDoesNotStopTheStream(t *testing.T) {
	f, proxy, _ := faulty(t, sftpfs.Options{}, nil)
	data := noise(8 << 20)
	put(t, f, "/small", nil, vfs.OpenMode{}) // logged in
	proxy.Delay(20 * time.Millisecond)
	begin := time.Now()
	put(t, f, "/f", data, vfs.OpenMode{Atomic: true})
	up := time.Since(begin)
	begin = time.Now()
	if got := get(t, f, "/f", 256<<10); !bytes.Equal(got, data) {
		t.Errorf("%d bytes", len(got))
	}
	down := time.Since(begin)
	t.Logf("8 MiB up in %v, down in %v", up, down)
	// 256 requests one after the other would take ten seconds each way.
	if up > 9*time.Second || down > 9*time.Second {
		t.Errorf("8 MiB took %v up and %v down", up, down)
	}
}

// TestConnectionsAreSharedAndBounded: equal settings share, others do not, and there are never more than five.
func TestConnectionsAreSharedAndBounded(t *testing.T) {
	s := gantry(t)
	proxy := faultytest.New(t, s.cfg.Endpoint)
	s.cfg.Endpoint = proxy.Addr
	p := pool(t, sftpfs.Options{})
	a, b := s.open(t, p, s.cfg), s.open(t, p, s.cfg)
	put(t, a, "/f", []byte("x"), vfs.OpenMode{})
	get(t, b, "/f", 100)
	if _, ever := proxy.Conns(); ever != 1 {
		t.Errorf("two storages with equal settings made %d connections", ever)
	}
	var files []vfs.File
	for range 200 {
		h, err := a.Open(ctx, path(t, "/f"))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, h)
	}
	until(t, "more connections for many files", func() bool { now, _ := proxy.Conns(); return now > 1 })
	if now, ever := proxy.Conns(); now > 5 || ever > 5 {
		t.Errorf("%d connections, %d in all", now, ever)
	}
	for _, h := range files {
		h.Close()
	}
	other := s.cfg
	other.Password = "wrong"
	if _, err := s.open(t, p, other).Stat(ctx, vfs.Root); err == nil {
		t.Error("another password shares the connection")
	}
}

// TestALostConnectionIsMadeAnew: what only asks goes on, what changes fails, and the next call has a new connection.
func TestALostConnectionIsMadeAnew(t *testing.T) {
	f, proxy, root := faulty(t, sftpfs.Options{}, nil)
	put(t, f, "/f", []byte("x"), vfs.OpenMode{})
	for range 5 {
		proxy.Reset()
		if _, err := f.Stat(ctx, path(t, "/f")); err != nil {
			t.Fatalf("stat after a reset: %v", err)
		}
	}
	// A handle is of its connection.
	h, err := f.Open(ctx, path(t, "/f"))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	u, err := f.Create(ctx, path(t, "/new"), vfs.OpenMode{Truncate: true, Atomic: true})
	if err != nil {
		t.Fatal(err)
	}
	proxy.Reset()
	if _, err := h.ReadAt(make([]byte, 1), 0); err == nil {
		t.Error("a read of a lost connection passed")
	}
	until(t, "the writes fail", func() bool { _, err := u.WriteAt(noise(1000), 0); return err != nil })
	if _, err := u.Commit(ctx); err == nil {
		t.Error("the upload was committed")
	}
	if err := u.Abort(ctx); err != nil {
		t.Errorf("abort: %v", err) // by another connection
	}
	left, err := os.ReadDir(root)
	if err != nil || len(left) != 1 {
		t.Errorf("%v is left, %v", left, err)
	}
}

// TestAnUploadThatIsCut: the connection to the server breaks in the middle of a body. In place the beginning stays;
// an atomic upload leaves the old content.
func TestAnUploadThatIsCut(t *testing.T) {
	for _, atomic := range []bool{false, true} {
		t.Run(fmt.Sprintf("atomic=%t", atomic), func(t *testing.T) {
			f, proxy, root := faulty(t, sftpfs.Options{}, nil)
			put(t, f, "/f", []byte("old"), vfs.OpenMode{})
			u, err := f.Create(ctx, path(t, "/f"), vfs.OpenMode{Truncate: true, Atomic: atomic})
			if err != nil {
				t.Fatal(err)
			}
			data := noise(4 << 20)
			proxy.CutAfter(1 << 20)
			var werr error
			for off := 0; off < len(data) && werr == nil; off += 64 << 10 {
				_, werr = u.WriteAt(data[off:off+64<<10], int64(off))
			}
			if _, err := u.Commit(ctx); err == nil {
				t.Error("half an upload was committed")
			}
			if err := u.Abort(ctx); err != nil {
				t.Errorf("abort: %v", err)
			}
			got, err := os.ReadFile(filepath.Join(root, "f"))
			if err != nil {
				t.Fatal(err)
			}
			if atomic && string(got) != "old" {
				t.Errorf("%d bytes are left of an atomic upload", len(got))
			}
			if !atomic && (len(got) == 0 || len(got) >= len(data) || !bytes.HasPrefix(data, got)) {
				t.Errorf("%d bytes in place are not the beginning of what was sent", len(got))
			}
			if left, _ := os.ReadDir(root); len(left) != 1 {
				t.Errorf("%v is left", left)
			}
		})
	}
}

// TestASilentServer: a black hole ends every wait with its context, and the connection by its missing sign of life.
func TestASilentServer(t *testing.T) { // RES-2
	f, proxy, _ := faulty(t, sftpfs.Pinging(100*time.Millisecond), nil)
	put(t, f, "/f", noise(1<<20), vfs.OpenMode{})
	h, err := f.Open(ctx, path(t, "/f"))
	if err != nil {
		t.Fatal(err)
	}
	u, err := f.Create(ctx, path(t, "/g"), vfs.OpenMode{})
	if err != nil {
		t.Fatal(err)
	}
	proxy.Hole(true)
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := f.Stat(short, path(t, "/f")); !errors.Is(err, context.DeadlineExceeded) {
		// or it is noticed before that
		if err == nil {
			t.Error("a stat in a black hole passed")
		}
	}
	if _, err := h.ReadAt(make([]byte, 100), 0); err == nil {
		t.Error("a read in a black hole passed")
	}
	var werr error
	for off := int64(0); off < 64<<20 && werr == nil; off += 1 << 20 {
		_, werr = u.WriteAt(noise(1<<20), off)
	}
	if werr == nil {
		t.Error("64 MiB went into a black hole")
	}
	h.Close()
	u.Abort(ctx)
	proxy.Hole(false)
	proxy.Reset()
	until(t, "it goes on", func() bool { _, err := f.Stat(ctx, path(t, "/f")); return err == nil })
}

// TestCloseAndAbortWakeWhoWaits: with the server silent and the connection not yet given up.
func TestCloseAndAbortWakeWhoWaits(t *testing.T) {
	f, proxy, _ := faulty(t, sftpfs.Options{}, nil)
	put(t, f, "/f", noise(1<<20), vfs.OpenMode{})
	h, err := f.Open(ctx, path(t, "/f"))
	if err != nil {
		t.Fatal(err)
	}
	u, err := f.Create(ctx, path(t, "/g"), vfs.OpenMode{})
	if err != nil {
		t.Fatal(err)
	}
	proxy.Hole(true)
	errs := make(chan error, 2)
	go func() { _, err := h.ReadAt(make([]byte, 1), 0); errs <- err }()
	go func() {
		var err error
		for off := int64(0); err == nil; off += 1 << 20 {
			_, err = u.WriteAt(noise(1<<20), off)
		}
		errs <- err
	}()
	sent := proxy.Sent()
	until(t, "they wait", func() bool { s := sent; sent = proxy.Sent(); return s == sent })
	h.Close()
	u.Abort(ctx)
	for range 2 {
		if err := <-errs; !errors.Is(err, fs.ErrClosed) {
			t.Errorf("woken with %v", err)
		}
	}
}

// TestWhoTheServerIs: the host key is looked at, and a server that is ourselves refused.
func TestWhoTheServerIs(t *testing.T) {
	s := gantry(t)
	other := s.cfg
	_, key := newKey(t, filepath.Join(t.TempDir(), "k"))
	other.Fingerprints = []string{gossh.FingerprintSHA256(key.PublicKey())}
	_, err := s.open(t, pool(t, sftpfs.Options{}), other).Stat(ctx, vfs.Root)
	if err == nil || !strings.Contains(err.Error(), s.cfg.Fingerprints[0]) {
		t.Errorf("another host key: %v", err)
	}
	_, err = s.open(t, pool(t, sftpfs.Options{Own: func(f, user string) error {
		if f == s.cfg.Fingerprints[0] && user == "ann" {
			return sftpfs.ErrLoop
		}
		return nil
	}}), s.cfg).Stat(ctx, vfs.Root)
	if !errors.Is(err, sftpfs.ErrLoop) {
		t.Errorf("our own host key: %v", err)
	}
	any := s.cfg
	any.Fingerprints = nil
	if _, err := s.open(t, pool(t, sftpfs.Options{}), any).Stat(ctx, vfs.Root); err != nil {
		t.Errorf("no fingerprints: %v", err)
	}
	wrong := s.cfg
	wrong.Password = "canary"
	if _, err := s.open(t, pool(t, sftpfs.Options{}), wrong).Stat(ctx, vfs.Root); err == nil || strings.Contains(err.Error(), "canary") { // LOG-1
		t.Errorf("a wrong password: %v", err)
	}
}

// TestRenamesWithinOneServer: two storages of one server move files between their directories without their bytes.
func TestRenamesWithinOneServer(t *testing.T) {
	s := gantry(t)
	p := pool(t, sftpfs.Options{})
	all := s.open(t, p, s.cfg)
	for _, d := range []string{"/a", "/b"} {
		if err := all.Mkdir(ctx, path(t, d), vfs.Attr{}); err != nil {
			t.Fatal(err)
		}
	}
	sub := func(prefix string, change func(*sftpfs.Config)) *sftpfs.FS {
		cfg := s.cfg
		cfg.Prefix = prefix
		if change != nil {
			change(&cfg)
		}
		return s.open(t, p, cfg)
	}
	a, b := sub("/a", nil), sub("/b", nil)
	put(t, a, "/f", []byte("moves"), vfs.OpenMode{})
	put(t, b, "/old", []byte("old"), vfs.OpenMode{})
	if !a.Reaches(b) {
		t.Fatal("one server is not one")
	}
	if err := a.RenameTo(ctx, path(t, "/f"), b, path(t, "/old"), false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("without replace: %v", err)
	}
	if err := a.RenameTo(ctx, path(t, "/f"), b, path(t, "/old"), true); err != nil {
		t.Error(err)
	}
	if got := get(t, b, "/old", 100); string(got) != "moves" {
		t.Errorf("%q", got)
	}
	if a.Describe(vfs.Root).Identity == b.Describe(vfs.Root).Identity {
		t.Error("two directories have one identity")
	}
	for name, c := range map[string]struct {
		change func(*sftpfs.Config)
		want   bool
	}{
		"another user":                {func(c *sftpfs.Config) { c.Username = "bob" }, true},
		"another user, which counts":  {func(c *sftpfs.Config) { c.Username, c.ByUser = "bob", true }, false},
		"the same user, which counts": {func(c *sftpfs.Config) { c.ByUser = true }, true},
		"another server":              {func(c *sftpfs.Config) { c.Endpoint = "127.0.0.2:22" }, false},
	} {
		o := sub("/b", c.change)
		if got := a.Reaches(o); got != c.want || o.Reaches(a) != got {
			t.Errorf("%s: reaches %t and %t, want %t", name, got, o.Reaches(a), c.want)
		}
	}
}

// TestConfine: where users may make links, none leads out of the prefix (SYM-1).
func TestConfine(t *testing.T) {
	s := openssh(t)
	p := pool(t, sftpfs.Options{})
	base := t.TempDir()
	for _, d := range []string{"in/d", "out"} {
		if err := os.MkdirAll(filepath.Join(base, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(base, "out/secret"), []byte("SECRET"))
	os.Symlink("../../out", filepath.Join(base, "in/d/dir"))
	os.Symlink("../../out/secret", filepath.Join(base, "in/d/file"))
	os.Symlink("../../out/none", filepath.Join(base, "in/d/dangling"))
	os.Symlink(filepath.Join(base, "in"), filepath.Join(base, "in/d/back"))
	cfg := s.cfg
	cfg.Prefix, cfg.Confine = filepath.Join(base, "in"), true
	f := s.open(t, p, cfg)
	put(t, f, "/d/good", []byte("good"), vfs.OpenMode{})
	if got := get(t, f, "/d/back/d/good", 10); string(got) != "good" {
		t.Errorf("a link that stays inside: %q", got)
	}
	for _, name := range []string{"/d/file", "/d/dir/secret"} {
		if _, err := f.Open(ctx, path(t, name)); !errors.Is(err, vfs.ErrEscape) {
			t.Errorf("open %s: %v", name, err)
		}
		if _, err := f.Stat(ctx, path(t, name)); !errors.Is(err, vfs.ErrEscape) {
			t.Errorf("stat %s: %v", name, err)
		}
	}
	for _, name := range []string{"/d/file", "/d/dangling", "/d/dir/new"} {
		if _, err := f.Create(ctx, path(t, name), vfs.OpenMode{Truncate: true}); !errors.Is(err, vfs.ErrEscape) {
			t.Errorf("create %s: %v", name, err)
		}
	}
	for what, err := range map[string]error{
		"mkdir":  f.Mkdir(ctx, path(t, "/d/dir/new"), vfs.Attr{}),
		"remove": f.Remove(ctx, path(t, "/d/dir/secret")),
		"rename": f.Rename(ctx, path(t, "/d/good"), path(t, "/d/dir/good"), true),
		"link":   f.Link(ctx, path(t, "/d/dir/secret"), path(t, "/d/mine")),
		"attr":   f.SetAttr(ctx, path(t, "/d/file"), vfs.Attr{Set: vfs.AttrMode, Mode: 0o777}, true),
	} {
		if !errors.Is(err, vfs.ErrEscape) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i, err := range f.List(ctx, path(t, "/d/dir")) {
		if !errors.Is(err, vfs.ErrEscape) {
			t.Errorf("list: %v, %v", i.Name, err)
		}
	}
	if err := f.Remove(ctx, path(t, "/d/file")); err != nil {
		t.Errorf("remove of the link itself: %v", err)
	}
	if left, _ := os.ReadDir(filepath.Join(base, "out")); len(left) != 1 {
		t.Errorf("outside is %v", left)
	}
}
