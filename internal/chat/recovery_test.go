package chat

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/peer"
	"parley/internal/reconcile"
	"parley/internal/wire"
	"parley/kitex_gen/message"
	"parley/lab/faultproxy"
)

// reader is a user who stays logged in and looks for nothing by itself, so that what it has came by a push or after a
// gap notice.
type reader struct {
	mu    sync.Mutex // guards the following
	texts []string
}

func (f *fixture) reader(n *node, i int) *reader {
	f.t.Helper()
	s, err := client.Open(f.t.Context(), client.SessionOptions{Ticket: f.ticket(n, i), Cursors: []client.Cursor{}, SyncEvery: -1})
	require.NoError(f.t, err)
	r := new(reader)
	var wg sync.WaitGroup
	caught := make(chan struct{})
	wg.Go(func() {
		for ev := range s.Events(context.Background()) {
			switch ev := ev.(type) {
			case client.CaughtUp:
				close(caught) // more than once would be a login anew, which proves nothing
			case client.Texts:
				r.mu.Lock()
				for _, m := range ev.Messages {
					r.texts = append(r.texts, m.Text)
				}
				r.mu.Unlock()
			}
		}
	})
	f.t.Cleanup(func() { s.Close(); wg.Wait() })
	select {
	case <-caught:
	case <-time.After(patience):
		f.t.Fatal("the session did not catch up")
	}
	return r
}

func (r *reader) got() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.texts...)
}

// reads collects the texts that a stock client is sent from now on.
func (f *fixture) reads(s *stockClient) *reader {
	r := new(reader)
	go func() {
		for {
			fr, err := s.read()
			if err != nil {
				return // the end of the test, or a failure that shows in what is missing
			}
			var push wire.TextPush
			if fr.id != wire.MsgTextPush || wire.Decode(fr.body, &push) != nil {
				continue
			}
			r.mu.Lock()
			for _, t := range push.Chats {
				r.texts = append(r.texts, t.Content)
			}
			r.mu.Unlock()
		}
	}()
	return r
}

// trouble is a cluster of two nodes: user 2 is on chat1 and writes to its friends 1 and 3, who are on chat2 with a native
// and with a stock client.
type trouble struct {
	*fixture
	a, b          *node
	sender        *client.Conn
	native, stock *reader
	rpc           *faultproxy.Proxy // chat1's way to chat2
	redisOfB      *faultproxy.Proxy
	sent          []string
}

func newTrouble(t *testing.T) *trouble {
	f := newFixture(t, 3)
	f.reconcile = reconcile.Config{Pass: time.Minute, Hurry: 100 * time.Millisecond, Grace: 6 * time.Second, Extend: time.Hour}
	c := &trouble{fixture: f}
	listen := func(target string) *faultproxy.Proxy {
		p, err := faultproxy.Listen(target, faultproxy.Options{})
		require.NoError(t, err)
		t.Cleanup(func() { p.Close() })
		return p
	}
	c.rpc, c.redisOfB = listen("127.0.0.1:1"), listen(f.redis.Addr())
	c.a = f.start("chat1")
	direct := f.rdb
	f.rdb = redis.NewClient(&redis.Options{
		Addr: c.redisOfB.Addr(), Protocol: 2, DisableIdentity: true, ContextTimeoutEnabled: true,
	})
	proxied := f.rdb
	t.Cleanup(func() { proxied.Close() })
	c.b = f.start("chat2", func(cfg *Config) { cfg.SelfServer.AdvertiseRPC = c.rpc.Addr() })
	f.rdb = direct
	c.rpc.SetTarget(c.b.rpc.Addr())
	eventually(t, "the link", func() bool { return c.a.delivery.Peers.Knows("chat2") })
	c.sender = f.login(c.a, 2)
	c.native = f.reader(c.b, 1)
	s := f.stock(c.b, 3)
	s.expect(wire.MsgLoginRsp)
	s.load()
	c.stock = f.reads(s)
	return c
}

