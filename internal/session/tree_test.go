package session_test

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/event"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
	"github.com/gantryhq/gantry/vfs"
)

func folderAt(at, name, root string, quota int64) []account.VirtualFolder {
	return []account.VirtualFolder{{Folder: account.Folder{Name: name, MappedPath: root}, VirtualPath: at, QuotaSize: quota}}
}

func TestMountsStandInTheTree(t *testing.T) {
	u := sessiontest.User("ann")
	u.VirtualFolders = append(folderAt("/a/b/mnt", "one", "/srv/one", 0), folderAt("/a/b/mnt/deep", "two", "/srv/two", 0)...)
	e := sessiontest.New(t, sessiontest.Options{}, u)
	s := e.Login("ann")
	if err := put(s, path(t, "/a/b/mnt/deep/f"), "two"); err != nil {
		t.Fatal(err)
	}
	if got := content(t, e, "/srv/two", "/f"); got != "two" {
		t.Errorf("got %q", got)
	}
	for dir, want := range map[string]string{"/": "a", "/a": "b", "/a/b": "mnt", "/a/b/mnt": "deep"} {
		list, err := names(s, path(t, dir))
		if err != nil || !slices.Equal(list, []string{want}) {
			t.Errorf("%s: got %q, %v", dir, list, err)
		}
	}
	for _, p := range []string{"/a", "/a/b", "/a/b/mnt", "/a/b/mnt/deep"} {
		if i, err := s.Stat(ctx, path(t, p)); err != nil || !i.IsDir() {
			t.Errorf("%s: %+v, %v", p, i, err)
		}
	}
	// Rules of the mount table: nothing that is part of it can be made, moved or removed.
	for name, got := range map[string]error{
		"rmdir mount":       s.Rmdir(ctx, path(t, "/a/b/mnt/deep")),
		"removeall mount":   s.RemoveAll(ctx, path(t, "/a/b/mnt/deep")),
		"rmdir root":        s.Rmdir(ctx, path(t, "/")),
		"rename mount":      s.Rename(ctx, path(t, "/a/b/mnt"), path(t, "/x"), true),
		"rename onto mount": s.Rename(ctx, path(t, "/a/b"), path(t, "/a/b/mnt/deep"), true),
		"mkdir mount":       s.Mkdir(ctx, path(t, "/a/b/mnt"), vfs.Attr{}),
		"symlink at mount":  s.Symlink(ctx, "/a/x", path(t, "/a/b/mnt")),
	} {
		if !errors.Is(got, fs.ErrPermission) {
			t.Errorf("%s: got %v", name, got)
		}
	}
	for name, got := range map[string]error{
		"rmdir a directory with a mount below":  s.Rmdir(ctx, path(t, "/a")),
		"rename a directory with a mount below": s.Rename(ctx, path(t, "/a"), path(t, "/x"), true),
	} {
		if !errors.Is(got, vfs.ErrUnsupported) {
			t.Errorf("%s: got %v", name, got)
		}
	}
	if got := content(t, e, "/srv/two", "/f"); got != "two" {
		t.Errorf("got %q", got)
	}
}

