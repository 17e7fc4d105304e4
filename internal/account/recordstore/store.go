package recordstore

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/gantryhq/gantry/internal/account"
)

// Config of a Store.
type Config struct {
	Rules account.Rules
	Node  string           // names this process in change rows
	Now   func() time.Time // nil means time.Now
}

// Store is every account.Store role on an engine. Safe for concurrent use.
type Store struct {
	cfg     Config
	e       Engine
	observe func(kind string, d time.Duration, err error) // or nil
}

var _ account.Store = (*Store)(nil)

// New makes a store, which owns the engine from then on.
func New(e Engine, cfg Config) *Store {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Store{cfg: cfg, e: e}
}

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error { return s.e.Ping(ctx) }

// Shared is what nodes on one database tell each other, or nil if the database is one process's own.
func (s *Store) Shared() account.Shared {
	if e, ok := s.e.(interface{ Shared() account.Shared }); ok {
		return e.Shared()
	}
	return nil
}

// Transactions is how many were begun so far, 0 of an engine that does not count them.
func (s *Store) Transactions() int64 {
	if e, ok := s.e.(interface{ Transactions() int64 }); ok {
		return e.Transactions()
	}
	return 0
}

// Close closes the database.
func (s *Store) Close() error { return s.e.Close() }

// Observe has f told of each transaction: read, write, or count (of counters and marks), how long it took and its error.
// To be called before others use the store.
func (s *Store) Observe(f func(kind string, d time.Duration, err error)) { s.observe = f }

// timed runs a transaction for the one who observes.
func (s *Store) timed(kind string, run func() error) error {
	if s.observe == nil {
		return run()
	}
	begun := time.Now() // not the records' clock
	err := run()
	s.observe(kind, time.Since(begun), err)
	return err
}

// tx is a transaction with the rules around it.
type tx struct {
	Tx
	s *Store
}

func (s *Store) read(ctx context.Context, f func(t *tx) error) error {
	return s.timed("read", func() error { return s.e.Read(ctx, func(t Tx) error { return f(&tx{t, s}) }) })
}

func (s *Store) write(ctx context.Context, f func(t *tx) error) error {
	return s.timed("write", func() error { return s.e.Write(ctx, func(t Tx) error { return f(&tx{t, s}) }) })
}

// count writes counters and marks.
func (s *Store) count(ctx context.Context, f func(t *tx) error) error {
	return s.timed("count", func() error { return s.e.WriteRows(ctx, func(t Tx) error { return f(&tx{t, s}) }) })
}

// one reads a value in a transaction of its own.
func one[T any](ctx context.Context, s *Store, get func(t *tx) (T, error)) (out T, err error) {
	err = s.read(ctx, func(t *tx) (err error) {
		out, err = get(t)
		return err
	})
	return out, err
}

func (t *tx) now() int64 { return t.s.cfg.Now().UnixMilli() }

func notFound(kind account.Kind, name string) error {
	return fmt.Errorf("%s %q: %w", kind, name, account.ErrNotFound)
}

// row reads a record's row.
func (t *tx) row(kind account.Kind, name string) (Row, error) {
	r, ok, err := t.Get(kind, name)
	switch {
	case err != nil:
		return r, fmt.Errorf("read %s %q: %w", kind, name, err)
	case !ok:
		return r, notFound(kind, name)
	}
	return r, nil
}

// decode reads a record's row into v.
func (t *tx) decode(kind account.Kind, name string, v any) (Row, error) {
	r, err := t.row(kind, name)
	if err == nil {
		err = r.decode(kind, v)
	}
	return r, err
}

func (r *Row) decode(kind account.Kind, v any) error {
	if err := json.Unmarshal(r.Doc, v); err != nil {
		return fmt.Errorf("%s %q is damaged: %w", kind, r.Name, err)
	}
	return nil
}

func (t *tx) exists(kind account.Kind, name string) (bool, error) {
	_, ok, err := t.Get(kind, name)
	return ok, err
}

// put writes one record with its references and change row. add says that it must be new, else it must exist.
func (t *tx) put(kind account.Kind, name string, record any, refs []account.Ref, add bool) error {
	have, err := t.exists(kind, name)
	switch {
	case err != nil:
		return fmt.Errorf("%s %q: %w", kind, name, err)
	case add && have:
		return fmt.Errorf("%s %q: %w", kind, name, account.ErrExists)
	case !add && !have:
		return notFound(kind, name)
	}
	for _, r := range refs {
		ok, err := t.exists(r.Kind, r.Name)
		if err != nil {
			return fmt.Errorf("%s %q: %w", kind, name, err)
		}
		if !ok {
			return &account.ValidationError{Kind: string(kind), Name: name, Field: r.At, Code: "reference",
				Text: fmt.Sprintf("there is no %s %q; add it first", r.Kind, r.Name)}
		}
	}
	doc, ok := record.([]byte)
	if !ok {
		if doc, err = json.Marshal(record); err != nil {
			return fmt.Errorf("%s %q: %w", kind, name, err)
		}
	}
	if err := t.Put(kind, name, doc); err != nil {
		return fmt.Errorf("write %s %q: %w", kind, name, err)
	}
	if err := t.SetRefs(kind, name, refs); err != nil {
		return fmt.Errorf("%s %q: %w", kind, name, err)
	}
	return t.Changed(kind, name, t.s.cfg.Node)
}

