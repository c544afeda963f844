package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"
)

// probeRow is the row of node_fence that write probes change. No node can have its name.
const probeRow = "~write probe"

// probeAge is how long a successful write counts: a probe costs the database one small write per node in so much time,
// however often it is asked.
const probeAge = 5 * time.Second

// WriteProbe tells whether the database can be written to, which Ping does not: a file system that has become read-only, a
// full disk and a server with read_only=1 still answer. Make it with NewWriteProbe.
type WriteProbe struct {
	store *Store

	mu    sync.Mutex // guards the following, and lets one probe write at a time
	wrote time.Time
}

// NewWriteProbe returns a probe that has written nothing yet.
func (s *Store) NewWriteProbe() *WriteProbe { return &WriteProbe{store: s} }

// Unwritable means that the database answers but refuses to be written to.
type Unwritable struct {
	Reason string // "read-only", "full" or "refuses writes"
	Err    error
}

func (u *Unwritable) Error() string { return fmt.Sprintf("store: %s: %v", u.Reason, u.Err) }
func (u *Unwritable) Unwrap() error { return u.Err }

// Public is the error without private details.
func (u *Unwritable) Public() string { return u.Reason }

// Check reports that the database does not answer, or an *Unwritable. Two things are no failure: a write that has no answer
// before ctx ends, for the writers may just be busy, and a row lock that another node's probe holds.
func (p *WriteProbe) Check(ctx context.Context) error {
	if err := p.store.Ping(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.wrote) < probeAge {
		return nil
	}
	err := p.store.Fence.Take(ctx, probeRow, strconv.FormatInt(time.Now().UnixNano(), 36))
	if err == nil {
		p.wrote = time.Now()
		return nil
	}
	code, ours := p.store.db.code(err)
	switch {
	case ctx.Err() != nil, errors.Is(err, context.DeadlineExceeded), ours && lockTimeout(p.store.db.d.Dialect, code):
		return nil
	case !ours:
		return err
	}
	return &Unwritable{Reason: unwritable(p.store.db.d.Dialect, code), Err: err}
}

func lockTimeout(d Dialect, code int) bool {
	if d == SQLite {
		return code&0xff == 5 || code&0xff == 6 // SQLITE_BUSY, SQLITE_LOCKED
	}
	return code == 1205 || code == 1213
}

func unwritable(d Dialect, code int) string {
	if d == SQLite {
		switch code & 0xff { // the primary result code
		case 8: // SQLITE_READONLY
			return "read-only"
		case 13: // SQLITE_FULL
			return "full"
		}
		return "refuses writes"
	}
	switch code {
	case 1290, 1792, 1836, 1874: // read_only, a read-only transaction, read-only mode, innodb_read_only
		return "read-only"
	case 1021, 1114: // disk full, table full
		return "full"
	}
	return "refuses writes"
}
