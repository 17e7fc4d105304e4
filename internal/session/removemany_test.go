package session_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/event"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/mem"
)

// batched is a storage that removes many files in one step.
type batched struct {
	*mem.FS
	steps, largest atomic.Int64
	alone          atomic.Int64
	// fault ends a step after so many files, if it gives an error.
	fault func(step int64) (after int, err error)
	// vanish has a directory go with its last file, as on an object store that holds no marker of it.
	vanish bool
	// listed is told of each entry that was shown.
	listed func(vfs.FileInfo)
}

func (b *batched) Close() error { return nil }

func (b *batched) Remove(ctx context.Context, p vfs.Path) error {
	b.alone.Add(1)
	err := b.FS.Remove(ctx, p)
	if b.vanish && err == nil {
		b.FS.Remove(ctx, p.Dir()) // if it is empty
	}
	return err
}

func (b *batched) List(ctx context.Context, dir vfs.Path) iter.Seq2[vfs.FileInfo, error] {
	return func(yield func(vfs.FileInfo, error) bool) {
		for i, err := range b.FS.List(ctx, dir) {
			if b.listed != nil {
				b.listed(i)
			}
			if !yield(i, err) {
				return
			}
		}
	}
}

func (b *batched) RemoveFiles(ctx context.Context, names []vfs.Path) error {
	n := b.steps.Add(1)
	b.largest.Store(max(b.largest.Load(), int64(len(names))))
	for i, p := range names {
		if b.fault != nil {
			if after, err := b.fault(n); err != nil && i == after {
				return err
			}
		}
		if err := b.FS.Remove(ctx, p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if b.vanish {
			b.FS.Remove(ctx, p.Dir())
		}
	}
	return nil
}

var _ vfs.FilesRemover = (*batched)(nil)

// onBatched gives an environment whose storage is b, with a user ann who has a quota.
func onBatched(t *testing.T) (*sessiontest.Env, *session.Session, *batched) {
	t.Helper()
	b := &batched{FS: mem.New(mem.Options{})}
	u := sessiontest.User("ann")
	u.QuotaSize, u.QuotaFiles = 1<<30, 1<<20
	e := sessiontest.New(t, sessiontest.Options{NewFS: func(context.Context, session.Storage) (vfs.FS, error) { return b, nil }}, u)
	e.Events.Free(event.PreDelete)
	return e, e.Login("ann"), b
}

// counted is what the account's counters say.
func counted(e *sessiontest.Env) string {
	files, bytes, _, _ := e.Server.Used(annKey)
	return fmt.Sprint(files, " files, ", bytes, " bytes")
}

func stored(t *testing.T, b *batched) string {
	t.Helper()
	files, bytes, err := b.FS.DirSize(ctx, vfs.Root)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(files, " files, ", bytes, " bytes")
}

// TestRemoveAllOfWhatVanishes: a directory that goes with its last file was removed all the same.
func TestRemoveAllOfWhatVanishes(t *testing.T) {
	for _, files := range []string{"/d/f /d/g /d/a/f", "/d/a/f"} {
		e, s, b := onBatched(t)
		for _, d := range []string{"/d", "/d/a"} {
			if err := s.Mkdir(ctx, path(t, d), vfs.Attr{}); err != nil {
				t.Fatal(err)
			}
		}
		for _, n := range strings.Fields(files) {
			if err := put(s, path(t, n), "123"); err != nil {
				t.Fatal(err)
			}
		}
		e.Events.Take()
		b.vanish = true
		if err := s.RemoveAll(ctx, path(t, "/d")); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Lstat(ctx, path(t, "/d")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("it stands: %v", err)
		}
		seen := map[string]int{}
		for _, v := range e.Events.Take() {
			seen[v.Action]++
		}
		if seen[event.Delete] != len(strings.Fields(files)) || seen[event.Rmdir] != 2 {
			t.Errorf("events %v", seen)
		}
		if err := s.RemoveAll(ctx, path(t, "/d")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("what is not there: %v", err)
		}
	}
}

func TestRemoveAllInSteps(t *testing.T) {
	e, s, b := onBatched(t)
	for _, d := range []string{"/d", "/d/a", "/d/a/b", "/d/empty"} {
		if err := s.Mkdir(ctx, path(t, d), vfs.Attr{}); err != nil {
			t.Fatal(err)
		}
	}
	const many = 2300
	for i := range many {
		if err := put(s, path(t, fmt.Sprintf("/d/f%d", i)), "12345"); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []string{"/d/a/f", "/d/a/b/f", "/stays"} {
		if err := put(s, path(t, n), "123"); err != nil {
			t.Fatal(err)
		}
	}
	e.Events.Take()
	if err := s.RemoveAll(ctx, path(t, "/d")); err != nil {
		t.Fatal(err)
	}
	if n, alone := b.steps.Load(), b.alone.Load(); n != 5 || alone != 4 || b.largest.Load() != 1000 {
		t.Errorf("%d steps of at most %d files, %d calls for one; want 3 and one for each directory below, and the directories", n, b.largest.Load(), alone)
	}
	if got := counted(e); got != "1 files, 3 bytes" || got != stored(t, b) {
		t.Errorf("counted %s, stored %s", got, stored(t, b))
	}
	seen, bytes := map[string]int{}, int64(0)
	for _, v := range e.Events.Take() {
		seen[v.Action]++
		bytes += v.FileSize
	}
	if seen[event.Delete] != many+2 || seen[event.Rmdir] != 4 || bytes != many*5+6 {
		t.Errorf("events %v of %d bytes", seen, bytes)
	}
}

// TestRemoveAllThatFailsCountsWhatIsGone: a step may remove some files and then fail.
func TestRemoveAllThatFailsCountsWhatIsGone(t *testing.T) {
	e, s, b := onBatched(t)
	if err := s.Mkdir(ctx, path(t, "/d"), vfs.Attr{}); err != nil {
		t.Fatal(err)
	}
	for i := range 1500 {
		if err := put(s, path(t, fmt.Sprintf("/d/f%d", i)), "12345"); err != nil {
			t.Fatal(err)
		}
	}
	broken := errors.New("the storage broke")
	b.fault = func(step int64) (int, error) {
		if step == 2 {
			return 200, broken
		}
		return 0, nil
	}
	if err := s.RemoveAll(ctx, path(t, "/d")); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if got, want := counted(e), stored(t, b); got != want || got != "300 files, 1500 bytes" {
		t.Errorf("counted %s, stored %s", got, want)
	}
	if err := s.RemoveAll(ctx, path(t, "/d")); err != nil { // said again, it goes on
		t.Fatal(err)
	}
	if got := counted(e); got != "0 files, 0 bytes" {
		t.Errorf("counted %s", got)
	}
}

// TestRemoveAllSeesWhatCameSinceTheListing: a file that was overwritten, and one that was moved away, count as they
// are when they go.
func TestRemoveAllSeesWhatCameSinceTheListing(t *testing.T) {
	e, s, b := onBatched(t)
	other := e.Login("ann")
	if err := s.Mkdir(ctx, path(t, "/d"), vfs.Attr{}); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"/d/grows", "/d/leaves", "/d/z"} {
		if err := put(s, path(t, n), "12345"); err != nil {
			t.Fatal(err)
		}
	}
	b.listed = func(i vfs.FileInfo) {
		if i.Name != "z" {
			return
		}
		b.listed = nil
		if err := put(other, path(t, "/d/grows"), "more than five"); err != nil {
			t.Error(err)
		}
		if err := other.Rename(ctx, path(t, "/d/leaves"), path(t, "/kept"), false); err != nil {
			t.Error(err)
		}
	}
	if err := s.RemoveAll(ctx, path(t, "/d")); err != nil {
		t.Fatal(err)
	}
	if got, want := counted(e), stored(t, b); got != want || got != "1 files, 5 bytes" {
		t.Errorf("counted %s, stored %s", got, want)
	}
}

// TestRemoveAllStopsWhereItMayNot: what comes before goes, the rest stays.
func TestRemoveAllStopsWhereItMayNot(t *testing.T) {
	b := &batched{FS: mem.New(mem.Options{})}
	u := sessiontest.User("ann")
	u.QuotaFiles = 100
	u.Permissions = map[string][]string{"/": {"*"}, "/d/kept": {"list", "upload", "create_dirs"}}
	u.Filters.FilePatterns = []account.PatternsFilter{{Path: "/d/hidden", DeniedPatterns: []string{"*.no"}, DenyPolicy: 1}}
	e := sessiontest.New(t, sessiontest.Options{NewFS: func(context.Context, session.Storage) (vfs.FS, error) { return b, nil }}, u)
	e.Events.Free(event.PreDelete)
	seedTree(t, b.FS, "/d/", "/d/f", "/d/hidden/", "/d/hidden/a", "/d/hidden/b.no", "/d/kept/", "/d/kept/f")
	s := e.Login("ann")
	if err := s.RemoveAll(ctx, path(t, "/d")); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		t.Errorf("error %v", err)
	}
	for _, n := range []string{"/d/hidden/b.no", "/d/kept/f"} {
		if _, err := b.FS.Stat(ctx, path(t, n)); err != nil {
			t.Errorf("%s: %v", n, err)
		}
	}
	if _, err := b.FS.Stat(ctx, path(t, "/d/f")); err == nil {
		t.Error("/d/f is still there")
	}
}

