package chat

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/ops"
	"parley/internal/presence"
	"parley/internal/rpc"
	"parley/internal/wire"
	"parley/kitex_gen/message/nodeservice"
)

// operator returns a node as a status node reaches it.
func (f *fixture) operator(n *node) ops.Node {
	transport := rpc.NewClient(rpc.ClientConfig{Auth: rpc.NewAuth("")}, n.RPCAddr())
	f.t.Cleanup(transport.Close)
	c, err := nodeservice.NewClient("chatnode", transport.Options()...)
	require.NoError(f.t, err)
	return ops.Calling(c)
}

// stay logs user i in at a node and keeps it logged in, reading what comes.
func (f *fixture) stay(n *node, i int) *client.Session {
	s, err := client.Open(f.t.Context(), client.SessionOptions{Ticket: f.ticket(n, i)})
	require.NoError(f.t, err)
	f.t.Cleanup(func() { s.Close() })
	go func() {
		for range s.Events(f.t.Context()) {
		}
	}()
	return s
}

func TestADrainedNodesClientsGoOnElsewhereAndComeBackWithARebalance(t *testing.T) {
	const users = 40
	f := newFixture(t, users)
	a, b := f.start("chat1"), f.start("chat2")
	op := f.operator(a)
	var sessions []*client.Session
	for i := range users {
		sessions = append(sessions, f.stay(a, i+1))
	}
	eventually(t, "chat1 to know chat2", func() bool {
		return a.operator.Drain(t.Context(), ops.Pace{OverMS: -1}) != nil && a.others.next(wire.TCP) != ""
	})

	require.NoError(t, op.Drain(t.Context(), ops.Pace{OverMS: 500}))
	figures, err := op.Figures(t.Context())
	require.NoError(t, err)
	require.Contains(t, []string{ops.StateDraining, ops.StateDrained}, figures.State)
	posted := make([]*client.Posted, users)
	for i, s := range sessions { // texts sent while the clients move are stored, each once
		posted[i], err = s.Post(t.Context(), client.InThread(f.threads[min(i, users-2)]), client.NewDraft(fmt.Sprint("moving ", i)))
		require.NoError(t, err)
	}
	eventually(t, "all to be moved", func() bool {
		figures, err = op.Figures(t.Context())
		return err == nil && figures.State == ops.StateDrained
	})
	r := figures.Moving
	require.Equal(t, users, r.Told)
	require.Equal(t, users, r.Moved)
	require.Zero(t, r.Missing+r.Left+r.Ended)
	require.Positive(t, r.GapMaxMS)
	require.LessOrEqual(t, r.GapP50MS, r.GapP99MS)
	t.Logf("gap p50 %v ms, p99 %v ms, max %v ms", r.GapP50MS, r.GapP99MS, r.GapMaxMS)
	eventually(t, "all to live on chat2, which they do soon after their place in Redis", func() bool { return b.Sessions() == users })
	for _, p := range posted {
		_, err := p.Wait(t.Context())
		require.NoError(t, err)
	}
	n, _ := f.presence.Nodes.View().Node("chat1")
	eventually(t, "placement to leave chat1 out", func() bool {
		_, err := f.presence.Nodes.Read(t.Context())
		n, _ = f.presence.Nodes.View().Node("chat1")
		return err == nil && n.Draining
	})
	require.ErrorContains(t, op.Move(t.Context(), ops.Move{To: map[string]int{"chat2": 1}}), "already")

	require.NoError(t, op.Undrain(t.Context()))
	back := f.operator(b)
	eventually(t, "chat2 to know that chat1 takes logins", func() bool { return b.others.next(wire.TCP) != "" })
	require.NoError(t, back.Move(t.Context(), ops.Move{Pace: ops.Pace{OverMS: 100}, To: map[string]int{"chat1": users / 2}}))
	eventually(t, "half to be back", func() bool { return a.Sessions() == users/2 && b.Sessions() == users/2 })
	for _, s := range sessions {
		require.NoError(t, s.Err())
	}
}

