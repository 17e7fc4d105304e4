package kvstore

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/account/recordstore"
)

// tx implements recordstore.Tx.
type tx struct{ txn }

func kindBucket(k account.Kind) string { return "gantry_" + string(k) }

// key joins the parts of a key: NUL stands in no name.
func key(parts ...string) []byte { return []byte(strings.Join(parts, "\x00")) }

// below gives the rest of each key that begins with prefix parts.
func (t *tx) below(in string, parts ...string) (out [][]string) {
	prefix := append(key(parts...), 0)
	t.bucket(in).scan(prefix, false, func(k, _ []byte) bool {
		rest, ok := bytes.CutPrefix(k, prefix)
		if ok {
			out = append(out, strings.Split(string(rest), "\x00"))
		}
		return ok
	})
	return out
}

// head is what stands before a record's document: its id and version.
const head = 16

// Get implements recordstore.Tx.
func (t *tx) Get(kind account.Kind, name string) (r recordstore.Row, ok bool, err error) {
	v := t.bucket(kindBucket(kind)).get([]byte(name))
	if v == nil {
		return r, false, nil
	}
	if r, err = rowOf(name, v); err != nil {
		return r, false, err
	}
	c, err := t.counters(account.CounterKey{Kind: kind, Name: name})
	r.Counters = c.Counters
	return r, err == nil, err
}

// rowOf reads a record, without its counters.
func rowOf(name string, v []byte) (recordstore.Row, error) {
	if len(v) < head {
		return recordstore.Row{}, errors.New("kvstore: a record is damaged")
	}
	return recordstore.Row{Name: name, ID: int64(binary.BigEndian.Uint64(v)), Version: int64(binary.BigEndian.Uint64(v[8:])), Doc: bytes.Clone(v[head:])}, nil
}

// GetAll implements recordstore.Tx.
func (t *tx) GetAll(kind account.Kind, names []string) (map[string]recordstore.Row, error) {
	out := make(map[string]recordstore.Row, len(names))
	for _, n := range names {
		r, ok, err := t.Get(kind, n)
		if err != nil {
			return nil, err
		}
		if ok {
			out[n] = r
		}
	}
	return out, nil
}

// Put implements recordstore.Tx. A new record's id is the number of the change that adds it.
func (t *tx) Put(kind account.Kind, name string, doc []byte) error {
	if name == "" || strings.ContainsRune(name, 0) {
		return errors.New("kvstore: a key must not be empty or hold NUL")
	}
	b := t.bucket(kindBucket(kind))
	id, version := t.newest()+1, int64(1)
	if v := b.get([]byte(name)); len(v) >= head {
		id, version = int64(binary.BigEndian.Uint64(v)), int64(binary.BigEndian.Uint64(v[8:]))+1
	}
	v := make([]byte, 0, head+len(doc))
	v = binary.BigEndian.AppendUint64(v, uint64(id))
	v = binary.BigEndian.AppendUint64(v, uint64(version))
	return b.put([]byte(name), append(v, doc...))
}

// Touch implements recordstore.Tx.
func (t *tx) Touch(kind account.Kind, name string) error {
	b := t.bucket(kindBucket(kind))
	v := bytes.Clone(b.get([]byte(name)))
	if len(v) < head {
		return nil
	}
	binary.BigEndian.PutUint64(v[8:], binary.BigEndian.Uint64(v[8:])+1)
	return b.put([]byte(name), v)
}

// Delete implements recordstore.Tx.
func (t *tx) Delete(kind account.Kind, name string) (bool, error) {
	b := t.bucket(kindBucket(kind))
	if b.get([]byte(name)) == nil {
		return false, nil
	}
	if err := b.delete([]byte(name)); err != nil {
		return false, err
	}
	if err := t.bucket(countersBucket).delete(key(string(kind), name)); err != nil {
		return false, err
	}
	return true, t.SetRefs(kind, name, nil)
}

// Rows implements recordstore.Tx: records and counters are each read in one pass where they stand together.
func (t *tx) Rows(kind account.Kind, p account.Page) (out []recordstore.Row, err error) {
	if p.Of.Kind != "" {
		names, err := t.Names(kind, p)
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			r, ok, err := t.Get(kind, n)
			if err != nil {
				return nil, err
			}
			if ok {
				out = append(out, r)
			}
		}
		return out, nil
	}
	t.scanPage(kind, p, func(name string, v []byte) bool {
		var r recordstore.Row
		if r, err = rowOf(name, v); err != nil {
			return false
		}
		out = append(out, r)
		return true
	})
	if err != nil || len(out) == 0 || kind != account.KindUser && kind != account.KindFolder {
		return out, err
	}
	at, step := 0, 1 // the next row that has not been passed
	if p.Desc {
		at, step = len(out)-1, -1
	}
	prefix := key(string(kind), "")
	t.bucket(countersBucket).scan(key(string(kind), out[at].Name), false, func(k, v []byte) bool {
		name, ok := bytes.CutPrefix(k, prefix)
		for ok && at >= 0 && at < len(out) && out[at].Name < string(name) {
			at += step
		}
		if !ok || at < 0 || at == len(out) {
			return false
		}
		if out[at].Name == string(name) {
			var c counted
			if err = json.Unmarshal(v, &c); err != nil {
				return false
			}
			out[at].Counters = c.Counters
		}
		return true
	})
	return out, err
}

