package store_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/store"
)

func init() {
	bodies["marks only grow, whatever order they come in"] = testMarksGrow
	bodies["marks of several nodes at once end at the highest"] = testMarksConcurrently
	bodies["marks end where the user may read no more"] = testMarksCut
	bodies["unread texts are counted as a model counts them"] = testUnread
	bodies["unread texts are counted up to a hundred"] = testUnreadBound
	bodies["marks of others are shown to members and friends"] = testMarksShown
	bodies["authors of the newest texts"] = testAuthors
	bodies["a deleted user leaves no marks"] = testMarksDeleted
}

// fill appends n texts of one user.
func (c *circle) fill(thread int64, from int32, n int) {
	c.t.Helper()
	msgs := make([]store.NewMessage, n)
	for i := range msgs {
		msgs[i] = store.NewMessage{ThreadID: thread, Sender: from, MemberVer: store.UnknownVer, UniqueID: fmt.Sprint("f", c.n.Add(1)), Content: "x"}
	}
	out := make([]store.Appended, n)
	require.NoError(c.t, c.s.Messages.Append(c.t.Context(), c.node, c.boot, msgs, out))
	for i := range out {
		require.NoError(c.t, out[i].Err)
	}
}

// mark raises one mark.
func (c *circle) mark(thread int64, uid int32, read, recv int64) store.Marked {
	c.t.Helper()
	done, err := c.s.Marks.Raise(c.t.Context(), []store.Mark{{Thread: thread, UID: uid, Read: read, Recv: recv}})
	require.NoError(c.t, err)
	return done[0]
}

// shown returns the marks of all threads of a user.
func (c *circle) shown(uid int32) map[int64]store.ThreadMarks {
	c.t.Helper()
	threads, err := c.s.Threads.List(c.t.Context(), uid, 0, 500)
	require.NoError(c.t, err)
	marks, err := c.s.Marks.OfThreads(c.t.Context(), uid, threads)
	require.NoError(c.t, err)
	of := make(map[int64]store.ThreadMarks, len(threads))
	for i := range threads {
		of[threads[i].ID] = marks[i]
	}
	return of
}

func testMarksGrow(t *testing.T, d *database) {
	c := newCircle(t, d)
	a, b := user(t, c.s, "a"), user(t, c.s, "b")
	id := c.befriend(a, b)
	c.fill(id, b, 9) // 10 rows with that of the approval
	for _, step := range []struct{ read, recv, wantRead, wantRecv int64 }{
		{0, 3, 0, 3}, {2, 0, 2, 3}, {1, 1, 2, 3}, {5, 0, 5, 5}, {0, 9, 5, 9}, {5, 9, 5, 9}, {-4, -4, 5, 9}, {99, 0, 10, 10},
	} {
		m := c.mark(id, a, step.read, step.recv)
		require.NoError(t, m.Err)
		require.Equal(t, store.Mark{Thread: id, UID: a, Read: step.wantRead, Recv: step.wantRecv}, m.Mark, "%+v", step)
		require.Equal(t, b, m.Peer)
	}
	m := c.mark(id, a, 3, 3)
	require.False(t, m.Moved())
	require.Equal(t, int64(10), m.WasRead)
	_, err := c.s.Marks.Raise(t.Context(), []store.Mark{{Thread: id, UID: a, Read: 1}, {Thread: id, UID: a, Read: 2}})
	require.ErrorIs(t, err, store.ErrInvalid)
}

