package chat

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/presence"
	"parley/internal/wire"
)

// loginAs is login on a device of the given name.
func (f *fixture) loginAs(n *node, i int, device string) *client.Conn {
	f.t.Helper()
	c, err := client.Dial(f.t.Context(), f.ticket(n, i), client.Options{Device: device})
	require.NoError(f.t, err)
	f.t.Cleanup(func() { c.Close() })
	n.awaitLive(f.t, c)
	return c
}

// nextEvent returns the next event of a kind.
func nextEvent[E client.Event](t *testing.T, c *client.Conn) E {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		ev, err := c.Next(ctx)
		require.NoError(t, err)
		if e, ok := ev.(E); ok {
			return e
		}
	}
}

// befriend has one user apply and the other approve.
func befriend(t *testing.T, a, b *client.Conn) client.Approval {
	t.Helper()
	require.NoError(t, a.Apply(t.Context(), b.Profile().UID, "hello", ""))
	nextEvent[client.Applied](t, b)
	done, err := b.Approve(t.Context(), a.Profile().UID, "")
	require.NoError(t, err)
	nextEvent[client.Approved](t, a)
	return done
}

func TestFriendsPartAndBecomeFriendsAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 3)
	a, b := f.start("chat1"), f.start("chat2")
	one, two := f.login(a, 1), f.login(b, 2)
	_, err := two.SendText(t.Context(), client.InThread(f.threads[0]), "before")
	require.NoError(t, err)
	nextTexts(t, one)

	require.NoError(t, one.Unfriend(t.Context(), firstUID+1))
	require.NoError(t, one.Unfriend(t.Context(), firstUID+1), "again")
	for _, c := range []*client.Conn{one, two} {
		for _, to := range []client.To{client.InThread(f.threads[0]), client.User(2*firstUID + 1 - c.Profile().UID)} {
			_, err := c.SendText(t.Context(), to, "after")
			require.Equal(t, client.CodeNotAllowed, client.CodeOf(err), "the other node had sent before")
		}
		page, err := c.History(t.Context(), f.threads[0], 0, 10)
		require.NoError(t, err)
		require.Len(t, page.Messages, 1, "the history stays")
		_, err = c.OpenThread(t.Context(), 2*firstUID+1-c.Profile().UID)
		require.Equal(t, client.CodeCreateChat, client.CodeOf(err))
	}
	for i := range 2 {
		c := f.loginAs(a, i+1, "later")
		for _, friend := range c.Friends() {
			require.Equal(t, int32(firstUID+2), friend.UID, "the lists were read anew")
		}
	}
	require.Equal(t, client.CodeUIDInvalid, client.CodeOf(one.Unfriend(t.Context(), 999999)))
	require.Equal(t, client.CodeNotAllowed, client.CodeOf(one.Unfriend(t.Context(), firstUID)))

	done := befriend(t, two, one)
	require.Equal(t, f.threads[0], done.Messages[0].ThreadID, "their old thread")
	require.EqualValues(t, 2, done.Messages[0].ID)
	_, err = two.SendText(t.Context(), client.InThread(f.threads[0]), "again")
	require.NoError(t, err)
}

func TestWhoIsBlockedLearnsNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 5)
	a, b := f.start("chat1"), f.start("chat2")
	one, two, four := f.login(a, 1), f.login(b, 2), f.login(b, 4) // four is a stranger to one
	require.NoError(t, one.Block(t.Context(), firstUID+1))
	require.NoError(t, one.Block(t.Context(), firstUID+1), "again")

	// The same answers as a stranger gets.
	for _, c := range []*client.Conn{two, four} {
		_, err := c.SendText(t.Context(), client.User(firstUID), "hey")
		require.Equal(t, client.CodeNotAllowed, client.CodeOf(err))
		p, err := c.Search(t.Context(), "user1")
		require.NoError(t, err)
		require.Equal(t, int32(firstUID), p.UID)
		_, err = c.OpenThread(t.Context(), firstUID)
		require.Equal(t, client.CodeCreateChat, client.CodeOf(err))
		require.NoError(t, c.Apply(t.Context(), firstUID, fmt.Sprint("from ", c.Profile().UID), ""))
	}
	require.Equal(t, int32(firstUID+3), nextEvent[client.Applied](t, one).Application.UID, "the stranger's alone is pushed")
	later := f.loginAs(a, 1, "later")
	require.Len(t, later.Applications(), 1)
	require.Empty(t, later.Friends())
	_, err := one.Approve(t.Context(), firstUID+1, "")
	require.Equal(t, client.CodeUIDInvalid, client.CodeOf(err), "there is no application")
	require.Equal(t, client.CodeNotAllowed, client.CodeOf(one.Apply(t.Context(), firstUID+1, "", "")), "unblock first")

	require.NoError(t, one.Block(t.Context(), firstUID+4))
	var blocked []int32
	for u, err := range one.Blocks(t.Context()) {
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("user%d", u.UID-firstUID+1), u.Name)
		require.WithinDuration(t, time.Now(), u.Since, time.Minute)
		blocked = append(blocked, u.UID)
	}
	require.Equal(t, []int32{firstUID + 1, firstUID + 4}, blocked)
	require.NoError(t, one.Unblock(t.Context(), firstUID+1))
	befriend(t, two, one)
}