// scanPage gives a page's records until f has enough.
func (t *tx) scanPage(kind account.Kind, p account.Page, f func(name string, v []byte) bool) {
	skip, left := p.Offset, p.Limit
	t.scan(kind, p, func(name string, v []byte) bool {
		if skip > 0 {
			skip--
			return true
		}
		left--
		return f(name, v) && left > 0
	})
}

// Names implements recordstore.Tx.
func (t *tx) Names(kind account.Kind, p account.Page) (out []string, err error) {
	t.scanPage(kind, p, func(name string, _ []byte) bool {
		out = append(out, name)
		return true
	})
	return out, nil
}

// Count implements recordstore.Tx.
func (t *tx) Count(kind account.Kind, p account.Page) (n int, err error) {
	p.After, p.Desc = "", false
	t.scan(kind, p, func(string, []byte) bool {
		n++
		return true
	})
	return n, nil
}

// scan gives the names of a list, in its order, until f has enough, with their records unless the page is one of p.Of.
func (t *tx) scan(kind account.Kind, p account.Page, f func(name string, v []byte) bool) {
	take := func(name string, v []byte) (more bool) {
		switch {
		case p.After != "" && name == p.After:
			return true
		case p.Prefix != "" && !strings.HasPrefix(name, p.Prefix):
			return p.Desc == (name > p.Prefix) // those before the first, or none any more
		}
		return f(name, v)
	}
	if p.Of.Kind != "" {
		var all []string
		for _, r := range t.below(backRefsBucket, string(p.Of.Kind), p.Of.Name) {
			if r[0] == string(kind) && (p.After == "" || p.Desc && r[1] < p.After || !p.Desc && r[1] > p.After) {
				all = append(all, r[1])
			}
		}
		slices.Sort(all)
		if p.Desc {
			slices.Reverse(all)
		}
		for _, n := range all {
			if !take(n, nil) {
				return
			}
		}
		return
	}
	from := []byte(p.After)
	switch {
	case p.After == "" && p.Desc && p.Prefix != "":
		from = []byte(recordstore.After(p.Prefix))
	case p.After == "" && p.Desc:
		from = nil
	case !p.Desc && p.Prefix > p.After:
		from = []byte(p.Prefix)
	}
	t.bucket(kindBucket(kind)).scan(from, p.Desc, func(k, v []byte) bool { return take(string(k), v) })
}

// SetRefs implements recordstore.Tx.
func (t *tx) SetRefs(kind account.Kind, name string, to []account.Ref) error {
	refs, back := t.bucket(refsBucket), t.bucket(backRefsBucket)
	for _, r := range t.below(refsBucket, string(kind), name) {
		if err := errors.Join(refs.delete(key(string(kind), name, r[0], r[1])), back.delete(key(r[0], r[1], string(kind), name))); err != nil {
			return err
		}
	}
	for _, r := range to {
		if err := errors.Join(refs.put(key(string(kind), name, string(r.Kind), r.Name), []byte{1}), back.put(key(string(r.Kind), r.Name, string(kind), name), []byte{1})); err != nil {
			return err
		}
	}
	return nil
}

// Referrers implements recordstore.Tx.
func (t *tx) Referrers(kind account.Kind, name string) (out []account.Ref, err error) {
	for _, r := range t.below(backRefsBucket, string(kind), name) {
		out = append(out, account.Ref{Kind: account.Kind(r[0]), Name: r[1]})
	}
	return out, nil
}

// ReferrersOf implements recordstore.Tx.
func (t *tx) ReferrersOf(kind account.Kind, names []string) (map[string][]account.Ref, error) {
	out := map[string][]account.Ref{}
	for _, n := range names {
		refs, err := t.Referrers(kind, n)
		if err != nil {
			return nil, err
		}
		if refs != nil {
			out[n] = refs
		}
	}
	return out, nil
}

// counted are the counters as they are kept.
type counted struct {
	recordstore.Counters
	Step int64 // of one-time codes
}