func testMarksConcurrently(t *testing.T, d *database) {
	c := newCircle(t, d)
	stores := []*store.Store{c.s, d.another(t, c.s)}
	const readers = 3
	var uids []int32
	owner := user(t, c.s, "owner")
	for i := range readers {
		uids = append(uids, user(t, c.s, fmt.Sprint("reader", i)))
	}
	var groups []int64
	for range 3 {
		id := c.group(owner, uids...)
		c.fill(id, owner, 60)
		groups = append(groups, id)
	}
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(n)))
			last := map[store.GroupKey]store.Mark{}
			for range 30 {
				var marks []store.Mark
				for _, id := range groups {
					for _, uid := range uids {
						if r.IntN(2) == 0 {
							marks = append(marks, store.Mark{Thread: id, UID: uid, Read: r.Int64N(61), Recv: r.Int64N(61)})
						}
					}
				}
				if len(marks) == 0 {
					continue
				}
				r.Shuffle(len(marks), func(i, j int) { marks[i], marks[j] = marks[j], marks[i] })
				done, err := stores[n%2].Marks.Raise(t.Context(), marks)
				if err != nil {
					t.Error(err)
					return
				}
				for i, m := range done {
					key := store.GroupKey{Thread: m.Thread, UID: m.UID}
					if m.Err != nil || m.Read < marks[i].Read || m.Recv < marks[i].Recv || m.Recv < m.Read || m.Read < last[key].Read || m.Recv < last[key].Recv {
						t.Errorf("asked %+v, last seen %+v, stored %+v", marks[i], last[key], m)
					}
					last[key] = m.Mark
				}
			}
		})
	}
	wg.Wait()
	for _, id := range groups {
		for _, uid := range uids {
			c.mark(id, uid, 61, 61)
		}
		list, err := c.s.Marks.List(t.Context(), id, owner, 0, 10)
		require.NoError(t, err)
		require.Len(t, list, readers)
		for _, m := range list {
			require.Equal(t, int64(61), m.Read)
		}
	}
}

func testMarksCut(t *testing.T, d *database) {
	c := newCircle(t, d)
	o, m, x := user(t, c.s, "owner"), user(t, c.s, "member"), user(t, c.s, "x")
	id := c.group(o, m)
	require.ErrorIs(t, c.mark(id, x, 1, 1).Err, store.ErrNotMember)
	require.ErrorIs(t, c.mark(9999, x, 1, 1).Err, store.ErrNotMember)
	require.ErrorIs(t, c.mark(c.befriend(o, x), m, 1, 1).Err, store.ErrNotMember)
	c.fill(id, o, 3)
	require.Equal(t, 2, c.mark(id, m, 1, 1).Members)
	left, err := c.s.Groups.Leave(t.Context(), c.node, c.boot, m, id)
	require.NoError(t, err)
	c.fill(id, o, 3)
	got := c.mark(id, m, 100, 0)
	require.NoError(t, got.Err)
	require.Equal(t, left.Event.Seq, got.Read)
	require.Equal(t, left.Event.Seq, got.Recv)
	require.Zero(t, got.Members)
	require.Equal(t, int64(8), c.mark(id, o, 100, 0).Read)

	pair, err := c.s.Threads.OfPair(t.Context(), o, x)
	require.NoError(t, err)
	_, err = c.s.Friends.Unfriend(t.Context(), c.node, c.boot, o, x)
	require.NoError(t, err)
	got = c.mark(pair, o, 100, 100)
	require.Equal(t, int64(1), got.Read, "a thread can be read after the friendship")
	require.Zero(t, got.Peer)
}

// row is a row of a thread as the model knows it.
type row struct {
	from int32
	text bool
}

