package chat

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/presence"
	"parley/internal/session"
)

// claimFor takes a user's place on a node as a login does that is slow enough to be overtaken.
func (f *fixture) claimFor(n *node, i int) (presence.Claimed, presence.Location) {
	f.t.Helper()
	ticket := f.ticket(n, i)
	mine := presence.Location{UID: ticket.UID, Device: "native", SID: session.NewSID(time.Now()).String(), Node: n.cfg.SelfServer.Name, Boot: n.lease.Boot()}
	claimed, err := f.presence.Logins.Claim(f.t.Context(), presence.Claim{
		UID: mine.UID, Device: mine.Device, Token: ticket.Token, SID: mine.SID, Node: mine.Node, Boot: mine.Boot,
	})
	require.NoError(f.t, err)
	return claimed, mine
}

// A client that gave a slow login up and logged in again must not be replaced by its own first attempt.
func TestALoginThatItsClientGaveUpReplacesNobody(t *testing.T) {
	t.Parallel() // it waits most of the time
	f := newFixture(t, 2)
	a, b := f.start("chat1"), f.start("chat2")
	live := f.login(a, 1)
	claimed, mine := f.claimFor(b, 1)
	require.Equal(t, live.SID(), claimed.Old.SID)
	other := f.login(b, 2)
	_, err := other.SendText(t.Context(), client.User(firstUID), "found nobody")
	require.NoError(t, err)
	eventually(t, "the push to end", func() bool { return counterOf(t, b, "parley_router_pushes_offline_total") == 1 })
	require.NoError(t, b.logins.Abandon(t.Context(), claimed, mine))

	found, err := f.presence.Sessions.Locate(t.Context(), []int32{firstUID})
	require.NoError(t, err)
	require.Len(t, found[0], 1)
	require.Equal(t, live.SID(), found[0][0].SID)
	require.Zero(t, nextEvent[client.Gap](t, live).ThreadID, "told that it may have missed something")
	_, err = other.SendText(t.Context(), client.User(firstUID), "still there")
	require.NoError(t, err)
	require.Equal(t, "still there", nextTexts(t, live).Messages[0].Text)
}

// When a third login came between, the displaced session ends after all.
func TestALoginGivenUpAfterAThirdOneEndsTheFirst(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	a, b := f.start("chat1"), f.start("chat2")
	first := f.login(a, 1)
	claimed, mine := f.claimFor(b, 1)
	require.NoError(t, f.presence.Sessions.Release(t.Context(), []presence.Location{mine}))
	third := f.login(b, 1)
	require.NoError(t, b.logins.Abandon(t.Context(), claimed, mine))
	require.True(t, closedBy(t, first))
	found, err := f.presence.Sessions.Locate(t.Context(), []int32{firstUID})
	require.NoError(t, err)
	require.Equal(t, third.SID(), found[0][0].SID)
}

// The ticket of the login that its client kept stays good, though the one given up used the same ticket after it.
func TestALoginGivenUpCostsNoTicket(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	a := f.start("chat1")
	first := f.login(a, 1)
	ticket := first.Ticket()
	require.NoError(t, first.Close())
	kept, err := client.Dial(t.Context(), ticket, client.Options{})
	require.NoError(t, err)
	late := presence.Location{UID: firstUID, Device: "native", SID: session.NewSID(time.Now()).String(), Node: "chat1", Boot: a.lease.Boot()}
	claimed, err := f.presence.Logins.Claim(t.Context(), presence.Claim{
		UID: late.UID, Device: late.Device, Token: ticket.Resume, Resume: true, NextResume: strings.Repeat("t", 43),
		SID: late.SID, Node: late.Node, Boot: late.Boot,
	})
	require.NoError(t, err)
	require.NoError(t, a.logins.Abandon(t.Context(), claimed, late))
	require.NoError(t, kept.Close())
	again, err := client.Dial(t.Context(), kept.Ticket(), client.Options{})
	require.NoError(t, err)
	require.NoError(t, again.Close())
}
