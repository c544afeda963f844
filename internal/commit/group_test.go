package commit

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/group"
	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
)

// group7 returns a store with the private thread 7 and the group 70, in which users 1, 2 and 3 may write, 4 is muted,
// and 5 is a former member.
func group7() *fakeStore {
	s := newStore(7)
	member := func(uid int32) store.GroupRight {
		return store.GroupRight{Membership: store.Membership{UID: uid, FromSeq: 1}}
	}
	muted, left := member(4), member(5)
	muted.MutedUntilMS, left.LeftSeq = time.Now().Add(time.Hour).UnixMilli(), 9
	s.vers = map[int64]int32{70: 3}
	s.groups = map[int64]map[int32]store.GroupRight{70: {1: member(1), 2: member(2), 3: member(3), 4: muted, 5: left}}
	return s
}

func pushed(t *testing.T, r group.Rows) (list []string) {
	t.Helper()
	var p wire.GroupPush
	require.NoError(t, wire.Decode(r.Body, &p))
	require.Equal(t, r.Thread, p.ThreadID)
	require.Equal(t, r.Ver, p.MemberVer)
	for _, c := range p.Chats {
		require.Equal(t, r.Thread, c.ThreadID)
		require.LessOrEqual(t, r.First, c.MsgID)
		require.GreaterOrEqual(t, r.Last, c.MsgID)
		list = append(list, fmt.Sprint(c.MsgID, " ", c.Sender, " ", c.Content))
	}
	return list
}

func TestTextsOfAGroupAreStoredAnsweredAndPublished(t *testing.T) {
	s := group7()
	c, col := start(t, s, nil)
	require.NoError(t, c.Append(col.request(1, 70, "one", "two")))
	a := col.wait(t, 1)[0]
	require.Zero(t, a.ToUID)
	require.EqualValues(t, 70, a.ThreadID)
	require.EqualValues(t, 2, a.Chats[1].Seq)
	require.Len(t, col.rows, 1)
	require.Empty(t, col.pushes)
	r := col.rows[0]
	require.Equal(t, group.Rows{Thread: 70, Ver: 3, First: 1, Last: 2, Skip: session.SID(1), Body: r.Body}, r)
	require.Equal(t, []string{"1 1 one", "2 1 two"}, pushed(t, r))

	require.NoError(t, c.Append(col.request(1, 70, "three")))
	col.wait(t, 2)
	require.Len(t, s.asked, 1, "cached")
	require.Len(t, s.rights, 1)
	require.EqualValues(t, 3, s.batches[1][0].MemberVer)

	s.mu.Lock()
	s.vers[70]++
	delete(s.groups[70], 1) // no row at all, say
	s.mu.Unlock()
	require.NoError(t, c.Append(col.request(1, 70, "four")))
	require.Equal(t, []wire.Code{wire.CodeNotAllowed}, codes(col.wait(t, 3)[2]), "the append knows")
	require.NoError(t, c.Append(col.request(1, 70, "five")))
	require.Equal(t, []wire.Code{wire.CodeNotAllowed}, codes(col.wait(t, 4)[3]))
	require.Len(t, s.rights, 2, "it was forgotten")
}

// All texts of a group in a batch are published in few pushes, from all senders; private texts still have one push
// per request.
func TestABatchIsPublishedInFewPushes(t *testing.T) {
	s := group7()
	s.block = make(chan struct{})
	c, col := start(t, s, nil)
	require.NoError(t, c.Append(col.request(1, 7, "first")))
	taken(t, c)
	long := strings.Repeat("x", 3000)
	for i := range 12 {
		r := col.request(int32(i%3+1), 70, fmt.Sprint(long, i))
		r.Texts[0].UniqueID = fmt.Sprint("group", i)
		require.NoError(t, c.Append(r))
		require.NoError(t, c.Append(col.request(1, 7, fmt.Sprint("private", i))))
	}
	close(s.block)
	col.wait(t, 25)
	require.Len(t, col.pushes, 13)
	require.Len(t, col.rows, 3, "five texts of 3 KiB fit 16 KiB")
	next := int64(1)
	for _, r := range col.rows {
		require.Equal(t, next, r.First)
		require.LessOrEqual(t, len(r.Body), maxRows)
		require.Zero(t, r.Skip)
		next = r.Last + 1
	}
	require.EqualValues(t, 13, next)
}

// Escaping makes a text up to six times as long; its push must still fit a frame.
func TestAPushOfEscapesFitsAFrame(t *testing.T) {
	s := group7()
	s.block = make(chan struct{})
	c, col := start(t, s, nil)
	require.NoError(t, c.Append(col.request(1, 7, "first")))
	taken(t, c)
	for i := range 5 {
		r := col.request(1, 70, strings.Repeat("\x01", 3000))
		r.Texts[0].UniqueID = fmt.Sprint(i)
		require.NoError(t, c.Append(r))
	}
	close(s.block)
	col.wait(t, 6)
	require.Greater(t, len(col.rows), 1)
	next := int64(1)
	for _, r := range col.rows {
		require.Equal(t, next, r.First)
		require.LessOrEqual(t, len(r.Body), wire.MaxBody)
		next = r.Last + 1
	}
	require.EqualValues(t, 6, next)
}

func TestWhoMayNotWriteToAGroupIsRefused(t *testing.T) {
	s := group7()
	c, col := start(t, s, nil)
	stock := col.request(1, 70, "a client without groups")
	stock.From.(*user).stock = true
	named := col.request(1, 70, "to somebody")
	named.To = 2
	for i, r := range []*Request{
		stock, named, col.request(4, 70, "muted"), col.request(5, 70, "gone"), col.request(9, 70, "an outsider"), col.request(1, 71, "no such thread"),
	} {
		require.NoError(t, c.Append(r))
		want := wire.CodeNotAllowed
		if r == named {
			want = wire.CodeBadRequest
		}
		require.Equal(t, []wire.Code{want}, codes(col.wait(t, i+1)[i]), i)
	}
	require.Empty(t, col.rows)

	s.mu.Lock()
	s.err = errors.New("away")
	s.mu.Unlock()
	require.NoError(t, c.Append(col.request(3, 70, "while SQL is away")))
	require.Equal(t, []wire.Code{wire.CodeUnavailable}, codes(col.wait(t, 7)[6]))
}

// The number of a resent text is from an earlier time, when other users were members, so it is pushed alone.
func TestAResentTextOfAGroupIsPushedAlone(t *testing.T) {
	s := group7()
	c, col := start(t, s, nil)
	require.NoError(t, c.Append(col.request(1, 70, "a", "b")))
	col.wait(t, 1)
	require.NoError(t, c.Append(col.request(1, 70, "c", "a", "d", "e")))
	col.wait(t, 2)
	var got [][]string
	for _, r := range col.rows {
		got = append(got, pushed(t, r))
	}
	require.Equal(t, [][]string{{"1 1 a", "2 1 b"}, {"3 1 c"}, {"1 1 a"}, {"4 1 d", "5 1 e"}}, got)
}