func (t *tx) counters(k account.CounterKey) (c counted, err error) {
	v := t.bucket(countersBucket).get(key(string(k.Kind), k.Name))
	if v == nil {
		return c, nil
	}
	return c, json.Unmarshal(v, &c)
}

// edit changes the counters of a record that is there.
func (t *tx) edit(k account.CounterKey, change func(c *counted)) (ok bool, err error) {
	if t.bucket(kindBucket(k.Kind)).get([]byte(k.Name)) == nil {
		return false, nil
	}
	c, err := t.counters(k)
	if err != nil {
		return false, err
	}
	change(&c)
	v, err := json.Marshal(c)
	if err != nil {
		return false, err
	}
	return true, t.bucket(countersBucket).put(key(string(k.Kind), k.Name), v)
}

// Add implements recordstore.Tx.
func (t *tx) Add(d account.Delta, now int64) error {
	_, err := t.edit(d.Key, func(c *counted) {
		c.Files, c.Bytes, c.QuotaUpdate = max(0, c.Files+d.Files), max(0, c.Bytes+d.Bytes), now
		c.Uploaded, c.Downloaded = max(0, c.Uploaded+d.Uploaded), max(0, c.Downloaded+d.Downloaded)
	})
	return err
}

// SetUsage implements recordstore.Tx.
func (t *tx) SetUsage(k account.CounterKey, to recordstore.Counters) (bool, error) {
	return t.edit(k, func(c *counted) { c.Files, c.Bytes, c.QuotaUpdate = to.Files, to.Bytes, to.QuotaUpdate })
}

// SetLastLogin implements recordstore.Tx.
func (t *tx) SetLastLogin(user string, ms int64) error {
	_, err := t.edit(account.CounterKey{Kind: account.KindUser, Name: user}, func(c *counted) { c.LastLogin = ms })
	return err
}

// UseStep implements recordstore.Tx.
func (t *tx) UseStep(user string, step int64) (fresh, ok bool, err error) {
	ok, err = t.edit(account.CounterKey{Kind: account.KindUser, Name: user}, func(c *counted) {
		if fresh = step > c.Step; fresh {
			c.Step = step
		}
	})
	return fresh, ok, err
}

// Mark implements recordstore.Tx.
func (t *tx) Mark(node string, k account.CounterKey) error {
	return t.bucket(dirtyBucket).put(key(node, string(k.Kind), k.Name), []byte{1})
}

// Unmark implements recordstore.Tx.
func (t *tx) Unmark(node string, k account.CounterKey) error {
	return t.bucket(dirtyBucket).delete(key(node, string(k.Kind), k.Name))
}

// Marked implements recordstore.Tx.
func (t *tx) Marked(node string) (out []account.CounterKey, err error) {
	for _, r := range t.below(dirtyBucket, node) {
		out = append(out, account.CounterKey{Kind: account.Kind(r[0]), Name: r[1]})
	}
	return out, nil
}

// newest is the number of the last change.
func (t *tx) newest() (seq int64) {
	t.bucket(changesBucket).scan(nil, true, func(k, _ []byte) bool {
		seq = int64(binary.BigEndian.Uint64(k))
		return false
	})
	return seq
}

// Changed implements recordstore.Tx, and keeps the rows few.
func (t *tx) Changed(kind account.Kind, name, node string) error {
	b := t.bucket(changesBucket)
	seq := t.newest() + 1
	if err := b.put(binary.BigEndian.AppendUint64(nil, uint64(seq)), key(string(kind), name, node)); err != nil {
		return err
	}
	if seq%1024 != 0 {
		return nil
	}
	var old [][]byte
	b.scan([]byte{}, false, func(k, _ []byte) bool {
		if int64(binary.BigEndian.Uint64(k)) >= seq-recordstore.KeptChanges {
			return false
		}
		old = append(old, bytes.Clone(k))
		return true
	})
	for _, k := range old {
		if err := b.delete(k); err != nil {
			return err
		}
	}
	return nil
}

// ChangesSince implements recordstore.Tx.
func (t *tx) ChangesSince(after int64, limit int) (out []account.Change, newest int64, err error) {
	newest = t.newest()
	t.bucket(changesBucket).scan(binary.BigEndian.AppendUint64(nil, uint64(max(0, after)+1)), false, func(k, v []byte) bool {
		p := strings.SplitN(string(v), "\x00", 3)
		out = append(out, account.Change{Seq: int64(binary.BigEndian.Uint64(k)), Kind: account.Kind(p[0]), Key: p[1], Node: p[2]})
		return len(out) < limit
	})
	return out, newest, nil
}
