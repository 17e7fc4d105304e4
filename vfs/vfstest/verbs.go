package vfstest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

var verbCases = []testCase{
	{"CapabilitiesAreAsDeclared", nil, capsAreTrue},
	{"EmptyRoot", nil, func(e *env) {
		e.wantList("/")
		if i := e.stat("/"); !i.IsDir() || i.Name != "/" {
			e.Errorf("root is %+v", i)
		}
	}},
	{"StatTellsKindSizeTimeAndName", nil, func(e *env) {
		before := time.Now().Add(-3 * time.Second)
		e.put("/f", "hello")
		e.mkdir("/d")
		i := e.stat("/f")
		if i.Name != "f" || i.Size != 5 || !i.Mode.IsRegular() || i.ModTime.Before(before) || i.ModTime.After(time.Now().Add(3*time.Second)) {
			e.Errorf("file is %+v", i)
		}
		if i := e.lstat("/d"); i.Name != "d" || !i.IsDir() {
			e.Errorf("directory is %+v", i)
		}
	}},
	{"MissingThingsAreErrNotExist", nil, func(e *env) {
		for _, name := range []string{"/no", "/no/such/thing"} {
			p := e.path(name)
			_, err := e.fs.Stat(ctx, p)
			e.want("stat", err, fs.ErrNotExist)
			_, err = e.fs.Lstat(ctx, p)
			e.want("lstat", err, fs.ErrNotExist)
			_, err = e.fs.Open(ctx, p)
			e.want("open", err, fs.ErrNotExist)
			e.want("remove", e.fs.Remove(ctx, p), fs.ErrNotExist)
			e.want("rename", e.fs.Rename(ctx, p, e.path("/x"), true), fs.ErrNotExist)
			e.want("list", e.listError(ctx, name), fs.ErrNotExist)
			_, err = e.fs.Create(ctx, p, vfs.OpenMode{MustExist: true})
			e.want("create must exist", err, fs.ErrNotExist)
		}
		_, err := e.fs.Create(ctx, e.path("/no/file"), vfs.OpenMode{})
		e.want("create without parent", err, fs.ErrNotExist)
		e.want("mkdir without parent", e.fs.Mkdir(ctx, e.path("/no/dir"), vfs.Attr{}), fs.ErrNotExist)
		e.put("/f", "")
		e.want("rename to no parent", e.fs.Rename(ctx, e.path("/f"), e.path("/no/f"), true), fs.ErrNotExist)
		e.wantList("/", "f")
	}},
	{"AFileIsNoDirectory", nil, func(e *env) {
		e.put("/f", "x")
		_, err := e.fs.Stat(ctx, e.path("/f/below"))
		e.want("stat below", err, vfs.ErrNotDir)
		_, err = e.fs.Create(ctx, e.path("/f/below"), vfs.OpenMode{})
		e.want("create below", err, vfs.ErrNotDir)
		e.want("mkdir below", e.fs.Mkdir(ctx, e.path("/f/below"), vfs.Attr{}), vfs.ErrNotDir)
		e.want("list", e.listError(ctx, "/f"), vfs.ErrNotDir)
	}},
	{"ADirectoryIsNoFile", nil, func(e *env) {
		e.mkdir("/d")
		_, err := e.fs.Open(ctx, e.path("/d"))
		e.want("open", err, vfs.ErrIsDir)
		for _, m := range []vfs.OpenMode{{}, {Truncate: true}, {Truncate: true, Atomic: e.caps.Atomic}} {
			_, err = e.fs.Create(ctx, e.path("/d"), m)
			e.want("create", err, vfs.ErrIsDir)
			_, err = e.fs.Create(ctx, vfs.Root, m)
			e.want("create root", err, vfs.ErrIsDir)
		}
		_, err = e.fs.Open(ctx, vfs.Root)
		e.want("open root", err, vfs.ErrIsDir)
		e.wantList("/d")
	}},
	{"MkdirAndRemove", nil, func(e *env) {
		e.mkdir("/a", "/a/b")
		e.put("/a/b/f", "x")
		e.want("mkdir again", e.fs.Mkdir(ctx, e.path("/a"), vfs.Attr{}), fs.ErrExist)
		e.want("mkdir on a file", e.fs.Mkdir(ctx, e.path("/a/b/f"), vfs.Attr{}), fs.ErrExist)
		e.want("mkdir root", e.fs.Mkdir(ctx, vfs.Root, vfs.Attr{}), fs.ErrExist)
		e.want("remove full", e.fs.Remove(ctx, e.path("/a/b")), vfs.ErrNotEmpty)
		e.want("remove root", e.fs.Remove(ctx, vfs.Root), fs.ErrPermission)
		for _, n := range []string{"/a/b/f", "/a/b", "/a"} {
			e.ok("remove "+n, e.fs.Remove(ctx, e.path(n)))
		}
		e.wantList("/")
	}},
	{"ListGivesEveryEntryOnceWithItsInfo", nil, func(e *env) {
		e.mkdir("/d")
		var want []string
		for i := range 700 { // more than one chunk
			n := "file-" + strings.Repeat("x", i%60) + string(rune('a'+i%26)) + string(rune('a'+i/26))
			e.put("/d/"+n, n)
			want = append(want, n)
		}
		e.mkdir("/d/sub")
		e.wantList("/d", append(want, "sub")...)
		for i, err := range e.fs.List(ctx, e.path("/d")) {
			e.ok("list", err)
			if i.Name == "sub" != i.IsDir() || !i.IsDir() && i.Size != int64(len(i.Name)) {
				e.Errorf("entry %+v", i)
			}
		}
	}},
	{"ListStopsWhenToldTo", nil, func(e *env) {
		e.put("/a", "")
		e.put("/b", "")
		seen := 0
		for range e.fs.List(ctx, vfs.Root) {
			seen++
			break
		}
		if seen != 1 {
			e.Errorf("%d entries", seen)
		}
		e.wantList("/", "a", "b") // and again
	}},
	{"ListWhileEntriesVanish", func(c Caps) bool { return c.Host && !c.Snapshot }, func(e *env) {
		for i := range 50 {
			e.put("/"+string(rune('A'+i)), "")
		}
		first := true
		for i, err := range e.fs.List(ctx, vfs.Root) {
			e.ok("list", err)
			if first {
				for j := range 50 {
					if n := string(rune('A' + j)); n != i.Name {
						e.ok("remove", e.fs.Remove(ctx, e.path("/"+n)))
					}
				}
			} else {
				e.Errorf("%s was listed after its removal", i.Name)
			}
			first = false
		}
	}},
	{"NamesAreBytes", nil, func(e *env) { // PATH-5
		names := []string{"é", "e\u0301", "\xe9", "a b", " ", "-rf", "*", "a\nb", "\x1b[2J", `back\slash`, "c:d", "...", "..a", "~", "A", "a", strings.Repeat("n", 255)}
		for _, n := range names {
			e.put("/"+n, n)
		}
		e.wantList("/", names...)
		for _, n := range names {
			e.wantContent("/"+n, n)
			e.ok("remove", e.fs.Remove(ctx, e.path("/"+n)))
		}
		e.wantList("/")
	}},
	{"LongPaths", func(c Caps) bool { return c.Host }, func(e *env) {
		p := vfs.Root
		for range 15 {
			var err error
			p, err = p.Child(strings.Repeat("d", 250))
			e.ok("child", err)
			e.ok("mkdir", e.fs.Mkdir(ctx, p, vfs.Attr{}))
		}
		e.put(p.String()+"/f", "deep")
		e.wantContent(p.String()+"/f", "deep")
		if e.caps.DirSize {
			d, _ := vfs.As[vfs.DirSizer](e.fs)
			if n, b, err := d.DirSize(ctx, vfs.Root); n != 1 || b != 4 || err != nil {
				e.Errorf("dirsize = %d, %d, %v", n, b, err)
			}
		}
	}},
	{"ReadAtKeepsItsContract", nil, func(e *env) {
		e.put("/f", "0123456789")
		f, err := e.fs.Open(ctx, e.path("/f"))
		e.ok("open", err)
		defer f.Close()
		b := make([]byte, 4)
		for _, c := range []struct {
			off  int64
			want string
			err  error
		}{{0, "0123", nil}, {6, "6789", nil}, {8, "89", io.EOF}, {10, "", io.EOF}, {1 << 40, "", io.EOF}} {
			n, err := f.ReadAt(b, c.off)
			if string(b[:n]) != c.want || err != c.err {
				e.Errorf("ReadAt(%d) = %q, %v; want %q, %v", c.off, b[:n], err, c.want, c.err)
			}
		}
		if _, err := f.ReadAt(b, -1); !errors.Is(err, fs.ErrInvalid) {
			e.Errorf("negative offset: %v", err)
		}
		if i, err := f.Stat(); err != nil || i.Size != 10 || i.Name != "f" {
			e.Errorf("fstat = %+v, %v", i, err)
		}
	}},
	{"AnOpenFileOutlivesItsName", nil, func(e *env) {
		e.put("/f", "old")
		f, err := e.fs.Open(ctx, e.path("/f"))
		e.ok("open", err)
		defer f.Close()
		e.ok("remove", e.fs.Remove(ctx, e.path("/f")))
		e.put("/f", "new")
		b := make([]byte, 3)
		if _, err := f.ReadAt(b, 0); err != nil || string(b) != "old" {
			e.Errorf("read %q, %v", b, err)
		}
	}},
	{"ClosedHandlesSaySo", nil, func(e *env) {
		e.put("/f", "x")
		f, err := e.fs.Open(ctx, e.path("/f"))
		e.ok("open", err)
		e.ok("close", f.Close())
		b := make([]byte, 1)
		_, err = f.ReadAt(b, 0)
		e.want("read", err, fs.ErrClosed)
		_, err = f.Stat()
		e.want("stat", err, fs.ErrClosed)
		e.want("close again", f.Close(), fs.ErrClosed)
		for _, end := range []func(u vfs.Upload) error{
			func(u vfs.Upload) error { _, err := u.Commit(ctx); return err },
			func(u vfs.Upload) error { return u.Abort(ctx) },
		} {
			u := e.create("/u", vfs.OpenMode{Truncate: true, Atomic: e.caps.Atomic, Read: e.caps.Resume})
			e.ok("end", end(u))
			_, err = u.WriteAt(b, 0)
			e.want("write", err, fs.ErrClosed)
			e.want("truncate", u.Truncate(0), fs.ErrClosed)
			e.want("sync", u.Sync(), fs.ErrClosed)
			e.want("setattr", u.SetAttr(vfs.Attr{Set: vfs.AttrMode, Mode: 0o600}), fs.ErrClosed)
			e.want("settimes", u.SetAttr(vfs.Attr{Set: vfs.AttrTimes, Atime: time.Now(), Mtime: time.Now()}), fs.ErrClosed)
			_, err = u.Stat()
			e.want("stat", err, fs.ErrClosed)
			_, err = u.Commit(ctx)
			e.want("commit", err, fs.ErrClosed)
			e.want("abort", u.Abort(ctx), fs.ErrClosed)
		}
	}},
	{"HandlesOutliveTheFS", nil, func(e *env) {
		e.put("/f", "x")
		f, err := e.fs.Open(ctx, e.path("/f"))
		e.ok("open", err)
		defer f.Close()
		u := e.create("/u", vfs.OpenMode{Atomic: e.caps.Atomic})
		e.ok("close", e.fs.Close())
		b := make([]byte, 1)
		_, err = f.ReadAt(b, 0)
		e.ok("read", err)
		e.writeAt(u, "y", 0)
		if i := e.commit(u); i.Size != 1 {
			e.Errorf("committed %+v", i)
		}
		_, err = e.fs.Stat(ctx, vfs.Root)
		e.want("stat on a closed FS", err, fs.ErrClosed)
		e.want("list on a closed FS", e.listError(ctx, "/"), fs.ErrClosed)
	}},
	{"ACancelledContextStopsEveryVerb", nil, func(e *env) {
		e.put("/f", "x")
		u := e.create("/u", vfs.OpenMode{Atomic: e.caps.Atomic})
		dead, cancel := context.WithCancel(ctx)
		cancel()
		p, q := e.path("/f"), e.path("/q")
		_, err := e.fs.Stat(dead, p)
		e.want("stat", err, context.Canceled)
		_, err = e.fs.Lstat(dead, p)
		e.want("lstat", err, context.Canceled)
		_, err = e.fs.Open(dead, p)
		e.want("open", err, context.Canceled)
		_, err = e.fs.Create(dead, q, vfs.OpenMode{})
		e.want("create", err, context.Canceled)
		e.want("mkdir", e.fs.Mkdir(dead, q, vfs.Attr{}), context.Canceled)
		e.want("remove", e.fs.Remove(dead, p), context.Canceled)
		e.want("rename", e.fs.Rename(dead, p, q, true), context.Canceled)
		e.want("list", e.listError(dead, "/"), context.Canceled)
		_, err = u.Commit(dead)
		if e.caps.Atomic {
			e.want("commit", err, context.Canceled)
			e.ok("abort", u.Abort(dead))
			e.wantList("/", "f")
		}
		e.wantContent("/f", "x")
	}},
	{"CancelEndsAListingInProgress", nil, func(e *env) {
		e.mkdir("/d")
		for i := range 600 { // of 225 bytes each: several chunks
			e.put("/d/"+strings.Repeat("n", 200)+string(rune('a'+i%26))+string(rune('a'+i/26)), "")
		}
		live, cancel := context.WithCancel(ctx)
		defer cancel()
		seen, last := 0, error(nil)
		for i, err := range e.fs.List(live, e.path("/d")) {
			if seen++; seen == 1 {
				cancel()
			}
			if i.Name == "" {
				last = err
			}
		}
		if !errors.Is(last, context.Canceled) || seen > 300 {
			e.Errorf("%d entries, then %v", seen, last)
		}
	}},
	{"ErrorsShowTheVirtualPathOnly", nil, func(e *env) {
		_, err := e.fs.Stat(ctx, e.path("/no/such"))
		var pe *fs.PathError
		if !errors.As(err, &pe) || pe.Path != "/no/such" {
			e.Errorf("%v", err)
		}
		_, err = e.fs.Create(ctx, e.path("/no/such"), vfs.OpenMode{Atomic: e.caps.Atomic})
		if !errors.As(err, &pe) || pe.Path != "/no/such" {
			e.Errorf("%v", err)
		}
	}},
}

func capsAreTrue(e *env) {
	check := func(name string, declared, has bool) {
		if declared != has {
			e.Errorf("%s: declared %v, found %v", name, declared, has)
		}
	}
	_, has := vfs.As[vfs.Linker](e.fs)
	check("Linker", e.caps.Links, has)
	_, has = vfs.As[vfs.AttrSetter](e.fs)
	check("AttrSetter", e.caps.Attrs, has)
	_, has = vfs.As[vfs.Copier](e.fs)
	check("Copier", e.caps.Copy, has)
	_, has = vfs.As[vfs.StatFSer](e.fs)
	check("StatFSer", e.caps.StatFS, has)
	_, has = vfs.As[vfs.DirSizer](e.fs)
	check("DirSizer", e.caps.DirSize, has)
	_, has = vfs.As[vfs.Sweeper](e.fs)
	check("Sweeper", e.caps.Sweep, has)
	_, has = vfs.As[vfs.Subber](e.fs)
	check("Subber", e.caps.Sub, has)
	_, has = vfs.As[vfs.Describer](e.fs)
	check("Describer", e.caps.Describe, has)
}
