//go:build unix

package sqlstore

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/account/accounttest"
)

// TestStatementsAreKept: MySQL prepares a statement once for each connection, and a table that changes meanwhile is no
// failure.
func TestStatementsAreKept(t *testing.T) {
	cfg := configOf(t, "mysql")
	cfg.Server.PoolSize = 1
	s := openServer(t, cfg)
	for i := range 3 {
		u := accounttest.User(fmt.Sprint("u", i))
		if err := s.AddUser(t.Context(), &u); err != nil {
			t.Fatal(err)
		}
	}
	db := serverOf(t, "mysql").Open(t, cfg.Server.Database)
	db.SetMaxOpenConns(1)
	count := func(what string) int {
		t.Helper()
		var name, value string
		// Without parameters nothing is prepared for this.
		if err := db.QueryRow("SHOW GLOBAL STATUS LIKE '"+what+"'").Scan(&name, &value); err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(value)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	read := func() {
		t.Helper()
		if l, err := s.ListUsers(t.Context(), account.Page{Limit: 2}); err != nil || len(l) != 2 {
			t.Fatalf("%d users, %v", len(l), err)
		}
	}
	read()
	prepared, executed := count("Com_stmt_prepare"), count("Com_stmt_execute")
	for range 50 {
		read()
	}
	if p, x := count("Com_stmt_prepare")-prepared, count("Com_stmt_execute")-executed; p > 5 || x < 50 {
		t.Errorf("50 lists prepared %d statements and executed %d", p, x)
	}
	serverOf(t, "mysql").Exec(t, cfg.Server.Database, "ALTER TABLE p_gantry_users ADD COLUMN later INT")
	read()
}

func TestKeptStatementsAreBounded(t *testing.T) {
	cfg := configOf(t, "mysql")
	cfg.Server.PoolSize = 1
	e, err := openEngine(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for i := range 2 * keptStatements {
		var n int
		if err := e.r.QueryRowContext(t.Context(), fmt.Sprintf("SELECT ? + %d", i), 1).Scan(&n); err != nil || n != i+1 {
			t.Fatalf("statement %d: %d, %v", i, n, err)
		}
		if _, err := e.r.QueryContext(t.Context(), "SELECT none FROM none WHERE x = ?", i); err == nil {
			t.Fatal("a bad statement ran")
		}
	}
	c, err := e.r.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Raw(func(conn any) error {
		if n := len(conn.(*preparedConn).kept); n == 0 || n > keptStatements {
			t.Errorf("%d statements are kept, want at most %d", n, keptStatements)
		}
		return nil
	})
}
