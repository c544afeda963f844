package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/wire"
	"parley/lab/launch"
)

func TestKilledNodeGetsNoPlacementsAndItsUsersAreOffline(t *testing.T) {
	w := ownCluster(t, launch.Options{Chat: 3, Status: 2})
	uid := w.users(t, 2)
	on, off := w.login(t, uid, 0), w.login(t, uid+1, 2)
	require.Len(t, w.online(t, uid+1), 1)
	require.NoError(t, w.Chat[2].Kill())
	died := time.Now()

	eventually(t, slack*lease, "30 placements in a row without the dead node", func() (bool, string) {
		for i := range 30 {
			node, _, err := w.place(t.Context(), i%2, uid)
			require.NoError(t, err)
			if node == "chat3" {
				return false, fmt.Sprintf("placed on it %v after its death", time.Since(died))
			}
		}
		return true, ""
	})
	eventually(t, time.Until(died.Add(slack*lease)), "the dead node's user to be offline", func() (bool, string) {
		at := w.online(t, uid+1)
		return len(at) == 0, fmt.Sprint(at)
	})
	require.Len(t, w.online(t, uid), 1, "users of living nodes stay online")
	require.NoError(t, on.Err())
	require.Error(t, awaitEnd(t, off, patience))

	// The user logs in elsewhere, and the node returns under a new boot id.
	w.login(t, uid+1, 1)
	require.NoError(t, w.Chat[2].Start(t.Context()))
	eventually(t, patience, "placements on the restarted node", func() (bool, string) {
		node, _, err := w.place(t.Context(), 0, uid)
		require.NoError(t, err)
		return node == "chat3", node
	})
}

// However clients leave, their node's session count returns to zero and Redis forgets their sessions.
func TestLoginCountsReturnToZero(t *testing.T) {
	const users = 6
	stockTimeout := 2 * time.Second
	heartbeat := 5 * time.Second // the shortest period; sessions end after 2.5 of them
	w := ownCluster(t, launch.Options{Chat: 2, Configure: func(n *launch.Node, _ int, f *launch.INI) error {
		f.Set("Limits", "StockTimeout", stockTimeout.String())
		f.Set("Limits", "Linger", "500ms")
		return nil
	}})
	beating := map[string]any{"client": "e2e/1", "heartbeat_s": int(heartbeat / time.Second)}
	ways := []struct {
		name   string
		extra  map[string]any // of the 1005; nil: a stock client
		buffer int
		within time.Duration
		leave  func(t *testing.T, r *raw, uid int32)
	}{
		{"clean close", native, 0, patience, func(t *testing.T, r *raw, _ int32) { require.NoError(t, r.Close()) }},
		{"half close", native, 0, patience, func(t *testing.T, r *raw, _ int32) { require.NoError(t, r.CloseWrite()) }},
		// The kernel also sends this for a killed process with unread data.
		{"reset", native, 0, patience, func(t *testing.T, r *raw, _ int32) { r.reset() }},
		{"reset in the middle of a frame", native, 0, patience, func(t *testing.T, r *raw, _ int32) {
			r.write(frame(wire.MsgText, strings.Repeat(" ", 100))[:50])
			r.reset()
		}},
		{"reset of a stock client", nil, 0, patience, func(t *testing.T, r *raw, _ int32) { r.reset() }},
		{"kicked by a login elsewhere", native, 0, patience, func(t *testing.T, r *raw, uid int32) {
			c := w.login(t, uid, 1)
			frames, _ := r.drain(patience)
			require.Contains(t, frames, wire.MsgReplaced)
			require.Len(t, w.online(t, uid), 1)
			c.Close()
		}},
		{"refused frame", native, 0, patience, func(t *testing.T, r *raw, _ int32) { r.write([]byte{0xff, 0xff, 0xff, 0xff}) }},
		{"silence of a stock client", nil, 0, patience, func(t *testing.T, r *raw, _ int32) {}},
		{"silence of a native client", beating, 0, slack * heartbeat * 5 / 2, func(t *testing.T, r *raw, _ int32) {}},
		{"not reading", native, 4096, patience, func(t *testing.T, r *raw, uid int32) { w.flood(t, uid) }},
	}
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			first := w.users(t, users)
			raws := make([]*raw, users)
			for i := range raws {
				raws[i] = w.loginRaw(t, first+int32(i), 0, way.extra, way.buffer)
			}
			if way.extra != nil { // stock clients have started to time out
				w.awaitCount(t, 0, users, patience)
			}
			for i, r := range raws {
				way.leave(t, r, first+int32(i))
			}
			w.awaitCount(t, 0, 0, way.within)
			w.awaitCount(t, 1, 0, patience)
			for i := range int32(users) {
				eventually(t, patience, "Redis to forget the session", func() (bool, string) {
					n, err := w.rdb.Exists(t.Context(), fmt.Sprint("usession_", first+i), fmt.Sprint("uip_", first+i)).Result()
					require.NoError(t, err)
					return n == 0, fmt.Sprint(first+i, w.online(t, first+i))
				})
			}
			eventually(t, patience, "the node to have no connection", func() (bool, string) {
				n := metric(t, w.Chat[0], "parley_chat_connections")
				return n == 0, fmt.Sprint(n)
			})
		})
	}
}

