package chat

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
)

// expect waits until an Online says so of a user.
func expectOnline(t *testing.T, c *client.Conn, uid int32, online bool) client.Presence {
	t.Helper()
	for {
		ev, err := c.Next(t.Context())
		require.NoError(t, err)
		if ev, ok := ev.(client.Online); ok {
			for _, s := range ev.States {
				if s.UID == uid && s.Online == online {
					return s
				}
			}
		}
	}
}

func expectTyping(t *testing.T, c *client.Conn, want client.Typing) {
	t.Helper()
	for {
		ev, err := c.Next(t.Context())
		require.NoError(t, err)
		if ev, ok := ev.(client.Typing); ok {
			require.Equal(t, want, ev)
			return
		}
	}
}

// Two nodes, all the way: logins, a hidden user, the end of a friendship, typing, logouts.
func TestFriendsOnOtherNodesAreSeenToComeAndGo(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 3)
	const u1, u2, u3 = firstUID, firstUID + 1, firstUID + 2 // neighbours are friends
	a, b := f.start("chat1"), f.start("chat2")
	alice := f.login(a, 1)
	states, err := alice.Watch(t.Context(), []int32{u2, u3})
	require.NoError(t, err)
	require.Equal(t, []client.Presence{{UID: u2}, {UID: u3}}, states)

	bob, carol := f.login(b, 2), f.login(b, 3)
	expectOnline(t, alice, u2, true)
	require.NoError(t, bob.SetVisible(t.Context(), false))
	require.Equal(t, client.Presence{UID: u2}, expectOnline(t, alice, u2, false))
	visible, err := bob.Visible(t.Context())
	require.NoError(t, err)
	require.False(t, visible)
	require.NoError(t, bob.SetVisible(t.Context(), true))
	expectOnline(t, alice, u2, true)

	thread, err := alice.OpenThread(t.Context(), u2)
	require.NoError(t, err)
	bob.Typing(thread)
	expectTyping(t, alice, client.Typing{ThreadID: thread, UID: u2})

	require.NoError(t, alice.Apply(t.Context(), u3, "", ""))
	_, err = carol.Approve(t.Context(), u1, "")
	require.NoError(t, err)
	expectOnline(t, alice, u3, true)
	require.NoError(t, carol.Block(t.Context(), u1))
	require.Equal(t, client.Presence{UID: u3}, expectOnline(t, alice, u3, false), "a user who has blocked this one was never seen")

	// An account is deleted, as the gate does it. Of an offline user too nothing is seen any more.
	require.NoError(t, carol.Unblock(t.Context(), u1))
	require.NoError(t, alice.Apply(t.Context(), u3, "", ""))
	_, err = carol.Approve(t.Context(), u1, "")
	require.NoError(t, err)
	expectOnline(t, alice, u3, true)
	require.NoError(t, carol.Close())
	require.NotZero(t, expectOnline(t, alice, u3, false).LastSeen)
	_, err = f.store.Users.Delete(t.Context(), u3, "x")
	require.NoError(t, err)
	require.NoError(t, f.presence.Mailboxes.LeaveDeletion(t.Context(), u3))
	require.Equal(t, client.Presence{UID: u3}, expectOnline(t, alice, u3, false), "a user without an account was never seen")

	before := time.Now().Truncate(time.Minute)
	require.NoError(t, bob.Close())
	seen := expectOnline(t, alice, u2, false).LastSeen
	require.False(t, seen.Before(before), seen)
}
