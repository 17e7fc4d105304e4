package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// step leads from one version of the schema to the next, and back.
type step struct{ up, down string }

// steps are the schema's versions. A new one is added at the end, in the words of dialect; one that was released never
// changes. The servers' databases begin with what SQLite's became by the first two.
func steps(d *dialect) []step {
	list := []step{{up: `
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
`}, {up: `
CREATE TABLE IF NOT EXISTS {}gantry_items (kind {word} NOT NULL, item {name} NOT NULL, scope {word} NOT NULL, parent {word} NOT NULL,
	name {text} NOT NULL, doc {text} NOT NULL, PRIMARY KEY (kind, item)){flat};
{index} {}gantry_items_parent ON {}gantry_items (kind, parent);
{index} {}gantry_items_scope ON {}gantry_items (kind, scope);
`, down: `
DROP TABLE IF EXISTS {}gantry_items;
`}}
	list = append(list, step{up: sharedTables, down: `
DROP TABLE IF EXISTS {}gantry_nodes;
DROP TABLE IF EXISTS {}gantry_leases;
DROP TABLE IF EXISTS {}gantry_sessions;
DROP TABLE IF EXISTS {}gantry_hosts;
DROP TABLE IF EXISTS {}gantry_host_events;
DROP TABLE IF EXISTS {}gantry_shared;
`})
	list = append(list, step{up: `
CREATE TABLE IF NOT EXISTS {}gantry_places (kind {word} NOT NULL, place {name} NOT NULL, item {name} NOT NULL, PRIMARY KEY (kind, place, item)){flat};
{index} {}gantry_places_item ON {}gantry_places (kind, item);
`, down: `
DELETE FROM {}gantry_items WHERE kind = 'placed';
DROP TABLE IF EXISTS {}gantry_places;
`})
	// Counts read these in the place of all documents.
	list = append(list, step{up: `
{index} {}gantry_users_id ON {}gantry_users (id);
{index} {}gantry_records_id ON {}gantry_records (kind, id);
`, down: `
{unindex} {}gantry_users_id ON {}gantry_users;
{unindex} {}gantry_records_id ON {}gantry_records;
`})
	if d.server {
		list[0], list[1] = step{up: serverBase}, step{}
	}
	return list
}

// serverBase is what a server's database begins with. Writers of records lock the row of gantry_lock.
const serverBase = `
CREATE TABLE IF NOT EXISTS {}gantry_users (name {name} NOT NULL PRIMARY KEY, version {int} NOT NULL, doc {text} NOT NULL,
	used_bytes {int} NOT NULL DEFAULT 0, used_files {int} NOT NULL DEFAULT 0, quota_update {int} NOT NULL DEFAULT 0,
	uploaded {int} NOT NULL DEFAULT 0, downloaded {int} NOT NULL DEFAULT 0, last_login {int} NOT NULL DEFAULT 0,
	first_download {int} NOT NULL DEFAULT 0, first_upload {int} NOT NULL DEFAULT 0, id {int} NOT NULL DEFAULT 0, totp_step {int} NOT NULL DEFAULT 0){flat};
CREATE TABLE IF NOT EXISTS {}gantry_folders (name {name} NOT NULL PRIMARY KEY, version {int} NOT NULL, doc {text} NOT NULL,
	used_bytes {int} NOT NULL DEFAULT 0, used_files {int} NOT NULL DEFAULT 0, quota_update {int} NOT NULL DEFAULT 0, id {int} NOT NULL DEFAULT 0){flat};
CREATE TABLE IF NOT EXISTS {}gantry_groups (name {name} NOT NULL PRIMARY KEY, version {int} NOT NULL, doc {text} NOT NULL, id {int} NOT NULL DEFAULT 0){flat};
CREATE TABLE IF NOT EXISTS {}gantry_records (kind {word} NOT NULL, name {name} NOT NULL, doc {text} NOT NULL, id {int} NOT NULL DEFAULT 0, PRIMARY KEY (kind, name)){flat};
CREATE TABLE IF NOT EXISTS {}gantry_refs (kind {word} NOT NULL, name {name} NOT NULL, to_kind {word} NOT NULL, to_name {name} NOT NULL,
	PRIMARY KEY (kind, name, to_kind, to_name)){flat};
{index} {}gantry_refs_to ON {}gantry_refs (to_kind, to_name);
CREATE TABLE IF NOT EXISTS {}gantry_changes (seq {serial}, kind {word} NOT NULL, name {name} NOT NULL, node {name} NOT NULL){flat};
CREATE TABLE IF NOT EXISTS {}gantry_dirty (node {name} NOT NULL, kind {word} NOT NULL, name {name} NOT NULL, PRIMARY KEY (node, kind, name)){flat};
CREATE TABLE IF NOT EXISTS {}gantry_lock (name {word} NOT NULL PRIMARY KEY){flat};
INSERT INTO {}gantry_lock (name) VALUES ('records'){ignore};
`

