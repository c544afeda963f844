package config

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// ListenAddr is where to listen for TCP clients, "" for nowhere.
func (s Self) ListenAddr() string { return s.optional(s.Port) }

// RPCListenAddr is where to listen for peers.
func (s Self) RPCListenAddr() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.RPCPort)) }

// ClientAddr returns the host:port that TCP clients are told. port is the port that was bound.
func (s Self) ClientAddr(port int) string { return advertised(s.Advertise, s.Host, port) }

// RPCAddr returns the host:port that peers are told. port is the port that was bound.
func (s Self) RPCAddr(port int) string { return s.addr(s.AdvertiseRPC, port) }

// WSListenAddr is where to listen for WebSocket clients, "" for nowhere.
func (s Self) WSListenAddr() string { return s.optional(s.WSPort) }

// WSURL is what WebSocket clients are told. port is the one that was bound.
func (s Self) WSURL(port int) string { return s.url("ws", s.AdvertiseWS, port) }

// TLSListenAddr is where to listen for TCP clients that use TLS, "" for nowhere.
func (s Self) TLSListenAddr() string { return s.optional(s.TLSPort) }

// TLSAddr is what such clients are told, host:port. port is the one that was bound.
func (s Self) TLSAddr(port int) string { return s.addr(s.AdvertiseTLS, port) }

// WSSListenAddr is where to listen for WebSocket clients that use TLS, "" for nowhere.
func (s Self) WSSListenAddr() string { return s.optional(s.WSSPort) }

// WSSURL is what such clients are told. port is the one that was bound.
func (s Self) WSSURL(port int) string { return s.url("wss", s.AdvertiseWSS, port) }

// optional is where to listen at a port that may be empty, for none.
func (s Self) optional(port string) string {
	if port == "" {
		return ""
	}
	return net.JoinHostPort(s.Host, port)
}

// url is a URL that clients are told: as it was set, or of an address.
func (s Self) url(scheme, advertise string, port int) string {
	if strings.Contains(advertise, "://") {
		return advertise
	}
	return scheme + "://" + s.addr(advertise, port) + "/"
}

// addr is host:port of what was set for it, else with the host of Advertise.
func (s Self) addr(advertise string, port int) string {
	if advertise == "" && s.Advertise != "" {
		host, _, err := net.SplitHostPort(s.Advertise)
		if err != nil {
			host = s.Advertise
		}
		return net.JoinHostPort(host, strconv.Itoa(port))
	}
	return advertised(advertise, s.Host, port)
}

func advertised(advertise, host string, port int) string {
	if advertise != "" {
		if _, _, err := net.SplitHostPort(advertise); err == nil {
			return advertise
		}
		return net.JoinHostPort(advertise, strconv.Itoa(port))
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = firstAddress()
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// firstAddress is this machine's first IPv4 address that others could reach, else the loopback.
func firstAddress() string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "127.0.0.1"
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	return "127.0.0.1"
}

// advertiseFault checks what others are told: HOST or HOST:PORT, or nothing.
func advertiseFault(key, value string) error {
	host, port, err := net.SplitHostPort(value)
	if value == "" || isHost(value) {
		host, port, err = value, "1", nil
	}
	switch {
	case value == "":
		return nil
	case strings.Contains(value, "://"):
		return Faultf(key, "is %q, want HOST or HOST:PORT without a scheme", value)
	case strings.HasPrefix(value, "[") && strings.HasSuffix(value, "]") && isHost(strings.Trim(value, "[]")):
		return Faultf(key, "is %q, want the address without brackets, or [ADDRESS]:PORT", value)
	case err != nil:
		return Faultf(key, "is %q, want HOST or HOST:PORT", value)
	case host == "":
		return Faultf(key, "is %q, which names no host", value)
	case !isHost(host):
		return Faultf(key, "is %q, whose host is neither a name nor an address", value)
	case !isPort(port, 1):
		return Faultf(key, "is %q, want a port from 1 to 65535", value)
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		return Faultf(key, "is %q, which no client can connect to", value)
	}
	return nil
}

// webFault checks what WebSocket clients are told: HOST, HOST:PORT or a URL, or nothing.
func webFault(key, value string) error {
	if !strings.Contains(value, "://") {
		return advertiseFault(key, value)
	}
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "ws" && u.Scheme != "wss" || !isHost(u.Hostname()) || u.User != nil || u.Fragment != "" {
		return Faultf(key, "is %q, want HOST, HOST:PORT or a URL that begins with ws:// or wss://", value)
	}
	return nil
}
