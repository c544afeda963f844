package store_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/store"
)

func init() {
	bodies["what a change of membership forbids is not stored after it"] = testMembershipIsExact
	bodies["friends part and meet again in the same thread"] = testUnfriend
	bodies["who is blocked applies in vain and is not told"] = testBlock
	bodies["two who apply to each other and part have no application left"] = testUnfriendForgetsApplications
	bodies["appends, approvals, blocks and deletions at once"] = testRightsConcurrently
	bodies["a deleted user leaves texts and nothing else"] = testDeleteUser
	bodies["rights are refused behind the fence"] = testRightsFenced
}

// circle is some users, a node, and what they do.
type circle struct {
	t          *testing.T
	s          *store.Store
	node, boot string
	n          atomic.Int64 // of unique ids
}

func newCircle(t *testing.T, d *database) *circle {
	c := &circle{t: t, s: d.migrated(t)}
	c.node, c.boot = node(t, c.s, "n1")
	return c
}

// befriend makes friends of two strangers and returns their thread.
func (c *circle) befriend(a, b int32) int64 {
	c.t.Helper()
	require.NoError(c.t, apply(c.t.Context(), c.s, a, b, "", ""))
	done, err := c.s.Friends.Approve(c.t.Context(), c.node, c.boot, b, a, "")
	require.NoError(c.t, err)
	return done.ThreadID
}

func (c *circle) access(thread int64) store.Access {
	c.t.Helper()
	all, err := c.s.Rights.Access(c.t.Context(), []int64{thread})
	require.NoError(c.t, err)
	return all[thread]
}

// text appends one text under a version.
func (c *circle) text(thread int64, from, ver int32) store.Appended {
	c.t.Helper()
	return c.send(store.NewMessage{ThreadID: thread, Sender: from, MemberVer: ver, UniqueID: fmt.Sprint("u", c.n.Add(1)), Content: "x"})
}

func (c *circle) send(m store.NewMessage) store.Appended {
	c.t.Helper()
	out := make([]store.Appended, 1)
	require.NoError(c.t, c.s.Messages.Append(c.t.Context(), c.node, c.boot, []store.NewMessage{m}, out))
	return out[0]
}

func testMembershipIsExact(t *testing.T, d *database) {
	c := newCircle(t, d)
	a, b, x := user(t, c.s, "a"), user(t, c.s, "b"), user(t, c.s, "x")
	thread, other := c.befriend(a, b), c.befriend(a, x)
	known := c.access(thread).Ver
	require.Positive(t, known, "an approval raises it")
	require.Equal(t, known, c.text(thread, a, known).MemberVer)
	require.NoError(t, c.text(thread, b, store.UnknownVer).Err, "the store decides")
	require.ErrorIs(t, c.text(thread, x, store.UnknownVer).Err, store.ErrMayNotWrite)
	first := store.NewMessage{ThreadID: thread, Sender: b, MemberVer: known, UniqueID: "first", Content: "x"}
	stored := c.send(first)
	require.NoError(t, stored.Err)

	_, err := c.s.Friends.Block(t.Context(), c.node, c.boot, a, b)
	require.NoError(t, err)
	after := c.access(thread)
	require.Equal(t, store.Access{User1: a, User2: b, Ver: known + 1}, after)
	// One batch: what the node believes is out of date, the other thread's texts are not touched, and resends are known.
	msgs := []store.NewMessage{
		{ThreadID: thread, Sender: b, MemberVer: known, UniqueID: "late", Content: "x"},
		first,
		{ThreadID: other, Sender: a, MemberVer: c.access(other).Ver, UniqueID: "elsewhere", Content: "x"},
		{ThreadID: thread, Sender: a, MemberVer: known, UniqueID: "late too", Content: "x"},
	}
	out := make([]store.Appended, len(msgs))
	before := len(history(t, c.s, thread))
	require.NoError(t, c.s.Messages.Append(t.Context(), c.node, c.boot, msgs, out))
	require.ErrorIs(t, out[0].Err, store.ErrMayNotWrite)
	require.Equal(t, after.Ver, out[0].MemberVer)
	require.Equal(t, store.Appended{Seq: stored.Seq, CreatedMS: stored.CreatedMS, MemberVer: after.Ver, Resent: true}, out[1])
	require.NoError(t, out[2].Err)
	require.ErrorIs(t, out[3].Err, store.ErrMayNotWrite, "the other way round as well")
	require.Len(t, history(t, c.s, thread), before)
}

