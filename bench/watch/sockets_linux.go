package watch

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Socket is a TCP socket in this machine's network namespace, with the memory that the kernel holds for it.
type Socket struct {
	Peer  netip.AddrPort
	Bytes int64 // received and not read, sent and not acknowledged, or reserved; includes the kernel's own structures
}

// Layouts of the kernel's sock_diag, linux/inet_diag.h.
const (
	diagRequestLen = 56
	diagAnswerLen  = 72
	skMemInfo      = 7 // INET_DIAG_SKMEMINFO
	skMemInfoLen   = 9 * 4
	anyState       = 0xffffffff
)

// Sockets lists the IPv4 TCP sockets with a local port. It uses sock_diag, which needs no privileges.
func Sockets(port uint16) ([]Socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err != nil {
		return nil, fmt.Errorf("watch: sock_diag: %w", err)
	}
	defer unix.Close(fd)
	wait := unix.Timeval{Sec: 1}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return nil, fmt.Errorf("watch: sock_diag: %w", err)
	}
	const length = unix.SizeofNlMsghdr + diagRequestLen
	var ask [length]byte
	order := binary.NativeEndian
	order.PutUint32(ask[0:], length)
	order.PutUint16(ask[4:], unix.SOCK_DIAG_BY_FAMILY)
	order.PutUint16(ask[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	ask[16], ask[17], ask[18] = unix.AF_INET, unix.IPPROTO_TCP, 1<<(skMemInfo-1)
	order.PutUint32(ask[20:], anyState)
	binary.BigEndian.PutUint16(ask[24:], port)
	if err := unix.Sendto(fd, ask[:], 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("watch: sock_diag: %w", err)
	}
	var all []Socket
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("watch: sock_diag: %w", err)
		}
		for rest := buf[:n]; len(rest) >= unix.SizeofNlMsghdr; {
			size, kind := int(order.Uint32(rest)), order.Uint16(rest[4:])
			if size < unix.SizeofNlMsghdr || size > len(rest) {
				break
			}
			switch kind {
			case unix.NLMSG_DONE:
				return all, nil
			case unix.NLMSG_ERROR:
				return nil, fmt.Errorf("watch: sock_diag refused: %w", unix.Errno(-int32(order.Uint32(rest[16:]))))
			}
			if s, ok := socketOf(rest[unix.SizeofNlMsghdr:size], port); ok {
				all = append(all, s)
			}
			rest = rest[min((size+3)&^3, len(rest)):]
		}
	}
}

// socketOf parses an answer. It returns false for a socket of another port, and for one without memory, as in
// TIME_WAIT.
func socketOf(b []byte, port uint16) (s Socket, ok bool) {
	if len(b) < diagAnswerLen || binary.BigEndian.Uint16(b[4:]) != port {
		return s, false
	}
	s.Peer = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[24:28])), binary.BigEndian.Uint16(b[6:]))
	order := binary.NativeEndian
	for rest := b[diagAnswerLen:]; len(rest) >= 4; {
		size, kind := int(order.Uint16(rest)), order.Uint16(rest[2:])
		if size < 4 || size > len(rest) {
			break
		}
		if v := rest[4:size]; kind == skMemInfo && len(v) >= skMemInfoLen-4 {
			// rmem_alloc, fwd_alloc, wmem_queued, optmem, backlog; wmem_alloc is part of wmem_queued.
			for _, i := range []int{0, 4, 5, 6, 7} {
				s.Bytes += int64(order.Uint32(v[4*i:]))
			}
			return s, true
		}
		rest = rest[min((size+3)&^3, len(rest)):]
	}
	return s, false
}
