package vfstest

import (
	"context"
	"io/fs"
	"strings"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

func (e *env) attrs() vfs.AttrSetter {
	e.Helper()
	s, ok := vfs.As[vfs.AttrSetter](e.fs)
	if !ok {
		e.Fatal("no AttrSetter")
	}
	return s
}

// setTimes is SetAttr on a storage that keeps the time of change of a file and nothing else.
func (e *env) setTimes(s vfs.AttrSetter) {
	e.Helper()
	for _, sec := range []int64{0, 999_999_999, 1<<31 - 1, 1 << 31, 1<<32 - 1} {
		when := time.Unix(sec, 123_000_000)
		e.ok("times", s.SetAttr(ctx, e.path("/f"), vfs.Attr{Set: vfs.AttrTimes, Atime: when, Mtime: when}, true))
		if i := e.stat("/f"); !i.ModTime.Equal(when) {
			e.Errorf("%v became %v", when, i.ModTime)
		}
	}
	e.wantContent("/f", "x")
	e.want("mode", s.SetAttr(ctx, e.path("/f"), vfs.Attr{Set: vfs.AttrMode, Mode: 0o600}, true), vfs.ErrUnsupported)
	e.want("owner", s.SetAttr(ctx, e.path("/f"), vfs.Attr{Set: vfs.AttrOwner, UID: 1, GID: 1}, true), vfs.ErrUnsupported)
	e.want("of nothing", s.SetAttr(ctx, e.path("/no"), vfs.Attr{Set: vfs.AttrTimes}, true), fs.ErrNotExist)
	dead, cancel := context.WithCancel(ctx)
	cancel()
	e.want("cancelled", s.SetAttr(dead, e.path("/f"), vfs.Attr{Set: vfs.AttrTimes}, true), context.Canceled)
}

var extraCases = []testCase{
	{"SetAttr", func(c Caps) bool { return c.Attrs }, func(e *env) {
		e.put("/f", "x")
		e.mkdir("/d")
		s := e.attrs()
		if !e.caps.Modes {
			e.setTimes(s)
			return
		}
		for _, n := range []string{"/f", "/d"} {
			at, mt := e.at(time.Unix(1_111_111_111, 5000)), e.at(time.Unix(999_999_999, 123_456_000))
			e.ok("times", s.SetAttr(ctx, e.path(n), vfs.Attr{Set: vfs.AttrTimes, Atime: at, Mtime: mt}, true))
			if i := e.stat(n); !i.ModTime.Equal(mt) || !i.AccessTime.Equal(at) {
				e.Errorf("%s: %v %v", n, i.ModTime, i.AccessTime)
			}
			e.ok("mode", s.SetAttr(ctx, e.path(n), vfs.Attr{Set: vfs.AttrMode, Mode: 0o750}, true))
			if i := e.stat(n); i.Mode.Perm() != 0o750 || !i.ModTime.Equal(mt) {
				e.Errorf("%s: %v %v", n, i.Mode, i.ModTime)
			}
			for _, mode := range []fs.FileMode{0o700 | fs.ModeSetgid, 0o777 | fs.ModeSticky, 0o640 | fs.ModeSetuid} {
				e.ok("mode", s.SetAttr(ctx, e.path(n), vfs.Attr{Set: vfs.AttrMode, Mode: mode}, false))
				const bits = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
				if i := e.stat(n); i.Mode&bits != mode {
					e.Errorf("%s: mode %v, want %v", n, i.Mode, mode)
				}
			}
		}
		// The ends of what protocols can say (year 1901, 1970, 2038, 2106).
		for _, sec := range []int64{-1 << 31, 0, 1<<31 - 1, 1 << 31, 1<<32 - 1} {
			if sec < 0 && e.caps.Times >= time.Second {
				continue
			}
			when := time.Unix(sec, 0)
			e.ok("times", s.SetAttr(ctx, e.path("/f"), vfs.Attr{Set: vfs.AttrTimes, Atime: when, Mtime: when}, true))
			if i := e.stat("/f"); !i.ModTime.Equal(when) {
				e.Errorf("%v became %v", when, i.ModTime)
			}
		}
		e.want("of nothing", s.SetAttr(ctx, e.path("/no"), vfs.Attr{Set: vfs.AttrMode}, true), fs.ErrNotExist)
		dead, cancel := context.WithCancel(ctx)
		cancel()
		e.want("cancelled", s.SetAttr(dead, e.path("/f"), vfs.Attr{Set: vfs.AttrMode}, true), context.Canceled)
	}},
	{"SetAttrOwner", func(c Caps) bool { return c.Attrs && c.Owners }, func(e *env) {
		e.put("/f", "x")
		s := e.attrs()
		e.ok("both", s.SetAttr(ctx, e.path("/f"), vfs.Attr{Set: vfs.AttrOwner, UID: 11, GID: 12}, true))
		e.ok("group only", s.SetAttr(ctx, e.path("/f"), vfs.Attr{Set: vfs.AttrOwner, UID: -1, GID: 13}, true))
		if i := e.stat("/f"); i.UID != 11 || i.GID != 13 {
			e.Errorf("owner %d:%d", i.UID, i.GID)
		}
	}},
	{"Copy", func(c Caps) bool { return c.Copy }, func(e *env) {
		c, _ := vfs.As[vfs.Copier](e.fs)
		big := strings.Repeat("0123456789abcdef", 1<<16)
		e.mkdir("/d")
		e.put("/f", big)
		e.put("/old", "old")
		from := e.path("/f")
		if e.caps.Modes {
			e.ok("mode", e.attrs().SetAttr(ctx, from, vfs.Attr{Set: vfs.AttrMode, Mode: 0o640}, true))
		}
		e.ok("copy", c.Copy(ctx, from, e.path("/d/g"), false))
		if got := e.get("/d/g"); got != big {
			e.Errorf("%d bytes", len(got))
		}
		if i := e.stat("/d/g"); e.caps.Modes && i.Mode.Perm() != 0o640 {
			e.Errorf("mode %v", i.Mode)
		}
		e.want("onto an old one", c.Copy(ctx, from, e.path("/old"), false), fs.ErrExist)
		e.wantContent("/old", "old")
		e.ok("over an old one", c.Copy(ctx, from, e.path("/old"), true))
		e.ok("over itself", c.Copy(ctx, from, from, true))
		for _, n := range []string{"/old", "/f"} {
			if got := e.get(n); got != big {
				e.Errorf("%s: %d bytes", n, len(got))
			}
		}
		e.want("of nothing", c.Copy(ctx, e.path("/no"), e.path("/x"), false), fs.ErrNotExist)
		e.want("of a directory", c.Copy(ctx, e.path("/d"), e.path("/x"), false), vfs.ErrIsDir)
		e.want("over a directory", c.Copy(ctx, from, e.path("/d"), true), vfs.ErrIsDir)
		dead, cancel := context.WithCancel(ctx)
		cancel()
		e.want("cancelled", c.Copy(dead, from, e.path("/x"), false), context.Canceled)
		e.wantList("/", "d", "f", "old")
	}},
	{"StatFS", func(c Caps) bool { return c.StatFS }, func(e *env) {
		s, _ := vfs.As[vfs.StatFSer](e.fs)
		i, err := s.StatFS(ctx, vfs.Root)
		e.ok("statfs", err)
		if i.BlockSize == 0 || i.Blocks == 0 || i.Free > i.Blocks || i.Avail > i.Free || i.NameMax == 0 || i.ReadOnly {
			e.Errorf("%+v", i)
		}
		_, err = s.StatFS(ctx, e.path("/no"))
		e.want("of nothing", err, fs.ErrNotExist)
	}},
	{"ManyFilesAreRemovedAtOnce", func(c Caps) bool { return c.Files }, func(e *env) {
		r, _ := vfs.As[vfs.FilesRemover](e.fs)
		e.mkdir("/d", "/d/sub")
		names := []vfs.Path{e.path("/d/never-was")}
		for _, n := range []string{"/d/a", "/d/b c", "/d/\u00e4+%2F&<>", "/d/control\x01", "/d/latin\xe9", "/top"} {
			e.put(n, "x")
			names = append(names, e.path(n))
		}
		e.put("/d/stays", "y")
		e.put("/d/a-longer", "y") // begins as one that goes
		e.put("/d/sub/a", "y")
		e.ok("remove", r.RemoveFiles(ctx, names))
		e.wantList("/", "d")
		e.wantList("/d", "a-longer", "stays", "sub")
		e.wantList("/d/sub", "a")
		e.ok("again", r.RemoveFiles(ctx, names))
		e.ok("none", r.RemoveFiles(ctx, nil))
		e.want("the root", r.RemoveFiles(ctx, []vfs.Path{vfs.Root}), fs.ErrPermission)
		dead, cancel := context.WithCancel(ctx)
		cancel()
		e.want("cancelled", r.RemoveFiles(dead, []vfs.Path{e.path("/d/stays")}), context.Canceled)
		e.wantContent("/d/stays", "y")
	}},
	{"NoFilesRemover", func(c Caps) bool { return !c.Files }, func(e *env) {
		if _, ok := vfs.As[vfs.FilesRemover](e.fs); ok {
			e.Error("an undeclared FilesRemover")
		}
	}},
	{"DirSizeCountsRegularFilesOnly", func(c Caps) bool { return c.DirSize }, func(e *env) {
		d, _ := vfs.As[vfs.DirSizer](e.fs)
		e.mkdir("/d", "/d/e", "/d/e/f", "/other")
		e.put("/d/a", "12345")
		e.put("/d/e/b", "123")
		e.put("/d/e/f/c", "")
		e.put("/other/x", strings.Repeat("x", 1000))
		if e.caps.Links { // SYM-2
			e.symlink("../other", "/d/dirlink")
			e.symlink("../other/x", "/d/filelink")
			e.symlink("..", "/d/e/up")
			e.symlink("d", "/top")
		}
		var u vfs.Upload
		if e.caps.Atomic {
			u = e.create("/d/pending", vfs.OpenMode{Atomic: true})
			e.writeAt(u, "hidden", 0)
		}
		want := map[string][2]int64{"/d": {3, 8}, "/d/a": {1, 5}, "/d/e": {2, 3}, "/": {4, 1008}}
		if e.caps.Links {
			want["/top"] = [2]int64{0, 0}
			want["/d/filelink"] = [2]int64{0, 0}
		}
		for n, w := range want {
			files, bytes, err := d.DirSize(ctx, e.path(n))
			if int64(files) != w[0] || bytes != w[1] || err != nil {
				e.Errorf("%s: %d files, %d bytes, %v; want %v", n, files, bytes, err, w)
			}
		}
		if u != nil {
			e.ok("abort", u.Abort(ctx))
		}
		_, _, err := d.DirSize(ctx, e.path("/no"))
		e.want("of nothing", err, fs.ErrNotExist)
		dead, cancel := context.WithCancel(ctx)
		cancel()
		_, _, err = d.DirSize(dead, vfs.Root)
		e.want("cancelled", err, context.Canceled)
	}},
	{"SubConfines", func(c Caps) bool { return c.Sub && c.Links }, func(e *env) { // SYM-1
		e.mkdir("/one", "/two")
		e.put("/two/secret", "SECRET")
		e.put("/one/f", "x")
		e.symlink("../two/secret", "/one/l")
		e.symlink("two", "/alias")
		e.wantContent("/one/l", "SECRET") // the whole tree may
		s, _ := vfs.As[vfs.Subber](e.fs)
		sub, err := s.Sub(ctx, e.path("/one"))
		e.ok("sub", err)
		defer sub.Close()
		in := &env{T: e.T, fs: sub, caps: e.caps}
		in.wantContent("/f", "x")
		in.wantList("/", "f", "l")
		_, err = sub.Open(ctx, e.path("/l"))
		e.want("open", err, vfs.ErrEscape)
		_, err = sub.Stat(ctx, e.path("/l"))
		e.want("stat", err, vfs.ErrEscape)
		e.want("symlink", in.linker().Symlink(ctx, "../two/secret", e.path("/m")), vfs.ErrEscape)
		in.put("/new", "n")
		e.wantContent("/one/new", "n")
		_, err = s.Sub(ctx, e.path("/one/f"))
		e.want("of a file", err, vfs.ErrNotDir)
		_, err = s.Sub(ctx, e.path("/no"))
		e.want("of nothing", err, fs.ErrNotExist)
		e.ok("close", sub.Close())
		e.wantContent("/one/f", "x") // the whole lives on
		two, err := s.Sub(ctx, e.path("/alias"))
		e.ok("through a link inside", err)
		two.Close()
	}},
	{"DescribeGivesAStableIdentity", func(c Caps) bool { return c.Describe }, func(e *env) {
		d, _ := vfs.As[vfs.Describer](e.fs)
		e.mkdir("/a")
		one, two := d.Describe(vfs.Root), d.Describe(e.path("/a/b"))
		if one.Identity == "" || one.Identity != two.Identity || one.StoragePath == two.StoragePath {
			e.Errorf("%+v and %+v", one, two)
		}
		if e.caps.Reopen != nil {
			again := e.caps.Reopen(e.T, e.fs)
			r, _ := vfs.As[vfs.Describer](again)
			if got := r.Describe(vfs.Root); got != one {
				e.Errorf("reopened: %+v, was %+v", got, one)
			}
		}
	}},
}
