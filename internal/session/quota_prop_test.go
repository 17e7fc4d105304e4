package session_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/local"
	"pgregory.net/rapid"
)

var (
	annKey    = account.CounterKey{Kind: account.KindUser, Name: "ann"}
	bobKey    = account.CounterKey{Kind: account.KindUser, Name: "bob"}
	sharedKey = account.CounterKey{Kind: account.KindFolder, Name: "shared"}
)

const (
	userLimit   = 4000
	userFiles   = 12
	folderLimit = 3000
)

// quotaUsers are two users with limits who share a folder with limits of its own, and one that counts in
// each user's.
func quotaUsers() []account.User {
	var list []account.User
	for _, name := range []string{"ann", "bob"} {
		u := sessiontest.User(name)
		u.QuotaSize, u.QuotaFiles = userLimit, userFiles
		u.VirtualFolders = []account.VirtualFolder{
			{Folder: account.Folder{Name: "shared", MappedPath: "/srv/shared"}, VirtualPath: "/sh", QuotaSize: folderLimit},
			{Folder: account.Folder{Name: "own-" + name, MappedPath: "/srv/own-" + name}, VirtualPath: "/own", QuotaSize: -1, QuotaFiles: -1},
		}
		list = append(list, u)
	}
	return list
}

// scan is what the storages hold of an account.
func scan(e *sessiontest.Env, key account.CounterKey) (files int, bytes int64) {
	return scanBy(key, func(root string) (int, int64) {
		f, b, err := e.FS(root).DirSize(context.Background(), vfs.Root)
		if err != nil {
			panic(err)
		}
		return f, b
	})
}

func scanBy(key account.CounterKey, size func(root string) (int, int64)) (files int, bytes int64) {
	roots := []string{"/srv/shared"}
	if key.Kind == account.KindUser {
		roots = []string{"/home/" + key.Name, "/srv/own-" + key.Name}
	}
	for _, r := range roots {
		f, b := size(r)
		files, bytes = files+f, bytes+b
	}
	return files, bytes
}

// QUO-1 on the disk: the same mix on local storages, where directories, links and descriptors are real.
func TestTallyEqualsScanOnLocalStorage(t *testing.T) {
	for seed := range uint64(24) {
		top := t.TempDir()
		open := func(_ context.Context, st session.Storage) (vfs.FS, error) {
			root := filepath.Join(top, filepath.FromSlash(st.Root))
			if err := os.MkdirAll(root, 0o755); err != nil {
				return nil, err
			}
			return local.New(root, local.Options{})
		}
		w := &world{cfg: session.DefaultConfig()}
		w.cfg.UploadMode = int(seed % 3)
		w.size = func(root string) (int, int64) {
			f, err := open(ctx, session.Storage{Root: root})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			d, _ := vfs.As[vfs.DirSizer](f)
			files, bytes, err := d.DirSize(ctx, vfs.Root)
			if err != nil {
				t.Fatal(err)
			}
			return files, bytes
		}
		w.env = sessiontest.New(t, sessiontest.Options{Config: &w.cfg, Keep: true, NewFS: open}, quotaUsers()...)
		w.login()
		rnd := rand.New(rand.NewPCG(seed, 7))
		for range 80 {
			w.step(t, rnd.IntN)
		}
		if seed%4 == 3 {
			w.env.Server.Crash()
			next := sessiontest.New(t, sessiontest.Options{Config: &w.cfg, Keep: true, From: w.env, NewFS: open})
			if err := next.Server.Recover(ctx); err != nil {
				t.Fatal(err)
			}
			w.env, w.handles = next, nil
		} else {
			w.endHandles(rnd.IntN)
		}
		w.check(t)
		w.stored(t)
	}
}

// world is a server under random use.
type world struct {
	env      *sessiontest.Env
	cfg      session.Config
	sessions map[string]*session.Session
	handles  []*session.Handle
	log      []string
	size     func(root string) (int, int64) // nil: of memory trees
}

func newWorld(t testing.TB, mode int) *world {
	w := &world{cfg: session.DefaultConfig()}
	w.cfg.UploadMode = mode
	w.env = sessiontest.New(t, sessiontest.Options{Config: &w.cfg, Keep: true}, quotaUsers()...)
	w.login()
	return w
}

func (w *world) login() {
	w.sessions = map[string]*session.Session{}
	for _, id := range []string{"ann", "ann2", "bob"} {
		w.sessions[id] = w.env.Login(strings.TrimSuffix(id, "2"))
	}
}