func TestRenameRules(t *testing.T) {
	u := sessiontest.User("ann")
	u.Permissions = map[string][]string{
		"/": {"*"}, "/ro": {"list", "download"}, "/tree/locked": {"list"}, "/noover": {"list", "rename"},
	}
	u.Filters.FilePatterns = []account.PatternsFilter{{Path: "/pat", DeniedPatterns: []string{"*.no"}}}
	e := sessiontest.New(t, sessiontest.Options{}, u)
	seedTree(t, e.FS(u.HomeDir), "/d/", "/d/x", "/e/", "/f", "/g", "/ro/", "/ro/f", "/tree/", "/tree/locked/", "/tree/locked/f", "/noover/", "/noover/f", "/pat/", "/pat/a.no", "/plain/", "/plain/a.no")
	s := e.Login("ann")
	for _, c := range []struct {
		from, to string
		replace  bool
		want     error
	}{
		{"/f", "/f", true, vfs.ErrUnsupported},           // 1
		{"/none", "/x", true, fs.ErrNotExist},            // 2
		{"/", "/x", true, fs.ErrPermission},              // 4
		{"/pat/a.no", "/x", true, fs.ErrPermission},      // 5
		{"/f", "/pat/b.no", true, fs.ErrPermission},      // 5
		{"/f", "/ro/new", true, fs.ErrPermission},        // 6
		{"/ro/f", "/x", true, fs.ErrPermission},          // 6
		{"/f", "/d", true, vfs.ErrUnsupported},           // 7
		{"/f", "/noover/f", true, fs.ErrPermission},      // 8
		{"/f", "/g", false, fs.ErrExist},                 //
		{"/d", "/d/sub", true, vfs.ErrUnsupported},       // 9
		{"/d", "/e", true, vfs.ErrUnsupported},           // 7
		{"/tree", "/tree2", true, fs.ErrPermission},      // 10: /tree/locked/f
		{"/plain", "/pat/plain", true, fs.ErrPermission}, // 10: a pattern at the new place
		{"/f", "/nodir/f", true, fs.ErrNotExist},         //
		{"/d", "/d2", true, nil},                         //
		{"/f", "/g", true, nil},                          // onto a file, with overwrite
		{"/plain", "/plain2", true, nil},                 //
		{"/d2", "/noover/d2", true, nil},                 // rename is enough: no create_dirs, no delete
	} {
		err := s.Rename(ctx, path(t, c.from), path(t, c.to), c.replace)
		if c.want == nil && err != nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s to %s: got %v, want %v", c.from, c.to, err, c.want)
		}
	}
}

// seedTree makes files, and directories for names that end with a slash.
func seedTree(t testing.TB, f vfs.FS, list ...string) {
	t.Helper()
	for _, p := range list {
		if p[len(p)-1] == '/' {
			if err := f.Mkdir(ctx, path(t, p), vfs.Attr{}); err != nil {
				t.Fatal(p, err)
			}
			continue
		}
		w, err := f.Create(ctx, path(t, p), vfs.OpenMode{})
		if err != nil {
			t.Fatal(p, err)
		}
		w.WriteAt([]byte(p), 0)
		w.Commit(ctx)
	}
}

func TestRenameBetweenStoragesCopiesAndRemoves(t *testing.T) {
	u := sessiontest.User("ann")
	u.QuotaSize = 1000
	u.VirtualFolders = folderAt("/mnt", "f", "/srv/f", 20)
	e := sessiontest.New(t, sessiontest.Options{}, u)
	s := e.Login("ann")
	seedTree(t, e.FS(u.HomeDir), "/d/", "/d/one", "/d/sub/", "/d/sub/two", "/long/", "/long/012345678901234567890")
	if _, _, err := e.Server.Scan(ctx, annKey); err != nil {
		t.Fatal(err)
	}
	if err := s.Rename(ctx, path(t, "/d"), path(t, "/mnt/d"), false); err != nil {
		t.Fatal(err)
	}
	if got := content(t, e, "/srv/f", "/d/sub/two"); got != "/d/sub/two" {
		t.Errorf("got %q", got)
	}
	if _, err := e.FS(u.HomeDir).Stat(ctx, path(t, "/d")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the source is there: %v", err)
	}
	key := account.CounterKey{Kind: account.KindFolder, Name: "f"}
	if f, b, _, _ := e.Server.Used(key); f != 2 || b != 16 {
		t.Errorf("folder: %d files, %d bytes", f, b)
	}
	if f, b, _, _ := e.Server.Used(annKey); f != 1 || b != 27 {
		t.Errorf("user: %d files, %d bytes", f, b)
	}
	if err := s.Rename(ctx, path(t, "/long/012345678901234567890"), path(t, "/mnt/l"), false); !errors.Is(err, session.ErrQuota) {
		t.Errorf("past the folder's quota: %v", err)
	}
}

