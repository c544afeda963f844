package gate

import (
	"net"
	"net/netip"
	"time"

	"parley/internal/proxyproto"
)

// RemoteAddr implements net.Conn: it returns the client's address. Behind a proxy of ProxyFrom it waits for what the proxy says first,
// also below TLS. net/http asks for it before anything else, in the goroutine of the connection.
func (c *conn) RemoteAddr() net.Addr {
	c.awaitProxy()
	if c.client != nil {
		return c.client
	}
	return c.TCPConn.RemoteAddr()
}

// Read implements net.Conn. It returns what follows the header of a proxy.
func (c *conn) Read(b []byte) (int, error) {
	c.awaitProxy()
	if len(c.rest) > 0 {
		n := copy(b, c.rest)
		c.rest = c.rest[n:]
		return n, nil
	}
	return c.TCPConn.Read(b)
}

func (c *conn) awaitProxy() {
	if c.proxied {
		c.named.Do(c.readProxyHeader)
	}
}

// readProxyHeader reads the header, within the time for the request, and admits the connection for the client's address; without
// one, for the proxy's. It closes a connection that does not begin with a header, or for which there is no room.
func (c *conn) readProxyHeader() {
	_ = c.SetReadDeadline(time.Time{}) // no later than due; if it fails, so does the read
	var data []byte
	buf := make([]byte, 512)
	for {
		n, err := c.TCPConn.Read(buf)
		if err != nil {
			_ = c.Close() // the proxy hung up, or there is no time left
			return
		}
		data = append(data, buf[:n]...)
		from, rest, done, err := proxyproto.Parse(data)
		if err != nil {
			c.conns.drop(c, dropHeader)
			return
		}
		if done {
			c.rest = rest
			c.admit(from)
			return
		}
	}
}

func (c *conn) admit(from netip.Addr) {
	if from.IsValid() {
		c.client = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	} else {
		from = addrOf(c.TCPConn.RemoteAddr())
	}
	evicted, reached, ok := c.conns.table.SetAddr(&c.entry, from, time.Now())
	c.conns.drop(evicted, reached.String())
	if !ok {
		c.conns.drop(c, reached.String())
	}
}
