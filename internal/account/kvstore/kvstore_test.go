package kvstore

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/account/accounttest"
	"github.com/gantryhq/gantry/internal/account/recordstore"
)

func config() recordstore.Config { return recordstore.Config{Rules: account.DefaultRules()} }

func TestMemoryKeepsTheContract(t *testing.T) {
	accounttest.Run(t, func(*testing.T) account.Store { return Memory(config()) })
}

func TestBoltKeepsTheContract(t *testing.T) {
	accounttest.Run(t, func(t *testing.T) account.Store {
		s, err := Open(t.Context(), filepath.Join(t.TempDir(), "gantry.bolt"), false, config())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	})
}

func TestRecordsSurviveReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gantry.bolt")
	s, err := Open(t.Context(), path, false, config())
	if err != nil {
		t.Fatal(err)
	}
	u := accounttest.User("a")
	if err := s.AddUser(t.Context(), &u); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), path, false, config())
	if err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("a second server on the file: got %v", err)
	}
	s.Close()
	if s, err = Open(t.Context(), path, true, config()); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.User(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if err := s.DeleteUser(t.Context(), "a"); err == nil {
		t.Error("a file that was opened to be read was written")
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode of the database: %v, %v; it holds password hashes", st.Mode(), err)
	}
}

func TestForeignFilesAreRefusedUntouched(t *testing.T) {
	dir := t.TempDir()
	foreign, newer, junk := filepath.Join(dir, "foreign.db"), filepath.Join(dir, "newer.db"), filepath.Join(dir, "junk.db")
	for path, name := range map[string]string{foreign: "users", newer: metaBucket} {
		d, err := bolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = d.Update(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucket([]byte(name))
			if err == nil {
				err = b.Put(layoutKey, []byte{0, 0, 0, 0, 0, 0, 0, 9})
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		d.Close()
	}
	os.WriteFile(junk, bytes.Repeat([]byte("not a database "), 1000), 0o600)
	for path, want := range map[string]string{foreign: "gantry load", newer: "layout 9", junk: "cannot be opened", dir: "is not a file"} {
		before, _ := os.ReadFile(path)
		_, err := Open(t.Context(), path, false, config())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q in it", path, err, want)
		}
		if path == foreign && !errors.Is(err, account.ErrForeignDB) {
			t.Errorf("got %v, want ErrForeignDB", err)
		}
		if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
			t.Errorf("%s was changed", path)
		}
	}
}

// A reader sees one state while others write, and a write that fails leaves nothing.
func TestMemoryTransactions(t *testing.T) {
	m := &memory{}
	set := func(v string) func(txn) error {
		return func(t txn) error { return t.bucket("b").put([]byte("k"), []byte(v)) }
	}
	if err := m.update(set("1")); err != nil {
		t.Fatal(err)
	}
	m.view(func(r txn) error {
		b := r.bucket("b")
		if err := m.update(set("2")); err != nil {
			t.Error(err)
		}
		if got := b.get([]byte("k")); string(got) != "1" {
			t.Errorf("a reader saw a later write: %q", got)
		}
		return nil
	})
	fail := errors.New("no")
	if err := m.update(func(w txn) error { set("3")(w); return fail }); err != fail {
		t.Errorf("got %v", err)
	}
	m.view(func(r txn) error {
		if got := r.bucket("b").get([]byte("k")); string(got) != "2" {
			t.Errorf("after a failed write: %q, want 2", got)
		}
		return nil
	})
}