func TestHiddenNames(t *testing.T) {
	u := sessiontest.User("ann")
	u.Filters.FilePatterns = []account.PatternsFilter{{Path: "/", DeniedPatterns: []string{"secret*"}, DenyPolicy: 1}}
	e := sessiontest.New(t, sessiontest.Options{}, u)
	seedTree(t, e.FS(u.HomeDir), "/secret/", "/secret/f", "/secret.txt", "/open")
	s := e.Login("ann")
	if l, _ := names(s, path(t, "/")); !slices.Equal(l, []string{"open"}) {
		t.Errorf("listing: %q", l)
	}
	_, stat := s.Stat(ctx, path(t, "/secret.txt"))
	_, below := s.Stat(ctx, path(t, "/secret/f"))
	_, list := names(s, path(t, "/secret"))
	_, read := get(s, path(t, "/secret.txt"))
	for name, err := range map[string]error{
		"stat": stat, "stat below": below, "list": list, "read": read,
		"remove":  s.Remove(ctx, path(t, "/secret.txt")),
		"setattr": s.SetAttr(ctx, path(t, "/secret.txt"), vfs.Attr{Set: vfs.AttrMode, Mode: 0o600}, true),
	} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v, want not found", name, err)
		}
	}
	for name, err := range map[string]error{
		"write":       put(s, path(t, "/secret2"), "x"),
		"mkdir":       s.Mkdir(ctx, path(t, "/secretdir"), vfs.Attr{}),
		"rename":      s.Rename(ctx, path(t, "/secret.txt"), path(t, "/x"), true),
		"rename to":   s.Rename(ctx, path(t, "/open"), path(t, "/secret3"), true),
		"write below": put(s, path(t, "/secret/new"), "x"),
	} {
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: got %v, want denied", name, err)
		}
	}
}

func TestSymlinks(t *testing.T) {
	u := sessiontest.User("ann")
	u.VirtualFolders = folderAt("/mnt", "f", "/srv/f", 0)
	e := sessiontest.New(t, sessiontest.Options{}, u)
	s := e.Login("ann")
	seedTree(t, e.FS(u.HomeDir), "/a/", "/a/f", "/b/", "/b/c/")
	if err := s.Symlink(ctx, "/a/f", path(t, "/b/c/abs")); err != nil {
		t.Fatal(err)
	}
	l, _ := vfs.As[vfs.Linker](e.FS(u.HomeDir))
	if text, _ := l.Readlink(ctx, path(t, "/b/c/abs")); text != "../../a/f" {
		t.Errorf("stored %q", text)
	}
	if got, err := s.Readlink(ctx, path(t, "/b/c/abs")); got != "../../a/f" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if err := s.Symlink(ctx, "../a/f", path(t, "/b/rel")); err != nil {
		t.Fatal(err)
	}
	if got, _ := get(s, path(t, "/b/rel")); got != "/a/f" {
		t.Errorf("through the link: %q", got)
	}
	if err := s.Symlink(ctx, "/a/f", path(t, "/mnt/x")); !errors.Is(err, vfs.ErrUnsupported) {
		t.Errorf("across mounts: %v", err)
	}
	if err := s.Symlink(ctx, "/", path(t, "/x")); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("to the root: %v", err)
	}
	if err := l.Symlink(ctx, "f", path(t, "/a/loop")); err != nil {
		t.Fatal(err)
	}
	// SYM-2: removal takes links, not what they lead to.
	if err := s.RemoveAll(ctx, path(t, "/b")); err != nil {
		t.Fatal(err)
	}
	if got := content(t, e, u.HomeDir, "/a/f"); got != "/a/f" {
		t.Errorf("got %q", got)
	}
	cfg := session.DefaultConfig()
	cfg.SymlinkMode = 0
	off := sessiontest.NewSession(t, sessiontest.Options{Config: &cfg}, sessiontest.User("bob"))
	if err := off.Symlink(ctx, "x", path(t, "/l")); !errors.Is(err, vfs.ErrUnsupported) {
		t.Errorf("symlink_mode 0: %v", err)
	}
}

