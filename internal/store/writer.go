package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"math/rand/v2"
	"runtime/trace"
	"sync"
	"time"
)

const (
	// maxIdle is how long a writer may rest before its connection is renewed: proxies and firewalls forget silent
	// connections without telling, and the first statement on such a one would wait for its deadline.
	maxIdle = time.Minute
	// rollbackTimeout bounds the ROLLBACK after a failure; a connection that cannot do it is thrown away.
	rollbackTimeout = time.Second

	maxConnRetries = 3 // of lost connections
	maxBackoff     = 100 * time.Millisecond
)

// retry says which failures of a transaction are worth another attempt, beside lost connections.
type retry struct {
	max        int  // how often deadlocks, lock time-outs and duplicate keys together are repeated
	duplicates bool // whether duplicate keys are repeated at all
}

var (
	retryLocks = retry{max: 10}
	retryAll   = retry{max: 10, duplicates: true}
)

// unwatched hides from database/sql and the drivers that the caller's context can end. To watch such a context they start
// or wake a goroutine for each statement. The connections of package mysql watch Caller at less cost. A statement of SQLite
// runs to its end: once its transaction has begun it waits for no one.
type unwatched struct{ caller context.Context }

// callerKey is the context key for Caller.
type callerKey struct{}

func (unwatched) Deadline() (deadline time.Time, ok bool) { return time.Time{}, false }
func (unwatched) Done() <-chan struct{}                   { return nil }
func (unwatched) Err() error                              { return nil }
func (u unwatched) Value(key any) any {
	if key == (callerKey{}) {
		return u.caller
	}
	return u.caller.Value(key)
}

// Caller returns the context whose end ends a statement that a driver is given under ctx.
func Caller(ctx context.Context) context.Context {
	if caller, ok := ctx.Value(callerKey{}).(context.Context); ok {
		return caller
	}
	return ctx
}

// A writer is a connection with its own prepared statements. All transactions run on writers: database/sql's Tx would
// prepare a pool's statements again on each connection (and on SQLite's single one, inside the open transaction, for
// ever), and its Commit cannot be cancelled.
type writer struct {
	conn  *sql.Conn
	d     Dialect
	stmts map[shape]*sql.Stmt // bounded by the shapes there are
	used  time.Time           // when it was last put back
	epoch uint64              // of writers, when it was made
}

func (w *writer) stmt(ctx context.Context, q *query, n int) (*sql.Stmt, error) {
	if err := ctx.Err(); err != nil {
		return nil, err // nothing else ends a transaction between statements; see unwatched
	}
	key := shape{q, n}
	if st := w.stmts[key]; st != nil {
		return st, nil
	}
	st, err := w.conn.PrepareContext(ctx, q.sql(w.d, n))
	if err != nil {
		return nil, err
	}
	w.stmts[key] = st
	return st, nil
}

// discard throws the connection away.
func (w *writer) discard() {
	// ErrBadConn makes database/sql close the connection instead of pooling it, and with it its statements.
	_ = w.conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = w.conn.Close() // it is closed already
}

// writers lends at most cap(slots) writers, the most recently used first, so that no more connections are held than are
// needed at once.
type writers struct {
	db    *sql.DB
	d     *dialect
	slots chan struct{}

	mu     sync.Mutex // guards the following
	rest   []*writer
	epoch  uint64 // raised by flush: writers of an earlier one are not used again
	closed bool
}

func newWriters(db *sql.DB, d *dialect, n int) *writers {
	return &writers{db: db, d: d, slots: make(chan struct{}, n)}
}

