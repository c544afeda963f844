package clientconn

import (
	"time"

	"parley/internal/session"
	"parley/internal/wire"
)

// request is a frame that waits for the one before it.
type request struct {
	id      wire.MsgID
	body    []byte    // owned
	refused wire.Code // not CodeOK: it will not be done, and waits only so that answers keep the order of requests
}

// maxRefused is how many refused requests wait for their turn, in multiples of Config.QueuedFrames; a client that has
// not understood by then is closed.
const maxRefused = 4

// enqueue hands a frame to the serial queue, copying its body. false: a bound was reached.
func (c *Conn) enqueue(id wire.MsgID, body []byte) bool {
	l := &c.of.cfg
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) >= l.QueuedFrames || int(c.queued)+len(body) > l.QueuedBytes {
		c.of.d.Metrics.QueueFull.Inc()
		return false
	}
	if id == wire.MsgText {
		c.textsQueued.Add(1)
	}
	c.appendLocked(request{id: id, body: append([]byte(nil), body...)})
	return true
}

// enqueueRefusal has a request answered with a code when its turn comes. false: too many wait for that already.
func (c *Conn) enqueueRefusal(id wire.MsgID, code wire.Code) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) >= maxRefused*c.of.cfg.QueuedFrames {
		return false
	}
	c.appendLocked(request{id: id, refused: code})
	return true
}

func (c *Conn) appendLocked(r request) {
	c.queue = append(c.queue, r)
	c.queued += int32(len(r.body))
	if !c.running {
		c.running = true
		c.of.d.Go(c.serve)
	}
}

// serve runs the handlers of the queued requests, one after the other, until none waits.
func (c *Conn) serve() {
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
func (c *Conn) awaitReader(id wire.MsgID) {
	l := &c.of.cfg
	if id == wire.MsgText || !c.Native() {
		return // their bounds are the window's, and legacy's
	}
	for began := time.Now(); c.Queued() > l.OutboxBytes/2 && c.State() == session.Live && time.Since(began) < l.WriteTimeout; {
		time.Sleep(readerRest)
	}
}
