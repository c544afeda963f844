package chat

import (
	"testing"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/clientconn"
	"parley/internal/session"
	"parley/internal/wire"
)

// connOf returns the connection of a user who is logged in once; it is live soon after its 1006.
func connOf(t *testing.T, n *node, uid int32) (c *clientconn.Conn) {
	t.Helper()
	eventually(t, "the session to be live", func() bool {
		for _, at := range n.conns.Open() {
			if at.State() == session.Live && at.UID() == uid {
				c = at
			}
		}
		return c != nil
	})
	return c
}

// apply stores an application of which nobody is told.
func (f *fixture) apply(from, to int32, greeting string) {
	f.t.Helper()
	_, err := f.store.Friends.Apply(f.t.Context(), from, to, greeting, "")
	require.NoError(f.t, err)
}

func TestWhoCameDuringTheLoginIsTold(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 4)
	n := f.start("chat1")
	s := f.stock(n, 1)
	s.expect(wire.MsgLoginRsp)
	s.load()
	c := connOf(t, n, firstUID)
	version, err := f.presence.Cache.ListsVersion(t.Context(), firstUID)
	require.NoError(t, err)
	lists, err := n.users.Lists(t.Context(), firstUID, version)
	require.NoError(t, err)
	n.logins.CatchUp(t.Context(), &c.Session, version, lists) // nothing has changed: nothing is said

	f.apply(firstUID, firstUID+2, "hello")
	_, err = f.store.Friends.Approve(t.Context(), "chat1", n.lease.Boot(), firstUID+2, firstUID, "")
	require.NoError(t, err)
	f.apply(firstUID+3, firstUID, "hi")
	require.NoError(t, f.presence.Cache.BumpLists(t.Context(), firstUID))
	n.logins.CatchUp(t.Context(), &c.Session, version, lists)
	var approved wire.ApprovedPush
	s.expect(wire.MsgApproved).into(t, &approved)
	require.EqualValues(t, firstUID+2, approved.FromUID)
	require.Len(t, approved.Chats, 2)
	require.Equal(t, "hello", approved.Chats[0].Content)
	var applied wire.AppliedPush
	s.expect(wire.MsgApplied).into(t, &applied)
	require.EqualValues(t, firstUID+3, applied.ApplyUID)
	require.Equal(t, "hi", applied.Desc)

	// A text of the new friend finds its thread known.
	friend := f.login(n, 3)
	_, err = friend.SendText(t.Context(), client.InThread(approved.Chats[0].ThreadID), "now you can read me")
	require.NoError(t, err)
	var text wire.TextPush
	s.expect(wire.MsgTextPush).into(t, &text)
	require.Equal(t, "now you can read me", text.Chats[0].Content)
}

// The next connection of an approver may have read its friends before the approval was stored.
func TestAnApproverWhoLostTheConnectionIsTold(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 3)
	n := f.start("chat1")
	f.apply(firstUID+2, firstUID, "hello")
	gone := f.stock(n, 1)
	gone.expect(wire.MsgLoginRsp)
	c := connOf(t, n, firstUID)
	s := f.stock(n, 1) // replaces it
	s.expect(wire.MsgLoginRsp)
	s.load()
	require.Equal(t, session.Dead, c.State())
	body, err := wire.Encode(wire.ApproveRequest{ToUID: firstUID + 2})
	require.NoError(t, err)
	require.NoError(t, n.handlers[wire.MsgApprove](t.Context(), &c.Session, body))
	var approved wire.ApprovedPush
	s.expect(wire.MsgApproved).into(t, &approved)
	require.EqualValues(t, firstUID+2, approved.FromUID)
	require.EqualValues(t, firstUID, approved.ToUID)
	require.Equal(t, "hello", approved.Chats[0].Content)
}
