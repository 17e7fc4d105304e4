package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/stdlib"

	"github.com/gantryhq/gantry/internal/account"
)

// shared implements account.Shared.
type shared struct{ e *engine }

var _ account.Shared = shared{}

// Shared gives the role to recordstore.
func (e *engine) Shared() account.Shared { return shared{e} }

// alive is the condition of a row of gantry_nodes for the node to be alive. Its parameter is NodeLife in ms.
const alive = `seen > {now} - ?`

func lifeMS() int64 { return account.NodeLife.Milliseconds() }

// Beat implements account.Shared. A node that is found dead begins anew: others may have given away what it held.
func (s shared) Beat(ctx context.Context, n account.Node) (fresh bool, err error) {
	doc, err := json.Marshal(n)
	if err != nil {
		return false, err
	}
	err = s.e.write(ctx, func(t *tx) error {
		k, err := t.exec(`UPDATE {}gantry_nodes SET seen = {now}, doc = ? WHERE id = ? AND `+alive, string(doc), n.ID, lifeMS())
		if fresh = k == 0; err != nil || !fresh {
			return err
		}
		for _, q := range []string{`DELETE FROM {}gantry_leases WHERE node = ?`, `DELETE FROM {}gantry_sessions WHERE node = ?`} {
			if _, err := t.exec(q, n.ID); err != nil {
				return err
			}
		}
		_, err = t.exec(`INSERT INTO {}gantry_nodes (id, doc, seen, batch) VALUES (?, ?, {now}, 0)`+t.e.d.upsert("id", "doc", "seen"), n.ID, string(doc))
		return err
	})
	return fresh, err
}

// Nodes implements account.Shared.
func (s shared) Nodes(ctx context.Context) (out []account.Node, err error) {
	err = s.e.read(ctx, func(t *tx) error {
		out = nil
		return t.each(func(r *sql.Rows) error {
			var doc string
			var seen int64
			if err := r.Scan(&doc, &seen); err != nil {
				return err
			}
			var n account.Node
			if err := json.Unmarshal([]byte(doc), &n); err != nil {
				return fmt.Errorf("a node's row is damaged: %w", err)
			}
			n.LastSeen = seen
			out = append(out, n)
			return nil
		}, `SELECT doc, seen FROM {}gantry_nodes WHERE `+alive+` ORDER BY id`, lifeMS())
	})
	return out, err
}

// Leave implements account.Shared.
func (s shared) Leave(ctx context.Context, node string) error {
	return s.e.write(ctx, func(t *tx) error {
		for _, q := range []string{`DELETE FROM {}gantry_leases WHERE node = ?`, `DELETE FROM {}gantry_sessions WHERE node = ?`, `DELETE FROM {}gantry_nodes WHERE id = ?`} {
			if _, err := t.exec(q, node); err != nil {
				return err
			}
		}
		return nil
	})
}

// Orphans implements account.Shared.
func (s shared) Orphans(ctx context.Context) (out []string, err error) {
	err = s.e.read(ctx, func(t *tx) error {
		out = nil
		return t.each(func(r *sql.Rows) error {
			var n string
			defer func() { out = append(out, n) }()
			return r.Scan(&n)
		}, `SELECT DISTINCT node FROM {}gantry_dirty WHERE node NOT IN (SELECT id FROM {}gantry_nodes WHERE `+alive+`) ORDER BY node`, lifeMS())
	})
	return out, err
}

// DirtyElsewhere implements account.Shared.
func (s shared) DirtyElsewhere(ctx context.Context, node string, key account.CounterKey) (bool, error) {
	n := 0
	err := s.e.read(ctx, func(t *tx) error {
		return t.row(`SELECT count(*) FROM {}gantry_dirty WHERE kind = ? AND name = ? AND node <> ? AND node IN (SELECT id FROM {}gantry_nodes WHERE `+alive+`)`,
			string(key.Kind), key.Name, node, lifeMS()).Scan(&n)
	})
	return n > 0, err
}