// remove deletes one record, whoever refers to it.
func (t *tx) remove(kind account.Kind, name string) error {
	ok, err := t.Delete(kind, name)
	if err != nil {
		return fmt.Errorf("delete %s %q: %w", kind, name, err)
	}
	if !ok {
		return notFound(kind, name)
	}
	return t.Changed(kind, name, t.s.cfg.Node)
}

// release deals with what refers to a record that is to go: what belongs to it goes with it, a link is taken
// away, and what would mean something else without it keeps it from going.
func (t *tx) release(kind account.Kind, name string) error {
	refs, err := t.Referrers(kind, name)
	if err != nil {
		return fmt.Errorf("%s %q: %w", kind, name, err)
	}
	for _, r := range refs {
		switch {
		case kind == account.KindFolder && r.Kind == account.KindUser:
			err = t.unmapUser(r.Name, name)
		case kind == account.KindFolder && r.Kind == account.KindGroup:
			err = t.unmapGroup(r.Name, name)
		case kind == account.KindRole && r.Kind == account.KindUser:
			err = t.unroleUser(r.Name)
		case kind == account.KindGroup && r.Kind == account.KindAdmin:
			err = t.ungroupAdmin(r.Name, name)
		case kind == account.KindUser && (r.Kind == account.KindShare || r.Kind == account.KindAPIKey),
			kind == account.KindAdmin && r.Kind == account.KindAPIKey:
			err = t.remove(r.Kind, r.Name)
		default:
			err = &account.ValidationError{Kind: string(kind), Name: name, Field: "name", Code: "reference",
				Text: fmt.Sprintf("it is in use by %d others, %s %q is one; change them first", len(refs), r.Kind, r.Name)}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ifVersion refuses an update of what is not any more as it was seen.
func ifVersion(kind account.Kind, name string, want, have int64) error {
	if want == 0 || want == have {
		return nil
	}
	return fmt.Errorf("%s %q: %w", kind, name, account.ErrChanged)
}

// Names implements account.Lists.
func (s *Store) Names(ctx context.Context, kind account.Kind, p account.Page) ([]string, error) {
	return one(ctx, s, func(t *tx) ([]string, error) { return t.Names(kind, limited(p)) })
}

// Count implements account.Lists.
func (s *Store) Count(ctx context.Context, kind account.Kind, p account.Page) (int, error) {
	return one(ctx, s, func(t *tx) (int, error) {
		n, err := t.Count(kind, p)
		if err != nil {
			err = fmt.Errorf("count %s: %w", kind, err)
		}
		return n, err
	})
}

// delete removes a record by the rules.
func (s *Store) delete(ctx context.Context, kind account.Kind, name string) error {
	return s.write(ctx, func(t *tx) error {
		if err := t.release(kind, name); err != nil {
			return err
		}
		return t.remove(kind, name)
	})
}

// keepSecrets puts what is stored in the place of the secrets that next only names.
func keepSecrets(kind account.Kind, name string, next, old any) error {
	account.KeepSecrets(next, old)
	if account.Unkept(next) {
		return &account.ValidationError{Kind: string(kind), Name: name, Field: "secret", Code: "redacted", Text: "a redacted secret was given and none is stored; give the secret itself"}
	}
	return nil
}

func limited(p account.Page) account.Page {
	if p.Limit <= 0 {
		p.Limit = 500
	}
	p.Limit = min(p.Limit, 10_000)
	return p
}

// maker makes records of rows, in their order. It reads what else they need for all of them at once.
type maker[T any] func(t *tx, rows []Row) ([]T, error)

// read makes one record.
func (m maker[T]) read(t *tx, kind account.Kind, name string) (out T, err error) {
	r, err := t.row(kind, name)
	if err != nil {
		return out, err
	}
	list, err := m(t, []Row{r})
	if err != nil {
		return out, err
	}
	return list[0], nil
}

// list makes a page of records.
func (m maker[T]) list(t *tx, kind account.Kind, p account.Page) ([]T, error) {
	rows, err := t.Rows(kind, limited(p))
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", kind, err)
	}
	return m(t, rows)
}

// all makes every record of a kind.
func (m maker[T]) all(t *tx, kind account.Kind) ([]T, error) {
	out := []T{}
	p := account.Page{Limit: 1000}
	for {
		rows, err := t.Rows(kind, p)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", kind, err)
		}
		part, err := m(t, rows)
		if err != nil {
			return nil, err
		}
		out = append(out, part...)
		if len(rows) < p.Limit {
			return out, nil
		}
		p.After = rows[len(rows)-1].Name
	}
}

// ChangesSince implements account.Changes.
func (s *Store) ChangesSince(ctx context.Context, after int64, limit int) (rows []account.Change, newest int64, err error) {
	err = s.read(ctx, func(t *tx) (err error) {
		rows, newest, err = t.ChangesSince(after, max(1, limit))
		return err
	})
	return rows, newest, err
}
