package presence

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLease(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		ctx, p := t.Context(), b.open(t, Options{})
		mine := Lease{Name: "n1", Boot: "b1", ClientAddr: "127.0.0.1:8090", RPCAddr: "127.0.0.1:50055", Web: Web{WS: "ws://127.0.0.1:8110/"}, Version: "v", StartedMS: 42}
		other := mine
		other.Boot, other.RPCAddr = "b2", "127.0.0.1:50099"

		require.NoError(t, p.Leases.Take(ctx, mine, ""))
		require.NoError(t, p.Leases.Take(ctx, mine, ""), "a resent take is not refused by itself")
		var held *HeldError
		require.ErrorAs(t, p.Leases.Take(ctx, other, ""), &held)
		require.Equal(t, mine, held.Holder)
		require.NotErrorIs(t, p.Leases.Take(ctx, other, ""), ErrLeaseLost)

		ttl := p.rdb.PTTL(ctx, p.keys.lease("n1")).Val()
		require.LessOrEqual(t, ttl, p.opt.Lease)
		require.Greater(t, ttl, p.opt.Lease/2)
		require.NoError(t, p.rdb.PExpire(ctx, p.keys.lease("n1"), p.opt.Lease/4).Err())
		mine.Draining = true
		gen, err := p.Leases.Extend(ctx, mine)
		require.NoError(t, err)
		require.NotEmpty(t, gen)
		require.Greater(t, p.rdb.PTTL(ctx, p.keys.lease("n1")).Val(), p.opt.Lease/2)
		require.ErrorAs(t, p.Leases.Take(ctx, other, ""), &held)
		require.True(t, held.Holder.Draining, "extending writes the fields")

		// Replacing names the boot to be replaced.
		require.ErrorAs(t, p.Leases.Take(ctx, other, "b0"), &held)
		require.NoError(t, p.Leases.Take(ctx, other, "b1"))
		_, err = p.Leases.Extend(ctx, mine)
		require.ErrorIs(t, err, ErrLeaseLost)
		require.ErrorAs(t, err, &held)
		require.Equal(t, other, held.Holder)
		require.ErrorAs(t, p.Leases.Take(ctx, mine, "b1"), &held, "who was replaced does not come back")

		// Drop compares the boot id too.
		require.NoError(t, p.Leases.ReportLoad(ctx, "n1", 3, nil))
		require.NoError(t, p.Leases.Drop(ctx, mine))
		require.Equal(t, "3", p.rdb.HGet(ctx, keyLoginCount, "n1").Val())
		_, err = p.Leases.Extend(ctx, other)
		require.NoError(t, err)
		require.NoError(t, p.Leases.Drop(ctx, other))
		require.False(t, p.rdb.HExists(ctx, keyLoginCount, "n1").Val())
		_, err = p.Leases.Extend(ctx, other)
		require.ErrorIs(t, err, ErrLeaseLost)
		require.NotErrorAs(t, err, &held)
		require.NoError(t, p.Leases.Take(ctx, mine, ""))

		for _, bad := range []Lease{{Name: "n1"}, {Boot: "b"}, {Name: "a b", Boot: "b"}, {Name: "a|b", Boot: "b"}, {Name: "#", Boot: "b"}} {
			require.ErrorContains(t, p.Leases.Take(ctx, bad, ""), "malformed")
		}
		require.Error(t, p.Leases.ReportLoad(ctx, "#", 1, nil))
	})
}

func TestLeaseLapses(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		ctx, p := t.Context(), b.open(t, Options{})
		l := startNode(t, p, "n1")
		nodes, err := p.Nodes.Read(ctx)
		require.NoError(t, err)
		require.Equal(t, []Node{{Lease: l, Live: true}}, nodes)
		require.NoError(t, p.rdb.PExpire(ctx, p.keys.lease("n1"), time.Millisecond).Err())
		eventually(t, "the lease lapses", func() bool {
			nodes, err := p.Nodes.Read(ctx)
			return err == nil && !nodes[0].Live
		})
		nodes, err = p.Nodes.Read(ctx)
		require.NoError(t, err)
		require.Equal(t, []Node{{Lease: Lease{Name: "n1"}}}, nodes)
		_, err = p.Leases.Extend(ctx, l)
		require.ErrorIs(t, err, ErrLeaseLost, "and extending does not revive it")
		l.Boot = "b2"
		require.NoError(t, p.Leases.Take(ctx, l, ""))
	})
}

