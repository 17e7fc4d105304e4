package sqlstore

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/account/accounttest"
	"github.com/gantryhq/gantry/internal/account/recordstore"
)

func BenchmarkLocks(b *testing.B) {
	cfg := Config{Path: filepath.Join(b.TempDir(), "gantry.db"), Rules: account.DefaultRules()}
	s, err := Open(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	accounttest.BenchmarkLocks(b, s, func(items []accounttest.LockItem) error { return fillLocks(b, cfg, items) })
}

func fillLocks(tb testing.TB, cfg Config, items []accounttest.LockItem) error {
	e, err := openEngine(tb.Context(), cfg)
	if err != nil {
		return err
	}
	defer e.Close()
	return e.Write(tb.Context(), func(t recordstore.Tx) error {
		for _, it := range items {
			if err := t.PutItem(account.KindLock, recordstore.Item{Key: it.Key, Name: it.Name, Doc: it.Doc}); err != nil {
				return err
			}
		}
		return nil
	})
}

// Locks that an older Gantry kept hold and count after the schema's step, also when it was taken back in between.
func TestLocksOfAnOlderSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gantry.db")
	lim := account.LockLimits{PerUser: 2, Total: 10}
	lock := func(token, path string, left time.Duration) account.Lock {
		return account.Lock{Token: token, Storage: "local", Path: path, Exclusive: true, Username: "u", Expires: time.Now().Add(left).UnixMilli()}
	}
	for i := range 2 {
		s := open(t, path)
		if i == 0 {
			for _, l := range []account.Lock{lock("over", "/o", -time.Second), lock("held", "/a", time.Hour)} {
				if err := s.AddLock(t.Context(), l, lim); err != nil {
					t.Fatal(err)
				}
			}
		}
		s.Close()
		if _, err := Revert(t.Context(), Config{Path: path, Prefix: "p_"}, 4); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, path)
	if err := s.AddLock(t.Context(), lock("x", "/a", time.Hour), lim); !errors.Is(err, account.ErrConflict) {
		t.Errorf("got %v, want a conflict", err)
	}
	for i, want := range []error{nil, account.ErrLimit} {
		if err := s.AddLock(t.Context(), lock([]string{"y", "z"}[i], []string{"/y", "/z"}[i], time.Hour), lim); !errors.Is(err, want) {
			t.Errorf("lock %d beside the old one: got %v, want %v", i, err, want)
		}
	}
}
