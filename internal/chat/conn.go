package chat

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
	"parley/internal/textlimit"
	"parley/internal/wire"
)

// conn is one client connection from accept to close.
type conn struct {
	session.Session

	// Fixed after accept.
	srv      *Server
	addr     [16]byte // see remote; a netip.Addr is half as large again
	accepted int64    // unix milliseconds
	entry    admission.Entry

	// Owned by the reader, onRequest.
	split     wire.Splitter
	bucket    bucket.Bucket // of requests other than texts
	patience  bucket.Bucket // of what costs the node something and the client nothing
	loggingIn bool          // a 1005 was taken
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
	window int32           // texts that may be unanswered
	texter *textlimit.User // what the user may send; nil without a limit

	mu     sync.Mutex // guards the following
	queue  []request
	queued int32 // bytes of their bodies
	// The recipient of the last text that named no thread, and the pair's thread.
	lastTo     int32
	lastThread int64
}

// request is a frame that waits for the one before it.
type request struct {
	id      wire.MsgID
	body    []byte    // owned
	refused wire.Code // not CodeOK: it will not be done, and waits only so that answers keep the order of requests
}

// maxRefused is how many refused requests wait for their turn, in multiples of Limits.QueuedFrames; a client that has
// not understood by then is closed.
const maxRefused = 4

// npConn is both halves of netpoll's connection.
type npConn interface {
	netpoll.Connection
	Fd() int
}

// takeBytes is how much of a client is looked at before the next look at how much more has come meanwhile.
const takeBytes = 16 << 10

// onRequest takes all that has arrived. It never waits: what needs I/O goes to the committer or to the serial queue.
//
// netpoll reads on while this runs, however much comes, and can neither be slowed down nor stopped: a client that writes
// faster than its frames can be handled has to go before it has filled the memory.
func (c *conn) onRequest(_ context.Context, np netpoll.Connection) error {
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
		case n > c.srv.cfg.Limits.UnreadBytes:
			c.srv.metrics.flooding.Inc()
			drop(r, n)
			ok = c.refuseStream(wire.CodeRateLimited)
		default:
			data, err := r.Next(min(n, takeBytes))
			ok = err == nil && c.take(data) || c.State() == session.Dead
			_ = r.Release() // the only error is that nothing was read
		}
		if !ok {
			c.Close()
			return nil
		}
	}
}

// swallow drops what a client sends behind its goodbye, so that the close does not become a reset that destroys it. false:
// it is too much; such a client does not read either.
func (c *conn) swallow(r netpoll.Reader, n int) bool {
	drop(r, n)
	c.swallowed += int32(min(n, c.srv.cfg.Limits.UnreadBytes))
	return int(c.swallowed) < c.srv.cfg.Limits.UnreadBytes
}

func drop(r netpoll.Reader, n int) {
	_ = r.Skip(n)   // n is what is there
	_ = r.Release() // the only error is that nothing was read
}

// Remote, Accepted, SetWindow, SetUser and LoggedIn are for the login; see login.Client.
func (c *conn) Remote() netip.Addr { return netip.AddrFrom16(c.addr).Unmap() }

// Accepted returns when the connection was accepted.
func (c *conn) Accepted() time.Time { return time.UnixMilli(c.accepted) }

// SetWindow bounds the texts that may be unanswered.
func (c *conn) SetWindow(texts int) { c.window = int32(texts) }

// SetUser gives the connection the limit of its user's texts.
func (c *conn) SetUser(u *textlimit.User) { c.texter = u }

// LoggedIn makes the connection count as that of a user.
func (c *conn) LoggedIn() { c.srv.admission.Authenticated(&c.entry) }

// recover keeps a panic of a handler from taking the node down: it costs the connection.
func (c *conn) recover() {
	if v := recover(); v != nil {
		c.srv.metrics.panics.Inc()
		c.srv.log.Error("panic in a handler", "uid", c.UID(), "sid", c.SID(), "err", v, "stack", string(debug.Stack()))
		c.Close()
	}
}

