package chat

import (
	"net/netip"
	"os"
	"syscall"
	"time"
)

// accept takes one connection off the backlog.
func accept(ln int) (fd int, from netip.Addr, err error) {
	fd, sa, err := syscall.Accept4(ln, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
	return fd, addrOf(sa), err
}

func setKeepAlive(fd int) error {
	for _, o := range []struct {
		name                 string
		level, option, value int
	}{
		{"SO_KEEPALIVE", syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
		{"TCP_KEEPIDLE", syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, int(keepAliveIdle / time.Second)},
		{"TCP_KEEPINTVL", syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, int(keepAliveInterval / time.Second)},
		{"TCP_KEEPCNT", syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, keepAliveProbes},
	} {
		if err := syscall.SetsockoptInt(fd, o.level, o.option, o.value); err != nil {
			return os.NewSyscallError(o.name, err)
		}
	}
	return nil
}
