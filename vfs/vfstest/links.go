package vfstest

import (
	"errors"
	"io/fs"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

func links(c Caps) bool { return c.Links }

func (e *env) linker() vfs.Linker {
	e.Helper()
	l, ok := vfs.As[vfs.Linker](e.fs)
	if !ok {
		e.Fatal("no Linker")
	}
	return l
}

func (e *env) symlink(target, link string) {
	e.Helper()
	e.ok("symlink "+link, e.linker().Symlink(ctx, target, e.path(link)))
}

var linkCases = []testCase{
	{"SymlinksStoreTheirTextAndAreFollowed", links, func(e *env) {
		e.mkdir("/d", "/d/e")
		e.put("/d/f", "x")
		for _, l := range [][2]string{{"/l1", "d/f"}, {"/d/l2", "f"}, {"/d/e/l3", "../f"}, {"/d/e/l4", "./../../d//f"}, {"/l5", "d/e/../f"}, {"/l6", "l1"}} {
			link, target := l[0], l[1]
			e.symlink(target, link)
			if got, err := e.linker().Readlink(ctx, e.path(link)); got != target || err != nil {
				e.Errorf("readlink %s = %q, %v", link, got, err)
			}
			if i := e.lstat(link); !i.IsSymlink() {
				e.Errorf("lstat %s: %+v", link, i)
			}
			if i := e.stat(link); !i.Mode.IsRegular() || i.Size != 1 || i.Name != e.path(link).Base() {
				e.Errorf("stat %s: %+v", link, i)
			}
			e.wantContent(link, "x")
		}
		e.symlink("d", "/dl")
		e.wantContent("/dl/f", "x")
		e.wantList("/dl", "e", "f", "l2")
	}},
	{"ListShowsLinksAsLinks", links, func(e *env) {
		e.symlink("nowhere", "/l")
		for i, err := range e.fs.List(ctx, vfs.Root) {
			if err != nil || !i.IsSymlink() {
				e.Errorf("%+v, %v", i, err)
			}
		}
	}},
	{"DanglingLinks", links, func(e *env) {
		e.symlink("nowhere", "/l")
		_, err := e.fs.Stat(ctx, e.path("/l"))
		e.want("stat", err, fs.ErrNotExist)
		_, err = e.fs.Open(ctx, e.path("/l"))
		e.want("open", err, fs.ErrNotExist)
		_, err = e.fs.Create(ctx, e.path("/l"), vfs.OpenMode{Exclusive: true})
		e.want("exclusive", err, fs.ErrExist)
		_, err = e.fs.Create(ctx, e.path("/l"), vfs.OpenMode{MustExist: true})
		e.want("must exist", err, fs.ErrNotExist)
		e.want("mkdir", e.fs.Mkdir(ctx, e.path("/l"), vfs.Attr{}), fs.ErrExist)
		if e.caps.Whole {
			return
		}
		e.put("/l", "through") // in place: made where the link leads
		e.wantContent("/nowhere", "through")
		if i := e.lstat("/l"); !i.IsSymlink() {
			e.Errorf("%+v", i)
		}
	}},
	{"AtomicReplacesTheLinkItself", func(c Caps) bool { return c.Links && c.Atomic }, func(e *env) {
		e.put("/target", "old")
		e.mkdir("/dir")
		e.symlink("target", "/l")
		e.symlink("nowhere", "/dangling")
		e.symlink("dir", "/dirlink")
		want := "older"
		u := e.create("/l", vfs.OpenMode{Atomic: true, Truncate: !e.caps.Resume})
		if e.caps.Resume {
			e.writeAt(u, "er", 3) // on a clone of what the link leads to
		} else {
			e.writeAt(u, want, 0)
		}
		e.commit(u)
		e.wantContent("/l", want)
		e.wantContent("/target", "old")
		if i := e.lstat("/l"); !i.Mode.IsRegular() {
			e.Errorf("%+v", i)
		}
		u = e.create("/dangling", vfs.OpenMode{Atomic: true})
		e.writeAt(u, "x", 0)
		e.commit(u)
		e.wantContent("/dangling", "x")
		e.wantGone("/nowhere")
		_, err := e.fs.Create(ctx, e.path("/dirlink"), vfs.OpenMode{Atomic: true})
		e.want("a link to a directory", err, vfs.ErrIsDir)
	}},
	{"LinksThatLeaveAreRefused", links, func(e *env) { // SYM-1
		e.mkdir("/d")
		for target, want := range map[string]error{
			"/etc/passwd": vfs.ErrEscape, "/": vfs.ErrEscape, "/d": vfs.ErrEscape, "..": vfs.ErrEscape, "d/../..": vfs.ErrEscape,
			"../../../etc/passwd": vfs.ErrEscape, "/proc/self/fd/0": vfs.ErrEscape, "": vfs.ErrInvalidPath, "a\x00b": vfs.ErrInvalidPath,
		} {
			e.want("symlink "+target, e.linker().Symlink(ctx, target, e.path("/l")), want)
		}
		e.want("permission", vfs.ErrEscape, fs.ErrPermission)
		e.wantGone("/l")
		// One that becomes an escape by a rename is refused when it is followed.
		e.mkdir("/a", "/a/b")
		e.put("/x", "x")
		e.symlink("../../x", "/a/b/l")
		e.wantContent("/a/b/l", "x")
		e.ok("rename", e.fs.Rename(ctx, e.path("/a/b"), e.path("/b"), false))
		_, err := e.fs.Stat(ctx, e.path("/b/l"))
		e.want("stat", err, vfs.ErrEscape)
		_, err = e.fs.Open(ctx, e.path("/b/l"))
		e.want("open", err, vfs.ErrEscape)
		if !e.caps.Whole && !e.caps.Vague { // which replace the link, or know no more than their server
			_, err = e.fs.Create(ctx, e.path("/b/l"), vfs.OpenMode{Truncate: true})
			e.want("create", err, vfs.ErrEscape)
		}
		_, err = e.fs.Stat(ctx, e.path("/b/l/below"))
		e.want("stat below", err, vfs.ErrEscape)
		e.want("mkdir below", e.fs.Mkdir(ctx, e.path("/b/l/below"), vfs.Attr{}), vfs.ErrEscape)
		e.want("list", e.listError(ctx, "/b/l"), vfs.ErrEscape)
		e.lstat("/b/l") // but it can be looked at and removed
		e.ok("remove", e.fs.Remove(ctx, e.path("/b/l")))
	}},
	{"LoopsEnd", links, func(e *env) {
		e.symlink("b", "/a")
		e.symlink("a", "/b")
		e.symlink("self/x", "/self")
		for _, n := range []string{"/a", "/a/b", "/self"} {
			_, err := e.fs.Stat(ctx, e.path(n))
			e.want("stat "+n, err, vfs.ErrLoop)
		}
		if !e.caps.Whole {
			_, err := e.fs.Create(ctx, e.path("/a"), vfs.OpenMode{})
			e.want("create", err, vfs.ErrLoop)
		}
	}},
	{"RemoveTakesTheLinkOnly", links, func(e *env) {
		e.mkdir("/d")
		e.put("/d/f", "x")
		e.symlink("d", "/l")
		e.ok("remove", e.fs.Remove(ctx, e.path("/l")))
		e.wantContent("/d/f", "x")
	}},
	{"SymlinkRefusesWhatExists", links, func(e *env) {
		e.put("/f", "x")
		e.want("symlink", e.linker().Symlink(ctx, "x", e.path("/f")), fs.ErrExist)
		e.want("no parent", e.linker().Symlink(ctx, "x", e.path("/no/l")), fs.ErrNotExist)
		_, err := e.linker().Readlink(ctx, e.path("/f"))
		e.want("readlink of a file", err, fs.ErrInvalid)
		_, err = e.linker().Readlink(ctx, e.path("/no"))
		e.want("readlink of nothing", err, fs.ErrNotExist)
	}},
	{"HardLinks", links, func(e *env) {
		e.put("/f", "x")
		e.mkdir("/d")
		e.ok("link", e.linker().Link(ctx, e.path("/f"), e.path("/d/g")))
		a, b := e.stat("/f"), e.stat("/d/g")
		if a.Ino != 0 && a.Nlink != 2 || a.Ino != b.Ino || a.Dev != b.Dev {
			e.Errorf("%+v and %+v", a, b)
		}
		e.ok("remove", e.fs.Remove(ctx, e.path("/f")))
		e.wantContent("/d/g", "x")
		e.want("on what exists", e.linker().Link(ctx, e.path("/d/g"), e.path("/d/g")), fs.ErrExist)
		e.want("of nothing", e.linker().Link(ctx, e.path("/no"), e.path("/y")), fs.ErrNotExist)
		e.want("of a directory", e.linker().Link(ctx, e.path("/d"), e.path("/y")), fs.ErrPermission)
		e.symlink("d/g", "/s")
		if err := e.linker().Link(ctx, e.path("/s"), e.path("/s2")); e.caps.Vague && errors.Is(err, fs.ErrPermission) {
			return // the server links files only
		} else {
			e.ok("of a link", err)
		}
		if i := e.lstat("/s2"); !i.IsSymlink() {
			e.Errorf("the link was followed: %+v", i)
		}
	}},
	{"SetAttrFollowsOrNot", func(c Caps) bool { return c.Links && c.Attrs }, func(e *env) {
		e.put("/f", "x")
		e.symlink("f", "/l")
		s := e.attrs()
		when, late := time.Unix(1_000_000_000, 0), time.Unix(1_500_000_000, 0)
		e.ok("follow", s.SetAttr(ctx, e.path("/l"), vfs.Attr{Set: vfs.AttrMode | vfs.AttrTimes, Mode: 0o600, Atime: when, Mtime: when}, true))
		if i := e.stat("/f"); i.Mode.Perm() != 0o600 || !i.ModTime.Equal(when) {
			e.Errorf("target %+v", i)
		}
		e.want("mode of a link", s.SetAttr(ctx, e.path("/l"), vfs.Attr{Set: vfs.AttrMode, Mode: 0o777}, false), vfs.ErrUnsupported)
		err := s.SetAttr(ctx, e.path("/l"), vfs.Attr{Set: vfs.AttrTimes, Atime: late, Mtime: late}, false)
		if e.caps.LinkTimes {
			e.ok("times of a link", err)
			if i := e.lstat("/l"); !i.ModTime.Equal(late) {
				e.Errorf("link %+v", i)
			}
		} else {
			e.want("times of a link", err, vfs.ErrUnsupported)
		}
		if i := e.stat("/f"); i.Mode.Perm() != 0o600 || !i.ModTime.Equal(when) {
			e.Errorf("the target changed: %+v", i)
		}
		if e.caps.Owners {
			e.ok("owner of a link", s.SetAttr(ctx, e.path("/l"), vfs.Attr{Set: vfs.AttrOwner, UID: 7, GID: 8}, false))
			if i := e.stat("/f"); i.UID == 7 {
				e.Errorf("the target changed: %+v", i)
			}
			if i := e.lstat("/l"); i.UID != 7 || i.GID != 8 {
				e.Errorf("link %+v", i)
			}
		}
	}},
}
