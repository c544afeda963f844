package store_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/store"
)

func init() {
	bodies["a pair has one thread"] = testEnsureThread
	bodies["threads page by id"] = testThreads
	bodies["friends get the threads they lack"] = testEnsureFriendThreads
	bodies["access to threads"] = testAccess
	bodies["history pages by rows and bytes"] = testHistory
}

func testEnsureThread(t *testing.T, d *database) {
	stores := []*store.Store{d.migrated(t), d.open(t)}
	_, err := stores[0].Threads.EnsureOfPair(t.Context(), 5, 5)
	require.ErrorIs(t, err, store.ErrSelf)
	_, err = stores[0].Threads.OfPair(t.Context(), 5, 6)
	require.ErrorIs(t, err, store.ErrNotFound)

	const pairs, callers = 8, 8
	var mu sync.Mutex
	ids := map[int]map[int64]bool{}
	failed := make(chan error, callers)
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for p := range pairs {
				a, b := int32(2000+p), int32(3000-p)
				if c%2 == 0 {
					a, b = b, a
				}
				id, err := stores[c%2].Threads.EnsureOfPair(t.Context(), a, b)
				if err != nil {
					failed <- err
					return
				}
				mu.Lock()
				if ids[p] == nil {
					ids[p] = map[int64]bool{}
				}
				ids[p][id] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	close(failed)
	require.NoError(t, <-failed)
	for p := range pairs {
		require.Len(t, ids[p], 1, "pair %d", p)
		id, err := stores[0].Threads.OfPair(t.Context(), int32(3000-p), int32(2000+p))
		require.NoError(t, err)
		require.True(t, ids[p][id])
	}
	require.Equal(t, pairs, scan[int](t, d.sql(t), "SELECT COUNT(*) FROM chat_thread"), "no thread without a pair is left behind")
}

func testThreads(t *testing.T, d *database) {
	s := d.migrated(t)
	const me = 500
	var want []store.Thread
	for i := range int32(7) { // half the others have smaller uids
		other := me + (i-3)*10
		if other == me {
			other = me + 1
		}
		id, err := s.Threads.EnsureOfPair(t.Context(), me, other)
		require.NoError(t, err)
		want = append(want, store.Thread{ID: id, Type: store.ThreadPrivate, User1: min(me, other), User2: max(me, other)})
		_, err = s.Threads.EnsureOfPair(t.Context(), 1, 1000+i)
		require.NoError(t, err)
		if i == 2 {
			db := d.sql(t)
			_, err = db.ExecContext(t.Context(), "INSERT INTO chat_thread(id,type,last_seq) VALUES(400,'group',9)")
			require.NoError(t, err)
			_, err = db.ExecContext(t.Context(), "INSERT INTO group_chat(thread_id,name) VALUES(400,'all')")
			require.NoError(t, err)
			_, err = db.ExecContext(t.Context(), "INSERT INTO group_chat_member(thread_id,user_id) VALUES(400,?)", me)
			require.NoError(t, err)
			want = append(want, store.Thread{ID: 400, Type: store.ThreadGroup, LastSeq: 9, Name: "all"})
		}
	}
	for limit := 1; limit < 10; limit++ {
		var got []store.Thread
		for after := int64(0); ; {
			page, err := s.Threads.List(t.Context(), me, after, limit)
			require.NoError(t, err)
			require.LessOrEqual(t, len(page), limit)
			if len(page) == 0 {
				break
			}
			got = append(got, page...)
			after = page[len(page)-1].ID
		}
		require.Equal(t, want, got, "pages of %d", limit)
	}
	got, err := s.Threads.List(t.Context(), me, 0, 0)
	require.NoError(t, err)
	require.Empty(t, got)
	got, err = s.Threads.List(t.Context(), 77, 0, 10)
	require.NoError(t, err)
	require.Empty(t, got)

	_, err = d.sql(t).ExecContext(t.Context(), "UPDATE chat_thread SET last_seq=3 WHERE id=?", want[0].ID)
	require.NoError(t, err)
	seqs, err := s.Threads.LastSeqs(t.Context(), me, map[int32]struct{}{want[0].User1: {}, want[6].User2: {}, 77: {}})
	require.NoError(t, err)
	require.Equal(t, map[int64]int64{want[0].ID: 3, want[6].ID: 0}, seqs)
}

func testEnsureFriendThreads(t *testing.T, d *database) {
	s := d.migrated(t)
	db := d.sql(t)
	for _, f := range [][2]int{{10, 20}, {20, 10}, {10, 5}, {5, 10}, {10, 10}, {10, 30}} {
		_, err := db.ExecContext(t.Context(), "INSERT INTO friend(self_id,friend_id) VALUES(?,?)", f[0], f[1])
		require.NoError(t, err)
	}
	has, err := s.Threads.EnsureOfPair(t.Context(), 10, 20)
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, s.Threads.EnsureOfFriends(t.Context(), 10))
		threads, err := s.Threads.List(t.Context(), 10, 0, 10)
		require.NoError(t, err)
		require.Len(t, threads, 3)
		require.Equal(t, has, threads[0].ID)
	}
}