// sharedTables are what nodes tell each other. Times are ms of the database's clock.
const sharedTables = `
CREATE TABLE IF NOT EXISTS {}gantry_nodes (id {name} NOT NULL PRIMARY KEY, doc {text} NOT NULL, seen {int} NOT NULL, batch {int} NOT NULL){flat};
CREATE TABLE IF NOT EXISTS {}gantry_leases (kind {word} NOT NULL, name {name} NOT NULL, node {name} NOT NULL, files {int} NOT NULL, bytes {int} NOT NULL,
	PRIMARY KEY (kind, name, node)){flat};
CREATE TABLE IF NOT EXISTS {}gantry_sessions (node {name} NOT NULL, id {name} NOT NULL, username {name} NOT NULL, PRIMARY KEY (node, id)){flat};
{index} {}gantry_sessions_user ON {}gantry_sessions (username);
CREATE TABLE IF NOT EXISTS {}gantry_hosts (host {word} NOT NULL PRIMARY KEY, ban {int} NOT NULL, changed {int} NOT NULL){flat};
{index} {}gantry_hosts_changed ON {}gantry_hosts (changed);
CREATE TABLE IF NOT EXISTS {}gantry_host_events (id {serial}, host {word} NOT NULL, at {int} NOT NULL, score {int} NOT NULL){rows};
{index} {}gantry_host_events_host ON {}gantry_host_events (host, at);
{index} {}gantry_host_events_at ON {}gantry_host_events (at);
CREATE TABLE IF NOT EXISTS {}gantry_shared (kind {word} NOT NULL, name {name} NOT NULL, doc {text} NOT NULL, expires {int} NOT NULL, changed {int} NOT NULL,
	PRIMARY KEY (kind, name)){flat};
`

// version reads the schema's version; 0 is an empty database.
func (e *engine) version(ctx context.Context, db queryer) (have int, err error) {
	query := `SELECT count(*) FROM information_schema.tables WHERE table_schema = {schema} AND table_name = ?`
	if !e.d.server {
		query = `SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?`
	}
	var exists int
	if err := db.QueryRowContext(ctx, e.q(query), e.cfg.Prefix+"gantry_schema").Scan(&exists); err != nil || exists == 0 {
		return 0, err
	}
	err = db.QueryRowContext(ctx, e.q(`SELECT coalesce(max(version), 0) FROM {}gantry_schema`)).Scan(&have)
	return have, err
}

// ErrEmpty: a database that was opened to be read holds nothing.
var ErrEmpty = errors.New("the database is empty")

// migrate brings the schema up to date. An existing file is backed up before a step changes it.
func (e *engine) migrate(ctx context.Context) error {
	have, err := e.version(ctx, e.r)
	newest := Newest()
	switch {
	case err != nil || have == newest:
		return err
	case have > newest:
		return tooNew(have)
	case e.cfg.ReadOnly && have == 0:
		return ErrEmpty
	case e.cfg.ReadOnly || e.cfg.KeepSchema:
		return fmt.Errorf("schema version %d must be brought to %d first: run gantry initprovider", have, newest)
	}
	_, err = e.move(ctx, have, newest)
	return err
}

func tooNew(have int) error {
	return fmt.Errorf("schema version %d is newer than this Gantry knows (%d): use a newer Gantry", have, Newest())
}

// Revert takes the schema back to an older version, for an older Gantry; a file is backed up before. The records stay.
// from is the version that was found.
func Revert(ctx context.Context, cfg Config, to int) (from int, err error) {
	newest := Newest()
	if to < 1 || to > newest {
		return 0, fmt.Errorf("sqlstore: schema version %d: there are 1 to %d", to, newest)
	}
	if cfg.Driver == "" || cfg.Driver == "sqlite" {
		if _, err := os.Stat(cfg.Path); err != nil {
			return 0, fmt.Errorf("sqlstore: %w", err) // nothing is made here
		}
	}
	e, err := openEngine(ctx, cfg)
	if err != nil {
		return 0, err
	}
	defer e.Close()
	have, err := e.version(ctx, e.r)
	switch {
	case err != nil:
	case have > newest:
		err = tooNew(have)
	case have < to:
		err = fmt.Errorf("schema version %d is older than %d: gantry initprovider brings it up to date", have, to)
	case have > to:
		have, err = e.move(ctx, have, to)
	}
	if err != nil {
		return have, fmt.Errorf("sqlstore: %s: %w", e.where(), err)
	}
	return have, nil
}

