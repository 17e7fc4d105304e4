package session_test

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/event"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/mem"
)

var errLost = errors.New("connection lost")

// content is what stands at p, "-" for nothing.
func content(t testing.TB, e *sessiontest.Env, root, p string) string {
	t.Helper()
	f, err := e.FS(root).Open(ctx, path(t, p))
	if errors.Is(err, fs.ErrNotExist) {
		return "-"
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1000)
	n, _ := f.ReadAt(b, 0)
	return string(b[:n])
}

func envInMode(t testing.TB, mode int) (*sessiontest.Env, *session.Session) {
	cfg := session.DefaultConfig()
	cfg.UploadMode = mode
	e := sessiontest.New(t, sessiontest.Options{Config: &cfg}, sessiontest.User("ann"))
	return e, e.Login("ann")
}

// The upload-mode table: what stands at the name while an upload writes "new", after it is closed, and after
// the connection is lost instead.
func TestUploadModeTable(t *testing.T) {
	create := session.Flags{Write: true, Create: true, Truncate: true}
	resume := session.Flags{Write: true}
	whole := create
	whole.Whole = true
	for _, c := range []struct {
		name               string
		mode               int
		flags              session.Flags
		old                string // "-": none
		during, done, lost string
	}{
		{"new in place", 0, create, "-", "new", "new", "new"},
		{"overwrite in place", 0, create, "old content", "new", "new", "new"},
		{"resume in place", 0, resume, "old content", "old newtent", "old newtent", "old newtent"},
		{"new whole", 0, whole, "-", "-", "new", "-"},
		{"overwrite whole", 0, whole, "old content", "old content", "new", "old content"},
		{"new atomic", 1, create, "-", "-", "new", "-"},
		{"overwrite atomic", 1, create, "old content", "old content", "new", "old content"},
		{"resume atomic", 1, resume, "old content", "old content", "old newtent", "old content"},
		{"new atomic with resume", 2, create, "-", "-", "new", "new"},
		{"overwrite atomic with resume", 2, create, "old content", "old content", "new", "old content"},
		{"resume atomic with resume", 2, resume, "old content", "old content", "old newtent", "old content"},
		{"new whole, mode 2", 2, whole, "-", "-", "new", "-"},
	} {
		for _, end := range []string{"close", "lost", "session closed"} {
			e, s := envInMode(t, c.mode)
			if c.old != "-" {
				if err := put(s, path(t, "/f"), c.old); err != nil {
					t.Fatal(err)
				}
			}
			e.Events.Take()
			h, err := s.OpenFile(ctx, path(t, "/f"), c.flags)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			off := int64(0)
			if !c.flags.Truncate {
				off = 4
			}
			if _, err := h.WriteAt([]byte("new"), off); err != nil {
				t.Fatal(err)
			}
			if got := content(t, e, "/home/ann", "/f"); got != c.during {
				t.Errorf("%s, while it is written: got %q, want %q", c.name, got, c.during)
			}
			want := c.done
			switch end {
			case "close":
				if err := h.Close(ctx); err != nil {
					t.Errorf("%s: close: %v", c.name, err)
				}
			case "lost":
				h.Abort(ctx, errLost)
				want = c.lost
			default:
				s.Close()
				want = c.lost
			}
			if got := content(t, e, "/home/ann", "/f"); got != want {
				t.Errorf("%s, %s: got %q, want %q", c.name, end, got, want)
			}
			ev := e.Events.Take()
			if len(ev) != 1 || ev[0].Action != event.Upload || ev[0].Complete != (end == "close") || (ev[0].Status == event.OK) != (end == "close") || ev[0].Bytes != 3 {
				t.Errorf("%s, %s: events %+v", c.name, end, ev)
			}
			if err := h.Close(ctx); err != nil {
				t.Errorf("%s: a second end: %v", c.name, err)
			}
		}
	}
}

// bucketLike is a storage that shows a file when it is complete, as an object store does.
type bucketLike struct {
	*mem.FS
	provider account.Provider
}

