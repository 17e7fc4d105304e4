// Package sqlstore keeps account records in a SQL database: one JSON document for each record, with its key,
// counters and references in columns of their own. SQLite, PostgreSQL, CockroachDB and MySQL or MariaDB differ by a
// dialect.
//
// Of a SQLite file one connection writes (BEGIN IMMEDIATE), a few read; the journal is a WAL, so that readers never
// wait and other processes (gantry load, gantry dump) may work on the same file. On a server a writer of records locks
// one row, so that records are written one after the other there too, whichever node writes: what was looked up before
// a write still holds. What only counts (WriteRows) takes no such lock. A transaction that the server undid because of
// another one is run again. Only parameterised statements carry values (SQL-1); the table prefix is checked at Open.
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/account/recordstore"
)

// Config says which database to open.
type Config struct {
	Driver string // sqlite (or empty), postgresql, cockroachdb or mysql
	Path   string // of SQLite's file
	Server Server // of the others

	Prefix     string // of the tables' names: letters, digits and _
	Node       string // names this process in change rows
	ReadOnly   bool   // open an existing database and change nothing
	KeepSchema bool   // refuse a schema that is not current
	Rules      account.Rules
	Now        func() time.Time // nil means time.Now

	afterStep func(version int) // tests end the process here
}

// engine implements recordstore.Engine.
type engine struct {
	cfg     Config
	d       *dialect
	w, r    *sql.DB  // one and the same for a server
	queries sync.Map // from a statement to its form in the dialect
	asked   atomic.Int64
}

// queryer is a transaction, a connection or a pool.
type queryer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

var prefixRE = regexp.MustCompile(`^[A-Za-z0-9_]*$`)

// Open opens the database, made if it is missing, and brings its schema up to date. A database that some
// other program made is refused untouched with account.ErrForeignDB.
func Open(ctx context.Context, cfg Config) (*recordstore.Store, error) {
	e, err := openEngine(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := e.migrate(ctx); err != nil {
		e.Close()
		return nil, fmt.Errorf("sqlstore: %s: %w", e.where(), err)
	}
	return recordstore.New(e, recordstore.Config{Rules: cfg.Rules, Node: cfg.Node, Now: cfg.Now}), nil
}

// openEngine opens the database without looking at its schema.
func openEngine(ctx context.Context, cfg Config) (*engine, error) {
	if !prefixRE.MatchString(cfg.Prefix) {
		return nil, fmt.Errorf("sqlstore: table prefix %q: only letters, digits and _ may stand in it", cfg.Prefix)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	e := &engine{cfg: cfg}
	switch cfg.Driver {
	case "", "sqlite":
		e.d = sqliteDialect()
		if err := e.openFile(ctx); err != nil {
			return nil, err
		}
		return e, nil
	case "postgresql":
		e.d = postgresDialect()
	case "cockroachdb":
		e.d = cockroachDialect()
	case "mysql":
		e.d = mysqlDialect()
	default:
		return nil, fmt.Errorf("sqlstore: there is no driver %q", cfg.Driver)
	}
	db, err := cfg.Server.open(e.d)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: %s: %w", e.where(), err)
	}
	e.w, e.r = db, db
	if err := e.checkServerOwner(ctx); err != nil {
		db.Close()
		return nil, fmt.Errorf("sqlstore: %s: %w", e.where(), err)
	}
	return e, nil
}

// where names the database for people, without what is secret.
func (e *engine) where() string {
	s := &e.cfg.Server
	switch {
	case !e.d.server:
		return e.cfg.Path
	case s.ConnectionString != "":
		return e.d.name + " by data_provider.connection_string"
	case s.Port != 0:
		return fmt.Sprintf("%s %q at %s port %d", e.d.name, s.Database, s.Host, s.Port)
	}
	return fmt.Sprintf("%s %q at %s", e.d.name, s.Database, s.Host)
}

func (e *engine) openFile(ctx context.Context) error {
	path, err := filepath.Abs(e.cfg.Path)
	if err != nil {
		return fmt.Errorf("sqlstore: %w", err)
	}
	st, err := os.Stat(path)
	switch {
	case err == nil && !st.Mode().IsRegular():
		return fmt.Errorf("sqlstore: %s is not a file", path)
	case err == nil && st.Size() > 0:
		// Look before anything is written: switching the journal changes the file.
		if err := e.checkOwner(ctx, path); err != nil {
			return err
		}
	case errors.Is(err, os.ErrNotExist) && e.cfg.ReadOnly:
		return fmt.Errorf("sqlstore: %w", err)
	case errors.Is(err, os.ErrNotExist):
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // it holds password hashes
		if err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("sqlstore: make the database: %w", err)
		}
		f.Close()
	case err != nil:
		return fmt.Errorf("sqlstore: %w", err)
	}
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + pragmas
	if e.w, err = sql.Open(driverName, dsn); err != nil {
		return fmt.Errorf("sqlstore: %w", err)
	}
	e.w.SetMaxOpenConns(1)
	if e.r, err = sql.Open(driverName, strings.Replace(dsn, "_txlock=immediate", "_txlock=deferred", 1)); err != nil {
		e.w.Close()
		return fmt.Errorf("sqlstore: %w", err)
	}
	e.r.SetMaxOpenConns(4)
	return nil
}