// lockAccount reads the counters of an account, which nobody else changes until the transaction ends.
func (t *tx) lockAccount(key account.CounterKey) (u account.Usage, err error) {
	if key.Kind == account.KindFolder {
		err = t.row(`SELECT used_files, used_bytes, quota_update FROM {}gantry_folders WHERE name = ?{lock}`, key.Name).Scan(&u.Files, &u.Bytes, &u.LastUpdate)
	} else {
		err = t.row(`SELECT used_files, used_bytes, quota_update, uploaded, downloaded FROM {}gantry_users WHERE name = ?{lock}`, key.Name).
			Scan(&u.Files, &u.Bytes, &u.LastUpdate, &u.Uploaded, &u.Downloaded)
	}
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("%s %q: %w", key.Kind, key.Name, account.ErrNotFound)
	}
	return u, err
}

// Lease implements account.Shared.
func (s shared) Lease(ctx context.Context, node string, key account.CounterKey, need, spare, limit account.Room) (got account.Room, u account.Usage, err error) {
	err = s.e.write(ctx, func(t *tx) (err error) {
		if u, err = t.lockAccount(key); err != nil {
			return err
		}
		if need == (account.Room{}) && spare == need {
			got = need
			return t.keepLease(node, key, got)
		}
		var here int
		if err := t.row(`SELECT count(*) FROM {}gantry_nodes WHERE id = ? AND `+alive, node, lifeMS()).Scan(&here); err != nil {
			return err
		}
		if here == 0 {
			return account.ErrFenced
		}
		var others account.Room
		err = t.row(`SELECT coalesce(sum(files), 0), coalesce(sum(bytes), 0) FROM {}gantry_leases WHERE kind = ? AND name = ? AND node <> ?
			AND node IN (SELECT id FROM {}gantry_nodes WHERE `+alive+`)`, string(key.Kind), key.Name, node, lifeMS()).Scan(&others.Files, &others.Bytes)
		if err != nil {
			return err
		}
		got = account.Room{
			Files: grant(need.Files, spare.Files, limit.Files, int64(u.Files)+others.Files),
			Bytes: grant(need.Bytes, spare.Bytes, limit.Bytes, u.Bytes+others.Bytes),
		}
		return t.keepLease(node, key, got)
	})
	return got, u, err
}

// grant is what may be held where taken of limit is taken: less than need if there is no more, and some of spare where
// there is plenty.
func grant(need, spare, limit, taken int64) int64 {
	if limit <= 0 {
		return need + spare
	}
	free := max(0, limit-taken)
	if need >= free {
		return free
	}
	return need + min(spare, (free-need)/4)
}

// keepLease sets what a node holds.
func (t *tx) keepLease(node string, key account.CounterKey, r account.Room) (err error) {
	if r == (account.Room{}) {
		_, err = t.exec(`DELETE FROM {}gantry_leases WHERE kind = ? AND name = ? AND node = ?`, string(key.Kind), key.Name, node)
	} else {
		_, err = t.exec(`INSERT INTO {}gantry_leases (kind, name, node, files, bytes) VALUES (?, ?, ?, ?, ?)`+t.e.d.upsert("kind, name, node", "files", "bytes"),
			string(key.Kind), key.Name, node, r.Files, r.Bytes)
	}
	return err
}

// SettleLeased implements account.Shared.
func (s shared) SettleLeased(ctx context.Context, node string, batch int64, list []account.Settlement) error {
	return s.e.write(ctx, func(t *tx) error {
		n, err := t.exec(`UPDATE {}gantry_nodes SET batch = ? WHERE id = ? AND batch < ? AND `+alive, batch, node, batch, lifeMS())
		if err != nil {
			return err
		}
		if n == 0 {
			var done int
			if err := t.row(`SELECT count(*) FROM {}gantry_nodes WHERE id = ? AND batch >= ? AND `+alive, node, batch, lifeMS()).Scan(&done); err != nil {
				return err
			}
			if done == 0 {
				return account.ErrFenced
			}
			return nil
		}
		now := t.e.cfg.Now().UnixMilli()
		list = slices.SortedFunc(slices.Values(list), func(a, b account.Settlement) int { // so that two do not wait for each other
			return cmp.Or(cmp.Compare(a.Key.Kind, b.Key.Kind), cmp.Compare(a.Key.Name, b.Key.Name))
		})
		for _, d := range list {
			if _, err := t.lockAccount(d.Key); errors.Is(err, account.ErrNotFound) {
				continue
			} else if err != nil {
				return err
			}
			if err := t.Add(d.Delta, now); err != nil {
				return err
			}
			if err := t.keepLease(node, d.Key, d.Lease); err != nil {
				return err
			}
		}
		return nil
	})
}

