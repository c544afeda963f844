package handler

import (
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/wire"
)

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
