package sqlstore

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/account/accounttest"
)

// filled makes a database with users and a folder, at an older version of the schema.
func filled(t *testing.T, version int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gantry.db")
	s := open(t, path)
	for i := range 3 {
		u := accounttest.User(fmt.Sprint("u", i))
		if err := s.AddUser(t.Context(), &u); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SetUsage(t.Context(), account.CounterKey{Kind: account.KindUser, Name: "u1"}, 4, 40); err != nil {
		t.Fatal(err)
	}
	if err := s.AddRecord(t.Context(), account.KindRole, []byte(`{"name":"r"}`)); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := Revert(t.Context(), Config{Path: path, Prefix: "p_"}, version); err != nil {
		t.Fatal(err)
	}
	return path
}

func versionOf(t *testing.T, path string) int {
	t.Helper()
	e, err := openEngine(t.Context(), Config{Path: path, Prefix: "p_"})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	v, err := e.version(t.Context(), e.r)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func backups(t *testing.T, path string) []string {
	t.Helper()
	l, err := filepath.Glob(path + ".v*.bak")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// intact checks that what filled stored is there.
func intact(t *testing.T, path string) {
	t.Helper()
	s := open(t, path)
	defer s.Close()
	ids := map[int64]bool{}
	for i := range 3 {
		u, err := s.User(t.Context(), fmt.Sprint("u", i))
		if err != nil {
			t.Fatal(err)
		}
		ids[u.ID] = true
	}
	u := accounttest.User("later")
	if err := s.AddUser(t.Context(), &u); err != nil {
		t.Fatal(err)
	}
	later, _ := s.User(t.Context(), "later")
	ids[later.ID] = true
	if len(ids) != 4 || ids[0] {
		t.Errorf("ids of four users: %v", ids)
	}
	if u, err := s.Usage(t.Context(), account.CounterKey{Kind: account.KindUser, Name: "u1"}); err != nil || u.Files != 4 {
		t.Errorf("use of u1: %+v, %v", u, err)
	}
	if _, err := s.Record(t.Context(), account.KindRole, "r"); err != nil {
		t.Error(err)
	}
}

func TestSchemaGoesForthAndBack(t *testing.T) {
	path := filled(t, 1)
	if v := versionOf(t, path); v != 1 {
		t.Fatalf("after revert: version %d", v)
	}
	made := backups(t, path)
	if len(made) != 1 || !strings.Contains(made[0], fmt.Sprintf(".v%d-", Newest())) {
		t.Fatalf("backups: %v", made)
	}
	if st, err := os.Stat(made[0]); err != nil || st.Mode().Perm() != 0o600 || st.Size() == 0 {
		t.Errorf("the backup: %v, %v", st, err)
	}
	intact(t, path) // opening brings it up to date
	if v := versionOf(t, path); v != Newest() {
		t.Errorf("after opening: version %d", v)
	}
	if l := backups(t, path); len(l) != 2 {
		t.Errorf("backups: %v", l)
	}
	for _, to := range []int{0, -1, Newest() + 1} {
		if _, err := Revert(t.Context(), Config{Path: path, Prefix: "p_"}, to); err == nil {
			t.Errorf("reverted to %d", to)
		}
	}
	if _, err := Revert(t.Context(), Config{Path: path + "x"}, 1); err == nil {
		t.Error("reverted a database that is not there")
	}
	if _, err := os.Stat(path + "x"); err == nil {
		t.Error("revert made a database")
	}
}

func TestOldBackupsAreRemoved(t *testing.T) {
	path := filled(t, 1)
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for range 4 {
		for _, to := range []int{2, 1} {
			at = at.Add(time.Hour)
			cfg := Config{Path: path, Prefix: "p_", Rules: account.DefaultRules(), Now: func() time.Time { return at }}
			if to == 1 {
				if _, err := Revert(t.Context(), cfg, 1); err != nil {
					t.Fatal(err)
				}
				continue
			}
			s, err := Open(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			s.Close()
		}
	}
	if l := backups(t, path); len(l) != keptBackups {
		t.Errorf("%d backups, want %d", len(l), keptBackups)
	}
}

func TestNewerSchemaIsRefusedUntouched(t *testing.T) {
	path := filled(t, 2)
	e, err := openEngine(t.Context(), Config{Path: path, Prefix: "p_"})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.write(t.Context(), func(t *tx) error { _, err := t.exec(`INSERT INTO {}gantry_schema VALUES (99, 0)`); return err }); err != nil {
		t.Fatal(err)
	}
	e.Close()
	if _, err := Open(t.Context(), Config{Path: path, Prefix: "p_"}); err == nil || !strings.Contains(err.Error(), "version 99 is newer") {
		t.Errorf("got %v", err)
	}
	if _, err := Revert(t.Context(), Config{Path: path, Prefix: "p_"}, 1); err == nil {
		t.Error("a schema from the future was reverted")
	}
	if v := versionOf(t, path); v != 99 {
		t.Errorf("version %d", v)
	}
}

// A process that is killed in the middle of a step leaves the old schema, and the next one goes on.
func TestKillInTheMiddleOfAStep(t *testing.T) {
	if path := os.Getenv("GANTRY_TEST_KILLED_DB"); path != "" {
		Open(context.Background(), Config{Path: path, Prefix: "p_", afterStep: func(int) {
			p, _ := os.FindProcess(os.Getpid())
			p.Kill()
			select {} // until the signal comes
		}})
		t.Fatal("not killed")
	}
	path := filled(t, 1)
	for range 3 {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestKillInTheMiddleOfAStep$")
		cmd.Env = append(os.Environ(), "GANTRY_TEST_KILLED_DB="+path)
		if out, err := cmd.CombinedOutput(); err == nil || cmd.ProcessState.ExitCode() != -1 {
			t.Fatalf("the child was not killed: %v\n%s", err, out)
		}
		if v := versionOf(t, path); v != 1 {
			t.Fatalf("after a kill: version %d, want the old one", v)
		}
	}
	intact(t, path)
	if v := versionOf(t, path); v != Newest() {
		t.Errorf("version %d", v)
	}
}
