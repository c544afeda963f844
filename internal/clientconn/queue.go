package clientconn

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"parley/internal/ending"
	"parley/internal/legacy"
	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
)

var errSecondLogin = errors.New("clientconn: second login on one connection")

// request is a frame that waits for the one before it.
type request struct {
	id      wire.MsgID
	body    []byte    // owned, once it is in the queue
	refused wire.Code // not CodeOK: it will not be done, and waits only so that answers keep the order of requests
}

// queue is what waits for the one goroutine that runs the handlers of a connection.
type queue struct {
	mu       sync.Mutex // guards the following
	requests []request
	bytes    int32 // of their bodies
	running  bool  // a goroutine works the queue off
}

// maxRefused is how many refused requests wait for their turn, in multiples of Config.QueuedFrames; a client that has
// not understood by then is closed.
const maxRefused = 4

// put appends a request, whose body it copies. It returns false if a bound is reached. start: the queue is to be worked off
// from now on.
func (q *queue) put(r request, cfg *Config) (ok, start bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	frames := cfg.QueuedFrames
	if r.refused != wire.CodeOK {
		frames *= maxRefused
	}
	if len(q.requests) >= frames || int(q.bytes)+len(r.body) > cfg.QueuedBytes {
		return false, false
	}
	r.body = append([]byte(nil), r.body...)
	q.requests = append(q.requests, r)
	q.bytes += int32(len(r.body))
	start = !q.running
	q.running = true
	return true, start
}

// next removes the first request. It ends the work if there is none, or none is to be answered any more.
func (q *queue) next(dead bool) (_ request, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.requests) == 0 || dead {
		q.requests, q.bytes, q.running = nil, 0, false
		return request{}, false
	}
	r := q.requests[0]
	q.requests[0] = request{}
	q.requests = q.requests[1:]
	q.bytes -= int32(len(r.body))
	return r, true
}

// state returns how many requests wait, and whether one is being handled.
func (q *queue) state() (waiting int, running bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.requests), q.running
}

// enqueue hands a frame to the serial queue. false: a bound was reached.
func (c *Conn) enqueue(r request) bool {
	ok, start := c.queue.put(r, &c.of.cfg)
	if ok && r.id == wire.MsgText {
		c.queued.Add(1)
	}
	if start {
		c.of.d.Go(c.serve)
	}
	if !ok && r.refused == wire.CodeOK {
		c.of.d.Metrics.QueueFull.Inc()
	}
	return ok
}

// serve runs the handlers of the queued requests, one after the other, until none waits.
func (c *Conn) serve() {
	defer c.recover()
	for {
		r, ok := c.queue.next(c.State() == session.Dead)
		if !ok {
			return
		}
		c.awaitReader(r.id)
		c.handle(r)
		if r.id == wire.MsgText {
			c.queued.Add(-1)
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

// handle runs the handler of one request and turns its error into what the client can bear.
func (c *Conn) handle(r request) {
	s := c.of
	if r.id == wire.MsgLogin && c.State() == session.New && r.refused == wire.CodeOK {
		s.d.Metrics.Requests(r.id).Inc()
		s.d.Login(c, r.body)
		return
	}
	ctx, cancel := context.WithTimeout(s.d.Context, s.cfg.RequestTimeout)
	defer cancel()
	began := time.Now()
	var err error
	switch h := s.d.Handlers[r.id]; {
	case r.refused != wire.CodeOK:
		err = wire.Refuse(r.refused, nil)
	case r.id == wire.MsgLogin:
		err = wire.Fatal(wire.CodeBadRequest, errSecondLogin)
	case c.State() == session.New:
		return // the login before it failed
	case r.id == wire.MsgText:
		s.textFromQueue(ctx, c, r.body)
	case h != nil:
		err = h(ctx, &c.Session, r.body)
	case r.id == wire.MsgHeartbeat:
		s.d.Metrics.Heartbeats.Inc()
		_ = c.Reply(wire.HeartbeatFrame) // a dead session needs no answer
		return
	default:
		s.d.Metrics.UnknownIDs.Inc()
	}
	s.d.Metrics.Requests(r.id).Inc()
	s.d.Metrics.HandlerSeconds.Observe(time.Since(began).Seconds())
	if err != nil {
		c.refuse(ctx, r.id, err)
	}
}

// refuse answers a request that failed, logs why once, and closes where the client could only hang.
func (c *Conn) refuse(ctx context.Context, id wire.MsgID, err error) {
	code := wire.CodeOr(err, wire.CodeUnavailable)
	level := slog.LevelDebug // the client's own doing
	switch code {
	case wire.CodeInternal:
		level = slog.LevelError
	case wire.CodeUnavailable:
		level = slog.LevelWarn
	}
	c.of.d.Metrics.Refusals(code).Inc()
	c.of.d.Log.LogAttrs(ctx, level, "request refused", slog.String("sid", c.SID().String()), slog.Int("msg", int(id)),
		slog.Int("code", int(code)), slog.Any("err", err))

	e, ok := errors.AsType[*wire.Error](err)
	switch fatal := ok && e.Fatal; {
	case id == wire.MsgTyping: // it has no reply
	case fatal && c.Native():
		c.of.d.Ender.Goodbye(&c.Session, code, "request refused", 0)
	case fatal, !c.Native() && (id == wire.MsgThreads || id == wire.MsgHistory):
		// A stock client that gets an error here shows its loading window for ever; without a connection it logs in again.
		c.of.d.Ender.Finish(&c.Session, nil)
	default:
		retry := 0
		if code == wire.CodeUnavailable || code == wire.CodeBusy || code == wire.CodeRateLimited {
			retry = retryMS
		}
		_ = c.Reply(wire.AppendCode(nil, id+1, code, retry))
	}
}

// textFromQueue takes a 1017 that could not go straight to the committer.
func (s *Conns) textFromQueue(ctx context.Context, c *Conn, body []byte) {
	req, err := wire.DecodeText(body)
	if err != nil {
		if !s.refuseBody(c, wire.CodeOf(err)) {
			s.d.Ender.Finish(&c.Session, nil)
		}
		return
	}
	granted, retry := s.d.Texts.Take(c.texter, max(len(req.Texts), 1), time.Now())
	if granted == 0 {
		s.noteLimited(len(req.Texts))
		s.replyRefused(c, req, wire.CodeRateLimited, retry)
		return
	}
	if req.ThreadID == 0 && len(req.Texts) > 0 {
		s.noteFirstGeneration(c)
		req.ThreadID, err = s.d.Threads.OfPair(ctx, c.UID(), req.ToUID)
		switch {
		case errors.Is(err, store.ErrNotFound):
			// Friends have a thread since their approval.
			s.replyRefused(c, req, wire.CodeNotAllowed, 0)
			return
		case err != nil:
			s.d.Log.Warn("thread of a pair not read", "err", err)
			s.replyRefused(c, req, wire.CodeUnavailable, ending.RetryAfter)
			return
		}
		c.note(req.ToUID, req.ThreadID)
	}
	s.appendTexts(c, req, len(body), granted, retry)
}

// noteFirstGeneration marks a stock client that names no thread in its texts.
func (s *Conns) noteFirstGeneration(c *Conn) {
	quiet := s.cfg.QuietTimeout
	if p := legacy.Of(&c.Session); p != nil && c.Silence() != quiet {
		c.SetSilence(quiet)
		p.FirstGeneration()
	}
}
