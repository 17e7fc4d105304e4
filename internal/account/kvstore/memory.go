package kvstore

import (
	"bytes"
	"sync"

	"github.com/tidwall/btree"

	"github.com/gantryhq/gantry/internal/account/recordstore"
)

// Memory makes a store that ends with the process.
func Memory(cfg recordstore.Config) *recordstore.Store {
	return recordstore.New(&engine{&memory{}}, cfg)
}

// memory is a db of trees, of which a transaction has copies: copying one costs nothing until it is written.
type memory struct {
	writing sync.Mutex // held by one update

	mu    sync.Mutex // guards what follows
	trees map[string]*tree
}

type tree = btree.Map[string, []byte]

// memTxn is a transaction. Trees are copied when they are first used.
type memTxn struct {
	m     *memory
	from  map[string]*tree // the state that it began with
	mine  map[string]*tree
	write bool
}

func (m *memory) begin(write bool) *memTxn {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &memTxn{m: m, from: m.trees, mine: map[string]*tree{}, write: write}
}

func (m *memory) view(f func(txn) error) error { return f(m.begin(false)) }

func (m *memory) update(f func(txn) error) error {
	m.writing.Lock()
	defer m.writing.Unlock()
	t := m.begin(true)
	if err := f(t); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	next := make(map[string]*tree, len(m.trees)+1)
	for name, old := range m.trees {
		next[name] = old
	}
	for name, mine := range t.mine {
		next[name] = mine
	}
	m.trees = next
	return nil
}

func (m *memory) close() error { return nil }

func (t *memTxn) bucket(name string) bucket {
	if b := t.mine[name]; b != nil {
		return memBucket{b}
	}
	b := t.from[name]
	switch {
	case b == nil:
		b = &tree{}
	case t.write:
		t.m.mu.Lock() // two copies of one tree must not be made at once
		b = b.Copy()
		t.m.mu.Unlock()
	}
	t.mine[name] = b
	return memBucket{b}
}

// memBucket is a bucket of one transaction.
type memBucket struct{ t *tree }

func (b memBucket) get(key []byte) []byte {
	v, _ := b.t.Get(string(key))
	return v
}

func (b memBucket) put(key, value []byte) error {
	b.t.Set(string(key), bytes.Clone(value))
	return nil
}

func (b memBucket) delete(key []byte) error {
	b.t.Delete(string(key))
	return nil
}

func (b memBucket) scan(from []byte, back bool, f func(key, value []byte) bool) {
	give := func(k string, v []byte) bool { return f([]byte(k), v) }
	switch {
	case !back:
		b.t.Ascend(string(from), give)
	case from == nil:
		b.t.Reverse(give)
	default:
		b.t.Descend(string(from), give)
	}
}
