package store_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/store"
)

func init() {
	bodies["applications are validated and listed"] = testApplications
	bodies["approval is one transaction"] = testApprove
	bodies["approval is all or nothing"] = testApproveAtomic
	bodies["approvals at once make one friendship"] = testApproveConcurrently
	bodies["approvals beside appends"] = testApproveBesideAppends
	bodies["an application says whether it is news"] = testApplicationNews
}

func friendsOf(t *testing.T, s *store.Store, uid int32) ([]store.Friend, error) {
	t.Helper()
	all, err := s.Friends.Of(t.Context(), []int32{uid})
	return all[uid], err
}

func apply(ctx context.Context, s *store.Store, from, to int32, greeting, back string) error {
	_, err := s.Friends.Apply(ctx, from, to, greeting, back)
	return err
}

func testApplications(t *testing.T, d *database) {
	s := d.migrated(t)
	me := user(t, s, "me")
	require.ErrorIs(t, apply(t.Context(), s, me, me, "", ""), store.ErrSelf)
	require.ErrorIs(t, apply(t.Context(), s, me, 9999, "", ""), store.ErrNotFound)
	require.ErrorIs(t, apply(t.Context(), s, me, me+1, strings.Repeat("x", 256), ""), store.ErrInvalid)

	apps, err := s.Friends.Applications(t.Context(), me, 10)
	require.NoError(t, err)
	require.Empty(t, apps)
	var uids []int32
	for i := range 14 {
		uid := user(t, s, fmt.Sprint("u", i))
		uids = append(uids, uid)
		require.NoError(t, apply(t.Context(), s, uid, me, fmt.Sprint("greeting ", i), "boss"))
	}
	list := func(limit int) (got []int32) {
		t.Helper()
		apps, err := s.Friends.Applications(t.Context(), me, limit)
		require.NoError(t, err)
		for _, a := range apps {
			got = append(got, a.UID)
		}
		return got
	}
	require.Equal(t, uids[4:], list(10), "the newest, oldest of them first")
	require.Empty(t, list(0))
	require.Empty(t, list(-1))

	// Again: the text is replaced, and it is the newest. (The clock may stand still in between; then uids decide.)
	require.NoError(t, apply(t.Context(), s, uids[13], me, "please", "chief"))
	apps, err = s.Friends.Applications(t.Context(), me, 1)
	require.NoError(t, err)
	require.Equal(t, []store.Application{{
		Profile: store.Profile{UID: uids[13], Name: "u13", Nick: "u13", Icon: "icon.png"}, Desc: "please", Status: store.ApplicationPending,
	}}, apps)

	name, boot := node(t, s, "n1")
	_, err = s.Friends.Approve(t.Context(), name, boot, me, uids[13], "")
	require.NoError(t, err)
	require.Equal(t, uids[3:13], list(10), "accepted ones are gone and leave room for older ones")
	require.ErrorIs(t, apply(t.Context(), s, uids[13], me, "", ""), store.ErrAlreadyFriends)
	require.ErrorIs(t, apply(t.Context(), s, me, uids[13], "", ""), store.ErrAlreadyFriends)

	// Accepted in an old database, but no friends: the application can be made again.
	_, err = d.sql(t).ExecContext(t.Context(), "UPDATE friend_apply SET status=1 WHERE from_uid=?", uids[0])
	require.NoError(t, err)
	_, err = s.Friends.Approve(t.Context(), name, boot, me, uids[0], "")
	require.ErrorIs(t, err, store.ErrNoApplication)
	require.NoError(t, apply(t.Context(), s, uids[0], me, "", ""))
	_, err = s.Friends.Approve(t.Context(), name, boot, me, uids[0], "")
	require.NoError(t, err)
}

func testApplicationNews(t *testing.T, d *database) {
	s := d.migrated(t)
	alice, bob := user(t, s, "alice"), user(t, s, "bob")
	name, boot := node(t, s, "n1")
	news := func(s *store.Store, from, to int32, greeting, back string) bool {
		t.Helper()
		news, err := s.Friends.Apply(t.Context(), from, to, greeting, back)
		require.NoError(t, err)
		return news
	}
	require.True(t, news(s, alice, bob, "hi", ""))
	require.False(t, news(s, alice, bob, "hi", "bobby"), "bob does not see the alias")
	require.True(t, news(s, alice, bob, "hi again", "bobby"))
	require.True(t, news(s, bob, alice, "hi again", "bobby"), "the other way round")
	_, err := s.Friends.Approve(t.Context(), name, boot, bob, alice, "")
	require.NoError(t, err)
	_, err = s.Friends.Unfriend(t.Context(), name, boot, bob, alice)
	require.NoError(t, err)
	require.True(t, news(s, alice, bob, "hi again", "bobby"), "after they were friends")

	// Its COMMIT was carried out, and the store does not hear of it: it is news all the same.
	lost := false
	unclear := d.withFaults(t, &faults{commit: func(ctx context.Context, commit func(context.Context) error) error {
		err := commit(ctx)
		if !lost {
			lost = true
			return errors.Join(err, driver.ErrBadConn)
		}
		return err
	}})
	require.True(t, news(unclear, alice, bob, "third", ""))
	require.True(t, lost)
}

