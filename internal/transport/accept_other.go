//go:build unix && !linux

package transport

import (
	"net/netip"
	"os"
	"syscall"

	"parley/internal/rpc"
)

// accept takes one connection off the backlog.
func accept(ln int) (fd int, from netip.Addr, err error) {
	syscall.ForkLock.RLock() // a child must not inherit it before it is marked
	defer syscall.ForkLock.RUnlock()
	fd, sa, err := syscall.Accept(ln)
	if err == nil {
		syscall.CloseOnExec(fd)
		_, _ = rpc.NoDelay(fd), setKeepAlive(fd) // not inherited everywhere; the client may have hung up already
	}
	return fd, addrOf(sa), err
}

// setUnsent leaves it to the send buffer.
func setUnsent(int, int) error { return nil }

// setKeepAlive leaves the times to the system.
func setKeepAlive(fd int) error {
	return os.NewSyscallError("SO_KEEPALIVE", syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1))
}
