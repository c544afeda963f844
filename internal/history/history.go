// Package history reads pages of threads from the store, as clients are sent them.
package history

import (
	"context"
	"errors"
	"slices"
	"time"

	"parley/internal/store"
	"parley/internal/wire"
)

const (
	// StockRows and StockBytes are a page for a stock client, which asks for the next by itself; upstream's pages had ten rows.
	StockRows  = 50
	StockBytes = 16 << 10
	// ElementBytes is what an element of chat_datas adds to its strings, at most: keys, numbers, times.
	ElementBytes = 224
)

// Range is the rows of a thread that a user may read: First to Last, without end if Last is 0. The zero value is all. That of
// a group ends with the last row there was when it was read, for a member too: a removal may come before the page is read.
type Range struct {
	First, Last int64
	Grows       bool // the range of a group's member
}

// Readable returns what a user may read of a thread, and false if that is nothing. Groups are for clients that know them.
func Readable(ctx context.Context, st *store.Store, thread int64, uid int32, groups bool) (r Range, ok bool, err error) {
	if thread < 1 || thread > wire.MaxInt {
		return Range{}, false, nil
	}
	access, err := st.Access(ctx, []int64{thread})
	if err != nil {
		return Range{}, false, err
	}
	if a, private := access[thread]; private || !groups {
		return Range{}, private && (a.User1 == uid || a.User2 == uid), nil
	}
	group, err := st.GroupInfo(ctx, thread, uid)
	switch {
	case errors.Is(err, store.ErrNotMember):
		return Range{}, false, nil
	case err != nil:
		return Range{}, false, err
	}
	return Range{group.Mine.FromSeq, group.LastSeq, group.Mine.Present()}, true, nil
}

// OfThread returns what the user in whose list a thread is may read of it.
func OfThread(t *store.Thread) Range {
	if t.Type == store.ThreadPrivate {
		return Range{}
	}
	return Range{t.FromSeq, t.LastSeq, t.LeftSeq == 0}
}

// left reports whether the range is that of a former member.
func (r Range) left() bool { return r.Last > 0 && !r.Grows }

// View is what a client is shown of the rows that its user may read.
type View struct {
	UID   int32
	Rows  bool // recalls, edits and hidden rows as such
	Stock bool // texts only
	// HidesNone says that the user is known to have hidden nothing, which saves a look.
	HidesNone bool
}

// wide is how many rows are read at once while there is nothing to show of those that were read.
const wide = 500

// Page fills reply with what follows reply.LastID within the range: at most limit rows and about so many bytes of JSON, yet
// one row at least. It returns the bytes.
func Page(
	ctx context.Context, src Source, reply *wire.HistoryReply, within Range, view View, limit, bytes int,
) (used int, err error) {
	reply.LastID = max(reply.LastID, within.First-1)
	used = ElementBytes
	if within.Last > 0 && reply.LastID >= within.Last {
		return used, nil
	}
	for {
		msgs, more, err := src.HistoryTo(ctx, reply.ThreadID, reply.LastID, within.Last, limit, bytes)
		if err != nil {
			return 0, err
		}
		rows, err := view.rows(ctx, src, reply.ThreadID, within, msgs, bytes)
		if err != nil {
			return 0, err
		}
		for i := range msgs {
			if row := &rows[i]; row.MsgID > 0 {
				used += ElementBytes + wire.StringLen(row.Content) + wire.StringLen(row.UniqueID)
				if used > bytes && len(reply.Chats) > 0 {
					more = true
					break
				}
				reply.Chats = append(reply.Chats, *row)
			}
			reply.LastID = msgs[i].Seq
		}
		// A stock client asks with the number of the last element: without one it would ask for the same page again.
		if reply.LoadMore = more; len(reply.Chats) > 0 || !more {
			return used, nil
		}
		limit = wide
	}
}

// rows returns messages as the client is shown them; the zero value stands for one that it is not shown.
func (v View) rows(
	ctx context.Context, src Source, thread int64, within Range, msgs []store.Message, bytes int,
) (rows []wire.StoredText, err error) {
	var hidden []int64
	if len(msgs) > 0 && !v.HidesNone {
		of, err := src.Hidden(ctx, v.UID, []store.Span{spanOf(msgs)})
		if err != nil {
			return nil, err
		}
		hidden = of[thread]
	}
	rows = make([]wire.StoredText, len(msgs))
	var edits []int // in rows
	for i := range msgs {
		m := &msgs[i]
		_, hides := slices.BinarySearch(hidden, m.Seq)
		switch {
		case hides && v.Rows:
			rows[i] = wire.StoredText{MsgID: m.Seq, ThreadID: thread, Hidden: true}
		case hides, v.Stock && m.Kind != store.KindText:
		case within.left() && m.EditedSeq > within.Last: // what the user knew is gone
			gone := *m
			gone.Content, gone.Type, gone.Status, gone.EditedMS = "", "", store.StatusRecalled, 0
			rows[i] = Stored(&gone, v)
		default:
			rows[i] = Stored(m, v)
			if m.Kind == store.KindEdit && v.Rows && len(edits) <= bytes/ElementBytes { // more do not fit into the page
				edits = append(edits, i)
			}
		}
	}
	return rows, v.addContents(ctx, src, thread, within, msgs, rows, edits)
}

// addContents adds to the rows that tell of edits what the texts are now.
func (v View) addContents(
	ctx context.Context, src Source, thread int64, within Range, msgs []store.Message, rows []wire.StoredText, edits []int,
) error {
	var seqs []int64
	for _, i := range edits {
		if seq, ok := msgs[i].ChangedText(); ok && seq >= within.First {
			seqs = append(seqs, seq)
		}
	}
	if len(seqs) == 0 {
		return nil
	}
	slices.Sort(seqs)
	texts, err := src.Contents(ctx, v.UID, thread, slices.Compact(seqs))
	if err != nil {
		return err
	}
	for _, i := range edits {
		seq, _ := msgs[i].ChangedText()
		text, ok := texts[seq]
		if !ok || within.left() && text.EditedSeq > within.Last {
			continue
		}
		if rows[i].Content, err = EditContent(&msgs[i], &text); err != nil {
			return err
		}
	}
	return nil
}

// EditContent returns the content of a row that tells of an edit, with the text as it is now.
func EditContent(row, text *store.Message) (string, error) {
	b, err := wire.Encode(wire.TextEvent{
		Event: wire.EventEdited, By: row.Sender, MsgID: text.Seq, Content: &text.Content, Type: text.Type, EditedMS: text.EditedMS,
	})
	return string(b), err
}

// Stored returns a stored row as a client is shown it.
func Stored(m *store.Message, v View) wire.StoredText {
	row := wire.StoredText{
		Sender: m.Sender, MsgID: m.Seq, ThreadID: m.ThreadID, UniqueID: m.UniqueID, Content: m.Content,
		ChatTime: time.UnixMilli(m.CreatedMS).UTC().Format(time.DateTime), Status: wire.StatusSent, CreatedMS: m.CreatedMS,
		Kind: int32(m.Kind),
	}
	switch {
	case m.Status == store.StatusRecalled && v.Rows:
		row.Recalled = true
	case m.Status == store.StatusRecalled:
		row.Content = wire.RecalledContent
	case m.Type != "" && v.Stock:
		row.Content = wire.TypedContent(m.Type)
	default:
		row.Type = m.Type
	}
	if v.Rows {
		row.EditedMS = m.EditedMS
	}
	return row
}