func testUnfriend(t *testing.T, d *database) {
	c := newCircle(t, d)
	a, b := user(t, c.s, "a"), user(t, c.s, "b")
	unfriend := func(x, y int32) (bool, error) { return c.s.Friends.Unfriend(t.Context(), c.node, c.boot, x, y) }
	_, err := unfriend(a, a)
	require.ErrorIs(t, err, store.ErrSelf)
	_, err = unfriend(a, 9999)
	require.ErrorIs(t, err, store.ErrNotFound)
	were, err := unfriend(a, b)
	require.NoError(t, err)
	require.False(t, were)

	thread := c.befriend(a, b)
	require.NoError(t, c.text(thread, a, c.access(thread).Ver).Err)
	were, err = unfriend(b, a)
	require.NoError(t, err)
	require.True(t, were)
	for _, uid := range []int32{a, b} {
		friends, err := friendsOf(t, c.s, uid)
		require.NoError(t, err)
		require.Empty(t, friends)
		require.ErrorIs(t, c.text(thread, uid, store.UnknownVer).Err, store.ErrMayNotWrite)
		threads, err := c.s.Threads.List(t.Context(), uid, 0, 10)
		require.NoError(t, err)
		require.Len(t, threads, 1, "the history stays")
	}
	read := history(t, c.s, thread)
	ver := c.access(thread).Ver
	require.Equal(t, thread, c.befriend(a, b), "the pair's thread is used again")
	require.Greater(t, c.access(thread).Ver, ver)
	require.NoError(t, c.text(thread, b, store.UnknownVer).Err)
	require.Equal(t, read, history(t, c.s, thread)[:len(read)])
}

func testBlock(t *testing.T, d *database) {
	c := newCircle(t, d)
	a, b, x := user(t, c.s, "a"), user(t, c.s, "b"), user(t, c.s, "x")
	block := func(who, whom int32) (bool, error) { return c.s.Friends.Block(t.Context(), c.node, c.boot, who, whom) }
	_, err := block(a, a)
	require.ErrorIs(t, err, store.ErrSelf)
	_, err = block(a, 9999)
	require.ErrorIs(t, err, store.ErrNotFound)
	require.NoError(t, apply(t.Context(), c.s, b, a, "let me in", ""))
	were, err := block(a, b)
	require.NoError(t, err)
	require.False(t, were)
	_, err = block(a, b)
	require.NoError(t, err, "again")
	_, err = block(a, x)
	require.NoError(t, err)

	list, err := c.s.Friends.Blocks(t.Context(), a, 0, 1)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, store.Profile{UID: b, Name: "b", Nick: "b", Icon: "icon.png"}, list[0].Profile)
	require.Positive(t, list[0].CreatedMS)
	list, err = c.s.Friends.Blocks(t.Context(), a, b, 10)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, x, list[0].UID)
	list, err = c.s.Friends.Blocks(t.Context(), b, 0, 10)
	require.NoError(t, err)
	require.Empty(t, list)

	_, err = c.s.Friends.Approve(t.Context(), c.node, c.boot, a, b, "")
	require.ErrorIs(t, err, store.ErrNoApplication, "the block has ended it")
	require.ErrorIs(t, apply(t.Context(), c.s, b, a, "again", ""), store.ErrBlocked)
	require.ErrorIs(t, apply(t.Context(), c.s, a, b, "", ""), store.ErrBlocking)
	apps, err := c.s.Friends.Applications(t.Context(), a, 10)
	require.NoError(t, err)
	require.Empty(t, apps)
	data, err := c.s.Users.Data(t.Context(), []int32{a}, 10)
	require.NoError(t, err)
	require.Empty(t, data[a].Applications)

	require.NoError(t, c.s.Friends.Unblock(t.Context(), c.node, c.boot, a, b))
	require.NoError(t, c.s.Friends.Unblock(t.Context(), c.node, c.boot, a, b), "again")
	apps, err = c.s.Friends.Applications(t.Context(), a, 10)
	require.NoError(t, err)
	require.Empty(t, apps, "unblocking restores nothing")
	thread := c.befriend(b, a)
	require.NoError(t, c.text(thread, b, c.access(thread).Ver).Err)
	were, err = block(b, a)
	require.NoError(t, err)
	require.True(t, were)
}

