package recordstore

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/gantryhq/gantry/internal/account"
)

// Record implements account.Records.
func (s *Store) Record(ctx context.Context, kind account.Kind, key string) ([]byte, error) {
	return one(ctx, s, func(t *tx) ([]byte, error) { return t.record(kind, key) })
}

func (t *tx) record(kind account.Kind, key string) ([]byte, error) {
	r, ok, err := t.Get(kind, key)
	if err == nil && !ok {
		err = notFound(kind, key)
	}
	return r.Doc, err
}

// ListRecords implements account.Records.
func (s *Store) ListRecords(ctx context.Context, kind account.Kind, p account.Page) ([][]byte, error) {
	return page(ctx, s, kind, p, func(t *tx, name string) ([]byte, error) { return t.record(kind, name) })
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
	if r, ok := rec.(account.Stamped); ok && add {
		created, updated := r.Stamps()
		*created, *updated = 0, 0
	}
	return s.write(ctx, func(t *tx) error { return t.putDocument(rec, doc, add) })
}

// putDocument stores a normalised document. original is the JSON that it came in.
func (t *tx) putDocument(rec account.Document, original []byte, add bool) error {
	old := account.NewDocument(rec.Kind())
	if !add {
		if _, err := t.decode(rec.Kind(), rec.Key(), old); err != nil {
			return err
		}
	}
	if r, ok := rec.(account.Stamped); ok {
		created, updated := r.Stamps()
		was, _ := old.(account.Stamped).Stamps()
		t.stamp(created, updated, add, *was)
	}
	if err := keepSecrets(rec.Kind(), rec.Key(), rec, old); err != nil {
		return err
	}
	doc, err := account.EncodeDocument(rec, original)
	if err != nil {
		return err
	}
	return t.put(rec.Kind(), rec.Key(), doc, rec.References(), add)
}

// EditRecord implements account.Records.
func (s *Store) EditRecord(ctx context.Context, kind account.Kind, key string, fn func(doc []byte) ([]byte, error)) error {
	return s.write(ctx, func(t *tx) error {
		old, err := t.record(kind, key)
		if err != nil {
			return err
		}
		doc, err := fn(old)
		if err != nil {
			return err
		}
		rec, err := account.DecodeDocument(kind, doc)
		if err != nil {
			return err
		}
		if err := rec.Normalize(ctx, s.cfg.Rules); err != nil {
			return err
		}
		if rec.Key() != key {
			return fmt.Errorf("edit %s %q: the key cannot change", kind, key)
		}
		was := account.NewDocument(kind)
		if err := json.Unmarshal(old, was); err != nil {
			return fmt.Errorf("%s %q is damaged: %w", kind, key, err)
		}
		if err := keepSecrets(kind, key, rec, was); err != nil {
			return err
		}
		if doc, err = account.EncodeDocument(rec, old); err != nil {
			return err
		}
		return t.put(kind, key, doc, rec.References(), false)
	})
}

// DeleteRecord implements account.Records.
func (s *Store) DeleteRecord(ctx context.Context, kind account.Kind, key string) error {
	return s.delete(ctx, kind, key)
}
