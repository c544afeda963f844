package gate

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"parley/internal/admission"
)

// conns limits the open connections of all listeners, in total and per network. At a limit it closes the connection that has
// been sending its request for the longest time: one of the new connection's network if that network is at its limit,
// else one of the network with the most. So a client that holds connections open displaces its own, not the requests of
// others, which take milliseconds to arrive. A request that has been read completely is never cut off. While a listener closes
// what a new connection displaces, there is one connection more than the limit.
type conns struct {
	table   *admission.Table
	limit   int                 // connections in total
	dropped func(reason string) // counts a connection closed or refused because of a limit, or of its proxy
	proxies []netip.Prefix      // begin each connection with a header of the PROXY protocol
}

// dropDescriptors is the reason for a drop when the process cannot open more files.
const dropDescriptors = "descriptors"

// dropHeader is the reason for a drop when a proxy does not begin with a header of the PROXY protocol.
const dropHeader = "header"

// newConns returns an empty conns. limit bounds the connections in total, perNetwork those of each network that is not
// exempt; 0: unlimited.
func newConns(limit, perNetwork int, exempt func(netip.Addr) bool, dropped func(string)) *conns {
	return &conns{admission.New(admission.Limits{
		Connections: limit, Waiting: limit, PerNetwork: perNetwork, DisplaceOwn: true, Exempt: exempt,
	}), limit, dropped, nil}
}

func (cs *conns) drop(c admission.Conn, reason string) {
	if c != nil {
		cs.dropped(reason) // first, so that who sees the end of the connection finds it counted
		c.Evict()
	}
}

func (cs *conns) len() int {
	n, _ := cs.table.Counts()
	return n
}

// listener accepts connections within the limits of conns.
type listener struct {
	net.Listener
	conns *conns
}

// listen binds addr.
func (cs *conns) listen(addr string) (*listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &listener{ln, cs}, nil
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	cs := l.conns
	for {
		tcp, err := l.Listener.Accept()
		if err != nil {
			if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
				cs.drop(cs.table.Displace(), dropDescriptors)
			}
			return nil, err // net/http tries again after a pause
		}
		now := time.Now()
		from := addrOf(tcp.RemoteAddr())
		c := &conn{TCPConn: tcp.(*net.TCPConn), conns: cs, accepted: now, due: now.Add(readTimeout), proxied: within(cs.proxies, from)}
		if c.proxied {
			from = netip.Addr{} // the proxy is still to say it
		}
		evicted, reached, ok := cs.table.Admit(&c.entry, from, now)
		cs.drop(evicted, reached.String())
		switch {
		case !ok:
			cs.drop(c, reached.String())
		case !cs.table.Bind(&c.entry, c):
			cs.drop(c, admission.Full.String()) // a connection of the other listener has displaced it already
		default:
			return c, nil
		}
	}
}

// conn is an open connection, below TLS if there is TLS. It embeds the TCP connection because net/http needs CloseWrite to
// refuse a request that is still being sent: a reset of the connection would discard the reply.
type conn struct {
	*net.TCPConn
	conns    *conns
	entry    admission.Entry
	accepted time.Time

	// due is when the request must have been read, the handshake included; zero once it has. Only the goroutine that serves
	// the connection uses it.
	due time.Time

	// proxied says that a proxy begins with the client's address.
	proxied bool
	named   sync.Once // guards the following
	client  net.Addr  // nil: the proxy has named none, so it is the proxy's
	rest    []byte    // what came behind the header
}

// SetReadDeadline implements net.Conn. While a request is being read, no deadline is later than due: net/http would grant
// the handshake, the header and the rest one after the other.
func (c *conn) SetReadDeadline(t time.Time) error {
	if !c.due.IsZero() && (t.IsZero() || t.After(c.due)) {
		t = c.due
	}
	return c.TCPConn.SetReadDeadline(t)
}

// Close implements net.Conn.
func (c *conn) Close() error {
	err := c.TCPConn.Close()
	c.conns.table.Closed(&c.entry, time.Now())
	return err
}

// Evict implements admission.Conn.
func (c *conn) Evict() { _ = c.Close() } // it is given up

// received records that the request has been read: from now on it will be served, and the connection is closed after it.
// It returns false if the connection has been dropped.
func (c *conn) received() bool {
	c.due = time.Time{}
	return c.conns.table.Authenticated(&c.entry)
}

// sending records that the request for a file of the page has been read.
func (c *conn) sending() {
	c.due = time.Time{}
	c.conns.table.Busy(&c.entry, time.Now())
}

// keeps reports whether the connection may wait for another request after this one: for a short time from its accept on, and
// while at least half of the places are free.
func (c *conn) keeps() bool {
	return time.Since(c.accepted) < keptTimeout && 2*c.conns.len() <= c.conns.limit
}

// answered records that a connection that is kept has been answered. It may be displaced again.
func (c *conn) answered() {
	now := time.Now()
	c.due = now.Add(readTimeout)
	c.conns.table.Silent(&c.entry, now)
}

// addrOf returns the address without the port; it is not valid if there is none.
func addrOf(a net.Addr) netip.Addr {
	peer, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return peer.Addr().Unmap()
}

// underlying returns the conn of a connection that a listener has accepted, also below TLS.
func underlying(c net.Conn) *conn {
	if encrypted, ok := c.(*tls.Conn); ok {
		c = encrypted.NetConn()
	}
	own, _ := c.(*conn)
	return own
}

// connKey is the context key for a request's connection.
type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, underlying(c))
}

// connOf returns a request's connection; nil for a test's request.
func connOf(r *http.Request) *conn {
	c, _ := r.Context().Value(connKey{}).(*conn)
	return c
}

// watchState is for http.Server.ConnState.
func watchState(c net.Conn, state http.ConnState) {
	if own := underlying(c); own != nil && state == http.StateIdle {
		own.answered()
	}
}
