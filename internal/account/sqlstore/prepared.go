package sqlstore

import (
	"context"
	"database/sql/driver"
)

// preparing makes connections that keep their prepared statements. MySQL's driver prepares and closes one for every
// call otherwise, which is three round trips in the place of one. pgx keeps its own.
type preparing struct{ driver.Connector }

// Connect implements driver.Connector.
func (p preparing) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := p.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if full, ok := c.(mysqlConn); ok {
		return &preparedConn{mysqlConn: full, kept: map[string]driver.Stmt{}}, nil
	}
	return c, nil
}

// mysqlConn is what the driver's connections are.
type mysqlConn interface {
	driver.Conn
	driver.ConnPrepareContext
	driver.ConnBeginTx
	driver.Pinger
	driver.ExecerContext
	driver.QueryerContext
	driver.NamedValueChecker
	driver.SessionResetter
	driver.Validator
}

// keptStatements bounds what one connection keeps: the server has a bound for those of all (16382).
const keptStatements = 128

// preparedConn is a connection with its statements. As any driver.Conn it is used by one goroutine at a time.
type preparedConn struct {
	mysqlConn
	kept map[string]driver.Stmt
}

// with runs f with the statement of a query. One that fails is not kept: the server may want it anew.
func with[T any, S driver.Stmt](ctx context.Context, c *preparedConn, query string, f func(S) (T, error)) (out T, err error) {
	st, ok := c.kept[query]
	if !ok {
		if st, err = c.PrepareContext(ctx, query); err != nil {
			return out, err
		}
		for old, x := range c.kept {
			if len(c.kept) < keptStatements {
				break
			}
			delete(c.kept, old) // any of them: there are fewer statements than that
			x.Close()
		}
		c.kept[query] = st
	}
	s, ok := st.(S)
	if !ok {
		return out, driver.ErrSkip
	}
	out, err = f(s)
	if err != nil {
		delete(c.kept, query)
		st.Close()
	}
	return out, err
}

// queryStmt and execStmt are what the driver's statements are.
type queryStmt interface {
	driver.Stmt
	driver.StmtQueryContext
}

type execStmt interface {
	driver.Stmt
	driver.StmtExecContext
}

// QueryContext implements driver.QueryerContext.
func (c *preparedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if len(args) == 0 {
		return c.mysqlConn.QueryContext(ctx, query, args)
	}
	return with(ctx, c, query, func(s queryStmt) (driver.Rows, error) { return s.QueryContext(ctx, args) })
}

// ExecContext implements driver.ExecerContext.
func (c *preparedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if len(args) == 0 {
		return c.mysqlConn.ExecContext(ctx, query, args)
	}
	return with(ctx, c, query, func(s execStmt) (driver.Result, error) { return s.ExecContext(ctx, args) })
}