// A link carries no rights to where they were not given.
func TestALinkDoesNotWidenRights(t *testing.T) {
	u := sessiontest.User("ann")
	u.Permissions = map[string][]string{"/": {"*"}, "/ro": {"list", "download", "create_symlinks"}, "/deep/locked": {"list"}, "/deep2/locked": {"list"}}
	e := sessiontest.New(t, sessiontest.Options{}, u)
	s := e.Login("ann")
	seedTree(t, e.FS(u.HomeDir), "/ro/", "/ro/f", "/deep/", "/deep/locked/", "/rw/", "/rw/sub/")
	for _, target := range []string{"/ro/f", "/ro", "/deep", "/deep/locked"} {
		if err := s.Symlink(ctx, target, path(t, "/rw/l")); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("to %s: got %v", target, err)
		}
	}
	if err := s.Link(ctx, path(t, "/ro/f"), path(t, "/rw/l")); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("hard link: got %v", err)
	}
	// A relative link to something harmless that would mean something else after a rename.
	if err := s.Symlink(ctx, "../ro", path(t, "/rw/sub/l")); err != nil {
		t.Fatal(err)
	}
	if err := s.Rename(ctx, path(t, "/rw/sub/l"), path(t, "/rw/l"), true); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("rename of the link: got %v", err)
	}
	if err := s.Rename(ctx, path(t, "/rw/sub"), path(t, "/sub"), true); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("rename of its directory: got %v", err)
	}
}

func TestSetstatMode(t *testing.T) {
	stamp := time.Unix(1e9, 0)
	for mode, done := range map[int]bool{0: true, 1: false, 2: true} {
		cfg := session.DefaultConfig()
		cfg.SetstatMode = mode
		e := sessiontest.New(t, sessiontest.Options{Config: &cfg}, sessiontest.User("ann"))
		s := e.Login("ann")
		put(s, path(t, "/f"), "x")
		if err := s.SetAttr(ctx, path(t, "/f"), vfs.Attr{Set: vfs.AttrTimes, Atime: stamp, Mtime: stamp}, true); err != nil {
			t.Fatal(err)
		}
		if i, _ := s.Stat(ctx, path(t, "/f")); i.ModTime.Equal(stamp) != done {
			t.Errorf("mode %d: %v", mode, i.ModTime)
		}
	}
}

func TestOwnersOfNewFilesAndDirectories(t *testing.T) {
	u := sessiontest.User("ann")
	u.UID, u.GID = 1234, 4321
	e := sessiontest.New(t, sessiontest.Options{}, u)
	s := e.Login("ann")
	put(s, path(t, "/f"), "x")
	s.Mkdir(ctx, path(t, "/d"), vfs.Attr{})
	for _, p := range []string{"/f", "/d"} {
		if i, _ := s.Stat(ctx, path(t, p)); i.UID != 1234 || i.GID != 4321 {
			t.Errorf("%s: %d:%d", p, i.UID, i.GID)
		}
	}
}

