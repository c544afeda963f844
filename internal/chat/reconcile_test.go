package chat

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/presence"
	"parley/internal/reconcile"
	"parley/lab/faultproxy"
)

// overlap is what docs/GUARANTEES.md says of two sessions when RPC does not get through, with slack for busy machines.
const overlap = 3 * 5 * time.Second

// startBehind runs a node whose peers reach it through a proxy.
func (f *fixture) startBehind(name string, change ...func(*Config)) (*node, *faultproxy.Proxy) {
	f.t.Helper()
	proxy, err := faultproxy.Listen("127.0.0.1:1", faultproxy.Options{})
	require.NoError(f.t, err)
	f.t.Cleanup(func() { require.NoError(f.t, proxy.Close()) })
	n := f.start(name, append(change, func(c *Config) { c.SelfServer.AdvertiseRPC = proxy.Addr() })...)
	proxy.SetTarget(n.rpc.Addr())
	return n, proxy
}

func secret(s string) func(*Config) { return func(c *Config) { c.Cluster.Secret = s } }

// endsWithin waits for the end of a session that was replaced.
func endsWithin(t *testing.T, c *client.Conn, limit time.Duration) {
	t.Helper()
	select {
	case <-c.Done():
	case <-time.After(limit):
		t.Fatalf("the older session still lives after %v", limit)
	}
	require.True(t, closedBy(t, c), "told that it was replaced")
}

// A2
func TestTheOlderSessionEndsThoughItsNodeCannotBeReached(t *testing.T) {
	t.Parallel() // it waits most of the time
	for name, tt := range map[string]struct {
		cut     func(*faultproxy.Proxy)
		secrets [2]string
	}{
		"connections refused":            {cut: func(p *faultproxy.Proxy) { p.Refuse(true); p.Cut() }},
		"nothing comes through":          {cut: func(p *faultproxy.Proxy) { p.SetBoth(faultproxy.Faults{Silent: true}) }},
		"the nodes' secrets are not one": {cut: func(*faultproxy.Proxy) {}, secrets: [2]string{"the secret of chat1", "the secret of chat2"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, 2)
			a, proxy := f.startBehind("chat1", secret(tt.secrets[0]))
			b := f.start("chat2", secret(tt.secrets[1]))
			old := f.login(a, 1)
			tt.cut(proxy)
			f.login(b, 1)
			endsWithin(t, old, overlap)
			require.Positive(t, counterOf(t, a, "parley_reconcile_sessions_ended_total"))
			eventually(t, "chat1 to forget the user", func() bool { return a.Sessions() == 0 && b.Sessions() == 1 })
		})
	}
}

// A2: a rush of logins while RPC is cut costs neither a goroutine for each nor the lives of the older sessions.
func TestARushOfLoginsWhileRPCIsCutLeavesNoOlderSession(t *testing.T) {
	const users = 60
	f := newFixture(t, users)
	a, proxy := f.startBehind("chat1")
	b := f.start("chat2")
	var old [users]*client.Conn
	for i := range old {
		old[i] = f.login(a, i+1)
	}
	proxy.SetBoth(faultproxy.Faults{Silent: true})
	var wg sync.WaitGroup
	tickets := make([]client.Ticket, users)
	for i := range tickets {
		tickets[i] = f.ticket(b, i+1)
	}
	for i := range tickets {
		wg.Go(func() {
			c, err := client.Dial(t.Context(), tickets[i], client.Options{})
			if err != nil {
				t.Errorf("user %d: %v", i+1, err)
				return
			}
			t.Cleanup(func() { c.Close() })
		})
	}
	wg.Wait()
	for i := range old {
		endsWithin(t, old[i], overlap)
	}
	eventually(t, "all to be on chat2", func() bool { return a.Sessions() == 0 && b.Sessions() == users })
}