// ReplaceUsage implements account.Shared.
func (s shared) ReplaceUsage(ctx context.Context, key account.CounterKey, was account.Usage, files int, bytes int64) (ok bool, err error) {
	err = s.e.write(ctx, func(t *tx) error {
		n, err := t.exec(`UPDATE {}`+table(key.Kind)+` SET used_files = ?, used_bytes = ?, quota_update = ? WHERE name = ? AND used_files = ? AND used_bytes = ?`,
			files, bytes, t.e.cfg.Now().UnixMilli(), key.Name, was.Files, was.Bytes)
		ok = n > 0
		return err
	})
	return ok, err
}

// EnterSession implements account.Shared.
func (s shared) EnterSession(ctx context.Context, node, id, user string, max int) (ok bool, err error) {
	err = s.e.write(ctx, func(t *tx) error {
		if _, err := t.lockAccount(account.CounterKey{Kind: account.KindUser, Name: user}); err != nil {
			return err
		}
		var open int
		err := t.row(`SELECT count(*) FROM {}gantry_sessions WHERE username = ? AND NOT (node = ? AND id = ?) AND node IN (SELECT id FROM {}gantry_nodes WHERE `+alive+`)`,
			user, node, id, lifeMS()).Scan(&open)
		if ok = max <= 0 || open < max; err != nil || !ok {
			return err
		}
		_, err = t.exec(`INSERT INTO {}gantry_sessions (node, id, username) VALUES (?, ?, ?)`+t.e.d.upsert("node, id", "username"), node, id, user)
		return err
	})
	return ok && err == nil, err
}

// LeaveSession implements account.Shared.
func (s shared) LeaveSession(ctx context.Context, node, id string) error {
	return s.e.write(ctx, func(t *tx) error {
		_, err := t.exec(`DELETE FROM {}gantry_sessions WHERE node = ? AND id = ?`, node, id)
		return err
	})
}

// ScoreHost implements account.Shared.
func (s shared) ScoreHost(ctx context.Context, host string, points int, window time.Duration) (total int, err error) {
	err = s.e.write(ctx, func(t *tx) error {
		// First the host's row, so that two that score it wait for each other and one of them sees both.
		if _, err := t.exec(`INSERT INTO {}gantry_hosts (host, ban, changed) VALUES (?, 0, {now})`+t.e.d.upsert("host", "changed"), host); err != nil {
			return err
		}
		if _, err := t.exec(`INSERT INTO {}gantry_host_events (host, at, score) VALUES (?, {now}, ?)`, host, points); err != nil {
			return err
		}
		return t.row(`SELECT coalesce(sum(score), 0) FROM {}gantry_host_events WHERE host = ? AND at > {now} - ?`, host, window.Milliseconds()).Scan(&total)
	})
	return total, err
}

// BanHost implements account.Shared.
func (s shared) BanHost(ctx context.Context, host string, d time.Duration) error {
	return s.e.write(ctx, func(t *tx) error {
		if _, err := t.exec(`INSERT INTO {}gantry_hosts (host, ban, changed) VALUES (?, {now} + ?, {now})`+
			t.e.d.upsert("host", "ban = {greatest}({}gantry_hosts.ban, {now} + ?)", "changed = {now}"), host, d.Milliseconds(), d.Milliseconds()); err != nil {
			return err
		}
		_, err := t.exec(`DELETE FROM {}gantry_host_events WHERE host = ?`, host)
		return err
	})
}