func (b bucketLike) Close() error { return nil }
func (b bucketLike) Describe(name vfs.Path) vfs.Description {
	d := b.FS.Describe(name)
	d.Provider, d.Remote, d.Whole = int(b.provider), true, true
	return d
}
func (b bucketLike) Create(ctx context.Context, name vfs.Path, mode vfs.OpenMode) (vfs.Upload, error) {
	mode.Atomic = true
	return b.FS.Create(ctx, name, mode)
}

// TestObjectStoresKeepPartsByTheirBit: 4 for S3, 8 for Google, 16 for Azure; an old file stays in any case.
func TestObjectStoresKeepPartsByTheirBit(t *testing.T) {
	bits := map[account.Provider]int{account.S3Provider: 4, account.GCSProvider: 8, account.AzBlobProvider: 16, account.HTTPProvider: 0}
	for provider, bit := range bits {
		for _, mode := range []int{0, 1, 2, 4, 8, 16, 2 | 4, 1 | 8 | 16, 2 | 4 | 8 | 16} {
			b := bucketLike{mem.New(mem.Options{}), provider}
			cfg := session.DefaultConfig()
			cfg.UploadMode = mode
			e := sessiontest.New(t, sessiontest.Options{Config: &cfg, NewFS: func(context.Context, session.Storage) (vfs.FS, error) { return b, nil }}, sessiontest.User("ann"))
			s := e.Login("ann")
			if err := put(s, path(t, "/old"), "old content"); err != nil {
				t.Fatal(err)
			}
			for _, n := range []string{"/new", "/old", "/whole"} {
				f := session.Flags{Write: true, Create: true, Truncate: true, Whole: n == "/whole"}
				h, err := s.OpenFile(ctx, path(t, n), f)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := h.WriteAt([]byte("part"), 0); err != nil {
					t.Fatal(err)
				}
				h.Abort(ctx, errLost)
			}
			want := map[string]string{"/old": "old content", "/new": "", "/whole": ""}
			if mode&bit != 0 {
				want["/new"] = "part"
			}
			for n, w := range want {
				got, err := get(s, path(t, n))
				if got != w || (err != nil) != (w == "") {
					t.Errorf("provider %d, mode %d: %s holds %q, %v; want %q", provider, mode, n, got, err, w)
				}
			}
		}
	}
}

func TestPartialOfModeTwoReplacesNothing(t *testing.T) {
	e, s := envInMode(t, 2)
	h, err := s.OpenFile(ctx, path(t, "/f"), session.Flags{Write: true, Create: true, Truncate: true})
	if err != nil {
		t.Fatal(err)
	}
	h.WriteAt([]byte("part"), 0)
	if err := put(s, path(t, "/f"), "whole"); err != nil {
		t.Fatal(err)
	}
	h.Abort(ctx, errLost)
	if got := content(t, e, "/home/ann", "/f"); got != "whole" {
		t.Errorf("got %q", got)
	}
}

func TestWithoutOverwriteARaceCannotOverwrite(t *testing.T) {
	for mode := range 3 {
		cfg := session.DefaultConfig()
		cfg.UploadMode = mode
		u := sessiontest.User("ann")
		u.Permissions = map[string][]string{"/": {"list", "upload", "download"}}
		var e *sessiontest.Env
		raced := false
		e = sessiontest.New(t, sessiontest.Options{Config: &cfg, Mem: func(string) mem.Options {
			return mem.Options{Fault: func(op mem.Op) error {
				if op.Verb == "create" && !raced { // another program is faster
					raced = true
					w, err := e.FS("/home/ann").Create(ctx, op.Path, vfs.OpenMode{})
					if err == nil {
						w.WriteAt([]byte("theirs"), 0)
						w.Commit(ctx)
					}
				}
				return nil
			}}
		}}, u)
		if err := put(e.Login("ann"), path(t, "/f"), "ours"); !errors.Is(err, fs.ErrExist) {
			t.Errorf("mode %d: got %v", mode, err)
		}
		if got := content(t, e, "/home/ann", "/f"); got != "theirs" {
			t.Errorf("mode %d: got %q", mode, got)
		}
	}
}

