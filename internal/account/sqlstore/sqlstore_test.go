package sqlstore

import (
	"bytes"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/account/accounttest"
)

func open(t *testing.T, path string) account.Store {
	t.Helper()
	s, err := Open(t.Context(), Config{Path: path, Prefix: "p_", Rules: account.DefaultRules()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestFileKeepsTheContract(t *testing.T) {
	accounttest.Run(t, func(t *testing.T) account.Store { return open(t, filepath.Join(t.TempDir(), "a b%20c?.db")) })
}

func TestRecordsSurviveReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gantry.db")
	s, err := Open(t.Context(), Config{Path: path, Rules: account.DefaultRules()})
	if err != nil {
		t.Fatal(err)
	}
	u := accounttest.User("a")
	if err := s.AddUser(t.Context(), &u); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s, err = Open(t.Context(), Config{Path: path, Rules: account.DefaultRules(), ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.User(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode of the database: %v, %v; it holds password hashes", st.Mode(), err)
	}
}

func TestForeignDatabaseIsRefusedUntouched(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sftpgo.db")
	db, err := sql.Open(driverName, "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`CREATE TABLE users (id INTEGER)`); err != nil {
		t.Fatal(err)
	}
	db.Close()
	before, _ := os.ReadFile(path)
	_, err = Open(t.Context(), Config{Path: path})
	if !errors.Is(err, account.ErrForeignDB) || !strings.Contains(err.Error(), "gantry load") {
		t.Errorf("got %v, want ErrForeignDB and how to import", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the foreign database was changed")
	}
}

func TestDamagedOrWrongFilesAreRefused(t *testing.T) {
	dir := t.TempDir()
	junk := filepath.Join(dir, "junk.db")
	os.WriteFile(junk, bytes.Repeat([]byte("not a database "), 100), 0o600)
	for name, path := range map[string]string{"junk": junk, "directory": dir, "no directory": filepath.Join(dir, "none", "x.db")} {
		if s, err := Open(t.Context(), Config{Path: path}); err == nil {
			s.Close()
			t.Errorf("%s: opened", name)
		}
	}
	if _, err := Open(t.Context(), Config{Path: filepath.Join(dir, "x.db"), Prefix: "x; DROP"}); err == nil { // SQL-1
		t.Error("a table prefix with SQL in it was taken")
	}
}