// take cuts data into frames and dispatches them. false: the stream is lost, or the connection not worth keeping.
func (c *conn) take(data []byte) bool {
	now := time.Now()
	var beats int
	for len(data) > 0 {
		limit := c.srv.cfg.Limits.MaxFrameBytes
		if c.State() == session.New {
			limit = wire.MaxLoginBody
		}
		id, body, rest, ok, err := c.split.Next(data, limit)
		if err != nil {
			c.srv.metrics.badFrames.Inc()
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
	if beats > 0 && !c.bear(now, beats) {
		return c.refuseStream(wire.CodeRateLimited)
	}
	c.beat(beats)
	return true
}

// refusedCosts is how many heartbeats a request refused for its rate is worth.
const refusedCosts = 10

// bear counts what a client may do without waiting for anything. false: it has done too much of it.
func (c *conn) bear(now time.Time, n int) bool {
	rate := float32(c.srv.cfg.Limits.HeartbeatRate)
	if rate == 0 || c.patience.Take(now, n, rate, 4*rate) {
		return true
	}
	c.srv.metrics.flooding.Inc()
	return false
}

// beatFrames is as many answers as one write takes.
var beatFrames = bytes.Repeat(wire.HeartbeatFrame, 64)

// beat answers n heartbeats, those of one read with one write as a rule.
func (c *conn) beat(n int) {
	if n == 0 {
		return
	}
	c.srv.metrics.heartbeats.Add(float64(n))
	if stock := c.Stock(); stock != nil {
		_ = stock.Reply(wire.HeartbeatFrame) // dropped when anything waits: the stock client does not read it
		return
	}
	for frames := n * len(wire.HeartbeatFrame); frames > 0; frames -= len(beatFrames) {
		_ = c.WriteInline(beatFrames[:min(frames, len(beatFrames))]) // a failed write has closed the connection
	}
}

// refuseStream ends a connection whose input cannot be understood, or borne, any further.
func (c *conn) refuseStream(code wire.Code) bool {
	// Before that a login may be writing who this is.
	if st := c.State(); (st == session.Pending || st == session.Live) && c.Native() {
		reason, retry := "frame refused", time.Duration(0)
		if code == wire.CodeRateLimited {
			reason, retry = "too much at once", ending.RetryAfter
		}
		c.goodbye(code, reason, retry)
		return true
	}
	return false
}

// enqueue hands a frame to the serial queue, copying its body. false: a bound was reached.
func (c *conn) enqueue(id wire.MsgID, body []byte) bool {
	l := &c.srv.cfg.Limits
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) >= l.QueuedFrames || int(c.queued)+len(body) > l.QueuedBytes {
		c.srv.metrics.queueFull.Inc()
		return false
	}
	if id == wire.MsgText {
		c.textsQueued.Add(1)
	}
	c.appendLocked(request{id: id, body: append([]byte(nil), body...)})
	return true
}

// enqueueRefusal has a request answered with a code when its turn comes. false: too many wait for that already.
func (c *conn) enqueueRefusal(id wire.MsgID, code wire.Code) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) >= maxRefused*c.srv.cfg.Limits.QueuedFrames {
		return false
	}
	c.appendLocked(request{id: id, refused: code})
	return true
}

func (c *conn) appendLocked(r request) {
	c.queue = append(c.queue, r)
	c.queued += int32(len(r.body))
	if !c.running {
		c.running = true
		c.srv.spawn(c.work)
	}
}

// work runs the handlers of the queued requests, one after the other, until none waits.
func (c *conn) work() {
	defer c.recover()
	for {
		c.mu.Lock()
		if len(c.queue) == 0 || c.State() == session.Dead {
			c.queue, c.queued, c.running = nil, 0, false
			c.mu.Unlock()
			return
		}
		r := c.queue[0]
		c.queue[0] = request{}
		c.queue = c.queue[1:]
		c.queued -= int32(len(r.body))
		c.mu.Unlock()
		c.awaitReader(r.id)
		c.handle(r)
		if r.id == wire.MsgText {
			c.textsQueued.Add(-1)
		}
	}
}

// readerRest is how often a request that waits for its client to read looks whether it has.
const readerRest = 5 * time.Millisecond

// awaitReader waits until the client has read most of its answers, before the next one is made. A client that asks for
// sixteen pages at once and then reads them must not be taken for one that does not read. The wait ends with the session,
// which a full socket ends after WriteTimeout.
func (c *conn) awaitReader(id wire.MsgID) {
	l := &c.srv.cfg.Limits
	if id == wire.MsgText || !c.Native() {
		return // their bounds are the window's, and legacy's
	}
	for began := time.Now(); c.Queued() > l.OutboxBytes/2 && c.State() == session.Live && time.Since(began) < l.WriteTimeout; {
		time.Sleep(readerRest)
	}
}

// goodbye and finish end the session; see ending.Ender.
func (c *conn) goodbye(code wire.Code, reason string, retry time.Duration) {
	c.srv.ender.Goodbye(&c.Session, code, reason, retry)
}

func (c *conn) finish(last []byte) { c.srv.ender.Finish(&c.Session, last) }

// onClose is netpoll's close callback. It runs among other hang-ups, so it touches memory only.
func (c *conn) onClose(netpoll.Connection) error {
	c.Gone()
	c.srv.ender.Leave(&c.Session)
	c.srv.noteClosed(c)
	return nil
}
