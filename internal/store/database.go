package store

import (
	"context"
	"database/sql"
	"sync/atomic"
	"time"
)

// database is what all parts of a Store work with: the connections, reads and transactions that are repeated when that
// helps, the classes of errors, the clock and the counters. It knows no table. Reads are below, transactions in writer.go.
type database struct {
	d           *dialect
	write, read *sql.DB
	writers     *writers
	reads       *statements
	renewal     renewal
	code        func(error) (int, bool)
	now         func() time.Time

	alone atomic.Bool // whether the procedure for single texts can be called

	groupMembers int // how many a group may have

	m *metrics
}

// each runs a read and calls row for each of its rows. It is repeated once on a fresh connection if the first broke, or
// was refused by the server, before it returned a row.
func (db *database) each(ctx context.Context, q *query, n int, args []any, row func(*sql.Rows) error) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	for retried := false; ; retried = true {
		renewals := db.renewal.n.Load()
		st, err := db.reads.get(ctx, q, n)
		if err != nil {
			err = db.wrap(err)
		}
		started := false
		if err == nil {
			err = db.scan(ctx, st, args, func(rows *sql.Rows) error {
				started = true
				return row(rows)
			})
		}
		c, ours := classOf(err)
		if !ours || started || retried || ctx.Err() != nil {
			return err
		}
		switch {
		case c == classConn, c == classRetry:
			if st != nil {
				db.reads.drop(q, n, st)
			}
			db.m.retryConn.Inc()
		case c == classRefused && db.renewSince(renewals):
			db.m.retryRefused.Inc()
		default:
			return err
		}
	}
}

// eachOf is each for a query whose list is keys, of which one statement takes maxList.
func eachOf[K any](ctx context.Context, db *database, q *query, keys []K, row func(*sql.Rows) error) error {
	for len(keys) > 0 {
		part := keys[:min(len(keys), maxList)]
		keys = keys[len(part):]
		args := appendPadded(nil, part)
		if err := db.each(ctx, q, len(args), args, row); err != nil {
			return err
		}
	}
	return nil
}

// one reads the first row into dest and returns ErrNotFound if there is none.
func (db *database) one(ctx context.Context, q *query, args []any, dest ...any) error {
	found := false
	err := db.each(ctx, q, 1, args, func(rows *sql.Rows) error {
		found = true
		return rows.Scan(dest...)
	})
	if err == nil && !found {
		return ErrNotFound
	}
	return err
}

// ms is the node's clock in milliseconds.
func (db *database) ms() int64 { return db.now().UnixMilli() }
