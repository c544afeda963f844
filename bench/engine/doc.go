// Package engine drives thousands of connections of one process from one goroutine, over TCP or WebSocket, plain or
// under TLS. It uses an epoll loop, one read buffer for all connections, and no buffer for an idle one; TLS holds some
// of its own. It handles frames, not their contents.
//
// With a goroutine and two buffers per connection, as in package client, a connection takes 12 KiB; here an idle
// connection takes a few hundred bytes, so that a load test measures the server. The package needs Linux; elsewhere
// New returns an error.
package engine

import (
	"crypto/x509"
	"errors"
	"net/netip"

	"parley/internal/wire"
)

// ErrUnsupported is the error of New on systems without epoll.
var ErrUnsupported = errors.New("engine: the load generator needs Linux (epoll); run it there, against any cluster")

// ErrClosed is passed to Handler.Closed for a connection closed by this side.
var ErrClosed = errors.New("engine: closed by us")

// Handler receives the events of a loop. All methods run on the loop's goroutine and must not block.
type Handler interface {
	// Opened is called when the connection is established and frames may be sent, after the handshakes of TLS and
	// WebSocket.
	Opened(c *Conn)
	// Frame is called with a received frame. body is valid until Frame returns, and the handler may change it.
	Frame(c *Conn, id wire.MsgID, body []byte)
	// Closed is called when the connection has ended or could not be made, once for each Dial.
	Closed(c *Conn, err error)
	// Tick is called in each turn of the loop, after received data has been handled. It returns the latest time, by
	// the loop's clock, at which it must be called next.
	Tick(now int64) (next int64)
}

// Options configure a Loop. The zero value suits a few thousand connections.
type Options struct {
	// Sources is the number of loopback addresses from which connections to the loopback are made; each has 28,000
	// ports. 0 means 64.
	Sources int
	// FirstSource offsets these addresses, so that processes use different ones.
	FirstSource int
	// Roots are the authorities that sign the servers' certificates; nil: those of the system.
	Roots *x509.CertPool
}

// sourceOf returns the i-th source address of a loop: 127.1.0.1 and up.
func (o Options) sourceOf(i int) netip.Addr {
	n := o.Sources
	if n <= 0 {
		n = 64
	}
	k := (o.FirstSource + i%n) % (200 * 250 * 250)
	return netip.AddrFrom4([4]byte{127, byte(1 + k/(250*250)), byte(k / 250 % 250), byte(1 + k%250)})
}
