package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/gantryhq/gantry/internal/account"
)

// ref is one reference of a record.
type ref struct {
	kind account.Kind
	name string
	at   string // the field, for the error
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

// changed adds the change row of a write, and keeps the table short.
func (s *Store) changed(ctx context.Context, tx querier, kind account.Kind, name string) error {
	res, err := tx.ExecContext(ctx, s.q(`INSERT INTO {}gantry_changes (kind, name, node) VALUES (?, ?, ?)`), string(kind), name, s.cfg.Node)
	if err != nil {
		return fmt.Errorf("sqlstore: change row: %w", err)
	}
	if seq, _ := res.LastInsertId(); seq%1024 == 0 {
		_, err = tx.ExecContext(ctx, s.q(`DELETE FROM {}gantry_changes WHERE seq < ?`), seq-100_000)
	}
	return err
}

func (s *Store) exists(ctx context.Context, tx querier, kind account.Kind, name string) (bool, error) {
	var n int
	var err error
	if t := table(kind); t != "" {
		err = tx.QueryRowContext(ctx, s.q(`SELECT count(*) FROM {}`+t+` WHERE name = ?`), name).Scan(&n)
	} else {
		err = tx.QueryRowContext(ctx, s.q(`SELECT count(*) FROM {}gantry_records WHERE kind = ? AND name = ?`), string(kind), name).Scan(&n)
	}
	return n > 0, err
}

// put writes one record with its references and change row. add says that it must be new, else it must exist.
func (s *Store) put(ctx context.Context, tx querier, kind account.Kind, name string, record any, refs []ref, add bool) error {
	have, err := s.exists(ctx, tx, kind, name)
	if err != nil {
		return fmt.Errorf("sqlstore: %s %q: %w", kind, name, err)
	}
	switch {
	case add && have:
		return fmt.Errorf("%s %q: %w", kind, name, account.ErrExists)
	case !add && !have:
		return fmt.Errorf("%s %q: %w", kind, name, account.ErrNotFound)
	}
	for _, r := range refs {
		ok, err := s.exists(ctx, tx, r.kind, r.name)
		if err != nil {
			return fmt.Errorf("sqlstore: %s %q: %w", kind, name, err)
		}
		if !ok {
			return &account.ValidationError{Kind: string(kind), Name: name, Field: r.at, Code: "reference",
				Text: fmt.Sprintf("there is no %s %q; add it first", r.kind, r.name)}
		}
	}
	doc, ok := record.([]byte)
	if !ok {
		if doc, err = json.Marshal(record); err != nil {
			return fmt.Errorf("sqlstore: %s %q: %w", kind, name, err)
		}
	}
	if t := table(kind); t != "" {
		_, err = tx.ExecContext(ctx, s.q(`INSERT INTO {}`+t+` (name, version, doc) VALUES (?, 1, ?) ON CONFLICT (name) DO UPDATE SET version = version + 1, doc = excluded.doc`), name, string(doc))
	} else {
		_, err = tx.ExecContext(ctx, s.q(`INSERT INTO {}gantry_records (kind, name, doc) VALUES (?, ?, ?) ON CONFLICT (kind, name) DO UPDATE SET doc = excluded.doc`), string(kind), name, string(doc))
	}
	if err != nil {
		return fmt.Errorf("sqlstore: write %s %q: %w", kind, name, err)
	}
	if _, err := tx.ExecContext(ctx, s.q(`DELETE FROM {}gantry_refs WHERE kind = ? AND name = ?`), string(kind), name); err != nil {
		return fmt.Errorf("sqlstore: %s %q: %w", kind, name, err)
	}
	for _, r := range refs {
		if _, err := tx.ExecContext(ctx, s.q(`INSERT OR IGNORE INTO {}gantry_refs VALUES (?, ?, ?, ?)`), string(kind), name, string(r.kind), r.name); err != nil {
			return fmt.Errorf("sqlstore: %s %q: %w", kind, name, err)
		}
	}
	return s.changed(ctx, tx, kind, name)
}

// remove deletes one record, its references and its counters.
func (s *Store) remove(ctx context.Context, tx querier, kind account.Kind, name string) error {
	var res sql.Result
	var err error
	if t := table(kind); t != "" {
		res, err = tx.ExecContext(ctx, s.q(`DELETE FROM {}`+t+` WHERE name = ?`), name)
	} else {
		res, err = tx.ExecContext(ctx, s.q(`DELETE FROM {}gantry_records WHERE kind = ? AND name = ?`), string(kind), name)
	}
	if err != nil {
		return fmt.Errorf("sqlstore: delete %s %q: %w", kind, name, err)
	}
	if n, _ := res.RowsAffected(); n == 0 {
		return fmt.Errorf("%s %q: %w", kind, name, account.ErrNotFound)
	}
	if _, err := tx.ExecContext(ctx, s.q(`DELETE FROM {}gantry_refs WHERE kind = ? AND name = ?`), string(kind), name); err != nil {
		return fmt.Errorf("sqlstore: delete %s %q: %w", kind, name, err)
	}
	return s.changed(ctx, tx, kind, name)
}

// referrers lists who names a record.
func (s *Store) referrers(ctx context.Context, q querier, to account.Kind, name string, from account.Kind) ([]string, error) {
	rows, err := q.QueryContext(ctx, s.q(`SELECT name FROM {}gantry_refs WHERE to_kind = ? AND to_name = ? AND kind = ? ORDER BY name`), string(to), name, string(from))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var n string
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, rows.Err()
}

func pageLimit(p account.Page) int {
	if p.Limit <= 0 {
		return 500
	}
	return min(p.Limit, 10_000)
}

// names lists keys of a kind in order.
func (s *Store) names(ctx context.Context, q querier, kind account.Kind, p account.Page) ([]string, error) {
	from, where, args := table(kind), "", []any{}
	if from == "" {
		from, where, args = "gantry_records", "kind = ? AND ", append(args, string(kind))
	}
	query := `SELECT name FROM {}` + from + ` WHERE ` + where + `name > ? ORDER BY name LIMIT ?`
	if p.Desc {
		query = `SELECT name FROM {}` + from + ` WHERE ` + where + `(? = '' OR name < ?) ORDER BY name DESC LIMIT ?`
		args = append(args, p.After)
	}
	rows, err := q.QueryContext(ctx, s.q(query), append(args, p.After, pageLimit(p))...)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: list %s: %w", kind, err)
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var n string
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, rows.Err()
}

// list reads a page of records one by one.
func list[T any](ctx context.Context, s *Store, q querier, kind account.Kind, p account.Page, get func(ctx context.Context, q querier, name string) (T, error)) ([]T, error) {
	names, err := s.names(ctx, q, kind, p)
	if err != nil {
		return nil, err
	}
	out := make([]T, 0, len(names))
	for _, n := range names {
		v, err := get(ctx, q, n)
		if errors.Is(err, account.ErrNotFound) { // gone since
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// Record implements account.Records.
func (s *Store) Record(ctx context.Context, kind account.Kind, key string) ([]byte, error) {
	return s.record(ctx, s.r, kind, key)
}

func (s *Store) record(ctx context.Context, q querier, kind account.Kind, key string) ([]byte, error) {
	var doc string
	err := q.QueryRowContext(ctx, s.q(`SELECT doc FROM {}gantry_records WHERE kind = ? AND name = ?`), string(kind), key).Scan(&doc)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("%s %q: %w", kind, key, account.ErrNotFound)
	}
	return []byte(doc), err
}

// ListRecords implements account.Records.
func (s *Store) ListRecords(ctx context.Context, kind account.Kind, p account.Page) ([][]byte, error) {
	return list(ctx, s, s.r, kind, p, func(ctx context.Context, q querier, name string) ([]byte, error) { return s.record(ctx, q, kind, name) })
}

// AddRecord implements account.Records.
func (s *Store) AddRecord(ctx context.Context, kind account.Kind, doc []byte) error {
	return s.putRecord(ctx, kind, doc, true)
}

// UpdateRecord implements account.Records.
func (s *Store) UpdateRecord(ctx context.Context, kind account.Kind, doc []byte) error {
	return s.putRecord(ctx, kind, doc, false)
}

func (s *Store) putRecord(ctx context.Context, kind account.Kind, doc []byte, add bool) error {
	rec, err := account.DecodeDocument(kind, doc)
	if err != nil {
		return err
	}
	if err := rec.Normalize(ctx, s.cfg.Rules); err != nil {
		return err
	}
	return s.write(ctx, func(tx *sql.Tx) error { return s.putDocument(ctx, tx, rec, doc, add) })
}

// putDocument stores a normalised document. original is the JSON that it came in.
func (s *Store) putDocument(ctx context.Context, tx querier, rec account.Document, original []byte, add bool) error {
	old := account.NewDocument(rec.Kind())
	if !add {
		doc, err := s.record(ctx, tx, rec.Kind(), rec.Key())
		if err != nil {
			return err
		}
		if err := json.Unmarshal(doc, old); err != nil {
			return fmt.Errorf("sqlstore: %s %q is damaged: %w", rec.Kind(), rec.Key(), err)
		}
	}
	if err := keepSecrets(rec.Kind(), rec.Key(), rec, old); err != nil {
		return err
	}
	doc, err := account.EncodeDocument(rec, original)
	if err != nil {
		return err
	}
	var refs []ref
	for _, r := range rec.References() {
		refs = append(refs, ref{r.Kind, r.Name, r.At})
	}
	return s.put(ctx, tx, rec.Kind(), rec.Key(), doc, refs, add)
}

// keepSecrets puts what is stored in the place of the secrets that next only names.
func keepSecrets(kind account.Kind, name string, next, old any) error {
	account.KeepSecrets(next, old)
	if account.Unkept(next) {
		return &account.ValidationError{Kind: string(kind), Name: name, Field: "secret", Code: "redacted", Text: "a redacted secret was given and none is stored; give the secret itself"}
	}
	return nil
}

// DeleteRecord implements account.Records.
func (s *Store) DeleteRecord(ctx context.Context, kind account.Kind, key string) error {
	return s.write(ctx, func(tx *sql.Tx) error { return s.remove(ctx, tx, kind, key) })
}

// ChangesSince implements account.Changes.
func (s *Store) ChangesSince(ctx context.Context, after int64, limit int) ([]account.Change, int64, error) {
	var newest int64
	if err := s.r.QueryRowContext(ctx, s.q(`SELECT coalesce(max(seq), 0) FROM {}gantry_changes`)).Scan(&newest); err != nil {
		return nil, 0, err
	}
	if newest <= after {
		return nil, newest, nil
	}
	rows, err := s.r.QueryContext(ctx, s.q(`SELECT seq, kind, name, node FROM {}gantry_changes WHERE seq > ? ORDER BY seq LIMIT ?`), after, max(1, limit))
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	var out []account.Change
	for rows.Next() {
		var c account.Change
		if err := rows.Scan(&c.Seq, &c.Kind, &c.Key, &c.Node); err != nil {
			return nil, 0, err
		}
		out = append(out, c)
	}
	return out, newest, rows.Err()
}
