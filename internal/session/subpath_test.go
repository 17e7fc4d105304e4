package session_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/local"
)

// SYM-1: whoever has the whole folder may leave a link where another account mounts a part of it.
func TestSubpathThatIsALinkLeadsNowhere(t *testing.T) {
	dir := t.TempDir()
	outside, folder := filepath.Join(dir, "outside"), filepath.Join(dir, "folder")
	for _, d := range []string{outside, folder, filepath.Join(dir, "home"), filepath.Join(folder, "good")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	os.WriteFile(filepath.Join(outside, "secret"), []byte("x"), 0o644)
	os.WriteFile(filepath.Join(folder, "good", "f"), []byte("x"), 0o644)
	if err := os.Symlink(outside, filepath.Join(folder, "bad")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../outside", filepath.Join(folder, "bad2")); err != nil {
		t.Fatal(err)
	}
	for sub, want := range map[string]bool{"bad": false, "bad2": false, "good": true, "new/deep": true} {
		u := sessiontest.User("u")
		u.HomeDir = filepath.Join(dir, "home")
		u.VirtualFolders = folderAt("/m", "f", folder, 0)
		u.VirtualFolders[0].Subpath = sub
		s := sessiontest.NewSession(t, sessiontest.Options{NewFS: func(_ context.Context, st session.Storage) (vfs.FS, error) {
			return local.New(st.Root, local.Options{})
		}}, u)
		var names []string
		var failed error
		for i, err := range s.List(t.Context(), path(t, "/m")) {
			if err != nil {
				failed = err
				continue
			}
			names = append(names, i.Name)
		}
		if (failed == nil) != want {
			t.Errorf("%s: listing gave %v, %v", sub, names, failed)
		}
		if _, err := s.Stat(t.Context(), path(t, "/m/secret")); err == nil {
			t.Errorf("%s: a file outside the folder is seen", sub)
		}
		if sub == "good" && (len(names) != 1 || names[0] != "f") {
			t.Errorf("good: listing gave %v", names)
		}
	}
}