// write sends n texts to each friend.
func (c *trouble) write(n int) {
	c.t.Helper()
	for range n {
		text := fmt.Sprintf("text %03d", len(c.sent))
		for _, friend := range []int32{firstUID, firstUID + 2} {
			_, err := c.sender.SendText(c.t.Context(), client.User(friend), text)
			require.NoError(c.t, err)
		}
		c.sent = append(c.sent, text)
	}
}

// allArrive waits until both friends have every text, once.
func (c *trouble) allArrive() {
	c.t.Helper()
	for name, r := range map[string]*reader{"native": c.native, "stock": c.stock} {
		eventually(c.t, "every text at the "+name+" client", func() bool { return len(r.got()) >= len(c.sent) })
	}
	require.Equal(c.t, c.sent, c.native.got(), "in order")
	require.ElementsMatch(c.t, c.sent, c.stock.got(), "each once")
}

// C1
func TestEveryTextArrivesAfterRedisLostItsData(t *testing.T) {
	t.Parallel() // it waits most of the time
	c := newTrouble(t)
	for range 3 {
		c.redis.FlushAll()
		c.write(10)
		c.allArrive()
	}
}

// C1
func TestEveryTextArrivesAfterRedisWasAwayAndIsEmpty(t *testing.T) {
	t.Parallel() // it waits most of the time
	c := newTrouble(t)
	c.redis.SetError("LOADING")
	c.write(10)
	c.redis.FlushAll()
	c.redis.SetError("")
	c.write(10)
	c.allArrive()
}

// C1
func TestEveryTextArrivesAfterAPeerWasSilent(t *testing.T) {
	t.Parallel() // it waits most of the time
	c := newTrouble(t)
	c.write(3)
	c.rpc.SetBoth(faultproxy.Faults{Silent: true})
	c.write(10)
	eventually(t, "the peer to be left alone", func() bool { return len(c.a.delivery.Peers.Paused()) > 0 })
	c.write(10)
	eventually(t, "something to be owed", func() bool { return c.a.delivery.Router.Owed() > 0 })
	c.rpc.Heal()
	c.allArrive()
	eventually(t, "nothing to be owed", func() bool { return c.a.delivery.Router.Owed() == 0 })
}

// C1: its lease lapses, its sessions do not.
func TestANodeCutOffFromRedisIsReached(t *testing.T) {
	c := newTrouble(t)
	c.redisOfB.Refuse(true)
	c.redisOfB.Cut()
	c.redis.Del("node_chat2")
	eventually(t, "the lease to be missed", func() bool {
		n, ok := c.a.Server.presence.Nodes.View().Node("chat2")
		return !ok || !n.Live
	})
	c.write(10)
	c.allArrive()
	c.redisOfB.Refuse(false)
	c.write(5)
	c.allArrive()
}

// C1: the key of a user was evicted, say, and nothing tells that it was there.
func TestEveryTextArrivesAfterRedisLostASession(t *testing.T) {
	c := newTrouble(t)
	old := plain(c.fixture, c.b, 1)
	require.True(t, c.redis.Del(fmt.Sprint("usession_", firstUID)))
	require.True(t, c.redis.Del(fmt.Sprint("usession_", firstUID+2)))
	c.write(10)
	eventually(t, "all pushes to find nobody", func() bool { return counterOf(t, c.a, "parley_router_pushes_offline_total") == 20 })
	require.Zero(t, c.a.delivery.Router.Owed())
	require.Empty(t, c.native.got())
	c.b.reconciler.Hurry()
	c.allArrive()
	c.write(5)
	c.allArrive()
	var bye wire.Goodbye
	old.expect(wire.MsgGoodbye).into(t, &bye)
	require.Equal(t, wire.CodeTooFarBehind, bye.Error)
}

