package transport

import (
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// accept takes one connection off the backlog.
func accept(ln int) (fd int, from netip.Addr, err error) {
	fd, sa, err := syscall.Accept4(ln, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
	return fd, addrOf(sa), err
}

// setUnsent bounds what the kernel takes for a client beyond what is on its way to it. Without it a client that does not
// read makes the kernel keep three times the send buffer that was asked for.
func setUnsent(fd, bytes int) error {
	return os.NewSyscallError("TCP_NOTSENT_LOWAT", syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, bytes))
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
