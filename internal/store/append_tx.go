package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"runtime/trace"
	"slices"
)

// attempt is the transaction. It leaves its findings in b.results, which count only if it commits.
func (b *batch) attempt(ctx context.Context, t *tx, rows []int) error {
	if t.unclear {
		b.claim(rows)
	}
	if err := b.lock(ctx, t, rows); err != nil {
		return err
	}
	refused, err := b.authorise(ctx, t, rows)
	if err != nil {
		return err
	}
	var known map[messageID]storedMessage
	switch {
	case t.unclear || t.duplicate:
		// Only now: with the threads locked nothing of an earlier attempt can still be under way. The first attempt
		// goes without, because resends are rare and the unique key catches them.
		known, err = b.lookUp(ctx, t, rows)
	case len(refused) > 0:
		// They meet no unique key. Stored while their sender might write, they are resends.
		known, err = b.lookUp(ctx, t, refused)
	}
	if err != nil {
		return err
	}
	b.number(rows, known)
	if err := b.insert(ctx, t, rows); err != nil {
		return err
	}
	return b.bump(ctx, t)
}

// threadRun is a thread of the batch and where its rows are.
type threadRun struct {
	id       int64
	from, to int // half-open range of rows
	found    bool
	last     int64
	ver      int32 // of its membership
	asked    bool  // access was read in this transaction
	private  bool  // as access says
	access   Access
	grown    bool // last is to be written
	quiet    bool // no row in this unit of time; see touch
}

// lock checks the fence, as checkFence does, and in the same round trip locks the threads of rows by ascending id and
// reads their last sequence numbers.
func (b *batch) lock(ctx context.Context, t *tx, rows []int) error {
	defer trace.StartRegion(ctx, "lock").End()
	b.threads = b.threads[:0]
	for i, row := range rows {
		id := b.msgs[row].ThreadID
		if n := len(b.threads); n > 0 && b.threads[n-1].id == id {
			b.threads[n-1].to = i + 1
			continue
		}
		b.threads = append(b.threads, threadRun{id: id, from: i, to: i + 1})
	}
	n := padded(len(b.threads))
	b.args = append(b.args[:0], b.boot, b.node)
	for i := range n {
		b.args = append(b.args, b.threads[min(i, len(b.threads)-1)].id)
	}
	mine := false
	var id, value, ver int64 // value: of the fence 1 if it is this boot's, of a thread its last number
	var quiet bool
	dest := []any{&id, &value, &ver, &quiet}
	err := t.each(ctx, qAppendLock, n, b.args, func(r *sql.Rows) error {
		if err := r.Scan(dest...); err != nil {
			return err
		}
		if id == 0 {
			mine = b.boot != "" && value == 1
			return nil
		}
		i, ok := slices.BinarySearchFunc(b.threads, id, func(t threadRun, id int64) int { return cmp.Compare(t.id, id) })
		if !ok {
			return fmt.Errorf("thread %d was not asked for", id)
		}
		th := &b.threads[i]
		th.found, th.last, th.ver, th.quiet = true, value, int32(ver), quiet
		return nil
	})
	if err == nil && !mine {
		err = ErrFenced
	}
	return err
}

// number gives every row that is not known yet the next sequence number of its thread.
func (b *batch) number(rows []int, known map[messageID]storedMessage) {
	now := b.s.ms()
	b.results = slices.Grow(b.results[:0], len(rows))[:len(rows)]
	b.fresh = slices.Grow(b.fresh[:0], len(rows))[:len(rows)]
	b.typed = false
	for i := range b.threads {
		t := &b.threads[i]
		for j := t.from; j < t.to; j++ {
			m := &b.msgs[rows[j]]
			was, found := known[messageID{m.Sender, m.UniqueID}]
			b.fresh[j] = false
			switch {
			case found && was.thread == t.id:
				resent := !b.mine[claim{rows[j], was.seq, was.createdMS}] && !b.mine[claim{rows[j], 0, was.createdMS}]
				b.results[j] = Appended{Seq: was.seq, CreatedMS: was.createdMS, Resent: resent, Changed: was.changed}
			case found:
				b.results[j] = Appended{Err: ErrUniqueIDTaken}
			case !t.found:
				b.results[j] = Appended{Err: ErrNotFound}
			case b.refuses(t, m):
				b.results[j] = Appended{Err: ErrMayNotWrite}
			case t.last >= maxSeq:
				b.results[j] = Appended{Err: ErrThreadFull}
			default:
				t.last++
				t.grown = true
				b.results[j] = Appended{Seq: t.last, CreatedMS: now}
				b.fresh[j] = true
				b.typed = b.typed || m.Type != ""
			}
			b.results[j].MemberVer = t.ver
		}
	}
}

// insert inserts the rows that number has numbered.
func (b *batch) insert(ctx context.Context, t *tx, rows []int) error {
	defer trace.StartRegion(ctx, "insert").End()
	q, columns := qMessagesPut, messageColumns
	if b.typed {
		q, columns = qTypedPut, longColumns
	}
	b.args = b.args[:0]
	for i, row := range rows {
		if !b.fresh[i] {
			continue
		}
		m, r := &b.msgs[row], &b.results[i]
		b.args = append(b.args, m.ThreadID, r.Seq, m.Sender, m.UniqueID, m.Content, r.CreatedMS)
		if columns == longColumns {
			b.args = append(b.args, m.Type)
		}
	}
	for args := b.args; len(args) > 0; {
		n := insertShape(len(args) / columns)
		if _, err := t.exec(ctx, q, n, args[:n*columns]...); err != nil {
			return err
		}
		args = args[n*columns:]
	}
	return nil
}

// bump writes the new last sequence numbers.
func (b *batch) bump(ctx context.Context, t *tx) error {
	defer trace.StartRegion(ctx, "threads").End()
	b.args = b.args[:0]
	for _, th := range b.threads {
		if th.grown {
			b.args = append(b.args, th.id, th.last)
		}
	}
	n := len(b.args) / 2
	if n == 0 {
		return nil
	}
	for range padded(n) - n {
		b.args = append(b.args, b.args[2*n-2], b.args[2*n-1])
	}
	if _, err := t.exec(ctx, qThreadsBump, padded(n), b.args...); err != nil {
		return err
	}
	var quiet []int64
	for i := range b.threads {
		if th := &b.threads[i]; th.grown && th.quiet {
			quiet = append(quiet, th.id)
		}
	}
	return t.touch(ctx, quiet...)
}