var (
	somePaths = []string{"/a", "/b", "/d/a", "/d/b", "/own/a", "/sh/a", "/sh/b", "/sh/d/a", "/l"}
	someDirs  = []string{"/d", "/sh/d", "/e", "/own/d", "/sh/e"}
	someFlags = []session.Flags{
		{Write: true, Create: true, Truncate: true},
		{Write: true, Create: true, Truncate: true},
		{Write: true, Create: true},
		{Write: true, Create: true, Append: true},
		{Write: true, Create: true, Exclusive: true},
		{Write: true, Create: true, Truncate: true, Whole: true},
		{Write: true, Read: true, Create: true},
		{Write: true, Create: true, Truncate: true, Whole: true, Size: 900},
	}
)

// step does one random thing. pick gives a number in [0, n).
func (w *world) step(t testing.TB, pick func(n int) int) {
	ctx := context.Background()
	who := []string{"ann", "ann2", "bob"}[pick(3)]
	s := w.sessions[who]
	file := func() vfs.Path { return path(t, somePaths[pick(len(somePaths))]) }
	dir := func() vfs.Path { return path(t, someDirs[pick(len(someDirs))]) }
	note := func(format string, a ...any) { w.log = append(w.log, who+" "+fmt.Sprintf(format, a...)) }
	switch op := pick(22); op {
	case 0, 1, 2, 3:
		p, f := file(), someFlags[pick(len(someFlags))]
		h, err := s.OpenFile(ctx, p, f)
		note("open %s %+v: %v", p, f, err)
		if err == nil {
			w.handles = append(w.handles, h)
		}
	case 4, 5, 6, 7, 8:
		if len(w.handles) > 0 {
			h := w.handles[pick(len(w.handles))]
			n, off := 1+pick(1500), int64(pick(1500))
			_, err := h.WriteAt(make([]byte, n), off)
			note("write %s %d+%d: %v", h.Path(), off, n, err)
		}
	case 9, 10, 11:
		if len(w.handles) > 0 {
			i := pick(len(w.handles))
			h := w.handles[i]
			w.handles = append(w.handles[:i], w.handles[i+1:]...)
			p := h.Path()
			if pick(3) > 0 {
				note("close %s: %v", p, h.Close(ctx))
			} else {
				note("abort %s: %v", p, h.Abort(ctx, errors.New("lost")))
			}
		}
	case 12:
		p := file()
		note("remove %s: %v", p, s.Remove(ctx, p))
	case 13, 14:
		from, to, replace := file(), file(), pick(2) == 0
		note("rename %s %s %v: %v", from, to, replace, s.Rename(ctx, from, to, replace))
	case 15:
		from, to := dir(), dir()
		note("rename %s %s: %v", from, to, s.Rename(ctx, from, to, true))
	case 16:
		from, to, replace := file(), file(), pick(2) == 0
		note("copy %s %s %v: %v", from, to, replace, s.Copy(ctx, from, to, replace))
	case 17:
		from, to := dir(), dir()
		note("copy %s %s: %v", from, to, s.Copy(ctx, from, to, true))
	case 18:
		p, n := file(), int64(pick(1500))
		note("truncate %s %d: %v", p, n, s.Truncate(ctx, p, n))
	case 19:
		if len(w.handles) > 0 {
			h, n := w.handles[pick(len(w.handles))], int64(pick(1500))
			note("ftruncate %s %d: %v", h.Path(), n, h.Truncate(ctx, n))
		}
	case 20:
		p := dir()
		if pick(3) == 0 {
			note("removeall %s: %v", p, s.RemoveAll(ctx, p))
		} else {
			note("mkdir %s: %v", p, s.Mkdir(ctx, p, vfs.Attr{}))
		}
	case 21:
		from, to := file(), file()
		if pick(2) == 0 {
			note("link %s %s: %v", from, to, s.Link(ctx, from, to))
		} else {
			note("symlink %s %s: %v", from, to, s.Symlink(ctx, from.String(), to))
		}
	}
}

// endHandles closes or loses what is open.
func (w *world) endHandles(pick func(n int) int) {
	for _, h := range w.handles {
		if pick(2) == 0 {
			h.Close(context.Background())
		} else {
			h.Abort(context.Background(), errors.New("lost"))
		}
	}
	w.handles = nil
}

func (w *world) scan(key account.CounterKey) (int, int64) {
	if w.size == nil {
		return scan(w.env, key)
	}
	return scanBy(key, w.size)
}