func TestBlocksComeInPages(t *testing.T) {
	t.Parallel()
	const users = 300
	f := newFixture(t, users)
	n := f.start("chat1")
	boot := n.lease.Boot()
	for i := 2; i < users; i++ {
		_, err := f.store.Friends.Block(t.Context(), "chat1", boot, firstUID, firstUID+int32(i))
		require.NoError(t, err)
	}
	one := f.login(n, 1)
	next := int32(firstUID + 2)
	for u, err := range one.Blocks(t.Context()) {
		require.NoError(t, err)
		require.Equal(t, next, u.UID)
		next++
	}
	require.Equal(t, int32(firstUID+users), next)
}

func TestOwnDevicesAreToldThatTheListChanged(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 3)
	a, b := f.start("chat1"), f.start("chat2")
	phone, desk, far, other := f.loginAs(a, 2, "phone"), f.loginAs(a, 2, "desk"), f.loginAs(b, 2, "far"), f.login(b, 1)
	stock := f.stock(a, 2)
	stock.expect(wire.MsgLoginRsp)
	require.NoError(t, phone.Unfriend(t.Context(), firstUID))
	require.NoError(t, phone.Block(t.Context(), firstUID+2))
	require.NoError(t, phone.Unblock(t.Context(), firstUID+2))
	for _, c := range []*client.Conn{desk, far} {
		for _, want := range []client.FriendsChanged{
			{UID: firstUID, Change: client.ChangeUnfriend},
			{UID: firstUID + 2, Change: client.ChangeBlock},
			{UID: firstUID + 2, Change: client.ChangeUnblock},
		} {
			require.Equal(t, want, nextEvent[client.FriendsChanged](t, c))
		}
	}
	// Neither the device that did it nor the other user hears of it, and a stock client cannot know the push.
	for _, c := range []*client.Conn{phone, other} {
		require.NoError(t, c.Logout(t.Context()))
		for {
			ev, err := c.Next(t.Context())
			if err != nil {
				break
			}
			require.NotEqual(t, "client.FriendsChanged", fmt.Sprintf("%T", ev))
		}
	}
	stock.send(wire.MsgSearch, map[string]any{"uid": "user1"})
	stock.expect(wire.MsgSearchRsp)
	stock.send(wire.MsgBlock, map[string]any{"uid": firstUID})
	stock.send(wire.MsgSearch, map[string]any{"uid": "user1"})
	stock.expect(wire.MsgSearchRsp)
}

func TestALoginThatMissedTheEndOfAFriendshipIsTold(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 3)
	n := f.start("chat1")
	c := f.login(n, 2)
	lists, err := n.users.Lists(t.Context(), firstUID+1, 0)
	require.NoError(t, err)
	other := f.login(n, 1)
	require.NoError(t, other.Unfriend(t.Context(), firstUID+1))
	here := connOf(t, n, firstUID+1)
	n.logins.CatchUp(t.Context(), &here.Session, -1, lists)
	require.Equal(t, client.FriendsChanged{UID: firstUID, Change: client.ChangeUnfriend}, nextEvent[client.FriendsChanged](t, c))
}