// take blocks until a writer is free or ctx ends. The caller gives it back with put, drop or flush.
func (p *writers) take(ctx context.Context) (*writer, error) {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var epoch uint64
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			<-p.slots
			return nil, ErrClosed
		}
		var w *writer
		epoch = p.epoch
		if n := len(p.rest); n > 0 {
			w, p.rest = p.rest[n-1], p.rest[:n-1]
		}
		p.mu.Unlock()
		if w == nil {
			break
		}
		if p.d.Dialect == SQLite || time.Since(w.used) < maxIdle {
			return w, nil
		}
		w.discard()
	}
	conn, err := p.db.Conn(ctx)
	if err != nil {
		<-p.slots
		return nil, err
	}
	w := &writer{conn: conn, d: p.d.Dialect, stmts: make(map[shape]*sql.Stmt), epoch: epoch}
	if p.d.setup != "" {
		if _, err := conn.ExecContext(ctx, p.d.setup); err != nil {
			p.drop(w)
			return nil, err
		}
	}
	return w, nil
}

// put gives a sound writer back.
func (p *writers) put(w *writer) {
	w.used = time.Now()
	var old *writer
	p.mu.Lock()
	gone := p.closed || w.epoch != p.epoch
	if !gone {
		p.rest = append(p.rest, w)
		if p.d.Dialect != SQLite && w.used.Sub(p.rest[0].used) > maxIdle {
			old = p.rest[0] // the load went down: let the oldest go
			p.rest = append(p.rest[:0], p.rest[1:]...)
		}
	}
	p.mu.Unlock()
	if gone {
		w.discard()
	}
	if old != nil {
		old.discard()
	}
	<-p.slots
}

// drop throws w away.
func (p *writers) drop(w *writer) {
	w.discard()
	<-p.slots
}

// flush throws away every resting writer, and each that is out when it comes back: when one connection broke, the server
// may have broken them all.
func (p *writers) flush() {
	p.mu.Lock()
	rest := p.rest
	p.rest = nil
	p.epoch++
	p.mu.Unlock()
	for _, w := range rest {
		w.discard()
	}
}

// close refuses further takes. Writers that are out are thrown away when they come back.
func (p *writers) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.flush()
}

// tx is one attempt at a transaction. The flags tell the function that runs in it what happened to earlier attempts. What
// the transactions of several topics do is a method; what those of one topic do is a function in its files.
type tx struct {
	db *database
	w  *writer

	// unclear: the outcome of an earlier COMMIT is not known, so what it should have stored may be there.
	unclear bool
	// committed: fn has committed already.
	committed bool
	// duplicate: an earlier attempt met a taken key.
	duplicate bool
	// renewals is how often the store's connections had been renewed when the attempt began.
	renewals uint64
}

// noteUnclear notes that a COMMIT which ended with err may have been carried out, if that is so.
func (t *tx) noteUnclear(err error) {
	switch c, _ := classOf(err); c {
	case classConn, classCanceled:
		t.unclear = true
		t.db.m.unclear.Inc()
	}
}

// exec runs a statement whose list has n items; n is 1 when it has none.
func (t *tx) exec(ctx context.Context, q *query, n int, args ...any) (sql.Result, error) {
	st, err := t.w.stmt(ctx, q, n)
	if err != nil {
		return nil, t.db.wrap(err)
	}
	res, err := st.ExecContext(unwatched{ctx}, args...)
	return res, t.db.wrap(err)
}

// each calls row for every row of the result.
func (t *tx) each(ctx context.Context, q *query, n int, args []any, row func(*sql.Rows) error) error {
	st, err := t.w.stmt(ctx, q, n)
	if err != nil {
		return t.db.wrap(err)
	}
	return t.db.scan(unwatched{ctx}, st, args, row)
}

// one scans the first row into dest and reports whether there was one.
func (t *tx) one(ctx context.Context, q *query, args []any, dest ...any) (found bool, err error) {
	err = t.each(ctx, q, 1, args, func(rows *sql.Rows) error {
		found = true
		return rows.Scan(dest...)
	})
	return found, err
}

// scan runs a prepared query to its end.
func (db *database) scan(ctx context.Context, st *sql.Stmt, args []any, row func(*sql.Rows) error) error {
	rows, err := st.QueryContext(ctx, args...)
	if err != nil {
		return db.wrap(err)
	}
	for rows.Next() {
		if err := row(rows); err != nil {
			_ = rows.Close() // err says more
			return db.wrap(err)
		}
	}
	return db.wrap(rows.Err())
}

