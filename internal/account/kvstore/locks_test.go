package kvstore

import (
	"path/filepath"
	"testing"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/account/accounttest"
	"github.com/gantryhq/gantry/internal/account/recordstore"

	bolt "go.etcd.io/bbolt"
)

func BenchmarkLocks(b *testing.B) {
	run := func(b *testing.B, d db) {
		e := &engine{d}
		accounttest.BenchmarkLocks(b, recordstore.New(e, config()), func(items []accounttest.LockItem) error {
			return e.Write(b.Context(), func(t recordstore.Tx) error {
				for _, it := range items {
					if err := t.PutItem(account.KindLock, recordstore.Item{Key: it.Key, Name: it.Name, Doc: it.Doc}); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	b.Run("memory", func(b *testing.B) { run(b, &memory{}) })
	b.Run("bolt", func(b *testing.B) {
		d, err := bolt.Open(filepath.Join(b.TempDir(), "gantry.bolt"), 0o600, nil)
		if err != nil {
			b.Fatal(err)
		}
		defer d.Close()
		if err := (&boltDB{d}).update(prepare); err != nil {
			b.Fatal(err)
		}
		run(b, &boltDB{d})
	})
}
