package sqlstore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// step leads from one version of the schema to the next, and back.
type step struct{ up, down string }

// steps are the schema's versions. A new one is added at the end; one that was released never changes.
func steps() []step {
	return []step{{up: `
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
`}, {up: `
ALTER TABLE {}gantry_users ADD COLUMN id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE {}gantry_users ADD COLUMN totp_step INTEGER NOT NULL DEFAULT 0;
ALTER TABLE {}gantry_folders ADD COLUMN id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE {}gantry_groups ADD COLUMN id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE {}gantry_records ADD COLUMN id INTEGER NOT NULL DEFAULT 0;
UPDATE {}gantry_users SET id = n.i FROM (SELECT name, row_number() OVER (ORDER BY name) AS i FROM {}gantry_users) AS n WHERE n.name = {}gantry_users.name;
UPDATE {}gantry_folders SET id = n.i FROM (SELECT name, row_number() OVER (ORDER BY name) AS i FROM {}gantry_folders) AS n WHERE n.name = {}gantry_folders.name;
UPDATE {}gantry_groups SET id = n.i FROM (SELECT name, row_number() OVER (ORDER BY name) AS i FROM {}gantry_groups) AS n WHERE n.name = {}gantry_groups.name;
UPDATE {}gantry_records SET id = n.i FROM (SELECT kind, name, row_number() OVER (ORDER BY kind, name) AS i FROM {}gantry_records) AS n
	WHERE n.kind = {}gantry_records.kind AND n.name = {}gantry_records.name;
`, down: `
ALTER TABLE {}gantry_users DROP COLUMN id;
ALTER TABLE {}gantry_users DROP COLUMN totp_step;
ALTER TABLE {}gantry_folders DROP COLUMN id;
ALTER TABLE {}gantry_groups DROP COLUMN id;
ALTER TABLE {}gantry_records DROP COLUMN id;
`}}
}

// version reads the schema's version; 0 is an empty database.
func (e *engine) version(ctx context.Context) (have int, err error) {
	var exists int
	if err := e.r.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?`, e.cfg.Prefix+"gantry_schema").Scan(&exists); err != nil || exists == 0 {
		return 0, err
	}
	err = e.r.QueryRowContext(ctx, e.q(`SELECT coalesce(max(version), 0) FROM {}gantry_schema`)).Scan(&have)
	return have, err
}

// migrate brings the schema up to date. An existing file is backed up before a step changes it.
func (e *engine) migrate(ctx context.Context) error {
	have, err := e.version(ctx)
	newest := len(steps())
	switch {
	case err != nil || have == newest:
		return err
	case have > newest:
		return fmt.Errorf("schema version %d is newer than this Gantry knows (%d): use a newer Gantry", have, newest)
	case e.cfg.ReadOnly:
		return fmt.Errorf("schema version %d must be brought to %d first: run gantry initprovider", have, newest)
	}
	return e.move(ctx, have, newest)
}

// Revert takes the schema back to an older version, for an older Gantry, after a backup. The records stay. from is
// the version that was found.
func Revert(ctx context.Context, cfg Config, to int) (from int, err error) {
	newest := len(steps())
	if to < 1 || to > newest {
		return 0, fmt.Errorf("sqlstore: schema version %d: there are 1 to %d", to, newest)
	}
	if _, err := os.Stat(cfg.Path); err != nil {
		return 0, fmt.Errorf("sqlstore: %w", err) // nothing is made here
	}
	e, err := openEngine(ctx, cfg)
	if err != nil {
		return 0, err
	}
	defer e.Close()
	have, err := e.version(ctx)
	switch {
	case err != nil:
	case have > newest:
		err = fmt.Errorf("schema version %d is newer than this Gantry knows (%d): use a newer Gantry", have, newest)
	case have < to:
		err = fmt.Errorf("schema version %d is older than %d: gantry initprovider brings it up to date", have, to)
	case have > to:
		err = e.move(ctx, have, to)
	}
	if err != nil {
		return have, fmt.Errorf("sqlstore: %s: %w", cfg.Path, err)
	}
	return have, nil
}

// Newest is the version of the schema that this Gantry works with.
func Newest() int { return len(steps()) }

// move takes the schema from one version to another, in one transaction.
func (e *engine) move(ctx context.Context, have, want int) error {
	if have > 0 {
		if err := e.backup(ctx, have); err != nil {
			return fmt.Errorf("backup before the schema changes: %w", err)
		}
	}
	return e.write(ctx, func(t *tx) error {
		if _, err := t.exec(`CREATE TABLE IF NOT EXISTS {}gantry_schema (version INTEGER PRIMARY KEY, applied_at INTEGER NOT NULL)`); err != nil {
			return err
		}
		all := steps()
		for i := have; i < want; i++ {
			if err := t.step(all[i].up, i+1); err != nil {
				return err
			}
			if _, err := t.exec(`INSERT OR IGNORE INTO {}gantry_schema VALUES (?, ?)`, i+1, e.cfg.Now().UnixMilli()); err != nil {
				return err
			}
		}
		for i := have; i > want; i-- {
			if err := t.step(all[i-1].down, i); err != nil {
				return err
			}
			if _, err := t.exec(`DELETE FROM {}gantry_schema WHERE version = ?`, i); err != nil {
				return err
			}
		}
		return nil
	})
}

func (t *tx) step(script string, version int) error {
	if _, err := t.exec(script); err != nil {
		return fmt.Errorf("schema step %d: %w", version, err)
	}
	if t.e.cfg.afterStep != nil {
		t.e.cfg.afterStep(version)
	}
	return nil
}

// keptBackups is how many backups stay beside the database.
const keptBackups = 5

// backup copies the database to a file beside it, and removes the oldest of many.
func (e *engine) backup(ctx context.Context, version int) error {
	path := fmt.Sprintf("%s.v%d-%s.bak", e.cfg.Path, version, e.cfg.Now().UTC().Format("20060102T150405"))
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) { // of a try in the same second
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // it holds password hashes
	if err != nil {
		return err
	}
	f.Close()
	if _, err := e.w.ExecContext(ctx, `VACUUM INTO ?`, path); err != nil {
		os.Remove(path)
		return err
	}
	old, err := filepath.Glob(globQuote(e.cfg.Path) + ".v*-*.bak")
	if err != nil {
		return err
	}
	slices.SortFunc(old, func(a, b string) int { return modTime(a) - modTime(b) })
	for i := 0; i < len(old)-keptBackups; i++ {
		os.Remove(old[i])
	}
	return nil
}

// globQuote makes a pattern of a path that matches it alone.
func globQuote(path string) string {
	var out []byte
	for i := range len(path) {
		if c := path[i]; c == '*' || c == '?' || c == '[' {
			out = append(out, '[', c, ']')
		} else {
			out = append(out, c)
		}
	}
	return string(out)
}

func modTime(path string) int {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return int(st.ModTime().Unix())
}