// Newest is the version of the schema that this Gantry works with.
func Newest() int { return len(steps(sqliteDialect())) }

// move takes the schema from one version to another, alone: others who want to wait, and then find it done. from is
// the version that stood when it was our turn.
func (e *engine) move(ctx context.Context, have, want int) (from int, err error) {
	if have > 0 && !e.d.server {
		if err := e.backup(ctx, have); err != nil {
			return have, fmt.Errorf("backup before the schema changes: %w", err)
		}
	}
	if e.d.ownLocks {
		return e.moveStepwise(ctx, want)
	}
	for range retryTries {
		if from, err = e.moveAtOnce(ctx, want); e.d.advisory || !raced(err) {
			break
		}
	}
	return from, err
}

// moveAtOnce is move in one transaction.
func (e *engine) moveAtOnce(ctx context.Context, want int) (from int, err error) {
	err = e.write(ctx, func(t *tx) error {
		if e.d.advisory {
			if _, err := t.exec(`SELECT pg_advisory_xact_lock(hashtext(?))`, "gantry schema "+e.cfg.Prefix); err != nil {
				return err
			}
		}
		from, err = t.steps(want)
		return err
	})
	return from, err
}

// moveStepwise is move for a database that commits each change of the schema at once: under a lock of a session.
func (e *engine) moveStepwise(ctx context.Context, want int) (from int, err error) {
	c, err := e.w.Conn(ctx)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	t := &tx{ctx: ctx, queryer: c, e: e}
	const lock = `concat(left(concat('gantry ', database(), ' ', ?), 31), md5(concat(database(), ' ', ?)))` // at most 64 characters
	var got sql.NullInt64
	if err := t.row(`SELECT get_lock(`+lock+`, 90)`, e.cfg.Prefix, e.cfg.Prefix).Scan(&got); err != nil {
		return 0, err
	}
	if got.Int64 != 1 {
		return 0, errors.New("another node is at work on the schema and does not end; look there, then start again")
	}
	defer func() {
		_, unlock := t.exec(`DO release_lock(`+lock+`)`, e.cfg.Prefix, e.cfg.Prefix)
		err = errors.Join(err, unlock)
	}()
	return t.steps(want)
}

// steps takes the schema from where it stands to a version.
func (t *tx) steps(want int) (have int, err error) {
	if have, err = t.e.version(t.ctx, t.queryer); err != nil {
		return have, err
	}
	if have > Newest() {
		return have, tooNew(have)
	}
	if _, err := t.exec(`CREATE TABLE IF NOT EXISTS {}gantry_schema (version INTEGER PRIMARY KEY, applied_at {int} NOT NULL)`); err != nil {
		return have, err
	}
	all := steps(t.e.d)
	for i := have; i < want; i++ {
		if err := t.step(all[i].up, i+1); err != nil {
			return have, err
		}
		if _, err := t.exec(`INSERT INTO {}gantry_schema (version, applied_at) VALUES (?, ?)`+t.e.d.ignore("version"), i+1, t.e.cfg.Now().UnixMilli()); err != nil {
			return have, err
		}
	}
	for i := have; i > want; i-- {
		if err := t.step(all[i-1].down, i); err != nil {
			return have, err
		}
		if _, err := t.exec(`DELETE FROM {}gantry_schema WHERE version = ?`, i); err != nil {
			return have, err
		}
	}
	return have, nil
}

func (t *tx) step(script string, version int) error {
	for _, statement := range strings.Split(script, ";\n") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if rest, ok := strings.CutPrefix(strings.TrimSpace(statement), "{unindex} "); ok {
			name, table, _ := strings.Cut(rest, " ON ")
			statement = t.e.d.unindex(name, table)
		}
		statement = strings.ReplaceAll(statement, "{ignore}", t.e.d.ignore("name"))
		if _, err := t.exec(statement); err != nil && !doneBefore(err) {
			return fmt.Errorf("schema step %d: %w", version, err)
		}
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
