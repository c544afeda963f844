package transport

import (
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// D61: frames leave at once, and silent connections are probed.
func TestAcceptedSocketsInheritTheirOptions(t *testing.T) {
	const sendBytes, receiveBytes = 32 << 10, 64 << 10
	ln, err := Listen("127.0.0.1:0", sendBytes, receiveBytes)
	require.NoError(t, err)
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr.String())
	require.NoError(t, err)
	defer c.Close()
	fd, from, err := accept(int(ln.Fd())) // which waits, unlike in a node
	require.NoError(t, err)
	defer syscall.Close(fd)
	require.True(t, from.IsLoopback())
	get := func(level, option int) int {
		v, err := syscall.GetsockoptInt(fd, level, option)
		require.NoError(t, err)
		return v
	}
	require.NotZero(t, get(syscall.IPPROTO_TCP, syscall.TCP_NODELAY))
	require.NotZero(t, get(syscall.SOL_SOCKET, syscall.SO_KEEPALIVE))
	requireKeepAlive(t, fd)
	requireUnsent(t, fd, sendBytes/2)
	require.GreaterOrEqual(t, get(syscall.SOL_SOCKET, syscall.SO_SNDBUF), sendBytes)
	require.LessOrEqual(t, get(syscall.SOL_SOCKET, syscall.SO_SNDBUF), 2*sendBytes)
	require.GreaterOrEqual(t, get(syscall.SOL_SOCKET, syscall.SO_RCVBUF), receiveBytes)
	require.LessOrEqual(t, get(syscall.SOL_SOCKET, syscall.SO_RCVBUF), 2*receiveBytes)
}