// check compares the tallies with what the storages hold.
func (w *world) check(t interface {
	Helper()
	Fatalf(string, ...any)
}) {
	t.Helper()
	for _, key := range []account.CounterKey{annKey, bobKey, sharedKey} {
		files, bytes := w.scan(key)
		f, b, hf, hb := w.env.Server.Used(key)
		if f != int64(files) || b != bytes || hf != 0 || hb != 0 {
			t.Fatalf("%s: tally %d files %d bytes (held %d, %d), scan %d files %d bytes\n%s",
				key.Name, f, b, hf, hb, files, bytes, strings.Join(w.log, "\n"))
		}
	}
}

// QUO-1: after any interleaving of uploads, overwrites, resumes, renames, copies, removals, truncations and
// aborts by several sessions and users with a shared folder, and after a crash and recovery, the tally is
// what a scan finds. QUO-2: links, copies and truncations count.
func TestTallyEqualsScanAfterAnyMix(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		mode := rapid.IntRange(0, 2).Draw(rt, "mode")
		w := newWorld(t, mode)
		pick := func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "n") }
		for range rapid.IntRange(5, 60).Draw(rt, "steps") {
			w.step(t, pick)
		}
		if rapid.Bool().Draw(rt, "crash") {
			w.env.Server.Crash()
			next := sessiontest.New(t, sessiontest.Options{Config: &w.cfg, Keep: true, From: w.env})
			if err := next.Server.Recover(context.Background()); err != nil {
				rt.Fatal(err)
			}
			w.env, w.handles = next, nil
			w.log = append(w.log, "crash")
		} else {
			w.endHandles(pick)
		}
		w.check(rt)
		w.stored(rt)
		if f, p, n, _ := w.env.Server.Leftovers(); f+p+n != 0 {
			rt.Fatalf("left in the tables: %d files, %d pendings, %d names", f, p, n)
		}
	})
}

// stored ends the server and compares what the store has.
func (w *world) stored(t interface {
	Helper()
	Fatalf(string, ...any)
}) {
	t.Helper()
	ctx := context.Background()
	if err := w.env.Server.Close(ctx); err != nil {
		t.Fatalf("close: %v", err)
	}
	for _, key := range []account.CounterKey{annKey, bobKey, sharedKey} {
		files, bytes := w.scan(key)
		u, _ := w.env.Store.Usage(ctx, key)
		if u.Files != files || u.Bytes != bytes {
			t.Fatalf("%s: stored %d files %d bytes, scan %d files %d bytes\n%s", key.Name, u.Files, u.Bytes, files, bytes, strings.Join(w.log, "\n"))
		}
	}
	if dirty, _ := w.env.Store.Dirty(ctx, ""); len(dirty) > 0 {
		t.Fatalf("marks left: %v", dirty)
	}
}

// QUO-1, with goroutines: the sum of parallel uploads never passes the limit, and the tally is right after.
func TestParallelUploadsStayWithinTheQuota(t *testing.T) {
	for mode := range 3 {
		w := newWorld(t, mode)
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				ctx, rnd := context.Background(), rand.New(rand.NewPCG(uint64(g), uint64(mode)))
				s := w.sessions[[]string{"ann", "ann2", "bob"}[g%3]]
				for range 60 {
					p := path(t, []string{"/a", "/b", "/sh/a", "/sh/b", "/sh/c", "/own/x"}[rnd.IntN(6)])
					h, err := s.OpenFile(ctx, p, someFlags[rnd.IntN(len(someFlags))])
					if err != nil {
						continue
					}
					for range 1 + rnd.IntN(4) {
						h.WriteAt(make([]byte, rnd.IntN(900)), int64(rnd.IntN(900)))
					}
					switch rnd.IntN(4) {
					case 0:
						h.Abort(ctx, errors.New("lost"))
					case 1:
						s.Remove(ctx, p)
						h.Close(ctx)
					default:
						h.Close(ctx)
					}
					for _, key := range []account.CounterKey{annKey, bobKey, sharedKey} {
						limit := int64(userLimit)
						if key == sharedKey {
							limit = folderLimit
						}
						if _, b, _, hb := w.env.Server.Used(key); b+hb > limit {
							t.Errorf("%s: %d bytes and %d reserved of %d", key.Name, b, hb, limit)
						}
					}
				}
			})
		}
		wg.Wait()
		w.check(t)
		w.stored(t)
	}
}