func TestFailedWriteIsNeverACleanClose(t *testing.T) {
	for mode := range 3 {
		cfg := session.DefaultConfig()
		cfg.UploadMode = mode
		full := false
		e := sessiontest.New(t, sessiontest.Options{Config: &cfg, Mem: func(string) mem.Options {
			return mem.Options{Fault: func(op mem.Op) error {
				if op.Verb == "write" && full {
					return vfs.ErrQuota // the disk, not the account
				}
				return nil
			}}
		}}, sessiontest.User("ann"))
		s := e.Login("ann")
		h, _ := s.OpenFile(ctx, path(t, "/f"), session.Flags{Write: true, Create: true, Truncate: true})
		h.WriteAt([]byte("first"), 0)
		full = true
		if _, err := h.WriteAt([]byte("second"), 5); !errors.Is(err, vfs.ErrQuota) {
			t.Fatalf("got %v", err)
		}
		if err := h.Close(ctx); !errors.Is(err, vfs.ErrQuota) {
			t.Errorf("mode %d: close said %v", mode, err)
		}
		want := []string{"first", "-", "first"}[mode]
		if got := content(t, e, "/home/ann", "/f"); got != want {
			t.Errorf("mode %d: got %q, want %q", mode, got, want)
		}
	}
}

func TestOpenKnowsTheKindsOfObjects(t *testing.T) {
	e, s := envInMode(t, 0)
	seed(t, e.FS("/home/ann"))
	write := session.Flags{Write: true, Create: true, Truncate: true}
	for _, c := range []struct {
		p    string
		f    session.Flags
		want error
	}{
		{"/src", write, vfs.ErrIsDir},
		{"/src", session.Flags{Read: true}, vfs.ErrIsDir},
		{"/", write, vfs.ErrIsDir},
		{"/none", session.Flags{Write: true}, fs.ErrNotExist},
		{"/none", session.Flags{Read: true}, fs.ErrNotExist},
		{"/src/file", session.Flags{Write: true, Create: true, Exclusive: true}, fs.ErrExist},
		{"/none/f", write, fs.ErrNotExist},
	} {
		if _, err := s.OpenFile(ctx, path(t, c.p), c.f); !errors.Is(err, c.want) {
			t.Errorf("%s %+v: got %v, want %v", c.p, c.f, err, c.want)
		}
	}
	h, err := s.OpenFile(ctx, path(t, "/src/file"), session.Flags{Read: true})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close(ctx)
	if _, err := h.WriteAt([]byte("x"), 0); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a write on a handle for reading: %v", err)
	}
	w, _ := s.OpenFile(ctx, path(t, "/src/file"), session.Flags{Write: true, Read: true})
	defer w.Close(ctx)
	if _, err := w.ReadAt(make([]byte, 3), 0); err != nil {
		t.Errorf("a read on a read and write handle: %v", err)
	}
	for _, off := range []int64{-1, 1<<63 - 2} {
		if _, err := w.WriteAt([]byte("xyz"), off); err == nil {
			t.Errorf("a write at %d was taken", off)
		}
	}
}

