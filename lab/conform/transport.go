package conform

import (
	"context"
	"errors"
	"fmt"
	"net"

	"parley/client"
	"parley/internal/websocket"
	"parley/internal/wire"
)

// connect opens a stream to a chat node, by whatever transport its address says.
func (e *env) connect(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := client.Options{TLS: e.t.TLS}.Connect(ctx, addr)
	if web, ok := conn.(*websocket.Conn); ok && err == nil {
		return &messages{Conn: web}, nil
	}
	return conn, err
}

// address is where the answer to a login says that the node takes clients by the target's transport.
func (e *env) address(reply object) (string, error) {
	addresses, _ := reply["addresses"].(map[string]any)
	return e.offered(reply.str("host"), reply.str("port"), func(via string) string { return object(addresses).str(via) })
}

// offered is where a node takes clients by the target's transport: host and port are TCP's, others knows the rest.
func (e *env) offered(host, port string, others func(via string) string) (string, error) {
	if e.t.Transport == "" || e.t.Transport == client.TransportTCP {
		if port == "" {
			return "", errors.New("the chat node does not offer tcp")
		}
		return net.JoinHostPort(host, port), nil
	}
	addr := others(e.t.Transport)
	if addr == "" {
		return "", fmt.Errorf("the chat node does not offer %s", e.t.Transport)
	}
	if e.t.Transport == client.TransportTLS {
		addr = "tls://" + addr
	}
	return addr, nil
}

// messages are a WebSocket connection on which a write need not hold whole frames, though a message does: it ends with the
// write that ends a frame.
type messages struct {
	*websocket.Conn
	split wire.Splitter
}

func (m *messages) Write(b []byte) (int, error) {
	for rest, ok := b, true; ok && len(rest) > 0; {
		_, _, rest, ok, _ = m.split.Next(rest, wire.MaxBody)
	}
	if err := m.WriteFragment(b, m.split.Held() == 0); err != nil {
		return 0, err
	}
	return len(b), nil
}
