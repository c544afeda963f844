package history

import (
	"context"
	"slices"

	"parley/internal/store"
)

// Source is what pages are read from; *store.Messages implements it.
type Source interface {
	HistoryTo(ctx context.Context, thread, after, upto int64, limit, maxBytes int) (msgs []store.Message, more bool, err error)
	Histories(ctx context.Context, parts []store.Part) ([]store.Rows, error)
	Hidden(ctx context.Context, uid int32, spans []store.Span) (map[int64][]int64, error)
	Contents(ctx context.Context, uid int32, ids []store.TextID) (map[store.TextID]store.Message, error)
}

// Start says that the page of a thread in a user's list starts after number After.
type Start struct {
	store.Thread
	After int64
}

// Ahead is a Source that holds the first rows of some pages.
type Ahead struct {
	Source
	rows   map[store.Span]store.Rows // by the span asked for
	hidden map[store.Span][]int64    // by the span of the rows
	edited map[store.TextID]bool     // texts that were asked for
	texts  map[store.TextID]store.Message
}

// ReadAhead reads the first rows of as many pages as may fit into bytes, at least one, with one statement for many
// threads, and so the texts of which they announce edits. n is the number of these pages. Page can then read from a as from src; limit is the limit of Page.
func ReadAhead(ctx context.Context, src Source, starts []Start, view View, limit, bytes int) (a *Ahead, n int, err error) {
	var parts []store.Part
	for n < len(starts) && (n == 0 || bytes > 0) {
		at := &starts[n]
		n++
		bytes -= ElementBytes
		if rows := min(int64(limit), at.LastSeq-at.After); rows > 0 { // else the page is empty
			bytes -= int(rows) * ElementBytes
			span := store.Span{Thread: at.ID, After: at.After, Upto: OfThread(&at.Thread).Last}
			parts = append(parts, store.Part{Span: span, Limit: int(rows)})
		}
	}
	a = &Ahead{
		Source: src, rows: make(map[store.Span]store.Rows, len(parts)), hidden: make(map[store.Span][]int64, len(parts)),
		edited: make(map[store.TextID]bool),
	}
	if len(parts) == 0 {
		return a, n, nil
	}
	list, err := src.Histories(ctx, parts)
	if err != nil {
		return nil, 0, err
	}
	within := make(map[int64]Range, n)
	for i := range starts[:n] {
		within[starts[i].ID] = OfThread(&starts[i].Thread)
	}
	var spans []store.Span
	for i, rows := range list {
		a.rows[parts[i].Span] = rows
		if len(rows.Messages) > 0 {
			spans = append(spans, spanOf(rows.Messages))
		}
	}
	if view.Rows {
		if err := a.readTexts(ctx, view.UID, list, within); err != nil {
			return nil, 0, err
		}
	}
	if view.HidesNone {
		return a, n, nil
	}
	hidden, err := src.Hidden(ctx, view.UID, spans)
	if err != nil {
		return nil, 0, err
	}
	for _, sp := range spans {
		a.hidden[sp] = hidden[sp.Thread]
	}
	return a, n, nil
}

// spanOf returns the span of one or more messages.
func spanOf(msgs []store.Message) store.Span {
	return store.Span{Thread: msgs[0].ThreadID, After: msgs[0].Seq - 1, Upto: msgs[len(msgs)-1].Seq}
}

// HistoryTo returns rows that were read ahead, once and whole, and reads all others.
func (a *Ahead) HistoryTo(ctx context.Context, thread, after, upto int64, limit, maxBytes int) ([]store.Message, bool, error) {
	sp := store.Span{Thread: thread, After: after, Upto: upto}
	rows, ok := a.rows[sp]
	if !ok {
		return a.Source.HistoryTo(ctx, thread, after, upto, limit, maxBytes)
	}
	delete(a.rows, sp)
	return rows.Messages, rows.More, nil
}

// Hidden returns what was read ahead, or reads it.
func (a *Ahead) Hidden(ctx context.Context, uid int32, spans []store.Span) (map[int64][]int64, error) {
	if len(spans) == 1 {
		if seqs, ok := a.hidden[spans[0]]; ok {
			return map[int64][]int64{spans[0].Thread: seqs}, nil
		}
	}
	return a.Source.Hidden(ctx, uid, spans)
}

// readTexts reads the texts of which rows announce edits.
func (a *Ahead) readTexts(ctx context.Context, uid int32, list []store.Rows, within map[int64]Range) (err error) {
	var ids []store.TextID
	for _, rows := range list {
		for i := range rows.Messages {
			m := &rows.Messages[i]
			if id, ok := changed(m, within[m.ThreadID]); ok && !a.edited[id] {
				a.edited[id] = true
				ids = append(ids, id)
			}
		}
	}
	if len(ids) > 0 {
		a.texts, err = a.Source.Contents(ctx, uid, ids)
	}
	return err
}

// Contents returns what was read ahead, or reads it.
func (a *Ahead) Contents(ctx context.Context, uid int32, ids []store.TextID) (map[store.TextID]store.Message, error) {
	if slices.ContainsFunc(ids, func(id store.TextID) bool { return !a.edited[id] }) {
		return a.Source.Contents(ctx, uid, ids)
	}
	return a.texts, nil
}
