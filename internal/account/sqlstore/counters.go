package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/gantryhq/gantry/internal/account"
)

// Usage implements account.Counters.
func (s *Store) Usage(ctx context.Context, key account.CounterKey) (account.Usage, error) {
	var u account.Usage
	var err error
	if key.Kind == account.KindFolder {
		err = s.r.QueryRowContext(ctx, s.q(`SELECT used_files, used_bytes, quota_update FROM {}gantry_folders WHERE name = ?`), key.Name).Scan(&u.Files, &u.Bytes, &u.LastUpdate)
	} else {
		err = s.r.QueryRowContext(ctx, s.q(`SELECT used_files, used_bytes, quota_update, uploaded, downloaded FROM {}gantry_users WHERE name = ?`), key.Name).
			Scan(&u.Files, &u.Bytes, &u.LastUpdate, &u.Uploaded, &u.Downloaded)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return u, fmt.Errorf("%s %q: %w", key.Kind, key.Name, account.ErrNotFound)
	}
	return u, err
}

// Settle implements account.Counters. An account that has gone is passed over.
func (s *Store) Settle(ctx context.Context, deltas []account.Delta) error {
	now := s.cfg.Now().UnixMilli()
	return s.write(ctx, func(tx *sql.Tx) error {
		for _, d := range deltas {
			var err error
			if d.Key.Kind == account.KindFolder {
				_, err = tx.ExecContext(ctx, s.q(`UPDATE {}gantry_folders SET used_files = max(0, used_files + ?), used_bytes = max(0, used_bytes + ?), quota_update = ? WHERE name = ?`), d.Files, d.Bytes, now, d.Key.Name)
			} else {
				_, err = tx.ExecContext(ctx, s.q(`UPDATE {}gantry_users SET used_files = max(0, used_files + ?), used_bytes = max(0, used_bytes + ?),
					uploaded = max(0, uploaded + ?), downloaded = max(0, downloaded + ?), quota_update = ? WHERE name = ?`), d.Files, d.Bytes, d.Uploaded, d.Downloaded, now, d.Key.Name)
			}
			if err != nil {
				return fmt.Errorf("sqlstore: settle %s %q: %w", d.Key.Kind, d.Key.Name, err)
			}
		}
		return nil
	})
}

// SetUsage implements account.Counters.
func (s *Store) SetUsage(ctx context.Context, key account.CounterKey, files int, bytes int64) error {
	t := table(key.Kind)
	res, err := s.w.ExecContext(ctx, s.q(`UPDATE {}`+t+` SET used_files = ?, used_bytes = ?, quota_update = ? WHERE name = ?`), files, bytes, s.cfg.Now().UnixMilli(), key.Name)
	if err != nil {
		return fmt.Errorf("sqlstore: usage of %s %q: %w", key.Kind, key.Name, err)
	}
	if n, _ := res.RowsAffected(); n == 0 {
		return fmt.Errorf("%s %q: %w", key.Kind, key.Name, account.ErrNotFound)
	}
	return nil
}

// SetLastLogin implements account.Counters.
func (s *Store) SetLastLogin(ctx context.Context, user string, ms int64) error {
	_, err := s.w.ExecContext(ctx, s.q(`UPDATE {}gantry_users SET last_login = ? WHERE name = ?`), ms, user)
	return err
}

// MarkDirty implements account.Counters.
func (s *Store) MarkDirty(ctx context.Context, node string, keys []account.CounterKey) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		for _, k := range keys {
			if _, err := tx.ExecContext(ctx, s.q(`INSERT OR IGNORE INTO {}gantry_dirty VALUES (?, ?, ?)`), node, string(k.Kind), k.Name); err != nil {
				return fmt.Errorf("sqlstore: mark %s %q: %w", k.Kind, k.Name, err)
			}
		}
		return nil
	})
}

// ClearDirty implements account.Counters.
func (s *Store) ClearDirty(ctx context.Context, node string, keys []account.CounterKey) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		for _, k := range keys {
			if _, err := tx.ExecContext(ctx, s.q(`DELETE FROM {}gantry_dirty WHERE node = ? AND kind = ? AND name = ?`), node, string(k.Kind), k.Name); err != nil {
				return fmt.Errorf("sqlstore: clear %s %q: %w", k.Kind, k.Name, err)
			}
		}
		return nil
	})
}

// Dirty implements account.Counters.
func (s *Store) Dirty(ctx context.Context, node string) ([]account.CounterKey, error) {
	rows, err := s.r.QueryContext(ctx, s.q(`SELECT kind, name FROM {}gantry_dirty WHERE node = ? ORDER BY kind, name`), node)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: dirty accounts: %w", err)
	}
	defer rows.Close()
	var out []account.CounterKey
	for rows.Next() {
		var k account.CounterKey
		if err := rows.Scan(&k.Kind, &k.Name); err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, rows.Err()
}
