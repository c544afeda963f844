package clientconn

import (
	"bytes"
	"time"

	"parley/internal/bucket"
	"parley/internal/ending"
	"parley/internal/legacy"
	"parley/internal/session"
	"parley/internal/wire"
)

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
	if beats > 0 {
		return c.beat(now, beats)
	}
	return true
}

// beatFrames is as many answers as one write takes.
var beatFrames = bytes.Repeat(wire.HeartbeatFrame, 64)

// beat answers n heartbeats, those of one read with one write as a rule. false: close the connection.
func (c *Conn) beat(now time.Time, n int) bool {
	if !c.rates.cheap(now, n, &c.of.cfg) {
		return c.refuseStream(wire.CodeRateLimited)
	}
	c.of.d.Metrics.Heartbeats.Add(float64(n))
	if stock := c.Stock(); stock != nil {
		_ = stock.Reply(wire.HeartbeatFrame) // dropped when anything waits: the stock client does not read it
		return true
	}
	for frames := n * len(wire.HeartbeatFrame); frames > 0; frames -= len(beatFrames) {
		_ = c.WriteInline(beatFrames[:min(frames, len(beatFrames))]) // a failed write has closed the connection
	}
	return true
}

// dispatch takes one frame from the reader. body is borrowed. false: close the connection.
func (c *Conn) dispatch(now time.Time, id wire.MsgID, body []byte) bool {
	s := c.of
	if c.State() == session.New {
		// Only a login, and only one: what follows it waits behind it.
		if !c.loggingIn && id != wire.MsgLogin {
			s.d.Metrics.BadFrames.Inc()
			return false
		}
		if !c.loggingIn {
			c.loggingIn = true
			s.d.Admission.Busy(&c.entry, now)
		}
		return c.enqueue(request{id: id, body: body})
	}
	if c.State() == session.Dead {
		return true // it was told goodbye; what it still sends is swallowed
	}
	if id == wire.MsgHeartbeat {
		// The login is under way, or its 1006 is just being sent: the answer must come behind it. When too much waits there
		// for one more the client has other signs of life to come.
		c.enqueue(request{id: id})
		return true
	}
	if id == wire.MsgText {
		return s.readText(c, now, body)
	}
	known := id == wire.MsgLogin || s.d.Handlers[id] != nil
	if !c.rates.request(now, &s.cfg) {
		s.d.Metrics.RateLimited.Inc()
		if !c.rates.cheap(now, refusedCosts, &s.cfg) {
			return c.refuseStream(wire.CodeRateLimited)
		}
		return c.refuseFrame(id, wire.CodeRateLimited)
	}
	if !known {
		s.d.Metrics.UnknownIDs.Inc()
		// A newer native client hears that we are older. Under any other id the refusal could be taken for a push of ours.
		return !c.Native() || !id.Free() || c.refuseFrame(id, wire.CodeBadRequest)
	}
	if p := legacy.Of(&c.Session); p != nil && id == wire.MsgThreads {
		p.Asking()
	}
	if !c.enqueue(request{id: id, body: body}) {
		return c.refuseFrame(id, wire.CodeBusy)
	}
	return true
}

// readText takes 1017 from the reader. It answers at once only to refuse; a stored text is answered by the committer, in
// commit order. body is borrowed. false: close the connection.
func (s *Conns) readText(c *Conn, now time.Time, body []byte) bool {
	if c.State() != session.Live {
		if c.enqueue(request{id: wire.MsgText, body: body}) { // behind the login
			return true
		}
		req, err := wire.DecodeText(body)
		if err != nil {
			return s.refuseBody(c, wire.CodeOf(err))
		}
		return s.refuseTexts(c, now, req, wire.CodeBusy, ending.RetryAfter)
	}
	req, err := wire.DecodeText(body) // copies what it keeps
	if err != nil {
		s.d.Metrics.Requests(wire.MsgText).Inc()
		if granted, _ := s.d.Texts.Take(c.texter, 1, now); granted == 0 && !c.rates.cheap(now, refusedCosts, &s.cfg) {
			return c.refuseStream(wire.CodeRateLimited)
		}
		return s.refuseBody(c, wire.CodeOf(err))
	}
	// The reader alone adds to what is queued: when nothing is, no earlier text can be overtaken.
	if c.queued.Load() == 0 && c.named(req) {
		s.d.Metrics.Requests(wire.MsgText).Inc()
		granted, retry := s.d.Texts.Take(c.texter, max(len(req.Texts), 1), now)
		if granted == 0 {
			return s.refuseTexts(c, now, req, wire.CodeRateLimited, retry)
		}
		s.appendTexts(c, req, len(body), granted, retry)
		return true
	}
	if wait, spent := s.d.Texts.Spent(c.texter, now); spent {
		return s.refuseTexts(c, now, req, wire.CodeRateLimited, wait)
	}
	if !c.enqueue(request{id: wire.MsgText, body: body}) {
		return s.refuseTexts(c, now, req, wire.CodeBusy, ending.RetryAfter)
	}
	return true
}

// refuseTexts refuses a request whole. It is the reader's: a client that goes on without looking at the answers is closed.
func (s *Conns) refuseTexts(c *Conn, now time.Time, req *wire.TextRequest, code wire.Code, retry time.Duration) bool {
	if code == wire.CodeRateLimited {
		s.noteLimited(len(req.Texts))
	}
	if !c.rates.cheap(now, refusedCosts, &s.cfg) {
		return c.refuseStream(wire.CodeRateLimited)
	}
	s.replyRefused(c, req, code, retry)
	return true
}

// rates bounds how much a client may ask.
type rates struct {
	requests bucket.Bucket // other than texts
	trifles  bucket.Bucket // of what costs the node something and the client nothing
}

// request charges a request. It reports whether the connection is still within its limit.
func (r *rates) request(now time.Time, cfg *Config) bool {
	rate := float32(cfg.RequestRate)
	return rate <= 0 || r.requests.Take(now, 1, rate, float32(cfg.RequestBurst))
}

// refusedCosts is how many heartbeats a request refused for its rate is worth.
const refusedCosts = 10

// cheap charges n requests that cost the client nothing to send. It reports the same.
func (r *rates) cheap(now time.Time, n int, cfg *Config) bool {
	rate := float32(cfg.HeartbeatRate)
	return rate == 0 || r.trifles.Take(now, n, rate, 4*rate)
}

// refuseStream ends a connection whose input cannot be understood, or borne, any further.
func (c *Conn) refuseStream(code wire.Code) bool {
	reason, retry := "frame refused", time.Duration(0)
	if code == wire.CodeRateLimited {
		reason, retry = "too much at once", ending.RetryAfter
		c.of.d.Metrics.Flooding.Inc()
	} else {
		c.of.d.Metrics.BadFrames.Inc()
	}
	// Before that a login may be writing who this is.
	if st := c.State(); st != session.Pending && st != session.Live || !c.Native() {
		return false
	}
	c.of.d.Ender.Goodbye(&c.Session, code, reason, retry)
	return true
}

// retryMS is the hint that goes with a refusal for load, in milliseconds.
const retryMS = 1000

// refuseFrame refuses a request that reached no handler. A stock client would wait for the answer for ever, so its
// connection closes.
func (c *Conn) refuseFrame(id wire.MsgID, code wire.Code) bool {
	if !c.Native() {
		return false
	}
	if !c.enqueue(request{id: id, refused: code}) {
		c.of.d.Ender.Goodbye(&c.Session, code, "too many requests", ending.RetryAfter)
	}
	return true
}