func TestEveryChangeIsOneEvent(t *testing.T) {
	u := sessiontest.User("ann")
	e := sessiontest.New(t, sessiontest.Options{}, u)
	s := e.Login("ann")
	p := func(x string) vfs.Path { return path(t, x) }
	for _, c := range []struct {
		action string
		do     func() error
		target string
	}{
		{event.Mkdir, func() error { return s.Mkdir(ctx, p("/d"), vfs.Attr{}) }, ""},
		{event.Upload, func() error { return put(s, p("/d/f"), "hello") }, ""},
		{event.Download, func() error { _, err := get(s, p("/d/f")); return err }, ""},
		{event.Rename, func() error { return s.Rename(ctx, p("/d/f"), p("/d/g"), true) }, "/d/g"},
		{event.Copy, func() error { return s.Copy(ctx, p("/d/g"), p("/d/h"), true) }, "/d/h"},
		{event.Symlink, func() error { return s.Symlink(ctx, "/d/g", p("/d/l")) }, "/d/l"},
		{event.Link, func() error { return s.Link(ctx, p("/d/g"), p("/d/hard")) }, "/d/hard"},
		{event.Chmod, func() error {
			return s.SetAttr(ctx, p("/d/g"), vfs.Attr{Set: vfs.AttrMode, Mode: 0o640}, true)
		}, ""},
		{event.Truncate, func() error { return s.Truncate(ctx, p("/d/g"), 2) }, ""},
		{event.Delete, func() error { return s.Remove(ctx, p("/d/g")) }, ""},
	} {
		e.Events.Take()
		if err := c.do(); err != nil {
			t.Fatalf("%s: %v", c.action, err)
		}
		ev := e.Events.Take()
		if len(ev) != 1 {
			t.Fatalf("%s: %d events: %+v", c.action, len(ev), ev)
		}
		g := ev[0]
		if g.Action != c.action || g.VirtualTarget != c.target || g.Username != "ann" || g.Protocol != "SFTP" || g.IP != "192.0.2.7" ||
			g.SessionID != s.ID() || g.Status != event.OK || g.VirtualPath == "" || g.Path == "" || g.Time.IsZero() || g.Provider != -1 {
			t.Errorf("%s: %+v", c.action, g)
		}
	}
	if err := s.Rmdir(ctx, p("/nothing")); err == nil {
		t.Error("rmdir of nothing")
	}
	if ev := e.Events.Take(); len(ev) != 0 {
		t.Errorf("a failed change sent %+v", ev)
	}
}

// TestTreesReplaceTrees: what WebDAV's COPY and MOVE write over is removed first, by its own permissions, and counted.
func TestTreesReplaceTrees(t *testing.T) {
	u := sessiontest.User("ann")
	u.QuotaFiles = 1000
	u.Permissions["/kept"] = []string{account.PermList, account.PermDownload, account.PermUpload, account.PermOverwrite, account.PermRename, account.PermCreateDirs}
	e := sessiontest.New(t, sessiontest.Options{}, u)
	s := e.Login("ann")
	seedTree(t, e.FS(u.HomeDir), "/a/", "/a/one", "/a/sub/", "/a/sub/two", "/b/", "/b/old", "/b/old2", "/f", "/kept/", "/kept/d/", "/kept/d/x")
	if _, _, err := e.Server.Scan(ctx, annKey); err != nil {
		t.Fatal(err)
	}
	used := func(files int64, bytes int64) {
		t.Helper()
		if f, b, _, _ := e.Server.Used(annKey); int64(f) != files || b != bytes {
			t.Errorf("%d files, %d bytes, want %d, %d", f, b, files, bytes)
		}
	}
	used(6, 6+10+6+7+2+9)
	if _, err := s.MoveTree(ctx, path(t, "/a"), path(t, "/b"), false, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a move over a directory: %v", err)
	}
	if _, err := s.CopyTree(ctx, path(t, "/a"), path(t, "/b"), session.CopyOptions{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a copy over a directory: %v", err)
	}
	if replaced, err := s.CopyTree(ctx, path(t, "/a"), path(t, "/b"), session.CopyOptions{Replace: true}); err != nil || !replaced {
		t.Fatal(replaced, err)
	}
	used(6, 6+10+6+10+2+9)
	if _, err := e.FS(u.HomeDir).Stat(ctx, path(t, "/b/old")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was replaced is there: %v", err)
	}
	if replaced, err := s.MoveTree(ctx, path(t, "/f"), path(t, "/b"), true, nil); err != nil || !replaced {
		t.Fatal(replaced, err)
	}
	used(4, 6+10+2+9)
	if replaced, err := s.MoveTree(ctx, path(t, "/a"), path(t, "/b"), true, nil); err != nil || !replaced {
		t.Fatal(replaced, err)
	}
	used(3, 6+10+9)
	if replaced, err := s.CopyTree(ctx, path(t, "/b"), path(t, "/b/sub/b"), session.CopyOptions{Shallow: true}); err != nil || replaced {
		t.Fatal(replaced, err)
	}
	if l, _ := names(s, path(t, "/b/sub/b")); len(l) != 0 {
		t.Errorf("a shallow copy holds %q", l)
	}
	for _, replace := range []func() error{
		func() error { _, err := s.MoveTree(ctx, path(t, "/b"), path(t, "/kept/d"), true, nil); return err },
		func() error {
			_, err := s.CopyTree(ctx, path(t, "/b"), path(t, "/kept/d"), session.CopyOptions{Replace: true})
			return err
		},
	} {
		if err := replace(); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("a directory is replaced without the right to delete: %v", err)
		}
	}
	if got := content(t, e, u.HomeDir, "/kept/d/x"); got != "/kept/d/x" {
		t.Errorf("got %q", got)
	}
}

