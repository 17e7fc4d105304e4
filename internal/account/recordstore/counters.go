package recordstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/gantryhq/gantry/internal/account"
)

// Usage implements account.Counters.
func (s *Store) Usage(ctx context.Context, key account.CounterKey) (account.Usage, error) {
	return one(ctx, s, func(t *tx) (account.Usage, error) {
		r, ok, err := t.Get(key.Kind, key.Name)
		if err == nil && !ok {
			err = notFound(key.Kind, key.Name)
		}
		return account.Usage{Files: r.Files, Bytes: r.Bytes, Uploaded: r.Uploaded, Downloaded: r.Downloaded, LastUpdate: r.QuotaUpdate}, err
	})
}

// Settle implements account.Counters. An account that has gone is passed over.
func (s *Store) Settle(ctx context.Context, deltas []account.Delta) error {
	deltas = slices.SortedFunc(slices.Values(deltas), func(a, b account.Delta) int { // so that two do not wait for each other
		return cmp.Or(cmp.Compare(a.Key.Kind, b.Key.Kind), cmp.Compare(a.Key.Name, b.Key.Name))
	})
	return s.count(ctx, func(t *tx) error {
		now := t.now()
		for _, d := range deltas {
			if err := t.Add(d, now); err != nil {
				return fmt.Errorf("settle %s %q: %w", d.Key.Kind, d.Key.Name, err)
			}
		}
		return nil
	})
}

// SetUsage implements account.Counters.
func (s *Store) SetUsage(ctx context.Context, key account.CounterKey, files int, bytes int64) error {
	return s.count(ctx, func(t *tx) error {
		ok, err := t.SetUsage(key, Counters{Files: files, Bytes: bytes, QuotaUpdate: t.now()})
		switch {
		case err != nil:
			return fmt.Errorf("usage of %s %q: %w", key.Kind, key.Name, err)
		case !ok:
			return notFound(key.Kind, key.Name)
		}
		return nil
	})
}

// SetLastLogin implements account.Counters.
func (s *Store) SetLastLogin(ctx context.Context, user string, ms int64) error {
	return s.count(ctx, func(t *tx) error { return t.SetLastLogin(user, ms) })
}

// UseStep implements account.Steps.
func (s *Store) UseStep(ctx context.Context, user string, step int64) (fresh bool, err error) {
	user = s.cfg.Rules.Name(user)
	err = s.count(ctx, func(t *tx) error {
		var ok bool
		if fresh, ok, err = t.UseStep(user, step); err == nil && !ok {
			err = notFound(account.KindUser, user)
		}
		return err
	})
	return fresh && err == nil, err
}

// MarkDirty implements account.Counters.
func (s *Store) MarkDirty(ctx context.Context, node string, keys []account.CounterKey) error {
	return s.count(ctx, func(t *tx) error {
		for _, k := range keys {
			if err := t.Mark(node, k); err != nil {
				return fmt.Errorf("mark %s %q: %w", k.Kind, k.Name, err)
			}
		}
		return nil
	})
}

// ClearDirty implements account.Counters.
func (s *Store) ClearDirty(ctx context.Context, node string, keys []account.CounterKey) error {
	return s.count(ctx, func(t *tx) error {
		for _, k := range keys {
			if err := t.Unmark(node, k); err != nil {
				return fmt.Errorf("clear %s %q: %w", k.Kind, k.Name, err)
			}
		}
		return nil
	})
}

// Dirty implements account.Counters.
func (s *Store) Dirty(ctx context.Context, node string) ([]account.CounterKey, error) {
	return one(ctx, s, func(t *tx) ([]account.CounterKey, error) { return t.Marked(node) })
}
