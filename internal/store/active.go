package store

import (
	"context"
	"database/sql"
	"fmt"
)

// When a thread got its newest row, or a mark moved, is kept in units of ten minutes of the database's clock, in chat_thread and, under an
// index by user, in private_chat. So only the first row of a thread in ten minutes costs a write there, and the changed
// threads of a user are found without reading the others. The groups of a user, MaxGroups at most, are all read.

// ActiveUnit is the unit in seconds. A transaction that takes longer may commit rows that Threads.Since does not find.
const ActiveUnit = 600

// Clock returns the Unix time in seconds of the database, whose clock says when threads were active.
func (s *Store) Clock(ctx context.Context) (int64, error) {
	var now int64
	if err := s.db.one(ctx, qClock, nil, &now); err != nil {
		return 0, fmt.Errorf("store: clock: %w", err)
	}
	return now, nil
}

// Since is List without the threads that have got no row since a time, in seconds of Clock. It may return others
// too, up to two units older. Committed rows that it misses were stored by a transaction that took longer than a unit.
func (s *Threads) Since(ctx context.Context, uid int32, since, after int64, limit int) ([]Thread, error) {
	limit = max(limit, 0)
	active := since/ActiveUnit - 1
	args := []any{uid, active, after, limit, uid, active, after, limit, uid, active, after, limit, limit}
	threads, err := s.read(ctx, qThreadsSince, args)
	if err != nil {
		return nil, fmt.Errorf("store: threads of user %d since %d: %w", uid, since, err)
	}
	return threads, nil
}

// Before says which rows of a thread to look at: those up to Seq.
type Before struct{ Thread, Seq int64 }

// LastBefore returns, for each place, the number of the newest row that is older than a time in Unix milliseconds, by the
// clocks of the nodes that stored them; 0 if there is none. It looks at depth rows of each thread at most, and returns the
// number before the last of these if all are newer. At most 256 places.
func (s *Threads) LastBefore(ctx context.Context, places []Before, ms, depth int64) ([]int64, error) {
	out := make([]int64, len(places))
	if len(places) == 0 {
		return out, nil
	}
	const columns = 5
	args := make([]any, 0, columns*padded(len(places)))
	for i := range padded(len(places)) {
		at := min(i, len(places)-1)
		low := max(places[at].Seq-depth, 0)
		out[at] = low
		args = append(args, at, places[at].Thread, low, places[at].Seq, ms)
	}
	err := s.db.each(ctx, qLastBefore, len(args)/columns, args, func(rows *sql.Rows) error {
		var at int
		var seq int64
		if err := rows.Scan(&at, &seq); err != nil {
			return err
		}
		out[at] = seq
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("store: rows of %d threads before %d: %w", len(places), ms, err)
	}
	return out, nil
}

// touchQuiet is touch for threads that are changed otherwise than by rows, and that the caller has not locked.
func (t *tx) touchQuiet(ctx context.Context, threads []int64) error {
	var quiet []int64
	args := appendPadded(nil, threads)
	err := t.each(ctx, qThreadsQuiet, len(args), args, func(rows *sql.Rows) error {
		var id int64
		err := rows.Scan(&id)
		quiet = append(quiet, id)
		return err
	})
	if err != nil {
		return err
	}
	return t.touch(ctx, quiet...)
}

// touch says that threads change now. The caller has locked them, 256 at most.
func (t *tx) touch(ctx context.Context, threads ...int64) error {
	if len(threads) == 0 {
		return nil
	}
	args := appendPadded(nil, threads)
	if _, err := t.exec(ctx, qThreadsTouch, len(args), args...); err != nil {
		return err
	}
	_, err := t.exec(ctx, qPairsTouch, len(args), args...)
	return err
}
