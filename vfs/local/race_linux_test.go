package local

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantryhq/gantry/vfs"
)

// races is how often the swap race tries every operation: few in every run, GANTRY_TEST_LONG=1 makes it 10^6
// rounds (SYM-1), another number that many.
func races(t *testing.T) int {
	switch v := os.Getenv("GANTRY_TEST_LONG"); v {
	case "", "0":
		return 2_000
	case "1":
		return 1_000_000
	default:
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatalf("GANTRY_TEST_LONG=%q is no number", v)
		}
		return n
	}
}

// SYM-1: while somebody swaps a directory for a link to the outside as fast as the system can, no operation
// reads, changes or removes anything outside.
func TestASwappedDirectoryNeverLeadsOutside(t *testing.T) {
	both(t, func(t *testing.T, portable bool) {
		top := t.TempDir()
		outside, root := filepath.Join(top, "outside"), filepath.Join(top, "root")
		for _, d := range []string{outside, root, filepath.Join(root, "real"), filepath.Join(outside, "sub")} {
			must(t, os.Mkdir(d, 0o755))
		}
		for i := range 8 {
			must(t, os.WriteFile(filepath.Join(outside, fmt.Sprint("f", i)), []byte("SECRET"), 0o644))
		}
		must(t, os.WriteFile(filepath.Join(outside, vfs.TempPrefix+"x"), []byte("SECRET"), 0o644))
		old := time.Unix(1_000_000_000, 0)
		for _, p := range tree1(t, outside) {
			must(t, os.Chtimes(p, old, old))
		}
		before := snapshot(t, outside)
		f := open(t, root, Options{Portable: portable})

		// The swapper: /d is the real directory or a link to the outside, never nothing.
		d, link := filepath.Join(root, "real"), filepath.Join(root, "link")
		must(t, os.Rename(d, filepath.Join(root, "d")))
		d = filepath.Join(root, "d")
		must(t, os.Symlink(outside, link))
		var stop atomic.Bool
		var swaps atomic.Int64
		done := make(chan struct{})
		go func() {
			defer close(done)
			for !stop.Load() {
				_ = unix.Renameat2(unix.AT_FDCWD, d, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE)
				swaps.Add(1)
			}
		}()
		rounds, hits := races(t), 0
		for i := range rounds {
			hits += tryAll(t, f, i)
			if t.Failed() {
				break
			}
		}
		stop.Store(true)
		<-done
		if after := snapshot(t, outside); after != before {
			t.Errorf("the outside changed:\nbefore %s\nafter  %s", before, after)
		}
		if hits == 0 || swaps.Load() == 0 {
			t.Errorf("the race was not run: %d operations worked, %d swaps", hits, swaps.Load())
		}
		t.Logf("%d rounds, %d operations worked, %d swaps", rounds, hits, swaps.Load())
	})
}

// tryAll runs every operation through /d once. Each may fail; none may reach the outside.
func tryAll(t *testing.T, f *FS, round int) (worked int) {
	ctx := context.Background()
	name := mustPath(t, fmt.Sprint("/d/f", round%8))
	dir, into, back := mustPath(t, "/d"), mustPath(t, "/into"), mustPath(t, "/d/sub")
	ok := func(err error) {
		if err == nil {
			worked++
		}
	}
	inside := func(r io.ReaderAt) {
		b := make([]byte, 16)
		if n, _ := r.ReadAt(b, 0); string(b[:n]) == "SECRET" {
			t.Errorf("round %d: read the outside", round)
		}
	}
	for _, m := range []vfs.OpenMode{{Truncate: true}, {Read: true, Atomic: true}, {Append: true, Exclusive: true}, {Atomic: true, Truncate: true}} {
		u, err := f.Create(ctx, name, m)
		ok(err)
		if err != nil {
			continue
		}
		if r, is := u.(io.ReaderAt); is {
			inside(r)
		}
		_, err = u.WriteAt([]byte("inside"), 0)
		ok(err)
		if _, err = u.Commit(ctx); err != nil {
			_ = u.Abort(ctx)
		}
	}
	if h, err := f.Open(ctx, name); err == nil {
		worked++
		inside(h)
		h.Close()
	}
	old := time.Unix(1_000_000_000, 0)
	notOutside := func(i vfs.FileInfo, err error) {
		ok(err)
		if err == nil && i.Size == 6 && i.ModTime.Equal(old) && i.Mode.IsRegular() {
			t.Errorf("round %d: saw the outside: %+v", round, i)
		}
	}
	notOutside(f.Stat(ctx, name))
	notOutside(f.Lstat(ctx, name))
	for i, err := range f.List(ctx, dir) {
		notOutside(i, err)
	}
	now := time.Now()
	attr := vfs.Attr{Set: vfs.AttrMode | vfs.AttrTimes, Mode: 0o600, Atime: now, Mtime: now}
	ok(f.SetAttr(ctx, name, attr, true))
	ok(f.SetAttr(ctx, name, attr, false))
	attr.Mode = 0o700
	ok(f.SetAttr(ctx, dir, attr, true))
	ok(f.Mkdir(ctx, back, vfs.Attr{}))
	ok(f.Mkdir(ctx, mustPath(t, "/d/sub/more"), vfs.Attr{}))
	ok(f.Remove(ctx, mustPath(t, "/d/sub/more")))
	ok(f.Symlink(ctx, "f0", mustPath(t, "/d/s")))
	_, err := f.Readlink(ctx, mustPath(t, "/d/s"))
	ok(err)
	ok(f.Remove(ctx, mustPath(t, "/d/s")))
	ok(f.Link(ctx, name, into))
	if h, err := f.Open(ctx, into); err == nil {
		inside(h)
		h.Close()
	}
	_ = f.Remove(ctx, into)
	ok(f.Copy(ctx, name, into, true))
	if h, err := f.Open(ctx, into); err == nil {
		inside(h)
		h.Close()
	}
	ok(f.Copy(ctx, into, name, true))
	ok(f.Rename(ctx, name, into, true))
	ok(f.Rename(ctx, into, name, false))
	_, err = f.StatFS(ctx, dir)
	ok(err)
	if files, bytes, err := f.DirSize(ctx, dir); err == nil {
		worked++
		if files > 9 {
			t.Errorf("round %d: counted the outside: %d files, %d bytes", round, files, bytes)
		}
	}
	if round%16 == 0 {
		_, err = f.Sweep(ctx, time.Now().Add(time.Hour))
		ok(err)
	}
	ok(f.Remove(ctx, name))
	ok(f.Remove(ctx, back))
	return worked
}

// snapshot is everything about the files below dir that somebody could change.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	all := ""
	for _, p := range tree1(t, dir) {
		i, err := os.Lstat(p)
		must(t, err)
		all += fmt.Sprintln(p, i.Mode(), i.Size(), i.ModTime().UnixNano(), changed(i))
		if i.Mode().IsRegular() {
			b, err := os.ReadFile(p)
			must(t, err)
			all += string(b) + "\n"
		}
	}
	return all
}

func tree1(t *testing.T, dir string) (all []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		all = append(all, p)
		return err
	}))
	return all
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustPath(t testing.TB, s string) vfs.Path {
	t.Helper()
	p, err := vfs.ParsePath(s)
	must(t, err)
	return p
}
