//go:build unix && !linux

package chat

import (
	"net/netip"
	"syscall"
)

// accept takes one connection off the backlog.
func accept(ln int) (fd int, from netip.Addr, err error) {
	syscall.ForkLock.RLock() // a child must not inherit it before it is marked
	defer syscall.ForkLock.RUnlock()
	fd, sa, err := syscall.Accept(ln)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	return fd, addrOf(sa), err
}

// setKeepAlive leaves the times to the system.
func setKeepAlive(fd int) {
	_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1) // never fails on a TCP socket
}