// flood has a friend send more to a user who does not read than a node queues for one client.
func (w *world) flood(t *testing.T, uid int32) {
	friend := w.users(t, 1)
	w.friends(t, uid, friend)
	c := w.login(t, friend, 1)
	var drafts []client.Draft
	for range 40 {
		drafts = append(drafts, client.NewDraft(strings.Repeat("x", client.MaxText)))
	}
	eventually(t, patience, "a client that does not read to be ended", func() (bool, string) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		sent, err := c.SendTexts(ctx, client.User(uid), drafts...)
		require.NoError(t, err)
		pause := time.Duration(0) // a client that ignores refusals because of its rate is disconnected
		for i := range drafts {
			drafts[i].UniqueID = ""
			pause = max(pause, client.RetryAfter(sent[i].Err))
		}
		time.Sleep(pause)
		at := w.online(t, uid)
		return len(at) == 0, fmt.Sprint(at)
	})
	c.Close()
	<-c.Done()
}

// After SIGTERM, clients are told where to go, acknowledged texts are stored, the process exits with 0, and no trace
// of the node or its users' sessions remains.
func TestDrainTellsClientsAndLeavesNothingBehind(t *testing.T) {
	w := ownCluster(t, launch.Options{Chat: 2, Status: 1})
	const users = 40
	first := w.users(t, users)
	var conns []*client.Conn
	for i := range int32(users) {
		conns = append(conns, w.login(t, first+i, 0))
	}
	stock := w.users(t, 1)
	r := w.loginRaw(t, stock, 0, nil, 0)
	w.awaitCount(t, 0, users+1, patience)
	name := w.Chat[0].Name()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	code, err := w.Chat[0].Terminate(ctx)
	require.NoError(t, err)
	require.Zero(t, code)
	require.Less(t, time.Since(began), slack*10*time.Second)

	for key, gone := range map[string]bool{
		"lease": w.rdb.Exists(t.Context(), "node_"+name).Val() == 0,
		"count": !w.rdb.HExists(t.Context(), "logincount", name).Val(),
	} {
		require.True(t, gone, key)
	}
	for i, c := range conns {
		err := awaitEnd(t, c, patience)
		require.Equal(t, client.CodeDraining, client.CodeOf(err), "%v", err)
		goodbye := awaitEvent[client.Goodbye](t, c)
		require.Equal(t, w.Chat[1].Addr(), goodbye.Err.To)
		require.Zero(t, w.rdb.Exists(t.Context(), fmt.Sprint("usession_", first+int32(i))).Val())
	}
	frames, _ := r.drain(patience)
	require.Empty(t, frames, "a stock client knows no goodbye: the connection just ends")
	node, _, err := w.place(t.Context(), 0, first)
	require.NoError(t, err)
	require.Equal(t, "chat2", node)

	// With a ticket of the old node, the user logs in directly on the node that was named.
	ticket := conns[0].Ticket()
	ticket.Addr = w.Chat[1].Addr()
	c, err := client.Dial(t.Context(), ticket, client.Options{})
	require.NoError(t, err)
	c.Close()
}

// Texts in flight when the node starts to drain are answered, or repeated by the client: each is stored exactly once.
func TestDrainUnderLoadLosesNothing(t *testing.T) {
	w := ownCluster(t, launch.Options{Race: true, Chat: 2})
	ann, bob, thread := w.pair(t)
	s, err := client.Open(t.Context(), client.SessionOptions{
		Ticket: w.ticket(t, ann, 0), Nodes: []string{w.Chat[1].Addr()}, BackoffBase: 20 * time.Millisecond, BackoffLimit: time.Second,
	})
	require.NoError(t, err)
	defer s.Close()
	const texts = 600
	var all []*client.Posted
	for i := range texts {
		p, err := s.Post(t.Context(), client.User(bob), client.NewDraft(fmt.Sprint(i)))
		require.NoError(t, err)
		all = append(all, p)
		if i == texts/3 {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			code, err := w.Chat[0].Terminate(ctx)
			cancel()
			require.NoError(t, err)
			require.Zero(t, code)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for i, p := range all {
		sent, err := p.Wait(ctx)
		require.NoError(t, err)
		require.EqualValues(t, i+1, sent.MessageID)
	}
	require.Len(t, w.stored(t, thread), texts)
	require.Equal(t, "chat2", s.Node())
}

// A slow native client is told why it is disconnected if it reads again in time; no other user is affected.
func TestSlowConsumerHurtsNobodyElse(t *testing.T) {
	w := ownCluster(t, launch.Options{Chat: 2})
	ann, bob, _ := w.pair(t)
	a, b := w.login(t, ann, 0), w.login(t, bob, 0)
	slow := w.users(t, 1)
	r := w.loginRaw(t, slow, 0, native, 4096)
	w.flood(t, slow)
	exchange(t, a, b)
	frames, last := r.drain(patience)
	require.NotEmpty(t, frames)
	if id := frames[len(frames)-1]; id == wire.MsgGoodbye {
		require.EqualValues(t, client.CodeSlowConsumer, last.Error)
	}
	require.Equal(t, 1.0, metric(t, w.Chat[0], "parley_chat_slow_consumers_total"))
	// Texts that it did not receive are in the store.
	c := w.login(t, slow, 1)
	threads, err := c.Threads(t.Context())
	require.NoError(t, err)
	require.Len(t, threads, 1)
	n := int64(0)
	for m, err := range c.Messages(t.Context(), threads[0].ID, 0) {
		require.NoError(t, err)
		n++
		require.Equal(t, n, m.ID)
	}
	require.Equal(t, threads[0].LastID, n)
}

// body returns the JSON of a request.
func body(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}
