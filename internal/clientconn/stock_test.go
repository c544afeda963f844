package clientconn

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/legacy"
	"parley/internal/session"
	"parley/internal/wire"
)

// The turn of a 1025 comes after the rest of the login, which a busy node may take longer for than the client has to ask. Taken for one
// of the first generation, the client would be pushed texts of threads that it has not been told of, and crash.
func TestAStockClientHasAskedForItsThreadsWhenItsQuestionArrives(t *testing.T) {
	const thread = 7
	began, end := make(chan struct{}, 1), make(chan struct{})
	conns, registry, addr := startConns(t, map[wire.MsgID]func(context.Context, *session.Session, []byte) error{
		wire.MsgSearch:  func(context.Context, *session.Session, []byte) error { began <- struct{}{}; <-end; return nil },
		wire.MsgThreads: func(context.Context, *session.Session, []byte) error { return nil },
	})
	client, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer client.Close()
	require.Eventually(t, func() bool { return conns.Count() == 1 }, time.Minute, time.Millisecond)
	c := conns.Open()[0]
	p := legacy.New(&c.Session, legacy.NewWheel(legacy.Spacing{Frame: legacy.Gap}), nil, nil, &legacy.Counters{})
	require.True(t, c.Identify(session.Identity{UID: 1001, SID: 1, Stock: p, Silent: time.Hour}))
	registry.Add(&c.Session)
	require.NoError(t, c.Reply(wire.AppendCode(nil, wire.MsgLoginRsp, wire.CodeOK, 0)))
	require.Equal(t, session.Activated, registry.Activate(&c.Session))
	send := func(id wire.MsgID) {
		frame, err := wire.AppendFrame(nil, id, []byte("{}"))
		require.NoError(t, err)
		_, err = client.Write(frame)
		require.NoError(t, err)
	}
	defer close(end)
	send(wire.MsgSearch) // in place of the login
	<-began
	send(wire.MsgThreads)
	queued := func() bool { c.queue.mu.Lock(); defer c.queue.mu.Unlock(); return len(c.queue.requests) == 1 }
	require.Eventually(t, queued, time.Minute, time.Millisecond)
	p.Tick(time.Now().Add(2 * legacy.FirstLoad))
	require.False(t, p.Settled(thread), "it is going to load its threads")
}
