package presence

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

func kickOf(uid int32, node string) Location {
	return Location{UID: uid, Device: "phone", SID: fmt.Sprintf("s%d", uid), Node: node, Boot: "b"}
}

// A2
func TestAKickWaitsInTheMailboxUntilItWasCarriedOut(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		ctx, p := t.Context(), b.open(t, Options{})
		report := func(node string, handled Kicks) Kicks {
			kicks, err := p.Leases.Report(ctx, node, 3, nil, handled)
			require.NoError(t, err)
			return kicks
		}
		require.Zero(t, report("n1", Kicks{}))
		var wg sync.WaitGroup
		for uid := range int32(20) {
			wg.Go(func() {
				if err := p.Mailboxes.LeaveKick(ctx, kickOf(uid, "n1")); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.Greater(t, p.rdb.TTL(ctx, p.keys.kicks("n1")).Val(), SessionTTL/2)
		require.Zero(t, report("n2", Kicks{}), "each node has its own")
		require.NoError(t, p.Leases.ReportLoad(ctx, "n1", 3, nil))
		first := report("n1", Kicks{})
		require.Len(t, first.Sessions, 20)
		require.Contains(t, first.Sessions, Kick{UID: 7, SID: "s7"})
		require.Equal(t, first, report("n1", Kicks{}), "a reply that was lost comes again")

		require.NoError(t, p.Mailboxes.LeaveKick(ctx, kickOf(99, "n1")))
		second := report("n1", first)
		require.Equal(t, []Kick{{UID: 99, SID: "s99"}}, second.Sessions)
		require.Equal(t, second.Sessions, report("n1", first).Sessions, "handled already: nothing is taken for it")
		require.Zero(t, report("n1", second))
		require.Zero(t, report("n1", second))
		require.Equal(t, "3", p.rdb.HGet(ctx, keyLoginCount, "n1").Val())

		// Redis lost the mailbox between two reports: kicks in the new one must stay.
		require.NoError(t, p.Mailboxes.LeaveKick(ctx, kickOf(1, "n1")))
		lost := report("n1", Kicks{})
		require.NoError(t, p.rdb.Del(ctx, p.keys.kicks("n1")).Err())
		require.NoError(t, p.Mailboxes.LeaveKick(ctx, kickOf(2, "n1")))
		require.Equal(t, []Kick{{UID: 2, SID: "s2"}}, report("n1", lost).Sessions)

		require.ErrorContains(t, p.Mailboxes.LeaveKick(ctx, Location{UID: 1, SID: "a|b", Node: "n1", Boot: "b"}), "malformed")
		require.NoError(t, p.rdb.RPush(ctx, p.keys.kicks("n3"), "nonsense", "|", "1|x").Err())
		require.Equal(t, []Kick{{UID: 1, SID: "x"}}, report("n3", Kicks{}).Sessions)
	})
}

func TestAFullMailboxAsksForAllToBeCompared(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		ctx, reg := t.Context(), prometheus.NewRegistry()
		p := b.open(t, Options{Metrics: reg})
		pipe := p.rdb.Pipeline()
		for uid := range int32(maxKicks - 1) {
			pipe.RPush(ctx, p.keys.kicks("n1"), fmt.Sprintf("%d|s%d", uid, uid))
		}
		_, err := pipe.Exec(ctx)
		require.NoError(t, err)
		for i := range int32(5) {
			require.NoError(t, p.Mailboxes.LeaveKick(ctx, kickOf(maxKicks-1+i, "n1")))
		}
		require.EqualValues(t, maxKicks+1, p.rdb.LLen(ctx, p.keys.kicks("n1")).Val())
		require.Equal(t, 4.0, counted(t, reg, "parley_presence_kicks_full_total"))
		kicks, err := p.Leases.Report(ctx, "n1", 1, nil, Kicks{})
		require.NoError(t, err)
		require.True(t, kicks.Full)
		require.Len(t, kicks.Sessions, maxKicks)
		kicks, err = p.Leases.Report(ctx, "n1", 1, nil, kicks)
		require.NoError(t, err)
		require.Zero(t, kicks)
	})
}

// A2, A3: the procedure by which chat nodes and the gate end a session on another node.
func TestEndSession(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		ctx, p := t.Context(), b.open(t, Options{})
		n1 := startNode(t, p, "n1")
		at := Location{UID: 7, SID: "s7", Node: "n1", Boot: n1.Boot}
		var asked []string
		answer := errors.New("refused")
		ask := func(_ context.Context, n Node) error {
			asked = append(asked, n.RPCAddr)
			return answer
		}
		end := func(at Location) Ending {
			ending, err := p.Sessions.End(ctx, at, ask)
			require.NoError(t, err)
			return ending
		}
		mailbox := func() []Kick {
			kicks, err := p.Leases.Report(ctx, "n1", 1, nil, Kicks{})
			require.NoError(t, err)
			return kicks.Sessions
		}
		require.Equal(t, EndingLeft, end(at), "the node is found though nobody has read the leases yet")
		require.Equal(t, []string{n1.RPCAddr}, asked)
		require.Equal(t, []Kick{{UID: 7, SID: "s7"}}, mailbox())
		answer = nil
		require.Equal(t, EndingTold, end(at))
		require.Len(t, mailbox(), 1)

		other := at
		other.Boot = "earlier"
		require.Equal(t, EndingNoNode, end(other))
		other.Node = "n9"
		require.Equal(t, EndingNoNode, end(other))
		require.Len(t, asked, 2)

		// The lease lapses during the call, so no node would read the mailbox.
		ending, err := p.Sessions.End(ctx, at, func(context.Context, Node) error {
			require.NoError(t, p.rdb.Del(ctx, p.keys.lease("n1")).Err())
			return errors.New("no answer")
		})
		require.NoError(t, err)
		require.Equal(t, EndingNoNode, ending)
		require.Len(t, mailbox(), 1)

		require.NoError(t, p.Leases.Take(ctx, n1, ""))
		_, err = p.Nodes.Read(ctx)
		require.NoError(t, err)
		_, err = p.Sessions.End(ctx, at, func(context.Context, Node) error {
			p.Close()
			return errors.New("no answer")
		})
		require.ErrorIs(t, err, ErrClosed, "neither told nor left")
	})
}
