package handler

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/store"
	"parley/internal/wire"
)

// A page of 500 threads is cut where it would outgrow a frame.
func TestAPageOfThreadsFitsAFrame(t *testing.T) {
	const most = wire.MaxInt
	private := store.Thread{ID: most, Type: store.ThreadPrivate, User1: most, User2: most, LastSeq: most}
	group := store.Thread{
		ID: most, Type: store.ThreadGroup, LastSeq: most, Name: strings.Repeat("\U0001f1e6", 64), Role: 2, Members: 10000, FromSeq: most, LeftSeq: most,
	}
	marks := wire.ThreadMarks{Read: most, Recv: most, Unread: 100, PeerRead: most, PeerRecv: most}
	for _, th := range []store.Thread{private, group} {
		list := make([]store.Thread, nativePage)
		for i := range list {
			list[i] = th
		}
		n := fitting(list)
		require.Greater(t, n, 100)
		require.Less(t, n, nativePage)
		page := wire.ThreadsReply{UID: most, LoadMore: true, NextLast: most}
		for _, th := range list[:n] {
			page.Threads = append(page.Threads, wire.Thread{
				ID: th.ID, Type: th.Type, User1: th.User1, User2: th.User2, LastSeq: th.LastSeq, Name: th.Name, Role: int(th.Role),
				Members: th.Members, FirstID: th.FromSeq, Left: th.LeftSeq, ThreadMarks: marks,
			})
		}
		_, err := wire.EncodeFrame(wire.MsgThreadsRsp, page)
		require.NoError(t, err)
	}
}

func TestAPageLeavesOutWhatWasPushed(t *testing.T) {
	page := func(ids ...int64) *wire.HistoryReply {
		p := &wire.HistoryReply{LoadMore: true, Chats: []wire.StoredText{}, LastID: 99}
		for _, id := range ids {
			p.Chats = append(p.Chats, wire.StoredText{MsgID: id})
		}
		return p
	}
	p := page(4, 5, 6, 7)
	leaveOut(p, 3, 6)
	require.Len(t, p.Chats, 2)
	require.EqualValues(t, 5, p.LastID)
	require.False(t, p.LoadMore)
	p = page(6, 7)
	leaveOut(p, 5, 6)
	require.Empty(t, p.Chats)
	require.EqualValues(t, 5, p.LastID)
	p = page(1, 2)
	leaveOut(p, 0, 6)
	require.Len(t, p.Chats, 2)
	require.True(t, p.LoadMore)
}