// testUnread compares the store with a model that knows each row: random texts, events and marks of three users in a private
// thread and a group, from two stores.
func testUnread(t *testing.T, d *database) {
	c := newCircle(t, d)
	other := d.another(t, c.s)
	r := rand.New(rand.NewPCG(rand.Uint64(), 1))
	uids := []int32{user(t, c.s, "a"), user(t, c.s, "b"), user(t, c.s, "c")}
	pair := c.befriend(uids[0], uids[1])
	group := c.group(uids[0], uids[1], uids[2])
	rows := map[int64][]row{pair: {}, group: {{uids[0], false}}}
	for _, m := range history(t, c.s, pair) {
		rows[pair] = append(rows[pair], row{m.Sender, true})
	}
	marks := map[store.GroupKey]store.Mark{}
	unread := func(id int64, uid int32) (n int) {
		all := rows[id]
		for i := len(all) - 1; i >= int(marks[store.GroupKey{Thread: id, UID: uid}].Read); i-- {
			switch {
			case !all[i].text:
			case all[i].from == uid:
				return min(n, store.MaxUnread)
			default:
				n++
			}
		}
		return min(n, store.MaxUnread)
	}
	for step := range 150 {
		id, who := pair, uids[r.IntN(2)]
		if r.IntN(2) == 0 {
			id, who = group, uids[r.IntN(3)]
		}
		switch r.IntN(5) {
		case 0, 1:
			n := 1 + r.IntN(4)
			if r.IntN(12) == 0 {
				n = 120
			}
			c.fill(id, who, n)
			for range n {
				rows[id] = append(rows[id], row{who, true})
			}
		case 2:
			_, err := c.s.Groups.Rename(t.Context(), c.node, c.boot, uids[0], group, fmt.Sprint("name ", step))
			require.NoError(t, err)
			rows[group] = append(rows[group], row{uids[0], false})
		default:
			s := c.s
			if r.IntN(2) == 0 {
				s = other
			}
			m := store.Mark{Thread: id, UID: who, Recv: r.Int64N(int64(len(rows[id])) + 1)}
			if r.IntN(3) > 0 {
				m.Read = r.Int64N(int64(len(rows[id])) + 1)
			}
			done, err := s.Marks.Raise(t.Context(), []store.Mark{m})
			require.NoError(t, err)
			key := store.GroupKey{Thread: id, UID: who}
			was := marks[key]
			m.Read, m.Recv = max(was.Read, m.Read), max(was.Recv, m.Recv, m.Read)
			require.Equal(t, m, done[0].Mark)
			marks[key] = m
		}
		for _, uid := range uids {
			shown := c.shown(uid)
			for _, id := range []int64{pair, group} {
				got, there := shown[id]
				require.Equal(t, id == group || uid != uids[2], there)
				if !there {
					continue
				}
				own := marks[store.GroupKey{Thread: id, UID: uid}]
				want := store.ThreadMarks{Read: own.Read, Recv: own.Recv, Unread: unread(id, uid)}
				if id == pair {
					peer := marks[store.GroupKey{Thread: id, UID: uids[0] + uids[1] - uid}]
					want.PeerRead, want.PeerRecv = peer.Read, peer.Recv
				}
				require.Equal(t, want, got, "step %d: user %d in thread %d of %d rows", step, uid, id, len(rows[id]))
			}
		}
	}
}

func testUnreadBound(t *testing.T, d *database) {
	c := newCircle(t, d)
	a, b := user(t, c.s, "a"), user(t, c.s, "b")
	var threads []int64
	for i := range 3 {
		threads = append(threads, c.group(a, b))
		c.fill(threads[i], a, 98+i)
	}
	for i := range 70 { // more than one statement takes
		threads = append(threads, c.group(a, b))
		if i%2 == 0 {
			c.fill(threads[len(threads)-1], a, 1)
		}
	}
	c.fill(threads[2], b, 1)
	c.fill(threads[2], a, 101)
	shown := c.shown(b)
	require.Equal(t, []int{98, 99, 100, 1, 0}, []int{
		shown[threads[0]].Unread, shown[threads[1]].Unread, shown[threads[2]].Unread, shown[threads[3]].Unread, shown[threads[4]].Unread,
	})
	c.fill(threads[1], a, 1)
	require.Equal(t, 100, c.shown(b)[threads[1]].Unread)
	c.fill(threads[1], a, 1)
	require.Equal(t, 100, c.shown(b)[threads[1]].Unread)
	c.mark(threads[1], b, 4, 0) // the event and three texts
	require.Equal(t, 98, c.shown(b)[threads[1]].Unread)
	_, err := c.s.Groups.Leave(t.Context(), c.node, c.boot, b, threads[0])
	require.NoError(t, err)
	c.fill(threads[0], a, 2)
	require.Equal(t, 98, c.shown(b)[threads[0]].Unread, "of a group that the user has left")
}

