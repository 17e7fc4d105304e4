// Package sqlstore keeps account records in SQLite: one JSON document for each record, with its key,
// counters and references in columns of their own.
//
// One connection writes (BEGIN IMMEDIATE), a few read; the journal is a WAL, so that readers never wait
// and other processes (gantry load, gantry dump) may work on the same file. Only parameterised statements
// carry values (SQL-1); the table prefix is checked at Open.
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
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/account/recordstore"
)

// Config says which database to open.
type Config struct {
	Path     string // of the file
	Prefix   string // of the tables' names: letters, digits and _
	Node     string // names this process in change rows
	ReadOnly bool   // open an existing database and change nothing
	Rules    account.Rules
	Now      func() time.Time // nil means time.Now

	afterStep func(version int) // tests end the process here
}

// engine implements recordstore.Engine.
type engine struct {
	cfg  Config
	w, r *sql.DB
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
		return nil, fmt.Errorf("sqlstore: %s: %w", cfg.Path, err)
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
	if err := e.openFile(ctx); err != nil {
		return nil, err
	}
	return e, nil
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
	return e.r.QueryRowContext(ctx, "SELECT 1").Scan(&one)
}

// Close implements recordstore.Engine.
func (e *engine) Close() error { return errors.Join(e.r.Close(), e.w.Close()) }

// Compact rewrites the file without what was removed.
func (e *engine) Compact(ctx context.Context) error {
	if _, err := e.w.ExecContext(ctx, "VACUUM"); err != nil {
		return fmt.Errorf("sqlstore: %w", err)
	}
	_, err := e.w.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	return err
}

// Read implements recordstore.Engine.
func (e *engine) Read(ctx context.Context, f func(recordstore.Tx) error) error {
	t, err := e.r.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("sqlstore: begin: %w", err)
	}
	defer t.Rollback()
	return f(&tx{ctx, t, e})
}

// Write implements recordstore.Engine.
func (e *engine) Write(ctx context.Context, f func(recordstore.Tx) error) error {
	return e.write(ctx, func(t *tx) error { return f(t) })
}

func (e *engine) write(ctx context.Context, f func(*tx) error) error {
	t, err := e.w.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("sqlstore: begin: %w", err)
	}
	if err := f(&tx{ctx, t, e}); err != nil {
		t.Rollback()
		return err
	}
	if err := t.Commit(); err != nil {
		return fmt.Errorf("sqlstore: commit: %w", err)
	}
	return nil
}

// q puts the table prefix in place of "{}".
func (e *engine) q(query string) string { return strings.ReplaceAll(query, "{}", e.cfg.Prefix) }