// A4
func TestASessionThatRedisLostIsWrittenBackAndFound(t *testing.T) {
	t.Parallel() // it waits most of the time
	f := newFixture(t, 2)
	f.reconcile = reconcile.Config{Pass: time.Second, Hurry: time.Second, Grace: time.Second, Extend: time.Hour}
	a, b := f.start("chat1"), f.start("chat2")
	old, peer := f.login(a, 1), f.login(b, 2)
	lose := func() {
		require.True(t, f.redis.Del(fmt.Sprint("usession_", firstUID)))
		eventually(t, "the session to be written back", func() bool {
			found, err := f.presence.Sessions.Locate(t.Context(), []int32{firstUID})
			return err == nil && len(found[0]) == 1 && found[0][0].SID == old.SID()
		})
	}
	lose()
	_, err := peer.SendText(t.Context(), client.User(firstUID), "found again")
	require.NoError(t, err)
	require.Equal(t, "found again", nextTexts(t, old).Messages[0].Text)

	// A login elsewhere replaces what was written back; one that comes in between is seen by the older session's node.
	lose()
	f.login(b, 1)
	endsWithin(t, old, overlap)
	old = f.login(a, 1)
	require.True(t, f.redis.Del(fmt.Sprint("usession_", firstUID)))
	claimed, _ := f.claimFor(b, 1)
	if claimed.Old == nil { // else the session was written back first, and the login would have ended it
		endsWithin(t, old, overlap)
	}
}

// A3: nobody could tell the node, not even through its mailbox.
func TestASessionOlderThanAPasswordResetEnds(t *testing.T) {
	t.Parallel() // it waits most of the time
	f := newFixture(t, 2)
	f.reconcile = reconcile.Config{Pass: time.Second, Hurry: time.Second, Grace: time.Second, Extend: time.Hour}
	a := f.start("chat1")
	old, other := f.login(a, 1), f.login(a, 2)
	require.NoError(t, f.presence.Tokens.Revoke(t.Context(), firstUID))
	endsWithin(t, old, overlap)
	again := f.login(a, 1)
	compared := counterOf(t, a, "parley_reconcile_sessions_compared_total")
	eventually(t, "some passes", func() bool {
		return counterOf(t, a, "parley_reconcile_sessions_compared_total") >= compared+6
	})
	for _, c := range []*client.Conn{again, other} {
		require.NoError(t, c.Err())
	}
}

// A2
func TestANodeWhoseSignatureIsRefusedIsNotReady(t *testing.T) {
	t.Parallel() // it waits most of the time
	f := newFixture(t, 1)
	a := f.start("chat1", secret("the secret of chat1"))
	ready := func() error {
		for _, c := range a.Checks() {
			if err := c.Probe(t.Context()); err != nil {
				return fmt.Errorf("%s: %w", c.Name, err)
			}
		}
		return nil
	}
	eventually(t, "a node alone to be ready", func() bool { return ready() == nil })
	b := f.start("chat2", secret("the secret of chat2"))
	eventually(t, "the node to notice", func() bool { return ready() != nil })
	f.end(b)
	f.start("chat3", secret("the secret of chat1"))
	eventually(t, "the node to be ready again", func() bool { return ready() == nil })
}

// E9: the links are those of the latest view, in whatever order those come who have read one.
func TestLinksFollowTheLatestView(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	a := f.start("chat1")
	for round := range 50 {
		var readers sync.WaitGroup
		addr := fmt.Sprintf("127.0.0.1:%d", round+1) // nobody listens there
		for i := range 8 {
			readers.Go(func() {
				if i == 0 {
					l := presence.Lease{Name: "chat2", Boot: "b2", ClientAddr: "127.0.0.1:1", RPCAddr: addr}
					_ = f.presence.Leases.Take(t.Context(), l, "")
					_ = f.presence.Leases.ReportLoad(t.Context(), l.Name, 0, nil)
				}
				_, _ = a.presence.Nodes.Read(t.Context())
				a.delivery.LinkNodes()
			})
		}
		readers.Wait()
		_, err := a.delivery.Peers.Kick(t.Context(), "chat2", firstUID, "", false)
		require.ErrorContains(t, err, addr+":", "round %d", round)
	}
}
