package gate

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"parley/internal/admission"
)

// listener limits the open connections, in total and per network. At a limit it closes the connection that has been
// sending its request for the longest time: one of the new connection's network if that network is at its limit, else
// one of the network with the most. So a client that holds connections open displaces its own, not the requests of
// others, which take milliseconds to arrive. A request that has been read completely is never cut off.
type listener struct {
	net.Listener
	table   *admission.Table
	dropped func(reason string) // counts a connection closed or refused because of a limit
}

// dropDescriptors is the reason for a drop when the process cannot open more files.
const dropDescriptors = "descriptors"

// listenHTTP binds addr. limit bounds the connections in total, perNetwork those of each network that is not exempt;
// 0: unlimited.
func listenHTTP(addr string, limit, perNetwork int, exempt func(netip.Addr) bool, dropped func(string)) (*listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &listener{ln, admission.New(admission.Limits{
		Connections: limit, Waiting: limit, PerNetwork: perNetwork, DisplaceOwn: true, Exempt: exempt,
	}), dropped}, nil
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		tcp, err := l.Listener.Accept()
		if err != nil {
			if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
				l.drop(l.table.Displace(), dropDescriptors)
			}
			return nil, err // net/http tries again after a pause
		}
		c := &conn{TCPConn: tcp.(*net.TCPConn), table: l.table, since: time.Now()}
		evicted, reached, ok := l.table.Admit(&c.entry, remoteAddr(tcp), c.since)
		if ok {
			l.table.Bind(&c.entry, c) // cannot have been evicted: only this goroutine accepts
			l.drop(evicted, reached.String())
			return c, nil
		}
		l.drop(c, reached.String())
	}
}

func (l *listener) drop(c admission.Conn, reason string) {
	if c != nil {
		c.Evict()
		l.dropped(reason)
	}
}

func (l *listener) len() int {
	n, _ := l.table.Counts()
	return n
}

// conn is an open connection. It embeds the TCP connection because net/http needs CloseWrite to refuse a request that
// is still being sent: a reset of the connection would discard the reply.
type conn struct {
	*net.TCPConn
	table *admission.Table
	entry admission.Entry
	since time.Time
}

// Close implements net.Conn.
func (c *conn) Close() error {
	err := c.TCPConn.Close()
	c.table.Closed(&c.entry, time.Now())
	return err
}

// Evict implements admission.Conn.
func (c *conn) Evict() { _ = c.Close() } // it is given up

// received records that the request has been read: from now on it will be served. It returns false if the connection
// has been dropped.
func (c *conn) received() bool { return c.table.Authenticated(&c.entry) }

func remoteAddr(c net.Conn) netip.Addr {
	peer, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return peer.Addr().Unmap()
}

// connKey is the context key for a request's connection.
type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}
