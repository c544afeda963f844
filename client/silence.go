package client

import (
	"math"
	"time"

	"parley/internal/wire"
)

// checkTimeout is how long the answer to a regular heartbeat may take, at most half a period.
const checkTimeout = 10 * time.Second

// answerTimeout is how long a server may send nothing after a request. Then it is sent a heartbeat, and has as long again. Requests may
// take longer, while SQL is slow for example; heartbeats are answered all the same.
const answerTimeout = 5 * time.Second

// reading stands for the time of the last frame while OnEvent or a full queue of events keeps the reader from the next one. That is no
// silence of the server's.
const reading = math.MaxInt64

// heartbeat runs twice a period: it sends one, then looks whether anything came back.
func (c *Conn) heartbeat() {
	period := c.Heartbeat()
	wait := min(period/2, checkTimeout)
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	if c.beatAt == 0 {
		c.checkLocked(wait)
		c.mu.Unlock()
		return
	}
	silent := c.lastRead.Load() < c.beatAt
	c.beatAt = 0
	c.beat.Reset(period - wait)
	c.mu.Unlock()
	if silent {
		c.fail(ErrTimeout)
	}
}

// checkLocked sends a heartbeat. A server that has sent nothing when wait is over is gone.
func (c *Conn) checkLocked(wait time.Duration) {
	c.beatAt = time.Now().UnixNano()
	c.beat.Reset(wait)
	// Even when the queue is full: a frame of 4 bytes more, at most one in flight.
	c.enqueueLocked(wire.MsgHeartbeat, nil)
}

// expectLocked notes that a request was sent, to look soon whether the server still sends. Until the next heartbeat a network that
// swallows everything would pass for a good one.
func (c *Conn) expectLocked() {
	if c.askedAt > c.lastRead.Load() {
		return // already noted
	}
	looking := c.askedAt != 0
	c.askedAt = time.Now().UnixNano()
	switch {
	case looking: // and will find the later time
	case c.doubt == nil:
		c.doubt = time.AfterFunc(answerTimeout, c.look)
	default:
		c.doubt.Reset(answerTimeout)
	}
}

// look runs when a request was sent a while ago.
func (c *Conn) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	asked := c.askedAt
	if c.err != nil || asked <= c.lastRead.Load() {
		c.askedAt = 0
		return
	}
	if left := time.Until(time.Unix(0, asked)) + answerTimeout; left > 0 {
		c.doubt.Reset(left)
		return
	}
	c.askedAt = 0
	if c.beatAt == 0 {
		c.checkLocked(answerTimeout)
	}
}
