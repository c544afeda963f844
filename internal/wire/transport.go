package wire

import (
	"net"
	"net/url"
)

// Transport is how a client is connected to its node.
type Transport uint8

// The transports.
const (
	TCP Transport = iota
	TLS           // TCP under TLS
	WS            // WebSocket
	WSS           // WebSocket under TLS
)

var transports = [...]string{"tcp", "tls", "ws", "wss"}

// String returns the name under which a transport's address stands in the answer to a login at the gate.
func (t Transport) String() string { return transports[t] }

// ParseTransport is the inverse of String; false for anything else.
func ParseTransport(name string) (Transport, bool) {
	for t, s := range transports {
		if s == name {
			return Transport(t), true
		}
	}
	return 0, false
}

// Web reports whether it is WebSocket, whose addresses are URLs; those of the others are host:port.
func (t Transport) Web() bool { return t >= WS }

// Encrypted reports whether it runs under TLS.
func (t Transport) Encrypted() bool { return t&1 != 0 }

// HostPort returns the host:port of a URL of WebSocket.
func HostPort(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Host
	case u.Scheme == WSS.String():
		return net.JoinHostPort(u.Hostname(), "443")
	}
	return net.JoinHostPort(u.Hostname(), "80")
}
