package session_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"testing"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
	"github.com/gantryhq/gantry/vfs"
)

func path(t testing.TB, s string) vfs.Path {
	t.Helper()
	p, err := vfs.ParsePath(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// put writes a whole file as SFTP clients do.
func put(s *session.Session, p vfs.Path, data string) error {
	h, err := s.OpenFile(context.Background(), p, session.Flags{Write: true, Create: true, Truncate: true})
	if err != nil {
		return err
	}
	_, werr := h.WriteAt([]byte(data), 0)
	if err := h.Close(context.Background()); err != nil {
		return err
	}
	return werr
}

func get(s *session.Session, p vfs.Path) (string, error) {
	h, err := s.OpenFile(context.Background(), p, session.Flags{Read: true})
	if err != nil {
		return "", err
	}
	defer h.Close(context.Background())
	data, err := io.ReadAll(io.NewSectionReader(h, 0, 1<<30))
	return string(data), err
}

func names(s *session.Session, p vfs.Path) (list []string, err error) {
	for i, e := range s.List(context.Background(), p) {
		if e != nil {
			err = e
			continue
		}
		list = append(list, i.Name)
	}
	return list, err
}

func TestPutGetListRenameRemove(t *testing.T) {
	ctx := context.Background()
	for _, mode := range []int{0, 1, 2} {
		cfg := session.DefaultConfig()
		cfg.UploadMode = mode
		s := sessiontest.NewSession(t, sessiontest.Options{Config: &cfg}, sessiontest.User("ann"))
		if err := s.Mkdir(ctx, path(t, "/d"), vfs.Attr{}); err != nil {
			t.Fatal(err)
		}
		if err := put(s, path(t, "/d/a"), "hello"); err != nil {
			t.Fatalf("mode %d: %v", mode, err)
		}
		if got, err := get(s, path(t, "/d/a")); got != "hello" || err != nil {
			t.Fatalf("mode %d: got %q, %v", mode, got, err)
		}
		if err := s.Rename(ctx, path(t, "/d/a"), path(t, "/b"), false); err != nil {
			t.Fatal(err)
		}
		if l, err := names(s, path(t, "/")); len(l) != 2 || err != nil {
			t.Fatalf("got %q, %v", l, err)
		}
		if err := s.Copy(ctx, path(t, "/b"), path(t, "/d/c"), false); err != nil {
			t.Fatal(err)
		}
		if err := s.RemoveAll(ctx, path(t, "/d")); err != nil {
			t.Fatal(err)
		}
		if err := s.Remove(ctx, path(t, "/b")); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Stat(ctx, path(t, "/b")); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("got %v", err)
		}
	}
}