func TestTheOnlyNodeIsNotDrained(t *testing.T) {
	f := newFixture(t, 1)
	a := f.start("chat1")
	op := f.operator(a)
	one := f.login(a, 1)
	require.ErrorContains(t, op.Drain(t.Context(), ops.Pace{}), "no other node takes logins")
	figures, err := op.Figures(t.Context())
	require.NoError(t, err)
	require.Equal(t, ops.StateOpen, figures.State)
	require.NoError(t, one.Err())
}

func TestAKickedDeviceDoesNotComeBackByItself(t *testing.T) {
	f := newFixture(t, 2)
	a := f.start("chat1")
	op := f.operator(a)
	one, two := f.stay(a, 1), f.stay(a, 2)
	a.awaitSessions(t, 2)
	device := "another"
	n, err := op.Kick(t.Context(), ops.Kick{UID: firstUID, Device: &device})
	require.NoError(t, err)
	require.Zero(t, n)
	n, err = op.Kick(t.Context(), ops.Kick{UID: firstUID})
	require.NoError(t, err)
	require.Equal(t, 1, n)
	select {
	case <-one.Done():
	case <-time.After(patience):
		t.Fatal("the session goes on")
	}
	require.Equal(t, client.CodeNotAllowed, client.CodeOf(one.Err()))
	require.NoError(t, two.Err())
	_, err = client.Dial(t.Context(), one.Ticket(), client.Options{})
	require.Equal(t, client.CodeTokenInvalid, client.CodeOf(err), "the resume ticket is gone")
	_, err = op.Kick(t.Context(), ops.Kick{})
	require.ErrorContains(t, err, "needs a user")
}

func (n *node) awaitSessions(t testing.TB, want int) {
	eventually(t, fmt.Sprint(want, " sessions"), func() bool { return n.Sessions() == want })
}

func TestPagesOfSessionsHoldEachSessionOnce(t *testing.T) {
	const users = 70
	f := newFixture(t, users)
	a := f.start("chat1")
	op := f.operator(a)
	for i := range users {
		f.login(a, i+1)
	}
	a.awaitSessions(t, users)
	for _, limit := range []int{1, 7, 500} {
		seen := map[int32]int{}
		for q := (ops.SessionQuery{Limit: limit}); ; {
			page, err := op.Sessions(t.Context(), q)
			require.NoError(t, err)
			require.LessOrEqual(t, len(page.Sessions), limit)
			for _, s := range page.Sessions {
				seen[s.UID]++
				require.Equal(t, "chat1", s.Node)
				require.True(t, s.Native)
			}
			if q.Cursor = page.Cursor; q.Cursor == "" {
				break
			}
		}
		require.Len(t, seen, users)
		for uid, n := range seen {
			require.Equal(t, 1, n, uid)
		}
	}
	page, err := op.Sessions(t.Context(), ops.SessionQuery{UID: firstUID + 3})
	require.NoError(t, err)
	require.Len(t, page.Sessions, 1)
	_, err = op.Sessions(t.Context(), ops.SessionQuery{Cursor: "nonsense"})
	require.ErrorContains(t, err, "cursor")

	figures, err := op.Figures(t.Context())
	require.NoError(t, err)
	require.Equal(t, users, figures.Sessions)
	require.EqualValues(t, users, figures.Totals["logins"])
	require.NotEmpty(t, figures.Latency["login"].Bounds)
	require.Equal(t, "50", ops.Figures{Limits: map[string]string{"AddressRate": "50"}}.Limits["AddressRate"])
	require.Contains(t, figures.Limits, "DrainTimeout")
}

func TestClientsThatLeaveAreSpreadOverTheOtherNodes(t *testing.T) {
	f := newFixture(t, 1)
	a, _, _ := f.start("chat1"), f.start("chat2"), f.start("chat3")
	eventually(t, "chat1 to know both", func() bool { return len(a.presence.Nodes.View().Nodes()) == 3 })
	v, got := a.presence.Nodes.View(), map[string]int{}
	others := otherNodes{self: "chat1", view: func() *presence.View { return v }}
	for range 100 {
		got[others.choose(wire.TCP)]++
	}
	require.Equal(t, map[string]int{"chat2": 50, "chat3": 50}, got)
	none := otherNodes{self: "x", view: func() *presence.View { return new(presence.View) }}
	require.Empty(t, none.choose(wire.TCP))
}
