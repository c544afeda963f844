// Package history reads pages of threads from the store, as clients are sent them.
package history

import (
	"context"
	"errors"
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

// Page fills reply with what follows reply.LastID within the range: at most limit rows and about so many bytes of JSON, yet
// one row at least. It returns the bytes.
func Page(ctx context.Context, st *store.Store, reply *wire.HistoryReply, within Range, limit, bytes int) (used int, err error) {
	reply.LastID = max(reply.LastID, within.First-1)
	if within.Last > 0 && reply.LastID >= within.Last {
		return ElementBytes, nil
	}
	msgs, more, err := st.HistoryTo(ctx, reply.ThreadID, reply.LastID, within.Last, limit, bytes)
	if err != nil {
		return 0, err
	}
	used = ElementBytes
	for i := range msgs {
		m := &msgs[i]
		used += ElementBytes + wire.StringLen(m.Content) + wire.StringLen(m.UniqueID)
		if used > bytes && i > 0 {
			more = true
			break
		}
		reply.Chats = append(reply.Chats, Stored(m))
		reply.LastID = m.Seq
	}
	reply.LoadMore = more
	return used, nil
}

// Stored returns a stored text as clients see it.
func Stored(m *store.Message) wire.StoredText {
	return wire.StoredText{
		Sender: m.Sender, MsgID: m.Seq, ThreadID: m.ThreadID, UniqueID: m.UniqueID, Content: m.Content,
		ChatTime: time.UnixMilli(m.CreatedMS).UTC().Format(time.DateTime), Status: wire.StatusSent, CreatedMS: m.CreatedMS,
		Kind: int32(m.Kind),
	}
}