func testApprove(t *testing.T, d *database) {
	s := d.migrated(t)
	alice, bob, carol := user(t, s, "alice"), user(t, s, "bob"), user(t, s, "carol")
	name, boot := node(t, s, "n1")

	approve := func(approver, applicant int32, back string) (store.Approval, error) {
		return s.Friends.Approve(t.Context(), name, boot, approver, applicant, back)
	}
	_, err := approve(alice, bob, "")
	require.ErrorIs(t, err, store.ErrNoApplication)
	require.NoError(t, apply(t.Context(), s, bob, alice, "I am Bob", "Alice from work"))
	_, err = approve(bob, alice, "")
	require.ErrorIs(t, err, store.ErrNoApplication, "the applicant cannot approve")
	_, err = approve(alice, alice, "")
	require.ErrorIs(t, err, store.ErrSelf)
	_, err = approve(alice, bob, strings.Repeat("x", 256))
	require.ErrorIs(t, err, store.ErrInvalid)
	_, err = s.Friends.Approve(t.Context(), name, "old boot", alice, bob, "")
	require.ErrorIs(t, err, store.ErrFenced)

	got, err := approve(alice, bob, "Bobby")
	require.NoError(t, err)
	require.Len(t, got.Messages, 2)
	greeting, hello := got.Messages[0], got.Messages[1]
	require.Equal(t, store.Message{
		ThreadID: got.ThreadID, Seq: 1, Sender: bob, UniqueID: greeting.UniqueID, Content: "I am Bob", CreatedMS: greeting.CreatedMS,
	}, greeting)
	require.Equal(t, store.Message{
		ThreadID: got.ThreadID, Seq: 2, Sender: alice, UniqueID: hello.UniqueID, Content: store.FriendsNow, CreatedMS: greeting.CreatedMS,
	}, hello)
	require.Equal(t, got.Messages, history(t, s, got.ThreadID))
	id, err := s.Threads.OfPair(t.Context(), bob, alice)
	require.NoError(t, err)
	require.Equal(t, got.ThreadID, id)

	friends, err := friendsOf(t, s, alice)
	require.NoError(t, err)
	require.Equal(t, []store.Friend{{Profile: store.Profile{UID: bob, Name: "bob", Nick: "bob", Icon: "icon.png"}, Back: "Bobby"}}, friends)
	friends, err = friendsOf(t, s, bob)
	require.NoError(t, err)
	require.Equal(t, "Alice from work", friends[0].Back)

	_, err = approve(alice, bob, "again")
	require.ErrorIs(t, err, store.ErrAlreadyFriends)
	_, err = approve(bob, alice, "again")
	require.ErrorIs(t, err, store.ErrAlreadyFriends)
	require.Len(t, history(t, s, got.ThreadID), 2)

	// Into a thread they have, without a greeting.
	id, err = s.Threads.EnsureOfPair(t.Context(), alice, carol)
	require.NoError(t, err)
	out := make([]store.Appended, 1)
	require.NoError(t, s.Messages.Append(t.Context(), name, boot, []store.NewMessage{{ThreadID: id, Sender: alice, UniqueID: "1"}}, out))
	require.NoError(t, apply(t.Context(), s, alice, carol, "", ""))
	got, err = approve(carol, alice, "")
	require.NoError(t, err)
	require.Equal(t, id, got.ThreadID)
	require.Len(t, got.Messages, 1)
	require.Equal(t, int64(2), got.Messages[0].Seq)
	require.Equal(t, carol, got.Messages[0].Sender)
	require.NoError(t, s.Messages.Append(t.Context(), name, boot, []store.NewMessage{{ThreadID: id, Sender: alice, UniqueID: "2"}}, out))
	require.Equal(t, int64(3), out[0].Seq)

	friends, err = friendsOf(t, s, alice)
	require.NoError(t, err)
	require.Len(t, friends, 2)
	require.Less(t, friends[0].UID, friends[1].UID)
}