func TestLoggingOutEndsThisDevice(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	n := f.start("chat1")
	phone, desk := f.loginAs(n, 1, "phone"), f.loginAs(n, 1, "desk")
	ticket, kept := phone.Ticket(), desk.Ticket()
	require.NoError(t, phone.Logout(t.Context()))
	found, err := f.presence.Sessions.Locate(t.Context(), []int32{firstUID})
	require.NoError(t, err)
	require.Len(t, found[0], 1, "released by the time of the answer")
	<-phone.Done()
	require.ErrorIs(t, phone.Err(), client.ErrLoggedOut)
	_, err = client.Dial(t.Context(), ticket, client.Options{Device: "phone"})
	require.Equal(t, client.CodeTokenInvalid, client.CodeOf(err))
	require.NoError(t, desk.Err())
	again, err := client.Dial(t.Context(), kept, client.Options{Device: "desk"})
	require.NoError(t, err, "another device's ticket is good")
	again.Close()
}

func TestLoggingOutEverywhereEndsAllSessionsTokensAndTickets(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	a, b := f.start("chat1"), f.start("chat2")
	phone, desk, far := f.loginAs(a, 1, "phone"), f.loginAs(a, 1, "desk"), f.loginAs(b, 1, "far")
	stock := f.stock(b, 1)
	stock.expect(wire.MsgLoginRsp)
	unused := f.ticket(b, 1)
	tickets := map[string]client.Ticket{"phone": phone.Ticket(), "desk": desk.Ticket(), "far": far.Ticket(), "new": unused}
	stranger := f.login(b, 2)

	require.NoError(t, phone.LogoutEverywhere(t.Context()))
	found, err := f.presence.Sessions.Locate(t.Context(), []int32{firstUID})
	require.NoError(t, err)
	for _, at := range found[0] { // what the janitor has not come to yet is of a session that has ended
		require.NotEqual(t, "phone", at.Device)
	}
	require.True(t, closedBy(t, desk))
	require.True(t, closedBy(t, far))
	stock.expect(wire.MsgReplaced)
	stock.expectClose()
	for device, ticket := range tickets {
		_, err := client.Dial(t.Context(), ticket, client.Options{Device: device})
		require.Equal(t, client.CodeTokenInvalid, client.CodeOf(err), device)
	}
	require.NoError(t, stranger.Err())
	f.redis.FastForward(10 * time.Millisecond) // a token of the same millisecond would be refused
	again := f.loginAs(a, 1, "phone")
	require.NoError(t, again.Err())
}

func TestALogoutThatCannotBeDoneLeavesTheSession(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	n := f.start("chat1")
	c := f.login(n, 1)
	f.redis.SetError("LOADING")
	for _, logout := range []func(context.Context) error{c.Logout, c.LogoutEverywhere} {
		require.Equal(t, client.CodeUnavailable, client.CodeOf(logout(t.Context())))
	}
	f.redis.SetError("")
	require.NoError(t, c.Err())
	require.NoError(t, c.Logout(t.Context()))
}

func TestASessionOfADeadNodeIsFencedByALogoutEverywhere(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	n := f.start("chat1")
	c := f.loginAs(n, 1, "phone")
	require.NoError(t, f.store.Fence.Take(t.Context(), "dead", "old-boot"))
	lost, err := f.presence.Sessions.Restore(t.Context(), []presence.Location{
		{UID: firstUID, Device: "desk", SID: "00000000000000aa", Node: "dead", Boot: "old-boot"},
	})
	require.NoError(t, err)
	require.Empty(t, lost)
	require.NoError(t, c.LogoutEverywhere(t.Context()))
	boot, err := f.store.Fence.Boot(t.Context(), "dead")
	require.NoError(t, err)
	require.Empty(t, boot)
}

func TestASessionEndsWhenItLogsOut(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	n := f.start("chat1")
	s, err := client.Open(t.Context(), client.SessionOptions{Ticket: f.ticket(n, 1)})
	require.NoError(t, err)
	defer s.Close()
	require.Len(t, s.Friends(), 1)
	require.NoError(t, s.Block(t.Context(), firstUID+1))
	require.Empty(t, s.Friends())
	for u, err := range s.Blocks(t.Context()) {
		require.NoError(t, err)
		require.Equal(t, int32(firstUID+1), u.UID)
	}
	require.NoError(t, s.Unblock(t.Context(), firstUID+1))
	require.NoError(t, s.LogoutEverywhere(t.Context()))
	require.ErrorIs(t, s.Err(), client.ErrLoggedOut)
	require.True(t, errors.Is(s.Logout(t.Context()), client.ErrLoggedOut) || s.Logout(t.Context()) == nil)
}
