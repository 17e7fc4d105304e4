package session_test

import (
	"context"
	"testing"

	"github.com/gantryhq/gantry/internal/session"
	"github.com/gantryhq/gantry/internal/session/sessiontest"
	"github.com/gantryhq/gantry/vfs"
	"github.com/gantryhq/gantry/vfs/mem"
)

// wholeFS is a storage whose uploads are whole or nothing.
type wholeFS struct{ *mem.FS }

func (w wholeFS) Describe(name vfs.Path) vfs.Description {
	d := w.FS.Describe(name)
	d.Whole = true
	return d
}
func (w wholeFS) Close() error { return nil }

// TestWholeStorages: a storage that knows no partial files keeps the old content in every upload mode, and
// nothing of a lost upload is published.
func TestWholeStorages(t *testing.T) {
	for mode := range 3 {
		tree := wholeFS{mem.New(mem.Options{})}
		cfg := session.DefaultConfig()
		cfg.UploadMode, cfg.TrackQuota = mode, session.TrackAll
		e := sessiontest.New(t, sessiontest.Options{Config: &cfg, NewFS: func(context.Context, session.Storage) (vfs.FS, error) { return tree, nil }}, sessiontest.User("ann"))
		s := e.Login("ann")
		for _, old := range []string{"", "old"} {
			p := path(t, "/f"+old)
			if old != "" {
				if err := put(s, p, old); err != nil {
					t.Fatal(err)
				}
			}
			h, err := s.OpenFile(ctx, p, session.Flags{Write: true, Create: true, Truncate: true})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := h.WriteAt([]byte("newer"), 0); err != nil {
				t.Fatal(err)
			}
			if i, err := s.Stat(ctx, p); err != nil || i.Size != 5 {
				t.Errorf("mode %d: stat of the upload: %d, %v", mode, i.Size, err)
			}
			h.Abort(ctx, errLost)
			i, err := tree.Stat(ctx, p)
			if old == "" && err == nil || old != "" && (err != nil || i.Size != 3) {
				t.Errorf("mode %d: after the loss of an upload over %q: %d bytes, %v", mode, old, i.Size, err)
			}
		}
	}
}