// TestCopyTreeGoesOn: one entry that may not be read is told of, the others are copied.
func TestCopyTreeGoesOn(t *testing.T) {
	u := sessiontest.User("ann")
	u.Permissions["/d/no"] = []string{account.PermUpload}
	u.Filters.FilePatterns = []account.PatternsFilter{{Path: "/d", DeniedPatterns: []string{"*.key"}}}
	e := sessiontest.New(t, sessiontest.Options{}, u)
	s := e.Login("ann")
	seedTree(t, e.FS(u.HomeDir), "/d/", "/d/a", "/d/b.key", "/d/no/", "/d/no/x", "/d/z")
	var failed []string
	_, err := s.CopyTree(ctx, path(t, "/d"), path(t, "/e"), session.CopyOptions{Failed: func(p vfs.Path, err error) {
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: %v", p, err)
		}
		failed = append(failed, p.String())
	}})
	if slices.Sort(failed); err != nil || !slices.Equal(failed, []string{"/e/b.key", "/e/no"}) {
		t.Errorf("%q %v", failed, err)
	}
	if l, _ := names(s, path(t, "/e")); !slices.Equal(l, []string{"a", "z"}) {
		t.Errorf("copied %q", l)
	}
	if _, err := s.CopyTree(ctx, path(t, "/d"), path(t, "/e2"), session.CopyOptions{}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("without a function to tell: %v", err)
	}
}

