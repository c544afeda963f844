package clientconn

import (
	"net/netip"
	"time"

	"github.com/cloudwego/netpoll"

	"parley/internal/proxyproto"
)

// fromProxy reports whether connections from addr begin with a header of the PROXY protocol.
func (s *Conns) fromProxy(addr netip.Addr) bool {
	for _, p := range s.cfg.ProxyFrom {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// readProxyHeader takes what a proxy says first: whose connection this is. Like the handshake of TLS it waits for the rest,
// in the connection's own callback; the login's time-out ends it. false: close the connection.
func (c *Conn) readProxyHeader(r netpoll.Reader) bool {
	for n := 1; ; n++ {
		if _, err := r.Peek(n); err != nil {
			return false // the proxy hung up
		}
		n = min(r.Len(), proxyproto.MaxBytes)
		data, err := r.Peek(n)
		if err != nil {
			return false
		}
		from, rest, done, err := proxyproto.Parse(data)
		if err != nil {
			c.of.d.Metrics.BadProxyHeaders.Inc()
			return false
		}
		if done {
			_ = r.Skip(n - len(rest)) // which are there
			_ = r.Release()           // the only error is that nothing was read
			return c.named(from)
		}
	}
}

// named admits the connection for the client's address; without one, for the proxy's. false: close the connection.
func (c *Conn) named(from netip.Addr) bool {
	s := c.of
	c.proxied = false
	if from.IsValid() {
		c.addr = from.As16()
	}
	evicted, reached, ok := s.d.Admission.SetAddr(&c.entry, c.Remote(), time.Now())
	if !ok {
		s.d.Metrics.RefusedConns[reached].Inc()
		return false
	}
	if evicted != nil {
		s.d.Metrics.Evicted.Inc()
		evicted.Evict()
	}
	return true
}
