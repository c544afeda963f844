//go:build !linux

package watch

import (
	"errors"
	"net/netip"
)

// Socket is a TCP socket with the memory that the kernel holds for it.
type Socket struct {
	Peer  netip.AddrPort
	Bytes int64
}

// Sockets requires Linux.
func Sockets(uint16) ([]Socket, error) { return nil, errors.New("watch: sock_diag needs Linux") }
