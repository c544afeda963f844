package clientconn

import (
	"context"
	"runtime/debug"

	"github.com/cloudwego/netpoll"

	"parley/internal/session"
	"parley/internal/wire"
)

// Conn is one client connection from accept to close.
type Conn struct {
	session.Session

	of *Conns // fixed after accept
	origin

	// Owned by the reader, onRequest.
	split     wire.Splitter
	rates     rates
	swallowed int32 // bytes that came after the goodbye
	loggingIn bool  // a 1005 was taken
	proxied   bool  // a header of the PROXY protocol is still to come, which may change where it comes from

	texts
	queue queue
}

// takeBytes is how much of a client is looked at before the next look at how much more has come meanwhile.
const takeBytes = 16 << 10

// onRequest takes all that has arrived. It never waits: what needs I/O goes to the committer or to the serial queue.
//
// netpoll reads on while this runs, however much comes, and can neither be slowed down nor stopped: a client that writes
// faster than its frames can be handled has to go before it has filled the memory.
func (c *Conn) onRequest(_ context.Context, np netpoll.Connection) error {
	defer c.recover()
	r := np.Reader()
	for {
		n := r.Len()
		if n == 0 {
			return nil
		}
		ok := false
		switch {
		case c.State() == session.Dead:
			if !c.swallow(r, n) {
				c.Abort()
				return nil
			}
			ok = true
		case c.proxied:
			ok = c.readProxyHeader(r)
		case n > c.of.cfg.UnreadBytes:
			drop(r, n)
			ok = c.refuseStream(wire.CodeRateLimited)
		default:
			ok = c.read(r, n) || c.State() == session.Dead
		}
		if !ok {
			c.Close()
			return nil
		}
	}
}

// read takes some of the n bytes that have arrived.
func (c *Conn) read(r netpoll.Reader, n int) bool {
	var web *webSocket
	switch s := c.Conn().(type) {
	case *tlsSocket:
		return s.read(c, r, nil)
	case *webSocket:
		if s.tls != nil {
			return s.tls.read(c, r, s)
		}
		web = s
	}
	ok := false
	switch data, err := r.Next(min(n, takeBytes)); {
	case err != nil:
	case web != nil:
		ok = web.receive(c, data)
	default:
		ok = c.Receive(data)
	}
	_ = r.Release() // the only error is that nothing was read
	return ok
}

// swallow drops what a client sends behind its goodbye, so that the close does not become a reset that destroys it. false:
// it is too much; such a client does not read either.
func (c *Conn) swallow(r netpoll.Reader, n int) bool {
	drop(r, n)
	c.swallowed += int32(min(n, c.of.cfg.UnreadBytes))
	return int(c.swallowed) < c.of.cfg.UnreadBytes
}

func drop(r netpoll.Reader, n int) {
	_ = r.Skip(n)   // n is what is there
	_ = r.Release() // the only error is that nothing was read
}

// recover keeps a panic of a handler from taking the node down: it costs the connection.
func (c *Conn) recover() {
	if v := recover(); v != nil {
		c.of.d.Metrics.Panics.Inc()
		c.of.d.Log.Error("panic in a handler", "uid", c.UID(), "sid", c.SID(), "err", v, "stack", string(debug.Stack()))
		c.Close()
	}
}

// LoggedIn makes the connection count as that of a user.
func (c *Conn) LoggedIn() { c.of.d.Admission.Authenticated(&c.entry) }

// Evict closes the connection for the admission table.
func (c *Conn) Evict() { c.Close() }

// Unanswered returns how many texts and how many other requests wait for their answer.
func (c *Conn) Unanswered() (texts, requests int) {
	waiting, _ := c.queue.state()
	return int(c.waiting.Load()), waiting
}

// idle reports whether the connection is logged in and has nothing unanswered.
func (c *Conn) idle() bool {
	_, running := c.queue.state()
	return c.State() == session.Live && !running && c.waiting.Load() == 0
}
