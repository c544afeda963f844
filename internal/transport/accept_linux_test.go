package transport

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
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

// requireUnsent asserts what a socket takes beyond what is on its way.
func requireUnsent(t *testing.T, fd, bytes int) {
	t.Helper()
	have, err := syscall.GetsockoptInt(fd, syscall.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT)
	require.NoError(t, err)
	require.Equal(t, bytes, have)
}

// Both waits in a rush, in the backlog and in line, have to end long before a client gives up.
func TestTheBacklogIsShort(t *testing.T) {
	ln, err := Listen("127.0.0.1:0", 0, 0)
	require.NoError(t, err)
	defer ln.Close()
	raw, err := ln.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		require.NoError(t, err)
		require.LessOrEqual(t, int(info.Sacked), backlog) // of a listener: how long its backlog may become
		require.Positive(t, info.Sacked)
	}))
}
