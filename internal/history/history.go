// Package history reads pages of threads from the store, as clients are sent them.
package history

import (
	"context"
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

// Page fills reply with what follows reply.LastID: at most limit rows and about so many bytes of JSON, yet one row at
// least. It returns the bytes.
func Page(ctx context.Context, st *store.Store, reply *wire.HistoryReply, limit, bytes int) (used int, err error) {
	msgs, more, err := st.History(ctx, reply.ThreadID, reply.LastID, limit, bytes)
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
	}
}

// Member reports whether the user may read a thread.
func Member(ctx context.Context, st *store.Store, thread int64, uid int32) (bool, error) {
	if thread < 1 || thread > wire.MaxInt {
		return false, nil
	}
	access, err := st.Access(ctx, []int64{thread})
	if err != nil {
		return false, err
	}
	a, ok := access[thread]
	return ok && (a.User1 == uid || a.User2 == uid), nil
}
