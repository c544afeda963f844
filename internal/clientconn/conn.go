package clientconn

import (
	"bytes"
	"context"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudwego/netpoll"

	"parley/internal/admission"
	"parley/internal/bucket"
	"parley/internal/ending"
	"parley/internal/session"
	"parley/internal/textrate"
	"parley/internal/wire"
)

// Conn is one client connection from accept to close.
type Conn struct {
	session.Session

	// Fixed after accept, but for addr, which a proxy may say before all else.
	of       *Conns
	addr     [16]byte // see Remote; a netip.Addr is half as large again
	accepted int64    // unix milliseconds
	entry    admission.Entry

	// Owned by the reader, onRequest.
	split     wire.Splitter
	bucket    bucket.Bucket // of requests other than texts
	patience  bucket.Bucket // of what costs the node something and the client nothing
	loggingIn bool          // a 1005 was taken
	proxied   bool          // a header of the PROXY protocol is still to come
	running   bool          // a goroutine works the queue off; guarded by mu, but here it fits between the others

	// What the committer holds of this connection.
	texts atomic.Int32
	bytes atomic.Int32

	// textsQueued is how many 1017 are in the queue or being handled. The reader adds to it, after whom nobody may overtake
	// them.
	textsQueued atomic.Int32

	// Owned by the reader; here it fits between the others.
	swallowed int32 // bytes that came after the goodbye

	// Written by login before the session is live.
	window int32          // texts that may be unanswered
	texter *textrate.User // what the user may send; nil without a limit

	mu     sync.Mutex // guards the following
	queue  []request
	queued int32 // bytes of their bodies
	// The recipient of the last text that named no thread, and the pair's thread.
	lastTo     int32
	lastThread int64
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
			c.of.d.Metrics.Flooding.Inc()
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
	switch s := c.Conn().(type) {
	case *tlsSocket:
		return s.read(c, r)
	case *webSocket:
		if s.tls != nil {
			return s.tls.read(c, r)
		}
	}
	data, err := r.Next(min(n, takeBytes))
	ok := err == nil && c.take(data)
	_ = r.Release() // the only error is that nothing was read
	return ok
}

// take takes bytes as they come from the socket, or out of TLS.
func (c *Conn) take(data []byte) bool {
	if w, ok := c.Conn().(*webSocket); ok {
		return w.receive(c, data)
	}
	return c.Receive(data)
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

// Remote, Accepted, SetWindow, SetUser and LoggedIn are for the login; see login.Client.
func (c *Conn) Remote() netip.Addr { return netip.AddrFrom16(c.addr).Unmap() }

// Accepted returns when the connection was accepted.
func (c *Conn) Accepted() time.Time { return time.UnixMilli(c.accepted) }

// SetWindow bounds the texts that may be unanswered.
func (c *Conn) SetWindow(texts int) { c.window = int32(texts) }

// SetUser gives the connection the limit of its user's texts.
func (c *Conn) SetUser(u *textrate.User) { c.texter = u }

// LoggedIn makes the connection count as that of a user.
func (c *Conn) LoggedIn() { c.of.d.Admission.Authenticated(&c.entry) }

// recover keeps a panic of a handler from taking the node down: it costs the connection.
func (c *Conn) recover() {
	if v := recover(); v != nil {
		c.of.d.Metrics.Panics.Inc()
		c.of.d.Log.Error("panic in a handler", "uid", c.UID(), "sid", c.SID(), "err", v, "stack", string(debug.Stack()))
		c.Close()
	}
}

// Receive cuts what has arrived into frames and dispatches them. false: the stream is lost, or the connection not worth keeping.
func (c *Conn) Receive(data []byte) bool {
	now := time.Now()
	var beats int
	for len(data) > 0 {
		limit := c.of.cfg.MaxFrameBytes
		if c.State() == session.New {
			limit = wire.MaxLoginBody
		}
		id, body, rest, ok, err := c.split.Next(data, limit)
		if err != nil {
			c.of.d.Metrics.BadFrames.Inc()
			return c.refuseStream(wire.CodeBadRequest)
		}
		if !ok {
			break
		}
		data = rest
		c.Seen(now)
		if id == wire.MsgHeartbeat && c.State() == session.Live {
			beats++
			continue
		}
		if !c.dispatch(now, id, body) {
			return false
		}
	}
	if beats > 0 && !c.allowCheap(now, beats) {
		return c.refuseStream(wire.CodeRateLimited)
	}
	c.beat(beats)
	return true
}

// refusedCosts is how many heartbeats a request refused for its rate is worth.
const refusedCosts = 10

// allowCheap charges a request that costs the client nothing to send. It reports whether the connection is still within its
// limit.
func (c *Conn) allowCheap(now time.Time, n int) bool {
	rate := float32(c.of.cfg.HeartbeatRate)
	if rate == 0 || c.patience.Take(now, n, rate, 4*rate) {
		return true
	}
	c.of.d.Metrics.Flooding.Inc()
	return false
}

// beatFrames is as many answers as one write takes.
var beatFrames = bytes.Repeat(wire.HeartbeatFrame, 64)

// beat answers n heartbeats, those of one read with one write as a rule.
func (c *Conn) beat(n int) {
	if n == 0 {
		return
	}
	c.of.d.Metrics.Heartbeats.Add(float64(n))
	if stock := c.Stock(); stock != nil {
		_ = stock.Reply(wire.HeartbeatFrame) // dropped when anything waits: the stock client does not read it
		return
	}
	for frames := n * len(wire.HeartbeatFrame); frames > 0; frames -= len(beatFrames) {
		_ = c.WriteInline(beatFrames[:min(frames, len(beatFrames))]) // a failed write has closed the connection
	}
}

// refuseStream ends a connection whose input cannot be understood, or borne, any further.
func (c *Conn) refuseStream(code wire.Code) bool {
	// Before that a login may be writing who this is.
	if st := c.State(); (st == session.Pending || st == session.Live) && c.Native() {
		reason, retry := "frame refused", time.Duration(0)
		if code == wire.CodeRateLimited {
			reason, retry = "too much at once", ending.RetryAfter
		}
		c.of.d.Ender.Goodbye(&c.Session, code, reason, retry)
		return true
	}
	return false
}

// onClose is netpoll's close callback. It runs among other hang-ups, so it touches memory only.
func (c *Conn) onClose(netpoll.Connection) error {
	c.Gone()
	c.of.d.Ender.Leave(&c.Session)
	c.of.forget(c)
	return nil
}

// Evict closes the connection for the admission table.
func (c *Conn) Evict() { c.Close() }

// idle reports whether the connection is logged in and has nothing unanswered.
func (c *Conn) idle() bool {
	if c.State() != session.Live {
		return false
	}
	c.mu.Lock()
	running := c.running
	c.mu.Unlock()
	return !running && c.texts.Load() == 0
}

// Unanswered returns how many texts and how many other requests wait for their answer.
func (c *Conn) Unanswered() (texts, requests int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int(c.texts.Load()), len(c.queue)
}
