package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantryhq/gantry/vfs"
)

var ctx = context.Background()

func want(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

func put(t testing.TB, f *FS, name, content string) {
	t.Helper()
	u, err := f.Create(ctx, mustPath(t, name), vfs.OpenMode{Truncate: true})
	must(t, err)
	_, err = u.WriteAt([]byte(content), 0)
	must(t, err)
	_, err = u.Commit(ctx)
	must(t, err)
}

func get(t testing.TB, f *FS, name string) string {
	t.Helper()
	h, err := f.Open(ctx, mustPath(t, name))
	must(t, err)
	defer h.Close()
	b := make([]byte, 1<<16)
	n, _ := h.ReadAt(b, 0)
	return string(b[:n])
}

// SYM-1: links that the system's own users left in the tree.
func TestLinksOfTheHostDoNotLeadOut(t *testing.T) {
	both(t, func(t *testing.T, portable bool) {
		top := t.TempDir()
		root := filepath.Join(top, "root")
		must(t, os.Mkdir(root, 0o755))
		must(t, os.WriteFile(filepath.Join(top, "secret"), []byte("SECRET"), 0o644))
		must(t, os.Mkdir(filepath.Join(top, "dir"), 0o755))
		must(t, os.WriteFile(filepath.Join(root, "file"), []byte("inside"), 0o644))
		before := snapshot(t, filepath.Join(top, "dir")) + snapshot(t, filepath.Join(top, "secret"))
		held, err := os.Open(filepath.Join(top, "secret"))
		must(t, err)
		defer held.Close()
		links := map[string]string{
			"abs": filepath.Join(top, "secret"), "rel": "../secret", "absdir": filepath.Join(top, "dir"), "reldir": "../dir",
			"absinside": filepath.Join(root, "file"), "dangling": filepath.Join(top, "new"), "danglingrel": "../new",
			"fd": fmt.Sprintf("/proc/self/fd/%d", held.Fd()), "slash": "/", "up": "..", "chain": "abs",
			"proc": "/proc/self/root", "null": "/dev/null",
		}
		for name, target := range links {
			must(t, os.Symlink(target, filepath.Join(root, name)))
		}
		f := open(t, root, Options{Portable: portable})
		now := time.Now()
		attr := vfs.Attr{Set: vfs.AttrMode | vfs.AttrTimes, Mode: 0o777, Atime: now, Mtime: now}
		for name := range links {
			p := mustPath(t, "/"+name)
			_, err := f.Stat(ctx, p)
			want(t, "stat "+name, err, vfs.ErrEscape)
			_, err = f.Open(ctx, p)
			want(t, "open "+name, err, vfs.ErrEscape)
			for _, m := range []vfs.OpenMode{{}, {Truncate: true}, {Append: true}, {Read: true}, {Atomic: true}} {
				_, err = f.Create(ctx, p, m)
				want(t, fmt.Sprintf("create %s %+v", name, m), err, vfs.ErrEscape)
			}
			_, err = f.Create(ctx, p, vfs.OpenMode{Exclusive: true})
			want(t, "exclusive "+name, err, fs.ErrExist)
			below := mustPath(t, "/"+name+"/below")
			want(t, "mkdir below "+name, f.Mkdir(ctx, below, vfs.Attr{}), vfs.ErrEscape)
			want(t, "remove below "+name, f.Remove(ctx, below), vfs.ErrEscape)
			want(t, "symlink below "+name, f.Symlink(ctx, "x", below), vfs.ErrEscape)
			want(t, "rename to below "+name, f.Rename(ctx, mustPath(t, "/file"), below, true), vfs.ErrEscape)
			want(t, "link to below "+name, f.Link(ctx, mustPath(t, "/file"), below), vfs.ErrEscape)
			want(t, "copy of "+name, f.Copy(ctx, p, mustPath(t, "/copy"), true), vfs.ErrEscape)
			want(t, "copy to below "+name, f.Copy(ctx, mustPath(t, "/file"), below, true), vfs.ErrEscape)
			want(t, "setattr "+name, f.SetAttr(ctx, p, attr, true), vfs.ErrEscape)
			_, err = f.StatFS(ctx, p)
			want(t, "statfs "+name, err, vfs.ErrEscape)
			for _, err := range f.List(ctx, p) {
				want(t, "list "+name, err, vfs.ErrEscape)
			}
			// A second name of the link is a link, not the file outside.
			must(t, f.Link(ctx, p, mustPath(t, "/second")))
			if i, err := f.Lstat(ctx, mustPath(t, "/second")); err != nil || !i.IsSymlink() {
				t.Errorf("link of %s: %+v, %v", name, i, err)
			}
			must(t, f.Remove(ctx, mustPath(t, "/second")))
		}
		if files, bytes, err := f.DirSize(ctx, vfs.Root); files != 1 || bytes != 6 || err != nil { // SYM-2
			t.Errorf("dirsize %d, %d, %v", files, bytes, err)
		}
		// Atomic and whole: the link is replaced, whatever it names.
		u, err := f.Create(ctx, mustPath(t, "/abs"), vfs.OpenMode{Atomic: true, Truncate: true})
		must(t, err)
		_, err = u.Commit(ctx)
		must(t, err)
		for name := range links {
			must(t, f.Remove(ctx, mustPath(t, "/"+name)))
		}
		if after := snapshot(t, filepath.Join(top, "dir")) + snapshot(t, filepath.Join(top, "secret")); after != before {
			t.Errorf("the outside changed:\n%s\n%s", before, after)
		}
		if _, err := os.Lstat(filepath.Join(top, "new")); err == nil {
			t.Error("a dangling link made a file outside")
		}
	})
}

// SYM-1: the links of /proc, which lead anywhere by themselves.
func TestMagicLinksAreRefused(t *testing.T) {
	both(t, func(t *testing.T, portable bool) {
		f := open(t, "/proc/self", Options{Portable: portable})
		for _, n := range []string{"/root", "/root/etc/passwd", "/cwd", "/exe", "/fd/0"} {
			if i, err := f.Stat(ctx, mustPath(t, n)); err == nil {
				t.Errorf("%s: %+v", n, i)
			}
			if h, err := f.Open(ctx, mustPath(t, n)); err == nil {
				t.Errorf("%s opened", n)
				h.Close()
			}
		}
	})
}

func TestSpecialFilesAreNotOpenedAndDoNotBlock(t *testing.T) {
	both(t, func(t *testing.T, portable bool) {
		root := t.TempDir()
		f := open(t, root, Options{Portable: portable})
		special := []string{"/fifo", "/sock"}
		must(t, unix.Mkfifo(filepath.Join(root, "fifo"), 0o666))
		l, err := net.Listen("unix", filepath.Join(root, "sock"))
		must(t, err)
		defer l.Close()
		if unix.Mknod(filepath.Join(root, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) == nil {
			special = append(special, "/null")
		}
		for _, n := range special {
			p := mustPath(t, n)
			_, err := f.Open(ctx, p)
			want(t, "open "+n, err, vfs.ErrSpecial)
			for _, m := range []vfs.OpenMode{{}, {Truncate: true}, {Read: true}, {Append: true}, {Atomic: true}, {Atomic: true, Truncate: true}} {
				_, err = f.Create(ctx, p, m)
				want(t, fmt.Sprintf("create %s %+v", n, m), err, vfs.ErrSpecial)
			}
			want(t, "copy "+n, f.Copy(ctx, p, mustPath(t, "/copy"), false), vfs.ErrSpecial)
			for _, err := range f.List(ctx, p) {
				want(t, "list "+n, err, vfs.ErrNotDir)
			}
			if i, err := f.Stat(ctx, p); err != nil || i.Mode.IsRegular() {
				t.Errorf("stat %s: %+v, %v", n, i, err)
			}
		}
		if files, _, err := f.DirSize(ctx, vfs.Root); files != 0 || err != nil {
			t.Errorf("dirsize %d, %v", files, err)
		}
		for _, n := range special {
			must(t, f.Remove(ctx, mustPath(t, n)))
		}
	})
}

func TestAVanishedRootIsNotFound(t *testing.T) {
	both(t, func(t *testing.T, portable bool) {
		root := filepath.Join(t.TempDir(), "root")
		must(t, os.Mkdir(root, 0o755))
		f := open(t, root, Options{Portable: portable})
		must(t, os.Remove(root))
		p := mustPath(t, "/f")
		_, err := f.Stat(ctx, vfs.Root)
		want(t, "stat root", err, fs.ErrNotExist)
		_, err = f.Stat(ctx, p)
		want(t, "stat", err, fs.ErrNotExist)
		_, err = f.Create(ctx, p, vfs.OpenMode{})
		want(t, "create", err, fs.ErrNotExist)
		_, err = f.Create(ctx, p, vfs.OpenMode{Atomic: true})
		want(t, "create atomic", err, fs.ErrNotExist)
		want(t, "mkdir", f.Mkdir(ctx, p, vfs.Attr{}), fs.ErrNotExist)
		_, err = New(root, Options{Portable: portable})
		want(t, "new", err, fs.ErrNotExist)
		seen := 0
		for _, err := range f.List(ctx, vfs.Root) {
			seen++
			want(t, "list", err, fs.ErrNotExist)
		}
		if seen != 1 {
			t.Errorf("list yielded %d times", seen)
		}
	})
}

func TestAFileIsNoRoot(t *testing.T) {
	both(t, func(t *testing.T, portable bool) {
		name := filepath.Join(t.TempDir(), "f")
		must(t, os.WriteFile(name, nil, 0o644))
		if f, err := New(name, Options{Portable: portable}); err == nil {
			f.Close()
			t.Error("taken")
		}
	})
}

// No path through the package, failing or not, keeps a descriptor.
func TestNoDescriptorIsLost(t *testing.T) {
	both(t, func(t *testing.T, portable bool) {
		root := t.TempDir()
		f := open(t, root, Options{Portable: portable, Sync: true, UID: os.Getuid(), GID: os.Getgid()})
		must(t, f.Mkdir(ctx, mustPath(t, "/d"), vfs.Attr{}))
		must(t, f.Mkdir(ctx, mustPath(t, "/d/e"), vfs.Attr{}))
		put(t, f, "/d/f", "x")
		must(t, f.Symlink(ctx, "d/f", mustPath(t, "/l")))
		must(t, os.Symlink("/etc", filepath.Join(root, "out")))
		must(t, unix.Mkfifo(filepath.Join(root, "fifo"), 0o666))
		now := time.Now()
		attr := vfs.Attr{Set: vfs.AttrMode | vfs.AttrTimes, Mode: 0o755, Atime: now, Mtime: now}
		dead, cancel := context.WithCancel(ctx)
		cancel()
		round := func() {
			for _, c := range []context.Context{ctx, dead} {
				for _, n := range []string{"/", "/d", "/d/f", "/l", "/out", "/out/passwd", "/fifo", "/no", "/no/no", "/d/f/no", "/new"} {
					p := mustPath(t, n)
					_, _ = f.Stat(c, p)
					_, _ = f.Lstat(c, p)
					_, _ = f.StatFS(c, p)
					_, _ = f.Readlink(c, p)
					_, _, _ = f.DirSize(c, p)
					if sub, err := f.Sub(c, p); err == nil {
						sub.Close()
					}
					_ = f.SetAttr(c, p, attr, true)
					_ = f.SetAttr(c, p, attr, false)
					_ = f.Mkdir(c, p, vfs.Attr{})
					for range f.List(c, p) {
						break
					}
					for range f.List(c, p) {
					}
					_ = f.Link(c, p, mustPath(t, "/h"))
					_ = f.Remove(c, mustPath(t, "/h"))
					_ = f.Copy(c, p, mustPath(t, "/d/copy"), true)
					_ = f.Copy(c, p, mustPath(t, "/d/copy"), false)
					_ = f.Rename(c, p, mustPath(t, "/out/x"), true)
					_ = f.Rename(c, p, mustPath(t, "/d/f"), false)
					if h, err := f.Open(c, p); err == nil {
						h.Close()
					}
					for bits := range 64 {
						m := vfs.OpenMode{Truncate: bits&1 != 0, Append: bits&2 != 0, Exclusive: bits&4 != 0, MustExist: bits&8 != 0, Atomic: bits&16 != 0, Read: bits&32 != 0}
						if u, err := f.Create(c, p, m); err == nil {
							if bits%3 == 0 {
								_ = u.Abort(c)
							} else if _, err := u.Commit(c); err != nil {
								_ = u.Abort(c)
							}
						}
						if n == "/new" {
							_ = f.Remove(c, p)
						}
					}
					if n == "/no" || n == "/new" {
						_ = f.Remove(c, p)
					}
				}
				_, _ = f.Sweep(c, now)
				if again, err := New(filepath.Join(root, "d", "f"), Options{Portable: portable}); err == nil {
					again.Close()
				}
			}
		}
		round()
		before := len(names(t, "/proc/self/fd"))
		round()
		if after := len(names(t, "/proc/self/fd")); after > before {
			t.Errorf("%d descriptors before, %d after", before, after)
		}
	})
}

// A tree deeper than a path can say, as renames make it, is still counted and swept (SYM-2, QUO-1).
func TestWalksAreDeeperThanPathsAreLong(t *testing.T) {
	both(t, func(t *testing.T, portable bool) {
		f := open(t, t.TempDir(), Options{Portable: portable})
		chain := func(top string) vfs.Path {
			p := mustPath(t, top)
			must(t, f.Mkdir(ctx, p, vfs.Attr{}))
			for range 12 {
				p, _ = p.Child(strings.Repeat("d", 250))
				must(t, f.Mkdir(ctx, p, vfs.Attr{}))
				put(t, f, p.String()+"/file", "12345")
				must(t, f.Mkdir(ctx, mustPath(t, p.String()+"/side"), vfs.Attr{}))
			}
			u, err := f.Create(ctx, mustPath(t, p.String()+"/lost"), vfs.OpenMode{Atomic: true})
			must(t, err)
			_ = u // and a kill
			return p
		}
		bottom := chain("/a")
		for _, top := range []string{"/b", "/c", "/e"} {
			next := chain(top)
			must(t, f.Rename(ctx, mustPath(t, "/a"), mustPath(t, next.String()+"/x"), false))
			must(t, f.Rename(ctx, mustPath(t, top), mustPath(t, "/a"), false))
		}
		_ = bottom
		if files, bytes, err := f.DirSize(ctx, vfs.Root); files != 48 || bytes != 240 || err != nil {
			t.Errorf("dirsize %d, %d, %v; want 48, 240", files, bytes, err)
		}
		if n, err := f.Sweep(ctx, time.Now().Add(time.Hour)); n != 4 || err != nil {
			t.Errorf("sweep %d, %v; want 4", n, err)
		}
	})
}

// A client may date a pending upload back; it is not older for that.
func TestSweepIsNotFooledByOldDates(t *testing.T) {
	both(t, func(t *testing.T, portable bool) {
		f := open(t, t.TempDir(), Options{Portable: portable})
		u, err := f.Create(ctx, mustPath(t, "/f"), vfs.OpenMode{Atomic: true})
		must(t, err)
		old := time.Unix(1, 0)
		must(t, u.SetAttr(vfs.Attr{Set: vfs.AttrTimes, Atime: old, Mtime: old}))
		if n, err := f.Sweep(ctx, time.Now().Add(-time.Minute)); n != 0 || err != nil {
			t.Fatalf("sweep %d, %v", n, err)
		}
		_, err = u.Commit(ctx)
		must(t, err)
	})
}

func TestNewFilesGetTheStoragesOwner(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("this test needs root to give files away")
	}
	both(t, func(t *testing.T, portable bool) {
		f := open(t, t.TempDir(), Options{Portable: portable, UID: 4321, GID: 5432, Umask: 0o077})
		must(t, f.Mkdir(ctx, mustPath(t, "/d"), vfs.Attr{}))
		put(t, f, "/d/f", "x")
		u, err := f.Create(ctx, mustPath(t, "/d/a"), vfs.OpenMode{Atomic: true})
		must(t, err)
		_, err = u.Commit(ctx)
		must(t, err)
		must(t, f.Copy(ctx, mustPath(t, "/d/f"), mustPath(t, "/d/c"), false))
		for n, perm := range map[string]fs.FileMode{"/d": 0o700, "/d/f": 0o600, "/d/a": 0o600, "/d/c": 0o600} {
			if i, err := f.Stat(ctx, mustPath(t, n)); err != nil || i.UID != 4321 || i.GID != 5432 || i.Mode.Perm() != perm {
				t.Errorf("%s: %d:%d %v, %v", n, i.UID, i.GID, i.Mode, err)
			}
		}
	})
}

func TestTwoStoragesOnOneTreeHaveOneIdentity(t *testing.T) {
	top := t.TempDir()
	must(t, os.Mkdir(filepath.Join(top, "real"), 0o755))
	must(t, os.Symlink("real", filepath.Join(top, "alias")))
	a, b := open(t, filepath.Join(top, "real"), Options{}), open(t, filepath.Join(top, "alias"), Options{Portable: true})
	c := open(t, top, Options{})
	if a.Describe(vfs.Root).Identity != b.Describe(vfs.Root).Identity || a.Describe(vfs.Root).Identity == c.Describe(vfs.Root).Identity {
		t.Errorf("%q %q %q", a.id, b.id, c.id)
	}
	if got := a.Describe(mustPath(t, "/x/y")).StoragePath; got != filepath.Join(top, "real", "x", "y") {
		t.Errorf("storage path %q", got)
	}
}

// Close while calls run: no call acts on a descriptor that has become another directory's.
func TestCloseUnderRunningCalls(t *testing.T) {
	both(t, func(t *testing.T, portable bool) {
		root := t.TempDir()
		for range 50 {
			f, err := New(root, Options{Portable: portable})
			must(t, err)
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					for {
						i, err := f.Stat(ctx, vfs.Root)
						if err != nil {
							want(t, "stat", err, fs.ErrClosed)
							return
						}
						if !i.IsDir() {
							t.Errorf("root is %+v", i)
						}
					}
				})
			}
			must(t, f.Close())
			all.Wait()
			want(t, "close again", f.Close(), fs.ErrClosed)
		}
	})
}

