package sqlstore

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gantryhq/gantry/internal/account"
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
		return e.Number == 1213 || e.Number == 1205 || e.Number == 1615 // deadlock, lock wait timeout, a statement must be prepared anew
	}
	return false
}

// told marks an error of a database that is gone with account.ErrUnavailable.
func told(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || !gone(err) {
		return err
	}
	return fmt.Errorf("%w: %w", account.ErrUnavailable, err)
}

// gone reports whether a server does not answer, is starting or stopping, or takes no more connections.
func gone(err error) bool {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return strings.HasPrefix(e.Code, "08") || strings.HasPrefix(e.Code, "57P0") || e.Code == "53300"
	}
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return e.Number == 1040 || e.Number == 1053 // too many connections, shutdown
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		pgconn.SafeToRetry(err) // nothing was sent: the connection was closed before
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
