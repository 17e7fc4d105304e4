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
)

// Memory as Config.Path keeps everything in memory: the driver "memory".
const Memory = ":memory:"

// Config says which database to open.
type Config struct {
	Path     string // of the file, or Memory
	Prefix   string // of the tables' names: letters, digits and _
	Node     string // names this process in change rows
	ReadOnly bool   // open an existing database and change nothing
	Rules    account.Rules
	Now      func() time.Time // nil means time.Now
}

// Store is every account.Store role on SQLite. Safe for concurrent use.
type Store struct {
	cfg  Config
	w, r *sql.DB // the same for Memory
}

var _ account.Store = (*Store)(nil)

var prefixRE = regexp.MustCompile(`^[A-Za-z0-9_]*$`)

// Open opens the database, made if it is missing, and brings its schema up to date. A database that some
// other program made is refused untouched with account.ErrForeignDB.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if !prefixRE.MatchString(cfg.Prefix) {
		return nil, fmt.Errorf("sqlstore: table prefix %q: only letters, digits and _ may stand in it", cfg.Prefix)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Store{cfg: cfg}
	if cfg.Path == Memory {
		db, err := sql.Open(driverName, "file::memory:?"+pragmas)
		if err != nil {
			return nil, fmt.Errorf("sqlstore: %w", err)
		}
		db.SetMaxOpenConns(1)
		db.SetConnMaxLifetime(0)
		s.w, s.r = db, db
	} else if err := s.openFile(ctx); err != nil {
		return nil, err
	}
	if err := s.migrate(ctx); err != nil {
		s.Close()
		return nil, fmt.Errorf("sqlstore: %s: %w", cfg.Path, err)
	}
	return s, nil
}

func (s *Store) openFile(ctx context.Context) error {
	path, err := filepath.Abs(s.cfg.Path)
	if err != nil {
		return fmt.Errorf("sqlstore: %w", err)
	}
	st, err := os.Stat(path)
	switch {
	case err == nil && !st.Mode().IsRegular():
		return fmt.Errorf("sqlstore: %s is not a file", path)
	case err == nil && st.Size() > 0:
		// Look before anything is written: switching the journal changes the file.
		if err := s.checkOwner(ctx, path); err != nil {
			return err
		}
	case errors.Is(err, os.ErrNotExist) && s.cfg.ReadOnly:
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
	if s.w, err = sql.Open(driverName, dsn); err != nil {
		return fmt.Errorf("sqlstore: %w", err)
	}
	s.w.SetMaxOpenConns(1)
	if s.r, err = sql.Open(driverName, dsn); err != nil {
		s.w.Close()
		return fmt.Errorf("sqlstore: %w", err)
	}
	s.r.SetMaxOpenConns(4)
	return nil
}

// checkOwner refuses a database that has tables but not ours.
func (s *Store) checkOwner(ctx context.Context, path string) error {
	db, err := sql.Open(driverName, "file:"+(&url.URL{Path: path}).EscapedPath()+"?mode=ro")
	if err != nil {
		return fmt.Errorf("sqlstore: %w", err)
	}
	defer db.Close()
	var tables, ours int
	err = db.QueryRowContext(ctx, `SELECT count(*), coalesce(sum(name = ?), 0) FROM sqlite_master WHERE type = 'table'`, s.cfg.Prefix+"gantry_schema").Scan(&tables, &ours)
	if err != nil {
		return fmt.Errorf("sqlstore: %s cannot be read as a database: %w", path, err)
	}
	if tables > 0 && ours == 0 {
		return fmt.Errorf("sqlstore: %s: %w; name another file in data_provider.name and import the accounts from a dump with `gantry load FILE` or `gantry serve --loaddata-from FILE`", path, account.ErrForeignDB)
	}
	return nil
}

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	var one int
	return s.r.QueryRowContext(ctx, "SELECT 1").Scan(&one)
}

// Close closes the database.
func (s *Store) Close() error {
	if s.w == s.r {
		return s.w.Close()
	}
	return errors.Join(s.r.Close(), s.w.Close())
}

