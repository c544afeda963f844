package hogs

import (
	"net"

	"golang.org/x/sys/unix"
)

// hungUp reports whether the other side has closed a connection. It does not read from the connection.
func hungUp(conn net.Conn) bool {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return true
	}
	up := false
	err = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		up = err == nil && info.State == unix.BPF_TCP_ESTABLISHED
	})
	return err != nil || !up
}
