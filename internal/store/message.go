package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
)

// Messages are the rows of threads: appended, read, recalled, edited and hidden.
type Messages struct{ db *database }

const historyOfThread = `SELECT %s seq,sender_id,unique_id,content,status,created_ms,kind,type,edited_ms,edited_seq FROM chat_message
	WHERE thread_id=? AND seq>? AND seq<=? ORDER BY seq LIMIT ?`

var (
	qHistory     = same(fmt.Sprintf(historyOfThread, ""))
	qHistories   = union(fmt.Sprintf(historyOfThread, "?,"))
	qMessageByID = same(`SELECT thread_id,seq,content,status,created_ms FROM chat_message
		WHERE sender_id=? AND unique_id=?`)
	qMessagesPut = sameList(`INSERT INTO chat_message(thread_id,seq,sender_id,unique_id,content,status,created_ms) VALUES @`,
		"(?,?,?,?,?,0,?)", ",")
	qTypedPut = sameList(`INSERT INTO chat_message(thread_id,seq,sender_id,unique_id,content,status,created_ms,type) VALUES @`,
		"(?,?,?,?,?,0,?,?)", ",")
	qEventsPut = sameList(`INSERT INTO chat_message(thread_id,seq,sender_id,unique_id,content,status,created_ms,kind) VALUES @`,
		"(?,?,?,?,?,0,?,?)", ",")
)

// Kinds of a row in a thread's sequence.
const (
	KindText   int8 = 0
	KindEvent  int8 = 1 // of a group: the content is an Event
	KindRecall int8 = 2 // the content is a textEvent
	KindEdit   int8 = 3 // the content is a textEvent
)

// messageColumns is how many values one row of qMessagesPut takes, longColumns one of qTypedPut or qEventsPut.
const (
	messageColumns = 6
	longColumns    = messageColumns + 1
)

// StatusRecalled is the status of a recalled text, whose content and type are gone.
const StatusRecalled = 1

// Message is a stored message. Seq counts from 1 in each thread without a gap. CreatedMS is Unix time in milliseconds by
// the clock of the node that stored it, so it may step back from one message to the next. Status is 0 or StatusRecalled. Type is
// the content's, "" for plain text. EditedMS is when the text was edited last and EditedSeq the row that tells of it; 0 if it was not.
type Message struct {
	ThreadID, Seq       int64
	Sender              int32
	UniqueID, Content   string
	Status              int32
	CreatedMS           int64
	Kind                int8
	Type                string
	EditedMS, EditedSeq int64
}

// History returns the messages of a thread whose seq is greater than after, in ascending order: at most limit, and as
// many as have at most maxBytes of content together, but at least one if there is any. more tells that others follow.
// limit and maxBytes below 1 count as 1. Who may read the thread is the caller's business.
func (s *Messages) History(ctx context.Context, thread, after int64, limit, maxBytes int) (msgs []Message, more bool, err error) {
	return s.HistoryTo(ctx, thread, after, 0, limit, maxBytes)
}

// HistoryTo is History without the messages whose seq is greater than upto; 0 is no bound.
func (s *Messages) HistoryTo(ctx context.Context, thread, after, upto int64, limit, maxBytes int) (msgs []Message, more bool, err error) {
	if upto == 0 {
		upto = maxSeq
	}
	limit, bytes := max(limit, 1), 0
	err = s.db.each(ctx, qHistory, 1, []any{thread, after, upto, limit + 1}, func(rows *sql.Rows) error {
		if more {
			return nil // the rest is dropped: closing early would have the driver read it all the same
		}
		m := Message{ThreadID: thread}
		if err := rows.Scan(m.columns()...); err != nil {
			return err
		}
		bytes += len(m.Content)
		if len(msgs) == limit || (len(msgs) > 0 && bytes > maxBytes) {
			more = true
			return nil
		}
		msgs = append(msgs, m)
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("store: history of thread %d: %w", thread, err)
	}
	return msgs, more, nil
}

// columns returns where the columns of historyOfThread go.
func (m *Message) columns() []any {
	return []any{&m.Seq, &m.Sender, &m.UniqueID, &m.Content, &m.Status, &m.CreatedMS, &m.Kind, &m.Type, &m.EditedMS, &m.EditedSeq}
}

// Span is the rows of a thread above After, up to Upto.
type Span struct{ Thread, After, Upto int64 }

// Part says which rows of a thread to read: those of the span, where Upto 0 is no bound, and Limit of them at most.
type Part struct {
	Span
	Limit int
}

// Rows are messages of a thread in ascending order. More tells that others follow.
type Rows struct {
	Messages []Message
	More     bool
}

// historyThreads is how many threads one statement reads.
const historyThreads = 64

// Histories is HistoryTo for parts of many threads, of which one statement reads 64. It returns an element for each part and does
// not cut them by bytes: the sum of the limits is the caller's business.
func (s *Messages) Histories(ctx context.Context, parts []Part) ([]Rows, error) {
	out := make([]Rows, len(parts))
	for from := 0; from < len(parts); from += historyThreads {
		to := min(from+historyThreads, len(parts))
		if err := s.histories(ctx, parts[from:to], out[from:to]); err != nil {
			return nil, fmt.Errorf("store: history of %d threads: %w", len(parts), err)
		}
	}
	return out, nil
}

func (s *Messages) histories(ctx context.Context, parts []Part, out []Rows) error {
	const columns = 5
	args := make([]any, 0, columns*padded(len(parts)))
	for i := range padded(len(parts)) {
		var p Part // the padding is of no thread
		if i < len(parts) {
			p = parts[i]
			if p.Upto == 0 {
				p.Upto = maxSeq
			}
		}
		args = append(args, i, p.Thread, p.After, p.Upto, max(p.Limit, 1)+1)
	}
	var place int
	err := s.db.each(ctx, qHistories, len(args)/columns, args, func(rows *sql.Rows) error {
		var m Message
		if err := rows.Scan(append([]any{&place}, m.columns()...)...); err != nil {
			return err
		}
		m.ThreadID = parts[place].Thread
		out[place].Messages = append(out[place].Messages, m)
		return nil
	})
	for i := range out {
		of := &out[i]
		slices.SortFunc(of.Messages, func(a, b Message) int { return cmp.Compare(a.Seq, b.Seq) }) // SQL promises no order
		if limit := max(parts[i].Limit, 1); len(of.Messages) > limit {
			of.Messages, of.More = of.Messages[:limit], true
		}
	}
	return err
}
