// Package history reads pages of threads from the store, in the form sent to clients.
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
	// StockRows and StockBytes bound a page for a stock client, which asks for the next page by itself. llfcchat's
	// pages had ten rows.
	StockRows  = 50
	StockBytes = 16 << 10
	// ElementBytes is the most that an element of chat_datas takes in addition to its strings: keys, numbers, times.
	ElementBytes = 224
)

// Range is the rows of a thread that a user may read: First to Last, or without an end if Last is 0. The zero value
// is the whole thread. The range of a group always ends with the last row at the time it was read, even for a member,
// because the member may be removed before the page is read.
type Range struct {
	First, Last int64
	Grows       bool // the range belongs to a current member of a group
}

// Readable returns what a user may read of a thread, and false if that is nothing. groups is false for clients that
// do not know groups.
func Readable(ctx context.Context, st *store.Store, thread int64, uid int32, groups bool) (r Range, ok bool, err error) {
	if thread < 1 || thread > wire.MaxInt {
		return Range{}, false, nil
	}
	access, err := st.Rights.Access(ctx, []int64{thread})
	if err != nil {
		return Range{}, false, err
	}
	if a, private := access[thread]; private || !groups {
		return Range{}, private && (a.User1 == uid || a.User2 == uid), nil
	}
	group, err := st.Groups.Info(ctx, thread, uid)
	switch {
	case errors.Is(err, store.ErrNotMember):
		return Range{}, false, nil
	case err != nil:
		return Range{}, false, err
	}
	return Range{group.Mine.FromSeq, group.LastSeq, group.Mine.Present()}, true, nil
}

// OfThread returns what a user may read of a thread in the user's list.
func OfThread(t *store.Thread) Range {
	if t.Type == store.ThreadPrivate {
		return Range{}
	}
	return Range{t.FromSeq, t.LastSeq, t.LeftSeq == 0}
}

// left reports whether the range belongs to a former member.
func (r Range) left() bool { return r.Last > 0 && !r.Grows }

// View says how a client is shown the rows that its user may read.
type View struct {
	UID   int32
	Rows  bool // show recalls, edits and hidden rows as such
	Stock bool // show texts only
	// HidesNone means that the user has hidden no rows, which saves a read.
	HidesNone bool
}

// wide is the number of rows read at once after a read that yielded nothing to show.
const wide = 500

// Page fills reply with the rows after reply.LastID within the range: at most limit rows and about bytes bytes of
// JSON, but at least one row. It returns the bytes used.
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
		// A stock client continues after the number of the last element. A page without elements would make it ask
		// for the same page again, so go on until there is one.
		if reply.LoadMore = more; len(reply.Chats) > 0 || !more {
			return used, nil
		}
		limit = wide
	}
}

// rows returns messages in the form shown to the client; the zero value stands for a message that is not shown.
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
		case within.left() && m.EditedSeq > within.Last: // edited after the user left: the version that the user may see no longer exists
			gone := *m
			gone.Content, gone.Type, gone.Status, gone.EditedMS = "", "", store.StatusRecalled, 0
			rows[i] = Stored(&gone, v)
		default:
			rows[i] = Stored(m, v)
			if m.Kind == store.KindEdit && v.Rows && len(edits) <= bytes/ElementBytes { // more would not fit into the page
				edits = append(edits, i)
			}
		}
	}
	return rows, v.addContents(ctx, src, within, msgs, rows, edits)
}

// addContents adds the current content of the edited text to the rows that announce edits.
func (v View) addContents(
	ctx context.Context, src Source, within Range, msgs []store.Message, rows []wire.StoredText, edits []int,
) error {
	var ids []store.TextID
	for _, i := range edits {
		if id, ok := changed(&msgs[i], within); ok && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	texts, err := src.Contents(ctx, v.UID, ids)
	if err != nil {
		return err
	}
	for _, i := range edits {
		id, _ := changed(&msgs[i], within)
		text, ok := texts[id]
		if !ok || within.left() && text.EditedSeq > within.Last {
			continue
		}
		if rows[i].Content, err = EditContent(&msgs[i], &text); err != nil {
			return err
		}
	}
	return nil
}

// changed returns the text that a row announces an edit of, if it is within what the user may read.
func changed(row *store.Message, within Range) (store.TextID, bool) {
	seq, ok := row.ChangedText()
	return store.TextID{Thread: row.ThreadID, Seq: seq}, ok && row.Kind == store.KindEdit && seq >= within.First
}

// EditContent returns the content of a row that announces an edit, with the current text.
func EditContent(row, text *store.Message) (string, error) {
	b, err := wire.Encode(wire.TextEvent{
		Event: wire.EventEdited, By: row.Sender, MsgID: text.Seq, Content: &text.Content, Type: text.Type, EditedMS: text.EditedMS,
	})
	return string(b), err
}

// Stored returns a stored row in the form sent to a client.
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
