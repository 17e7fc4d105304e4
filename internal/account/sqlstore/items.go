package sqlstore

import (
	"database/sql"
	"errors"
	"strings"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/account/recordstore"
)

// Item implements recordstore.Tx.
func (t *tx) Item(kind account.Kind, key string) (it recordstore.Item, ok bool, err error) {
	var doc string
	err = t.row(`SELECT item, scope, parent, name, doc FROM {}gantry_items WHERE kind = ? AND item = ?`, string(kind), key).
		Scan(&it.Key, &it.Scope, &it.Parent, &it.Name, &doc)
	if errors.Is(err, sql.ErrNoRows) {
		return it, false, nil
	}
	it.Doc = []byte(doc)
	return it, err == nil, err
}

// PutItem implements recordstore.Tx.
func (t *tx) PutItem(kind account.Kind, it recordstore.Item) error {
	if err := t.DeleteItem(kind, it.Key); err != nil {
		return err
	}
	_, err := t.exec(`INSERT INTO {}gantry_items (kind, item, scope, parent, name, doc) VALUES (?, ?, ?, ?, ?, ?)`,
		string(kind), it.Key, it.Scope, it.Parent, it.Name, string(it.Doc))
	if err != nil || len(it.Places) == 0 {
		return err
	}
	var args []any
	for _, p := range it.Places {
		args = append(args, string(kind), p, it.Key)
	}
	_, err = t.exec(`INSERT INTO {}gantry_places (kind, place, item) VALUES (?, ?, ?)`+strings.Repeat(`, (?, ?, ?)`, len(it.Places)-1), args...)
	return err
}

// DeleteItem implements recordstore.Tx.
func (t *tx) DeleteItem(kind account.Kind, key string) error {
	_, err := t.exec(`DELETE FROM {}gantry_items WHERE kind = ? AND item = ?`, string(kind), key)
	if err == nil && recordstore.IsPlaced(kind) {
		_, err = t.exec(`DELETE FROM {}gantry_places WHERE kind = ? AND item = ?`, string(kind), key)
	}
	return err
}

// DeleteItems implements recordstore.Tx.
func (t *tx) DeleteItems(kind account.Kind) error {
	_, err := t.exec(`DELETE FROM {}gantry_items WHERE kind = ?`, string(kind))
	if err == nil && recordstore.IsPlaced(kind) {
		_, err = t.exec(`DELETE FROM {}gantry_places WHERE kind = ?`, string(kind))
	}
	return err
}

// errEnough ends a query early.
var errEnough = errors.New("enough")

// until has each pass rows to yield until it has enough.
func (t *tx) until(scan func(*sql.Rows) (more bool, err error), query string, args ...any) error {
	err := t.each(func(r *sql.Rows) error {
		more, err := scan(r)
		if err == nil && !more {
			err = errEnough
		}
		return err
	}, query, args...)
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// ItemsIn implements recordstore.Tx.
func (t *tx) ItemsIn(kind account.Kind, parent string, yield func(recordstore.Item) bool) error {
	return t.until(func(r *sql.Rows) (bool, error) {
		it, doc := recordstore.Item{Parent: parent}, ""
		if err := r.Scan(&it.Key, &it.Scope, &it.Name, &doc); err != nil {
			return false, err
		}
		it.Doc = []byte(doc)
		return yield(it), nil
	}, `SELECT item, scope, name, doc FROM {}gantry_items WHERE kind = ? AND parent = ?`, string(kind), parent)
}

// ItemNames implements recordstore.Tx.
func (t *tx) ItemNames(kind account.Kind, scope string, yield func(string) bool) error {
	query, args := `SELECT name FROM {}gantry_items WHERE kind = ?`, []any{string(kind)}
	if scope != "" {
		query, args = query+` AND scope = ?`, append(args, scope)
	}
	return t.until(func(r *sql.Rows) (bool, error) {
		var name string
		if err := r.Scan(&name); err != nil {
			return false, err
		}
		return yield(name), nil
	}, query, args...)
}

// CountItems implements recordstore.Tx.
func (t *tx) CountItems(kind account.Kind, scope string) (n int, err error) {
	err = t.row(`SELECT count(*) FROM {}gantry_items WHERE kind = ? AND scope = ?`, string(kind), scope).Scan(&n)
	return n, err
}

// PlacedItems implements recordstore.Tx.
func (t *tx) PlacedItems(kind account.Kind, from, to string, limit int) (out []string, err error) {
	err = t.each(func(r *sql.Rows) error {
		var key string
		defer func() { out = append(out, key) }()
		return r.Scan(&key)
	}, `SELECT item FROM {}gantry_places WHERE kind = ? AND place >= ? AND place < ? ORDER BY place, item LIMIT ?`, string(kind), from, to, limit)
	return out, err
}

// CountPlaced implements recordstore.Tx.
func (t *tx) CountPlaced(kind account.Kind, from, to string) (n int, err error) {
	err = t.row(`SELECT count(*) FROM {}gantry_places WHERE kind = ? AND place >= ? AND place < ?`, string(kind), from, to).Scan(&n)
	return n, err
}

// deletedAtOnce is how many placed items are deleted by one statement.
const deletedAtOnce = 100

// DeletePlaced implements recordstore.Tx.
func (t *tx) DeletePlaced(kind account.Kind, from, to string) error {
	for {
		keys, err := t.PlacedItems(kind, from, to, deletedAtOnce)
		if err != nil || len(keys) == 0 {
			return err
		}
		args := []any{string(kind)}
		for _, k := range keys {
			args = append(args, k)
		}
		in := ` WHERE kind = ? AND item IN (?` + strings.Repeat(`, ?`, len(keys)-1) + `)`
		for _, table := range []string{"gantry_places", "gantry_items"} {
			if _, err := t.exec(`DELETE FROM {}`+table+in, args...); err != nil {
				return err
			}
		}
	}
}
