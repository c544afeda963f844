package store

import (
	"context"
	"database/sql"
)

// messageID is what makes a message the same as another.
type messageID struct {
	sender int32
	unique string
}

// resolveRepeats answers the messages that the batch held more than once.
func (b *batch) resolveRepeats() {
	for _, r := range b.repeats {
		first := b.out[r[1]]
		switch {
		case first.Err == nil && b.msgs[r[0]].ThreadID != b.msgs[r[1]].ThreadID:
			b.out[r[0]] = Appended{Err: ErrUniqueIDTaken}
		case first.Err == nil:
			first.Resent = true
			b.out[r[0]] = first
		default:
			b.out[r[0]] = first
		}
	}
}

// storedMessage is where a resent message is.
type storedMessage struct {
	thread, seq, createdMS int64
	changed                bool
}

// lookUp finds those of rows that are stored already.
func (b *batch) lookUp(ctx context.Context, t *tx, rows []int) (map[messageID]storedMessage, error) {
	n := padded(len(rows))
	b.args = b.args[:0]
	for i := range n {
		m := &b.msgs[rows[min(i, len(rows)-1)]]
		b.args = append(b.args, m.Sender, m.UniqueID)
	}
	known := make(map[messageID]storedMessage)
	err := t.each(ctx, qResends, n, b.args, func(r *sql.Rows) error {
		var id messageID
		var m storedMessage
		if err := r.Scan(&id.sender, &id.unique, &m.thread, &m.seq, &m.createdMS, &m.changed); err != nil {
			return err
		}
		known[id] = m
		return nil
	})
	return known, err
}

// claim is a message, by its index, in the place an attempt gave it; seq is 0 if the database was to number it.
type claim struct {
	row            int
	seq, createdMS int64
}

// claim remembers what the attempt before this one numbered.
func (b *batch) claim(rows []int) {
	if b.mine == nil {
		b.mine = make(map[claim]bool)
	}
	for i, r := range b.results {
		if b.fresh[i] {
			b.mine[claim{rows[i], r.Seq, r.CreatedMS}] = true
		}
	}
}
