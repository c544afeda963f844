package transport

import (
	"os"
	"syscall"
	"time"
)

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
func setBuffers(fd, send, receive int) (err error) {
	if send > 0 {
		err = os.NewSyscallError("SO_SNDBUF", syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, send))
	}
	if send > 0 && err == nil {
		err = setUnsent(fd, send/2)
	}
	if receive > 0 && err == nil {
		err = os.NewSyscallError("SO_RCVBUF", syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, receive))
	}
	return err
}

// DescriptorLimit returns how many descriptors the process may open, 0 if unknown.
func DescriptorLimit() int {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 0
	}
	return int(min(r.Cur, 1<<30))
}