// q puts the table prefix in place of "{}".
func (s *Store) q(query string) string { return strings.ReplaceAll(query, "{}", s.cfg.Prefix) }

// querier is a database or a transaction.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// write runs f in one transaction.
func (s *Store) write(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := s.w.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("sqlstore: begin: %w", err)
	}
	if err := f(tx); err != nil {
		tx.Rollback()
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("sqlstore: commit: %w", err)
	}
	return nil
}

// steps are the schema's versions. Each is idempotent and recorded; a new one is added at the end.
var steps = []string{`
CREATE TABLE IF NOT EXISTS {}gantry_users (name TEXT PRIMARY KEY, version INTEGER NOT NULL, doc TEXT NOT NULL,
	used_bytes INTEGER NOT NULL DEFAULT 0, used_files INTEGER NOT NULL DEFAULT 0, quota_update INTEGER NOT NULL DEFAULT 0,
	uploaded INTEGER NOT NULL DEFAULT 0, downloaded INTEGER NOT NULL DEFAULT 0, last_login INTEGER NOT NULL DEFAULT 0,
	first_download INTEGER NOT NULL DEFAULT 0, first_upload INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS {}gantry_folders (name TEXT PRIMARY KEY, version INTEGER NOT NULL, doc TEXT NOT NULL,
	used_bytes INTEGER NOT NULL DEFAULT 0, used_files INTEGER NOT NULL DEFAULT 0, quota_update INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS {}gantry_groups (name TEXT PRIMARY KEY, version INTEGER NOT NULL, doc TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS {}gantry_records (kind TEXT NOT NULL, name TEXT NOT NULL, doc TEXT NOT NULL, PRIMARY KEY (kind, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS {}gantry_refs (kind TEXT NOT NULL, name TEXT NOT NULL, to_kind TEXT NOT NULL, to_name TEXT NOT NULL,
	PRIMARY KEY (kind, name, to_kind, to_name)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS {}gantry_refs_to ON {}gantry_refs (to_kind, to_name);
CREATE TABLE IF NOT EXISTS {}gantry_changes (seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, name TEXT NOT NULL, node TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS {}gantry_dirty (node TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (node, kind, name)) WITHOUT ROWID;
`}

// migrate brings the schema up to date. An existing file is backed up before a step changes it.
func (s *Store) migrate(ctx context.Context) error {
	var have int
	var exists int
	if err := s.r.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?`, s.cfg.Prefix+"gantry_schema").Scan(&exists); err != nil {
		return err
	}
	if exists > 0 {
		if err := s.r.QueryRowContext(ctx, s.q(`SELECT coalesce(max(version), 0) FROM {}gantry_schema`)).Scan(&have); err != nil {
			return err
		}
	}
	if have == len(steps) {
		return nil
	}
	if have > len(steps) {
		return fmt.Errorf("schema version %d is newer than this Gantry knows (%d): use a newer Gantry", have, len(steps))
	}
	if s.cfg.ReadOnly {
		return fmt.Errorf("schema version %d must be brought to %d first: run gantry initprovider", have, len(steps))
	}
	if have > 0 && s.cfg.Path != Memory {
		backup := fmt.Sprintf("%s.v%d-%s.bak", s.cfg.Path, have, s.cfg.Now().UTC().Format("20060102T150405"))
		if _, err := s.w.ExecContext(ctx, `VACUUM INTO ?`, backup); err != nil {
			return fmt.Errorf("backup before the schema changes: %w", err)
		}
	}
	return s.write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, s.q(`CREATE TABLE IF NOT EXISTS {}gantry_schema (version INTEGER PRIMARY KEY, applied_at INTEGER NOT NULL)`)); err != nil {
			return err
		}
		for i := have; i < len(steps); i++ {
			if _, err := tx.ExecContext(ctx, s.q(steps[i])); err != nil {
				return fmt.Errorf("schema step %d: %w", i+1, err)
			}
			if _, err := tx.ExecContext(ctx, s.q(`INSERT OR IGNORE INTO {}gantry_schema VALUES (?, ?)`), i+1, s.cfg.Now().UnixMilli()); err != nil {
				return err
			}
		}
		return nil
	})
}
