package vfstest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/gantryhq/gantry/vfs"
)

func atomic(c Caps) bool { return c.Atomic }
func resume(c Caps) bool { return c.Resume }
func both(c Caps) bool   { return c.Atomic && c.Resume }

// eachMode runs a test in place and, where the storage has it, atomic.
func (e *env) eachMode(test func(m vfs.OpenMode, dir string)) {
	e.mkdir("/inplace")
	test(vfs.OpenMode{}, "/inplace")
	if e.caps.Atomic {
		e.mkdir("/atomic")
		test(vfs.OpenMode{Atomic: true}, "/atomic")
	}
}

var uploadCases = []testCase{
	{"NewFile", nil, func(e *env) {
		e.eachMode(func(m vfs.OpenMode, dir string) {
			u := e.create(dir+"/f", m)
			e.writeAt(u, "hello", 0)
			if i, err := u.Stat(); err != nil || i.Size != 5 || i.Name != "f" {
				e.Errorf("fstat = %+v, %v", i, err)
			}
			if i := e.commit(u); i.Size != 5 || i.Name != "f" || !i.Mode.IsRegular() {
				e.Errorf("commit = %+v", i)
			}
			e.wantContent(dir+"/f", "hello")
			e.wantList(dir, "f")
		})
	}},
	{"OverwriteTruncates", nil, func(e *env) {
		e.eachMode(func(m vfs.OpenMode, dir string) {
			e.put(dir+"/f", "a long old content")
			m.Truncate = true
			u := e.create(dir+"/f", m)
			e.writeAt(u, "new", 0)
			e.commit(u)
			e.wantContent(dir+"/f", "new")
		})
	}},
	{"AnEmptyUploadIsAnEmptyFile", nil, func(e *env) {
		e.eachMode(func(m vfs.OpenMode, dir string) {
			e.commit(e.create(dir+"/f", m))
			e.wantContent(dir+"/f", "")
		})
	}},
	{"ExclusiveRefusesWhatExists", nil, func(e *env) {
		e.eachMode(func(m vfs.OpenMode, dir string) {
			e.put(dir+"/f", "old")
			e.mkdir(dir + "/d")
			m.Exclusive, m.Truncate = true, true
			_, err := e.fs.Create(ctx, e.path(dir+"/f"), m)
			e.want("create", err, fs.ErrExist)
			_, err = e.fs.Create(ctx, e.path(dir+"/d"), m)
			e.want("create on a directory", err, fs.ErrExist)
			e.wantContent(dir+"/f", "old")
			u := e.create(dir+"/g", m)
			e.writeAt(u, "x", 0)
			e.commit(u)
			e.wantContent(dir+"/g", "x")
		})
	}},
	{"MustExistMakesNothing", nil, func(e *env) {
		e.eachMode(func(m vfs.OpenMode, dir string) {
			m.MustExist, m.Truncate = true, true
			_, err := e.fs.Create(ctx, e.path(dir+"/f"), m)
			e.want("create", err, fs.ErrNotExist)
			e.wantList(dir)
			e.put(dir+"/f", "old")
			u := e.create(dir+"/f", m)
			e.writeAt(u, "n", 0)
			e.commit(u)
			e.wantContent(dir+"/f", "n")
		})
	}},
	{"ResumeGoesOnWithTheOldContent", resume, func(e *env) {
		e.eachMode(func(m vfs.OpenMode, dir string) {
			e.put(dir+"/f", "0123456789")
			m.Offset = 10
			u := e.create(dir+"/f", m)
			if i, err := u.Stat(); err != nil || i.Size != 10 {
				e.Errorf("fstat = %+v, %v", i, err)
			}
			e.writeAt(u, "ab", 10)
			e.writeAt(u, "X", 3)
			e.commit(u)
			e.wantContent(dir+"/f", "012X456789ab")
		})
	}},
	{"ResumeOfALargeFile", resume, func(e *env) {
		e.eachMode(func(m vfs.OpenMode, dir string) {
			big := strings.Repeat("0123456789abcdef", 1<<18) // 4 MiB
			e.put(dir+"/f", big)
			u := e.create(dir+"/f", m)
			e.writeAt(u, "tail", int64(len(big)))
			e.commit(u)
			if got := e.get(dir + "/f"); got != big+"tail" {
				e.Errorf("%d bytes, not the old and the tail", len(got))
			}
		})
	}},
	{"AppendWritesAtTheEndWhateverTheOffset", resume, func(e *env) {
		e.eachMode(func(m vfs.OpenMode, dir string) {
			e.put(dir+"/f", "old")
			m.Append = true
			u := e.create(dir+"/f", m)
			e.writeAt(u, "1", 0)
			e.writeAt(u, "2", 100)
			e.writeAt(u, "3", 1)
			e.ok("truncate", u.Truncate(5))
			e.writeAt(u, "4", 0)
			e.commit(u)
			e.wantContent(dir+"/f", "old124")
			u = e.create(dir+"/new", m)
			e.writeAt(u, "x", 7)
			e.commit(u)
			e.wantContent(dir+"/new", "x")
		})
	}},
	{"ReadWhileWriting", resume, func(e *env) {
		e.eachMode(func(m vfs.OpenMode, dir string) {
			e.put(dir+"/f", "hello world")
			for _, append := range []bool{false, true} {
				m.Read, m.Append = true, append
				u := e.create(dir+"/f", m)
				r, ok := u.(io.ReaderAt)
				if !ok {
					e.Fatal("not an io.ReaderAt")
				}
				b := make([]byte, 5)
				if _, err := r.ReadAt(b, 6); err != nil || string(b) != "world" {
					e.Errorf("read %q, %v", b, err)
				}
				e.writeAt(u, "HELLO", 0)
				if !append {
					if _, err := r.ReadAt(b, 0); err != nil || string(b) != "HELLO" {
						e.Errorf("read back %q, %v", b, err)
					}
				}
				e.ok("abort", u.Abort(ctx))
			}
		})
	}},
	{"OnlyReadGivesAReader", nil, func(e *env) {
		u := e.create("/f", vfs.OpenMode{})
		if _, ok := u.(io.ReaderAt); ok {
			e.Error("an upload without Read is an io.ReaderAt")
		}
		e.ok("abort", u.Abort(ctx))
	}},
	{"TruncateBothWays", resume, func(e *env) {
		e.eachMode(func(m vfs.OpenMode, dir string) {
			e.put(dir+"/f", "0123456789")
			u := e.create(dir+"/f", m)
			e.ok("shrink", u.Truncate(4))
			e.ok("grow", u.Truncate(6))
			e.want("negative", u.Truncate(-1), fs.ErrInvalid)
			e.commit(u)
			e.wantContent(dir+"/f", "0123\x00\x00")
		})
	}},
	{"HolesReadAsZero", resume, func(e *env) {
		e.eachMode(func(m vfs.OpenMode, dir string) {
			u := e.create(dir+"/f", m)
			e.writeAt(u, "end", 100_000)
			e.commit(u)
			e.wantContent(dir+"/f", strings.Repeat("\x00", 100_000)+"end")
			u = e.create(dir+"/f", m) // the clone keeps it
			e.writeAt(u, "x", 0)
			e.commit(u)
			e.wantContent(dir+"/f", "x"+strings.Repeat("\x00", 99_999)+"end")
		})
	}},
	{"OffsetsOutOfRangeAreRefused", resume, func(e *env) { // SFTP-1
		u := e.create("/f", vfs.OpenMode{})
		_, err := u.WriteAt([]byte("x"), -1)
		e.want("negative", err, fs.ErrInvalid)
		if _, err := u.WriteAt([]byte("x"), 1<<63-1); err == nil {
			e.Error("a write past the last offset passed")
		}
		e.ok("abort", u.Abort(ctx))
	}},
	{"ConcurrentWritesAndReads", resume, func(e *env) {
		e.eachMode(func(m vfs.OpenMode, dir string) {
			const blocks, size = 64, 4 << 10
			u := e.create(dir+"/f", m)
			var all sync.WaitGroup
			for i := range blocks {
				all.Go(func() {
					if _, err := u.WriteAt(bytes.Repeat([]byte{byte(i)}, size), int64(i)*size); err != nil {
						e.Errorf("block %d: %v", i, err)
					}
				})
			}
			all.Wait()
			e.commit(u)
			f, err := e.fs.Open(ctx, e.path(dir+"/f"))
			e.ok("open", err)
			defer f.Close()
			for i := range blocks {
				all.Go(func() {
					b := make([]byte, size)
					if _, err := f.ReadAt(b, int64(i)*size); err != nil || !bytes.Equal(b, bytes.Repeat([]byte{byte(i)}, size)) {
						e.Errorf("block %d differs, %v", i, err)
					}
				})
			}
			all.Wait()
		})
	}},
	{"AttributesOfAnUploadSurviveCommit", nil, func(e *env) {
		e.eachMode(func(m vfs.OpenMode, dir string) {
			when := time.Unix(1_000_000_000, 123_000_000)
			u := e.create(dir+"/f", m)
			e.writeAt(u, "x", 0)
			set := vfs.AttrTimes
			if e.caps.Modes {
				set |= vfs.AttrMode
			} else {
				e.want("mode", u.SetAttr(vfs.Attr{Set: vfs.AttrMode, Mode: 0o640}), vfs.ErrUnsupported)
			}
			e.ok("setattr", u.SetAttr(vfs.Attr{Set: set, Mode: 0o640, Atime: when, Mtime: when}))
			e.commit(u)
			if i := e.stat(dir + "/f"); !i.ModTime.Equal(e.at(when)) || e.caps.Modes && i.Mode.Perm() != 0o640 {
				e.Errorf("%v %v", i.ModTime, i.Mode)
			}
		})
	}},
	{"PermissionsOfANewFile", func(c Caps) bool { return c.Modes }, func(e *env) {
		e.eachMode(func(m vfs.OpenMode, dir string) {
			m.Perm = 0o600
			e.commit(e.create(dir+"/f", m))
			if i := e.stat(dir + "/f"); i.Mode.Perm() != 0o600 {
				e.Errorf("mode %v", i.Mode)
			}
			m.Perm, m.Truncate = 0o644, true
			e.commit(e.create(dir+"/f", m)) // an old file keeps its own
			if i := e.stat(dir + "/f"); i.Mode.Perm() != 0o600 {
				e.Errorf("after overwrite: mode %v", i.Mode)
			}
		})
	}},
	{"OwnerOfANewFile", func(c Caps) bool { return c.Owners }, func(e *env) {
		e.eachMode(func(m vfs.OpenMode, dir string) {
			was := e.stat(dir)
			m.UID, m.GID = 1234, 2345
			e.commit(e.create(dir+"/f", m))
			if i := e.stat(dir + "/f"); i.UID != 1234 || i.GID != 2345 {
				e.Errorf("owner %d:%d", i.UID, i.GID)
			}
			m.UID, m.GID, m.Truncate = 77, 88, true
			e.commit(e.create(dir+"/f", m)) // an old file keeps its own
			if i := e.stat(dir + "/f"); i.UID != 1234 || i.GID != 2345 {
				e.Errorf("after overwrite: owner %d:%d", i.UID, i.GID)
			}
			m.UID, m.GID = -1, 0
			e.commit(e.create(dir+"/g", m))
			if i := e.stat(dir + "/g"); i.UID != was.UID || i.GID != was.GID {
				e.Errorf("owner %d:%d, want the storage's own", i.UID, i.GID)
			}
			e.ok("mkdir", e.fs.Mkdir(ctx, e.path(dir+"/d"), vfs.Attr{Set: vfs.AttrOwner | vfs.AttrMode, UID: 5, GID: 6, Mode: 0o700}))
			if i := e.stat(dir + "/d"); i.UID != 5 || i.GID != 6 || i.Mode.Perm() != 0o700 {
				e.Errorf("directory %d:%d %v", i.UID, i.GID, i.Mode)
			}
		})
	}},
	{"InPlaceIsSeenAtOnceAndStaysAfterAbort", resume, func(e *env) {
		u := e.create("/f", vfs.OpenMode{})
		e.writeAt(u, "part", 0)
		e.wantContent("/f", "part")
		e.ok("abort", u.Abort(ctx))
		e.wantContent("/f", "part")
	}},
	{"AtomicNewFileIsHiddenUntilCommit", atomic, func(e *env) {
		e.mkdir("/d")
		u := e.create("/d/f", vfs.OpenMode{Atomic: true})
		e.writeAt(u, "x", 0)
		e.wantList("/d")
		e.wantGone("/d/f")
		e.ok("abort", u.Abort(ctx))
		e.wantList("/d")
		e.ok("nothing is left", e.fs.Remove(ctx, e.path("/d")))
	}},
	{"AtomicOverwriteKeepsTheOldUntilCommit", atomic, func(e *env) {
		e.put("/f", "old")
		u := e.create("/f", vfs.OpenMode{Atomic: true, Truncate: true})
		e.writeAt(u, "new", 0)
		e.wantContent("/f", "old")
		e.ok("abort", u.Abort(ctx))
		e.wantContent("/f", "old")
		u = e.create("/f", vfs.OpenMode{Atomic: true, Truncate: true})
		e.writeAt(u, "newer", 0)
		e.commit(u)
		e.wantContent("/f", "newer")
		e.wantList("/", "f")
	}},
	{"AtomicResumeKeepsTheOldUntilCommit", both, func(e *env) {
		e.put("/f", "old")
		u := e.create("/f", vfs.OpenMode{Atomic: true, Read: true})
		e.writeAt(u, "er", 3)
		e.wantContent("/f", "old")
		e.ok("abort", u.Abort(ctx))
		e.wantContent("/f", "old")
	}},
	{"AtomicExclusiveIsJudgedAgainAtCommit", atomic, func(e *env) {
		u := e.create("/f", vfs.OpenMode{Atomic: true, Exclusive: true})
		e.writeAt(u, "mine", 0)
		e.put("/f", "theirs")
		_, err := u.Commit(ctx)
		e.want("commit", err, fs.ErrExist)
		e.ok("abort after a failed commit", u.Abort(ctx))
		e.wantContent("/f", "theirs")
		e.wantList("/", "f")
	}},
	{"AtomicDoesNotReplaceADirectory", atomic, func(e *env) {
		u := e.create("/f", vfs.OpenMode{Atomic: true})
		e.mkdir("/f")
		_, err := u.Commit(ctx)
		e.want("commit", err, vfs.ErrIsDir)
		e.ok("abort", u.Abort(ctx))
		e.wantList("/f")
	}},
	{"AtomicFollowsItsDirectory", func(c Caps) bool { return c.Atomic && !c.Stream && !c.Paths }, func(e *env) {
		e.mkdir("/a", "/victim")
		u := e.create("/a/f", vfs.OpenMode{Atomic: true})
		e.writeAt(u, "x", 0)
		e.ok("rename", e.fs.Rename(ctx, e.path("/a"), e.path("/b"), false))
		e.mkdir("/a")
		e.commit(u)
		e.wantContent("/b/f", "x")
		e.wantList("/a")
	}},
	{"TwoAtomicUploadsOfOneName", atomic, func(e *env) {
		a, b := e.create("/f", vfs.OpenMode{Atomic: true}), e.create("/f", vfs.OpenMode{Atomic: true})
		e.writeAt(a, "aaaa", 0)
		e.writeAt(b, "b", 0)
		e.commit(a)
		e.wantContent("/f", "aaaa")
		e.commit(b)
		e.wantContent("/f", "b")
		e.wantList("/", "f")
	}},
	{"ADroppedAtomicUploadIsSwept", func(c Caps) bool { return c.Atomic && c.Sweep && !c.Stream }, func(e *env) {
		e.mkdir("/a", "/a/b")
		e.put("/a/b/old", "old")
		for _, n := range []string{"/f", "/a/b/f", "/a/b/old"} {
			u := e.create(n, vfs.OpenMode{Atomic: true, Truncate: true}) // and a kill: neither Commit nor Abort
			e.writeAt(u, "part", 0)
		}
		s, _ := vfs.As[vfs.Sweeper](e.fs)
		n, err := s.Sweep(ctx, time.Now().Add(-time.Hour))
		if n != 0 || err != nil {
			e.Errorf("sweep of older ones = %d, %v", n, err)
		}
		n, err = s.Sweep(ctx, time.Now().Add(time.Hour))
		for end := time.Now().Add(5 * time.Second); e.caps.Late && n < 3 && err == nil && time.Now().Before(end); { // a service may not have begun
			var more int
			more, err = s.Sweep(ctx, time.Now().Add(time.Hour))
			n += more
		}
		if n != 3 || err != nil {
			e.Errorf("sweep = %d, %v; want 3", n, err)
		}
		e.wantContent("/a/b/old", "old")
		e.wantList("/a/b", "old")
		e.ok("remove", e.fs.Remove(ctx, e.path("/a/b/old")))
		e.ok("nothing is left", e.fs.Remove(ctx, e.path("/a/b")))
	}},
	{"TemporaryNamesCannotBeSeenOrUsed", atomic, func(e *env) {
		e.put("/f", "x")
		e.mkdir("/d")
		for _, prefix := range []string{vfs.TempPrefix, ".sftpgo-upload."} {
			for _, n := range []string{"/" + prefix + "x", "/" + prefix + "d/below"} {
				p := e.path(n)
				_, err := e.fs.Stat(ctx, p)
				e.want("stat", err, fs.ErrNotExist)
				_, err = e.fs.Lstat(ctx, p)
				e.want("lstat", err, fs.ErrNotExist)
				_, err = e.fs.Open(ctx, p)
				e.want("open", err, fs.ErrNotExist)
				_, err = e.fs.Create(ctx, p, vfs.OpenMode{})
				e.want("create", err, fs.ErrPermission)
				e.want("mkdir", e.fs.Mkdir(ctx, p, vfs.Attr{}), fs.ErrPermission)
				e.want("remove", e.fs.Remove(ctx, p), fs.ErrNotExist)
				e.want("rename to", e.fs.Rename(ctx, e.path("/f"), p, true), fs.ErrPermission)
				e.want("rename from", e.fs.Rename(ctx, p, e.path("/g"), true), fs.ErrNotExist)
				e.want("list", e.listError(ctx, n), fs.ErrNotExist)
				if l, ok := vfs.As[vfs.Linker](e.fs); ok {
					e.want("symlink", l.Symlink(ctx, "f", p), fs.ErrPermission)
					e.want("symlink to", l.Symlink(ctx, n[1:], e.path("/l")), fs.ErrPermission)
					e.want("link", l.Link(ctx, e.path("/f"), p), fs.ErrPermission)
					e.want("link from", l.Link(ctx, p, e.path("/l")), fs.ErrNotExist)
				}
				if c, ok := vfs.As[vfs.Copier](e.fs); ok {
					e.want("copy to", c.Copy(ctx, e.path("/f"), p, true), fs.ErrPermission)
					e.want("copy from", c.Copy(ctx, p, e.path("/g"), true), fs.ErrNotExist)
				}
				if s, ok := vfs.As[vfs.AttrSetter](e.fs); ok {
					e.want("setattr", s.SetAttr(ctx, p, vfs.Attr{Set: vfs.AttrMode}, true), fs.ErrNotExist)
				}
			}
		}
		e.wantList("/", "d", "f")
	}},
	{"OneOfManyExclusiveUploadsWins", nil, func(e *env) {
		e.eachMode(func(m vfs.OpenMode, dir string) {
			m.Exclusive = true
			for round := range 20 {
				name := e.path(dir + "/f" + string(rune('a'+round)))
				var won, lost sync.Map
				var all sync.WaitGroup
				for i := range 8 {
					all.Go(func() {
						u, err := e.fs.Create(ctx, name, m)
						if err == nil {
							_, _ = u.WriteAt([]byte{byte(i)}, 0)
							if _, err = u.Commit(ctx); err != nil {
								_ = u.Abort(ctx)
							}
						}
						if err == nil {
							won.Store(i, true)
						} else {
							lost.Store(i, err)
						}
					})
				}
				all.Wait()
				winners := 0
				won.Range(func(i, _ any) bool {
					winners++
					e.wantContent(name.String(), string(rune(i.(int))))
					return true
				})
				lost.Range(func(_, err any) bool {
					if !errors.Is(err.(error), fs.ErrExist) {
						e.Errorf("loser: %v", err)
					}
					return true
				})
				if winners != 1 {
					e.Fatalf("%d winners", winners)
				}
			}
		})
	}},
	{"ManyAppendersLoseNothing", resume, func(e *env) {
		e.put("/log", "")
		var all sync.WaitGroup
		for i := range 4 {
			u := e.create("/log", vfs.OpenMode{Append: true})
			all.Go(func() {
				for range 100 {
					if _, err := u.WriteAt([]byte{'a' + byte(i), '\n'}, 0); err != nil {
						e.Error(err)
					}
				}
				if _, err := u.Commit(ctx); err != nil {
					e.Error(err)
				}
			})
		}
		all.Wait()
		got := e.get("/log")
		for i := range 4 {
			if n := strings.Count(got, string(rune('a'+i))+"\n"); n != 100 {
				e.Errorf("writer %d: %d of 100 records", i, n)
			}
		}
	}},
}