// transact runs fn in a transaction until it commits, fn refuses, ctx ends or patience does. fn may run many times and
// must start afresh each time. An error of fn that is not the database's rolls back and is returned as it is.
func (db *database) transact(ctx context.Context, again retry, fn func(context.Context, *tx) error) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	t := tx{db: db}
	retries, lost, refused := 0, 0, 0
	for {
		t.renewals = db.renewal.n.Load()
		err := db.attempt(ctx, &t, fn)
		if err == nil {
			return nil
		}
		c, ours := classOf(err)
		if !ours || ctx.Err() != nil {
			return err
		}
		switch {
		case c == classRetry && retries < again.max:
			retries++
			db.m.retryDeadlock.Inc()
		case c == classDuplicate && again.duplicates && retries < again.max:
			retries++
			t.duplicate = true
			db.m.retryDuplicate.Inc()
		case c == classConn && lost < maxConnRetries:
			lost++
			db.writers.flush()
			db.m.retryConn.Inc()
		case c == classRefused && refused == 0 && db.renewSince(t.renewals):
			refused++
			db.m.retryRefused.Inc()
		default:
			return err
		}
		if err := pause(ctx, retries+lost+refused); err != nil {
			return db.wrap(err)
		}
	}
}

// attempt is one transaction on one writer.
func (db *database) attempt(ctx context.Context, t *tx, fn func(context.Context, *tx) error) error {
	w, err := db.writers.take(ctx)
	if err != nil {
		if err == ErrClosed {
			return err
		}
		return db.wrapOpening(err)
	}
	t.w = w
	if db.d.begin != "" {
		if _, err := w.conn.ExecContext(ctx, db.d.begin); err != nil {
			db.abort(ctx, w)
			return db.wrap(err)
		}
	}
	ended := false
	defer func() {
		if !ended {
			db.giveUp(ctx, w) // a panic: leave nothing locked behind
		}
	}()
	if err := fn(ctx, t); err != nil {
		ended = true
		db.abort(ctx, w)
		return err
	}
	if t.committed {
		ended = true
		db.writers.put(w)
		return nil
	}
	trace.WithRegion(ctx, "commit", func() { _, err = w.conn.ExecContext(unwatched{ctx}, db.d.commit) })
	ended = true
	if err != nil {
		db.abort(ctx, w)
		err = db.wrap(err)
		t.noteUnclear(err)
		return err
	}
	db.writers.put(w)
	return nil
}

// giveUp rolls back and throws the writer away, in whatever state it is.
func (db *database) giveUp(ctx context.Context, w *writer) {
	_ = db.rollBack(ctx, w) // MySQL rolls back when the connection ends, SQLite's driver does not
	db.writers.drop(w)
}

// abort rolls back and gives the writer back, or throws it away when that is not possible.
func (db *database) abort(ctx context.Context, w *writer) {
	if err := db.rollBack(ctx, w); err != nil {
		// SQLite says so too when it has rolled back by itself; a new connection is cheap there.
		db.writers.drop(w)
		return
	}
	db.writers.put(w)
}

func (db *database) rollBack(ctx context.Context, w *writer) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	_, err := w.conn.ExecContext(ctx, db.d.rollback)
	return err
}

// pause waits a random while that grows with n, or until ctx ends.
func pause(ctx context.Context, n int) error {
	limit := min(time.Millisecond<<min(n, 10), maxBackoff)
	t := time.NewTimer(rand.N(limit))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// bounded gives ctx a deadline if it has none, so that a database that has stopped answering blocks no caller for ever.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, DefaultTimeout)
}

// exec runs one statement in its own transaction.
func (db *database) exec(ctx context.Context, q *query, args ...any) (affected int64, err error) {
	err = db.transact(ctx, retryLocks, func(ctx context.Context, t *tx) error {
		res, err := t.exec(ctx, q, 1, args...)
		if err != nil {
			return err
		}
		affected, err = res.RowsAffected()
		if err != nil {
			return fmt.Errorf("rows affected: %w", err)
		}
		return nil
	})
	return affected, err
}