// C1: whom a node has lost track of, it tells all.
func TestAllSessionsAreToldWhenNobodyKnowsWhoMissedWhat(t *testing.T) {
	t.Parallel() // it waits most of the time
	c := newTrouble(t)
	old := plain(c.fixture, c.b, 2) // of the sender, on another device
	// Stored behind everybody's back.
	c.rpc.SetBoth(faultproxy.Faults{Silent: true})
	c.write(3)
	rsp, err := c.b.service.Deliver(t.Context(), &message.DeliverReq{
		Pushes: []*message.Push{{MsgId: int32(wire.MsgGap)}, {MsgId: int32(wire.MsgGap), ToUid: firstUID + 9, ThreadId: 5, Seq: 1}},
	})
	require.NoError(t, err)
	require.Equal(t, []int32{0, peer.CodeNotHere}, rsp.Codes)
	c.allArrive()
	var bye wire.Goodbye
	old.expect(wire.MsgGoodbye).into(t, &bye)
	require.Equal(t, wire.CodeTooFarBehind, bye.Error)
}

// plain logs user i in as a native client that understands nothing but the minimum.
func plain(f *fixture, n *node, i int) *stockClient {
	f.t.Helper()
	ticket := f.ticket(n, i)
	s := dialRaw(f.t, ticket.Addr)
	s.uid = ticket.UID
	s.send(wire.MsgLogin, map[string]any{"uid": ticket.UID, "token": ticket.Token, "client": "plain/1", "device": "plain"})
	s.expect(wire.MsgLoginRsp)
	return s
}

// C1: a native client that does not understand 2104 is sent the texts.
func TestANativeClientWithoutGapIsSentWhatItMissed(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	a, b := f.start("chat1"), f.start("chat2")
	one := f.login(a, 1)
	var first int64
	for i := range 120 {
		sent, err := one.SendText(t.Context(), client.User(firstUID+1), fmt.Sprint("before ", i))
		require.NoError(t, err)
		if i == 0 {
			first = sent.MessageID
		}
	}
	s := plain(f, b, 2)
	rsp, err := b.service.Deliver(t.Context(), &message.DeliverReq{Pushes: []*message.Push{
		{ToUid: firstUID + 1, MsgId: int32(wire.MsgGap), ThreadId: f.threads[0], Seq: first + 10},
	}})
	require.NoError(t, err)
	require.Equal(t, []int32{0}, rsp.Codes)
	var got []string
	for len(got) < 110 {
		var push wire.TextPush
		s.expect(wire.MsgTextPush).into(t, &push)
		for _, x := range push.Chats {
			got = append(got, x.Content)
		}
	}
	require.Equal(t, "before 10", got[0])
	require.Equal(t, "before 119", got[109])
	eventually(t, "all to be counted", func() bool { return counterValue(t, b.metrics.refilled) == 110 })
}

// C1: a node that has just started is in nobody's view of the nodes yet, and is told of the devices elsewhere all the same.
func TestADeviceIsFoundFromANodeThatHasJustStarted(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	a := f.start("chat1")
	b := f.start("chat2")
	login := func(n *node, device string) *client.Conn {
		c, err := client.Dial(t.Context(), f.ticket(n, 1), client.Options{Device: device})
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		n.awaitLive(t, c)
		return c
	}
	login(b, "first")
	second := login(a, "second")
	sent, err := f.login(b, 2).SendText(t.Context(), client.InThread(f.threads[0]), "to both")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		ev, err := second.Next(ctx)
		require.NoError(t, err)
		switch ev := ev.(type) {
		case client.Texts:
			require.Equal(t, sent.MessageID, ev.Messages[0].ID)
			return
		case client.Gap:
			return // it is to read
		}
	}
}

// C1: without the hint a node does not look for a user's other devices.
func TestALateHintOfAnotherDeviceBringsWhatItMissed(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	a, b := f.start("chat1"), f.start("chat2")
	elsewhere, err := client.Dial(t.Context(), f.ticket(a, 1), client.Options{Device: "first"})
	require.NoError(t, err)
	t.Cleanup(func() { elsewhere.Close() })
	f.login(b, 1)
	rsp, err := b.service.Deliver(t.Context(), &message.DeliverReq{Pushes: []*message.Push{{ToUid: firstUID, ThreadId: 1, Seq: 2}}})
	require.NoError(t, err)
	require.Equal(t, []int32{0}, rsp.Codes)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		ev, err := elsewhere.Next(ctx)
		require.NoError(t, err)
		if gap, ok := ev.(client.Gap); ok {
			require.Zero(t, gap.ThreadID)
			return
		}
	}
}