func TestReadOnAWriteHandleNeedsDownload(t *testing.T) {
	u := sessiontest.User("ann")
	u.Permissions["/"] = []string{"upload", "overwrite", "list"}
	s := sessiontest.NewSession(t, sessiontest.Options{}, u)
	h, err := s.OpenFile(ctx, path(t, "/f"), session.Flags{Write: true, Read: true, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close(ctx)
	h.WriteAt([]byte("x"), 0)
	if _, err := h.ReadAt(make([]byte, 1), 0); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v", err)
	}
}

func TestMaxUploadFileSize(t *testing.T) {
	for mode := range 3 {
		cfg := session.DefaultConfig()
		cfg.UploadMode = mode
		u := sessiontest.User("ann")
		u.Filters.MaxUploadFileSize = 10
		e := sessiontest.New(t, sessiontest.Options{Config: &cfg}, u)
		s := e.Login("ann")
		if err := put(s, path(t, "/ten"), "0123456789"); err != nil {
			t.Fatal(err)
		}
		if err := put(s, path(t, "/f"), "0123456789a"); !errors.Is(err, session.ErrQuota) {
			t.Errorf("mode %d: got %v", mode, err)
		}
		if got := content(t, e, "/home/ann", "/f"); got != "-" {
			t.Errorf("mode %d: a cut upload stays: %q", mode, got)
		}
		if _, err := s.OpenFile(ctx, path(t, "/ten"), session.Flags{Write: true}); !errors.Is(err, session.ErrQuota) {
			t.Errorf("mode %d: resume of a full file: %v", mode, err)
		}
		if err := s.Truncate(ctx, path(t, "/ten"), 11); !errors.Is(err, session.ErrQuota) {
			t.Errorf("mode %d: truncate: %v", mode, err)
		}
		if _, err := s.OpenFile(ctx, path(t, "/n"), session.Flags{Write: true, Create: true, Truncate: true, Size: 11}); !errors.Is(err, session.ErrQuota) {
			t.Errorf("mode %d: an announced size: %v", mode, err)
		}
	}
}

// What sshfs and WinSCP do while they write: the calls mean the upload.
func TestCallsOnAPendingUpload(t *testing.T) {
	stamp := time.Unix(1_000_000_000, 0)
	for mode := range 3 {
		e, s := envInMode(t, mode)
		if err := put(s, path(t, "/old"), "previous"); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"/new", "/old"} {
			p, to := path(t, name), path(t, name+"-renamed")
			h, err := s.OpenFile(ctx, p, session.Flags{Write: true, Create: true, Truncate: true})
			if err != nil {
				t.Fatal(err)
			}
			h.WriteAt([]byte("hello world"), 0)
			if i, err := s.Stat(ctx, p); err != nil || i.Size != 11 || i.Name != p.Base() {
				t.Fatalf("mode %d %s: stat %+v, %v", mode, p, i, err)
			}
			if err := s.SetAttr(ctx, p, vfs.Attr{Set: vfs.AttrMode | vfs.AttrTimes, Mode: 0o600, Atime: stamp, Mtime: stamp}, true); err != nil {
				t.Fatal(err)
			}
			if err := s.Truncate(ctx, p, 5); err != nil {
				t.Fatal(err)
			}
			if err := s.Rename(ctx, p, to, true); err != nil {
				t.Fatalf("mode %d %s: rename: %v", mode, p, err)
			}
			if h.Path() != to {
				t.Errorf("the handle says %s", h.Path())
			}
			if _, err := s.Stat(ctx, p); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("mode %d: the old name is there: %v", mode, err)
			}
			if i, err := s.Lstat(ctx, to); err != nil || i.Size != 5 {
				t.Errorf("mode %d %s: at the new name: %+v, %v", mode, p, i, err)
			}
			h.WriteAt([]byte("!"), 5)
			if err := h.Close(ctx); err != nil {
				t.Fatalf("mode %d %s: close: %v", mode, p, err)
			}
			if got := content(t, e, "/home/ann", to.String()); got != "hello!" {
				t.Errorf("mode %d: got %q", mode, got)
			}
			if got := content(t, e, "/home/ann", p.String()); got != "-" {
				t.Errorf("mode %d: the old name has %q", mode, got)
			}
			i, _ := s.Stat(ctx, to)
			if i.Mode.Perm() != 0o600 || !i.ModTime.Equal(stamp) {
				t.Errorf("mode %d %s: attributes did not survive: %v %v", mode, p, i.Mode, i.ModTime)
			}
		}
		if f, p, n, _ := e.Server.Leftovers(); f+p+n != 0 {
			t.Errorf("left in the tables: %d %d %d", f, p, n)
		}
	}
}

