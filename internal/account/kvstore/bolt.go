package kvstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	boltErrors "go.etcd.io/bbolt/errors"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/account/recordstore"
)

// lockWait is how long another process may keep the file.
const lockWait = 2 * time.Second

// Open opens a bbolt file, made if it is missing. One process at a time may have it. A file that some other program
// made is refused untouched with account.ErrForeignDB.
func Open(ctx context.Context, path string, readOnly bool, cfg recordstore.Config) (*recordstore.Store, error) {
	wait := lockWait
	if end, ok := ctx.Deadline(); ok {
		wait = max(time.Millisecond, min(wait, time.Until(end)))
	}
	st, err := os.Stat(path)
	switch {
	case err == nil && !st.Mode().IsRegular():
		return nil, fmt.Errorf("kvstore: %s is not a file", path)
	case err == nil && st.Size() > 0:
		if err := look(path, wait); err != nil { // before anything is written
			return nil, err
		}
	case err != nil && (readOnly || !errors.Is(err, os.ErrNotExist)):
		return nil, fmt.Errorf("kvstore: %w", err)
	}
	d, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: wait, ReadOnly: readOnly}) // it holds password hashes
	if err != nil {
		return nil, told(path, err)
	}
	b := &boltDB{d}
	if !readOnly {
		if err := b.update(prepare); err != nil {
			d.Close()
			return nil, fmt.Errorf("kvstore: %s: %w", path, err)
		}
	}
	return recordstore.New(&engine{b}, cfg), nil
}

// told explains the errors of bbolt.
func told(path string, err error) error {
	if errors.Is(err, boltErrors.ErrTimeout) {
		return fmt.Errorf("kvstore: %s is in use by another process; a bolt file serves one at a time: stop the server, or change accounts through its REST API", path)
	}
	return fmt.Errorf("kvstore: %s cannot be opened as a bolt database: %w", path, err)
}

// look reads who made the file, and changes nothing.
func look(path string, wait time.Duration) (err error) {
	d, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: wait, ReadOnly: true})
	if err != nil {
		return told(path, err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return d.View(func(t *bolt.Tx) error {
		m := t.Bucket([]byte(metaBucket))
		if m == nil {
			if k, _ := t.Cursor().First(); k == nil {
				return nil // empty
			}
			return fmt.Errorf("kvstore: %s: %w; name another file in data_provider.name and import the accounts from a dump with `gantry load FILE` or `gantry serve --loaddata-from FILE`", path, account.ErrForeignDB)
		}
		return checkLayout(boltBucket{m})
	})
}

var layoutKey = []byte("layout")

func checkLayout(meta bucket) error {
	v := meta.get(layoutKey)
	if len(v) != 8 {
		return errors.New("kvstore: the database has no version of its layout: it is damaged")
	}
	if have := binary.BigEndian.Uint64(v); have != layout {
		return fmt.Errorf("kvstore: layout %d is not the one that this Gantry knows (%d): use another Gantry", have, layout)
	}
	return nil
}

// prepare makes all buckets, so that reading needs no more.
func prepare(t txn) error {
	tx := t.(boltTxn).Tx
	for _, name := range buckets() {
		if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
			return err
		}
	}
	meta := t.bucket(metaBucket)
	if meta.get(layoutKey) != nil {
		return checkLayout(meta)
	}
	return meta.put(layoutKey, binary.BigEndian.AppendUint64(nil, layout))
}

func buckets() []string {
	out := []string{metaBucket, countersBucket, refsBucket, backRefsBucket, changesBucket, dirtyBucket, itemsBucket, parentsBucket, scopesBucket, placesBucket}
	for _, k := range []account.Kind{account.KindUser, account.KindGroup, account.KindFolder, account.KindConfig} {
		out = append(out, kindBucket(k))
	}
	for _, o := range new(account.Dump).Others() {
		out = append(out, kindBucket(o.Kind))
	}
	return out
}

// boltDB is a db in a file.
type boltDB struct{ *bolt.DB }

func (b *boltDB) view(f func(txn) error) error {
	return b.View(func(t *bolt.Tx) error { return f(boltTxn{t}) })
}

func (b *boltDB) update(f func(txn) error) error {
	return b.Update(func(t *bolt.Tx) error { return f(boltTxn{t}) })
}

func (b *boltDB) close() error { return b.Close() }

// boltTxn is a transaction.
type boltTxn struct{ *bolt.Tx }

func (t boltTxn) bucket(name string) bucket {
	b := t.Bucket([]byte(name))
	if b == nil { // a kind of record that no Gantry knows
		return &none{name}
	}
	return boltBucket{b}
}

// none is a bucket that is not there.
type none struct{ name string }

func (n *none) get([]byte) []byte { return nil }
func (n *none) put(_, _ []byte) error {
	return fmt.Errorf("kvstore: there is no bucket %s", strings.TrimPrefix(n.name, "gantry_"))
}
func (n *none) delete([]byte) error                             { return nil }
func (n *none) scan([]byte, bool, func(key, value []byte) bool) {}

// boltBucket is a bucket of one transaction.
type boltBucket struct{ b *bolt.Bucket }

func (b boltBucket) get(key []byte) []byte       { return b.b.Get(key) }
func (b boltBucket) put(key, value []byte) error { return b.b.Put(key, value) }
func (b boltBucket) delete(key []byte) error     { return b.b.Delete(key) }

func (b boltBucket) scan(from []byte, back bool, f func(key, value []byte) bool) {
	c := b.b.Cursor()
	if !back {
		for k, v := c.Seek(from); k != nil && f(k, v); k, v = c.Next() {
		}
		return
	}
	k, v := c.Last()
	if from != nil {
		if k, v = c.Seek(from); k == nil {
			k, v = c.Last()
		} else if !bytes.Equal(k, from) {
			k, v = c.Prev()
		}
	}
	for ; k != nil && f(k, v); k, v = c.Prev() {
	}
}