// The way of file systems without RENAME_NOREPLACE.
func TestRenameNoReplaceWithoutTheKernelsHelp(t *testing.T) {
	root := t.TempDir()
	f := open(t, root, Options{})
	put(t, f, "/a", "a")
	put(t, f, "/b", "b")
	must(t, f.Mkdir(ctx, mustPath(t, "/d"), vfs.Attr{}))
	d, err := f.tree.dir(vfs.Root)
	must(t, err)
	defer d.close()
	fd := d.(*atDir).fd
	want(t, "file on file", renameNoReplace(fd, "a", fd, "b"), fs.ErrExist)
	want(t, "directory on file", renameNoReplace(fd, "d", fd, "b"), fs.ErrExist)
	want(t, "nothing", renameNoReplace(fd, "no", fd, "x"), fs.ErrNotExist)
	must(t, renameNoReplace(fd, "a", fd, "c"))
	must(t, renameNoReplace(fd, "d", fd, "e"))
	if got := names(t, root); strings.Join(got, " ") != "b c e" || get(t, f, "/c") != "a" || get(t, f, "/b") != "b" {
		t.Errorf("%q", got)
	}
}

func TestACutDirectoryRecordIsNoEntry(t *testing.T) {
	for _, bad := range [][]byte{nil, {1, 2, 3}, make([]byte, 19), make([]byte, 64), append(make([]byte, 16), 0xff, 0xff, 8, 'a', 0)} {
		if name, _ := dirent(bad); name != nil {
			t.Errorf("dirent(%v) = %q", bad, name)
		}
	}
}

func TestOSFileIsTheFileUnlessItAppends(t *testing.T) {
	f := open(t, t.TempDir(), Options{})
	put(t, f, "/f", "x")
	h, err := f.Open(ctx, mustPath(t, "/f"))
	must(t, err)
	defer h.Close()
	if h.(vfs.OSFiler).OSFile() == nil {
		t.Error("no file of a reader")
	}
	for _, m := range []vfs.OpenMode{{}, {Read: true}, {Atomic: true}, {Append: true}} {
		u, err := f.Create(ctx, mustPath(t, "/f"), m)
		must(t, err)
		if got := u.(vfs.OSFiler).OSFile(); (got == nil) != m.Append {
			t.Errorf("%+v: %v", m, got)
		}
		must(t, u.Abort(ctx))
	}
}
