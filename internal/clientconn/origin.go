package clientconn

import (
	"net/netip"
	"time"

	"github.com/cloudwego/netpoll"

	"parley/internal/admission"
	"parley/internal/proxyproto"
)

// origin is where a connection comes from.
type origin struct {
	addr     [16]byte // see Remote; a netip.Addr is half as large again
	accepted int64    // unix milliseconds
	entry    admission.Entry
}

// Remote returns the client's address, or its proxy's.
func (o *origin) Remote() netip.Addr { return netip.AddrFrom16(o.addr).Unmap() }

// Accepted returns when the connection was accepted.
func (o *origin) Accepted() time.Time { return time.UnixMilli(o.accepted) }

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
			return c.admit(from)
		}
	}
}

// admit admits the connection for the client's address; without one, for the proxy's. false: close the connection.
func (c *Conn) admit(from netip.Addr) bool {
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
