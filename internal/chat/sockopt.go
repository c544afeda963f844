package chat

import (
	"syscall"
	"time"
)

// setNoDelay has a frame leave at once, even if the client's kernel has not confirmed the one before. Otherwise the frames
// that wait for that would arrive together, which makes a stock client deaf.
func setNoDelay(fd int) {
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1) // fails on no TCP socket
}

// Silent connections are probed, for first-generation clients send no heartbeats. Others are heard before keepAliveIdle,
// so that probes do not add to what an idle session costs; a vanished client is found out after that and keepAliveProbes
// unanswered ones.
const (
	keepAliveIdle     = 5 * time.Minute // the longest heartbeat
	keepAliveInterval = 20 * time.Second
	keepAliveProbes   = 3
)

// setBuffers bounds what the kernel keeps for a client that does not read, and what it takes for the node before the node
// has looked at it; it doubles both for its own needs. 0 leaves one to the kernel.
func setBuffers(fd, send, receive int) {
	if send > 0 {
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, send) // without it a client costs more, no less
	}
	if receive > 0 {
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, receive) // the same
	}
}

// descriptorLimit returns how many descriptors the process may open, 0 if unknown.
func descriptorLimit() int {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 0
	}
	return int(min(r.Cur, 1<<30))
}
