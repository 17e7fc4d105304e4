package kvstore

import (
	"bytes"
	"encoding/json"
	"math"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/account/recordstore"
)

// The buckets of items: by kind and key, and the ways to it by parent, scope and places.
const (
	itemsBucket   = "gantry_items"
	parentsBucket = "gantry_items_parent"
	scopesBucket  = "gantry_items_scope"
	placesBucket  = "gantry_items_place"
)

// Item implements recordstore.Tx.
func (t *tx) Item(kind account.Kind, k string) (it recordstore.Item, ok bool, err error) {
	v := t.bucket(itemsBucket).get(key(string(kind), k))
	if v == nil {
		return it, false, nil
	}
	err = json.Unmarshal(v, &it)
	return it, err == nil, err
}

// PutItem implements recordstore.Tx.
func (t *tx) PutItem(kind account.Kind, it recordstore.Item) error {
	if err := t.DeleteItem(kind, it.Key); err != nil {
		return err
	}
	v, err := json.Marshal(it)
	if err == nil {
		err = t.bucket(itemsBucket).put(key(string(kind), it.Key), v)
	}
	if err == nil {
		err = t.bucket(parentsBucket).put(key(string(kind), it.Parent, it.Key), []byte{1})
	}
	if err == nil {
		err = t.bucket(scopesBucket).put(key(string(kind), it.Scope, it.Key), []byte(it.Name))
	}
	for i := 0; err == nil && i < len(it.Places); i++ {
		err = t.bucket(placesBucket).put(key(string(kind), it.Places[i], it.Key), []byte{1})
	}
	return err
}

// DeleteItem implements recordstore.Tx.
func (t *tx) DeleteItem(kind account.Kind, k string) error {
	it, ok, err := t.Item(kind, k)
	if err != nil || !ok {
		return err
	}
	if err := t.bucket(itemsBucket).delete(key(string(kind), k)); err != nil {
		return err
	}
	for _, place := range it.Places {
		if err := t.bucket(placesBucket).delete(key(string(kind), place, k)); err != nil {
			return err
		}
	}
	if err := t.bucket(parentsBucket).delete(key(string(kind), it.Parent, k)); err != nil {
		return err
	}
	return t.bucket(scopesBucket).delete(key(string(kind), it.Scope, k))
}

// DeleteItems implements recordstore.Tx.
func (t *tx) DeleteItems(kind account.Kind) error {
	for _, name := range []string{itemsBucket, parentsBucket, scopesBucket, placesBucket} {
		var keys [][]byte
		t.from(name, func(k, _ []byte) bool {
			keys = append(keys, bytes.Clone(k))
			return true
		}, string(kind))
		for _, k := range keys {
			if err := t.bucket(name).delete(k); err != nil {
				return err
			}
		}
	}
	return nil
}

// from gives the entries whose keys begin with parts.
func (t *tx) from(in string, f func(k, v []byte) bool, parts ...string) {
	prefix := append(key(parts...), 0)
	t.bucket(in).scan(prefix, false, func(k, v []byte) bool { return bytes.HasPrefix(k, prefix) && f(k, v) })
}

// ItemsIn implements recordstore.Tx.
func (t *tx) ItemsIn(kind account.Kind, parent string, yield func(recordstore.Item) bool) (err error) {
	prefix := len(key(string(kind), parent)) + 1
	t.from(parentsBucket, func(k, _ []byte) bool {
		var it recordstore.Item
		if it, _, err = t.Item(kind, string(k[prefix:])); err != nil {
			return false
		}
		return yield(it)
	}, string(kind), parent)
	return err
}

// ItemNames implements recordstore.Tx.
func (t *tx) ItemNames(kind account.Kind, scope string, yield func(string) bool) error {
	parts := []string{string(kind)}
	if scope != "" {
		parts = append(parts, scope)
	}
	t.from(scopesBucket, func(_, v []byte) bool { return yield(string(v)) }, parts...)
	return nil
}

// CountItems implements recordstore.Tx.
func (t *tx) CountItems(kind account.Kind, scope string) (n int, err error) {
	t.from(scopesBucket, func(_, _ []byte) bool {
		n++
		return true
	}, string(kind), scope)
	return n, nil
}

// placed gives the places of a range, and the keys of their items, until f has enough.
func (t *tx) placed(kind account.Kind, from, to string, f func(item string) bool) {
	start, end := key(string(kind), from), key(string(kind), to)
	t.bucket(placesBucket).scan(start, false, func(k, _ []byte) bool {
		return bytes.Compare(k, end) < 0 && f(string(k[bytes.LastIndexByte(k, 0)+1:]))
	})
}

// PlacedItems implements recordstore.Tx.
func (t *tx) PlacedItems(kind account.Kind, from, to string, limit int) (out []string, err error) {
	t.placed(kind, from, to, func(item string) bool {
		out = append(out, item)
		return len(out) < limit
	})
	return out, nil
}

// CountPlaced implements recordstore.Tx.
func (t *tx) CountPlaced(kind account.Kind, from, to string) (n int, err error) {
	t.placed(kind, from, to, func(string) bool {
		n++
		return true
	})
	return n, nil
}

// DeletePlaced implements recordstore.Tx.
func (t *tx) DeletePlaced(kind account.Kind, from, to string) error {
	keys, err := t.PlacedItems(kind, from, to, math.MaxInt)
	for i := 0; err == nil && i < len(keys); i++ {
		err = t.DeleteItem(kind, keys[i])
	}
	return err
}
