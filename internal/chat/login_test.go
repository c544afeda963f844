package chat

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/wire"
)

// closedBy waits for a connection's end and returns whether it was told that it was replaced.
func closedBy(t *testing.T, c *client.Conn) (replaced bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		ev, err := c.Next(ctx)
		if err != nil {
			require.NotErrorIs(t, err, context.DeadlineExceeded)
			return replaced
		}
		switch ev.(type) {
		case client.Replaced:
			replaced = true
		case client.Disconnected:
			return replaced
		}
	}
}

func TestANewerLoginReplacesTheOlder(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	a, b := f.start("chat1"), f.start("chat2")
	first := f.login(a, 1)
	second := f.login(a, 1) // the same node
	require.True(t, closedBy(t, first))
	third := f.login(b, 1) // another
	require.True(t, closedBy(t, second))
	eventually(t, "the old node to forget the user", func() bool { return a.Sessions() == 0 && b.Sessions() == 1 })

	peer := f.login(a, 2)
	_, err := peer.SendText(t.Context(), client.User(firstUID), "to the survivor")
	require.NoError(t, err)
	require.Equal(t, "to the survivor", nextTexts(t, third).Messages[0].Text)
}

func TestOfTwoRacingLoginsExactlyOneSurvives(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 40)
	a, b := f.start("chat1"), f.start("chat2")
	sem := make(chan struct{}, 8)
	var wg sync.WaitGroup
	for i := 1; i <= 40; i++ {
		tickets := [2]client.Ticket{f.ticket(a, i), f.ticket(b, i)}
		wg.Go(func() {
			sem <- struct{}{}
			defer func() { <-sem }()
			var conns [2]*client.Conn
			var errs [2]error
			var pair sync.WaitGroup
			for k := range 2 {
				pair.Go(func() { conns[k], errs[k] = client.Dial(t.Context(), tickets[k], client.Options{}) })
			}
			pair.Wait()
			alive := 0
			for k, c := range conns {
				if c == nil {
					t.Errorf("user %d: login %d: %v", i, k, errs[k])
					continue
				}
				defer c.Close()
			}
			if conns[0] == nil || conns[1] == nil {
				return
			}
			deadline := time.After(patience)
			select { // one of them ends
			case <-conns[0].Done():
			case <-conns[1].Done():
			case <-deadline:
				t.Errorf("user %d: both sessions live", i)
			}
			for _, c := range conns {
				select {
				case <-c.Done():
					if !closedBy(t, c) {
						t.Errorf("user %d: the loser was not told: %v", i, c.Err())
					}
				default:
					alive++
					found, err := f.presence.Sessions.Locate(t.Context(), []int32{firstUID + int32(i) - 1})
					if err != nil || len(found[0]) != 1 || found[0][0].SID != c.SID() {
						t.Errorf("user %d: presence names %v, the survivor is %s (%v)", i, found, c.SID(), err)
					}
				}
			}
			if alive != 1 {
				t.Errorf("user %d: %d sessions live", i, alive)
			}
		})
	}
	wg.Wait()
}

func TestATokenIsGoodOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	a := f.start("chat1")
	ticket := f.ticket(a, 1)
	c, err := client.Dial(t.Context(), ticket, client.Options{})
	require.NoError(t, err)
	defer c.Close()
	_, err = client.Dial(t.Context(), ticket, client.Options{})
	refused, ok := errors.AsType[*client.Error](err)
	require.True(t, ok, "got %v", err)
	require.EqualValues(t, wire.CodeTokenInvalid, refused.Code)
	select {
	case <-c.Done():
		t.Fatal("a used token ended the session")
	default:
	}
}

func TestAResumeTicketReplacesThePassword(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	a, b := f.start("chat1"), f.start("chat2")
	c := f.login(a, 1)
	ticket := c.Ticket()
	require.NotEmpty(t, ticket.Resume)
	require.NoError(t, c.Close())
	eventually(t, "the session to end", func() bool { return a.Sessions() == 0 })
	ticket.Addr, ticket.Token = b.ClientAddr(), ""
	again, err := client.Dial(t.Context(), ticket, client.Options{})
	require.NoError(t, err)
	defer again.Close()
	require.Equal(t, "chat2", again.Node())
	require.NotEqual(t, ticket.Resume, again.Ticket().Resume)
	// The previous ticket stays good until the new one is used: its 1006 may have been lost.
	third, err := client.Dial(t.Context(), ticket, client.Options{})
	require.NoError(t, err)
	defer third.Close()
	require.True(t, closedBy(t, again))
}

