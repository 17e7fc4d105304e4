package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantryhq/gantry/vfs"
)

// mountTmpfs needs the right to mount; what it tests cannot be had otherwise.
func mountTmpfs(t *testing.T, dir, data string) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, data); err != nil {
		t.Skipf("this test needs to mount a tmpfs (CAP_SYS_ADMIN): %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

func TestAFullDiskIsErrQuotaAndLeavesNothingOfAtomicUploads(t *testing.T) {
	both(t, func(t *testing.T, portable bool) {
		root := t.TempDir()
		mountTmpfs(t, root, "size=256k,nr_inodes=20")
		f := open(t, root, Options{Portable: portable})
		big := make([]byte, 1<<20)
		put(t, f, "/old", strings.Repeat("o", 150<<10))
		u, err := f.Create(ctx, mustPath(t, "/f"), vfs.OpenMode{Atomic: true})
		must(t, err)
		_, err = u.WriteAt(big, 0)
		want(t, "write", err, vfs.ErrQuota)
		must(t, u.Abort(ctx))
		// The clone of a resume and a copy do not fit beside the old one.
		_, err = f.Create(ctx, mustPath(t, "/old"), vfs.OpenMode{Atomic: true})
		want(t, "resume", err, vfs.ErrQuota)
		want(t, "copy", f.Copy(ctx, mustPath(t, "/old"), mustPath(t, "/new"), false), vfs.ErrQuota)
		if got := names(t, root); len(got) != 1 || got[0] != "old" {
			t.Errorf("left: %q", got)
		}
		if s, err := f.StatFS(ctx, vfs.Root); err != nil || s.Blocks*s.BlockSize != 256<<10 || s.Avail*s.BlockSize > 110<<10 {
			t.Errorf("statfs %+v, %v", s, err)
		}
		var full error
		for i := range 30 {
			if full = f.Mkdir(ctx, mustPath(t, fmt.Sprint("/d", i)), vfs.Attr{}); full != nil {
				break
			}
		}
		want(t, "no inode left", full, vfs.ErrQuota)
	})
}

func TestAReadOnlyRootSaysSo(t *testing.T) {
	both(t, func(t *testing.T, portable bool) {
		root := t.TempDir()
		mountTmpfs(t, root, "")
		must(t, os.WriteFile(filepath.Join(root, "f"), []byte("x"), 0o644))
		must(t, os.Mkdir(filepath.Join(root, "d"), 0o755))
		must(t, unix.Mount("", root, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		f := open(t, root, Options{Portable: portable})
		p, q, d := mustPath(t, "/f"), mustPath(t, "/q"), mustPath(t, "/d")
		if get(t, f, "/f") != "x" {
			t.Error("cannot read")
		}
		for _, m := range []vfs.OpenMode{{}, {Truncate: true}, {Append: true}, {Atomic: true}, {Atomic: true, Truncate: true}} {
			_, err := f.Create(ctx, p, m)
			want(t, "overwrite", err, vfs.ErrReadOnly)
			_, err = f.Create(ctx, q, m)
			want(t, "create", err, vfs.ErrReadOnly)
		}
		want(t, "mkdir", f.Mkdir(ctx, q, vfs.Attr{}), vfs.ErrReadOnly)
		want(t, "remove", f.Remove(ctx, p), vfs.ErrReadOnly)
		want(t, "rmdir", f.Remove(ctx, d), vfs.ErrReadOnly)
		want(t, "rename", f.Rename(ctx, p, q, true), vfs.ErrReadOnly)
		want(t, "rename noreplace", f.Rename(ctx, p, q, false), vfs.ErrReadOnly)
		want(t, "symlink", f.Symlink(ctx, "x", q), vfs.ErrReadOnly)
		want(t, "link", f.Link(ctx, p, q), vfs.ErrReadOnly)
		want(t, "copy", f.Copy(ctx, p, q, true), vfs.ErrReadOnly)
		want(t, "chmod", f.SetAttr(ctx, p, vfs.Attr{Set: vfs.AttrMode, Mode: 0o600}, true), vfs.ErrReadOnly)
		want(t, "utimes", f.SetAttr(ctx, p, vfs.Attr{Set: vfs.AttrTimes, Atime: time.Now(), Mtime: time.Now()}, true), vfs.ErrReadOnly)
		if s, err := f.StatFS(ctx, vfs.Root); err != nil || !s.ReadOnly {
			t.Errorf("statfs %+v, %v", s, err)
		}
	})
}

func TestAnotherDeviceInTheTree(t *testing.T) {
	both(t, func(t *testing.T, portable bool) {
		root := t.TempDir()
		must(t, os.Mkdir(filepath.Join(root, "mnt"), 0o755))
		mountTmpfs(t, filepath.Join(root, "mnt"), "")
		f := open(t, root, Options{Portable: portable})
		put(t, f, "/f", "content")
		p, q := mustPath(t, "/f"), mustPath(t, "/mnt/g")
		for _, replace := range []bool{false, true} {
			want(t, "rename", f.Rename(ctx, p, q, replace), vfs.ErrCrossDevice)
		}
		want(t, "link", f.Link(ctx, p, q), vfs.ErrCrossDevice)
		must(t, f.Copy(ctx, p, q, false))
		if got := get(t, f, "/mnt/g"); got != "content" {
			t.Errorf("copied %q", got)
		}
		// An upload beside its target is never on another device.
		u, err := f.Create(ctx, q, vfs.OpenMode{Atomic: true})
		must(t, err)
		_, err = u.WriteAt([]byte("C"), 0)
		must(t, err)
		_, err = u.Commit(ctx)
		must(t, err)
		if got := get(t, f, "/mnt/g"); got != "Content" {
			t.Errorf("resumed %q", got)
		}
	})
}

func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestACopyKeepsHoles(t *testing.T) {
	root := t.TempDir()
	f := open(t, root, Options{})
	u, err := f.Create(ctx, mustPath(t, "/f"), vfs.OpenMode{})
	must(t, err)
	for _, off := range []int64{0, 100 << 20, 1 << 30} {
		_, err = u.WriteAt([]byte("data"), off)
		must(t, err)
	}
	must(t, u.Truncate(2<<30))
	_, err = u.Commit(ctx)
	must(t, err)
	must(t, f.Copy(ctx, mustPath(t, "/f"), mustPath(t, "/g"), false))
	var a, b unix.Stat_t
	must(t, unix.Stat(filepath.Join(root, "f"), &a))
	must(t, unix.Stat(filepath.Join(root, "g"), &b))
	if b.Size != a.Size || b.Blocks > a.Blocks+64 {
		t.Errorf("%d bytes in %d blocks became %d in %d", a.Size, a.Blocks, b.Size, b.Blocks)
	}
	h, err := f.Open(ctx, mustPath(t, "/g"))
	must(t, err)
	defer h.Close()
	for _, off := range []int64{0, 100 << 20, 1 << 30} {
		got := make([]byte, 5)
		if _, err := h.ReadAt(got, off); err != nil || string(got) != "data\x00" {
			t.Errorf("at %d: %q, %v", off, got, err)
		}
	}
}

// countdown is a context that is cancelled at its nth look.
type countdown struct {
	context.Context
	left int
}

func (c *countdown) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

func TestCopiesStopWhenCancelled(t *testing.T) {
	dir := t.TempDir()
	src, err := os.Create(filepath.Join(dir, "src"))
	must(t, err)
	defer src.Close()
	_, err = src.Write(make([]byte, 3*cloneStep))
	must(t, err)
	for name, run := range map[string]func(c context.Context, dst *os.File) error{
		"in the kernel": func(c context.Context, dst *os.File) error { return copyExtent(c, dst, src, 0, 3*cloneStep) },
		"by hand":       func(c context.Context, dst *os.File) error { return copyRange(c, dst, src, 0, 3*cloneStep) },
	} {
		dst, err := os.Create(filepath.Join(dir, "dst"))
		must(t, err)
		want(t, name, run(&countdown{ctx, 2}, dst), context.Canceled)
		must(t, run(ctx, dst))
		if i, err := dst.Stat(); err != nil || i.Size() != 3*cloneStep {
			t.Errorf("%s: %v, %v", name, i, err)
		}
		dst.Close()
	}
}