// ExtendBan implements account.Shared.
func (s shared) ExtendBan(ctx context.Context, host string, d, most time.Duration) error {
	return s.e.write(ctx, func(t *tx) error {
		_, err := t.exec(`UPDATE {}gantry_hosts SET ban = ban + ?, changed = {now} WHERE host = ? AND ban > {now} AND ban + ? < {now} + ?`,
			d.Milliseconds(), host, d.Milliseconds(), most.Milliseconds())
		return err
	})
}

// FreeHost implements account.Shared. The row stays until Sweep, so that the others see it.
func (s shared) FreeHost(ctx context.Context, host string) (known bool, err error) {
	err = s.e.write(ctx, func(t *tx) error {
		n, err := t.exec(`UPDATE {}gantry_hosts SET ban = 0, changed = {now} WHERE host = ? AND ban > {now}`, host)
		if err != nil {
			return err
		}
		m, err := t.exec(`DELETE FROM {}gantry_host_events WHERE host = ?`, host)
		if known = n+m > 0; err == nil && m > 0 {
			_, err = t.exec(`UPDATE {}gantry_hosts SET changed = {now} WHERE host = ?`, host)
		}
		return err
	})
	return known, err
}

// HostsSince implements account.Shared.
func (s shared) HostsSince(ctx context.Context, since int64, window time.Duration) (list []account.HostState, now int64, err error) {
	err = s.e.read(ctx, func(t *tx) error {
		list = nil
		if err := t.row(`SELECT {now}`).Scan(&now); err != nil {
			return err
		}
		return t.each(func(r *sql.Rows) error {
			var h account.HostState
			var ban int64
			if err := r.Scan(&h.Host, &ban, &h.Score); err != nil {
				return err
			}
			h.Ban = time.Duration(max(0, ban-now)) * time.Millisecond
			list = append(list, h)
			return nil
		}, `SELECT host, ban, coalesce((SELECT sum(score) FROM {}gantry_host_events WHERE {}gantry_host_events.host = {}gantry_hosts.host AND at > {now} - ?), 0)
			FROM {}gantry_hosts WHERE changed >= ? ORDER BY host`, window.Milliseconds(), since)
	})
	return list, now, err
}

// PutValue implements account.Shared.
func (s shared) PutValue(ctx context.Context, kind, key string, value []byte, life time.Duration) error {
	return s.e.write(ctx, func(t *tx) error {
		_, err := t.exec(`INSERT INTO {}gantry_shared (kind, name, doc, expires, changed) VALUES (?, ?, ?, {now} + ?, {now})`+
			t.e.d.upsert("kind, name", "doc", "expires", "changed"), kind, key, string(value), life.Milliseconds())
		return err
	})
}

// ClaimValue implements account.Shared.
func (s shared) ClaimValue(ctx context.Context, kind, key string, value []byte, life time.Duration) (mine bool, err error) {
	err = s.e.write(ctx, func(t *tx) error {
		if _, err := t.exec(`DELETE FROM {}gantry_shared WHERE kind = ? AND name = ? AND expires <= {now}`, kind, key); err != nil {
			return err
		}
		if _, err := t.exec(`INSERT INTO {}gantry_shared (kind, name, doc, expires, changed) VALUES (?, ?, ?, {now} + ?, {now})`+t.e.d.ignore("kind"),
			kind, key, string(value), life.Milliseconds()); err != nil {
			return err
		}
		var has string
		err := t.row(`SELECT doc FROM {}gantry_shared WHERE kind = ? AND name = ?{lock}`, kind, key).Scan(&has)
		mine = has == string(value)
		return err
	})
	return mine && err == nil, err
}