func TestCountsReturnToZeroOnEveryWayOfLeaving(t *testing.T) {
	t.Parallel() // it waits most of the time
	f := newFixture(t, 4)
	a := f.start("chat1", func(c *Config) { c.Limits.StockTimeout = 2 * time.Second })
	clean, reset, stale, kicked := f.login(a, 1), f.login(a, 2), f.stock(a, 3), f.login(a, 4)
	require.Equal(t, wire.MsgLoginRsp, stale.next().id)
	require.NoError(t, clean.Close())
	require.NoError(t, reset.Close())
	require.NoError(t, f.presence.Tokens.Revoke(t.Context(), firstUID))
	a.ender.Kick(firstUID+3, kicked.SID())
	require.True(t, closedBy(t, kicked))
	stale.expectClose()
	eventually(t, "the load to be reported as zero", func() bool {
		nodes, err := f.presence.Nodes.Read(t.Context())
		return err == nil && len(nodes) == 1 && nodes[0].Count == 0 && a.Sessions() == 0 && a.conns.Count() == 0
	})
	for uid := int32(firstUID); uid < firstUID+4; uid++ {
		eventually(t, "presence to forget", func() bool {
			found, err := f.presence.Sessions.Locate(t.Context(), []int32{uid})
			return err == nil && len(found[0]) == 0
		})
	}
}

func TestAFencedNodeStoresNothingAndComesBackAsANewLife(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	a := f.start("chat1")
	one := f.login(a, 1)
	boot := a.lease.Boot()
	require.NoError(t, f.store.Fence.Forbid(t.Context(), "chat1", boot))
	// The fence row is read each second; until then a text runs into it in SQL.
	_, err := one.SendText(t.Context(), client.InThread(f.threads[0]), "from beyond the fence")
	require.Error(t, err)
	closedBy(t, one)
	eventually(t, "the node to be back", func() bool { _, code := a.lease.Admits(); return code == wire.CodeOK })
	require.NotEqual(t, boot, a.lease.Boot())
	msgs, _, err := f.store.Messages.History(t.Context(), f.threads[0], 0, 10, 1<<20)
	require.NoError(t, err)
	require.Empty(t, msgs)
	again := f.login(a, 1)
	_, err = again.SendText(t.Context(), client.InThread(f.threads[0]), "from the new life")
	require.NoError(t, err)
}

func TestSessionsSurviveTheLossOfRedisData(t *testing.T) {
	t.Parallel() // it waits most of the time
	f := newFixture(t, 2)
	a := f.start("chat1")
	one := f.login(a, 1)
	f.redis.FlushAll()
	eventually(t, "the session to be written back", func() bool {
		found, err := f.presence.Sessions.Locate(t.Context(), []int32{firstUID})
		return err == nil && len(found[0]) == 1 && found[0][0].SID == one.SID()
	})
	// Logins wait until the data is old enough for every node to have written its sessions back.
	eventually(t, "logins to go on", func() bool { _, code := a.lease.Admits(); return code == wire.CodeOK })
	select {
	case <-one.Done():
		t.Fatal("the session ended with Redis' data")
	default:
	}
}

func TestADrainTellsEveryoneWhereToGo(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	a, b := f.start("chat1"), f.start("chat2")
	one := f.login(a, 1)
	eventually(t, "chat1 to know chat2", func() bool { return a.others.next(wire.TCP) != "" })
	a.stop()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		ev, err := one.Next(ctx)
		require.NoError(t, err)
		if bye, ok := ev.(client.Goodbye); ok {
			require.EqualValues(t, wire.CodeDraining, bye.Err.Code)
			require.Equal(t, b.ClientAddr(), bye.Err.To)
			break
		}
	}
	eventually(t, "the node to be gone", func() bool {
		nodes, err := f.presence.Nodes.Read(t.Context())
		return err == nil && len(nodes) == 1 && nodes[0].Name == "chat2"
	})
	_, err := f.presence.Nodes.Place(t.Context(), []int32{firstUID})
	require.NoError(t, err)
}