func testMarksShown(t *testing.T, d *database) {
	c := newCircle(t, d)
	a, b, x := user(t, c.s, "a"), user(t, c.s, "b"), user(t, c.s, "x")
	pair := c.befriend(a, b) // who writes the first text
	c.fill(pair, b, 1)
	c.mark(pair, a, 1, 2)
	c.mark(pair, b, 2, 2)
	group := c.group(a, b, x)
	c.mark(group, x, 1, 1)
	c.mark(group, a, 1, 1)
	page := func(thread int64, uid, after int32, limit int) (of []int32) {
		list, err := c.s.Marks.List(t.Context(), thread, uid, after, limit)
		require.NoError(t, err)
		for _, m := range list {
			of = append(of, m.UID)
		}
		return of
	}
	require.Equal(t, []int32{a, b}, page(pair, a, 0, 10))
	require.Equal(t, []int32{b}, page(pair, a, a, 10))
	require.Equal(t, []int32{a, x}, page(group, b, 0, 10))
	require.Equal(t, []int32{a}, page(group, b, 0, 1))
	_, err := c.s.Marks.List(t.Context(), pair, x, 0, 10)
	require.ErrorIs(t, err, store.ErrNotMember)
	_, err = c.s.Groups.Leave(t.Context(), c.node, c.boot, x, group)
	require.NoError(t, err)
	_, err = c.s.Marks.List(t.Context(), group, x, 0, 10)
	require.ErrorIs(t, err, store.ErrNotMember)
	require.Equal(t, []int32{a}, page(group, b, 0, 10), "former members are not listed")

	require.Equal(t, store.ThreadMarks{Read: 1, Recv: 2, PeerRead: 2, PeerRecv: 2, Unread: 1}, c.shown(a)[pair])
	_, err = c.s.Friends.Block(t.Context(), c.node, c.boot, b, a)
	require.NoError(t, err)
	require.Equal(t, store.ThreadMarks{Read: 1, Recv: 2, Unread: 1}, c.shown(a)[pair], "a blocked user learns nothing")
	require.Equal(t, []int32{a}, page(pair, a, 0, 10))
}

func testAuthors(t *testing.T, d *database) {
	c := newCircle(t, d)
	a, b := user(t, c.s, "a"), user(t, c.s, "b")
	id := c.group(a, b)
	c.fill(id, a, 3)
	c.fill(id, b, 1)
	c.fill(id, a, 120)
	got, err := c.s.Marks.Authors(t.Context(), []store.Span{{Thread: id, After: 3, Upto: 6}, {Thread: id, After: 5, Upto: 5}, {Thread: 9999, Upto: 9}})
	require.NoError(t, err)
	require.ElementsMatch(t, []store.Author{{Thread: id, Seq: 4, UID: a}, {Thread: id, Seq: 5, UID: b}, {Thread: id, Seq: 6, UID: a}}, got)
	got, err = c.s.Marks.Authors(t.Context(), []store.Span{{Thread: id, After: 0, Upto: 125}})
	require.NoError(t, err)
	require.Len(t, got, 100)
	_, err = c.s.Groups.Leave(t.Context(), c.node, c.boot, b, id)
	require.NoError(t, err)
	got, err = c.s.Marks.Authors(t.Context(), []store.Span{{Thread: id, After: 3, Upto: 6}})
	require.NoError(t, err)
	require.ElementsMatch(t, []store.Author{{Thread: id, Seq: 4, UID: a}, {Thread: id, Seq: 6, UID: a}}, got)
}

func testMarksDeleted(t *testing.T, d *database) {
	c := newCircle(t, d)
	a, b := user(t, c.s, "a"), user(t, c.s, "b")
	pair, group := c.befriend(a, b), c.group(b, a)
	for _, id := range []int64{pair, group} {
		c.mark(id, a, 1, 1)
		c.mark(id, b, 1, 1)
	}
	_, err := c.s.Users.Delete(t.Context(), a, "hash of a")
	require.NoError(t, err)
	db := d.sql(t)
	require.Zero(t, scan[int](t, db, "SELECT COUNT(*) FROM read_mark WHERE user_id=?", a))
	require.Equal(t, 2, scan[int](t, db, "SELECT COUNT(*) FROM read_mark WHERE user_id=?", b))
}
