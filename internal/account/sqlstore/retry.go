package sqlstore

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
)

// The bounds of trying a transaction again that others got in the way of.
const (
	retryTries = 30
	retryFirst = 2 * time.Millisecond
	retryLast  = 250 * time.Millisecond
)

// again runs f until it succeeds or fails for another reason than a conflict with another transaction, of which the
// database has undone all. The waits between grow and are random, so that two do not meet again and again.
func again(ctx context.Context, f func() error) error {
	wait := retryFirst
	for try := 1; ; try++ {
		err := f()
		if err == nil || try == retryTries || !conflict(err) {
			return err
		}
		t := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-ctx.Done():
			t.Stop()
			return errors.Join(ctx.Err(), err)
		case <-t.C:
		}
		wait = min(2*wait, retryLast)
	}
}

// conflict reports whether the database undid a transaction because of another one, so that it may be run again.
func conflict(err error) bool {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code == "40001" || e.Code == "40P01" // serialization failure, deadlock
	}
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return e.Number == 1213 || e.Number == 1205 // deadlock, lock wait timeout
	}
	return false
}

// doneBefore reports whether MySQL refused a statement of a schema step because it was run before: the table, column
// or index is there, or is gone.
func doneBefore(err error) bool {
	e, ok := errors.AsType[*mysql.MySQLError](err)
	return ok && (e.Number == 1050 || e.Number == 1060 || e.Number == 1061 || e.Number == 1091 || e.Number == 1051)
}

// raced reports whether a table could not be made because another node made it at the same moment.
func raced(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (e.Code == "23505" || e.Code == "42P07")
}