func testUnfriendForgetsApplications(t *testing.T, d *database) {
	c := newCircle(t, d)
	a, b := user(t, c.s, "a"), user(t, c.s, "b")
	c.befriend(a, b)
	// As two who apply to each other at the same moment can leave it behind.
	_, err := d.sql(t).ExecContext(t.Context(), "INSERT INTO friend_apply(from_uid,to_uid,status,applied_ms) VALUES(?,?,0,1)", b, a)
	require.NoError(t, err)
	_, err = c.s.Friends.Unfriend(t.Context(), c.node, c.boot, b, a)
	require.NoError(t, err)
	apps, err := c.s.Friends.Applications(t.Context(), a, 10)
	require.NoError(t, err)
	require.Empty(t, apps)
}

func testRightsFenced(t *testing.T, d *database) {
	c := newCircle(t, d)
	a, b := user(t, c.s, "a"), user(t, c.s, "b")
	c.befriend(a, b)
	_, err := c.s.Friends.Unfriend(t.Context(), c.node, "old boot", a, b)
	require.ErrorIs(t, err, store.ErrFenced)
	_, err = c.s.Friends.Block(t.Context(), c.node, "old boot", a, b)
	require.ErrorIs(t, err, store.ErrFenced)
	require.ErrorIs(t, c.s.Friends.Unblock(t.Context(), c.node, "old boot", a, b), store.ErrFenced)
	friends, err := friendsOf(t, c.s, a)
	require.NoError(t, err)
	require.Len(t, friends, 1)
}

func testDeleteUser(t *testing.T, d *database) {
	c := newCircle(t, d)
	var uids []int32
	for _, name := range []string{"gone", "friend", "applicant", "asked", "blocker", "blocked"} {
		uids = append(uids, user(t, c.s, name))
	}
	gone, friend, applicant, asked, blocker, blocked := uids[0], uids[1], uids[2], uids[3], uids[4], uids[5]
	thread, old := c.befriend(gone, friend), c.befriend(blocker, gone)
	require.NoError(t, c.text(thread, gone, c.access(thread).Ver).Err)
	require.NoError(t, apply(t.Context(), c.s, applicant, gone, "", ""))
	require.NoError(t, apply(t.Context(), c.s, gone, asked, "", ""))
	_, err := c.s.Friends.Block(t.Context(), c.node, c.boot, blocker, gone)
	require.NoError(t, err)
	_, err = c.s.Friends.Block(t.Context(), c.node, c.boot, gone, blocked)
	require.NoError(t, err)
	vers := []int32{c.access(thread).Ver, c.access(old).Ver}
	read := history(t, c.s, thread)

	_, err = c.s.Users.Delete(t.Context(), gone, "another hash")
	require.ErrorIs(t, err, store.ErrNotFound)
	done, err := c.s.Users.Delete(t.Context(), gone, "hash of gone")
	require.NoError(t, err)
	require.Equal(t, "gone", done.Name)
	require.ElementsMatch(t, []int32{friend, applicant, asked}, done.Related)
	_, err = c.s.Users.Delete(t.Context(), gone, "")
	require.ErrorIs(t, err, store.ErrNotFound, "once")

	require.Equal(t, read, history(t, c.s, thread), "the texts stay")
	for i, id := range []int64{thread, old} {
		require.Greater(t, c.access(id).Ver, vers[i])
		require.False(t, c.access(id).Friends)
	}
	require.ErrorIs(t, c.text(thread, gone, vers[0]).Err, store.ErrMayNotWrite)
	require.ErrorIs(t, c.text(thread, friend, vers[0]).Err, store.ErrMayNotWrite)
	db := d.sql(t)
	for _, q := range []string{
		"SELECT COUNT(*) FROM friend WHERE self_id=? OR friend_id=?", "SELECT COUNT(*) FROM friend_apply WHERE from_uid=? OR to_uid=?",
		"SELECT COUNT(*) FROM user_block WHERE uid=? OR blocked_uid=?",
	} {
		require.Zero(t, scan[int](t, db, q, gone, gone), q)
	}
	require.Equal(t, store.DeletedName, scan[string](t, db, "SELECT name FROM user WHERE uid=?", gone))

	// Nobody finds the user, or can become a friend.
	_, err = c.s.Users.Profile(t.Context(), gone)
	require.ErrorIs(t, err, store.ErrNotFound)
	for _, name := range []string{"gone", store.DeletedName, fmt.Sprint("DELETED:", gone), fmt.Sprint("deleted:", gone)} {
		_, err = c.s.Users.ProfileByName(t.Context(), name)
		require.ErrorIs(t, err, store.ErrNotFound, name)
		_, err = c.s.Users.Credentials(t.Context(), name)
		require.ErrorIs(t, err, store.ErrNotFound, name)
	}
	data, err := c.s.Users.Data(t.Context(), []int32{gone, friend}, 10)
	require.NoError(t, err)
	require.NotContains(t, data, gone)
	require.Empty(t, data[friend].Friends)
	require.ErrorIs(t, apply(t.Context(), c.s, friend, gone, "", ""), store.ErrNotFound)
	require.ErrorIs(t, apply(t.Context(), c.s, gone, friend, "", ""), store.ErrNotFound, "from a session that has not ended yet")
	_, err = c.s.Friends.Block(t.Context(), c.node, c.boot, friend, gone)
	require.ErrorIs(t, err, store.ErrNotFound)

	// Name and address are free, and another uid has them then.
	require.Greater(t, user(t, c.s, "gone"), blocked)
	require.NotEqual(t, gone, user(t, c.s, store.DeletedName), "somebody may be called so")
}