// TestRemoveTreeGoesOn: what may not be removed is told of, without the directories above it, and the others go.
func TestRemoveTreeGoesOn(t *testing.T) {
	u, other := sessiontest.User("ann"), sessiontest.User("bob")
	other.HomeDir = u.HomeDir
	u.Permissions["/d/no"] = []string{account.PermList}
	u.Filters.FilePatterns = []account.PatternsFilter{{Path: "/d/h", DeniedPatterns: []string{"*.key"}, DenyPolicy: 1}}
	e := sessiontest.New(t, sessiontest.Options{}, u, other)
	s := e.Login("ann")
	seedTree(t, e.FS(u.HomeDir), "/d/", "/d/a", "/d/h/", "/d/h/b.key", "/d/h/c", "/d/l", "/d/no/", "/d/no/x", "/d/no/y", "/d/t/", "/d/t/u/", "/d/t/u/v", "/d/w/", "/d/w/x", "/d/z")
	for _, p := range []string{"/d/l", "/d/w"} {
		if _, _, err := e.Login("bob").Lock(ctx, path(t, p), session.LockRequest{Exclusive: true, Infinite: true}); err != nil {
			t.Fatal(err)
		}
	}
	why := map[string]error{"/d/h": fs.ErrPermission, "/d/l": session.ErrLocked, "/d/no/x": fs.ErrPermission, "/d/no/y": fs.ErrPermission, "/d/w": session.ErrLocked}
	err := s.RemoveTree(ctx, path(t, "/d"), func(p vfs.Path, err error) {
		if want := why[p.String()]; want == nil || !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", p, err, want)
		}
		delete(why, p.String())
	})
	if !errors.Is(err, session.ErrStays) || len(why) > 0 {
		t.Errorf("%v; not told of: %v", err, why)
	}
	for dir, want := range map[string][]string{"/d": {"h", "l", "no", "w"}, "/d/no": {"x", "y"}, "/d/w": {"x"}} {
		if l, err := names(s, path(t, dir)); err != nil || !slices.Equal(l, want) {
			t.Errorf("%s has %q, %v", dir, l, err)
		}
	}
	if got := content(t, e, u.HomeDir, "/d/h/b.key"); got != "/d/h/b.key" {
		t.Errorf("what is hidden has gone: %q", got)
	}
	// Whoever may do nothing there at all is told so, and nothing goes.
	u.Permissions["/"] = []string{account.PermList}
	e.Store.PutUser(u)
	if err := e.Login("ann").RemoveTree(ctx, path(t, "/d"), func(p vfs.Path, err error) { t.Errorf("%s: %v", p, err) }); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v", err)
	}
}

// TestRemoveTreeIsBounded: what stays is remembered while the others go, and that ends somewhere (RES-1).
func TestRemoveTreeIsBounded(t *testing.T) {
	u := sessiontest.User("ann")
	u.Permissions["/d"] = []string{account.PermList}
	e := sessiontest.New(t, sessiontest.Options{}, u)
	s := e.Login("ann")
	list := []string{"/d/"}
	for i := range 1500 {
		list = append(list, fmt.Sprintf("/d/%04d", i))
	}
	seedTree(t, e.FS(u.HomeDir), list...)
	told := 0
	err := s.RemoveTree(ctx, path(t, "/d"), func(vfs.Path, error) { told++ })
	if err == nil || told == 0 || told > 1000 {
		t.Errorf("told of %d: %v", told, err)
	}
}

// TestMoveTreeAcrossStoragesGoesOn: what does not fit at the target stays where it was.
func TestMoveTreeAcrossStoragesGoesOn(t *testing.T) {
	u := sessiontest.User("ann")
	u.VirtualFolders = folderAt("/m", "m", "/srv/m", 100)
	e := sessiontest.New(t, sessiontest.Options{}, u)
	s := e.Login("ann")
	seedTree(t, e.FS(u.HomeDir), "/d/", "/d/a", "/d/s/", "/d/s/z", "/d/t/", "/d/t/y")
	if err := put(s, path(t, "/d/s/big"), strings.Repeat("x", 1000)); err != nil {
		t.Fatal(err)
	}
	var failed []string
	_, err := s.MoveTree(ctx, path(t, "/d"), path(t, "/m/d"), false, func(p vfs.Path, err error) {
		if !errors.Is(err, session.ErrQuota) {
			t.Errorf("%s: %v", p, err)
		}
		failed = append(failed, p.String())
	})
	if !errors.Is(err, session.ErrStays) || !slices.Equal(failed, []string{"/m/d/s/big"}) {
		t.Errorf("%q %v", failed, err)
	}
	for dir, want := range map[string][]string{"/d": {"s"}, "/d/s": {"big"}, "/m/d": {"a", "s", "t"}, "/m/d/s": {"z"}, "/m/d/t": {"y"}} {
		if l, err := names(s, path(t, dir)); err != nil || !slices.Equal(l, want) {
			t.Errorf("%s has %q, %v", dir, l, err)
		}
	}
}
