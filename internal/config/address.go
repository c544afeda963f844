package config

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// DialAddress returns a Fault unless addr is a HOST:PORT that can be connected to.
func DialAddress(key, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	switch {
	case err != nil || strings.Contains(addr, "/"):
		return Faultf(key, "has %q, want HOST:PORT", addr)
	case host == "":
		return Faultf(key, "has %q, which names no host", addr)
	case !isHost(host):
		return Faultf(key, "has %q, whose host is neither a name nor an address", addr)
	case !isPort(port, 1):
		return Faultf(key, "has %q, want a port from 1 to 65535", addr)
	}
	return nil
}

// ListenAddress returns a Fault unless addr is a HOST:PORT that can be listened on: the host may be empty, the port 0.
func ListenAddress(key, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	switch {
	case err != nil:
		return Faultf(key, "is %q, want HOST:PORT", addr)
	case host != "" && !isHost(host):
		return Faultf(key, "is %q, whose host is neither a name nor an address", addr)
	case !isPort(port, 0):
		return Faultf(key, "is %q, want a port from 0 to 65535", addr)
	}
	return nil
}

// Networks parses networks in CIDR notation; an address alone is a network of its own.
func Networks(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if addr, alone := netip.ParseAddr(s); alone == nil {
			p, err = addr.Unmap().Prefix(addr.Unmap().BitLen())
		}
		if err != nil {
			return nil, errors.New("has something that is neither an address nor a network: " + s)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// IsOrigin reports whether s is the origin of a web page as browsers write it, SCHEME://HOST[:PORT].
func IsOrigin(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme != "" && u.Host != "" && u.Scheme+"://"+u.Host == s
}

// OptionalPort returns a Fault unless value is a port to listen on, 0 included, or empty.
func OptionalPort(key, value string) error {
	if value != "" && !isPort(value, 0) {
		return Faultf(key, "is %q, want a port from 0 to 65535, or nothing", value)
	}
	return nil
}

// hostFault checks a host that stands alone. Whether it may be empty is the caller's to say.
func hostFault(key, host string) error {
	switch {
	case host == "" || isHost(host):
		return nil
	case strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") && isHost(strings.Trim(host, "[]")):
		return Faultf(key, "is %q, want the address without brackets", host)
	}
	return Faultf(key, "is %q, which is neither a name nor an address", host)
}

// isHost reports whether s is an IP address, without brackets, or may be a host's name. Names with an underscore are not
// of the standard, but containers have them.
func isHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(r rune) bool { return !strings.ContainsRune(hostLetters, r) }) {
			return false
		}
	}
	return true
}

const hostLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"

func isPort(s string, least int) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= least && n <= 65535 && s[0] != '+'
}