func testApproveAtomic(t *testing.T, d *database) {
	s := d.migrated(t)
	alice, bob := user(t, s, "alice"), user(t, s, "bob")
	name, boot := node(t, s, "n1")
	require.NoError(t, apply(t.Context(), s, bob, alice, "hi", ""))
	db := d.sql(t)
	_, err := db.ExecContext(t.Context(), d.on(
		`CREATE TRIGGER broken BEFORE INSERT ON chat_message FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT='broken'`,
		`CREATE TRIGGER broken BEFORE INSERT ON chat_message BEGIN SELECT RAISE(ABORT, 'broken'); END`))
	require.NoError(t, err)
	_, err = s.Friends.Approve(t.Context(), name, boot, alice, bob, "")
	require.ErrorContains(t, err, "broken")

	apps, err := s.Friends.Applications(t.Context(), alice, 10)
	require.NoError(t, err)
	require.Len(t, apps, 1)
	friends, err := friendsOf(t, s, alice)
	require.NoError(t, err)
	require.Empty(t, friends)
	_, err = s.Threads.OfPair(t.Context(), alice, bob)
	require.ErrorIs(t, err, store.ErrNotFound)

	_, err = db.ExecContext(t.Context(), "DROP TRIGGER broken")
	require.NoError(t, err)
	_, err = s.Friends.Approve(t.Context(), name, boot, alice, bob, "")
	require.NoError(t, err)
}

// Two who applied to each other approve each other at once, twice each, from two nodes, while others open their thread.
func testApproveConcurrently(t *testing.T, d *database) {
	stores := []*store.Store{d.migrated(t), d.open(t)}
	name, boot := node(t, stores[0], "n1")
	for round := range 10 {
		a, b := user(t, stores[0], fmt.Sprint("a", round)), user(t, stores[0], fmt.Sprint("b", round))
		require.NoError(t, apply(t.Context(), stores[0], a, b, "from a", "b's alias"))
		require.NoError(t, apply(t.Context(), stores[1], b, a, "from b", "a's alias"))
		var mu sync.Mutex
		var done []store.Approval
		var failed error
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				x, y := a, b
				if i%2 == 1 {
					x, y = y, x
				}
				var ap store.Approval
				var err error
				if i < 4 {
					ap, err = stores[i/2].Friends.Approve(t.Context(), name, boot, x, y, "")
				} else {
					_, err = stores[i%2].Threads.EnsureOfPair(t.Context(), x, y)
				}
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil && i < 4:
					done = append(done, ap)
				case err != nil && !errors.Is(err, store.ErrAlreadyFriends):
					failed = err
				}
			})
		}
		wg.Wait()
		require.NoError(t, failed)
		require.Len(t, done, 1)
		require.Equal(t, done[0].Messages, history(t, stores[0], done[0].ThreadID))
		for _, uid := range []int32{a, b} {
			apps, err := stores[0].Friends.Applications(t.Context(), uid, 10)
			require.NoError(t, err)
			require.Empty(t, apps, "the other application is accepted with it")
			friends, err := friendsOf(t, stores[0], uid)
			require.NoError(t, err)
			require.Len(t, friends, 1)
			threads, err := stores[0].Threads.List(t.Context(), uid, 0, 10)
			require.NoError(t, err)
			require.Len(t, threads, 1)
		}
	}
}

// Approvals append to threads that committers append to at the same time.
func testApproveBesideAppends(t *testing.T, d *database) {
	s := d.migrated(t)
	name, boot := node(t, s, "n1")
	const users = 8
	hub := user(t, s, "hub")
	var ids []int64
	var others []int32
	for i := range users {
		u := user(t, s, fmt.Sprint("u", i))
		others = append(others, u)
		require.NoError(t, apply(t.Context(), s, u, hub, "hello", ""))
		id, err := s.Threads.EnsureOfPair(t.Context(), u, hub)
		require.NoError(t, err)
		ids = append(ids, id)
	}
	var wg sync.WaitGroup
	failed := make(chan error, 3)
	wg.Go(func() {
		for i := range others {
			if _, err := s.Friends.Approve(t.Context(), name, boot, hub, others[i], ""); err != nil {
				failed <- err
				return
			}
		}
	})
	for w := range 2 {
		wg.Go(func() {
			for round := range 20 {
				var msgs []store.NewMessage
				for i, id := range ids {
					msgs = append(msgs, store.NewMessage{ThreadID: id, Sender: others[i], UniqueID: fmt.Sprint(w, "-", round), Content: "x"})
				}
				out := make([]store.Appended, len(msgs))
				if err := s.Messages.Append(t.Context(), name, boot, msgs, out); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(failed)
	require.NoError(t, <-failed)
	for _, id := range ids {
		msgs := history(t, s, id)
		require.Len(t, msgs, 42)
		for i, m := range msgs {
			require.Equal(t, int64(i+1), m.Seq)
		}
	}
}
