package recordstore

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/gantryhq/gantry/internal/account"
)

// Record implements account.Records.
func (s *Store) Record(ctx context.Context, kind account.Kind, key string) ([]byte, error) {
	return one(ctx, s, func(t *tx) ([]byte, error) { return t.record(kind, key) })
}

func (t *tx) record(kind account.Kind, key string) ([]byte, error) {
	r, err := t.row(kind, key)
	if err != nil {
		return nil, err
	}
	return r.document(kind)
}

// document is a row's document with the row's number, where the kind has one: what is stored says 0.
func (r *Row) document(kind account.Kind) ([]byte, error) {
	if !account.Numbered(kind) {
		return r.Doc, nil
	}
	number := strconv.AppendInt([]byte(`{"id":`), r.ID, 10)
	if rest, ok := bytes.CutPrefix(r.Doc, []byte(`{"id":0,`)); ok {
		return append(append(number, ','), rest...), nil
	}
	var members map[string]json.RawMessage // it has members that the type does not know, so that they are in another order
	if err := r.decode(kind, &members); err != nil {
		return nil, err
	}
	members["id"] = number[len(`{"id":`):]
	return json.Marshal(members)
}

// documents are the documents of rows.
func documents(kind account.Kind) maker[[]byte] {
	return func(_ *tx, rows []Row) ([][]byte, error) {
		out := make([][]byte, len(rows))
		for i := range rows {
			var err error
			if out[i], err = rows[i].document(kind); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
}

// ListRecords implements account.Records.
func (s *Store) ListRecords(ctx context.Context, kind account.Kind, p account.Page) ([][]byte, error) {
	return one(ctx, s, func(t *tx) ([][]byte, error) { return documents(kind).list(t, kind, p) })
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
