package chat

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// requireKeepAlive asserts when a socket's silent peer is probed.
func requireKeepAlive(t *testing.T, fd int) {
	t.Helper()
	idle, err := syscall.GetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE)
	require.NoError(t, err)
	require.Equal(t, int(keepAliveIdle/time.Second), idle)
	probes, err := syscall.GetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT)
	require.NoError(t, err)
	require.Equal(t, keepAliveProbes, probes)
}
