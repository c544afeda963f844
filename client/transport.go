package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"parley/internal/websocket"
	"parley/internal/wire"
)

// The transports, as Gate.Transport names them.
const (
	TransportTCP = "tcp"
	TransportTLS = "tls" // TCP under TLS
	TransportWS  = "ws"  // WebSocket
	TransportWSS = "wss" // WebSocket under TLS
)

// tlsScheme begins the address of a node that speaks TLS.
const tlsScheme = "tls://"

// errTransport is a transport that nobody knows.
var errTransport = errors.New("client: the transport is none of tcp, tls, ws, wss")

// Connect opens a stream to a chat node, on which it speaks frames: Dial does so, and then logs in. The address is that of a
// Ticket. The context bounds connecting and the handshakes.
func (o Options) Connect(ctx context.Context, addr string) (net.Conn, error) {
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	scheme, host, u, err := parseAddr(addr)
	if err != nil {
		return nil, err
	}
	conn, err := o.Dial(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	stream, err := o.secure(ctx, conn, scheme, host, u)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return stream, nil
}

// secure makes the handshakes of a transport.
func (o *Options) secure(ctx context.Context, conn net.Conn, scheme, host string, u *url.URL) (net.Conn, error) {
	if scheme == TransportTLS || scheme == TransportWSS {
		config := o.TLS.Clone()
		if config == nil {
			config = new(tls.Config)
		}
		if config.ServerName == "" {
			config.ServerName, _, _ = net.SplitHostPort(host)
		}
		config.NextProtos = []string{websocket.Protocol}
		if u != nil {
			config.NextProtos = []string{"http/1.1"}
		}
		secured := tls.Client(conn, config)
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		conn = secured
	}
	if u == nil {
		return conn, nil
	}
	return websocket.NewClient(ctx, conn, u)
}

// parseAddr takes the address of a node apart; u is nil if it is not a WebSocket's.
func parseAddr(addr string) (scheme, host string, u *url.URL, err error) {
	if !strings.Contains(addr, "://") {
		return TransportTCP, addr, nil, nil
	}
	if host, ok := strings.CutPrefix(addr, tlsScheme); ok {
		return TransportTLS, host, nil, nil
	}
	u, err = url.Parse(addr)
	if err != nil || u.Scheme != TransportWS && u.Scheme != TransportWSS || u.Hostname() == "" {
		return "", "", nil, fmt.Errorf("%w: %q", errTransport, addr)
	}
	return u.Scheme, wire.HostPort(u), u, nil
}

// nextAddr is where a node sends a client that is connected to addr. It names an address of the same transport, and that of
// TLS has no scheme.
func nextAddr(addr, to string) string {
	if strings.HasPrefix(addr, tlsScheme) && !strings.Contains(to, "://") {
		return tlsScheme + to
	}
	return to
}