// Value implements account.Shared.
func (s shared) Value(ctx context.Context, kind, key string) (value []byte, ok bool, err error) {
	err = s.e.read(ctx, func(t *tx) error {
		var doc string
		err := t.row(`SELECT doc FROM {}gantry_shared WHERE kind = ? AND name = ? AND expires > {now}`, kind, key).Scan(&doc)
		if errors.Is(err, sql.ErrNoRows) {
			value, ok = nil, false
			return nil
		}
		value, ok = []byte(doc), err == nil
		return err
	})
	return value, ok, err
}

// DropValue implements account.Shared.
func (s shared) DropValue(ctx context.Context, kind, key string) error {
	return s.e.write(ctx, func(t *tx) error {
		_, err := t.exec(`DELETE FROM {}gantry_shared WHERE kind = ? AND name = ?`, kind, key)
		return err
	})
}

// ValuesSince implements account.Shared.
func (s shared) ValuesSince(ctx context.Context, kind string, since int64) (list []account.SharedValue, now int64, err error) {
	err = s.e.read(ctx, func(t *tx) error {
		list = nil
		if err := t.row(`SELECT {now}`).Scan(&now); err != nil {
			return err
		}
		return t.each(func(r *sql.Rows) error {
			var v account.SharedValue
			var doc string
			if err := r.Scan(&v.Key, &doc); err != nil {
				return err
			}
			v.Value = []byte(doc)
			list = append(list, v)
			return nil
		}, `SELECT name, doc FROM {}gantry_shared WHERE kind = ? AND changed >= ? AND expires > {now} ORDER BY name`, kind, since)
	})
	return list, now, err
}

// deadKept is how long the rows of dead nodes, and of addresses that were freed, stay for the others to see.
const deadKept = time.Hour

// Sweep implements account.Shared.
func (s shared) Sweep(ctx context.Context, window time.Duration) error {
	sweeps := []struct {
		query string
		arg   []any
	}{
		{`DELETE FROM {}gantry_leases WHERE node NOT IN (SELECT id FROM {}gantry_nodes WHERE ` + alive + `)`, []any{lifeMS()}},
		{`DELETE FROM {}gantry_sessions WHERE node NOT IN (SELECT id FROM {}gantry_nodes WHERE ` + alive + `)`, []any{lifeMS()}},
		{`DELETE FROM {}gantry_nodes WHERE seen < {now} - ?`, []any{deadKept.Milliseconds()}},
		{`DELETE FROM {}gantry_host_events WHERE at < {now} - ?`, []any{window.Milliseconds()}},
		{`DELETE FROM {}gantry_hosts WHERE ban < {now} AND changed < {now} - ?`, []any{max(deadKept, window).Milliseconds()}},
		{`DELETE FROM {}gantry_shared WHERE expires <= {now}`, nil},
	}
	for _, w := range sweeps { // each by itself, to lock little
		if err := s.e.write(ctx, func(t *tx) error { _, err := t.exec(w.query, w.arg...); return err }); err != nil {
			return fmt.Errorf("sweep: %w", err)
		}
	}
	return nil
}

// channel is what PostgreSQL's NOTIFY calls the changes of the records under a prefix.
func (e *engine) channel() string { return "gantry_" + e.cfg.Prefix + "changes" }

// Listen implements account.Shared.
func (s shared) Listen(ctx context.Context, wake func()) error {
	if !s.e.d.advisory {
		return nil
	}
	c, err := s.e.r.Conn(ctx)
	if err != nil {
		return fmt.Errorf("sqlstore: listen: %w", err)
	}
	defer c.Close()
	return c.Raw(func(driver any) error {
		conn := driver.(*stdlib.Conn).Conn()
		defer conn.Close(context.WithoutCancel(ctx)) // it must not go back to the pool: it listens
		if _, err := conn.Exec(ctx, `LISTEN "`+s.e.channel()+`"`); err != nil {
			return fmt.Errorf("sqlstore: listen: %w", err)
		}
		wake() // what came before
		for {
			if _, err := conn.WaitForNotification(ctx); err != nil {
				return fmt.Errorf("sqlstore: listen: %w", err)
			}
			wake()
		}
	})
}
