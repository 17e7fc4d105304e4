//go:build unix

package sqlstore

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gantryhq/gantry/internal/account"
	"github.com/gantryhq/gantry/internal/account/accounttest"
)

// Transactions that the server undoes because of each other, by deadlocks and by serialization failures, are run again
// until all are done: nothing is lost, nothing is done twice.
func TestConflictsLoseNothing(t *testing.T) {
	for _, d := range drivers() {
		t.Run(d, func(t *testing.T) {
			cfg := configOf(t, d)
			s := openServer(t, cfg)
			const users = 4
			key := func(i int) account.CounterKey {
				return account.CounterKey{Kind: account.KindUser, Name: fmt.Sprint("u", i%users)}
			}
			for i := range users {
				u := accounttest.User(key(i).Name)
				if err := s.AddUser(t.Context(), &u); err != nil {
					t.Fatal(err)
				}
			}
			if d == "postgresql" { // it waits a second before it looks for a deadlock
				serverOf(t, d).Exec(t, "", "ALTER DATABASE "+cfg.Server.Database+" SET deadlock_timeout = '20ms'")
			}
			e, err := openEngine(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			const writers, rounds = 6, 10
			var tries sync.Map
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					for r := range rounds {
						n := 0
						err := e.write(t.Context(), func(x *tx) error {
							n++
							for i := range users { // each in an order of its own
								k := key(w + i)
								if w%2 == 1 {
									k = key(w + users - i)
								}
								if err := x.Add(account.Delta{Key: k, Files: 1, Bytes: 7}, 1); err != nil {
									return err
								}
							}
							return nil
						})
						if err != nil {
							t.Errorf("writer %d: %v", w, err)
						}
						tries.Store([2]int{w, r}, n)
					}
				})
			}
			wg.Wait()
			all := 0
			tries.Range(func(_, n any) bool { all += n.(int); return true })
			if all == writers*rounds {
				t.Error("there was no conflict, so nothing was tested")
			}
			t.Logf("%d transactions took %d tries", writers*rounds, all)
			for i := range users {
				if u, err := s.Usage(t.Context(), key(i)); err != nil || u.Files != writers*rounds || u.Bytes != 7*writers*rounds {
					t.Errorf("%s: %+v, %v; want %d files", key(i).Name, u, err, writers*rounds)
				}
			}
		})
	}
}

func TestRetryEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := again(ctx, func() error {
		if n++; n == 3 {
			cancel()
		}
		return &pgconn.PgError{Code: "40001"}
	})
	if err == nil || n != 3 {
		t.Errorf("%d tries, %v", n, err)
	}
	n = 0
	if err := again(t.Context(), func() error { n++; return &mysql.MySQLError{Number: 1062} }); err == nil || n != 1 {
		t.Errorf("an error that is no conflict: %d tries, %v", n, err)
	}
}
