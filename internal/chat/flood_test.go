package chat

import (
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/wire"
)

// nativeRaw logs user i in as a native client of which nothing else is read.
func (f *fixture) nativeRaw(n *node, i int) *stockClient {
	f.t.Helper()
	ticket := f.ticket(n, i)
	s := dialRaw(f.t, ticket.Addr)
	s.send(wire.MsgLogin, map[string]any{"uid": ticket.UID, "token": ticket.Token, "client": "flood/1", "device": "flood"})
	s.expect(wire.MsgLoginRsp)
	return s
}

// writeUntilClosed writes b again and again, and fails when that does not end by itself.
func writeUntilClosed(t *testing.T, c net.Conn, b []byte) {
	t.Helper()
	require.NoError(t, c.SetWriteDeadline(time.Now().Add(patience)))
	for {
		if _, err := c.Write(b); err != nil {
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "still open")
			return
		}
	}
}

func TestAFloodOfHeartbeatsEndsTheConnection(t *testing.T) {
	f := newFixture(t, 2)
	a := f.start("chat1", func(c *Config) { c.Limits.HeartbeatRate = 100 })
	s := f.nativeRaw(a, 1)
	var beats []byte
	for range 400 { // four seconds' worth may come at once
		beats = wire.AppendHeader(beats, wire.MsgHeartbeat, 0)
	}
	_, err := s.conn.Write(beats)
	require.NoError(t, err)
	for range 400 {
		require.Equal(t, wire.MsgHeartbeatRsp, s.next().id)
	}
	for range 10 { // a slow machine may take seconds for them
		beats = append(beats, beats[:400*wire.HeaderLen]...)
	}
	_, err = s.conn.Write(beats)
	require.NoError(t, err)
	for got := s.next(); got.id != wire.MsgGoodbye; got = s.next() {
		require.Equal(t, wire.MsgHeartbeatRsp, got.id)
	}
	s.expectClose()

	stock := f.stock(a, 2)
	stock.expect(wire.MsgLoginRsp)
	writeUntilClosed(t, stock.conn, beats)
}

func TestRefusalsForTheRateEndAtSomePoint(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	a := f.start("chat1", func(c *Config) { c.Limits.TextRate, c.Limits.TextBurst, c.Limits.HeartbeatRate = 1, 1, 10 })
	s := f.nativeRaw(a, 1)
	text := map[string]any{"touid": 1, "thread_id": 1, "text_array": []map[string]string{{"unique_id": "u", "content": "c"}}}
	for range 50 {
		s.send(wire.MsgText, text)
	}
	refused := 0
	for got := s.next(); got.id != wire.MsgGoodbye; got = s.next() {
		require.Equal(t, wire.MsgTextRsp, got.id)
		refused++
	}
	require.GreaterOrEqual(t, refused, 4, "forty heartbeats' worth")
	require.Less(t, refused, 50)
}

// TestAClientThatWritesOnAfterItsGoodbyeIsCut takes a node that would swallow for a minute.
func TestAClientThatWritesOnAfterItsGoodbyeIsCut(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	a := f.start("chat1", func(c *Config) { c.Limits.Linger = time.Minute })
	s := f.nativeRaw(a, 1)
	s.sendRaw(wire.MsgText, make([]byte, wire.MaxBody))
	require.Equal(t, wire.MsgGoodbye, s.next().id)
	writeUntilClosed(t, s.conn, make([]byte, 4096))
	eventually(t, "the connection to be gone", func() bool { return a.conns.Count() == 0 })
}

// otherEnd finds the descriptor that a connection of this process leads to, in this process.
func otherEnd(t *testing.T, c net.Conn) int {
	t.Helper()
	want := c.LocalAddr().(*net.TCPAddr).Port
	for fd := range 4096 {
		if peer, err := syscall.Getpeername(fd); err == nil {
			if at, ok := peer.(*syscall.SockaddrInet4); ok && at.Port == want {
				return fd
			}
		}
	}
	t.Fatal("no such descriptor")
	return 0
}

func TestTheKernelTakesLittleForAClient(t *testing.T) {
	f := newFixture(t, 1)
	a := f.start("chat1")
	fd := otherEnd(t, f.nativeRaw(a, 1).conn)
	for option, limit := range map[int]int{syscall.SO_RCVBUF: a.cfg.Limits.ReceiveBufferBytes, syscall.SO_SNDBUF: a.cfg.Limits.SendBufferBytes} {
		got, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, option)
		require.NoError(t, err)
		require.LessOrEqual(t, got, 2*limit, "option %d", option)
	}
}
