package vfstest

import (
	"errors"
	"io/fs"
	"sync"

	"github.com/gantryhq/gantry/vfs"
)

var renameCases = []testCase{
	{"RenameFile", nil, func(e *env) {
		e.mkdir("/d")
		e.put("/a", "x")
		e.ok("rename", e.fs.Rename(ctx, e.path("/a"), e.path("/d/b"), false))
		e.wantGone("/a")
		e.wantContent("/d/b", "x")
	}},
	{"RenameTree", nil, func(e *env) {
		e.mkdir("/a", "/a/b", "/x")
		e.put("/a/b/f", "x")
		e.ok("rename", e.fs.Rename(ctx, e.path("/a"), e.path("/x/y"), false))
		e.wantContent("/x/y/b/f", "x")
		e.wantList("/", "x")
	}},
	{"RenameRules", nil, func(e *env) {
		e.mkdir("/dir", "/empty", "/full", "/full/in")
		e.put("/file", "f")
		e.put("/other", "o")
		for _, c := range []struct {
			from, to     string
			plain, force error // without and with replace
		}{
			{"/file", "/other", fs.ErrExist, nil},
			{"/file", "/dir", fs.ErrExist, vfs.ErrIsDir},
			{"/file", "/full", fs.ErrExist, vfs.ErrIsDir},
			{"/dir", "/file", fs.ErrExist, vfs.ErrNotDir},
			{"/dir", "/full", fs.ErrExist, vfs.ErrNotEmpty},
			{"/dir", "/empty", fs.ErrExist, nil},
			{"/", "/x", fs.ErrPermission, fs.ErrPermission},
			{"/file", "/", fs.ErrExist, fs.ErrExist},
		} {
			e.want("plain "+c.from+" to "+c.to, e.fs.Rename(ctx, e.path(c.from), e.path(c.to), false), c.plain)
			if c.force == nil {
				continue // below, since it succeeds
			}
			e.want("forced "+c.from+" to "+c.to, e.fs.Rename(ctx, e.path(c.from), e.path(c.to), true), c.force)
		}
		e.wantList("/", "dir", "empty", "file", "full", "other")
		e.ok("file over file", e.fs.Rename(ctx, e.path("/file"), e.path("/other"), true))
		e.wantContent("/other", "f")
		e.ok("directory over an empty one", e.fs.Rename(ctx, e.path("/full"), e.path("/empty"), true))
		e.wantList("/empty", "in")
		e.wantList("/", "dir", "empty", "other")
	}},
	{"RenameIntoItselfIsInvalid", nil, func(e *env) {
		e.mkdir("/a", "/a/b")
		for _, replace := range []bool{false, true} {
			e.want("rename", e.fs.Rename(ctx, e.path("/a"), e.path("/a/b/c"), replace), fs.ErrInvalid)
		}
		e.wantList("/a", "b")
	}},
	{"RenameOntoItself", nil, func(e *env) {
		e.put("/a", "x")
		e.ok("replace", e.fs.Rename(ctx, e.path("/a"), e.path("/a"), true))
		e.want("plain", e.fs.Rename(ctx, e.path("/a"), e.path("/a"), false), fs.ErrExist)
		e.wantContent("/a", "x")
	}},
	{"RenameMovesTheLinkItself", func(c Caps) bool { return c.Links }, func(e *env) {
		e.put("/target", "t")
		e.symlink("target", "/l")
		e.put("/f", "f")
		e.ok("move", e.fs.Rename(ctx, e.path("/l"), e.path("/m"), false))
		if i := e.lstat("/m"); !i.IsSymlink() {
			e.Errorf("%+v", i)
		}
		e.want("onto a link", e.fs.Rename(ctx, e.path("/f"), e.path("/m"), false), fs.ErrExist)
		e.ok("over a link", e.fs.Rename(ctx, e.path("/f"), e.path("/m"), true))
		e.wantContent("/target", "t")
		e.wantContent("/m", "f")
	}},
	{"OneOfManyRenamesWithoutReplaceWins", nil, func(e *env) {
		e.renameRace(func(n string) { e.put(n, n) })
	}},
	{"OneOfManyDirectoryRenamesWithoutReplaceWins", func(c Caps) bool { return c.DirNoRepl }, func(e *env) {
		e.renameRace(func(n string) { e.mkdir(n); e.put(n+"/f", n) })
	}},
}

// renameRace moves eight objects to one name at once; one must arrive, the others must stay.
func (e *env) renameRace(make func(name string)) {
	for round := range 20 {
		dir := "/r" + string(rune('a'+round))
		e.mkdir(dir)
		to := e.path(dir + "/to")
		errs := [8]error{}
		var all sync.WaitGroup
		for i := range errs {
			make(dir + "/" + string(rune('0'+i)))
		}
		for i := range errs {
			from := e.path(dir + "/" + string(rune('0'+i)))
			all.Go(func() { errs[i] = e.fs.Rename(ctx, from, to, false) })
		}
		all.Wait()
		winners := 0
		for i, err := range errs {
			if err == nil {
				winners++
				continue
			}
			if !errors.Is(err, fs.ErrExist) {
				e.Errorf("loser: %v", err)
			}
			e.lstat(dir + "/" + string(rune('0'+i)))
		}
		if winners != 1 {
			e.Fatalf("%d winners", winners)
		}
	}
}