func testAccess(t *testing.T, d *database) {
	s := d.migrated(t)
	db := d.sql(t)
	befriend := func(a, b int) {
		_, err := db.ExecContext(t.Context(), "INSERT INTO friend(self_id,friend_id) VALUES(?,?)", a, b)
		require.NoError(t, err)
	}
	befriend(1, 2)
	befriend(2, 1)
	befriend(3, 1) // one-sided
	both, err := s.Threads.EnsureOfPair(t.Context(), 2, 1)
	require.NoError(t, err)
	half, err := s.Threads.EnsureOfPair(t.Context(), 1, 3)
	require.NoError(t, err)
	none, err := s.Threads.EnsureOfPair(t.Context(), 1, 4)
	require.NoError(t, err)
	got, err := s.Rights.Access(t.Context(), []int64{none, both, 12345, half, both, 1 << 40})
	require.NoError(t, err)
	require.Equal(t, map[int64]store.Access{
		both: {User1: 1, User2: 2, Friends: true}, half: {User1: 1, User2: 3}, none: {User1: 1, User2: 4},
	}, got)
	got, err = s.Rights.Access(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, got)

	peer, err := got[both].Peer(9)
	require.ErrorIs(t, err, store.ErrNotMember)
	require.Zero(t, peer)
	for _, c := range [][2]int32{{1, 2}, {2, 1}} {
		peer, err = store.Access{User1: 1, User2: 2}.Peer(c[0])
		require.NoError(t, err)
		require.Equal(t, c[1], peer)
	}

	var many []int64
	for i := range int32(600) {
		id, err := s.Threads.EnsureOfPair(t.Context(), 50, 10000+i)
		require.NoError(t, err)
		many = append(many, id)
	}
	got, err = s.Rights.Access(t.Context(), many)
	require.NoError(t, err)
	require.Len(t, got, len(many))
}

func testHistory(t *testing.T, d *database) {
	s := d.migrated(t)
	name, boot := node(t, s, "n1")
	id, a, _ := thread(t, s, "x")
	other, _, _ := thread(t, s, "y")
	var msgs []store.NewMessage
	for i := range 30 {
		msgs = append(msgs, store.NewMessage{ThreadID: id, Sender: a, UniqueID: fmt.Sprint(i), Content: strings.Repeat("é", 5)}) // 10 bytes
	}
	msgs[20].Content = strings.Repeat("x", 1000)
	out := make([]store.Appended, len(msgs))
	require.NoError(t, s.Messages.Append(t.Context(), name, boot, msgs, out))

	for _, c := range []struct {
		name            string
		after           int64
		limit, maxBytes int
		first, last     int64 // 0: nothing
		more            bool
	}{
		{"all", 0, 30, 1 << 20, 1, 30, false},
		{"more than there are", 0, 50, 1 << 20, 1, 30, false},
		{"one less", 0, 29, 1 << 20, 1, 29, true},
		{"from a cursor", 28, 10, 1 << 20, 29, 30, false},
		{"at the end", 30, 10, 1 << 20, 0, 0, false},
		{"beyond the end", 99, 10, 1 << 20, 0, 0, false},
		{"before the beginning", -5, 2, 1 << 20, 1, 2, true},
		{"bytes cut", 0, 30, 59, 1, 5, true},
		{"bytes just fit", 0, 30, 60, 1, 6, true},
		{"a long one comes alone", 20, 30, 100, 21, 21, true},
		{"a long one waits", 15, 30, 100, 16, 20, true},
		{"one at least", 0, 30, 0, 1, 1, true},
		{"the last one, long", 29, 30, 1, 30, 30, false},
		{"limit below one", 3, 0, 1 << 20, 4, 4, true},
	} {
		got, more, err := s.Messages.History(t.Context(), id, c.after, c.limit, c.maxBytes)
		require.NoError(t, err, c.name)
		require.Equal(t, c.more, more, c.name)
		if c.first == 0 {
			require.Empty(t, got, c.name)
			continue
		}
		require.Len(t, got, int(c.last-c.first+1), c.name)
		require.Equal(t, c.first, got[0].Seq, c.name)
		require.Equal(t, c.last, got[len(got)-1].Seq, c.name)
	}
	got, more, err := s.Messages.History(t.Context(), other, 0, 10, 100)
	require.NoError(t, err)
	require.False(t, more)
	require.Empty(t, got)
}
