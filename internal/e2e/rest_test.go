//go:build unix

package e2e

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/gantryhq/gantry/internal/account/dbtest"
	"github.com/gantryhq/gantry/internal/e2e/gantrytest"
)

// TestAdministratorsByCurlAlone runs rest.sh on every driver: it prints the same on each. CockroachDB's path runs on
// PostgreSQL, where every other transaction that writes is undone once.
func TestAdministratorsByCurlAlone(t *testing.T) {
	need(t, "curl", "curl")
	var servers dbtest.Servers
	t.Cleanup(servers.Close)
	drivers := []string{"sqlite", "bolt", "memory", "postgresql", "cockroachdb", "mysql"}
	var mu sync.Mutex // guards printed
	printed := map[string]string{}
	t.Run("drivers", func(t *testing.T) {
		for _, driver := range drivers {
			t.Run(driver, func(t *testing.T) {
				t.Parallel()
				args := []string{bin, driver}
				undone := func() int { return 0 }
				switch driver {
				case "postgresql":
					args = append(args, databaseEnv(servers.Postgres(t), servers.Postgres(t).Database(t))...)
				case "mysql":
					args = append(args, databaseEnv(servers.MariaDB(t), servers.MariaDB(t).Database(t))...)
				case "cockroachdb":
					db := servers.Postgres(t)
					name := db.Database(t)
					env := databaseEnv(db, name)
					undone = undoEveryOther(t, db, name, env)
					args = append(args, env...)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 2*gantrytest.Wait)
				defer cancel()
				cmd := exec.CommandContext(ctx, "./rest.sh", args...)
				var said strings.Builder
				cmd.Stderr = &said
				out, err := cmd.Output()
				if err != nil {
					t.Fatalf("%v\n%s\n%s", err, out, said.String())
				}
				got := string(out)
				for _, want := range []string{"POST /setup -> 201", "SFTP: stored", "FTP: stored", "the transfer was cut", "all answers are the same", "PATCH /users/u -> 412"} {
					if !strings.Contains(got, want) {
						t.Errorf("the output lacks %q:\n%s\n%s", want, got, said.String())
					}
				}
				if driver == "cockroachdb" {
					n := undone()
					t.Logf("%d transactions were undone", n)
					if n < 20 {
						t.Errorf("%d transactions were undone, so little was tested", n)
					}
				}
				mu.Lock()
				defer mu.Unlock()
				printed[driver] = got
			})
		}
	})
	for _, driver := range drivers[1:] {
		got, ok := printed[driver]
		if !ok || got == printed[drivers[0]] {
			continue
		}
		g, w := strings.Split(got, "\n"), strings.Split(printed[drivers[0]], "\n")
		i := 0
		for i < min(len(g), len(w)) && g[i] == w[i] {
			i++
		}
		context := func(l []string) string { return strings.Join(l[max(0, i-3):min(len(l), i+3)], "\n") }
		t.Errorf("%s prints %d lines, from line %d on:\n%s\nthan %s prints %d:\n%s", driver, len(g), i+1, context(g), drivers[0], len(w), context(w))
	}
}

// databaseEnv are the settings of a server's database as variables.
func databaseEnv(s *dbtest.Server, name string) []string {
	const section = "GANTRY_DATA_PROVIDER__"
	return []string{section + "HOST=" + s.Host, section + "PORT=" + strconv.Itoa(s.Port), section + "NAME=" + name, section + "USERNAME=" + s.User, section + "PASSWORD=" + s.Password}
}

// undoEveryOther makes a database of Gantry's in which every other transaction that writes is undone with the
// serialization failure 40001, in turns at its first write and at its commit. undone counts them.
func undoEveryOther(t *testing.T, db *dbtest.Server, name string, env []string) (undone func() int) {
	cmd := exec.Command(bin, "initprovider", "-c", t.TempDir())
	cmd.Env = append(append(os.Environ(), "GANTRY_DATA_PROVIDER__DRIVER=cockroachdb"), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("initprovider: %v\n%s", err, out)
	}
	db.Exec(t, name, "ALTER DATABASE "+name+" SET default_transaction_isolation = 'serializable'", "CREATE SEQUENCE undone", // a sequence is not undone
		`CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF txid_current() % 4 = TG_ARGV[0]::int THEN
				PERFORM nextval('undone');
				RAISE EXCEPTION 'a conflict' USING ERRCODE = '40001';
			END IF;
			RETURN NULL;
		END $$`,
		`DO $$ DECLARE name text; BEGIN
			FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = current_schema() LOOP
				EXECUTE format('CREATE TRIGGER undo AFTER INSERT OR UPDATE OR DELETE ON %I FOR EACH STATEMENT EXECUTE FUNCTION undo(0)', name);
				EXECUTE format('CREATE CONSTRAINT TRIGGER late AFTER INSERT OR UPDATE OR DELETE ON %I DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION undo(2)', name);
			END LOOP;
		END $$`)
	return func() (n int) {
		if err := db.Open(t, name).QueryRow("SELECT last_value FROM undone").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
}