// halfMoved is a storage on which a rename of /from to /to was cut off.
type halfMoved struct{ *batched }

func (halfMoved) Interrupted(_ context.Context, from, to vfs.Path) bool {
	return from.String() == "/from" && to.String() == "/to"
}

func (h halfMoved) Rename(ctx context.Context, from, to vfs.Path, replace bool) error {
	if !h.Interrupted(ctx, from, to) {
		return h.batched.Rename(ctx, from, to, replace)
	}
	for i, err := range h.FS.List(ctx, from) {
		if err != nil {
			return err
		}
		a, err := from.Child(i.Name)
		if err != nil {
			return err
		}
		b, err := to.Child(i.Name)
		if err != nil {
			return err
		}
		if err := h.FS.Rename(ctx, a, b, true); err != nil {
			return err
		}
	}
	return h.FS.Remove(ctx, from)
}

// TestAMoveThatWasCutOffIsGoneOnWith, by WebDAV's rules too: what is at the target already is not removed first, for
// the source may have lost it.
func TestAMoveThatWasCutOffIsGoneOnWith(t *testing.T) {
	for what, move := range map[string]func(*session.Session) error{
		"rename": func(s *session.Session) error { return s.Rename(ctx, path(t, "/from"), path(t, "/to"), true) },
		"MOVE": func(s *session.Session) error {
			_, err := s.MoveTree(ctx, path(t, "/from"), path(t, "/to"), true, nil)
			return err
		},
	} {
		b := halfMoved{&batched{FS: mem.New(mem.Options{})}}
		e := sessiontest.New(t, sessiontest.Options{NewFS: func(context.Context, session.Storage) (vfs.FS, error) { return b, nil }}, sessiontest.User("ann"))
		seedTree(t, b.FS, "/from/", "/from/late", "/to/", "/to/early")
		if err := move(e.Login("ann")); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		for _, n := range []string{"/to/early", "/to/late"} {
			if _, err := b.FS.Stat(ctx, path(t, n)); err != nil {
				t.Errorf("%s lost a file: %v", what, err)
			}
		}
	}
}