func TestNodesWithoutLeaseAreForgotten(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		ctx, p := t.Context(), b.open(t, Options{})
		live := startNode(t, p, "n1")
		require.NoError(t, p.Leases.ReportLoad(ctx, "gone", 12, nil))
		require.NoError(t, p.rdb.HSet(ctx, keyLoginCount, "chatserver of the seed", "not a number").Err())
		nodes, err := p.Nodes.Read(ctx)
		require.NoError(t, err)
		require.Equal(t, []Node{
			{Lease: Lease{Name: "chatserver of the seed"}},
			{Lease: Lease{Name: "gone"}, Count: 12},
			{Lease: live, Live: true},
		}, nodes)
		p.Nodes.missing["gone"] = time.Now().Add(-forgetAfter)
		nodes, err = p.Nodes.Read(ctx)
		require.NoError(t, err)
		require.Len(t, nodes, 2)
		require.False(t, p.rdb.HExists(ctx, keyLoginCount, "gone").Val())
		nodes, err = p.Nodes.Read(ctx)
		require.NoError(t, err)
		require.Len(t, nodes, 2)
		require.NotContains(t, p.Nodes.missing, "gone")
	})
}

func TestGeneration(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		ctx, p, q := t.Context(), b.open(t, Options{}), b.open(t, Options{})
		id, age, err := p.Leases.Generation(ctx)
		require.NoError(t, err)
		require.Less(t, age, int64(60_000))
		again, _, err := q.Leases.Generation(ctx)
		require.NoError(t, err)
		require.Equal(t, id, again)
		require.NoError(t, SeedGeneration(ctx, p.rdb), "does nothing where there is one")
		again, _, err = p.Leases.Generation(ctx)
		require.NoError(t, err)
		require.Equal(t, id, again)

		flushAll(t, p.rdb)
		require.NoError(t, SeedGeneration(ctx, p.rdb))
		again, age, err = p.Leases.Generation(ctx)
		require.NoError(t, err)
		require.NotEqual(t, id, again)
		require.Greater(t, age, int64(600_000), "looks old")
	})
}

func TestWatch(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		ctx, p := t.Context(), b.open(t, Options{})
		empty := p.Nodes.View()
		require.Empty(t, empty.Nodes())
		require.Greater(t, empty.Age(), time.Hour)
		require.False(t, empty.Alive("n1", "boot-n1"))

		watching, stop := context.WithCancel(ctx)
		changes, ended := make(chan *View, 100), make(chan struct{})
		go func() {
			defer close(ended)
			p.Nodes.Watch(watching, 10*time.Millisecond, func(v *View) { changes <- v })
		}()
		require.Empty(t, (<-changes).Nodes(), "told of the first reading")
		l := startNode(t, p, "n1")
		v := <-changes
		n, ok := v.Node("n1")
		require.True(t, ok)
		require.Equal(t, l, n.Lease)
		require.True(t, v.Alive("n1", l.Boot))
		require.False(t, v.Alive("n1", "another"))
		require.False(t, v.Alive("n2", l.Boot))
		_, ok = v.Node("n2")
		require.False(t, ok)

		require.NoError(t, p.Leases.ReportLoad(ctx, "n1", 5, nil))
		eventually(t, "the view follows the count", func() bool { n, _ := p.Nodes.View().Node("n1"); return n.Count == 5 })
		require.Empty(t, changes, "but a count is not a change")
		l.Draining = true
		_, err := p.Leases.Extend(ctx, l)
		require.NoError(t, err)
		n, _ = (<-changes).Node("n1")
		require.True(t, n.Draining)
		require.NoError(t, p.Leases.Drop(ctx, l))
		require.False(t, (<-changes).Alive("n1", l.Boot))
		require.True(t, v.Alive("n1", l.Boot), "a snapshot stays what it was")
		require.Less(t, p.Nodes.View().Age(), time.Minute)
		stop()
		<-ended
		ended = make(chan struct{})

		go func() {
			p.Nodes.Watch(ctx, time.Hour, nil)
			ended <- struct{}{}
		}()
		p.Close()
		<-ended // Close ends a Watch
	})
}
