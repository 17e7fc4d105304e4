//go:build unix

package sqlstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/account/accounttest"
	"github.com/gantryhq/gantry/internal/account/dbtest"
)

// servers are the database servers of this test binary.
var servers dbtest.Servers

func TestMain(m *testing.M) {
	code := m.Run()
	servers.Close()
	os.Exit(code)
}

func serverOf(t *testing.T, driver string) *dbtest.Server {
	t.Helper()
	if driver == "mysql" {
		return servers.MariaDB(t)
	}
	return servers.Postgres(t)
}

// configOf names a new database of a server.
func configOf(t *testing.T, driver string) Config {
	t.Helper()
	s := serverOf(t, driver)
	name := s.Database(t)
	if driver == "cockroachdb" { // every transaction is serializable there
		s.Exec(t, "", "ALTER DATABASE "+name+" SET default_transaction_isolation = 'serializable'")
	}
	return Config{Driver: driver, Prefix: "p_", Rules: account.DefaultRules(),
		Server: Server{Host: s.Host, Port: s.Port, Database: name, Username: s.User, Password: s.Password}}
}

func openServer(t *testing.T, cfg Config) account.Store {
	t.Helper()
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// drivers are those of servers. CockroachDB's path runs on PostgreSQL, with every transaction serializable, so that
// conflicts come as they would there.
func drivers() []string { return []string{"postgresql", "cockroachdb", "mysql"} }

func TestServersKeepTheContract(t *testing.T) {
	for _, d := range drivers() {
		t.Run(d, func(t *testing.T) {
			t.Parallel()
			accounttest.Run(t, func(t *testing.T) account.Store { return openServer(t, configOf(t, d)) })
		})
	}
}

// Nodes that start at once on an empty database make the schema once.
func TestNodesStartAtOnce(t *testing.T) {
	for _, d := range drivers() {
		t.Run(d, func(t *testing.T) {
			cfg := configOf(t, d)
			var wg sync.WaitGroup
			for i := range 6 {
				wg.Go(func() {
					s, err := Open(t.Context(), cfg)
					if err != nil {
						t.Errorf("node %d: %v", i, err)
						return
					}
					defer s.Close()
					u := accounttest.User(fmt.Sprint("u", i))
					if err := s.AddUser(t.Context(), &u); err != nil {
						t.Errorf("node %d: %v", i, err)
					}
				})
			}
			wg.Wait()
			s := openServer(t, cfg)
			l, err := s.ListUsers(t.Context(), account.Page{})
			if err != nil || len(l) != 6 {
				t.Errorf("%d users, %v; want 6", len(l), err)
			}
			ids := map[int64]bool{}
			for _, u := range l {
				ids[u.ID] = true
			}
			if len(ids) != 6 {
				t.Errorf("the users share ids: %v", ids)
			}
		})
	}
}

func TestServerSchemaGoesForthAndBack(t *testing.T) {
	for _, d := range drivers() {
		t.Run(d, func(t *testing.T) {
			cfg := configOf(t, d)
			s := openServer(t, cfg)
			u := accounttest.User("a")
			if err := s.AddUser(t.Context(), &u); err != nil {
				t.Fatal(err)
			}
			if from, err := Revert(t.Context(), cfg, 1); err != nil || from != Newest() {
				t.Fatalf("from version %d, %v", from, err)
			}
			keep := cfg
			keep.KeepSchema = true
			if _, err := Open(t.Context(), keep); err == nil || !strings.Contains(err.Error(), "initprovider") {
				t.Errorf("an old schema that may not be changed: got %v", err)
			}
			s = openServer(t, cfg)
			if _, err := s.User(t.Context(), "a"); err != nil {
				t.Error(err)
			}
			if _, err := Open(t.Context(), keep); err != nil {
				t.Errorf("a current schema that may not be changed: %v", err)
			}
		})
	}
}

func TestForeignServerDatabaseIsRefusedUntouched(t *testing.T) {
	for _, d := range []string{"postgresql", "mysql"} {
		t.Run(d, func(t *testing.T) {
			cfg := configOf(t, d)
			s := serverOf(t, d)
			s.Exec(t, cfg.Server.Database, "CREATE TABLE p_users (id INT)", "CREATE TABLE other (id INT)")
			for _, prefix := range []string{"", "p_"} {
				c := cfg
				c.Prefix = prefix
				if _, err := Open(t.Context(), c); !errors.Is(err, account.ErrForeignDB) || !strings.Contains(err.Error(), "gantry load") {
					t.Errorf("prefix %q: got %v, want ErrForeignDB and how to import", prefix, err)
				}
			}
			var tables int
			q := "SELECT count(*) FROM information_schema.tables WHERE table_schema = current_schema()"
			if d == "mysql" {
				q = "SELECT count(*) FROM information_schema.tables WHERE table_schema = database()"
			}
			if err := s.Open(t, cfg.Server.Database).QueryRow(q).Scan(&tables); err != nil || tables != 2 {
				t.Errorf("%d tables, %v: the database was changed", tables, err)
			}
			cfg.Prefix = "mine_" // others may share the database then
			openServer(t, cfg)
		})
	}
}

func TestServersAreShared(t *testing.T) {
	for _, d := range drivers() {
		t.Run(d, func(t *testing.T) {
			t.Parallel()
			accounttest.RunShared(t, func(t *testing.T) (account.Store, account.Store, func(string)) { return pair(t, configOf(t, d)) })
		})
	}
}

func TestFilesAreShared(t *testing.T) {
	accounttest.RunShared(t, func(t *testing.T) (account.Store, account.Store, func(string)) {
		return pair(t, Config{Path: filepath.Join(t.TempDir(), "gantry.db"), Prefix: "p_", Rules: account.DefaultRules()})
	})
}

// pair opens a database twice. kill makes a node's last sign an old one.
func pair(t *testing.T, cfg Config) (a, b account.Store, kill func(string)) {
	e, err := openEngine(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return openServer(t, cfg), openServer(t, cfg), func(node string) {
		if err := e.write(t.Context(), func(t *tx) error {
			n, err := t.exec(`UPDATE {}gantry_nodes SET seen = seen - 3600000 WHERE id = ?`, node)
			if n != 1 {
				return errors.Join(err, fmt.Errorf("there is no node %q", node))
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}
