package session

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/vfs"
)

// StorageOf is the storage of a user, merged with its groups, or of a folder.
func (s *Server) StorageOf(ctx context.Context, key account.CounterKey) (Storage, error) {
	if s.deps.Accounts == nil {
		return Storage{}, errors.New("session: no Accounts to look in")
	}
	if key.Kind == account.KindFolder {
		f, err := s.deps.Accounts.Folder(ctx, key.Name)
		return Storage{Config: &f.Filesystem, Name: f.Name, Root: f.MappedPath}, err
	}
	u, err := s.deps.Accounts.User(ctx, key.Name)
	return Storage{Config: &u.Filesystem, Name: u.Username, Root: u.HomeDir, UID: u.UID, GID: u.GID}, err
}

// Trial is one step of Try.
type Trial struct {
	Step string // open, list, write, read or delete
	Took time.Duration
	Err  error // as the storage gave it: it may name hosts and paths
}

// triedEntries is how much of a listing is read.
const triedEntries = 10

// tryCleanup bounds the removal of a probe after the caller's time is over.
const tryCleanup = 10 * time.Second

// Try opens a storage of its own, lists its root and, with write, writes a small file there, reads it back and removes
// it. It ends with the first step that fails, but what was written is removed. ctx bounds it.
func (s *Server) Try(ctx context.Context, st Storage, write bool) (steps []Trial) {
	step := func(name string, f func() error) bool {
		begin := time.Now()
		err := f()
		if err == nil {
			err = ctx.Err()
		}
		steps = append(steps, Trial{name, time.Since(begin), err})
		return err == nil
	}
	var tree vfs.FS
	if !step("open", func() (err error) { tree, err = s.deps.NewFS(ctx, st); return err }) {
		return steps
	}
	defer tree.Close()
	listed := step("list", func() error {
		n := 0
		for i, err := range tree.List(ctx, vfs.Root) {
			if err != nil && i.Name == "" { // a bad entry is none of the storage
				return err
			}
			if n++; n == triedEntries {
				break
			}
		}
		return nil
	})
	if !listed || !write {
		return steps
	}
	name, err := vfs.Root.Child(".gantry-check-" + rand.Text())
	if err != nil {
		steps = append(steps, Trial{Step: "write", Err: err})
		return steps
	}
	data := []byte("Gantry wrote this to try the storage, and removes it at once. " + rand.Text() + "\n")
	if !step("write", func() error { return writeProbe(ctx, tree, name, data, st) }) {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), tryCleanup)
		defer cancel()
		tree.Remove(clean, name) // there may be nothing
		return steps
	}
	step("read", func() error { return readProbe(ctx, tree, name, data) })
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), tryCleanup)
	defer cancel()
	step("delete", func() error { return tree.Remove(clean, name) })
	return steps
}

func writeProbe(ctx context.Context, tree vfs.FS, name vfs.Path, data []byte, st Storage) error {
	w, err := tree.Create(ctx, name, vfs.OpenMode{Truncate: true, Missing: true, UID: st.UID, GID: st.GID})
	if err != nil {
		return err
	}
	if _, err := w.WriteAt(data, 0); err != nil {
		w.Abort(context.WithoutCancel(ctx))
		return err
	}
	if _, err := w.Commit(ctx); err != nil {
		w.Abort(context.WithoutCancel(ctx))
		return err
	}
	return nil
}

// errOtherBytes: what was read is not what was written.
var errOtherBytes = errors.New("the storage gives other bytes than were written")

func readProbe(ctx context.Context, tree vfs.FS, name vfs.Path, data []byte) error {
	r, err := tree.Open(ctx, name)
	if err != nil {
		return err
	}
	defer r.Close()
	got := make([]byte, len(data))
	if n, err := r.ReadAt(got, 0); n < len(got) {
		return err // which is not nil then
	}
	if !bytes.Equal(got, data) {
		return errOtherBytes
	}
	return nil
}
