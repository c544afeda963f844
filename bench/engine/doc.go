// Package engine drives thousands of TCP connections of one process from one goroutine: an epoll loop, one read buffer
// for all of them, and no buffer for a connection that is idle. It handles frames, not their contents.
//
// A goroutine and two buffers per connection, as in package client, cost 12 KiB; here an idle connection costs a few
// hundred bytes, so that a load test measures the server. It needs Linux; elsewhere New returns an error.
package engine

import (
	"errors"
	"net/netip"

	"parley/internal/wire"
)

// ErrUnsupported is returned by New where there is no epoll.
var ErrUnsupported = errors.New("engine: the load generator needs Linux (epoll); run it there, against any cluster")

// ErrClosed is given to Handler.Closed for a connection that this side closed.
var ErrClosed = errors.New("engine: closed by us")

// Handler is told what happens on a loop. All its methods run on the loop's goroutine and must not block.
type Handler interface {
	// Opened says that the connection is established.
	Opened(c *Conn)
	// Frame brings a frame. body is borrowed until Frame returns.
	Frame(c *Conn, id wire.MsgID, body []byte)
	// Closed says that the connection has ended, or could not be made. It is called once for each Dial.
	Closed(c *Conn, err error)
	// Tick is called at each turn of the loop, after what had arrived was handled. It returns when it wants to be
	// called next at the latest, by the loop's clock.
	Tick(now int64) (next int64)
}

// Options tune a Loop. The zero value is good for a few thousand connections.
type Options struct {
	// Sources is how many loopback addresses connections to the loopback come from; each has its own 28,000 ports.
	// 0 means 64.
	Sources int
	// FirstSource moves them apart between processes.
	FirstSource int
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
