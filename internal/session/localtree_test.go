//go:build linux

package session_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/event"
	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/local"
)

// localEnv has the user u, changed by change, with a home that it gives.
func localEnv(t *testing.T, change func(u *account.User)) (*sessiontest.Env, string) {
	t.Helper()
	u := sessiontest.User("u")
	u.HomeDir = t.TempDir()
	if change != nil {
		change(&u)
	}
	cfg := session.DefaultConfig()
	cfg.TrackQuota = session.TrackAll
	return sessiontest.New(t, sessiontest.Options{Config: &cfg, NewFS: func(_ context.Context, st session.Storage) (vfs.FS, error) {
		if err := os.MkdirAll(st.Root, 0o755); err != nil {
			return nil, err
		}
		return local.New(st.Root, local.Options{})
	}}, u), u.HomeDir
}

func vpath(t *testing.T, s string) vfs.Path {
	t.Helper()
	p, err := vfs.ParsePath(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// HOOK-2: a program gets a tree only where nothing that it does not ask could refuse.
func TestLocalTreeAsksForEverythingFirst(t *testing.T) {
	e, home := localEnv(t, func(u *account.User) {
		six := []string{"list", "download", "upload", "overwrite", "create_dirs", "delete"}
		u.Permissions = map[string][]string{
			"/": {"*"}, "/six": six, "/read": {"list", "download"}, "/parts": append([]string{"delete_files", "delete_dirs"}, six[:5]...),
			"/files": append([]string{"delete_files"}, six[:5]...), "/deep/below/it": {"list"}, "/globs/*/x": {"list"},
		}
		u.Filters.FilePatterns = []account.PatternsFilter{{Path: "/patterns/below", DeniedPatterns: []string{"*.x"}}}
		u.VirtualFolders = []account.VirtualFolder{{VirtualPath: "/mounts/m", Folder: account.Folder{Name: "f", MappedPath: t.TempDir()}}}
	})
	for _, d := range []string{"six", "read", "parts", "files", "deep/below/it", "globs/a", "patterns/below/deeper", "mounts", "free"} {
		if err := os.MkdirAll(filepath.Join(home, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"out": t.TempDir(), "up": "../x", "in": "free"} {
		if err := os.Symlink(target, filepath.Join(home, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(home, "free/file"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := e.Login("u")
	write, all := session.Use{Write: true}, session.Use{Write: true, Chmod: true, Chown: true, Chtimes: true}
	for _, tt := range []struct {
		path string
		use  session.Use
		want string // in the refusal; "" is none
	}{
		{"/six", write, ""}, {"/six", all, "chmod"}, {"/six", session.Use{Write: true, Chtimes: true}, "chtimes"}, {"/six", session.Use{Write: true, Chown: true}, "chown"},
		{"/read", session.Use{}, ""}, {"/read", write, "upload"}, {"/parts", write, ""}, {"/files", write, "delete"},
		{"/free", all, ""}, {"/free", session.Use{Named: true}, ""}, {"/free/file", session.Use{Named: true}, ""}, {"/in", all, ""},
		{"/deep", session.Use{}, "download"}, {"/deep/below", session.Use{}, "download"}, {"/globs", session.Use{}, "download"}, {"/globs/a", session.Use{}, "download"},
		{"/patterns", session.Use{}, "patterns"}, {"/patterns/below", session.Use{}, "patterns"}, {"/patterns/below/deeper", session.Use{}, "patterns"},
		{"/mounts", session.Use{}, "virtual folder"}, {"/mounts/m", session.Use{}, ""}, {"/mounts/m", session.Use{Named: true}, "by its name"},
		{"/", session.Use{}, "download"},
	} {
		tree, err := s.LocalTree(t.Context(), vpath(t, tt.path), tt.use)
		if err == nil {
			tree.Drop()
		}
		r, refused := errors.AsType[*session.Refusal](err)
		if tt.want == "" && err != nil || tt.want != "" && (!refused || !strings.Contains(r.Text, tt.want) || !errors.Is(err, fs.ErrPermission)) {
			t.Errorf("%s %+v: %v, want %q", tt.path, tt.use, err, tt.want)
		}
	}
	for path, want := range map[string]error{"/free/none": fs.ErrNotExist, "/free/file": vfs.ErrNotDir, "/out": fs.ErrPermission, "/up": fs.ErrPermission} {
		if tree, err := s.LocalTree(t.Context(), vpath(t, path), write); !errors.Is(err, want) {
			t.Errorf("%s: %v, %v, want %v", path, tree, err, want)
		}
	}
	if got := e.Events.Take(); len(got) != 0 {
		t.Errorf("events of programs that never ran: %+v", got)
	}
	if s := sessiontest.NewSession(t, sessiontest.Options{}, sessiontest.User("m")); true { // in memory
		if _, err := s.LocalTree(t.Context(), vpath(t, "/"), session.Use{}); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("storage in memory: %v", err)
		}
	}
}

// What a program did is counted when it has ended, its bytes while they pass.
func TestLocalTreeCountsAndLimits(t *testing.T) {
	e, home := localEnv(t, func(u *account.User) {
		u.QuotaSize, u.QuotaFiles = 1000, 10
		u.DownloadDataTransfer = 1
	})
	s := e.Login("u")
	tree, err := s.LocalTree(t.Context(), vpath(t, "/"), session.Use{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	if tree.Room != 1000 || !tree.Dir || tree.Begin != tree.Root {
		t.Errorf("%+v", tree)
	}
	if err := os.WriteFile(filepath.Join(home, "new"), make([]byte, 700), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(tree.Pass(600, true), tree.Pass(400, true), tree.Pass(1<<20, false)); err != nil {
		t.Error(err)
	}
	if err := tree.Pass(1, true); !errors.Is(err, session.ErrQuota) {
		t.Errorf("more than the quota: %v", err)
	}
	if err := tree.Pass(1, false); !errors.Is(err, session.ErrReadQuota) {
		t.Errorf("more than the download limit: %v", err)
	}
	if i := e.Server.Sessions()[0]; len(i.Transfers) != 1 || i.Transfers[0].Operation != "upload" || i.Transfers[0].Bytes != 1000+1<<20 {
		t.Errorf("shown as %+v", i.Transfers)
	}
	if err := tree.Close(t.Context(), "rsync", session.ErrQuota); err != nil {
		t.Error(err)
	}
	if err := tree.Pass(1, true); err == nil {
		t.Error("bytes pass after the end")
	}
	got := e.Events.Take()
	if len(got) != 1 || got[0].Action != event.SSHCommand || got[0].SSHCmd != "rsync" || got[0].Status != event.Quota || got[0].Path != home || got[0].VirtualPath != "/" {
		t.Errorf("events %+v", got)
	}
	if st, err := s.StatFS(t.Context(), vpath(t, "/")); err != nil || st.Avail*st.BlockSize > 300 {
		t.Errorf("room %+v, %v after 700 of 1000 bytes", st, err)
	}
	// The next one finds what is left; one without room is refused before it begins.
	if tree, err = s.LocalTree(t.Context(), vpath(t, "/"), session.Use{Write: true}); err != nil {
		t.Fatal(err)
	}
	if tree.Room != 300 {
		t.Errorf("room %d, want 300", tree.Room)
	}
	os.WriteFile(filepath.Join(home, "more"), make([]byte, 300), 0o644)
	if err := tree.Close(t.Context(), "rsync", nil); err != nil {
		t.Error(err)
	}
	if _, err := s.LocalTree(t.Context(), vpath(t, "/"), session.Use{Write: true}); !errors.Is(err, session.ErrQuota) {
		t.Errorf("a full account: %v", err)
	}
	// The end of the session stops what passes.
	if tree, err = s.LocalTree(t.Context(), vpath(t, "/"), session.Use{}); err != nil {
		t.Fatal(err)
	}
	e.Server.KillUser("u", session.ErrKilled)
	if err := tree.Pass(1, true); !errors.Is(err, session.ErrKilled) {
		t.Errorf("after the kill: %v", err)
	}
	tree.Drop()
}
