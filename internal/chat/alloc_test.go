package chat

import (
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/session"
	"parley/internal/wire"
)

// socket is one end of a socket pair, as a session sees its connection.
type socket struct{ fd int }

func (s socket) Fd() int                     { return s.fd }
func (s socket) Write(b []byte) (int, error) { return syscall.Write(s.fd, b) }
func (s socket) Close() error                { return nil }
func (s socket) RemoteAddr() net.Addr        { return &net.TCPAddr{} }

// liveConn returns a logged-in native connection without a client, and the other end of its socket.
func liveConn(t testing.TB, s *Server) (*conn, *os.File) {
	t.Helper()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0)
	require.NoError(t, err)
	peer := os.NewFile(uintptr(pair[1]), "peer")
	t.Cleanup(func() { peer.Close(); syscall.Close(pair[0]) })
	c := &conn{srv: s, window: 64, accepted: time.Now()}
	c.Init(socket{pair[0]}, &s.limits, c)
	require.True(t, c.Identify(session.Identity{UID: firstUID, Device: "native", SID: newSID(), Native: true}))
	s.registry.Add(&c.Session)
	require.Equal(t, session.Activated, s.registry.Activate(&c.Session))
	t.Cleanup(func() { s.registry.Remove(&c.Session) })
	return c, peer
}

func TestAHeartbeatAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates by itself; make test counts without it")
	}
	f := newFixture(t, 1)
	c, peer := liveConn(t, f.start("chat1").Server)
	beat, err := wire.AppendFrame(nil, wire.MsgHeartbeat, []byte(`{"fromuid":1001}`))
	require.NoError(t, err)
	answer := make([]byte, 64)
	// Averaged over enough runs that what the node does in the background rounds away.
	allocs := testing.AllocsPerRun(5000, func() {
		if !c.take(beat) {
			t.Fatal("refused")
		}
		if _, err := peer.Read(answer); err != nil {
			t.Fatal(err)
		}
	})
	require.Zero(t, allocs)
}
