package mysql

import (
	"context"
	"database/sql/driver"
	"io"
	"net"
	"sync/atomic"

	"parley/internal/store"
)

// The driver watches contexts with a goroutine of each connection, which it wakes before and after every statement. That
// was a quarter of all context switches while texts came one at a time (docs/PERFORMANCE.md). So the driver is given
// contexts that never end, and the connection is closed if the caller's ends before the statement.

// conn is a connection of the pool.
type conn struct {
	driverConn
	net   net.Conn // below driverConn
	ended atomic.Bool

	born  uint64         // the epoch in which it was opened
	epoch *atomic.Uint64 // raised when all connections are to be replaced
}

// usable reports whether the connection was not interrupted and is not to be replaced.
func (c *conn) usable() bool { return !c.ended.Load() && c.born == c.epoch.Load() }

// IsValid implements driver.Validator: the pool asks when the connection comes back.
func (c *conn) IsValid() bool { return c.usable() && c.driverConn.IsValid() }

// ResetSession implements driver.SessionResetter: the pool calls it before it hands the connection out.
func (c *conn) ResetSession(ctx context.Context) error {
	if !c.usable() {
		return driver.ErrBadConn
	}
	return c.driverConn.ResetSession(ctx)
}

// A watch closes a connection when the context of a statement ends before the statement does.
type watch struct {
	ctx  context.Context
	conn *conn
	stop func() bool
}

// watch begins to watch the context of a statement; end must be called when the statement has ended. It returns an error
// if ctx has ended already.
func (c *conn) watch(ctx context.Context) (watch, error) {
	ctx = store.Caller(ctx)
	if err := ctx.Err(); err != nil {
		return watch{}, err
	}
	return watch{ctx, c, context.AfterFunc(ctx, func() { _ = c.net.Close() })}, nil // the statement reports it
}

// end ends the watch. It returns the error to report for a statement that returned err.
func (w watch) end(err error) error {
	if !w.stop() {
		w.conn.ended.Store(true)
	}
	return w.reason(err)
}

// reason returns the error of the context, if it has ended, in place of err.
func (w watch) reason(err error) error {
	if err != nil && err != io.EOF && w.ctx.Err() != nil {
		return w.ctx.Err()
	}
	return err
}

// ExecContext implements driver.ExecerContext.
func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	w, err := c.watch(ctx)
	if err != nil {
		return nil, err
	}
	res, err := c.driverConn.ExecContext(context.Background(), query, args)
	return res, w.end(err)
}

// QueryContext implements driver.QueryerContext.
func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	w, err := c.watch(ctx)
	if err != nil {
		return nil, err
	}
	r, err := c.driverConn.QueryContext(context.Background(), query, args)
	return w.rows(r, err)
}

// PrepareContext implements driver.ConnPrepareContext.
func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	w, err := c.watch(ctx)
	if err != nil {
		return nil, err
	}
	st, err := c.driverConn.PrepareContext(context.Background(), query)
	if err = w.end(err); err != nil {
		return nil, err
	}
	return &stmt{st.(driverStmt), c}, nil
}

// driverStmt is all that database/sql asks of the driver's statement.
type driverStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
	driver.NamedValueChecker
}

// stmt is a prepared statement of a conn.
type stmt struct {
	driverStmt
	conn *conn
}

// ExecContext implements driver.StmtExecContext.
func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	w, err := s.conn.watch(ctx)
	if err != nil {
		return nil, err
	}
	res, err := s.driverStmt.ExecContext(context.Background(), args)
	return res, w.end(err)
}

// QueryContext implements driver.StmtQueryContext.
func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	w, err := s.conn.watch(ctx)
	if err != nil {
		return nil, err
	}
	r, err := s.driverStmt.QueryContext(context.Background(), args)
	return w.rows(r, err)
}

// rows returns the rows of a query under the watch.
func (w watch) rows(r driver.Rows, err error) (driver.Rows, error) {
	if err != nil {
		return nil, w.end(err)
	}
	return &rows{r, w}, nil
}

// rows are watched until they are closed.
type rows struct {
	driver.Rows
	watch watch
}

// Next implements driver.Rows.
func (r *rows) Next(dest []driver.Value) error { return r.watch.reason(r.Rows.Next(dest)) }

// Close implements driver.Rows.
func (r *rows) Close() error { return r.watch.end(r.Rows.Close()) }