func TestRemoveOfAPendingUpload(t *testing.T) {
	for mode := range 3 {
		for _, old := range []bool{false, true} {
			e, s := envInMode(t, mode)
			if old {
				put(s, path(t, "/f"), "previous")
			}
			h, _ := s.OpenFile(ctx, path(t, "/f"), session.Flags{Write: true, Create: true, Truncate: true})
			h.WriteAt([]byte("hello"), 0)
			if err := s.Remove(ctx, path(t, "/f")); err != nil {
				t.Fatalf("mode %d: %v", mode, err)
			}
			if _, err := h.WriteAt([]byte("more"), 5); err != nil {
				t.Errorf("mode %d: a write after: %v", mode, err)
			}
			if err := h.Close(ctx); err != nil {
				t.Errorf("mode %d: close: %v", mode, err)
			}
			if got := content(t, e, "/home/ann", "/f"); got != "-" {
				t.Errorf("mode %d: got %q", mode, got)
			}
		}
	}
}

func TestSecondOpenOfAPendingUpload(t *testing.T) {
	e, s := envInMode(t, 1)
	f := session.Flags{Write: true, Create: true, Truncate: true}
	a, err := s.OpenFile(ctx, path(t, "/f"), f)
	if err != nil {
		t.Fatal(err)
	}
	a.WriteAt([]byte("first"), 0)
	if _, err := get(s, path(t, "/f")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a read before anything is published: %v", err)
	}
	b, err := s.OpenFile(ctx, path(t, "/f"), f)
	if err != nil {
		t.Fatal(err)
	}
	b.WriteAt([]byte("second"), 0)
	b.Close(ctx)
	if got, err := get(s, path(t, "/f")); got != "second" {
		t.Errorf("got %q, %v", got, err)
	}
	a.Close(ctx)
	if got := content(t, e, "/home/ann", "/f"); got != "first" {
		t.Errorf("the last commit stays: got %q", got)
	}
}

func TestAnotherUsersUploadIsNotMine(t *testing.T) {
	cfg := session.DefaultConfig()
	cfg.UploadMode = 1
	ann, bob := sessiontest.User("ann"), sessiontest.User("bob")
	bob.HomeDir = ann.HomeDir
	e := sessiontest.New(t, sessiontest.Options{Config: &cfg}, ann, bob)
	h, _ := e.Login("ann").OpenFile(ctx, path(t, "/f"), session.Flags{Write: true, Create: true, Truncate: true})
	defer h.Close(ctx)
	if _, err := e.Login("bob").Stat(ctx, path(t, "/f")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestHooksMayRefuse(t *testing.T) {
	e, s := envInMode(t, 0)
	put(s, path(t, "/f"), "x")
	for _, a := range []string{event.PreUpload, event.PreDownload, event.PreDelete} {
		e.Events.Refuse(a, errors.New("no"))
	}
	if err := put(s, path(t, "/g"), "x"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("upload: %v", err)
	}
	if _, err := get(s, path(t, "/f")); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("download: %v", err)
	}
	if err := s.Remove(ctx, path(t, "/f")); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("remove: %v", err)
	}
	if got := content(t, e, "/home/ann", "/f") + content(t, e, "/home/ann", "/g"); got != "x-" {
		t.Errorf("got %q", got)
	}
}

func TestErrorsNameVirtualPathsOnly(t *testing.T) {
	u := sessiontest.User("ann")
	u.VirtualFolders = folderAt("/mnt/x", "secret", "/srv/secret-place", 0)
	s := sessiontest.NewSession(t, sessiontest.Options{}, u)
	_, err := s.OpenFile(ctx, path(t, "/mnt/x/none"), session.Flags{Read: true})
	if err == nil || strings.Contains(err.Error(), "secret-place") || !strings.Contains(err.Error(), "/mnt/x/none") {
		t.Errorf("got %v", err)
	}
}