// Everything that locks users and threads, on few of both, as from many nodes: no deadlock is left unresolved, and
// friendships stay whole.
func testRightsConcurrently(t *testing.T, d *database) {
	c := newCircle(t, d)
	var uids []int32
	for i := range 4 {
		uids = append(uids, user(t, c.s, fmt.Sprint("u", i)))
	}
	var threads []int64
	for i := range uids {
		for j := range i {
			id, err := c.s.Threads.EnsureOfPair(t.Context(), uids[i], uids[j])
			require.NoError(t, err)
			threads = append(threads, id)
		}
	}
	var wg sync.WaitGroup
	allowed := []error{
		store.ErrAlreadyFriends, store.ErrNoApplication, store.ErrBlocked, store.ErrBlocking, store.ErrNotFound,
	}
	check := func(what string, err error) {
		if err == nil {
			return
		}
		for _, ok := range allowed {
			if errors.Is(err, ok) {
				return
			}
		}
		t.Errorf("%s: %v", what, err)
	}
	for w := range 6 {
		wg.Go(func() {
			for n := range 25 {
				x, y := uids[(w+n)%4], uids[(w+n+1+n%3)%4]
				if x == y {
					continue
				}
				switch (w + n/2) % 5 {
				case 0:
					check("apply", apply(t.Context(), c.s, x, y, "hi", ""))
				case 1:
					_, err := c.s.Friends.Approve(t.Context(), c.node, c.boot, x, y, "")
					check("approve", err)
				case 2:
					_, err := c.s.Friends.Unfriend(t.Context(), c.node, c.boot, x, y)
					check("unfriend", err)
				case 3:
					_, err := c.s.Friends.Block(t.Context(), c.node, c.boot, x, y)
					check("block", err)
					check("unblock", c.s.Friends.Unblock(t.Context(), c.node, c.boot, x, y))
				case 4:
					msgs := make([]store.NewMessage, len(threads))
					for i, id := range threads {
						msgs[i] = store.NewMessage{ThreadID: id, Sender: x, MemberVer: store.UnknownVer, UniqueID: fmt.Sprint(w, "-", n, "-", i), Content: "x"}
					}
					check("append", c.s.Messages.Append(t.Context(), c.node, c.boot, msgs, make([]store.Appended, len(msgs))))
				}
			}
		})
	}
	wg.Go(func() {
		_, err := c.s.Users.Delete(t.Context(), uids[3], "hash of u3")
		check("delete", err)
	})
	wg.Wait()
	db := d.sql(t)
	require.Zero(t, scan[int](t, db, `SELECT COUNT(*) FROM friend f WHERE NOT EXISTS
		(SELECT 1 FROM friend g WHERE g.self_id=f.friend_id AND g.friend_id=f.self_id)`), "friendships are whole")
	require.Zero(t, scan[int](t, db, "SELECT COUNT(*) FROM friend WHERE self_id=?", uids[3]))
	require.Zero(t, scan[int](t, db, `SELECT COUNT(*) FROM friend f JOIN user_block b
		ON b.uid=f.self_id AND b.blocked_uid=f.friend_id`), "nobody is friends with whom they have blocked")
}
