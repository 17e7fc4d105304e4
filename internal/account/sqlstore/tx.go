package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/account/recordstore"
)

// tx is one transaction. It implements recordstore.Tx. Its statements go through exec, row and each, in the form that
// dialect describes; what a role needs more than once, such as a tail of an upsert, comes from t.e.d.
type tx struct {
	ctx context.Context // of the transaction, which this is
	queryer
	e *engine

	changed bool // a record: listeners are told
}

func (t *tx) exec(query string, args ...any) (int64, error) {
	res, err := t.ExecContext(t.ctx, t.e.q(query), args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// insert gives the number that the database gave the new row in column.
func (t *tx) insert(query, column string, args ...any) (n int64, err error) {
	if t.e.d.dollar {
		err = t.row(query+" RETURNING "+column, args...).Scan(&n)
		return n, err
	}
	res, err := t.ExecContext(t.ctx, t.e.q(query), args...)
	if err != nil {
		return 0, err
	}
	return res.LastInsertId()
}

func (t *tx) row(query string, args ...any) *sql.Row {
	return t.QueryRowContext(t.ctx, t.e.q(query), args...)
}

// each reads all rows of a query; scan reads one.
func (t *tx) each(scan func(*sql.Rows) error, query string, args ...any) error {
	rows, err := t.QueryContext(t.ctx, t.e.q(query), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// table of the kinds that have one of their own.
func table(k account.Kind) string {
	switch k {
	case account.KindUser:
		return "gantry_users"
	case account.KindFolder:
		return "gantry_folders"
	case account.KindGroup:
		return "gantry_groups"
	}
	return ""
}

// columns are what is read of a record, in the order of scanRow.
func columns(kind account.Kind) string {
	switch kind {
	case account.KindUser:
		return `name, id, version, doc, used_files, used_bytes, quota_update, uploaded, downloaded, last_login, first_upload, first_download`
	case account.KindFolder:
		return `name, id, version, doc, used_files, used_bytes, quota_update`
	case account.KindGroup:
		return `name, id, version, doc`
	}
	return `name, id, 0, doc`
}

func scanRow(kind account.Kind, scan func(...any) error) (r recordstore.Row, err error) {
	into := []any{&r.Name, &r.ID, &r.Version, &r.Doc, &r.Files, &r.Bytes, &r.QuotaUpdate, &r.Uploaded, &r.Downloaded, &r.LastLogin, &r.FirstUpload, &r.FirstFetch}
	switch kind {
	case account.KindUser:
	case account.KindFolder:
		into = into[:7]
	default:
		into = into[:4]
	}
	err = scan(into...)
	return r, err
}

// Get implements recordstore.Tx.
func (t *tx) Get(kind account.Kind, name string) (recordstore.Row, bool, error) {
	from, args := listed(kind, account.Page{})
	r, err := scanRow(kind, t.row(`SELECT `+columns(kind)+` FROM `+from+` AND name = ?`, append(args, name)...).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return r, false, nil
	}
	return r, err == nil, err
}

// atOnce calls f for parts of names, each with a list of parameters for it. There are few lengths of the list, so that
// there are few statements: the last name stands there more than once.
func atOnce(names []string, f func(list string, args []any) error) error {
	for part := range slices.Chunk(names, 64) {
		n := 64
		for n/4 >= len(part) {
			n /= 4
		}
		args := make([]any, n)
		for i := range args {
			args[i] = part[min(i, len(part)-1)]
		}
		if err := f(`(?`+strings.Repeat(`, ?`, n-1)+`)`, args); err != nil {
			return err
		}
	}
	return nil
}

// GetAll implements recordstore.Tx.
func (t *tx) GetAll(kind account.Kind, names []string) (map[string]recordstore.Row, error) {
	out := make(map[string]recordstore.Row, len(names))
	from, args := listed(kind, account.Page{})
	err := atOnce(names, func(list string, in []any) error {
		return t.each(func(rows *sql.Rows) error {
			r, err := scanRow(kind, rows.Scan)
			out[r.Name] = r
			return err
		}, `SELECT `+columns(kind)+` FROM `+from+` AND name IN `+list, append(slices.Clip(args), in...)...)
	})
	return out, err
}

// Put implements recordstore.Tx. A new row's id is the number of the change that adds it.
func (t *tx) Put(kind account.Kind, name string, doc []byte) error {
	const id = `(SELECT coalesce(max(seq), 0) + 1 FROM {}gantry_changes)`
	var err error
	if in := table(kind); in != "" {
		_, err = t.exec(`INSERT INTO {}`+in+` (name, version, doc, id) VALUES (?, 1, ?, `+id+`) `+t.e.d.upsert("name", "version = {}"+in+".version + 1", "doc"), name, string(doc))
	} else {
		_, err = t.exec(`INSERT INTO {}gantry_records (kind, name, doc, id) VALUES (?, ?, ?, `+id+`) `+t.e.d.upsert("kind, name", "doc"), string(kind), name, string(doc))
	}
	return err
}

// Touch implements recordstore.Tx.
func (t *tx) Touch(kind account.Kind, name string) error {
	_, err := t.exec(`UPDATE {}`+table(kind)+` SET version = version + 1 WHERE name = ?`, name)
	return err
}

// Delete implements recordstore.Tx.
func (t *tx) Delete(kind account.Kind, name string) (bool, error) {
	var n int64
	var err error
	if in := table(kind); in != "" {
		n, err = t.exec(`DELETE FROM {}`+in+` WHERE name = ?`, name)
	} else {
		n, err = t.exec(`DELETE FROM {}gantry_records WHERE kind = ? AND name = ?`, string(kind), name)
	}
	if err != nil || n == 0 {
		return false, err
	}
	return true, t.SetRefs(kind, name, nil)
}

// Rows implements recordstore.Tx.
func (t *tx) Rows(kind account.Kind, p account.Page) (out []recordstore.Row, err error) {
	from, args := paged(kind, p)
	err = t.each(func(rows *sql.Rows) error {
		r, err := scanRow(kind, rows.Scan)
		out = append(out, r)
		return err
	}, `SELECT `+columns(kind)+` FROM `+from, args...)
	return out, err
}

// Names implements recordstore.Tx.
func (t *tx) Names(kind account.Kind, p account.Page) (out []string, err error) {
	from, args := paged(kind, p)
	err = t.each(func(r *sql.Rows) error {
		var n string
		defer func() { out = append(out, n) }()
		return r.Scan(&n)
	}, `SELECT name FROM `+from, args...)
	return out, err
}

// paged is the table, the conditions and the order of a page, and their arguments.
func paged(kind account.Kind, p account.Page) (from string, args []any) {
	from, args = listed(kind, p)
	order := ` ORDER BY name LIMIT ? OFFSET ?`
	if p.Desc {
		order = ` ORDER BY name DESC LIMIT ? OFFSET ?`
	}
	switch {
	case p.After != "" && p.Desc:
		from, args = from+` AND name < ?`, append(args, p.After)
	case p.After != "":
		from, args = from+` AND name > ?`, append(args, p.After)
	}
	return from + order, append(args, p.Limit, p.Offset)
}

// Count implements recordstore.Tx.
func (t *tx) Count(kind account.Kind, p account.Page) (n int, err error) {
	from, args := listed(kind, p)
	err = t.row(`SELECT count(*) FROM `+from, args...).Scan(&n)
	return n, err
}

// listed is the table and the condition of a list, and their arguments.
func listed(kind account.Kind, p account.Page) (from string, args []any) {
	if in := table(kind); in != "" {
		from = `{}` + in + ` WHERE name <> ''`
	} else {
		from, args = `{}gantry_records WHERE kind = ?`, append(args, string(kind))
	}
	if p.Of.Kind != "" {
		from += ` AND name IN (SELECT name FROM {}gantry_refs WHERE kind = ? AND to_kind = ? AND to_name = ?)`
		args = append(args, string(kind), string(p.Of.Kind), p.Of.Name)
	}
	if p.Prefix != "" {
		from += ` AND name >= ? AND name < ?`
		args = append(args, p.Prefix, recordstore.After(p.Prefix))
	}
	return from, args
}

// SetRefs implements recordstore.Tx.
func (t *tx) SetRefs(kind account.Kind, name string, to []account.Ref) error {
	if _, err := t.exec(`DELETE FROM {}gantry_refs WHERE kind = ? AND name = ?`, string(kind), name); err != nil {
		return err
	}
	for _, r := range to {
		if _, err := t.exec(`INSERT INTO {}gantry_refs (kind, name, to_kind, to_name) VALUES (?, ?, ?, ?)`+t.e.d.ignore("kind"), string(kind), name, string(r.Kind), r.Name); err != nil {
			return err
		}
	}
	return nil
}

// Referrers implements recordstore.Tx.
func (t *tx) Referrers(kind account.Kind, name string) (out []account.Ref, err error) {
	err = t.each(func(r *sql.Rows) error {
		var x account.Ref
		defer func() { out = append(out, x) }()
		return r.Scan(&x.Kind, &x.Name)
	}, `SELECT kind, name FROM {}gantry_refs WHERE to_kind = ? AND to_name = ? ORDER BY kind, name`, string(kind), name)
	return out, err
}

// ReferrersOf implements recordstore.Tx.
func (t *tx) ReferrersOf(kind account.Kind, names []string) (map[string][]account.Ref, error) {
	out := map[string][]account.Ref{}
	err := atOnce(names, func(list string, in []any) error {
		return t.each(func(r *sql.Rows) error {
			var to string
			var x account.Ref
			err := r.Scan(&to, &x.Kind, &x.Name)
			out[to] = append(out[to], x)
			return err
		}, `SELECT to_name, kind, name FROM {}gantry_refs WHERE to_kind = ? AND to_name IN `+list+` ORDER BY to_name, kind, name`, append([]any{string(kind)}, in...)...)
	})
	return out, err
}

// Add implements recordstore.Tx.
func (t *tx) Add(d account.Delta, now int64) error {
	var err error
	if d.Key.Kind == account.KindFolder {
		_, err = t.exec(`UPDATE {}gantry_folders SET used_files = {greatest}(0, used_files + ?), used_bytes = {greatest}(0, used_bytes + ?), quota_update = ? WHERE name = ?`, d.Files, d.Bytes, now, d.Key.Name)
	} else {
		_, err = t.exec(`UPDATE {}gantry_users SET used_files = {greatest}(0, used_files + ?), used_bytes = {greatest}(0, used_bytes + ?),
			uploaded = {greatest}(0, uploaded + ?), downloaded = {greatest}(0, downloaded + ?), quota_update = ? WHERE name = ?`, d.Files, d.Bytes, d.Uploaded, d.Downloaded, now, d.Key.Name)
	}
	return err
}

// SetUsage implements recordstore.Tx.
func (t *tx) SetUsage(key account.CounterKey, c recordstore.Counters) (bool, error) {
	n, err := t.exec(`UPDATE {}`+table(key.Kind)+` SET used_files = ?, used_bytes = ?, quota_update = ? WHERE name = ?`, c.Files, c.Bytes, c.QuotaUpdate, key.Name)
	return n > 0, err
}

// SetLastLogin implements recordstore.Tx.
func (t *tx) SetLastLogin(user string, ms int64) error {
	_, err := t.exec(`UPDATE {}gantry_users SET last_login = ? WHERE name = ?`, ms, user)
	return err
}

// UseStep implements recordstore.Tx.
func (t *tx) UseStep(user string, step int64) (fresh, ok bool, err error) {
	n, err := t.exec(`UPDATE {}gantry_users SET totp_step = ? WHERE name = ? AND totp_step < ?`, step, user, step)
	if err != nil || n > 0 {
		return n > 0, n > 0, err
	}
	_, ok, err = t.Get(account.KindUser, user)
	return false, ok, err
}

// Mark implements recordstore.Tx.
func (t *tx) Mark(node string, k account.CounterKey) error {
	_, err := t.exec(`INSERT INTO {}gantry_dirty (node, kind, name) VALUES (?, ?, ?)`+t.e.d.ignore("kind"), node, string(k.Kind), k.Name)
	return err
}

// Unmark implements recordstore.Tx.
func (t *tx) Unmark(node string, k account.CounterKey) error {
	_, err := t.exec(`DELETE FROM {}gantry_dirty WHERE node = ? AND kind = ? AND name = ?`, node, string(k.Kind), k.Name)
	return err
}

// Marked implements recordstore.Tx.
func (t *tx) Marked(node string) (out []account.CounterKey, err error) {
	err = t.each(func(r *sql.Rows) error {
		var k account.CounterKey
		defer func() { out = append(out, k) }()
		return r.Scan(&k.Kind, &k.Name)
	}, `SELECT kind, name FROM {}gantry_dirty WHERE node = ? ORDER BY kind, name`, node)
	return out, err
}

// Changed implements recordstore.Tx, and keeps the table short.
func (t *tx) Changed(kind account.Kind, name, node string) error {
	t.changed = true
	seq, err := t.insert(`INSERT INTO {}gantry_changes (kind, name, node) VALUES (?, ?, ?)`, "seq", string(kind), name, node)
	if err == nil && seq%1024 == 0 {
		_, err = t.exec(`DELETE FROM {}gantry_changes WHERE seq < ?`, seq-recordstore.KeptChanges)
	}
	return err
}

// ChangesSince implements recordstore.Tx.
func (t *tx) ChangesSince(after int64, limit int) (out []account.Change, newest int64, err error) {
	if err := t.row(`SELECT coalesce(max(seq), 0) FROM {}gantry_changes`).Scan(&newest); err != nil || newest <= after {
		return nil, newest, err
	}
	err = t.each(func(r *sql.Rows) error {
		var c account.Change
		defer func() { out = append(out, c) }()
		return r.Scan(&c.Seq, &c.Kind, &c.Key, &c.Node)
	}, `SELECT seq, kind, name, node FROM {}gantry_changes WHERE seq > ? ORDER BY seq LIMIT ?`, after, limit)
	return out, newest, err
}
