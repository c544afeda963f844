package chat

import "syscall"

// setSendBuffer bounds what the kernel keeps for a client that does not read; it doubles the number for its own needs.
func setSendBuffer(fd, n int) {
	_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, n) // without it the client costs more, no less
}

// setReceiveBuffer bounds what the kernel takes for the node before the node has looked at it.
func setReceiveBuffer(fd, n int) {
	_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, n) // as above
}

// descriptorLimit returns how many descriptors the process may open, 0 if unknown.
func descriptorLimit() int {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 0
	}
	return int(min(r.Cur, 1<<30))
}
