// Package proxyproto reads the header of the PROXY protocol, versions 1 and 2, with which a proxy says whose connection it
// passes on.
package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

// MaxBytes is how long a header may be: Parse needs no more bytes to decide.
const MaxBytes = maxV2

const (
	maxV1  = 107 // with the end of its line
	headV2 = 16
	maxV2  = headV2 + 2<<10
)

// ErrMalformed is returned for bytes that are not, and do not begin, a header.
var ErrMalformed = errors.New("proxyproto: not a header of the PROXY protocol")

var (
	beginV1 = []byte("PROXY ")
	beginV2 = []byte("\r\n\r\n\x00\r\nQUIT\n")
)

// Parse reads the header at the beginning of a connection. It is not done if more bytes are needed. The source is the
// client's address; it is not valid if the header names none: the connection is then the proxy's own (LOCAL), or the client's
// address is unknown or not of IP. rest is what follows the header.
func Parse(data []byte) (source netip.Addr, rest []byte, done bool, err error) {
	switch {
	case begins(data, beginV2):
		return parseV2(data)
	case begins(data, beginV1):
		return parseV1(data)
	}
	return netip.Addr{}, nil, false, ErrMalformed
}

// begins reports whether data begins with start, or could once there is more of it.
func begins(data, start []byte) bool {
	n := min(len(data), len(start))
	return bytes.Equal(data[:n], start[:n])
}

// parseV1 reads a line such as "PROXY TCP4 192.0.2.1 198.51.100.1 40000 8090".
func parseV1(data []byte) (source netip.Addr, rest []byte, done bool, err error) {
	end := bytes.IndexByte(data[:min(len(data), maxV1)], '\n')
	if end < 0 && len(data) < maxV1 {
		return netip.Addr{}, nil, false, nil
	}
	if end < 0 || data[end-1] != '\r' {
		return netip.Addr{}, nil, false, ErrMalformed
	}
	source, ok := sourceV1(string(data[len(beginV1) : end-1]))
	if !ok {
		return netip.Addr{}, nil, false, ErrMalformed
	}
	return source, data[end+1:], true, nil
}

// sourceV1 reads what stands behind PROXY.
func sourceV1(line string) (source netip.Addr, ok bool) {
	fields := strings.Split(line, " ")
	if fields[0] == "UNKNOWN" {
		return netip.Addr{}, true // whatever follows
	}
	if len(fields) != 5 {
		return netip.Addr{}, false
	}
	for _, port := range fields[3:] {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return netip.Addr{}, false
		}
	}
	var addrs [2]netip.Addr
	for i := range addrs {
		addr, err := netip.ParseAddr(fields[1+i])
		if err != nil || addr.Zone() != "" || !(fields[0] == "TCP4" && addr.Is4() || fields[0] == "TCP6" && addr.Is6()) {
			return netip.Addr{}, false
		}
		addrs[i] = addr.Unmap()
	}
	return addrs[0], true
}

// parseV2 reads a binary header. What follows the addresses, TLVs, is not looked at.
func parseV2(data []byte) (source netip.Addr, rest []byte, done bool, err error) {
	if len(data) < headV2 {
		return netip.Addr{}, nil, false, nil
	}
	const local, proxy = 0x20, 0x21 // the version, and the command
	command, family := data[12], data[13]
	end := headV2 + int(binary.BigEndian.Uint16(data[14:]))
	if command != local && command != proxy || end > maxV2 {
		return netip.Addr{}, nil, false, ErrMalformed
	}
	if len(data) < end {
		return netip.Addr{}, nil, false, nil
	}
	body, rest := data[headV2:end], data[end:]
	if command == local {
		return netip.Addr{}, rest, true, nil
	}
	const ports = 4
	switch family {
	case 0x00, 0x31, 0x32: // unspecified, Unix sockets
		return netip.Addr{}, rest, true, nil
	case 0x11, 0x12: // IPv4
		if len(body) >= 4+4+ports {
			return netip.AddrFrom4([4]byte(body)), rest, true, nil
		}
	case 0x21, 0x22: // IPv6
		if len(body) >= 16+16+ports {
			return netip.AddrFrom16([16]byte(body)).Unmap(), rest, true, nil
		}
	}
	return netip.Addr{}, nil, false, ErrMalformed
}