// checkOwner refuses a database that has tables but not ours.
func (e *engine) checkOwner(ctx context.Context, path string) error {
	db, err := sql.Open(driverName, "file:"+(&url.URL{Path: path}).EscapedPath()+"?mode=ro")
	if err != nil {
		return fmt.Errorf("sqlstore: %w", err)
	}
	defer db.Close()
	var tables, ours int
	err = db.QueryRowContext(ctx, `SELECT count(*), coalesce(sum(name = ?), 0) FROM sqlite_master WHERE type = 'table'`, e.cfg.Prefix+"gantry_schema").Scan(&tables, &ours)
	if err != nil {
		return fmt.Errorf("sqlstore: %s cannot be read as a database: %w", path, err)
	}
	if tables > 0 && ours == 0 {
		return fmt.Errorf("sqlstore: %s: %w; name another file in data_provider.name and import the accounts from a dump with `gantry load FILE` or `gantry serve --loaddata-from FILE`", path, account.ErrForeignDB)
	}
	return nil
}

// Ping implements recordstore.Engine.
func (e *engine) Ping(ctx context.Context) error {
	var one int
	return told(ctx, e.r.QueryRowContext(ctx, "SELECT 1").Scan(&one))
}

// Close implements recordstore.Engine.
func (e *engine) Close() error {
	if e.r == e.w {
		return e.w.Close()
	}
	return errors.Join(e.r.Close(), e.w.Close())
}

// Compact rewrites a file without what was removed.
func (e *engine) Compact(ctx context.Context) error {
	if e.d.server {
		return nil
	}
	if _, err := e.w.ExecContext(ctx, "VACUUM"); err != nil {
		return fmt.Errorf("sqlstore: %w", err)
	}
	_, err := e.w.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	return err
}

// Transactions is how many were begun, tries included.
func (e *engine) Transactions() int64 { return e.asked.Load() }

// Read implements recordstore.Engine.
func (e *engine) Read(ctx context.Context, f func(recordstore.Tx) error) error {
	return e.read(ctx, func(t *tx) error { return f(t) })
}

func (e *engine) read(ctx context.Context, f func(*tx) error) error {
	return told(ctx, again(ctx, func() error {
		e.asked.Add(1)
		opts := &sql.TxOptions{ReadOnly: true}
		if e.d.loose {
			opts.Isolation = sql.LevelRepeatableRead
		}
		t, err := e.r.BeginTx(ctx, opts)
		if err != nil {
			return fmt.Errorf("sqlstore: begin: %w", err)
		}
		defer t.Rollback()
		return f(&tx{ctx: ctx, queryer: t, e: e})
	}))
}

// Write implements recordstore.Engine: one writer of records at a time, on all nodes.
func (e *engine) Write(ctx context.Context, f func(recordstore.Tx) error) error {
	return e.write(ctx, func(t *tx) error {
		if e.d.server {
			var name string
			if err := t.row(`SELECT name FROM {}gantry_lock WHERE name = 'records'{lock}`).Scan(&name); err != nil {
				return fmt.Errorf("sqlstore: lock: %w", err)
			}
		}
		return f(t)
	})
}

// WriteRows implements recordstore.Engine.
func (e *engine) WriteRows(ctx context.Context, f func(recordstore.Tx) error) error {
	return e.write(ctx, func(t *tx) error { return f(t) })
}

func (e *engine) write(ctx context.Context, f func(*tx) error) error {
	return told(ctx, again(ctx, func() error {
		e.asked.Add(1)
		var opts *sql.TxOptions
		if e.d.loose {
			opts = &sql.TxOptions{Isolation: sql.LevelReadCommitted}
		}
		t, err := e.w.BeginTx(ctx, opts)
		if err != nil {
			return fmt.Errorf("sqlstore: begin: %w", err)
		}
		x := &tx{ctx: ctx, queryer: t, e: e}
		err = f(x)
		if err == nil && x.changed && e.d.advisory {
			_, err = x.exec(`SELECT pg_notify(?, '')`, e.channel())
		}
		if err != nil {
			t.Rollback()
			return err
		}
		if err := t.Commit(); err != nil {
			return fmt.Errorf("sqlstore: commit: %w", err)
		}
		return nil
	}))
}

// q gives a statement in the database's dialect.
func (e *engine) q(query string) string {
	if q, ok := e.queries.Load(query); ok {
		return q.(string)
	}
	q := e.d.query(query, e.cfg.Prefix)
	e.queries.Store(query, q) // statements are constants, so they are few
	return q
}
