package chat

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/wire"
)

// A heartbeat is answered from the first one on: one that arrives while the login is under way, or while its 1006 is on the
// way, is answered behind it.
func TestHeartbeatSentWithTheLoginIsAnswered(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	n := f.start("n1")
	for range 20 {
		ticket := f.ticket(n, 1)
		c := dialRaw(t, ticket.Addr)
		login, err := wire.AppendFrame(nil, wire.MsgLogin, fmt.Appendf(nil, `{"uid":%d,"token":%q,"client":"test/1"}`, ticket.UID, ticket.Token))
		require.NoError(t, err)
		_, err = c.conn.Write(append(login, wire.AppendHeader(nil, wire.MsgHeartbeat, 0)...))
		require.NoError(t, err)
		require.Equal(t, wire.MsgLoginRsp, c.next().id)
		require.Equal(t, wire.MsgHeartbeatRsp, c.next().id)
		c.sendRaw(wire.MsgHeartbeat, nil)
		require.Equal(t, wire.MsgHeartbeatRsp, c.next().id)
		c.conn.Close()
	}
}
