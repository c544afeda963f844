package clientconn

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"parley/internal/ending"
	"parley/internal/legacy"
	"parley/internal/session"
	"parley/internal/wire"
)

var errSecondLogin = errors.New("clientconn: second login on one connection")

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
		return c.enqueue(id, body)
	}
	if c.State() == session.Dead {
		return true // it was told goodbye; what it still sends is swallowed
	}
	if id == wire.MsgHeartbeat {
		// The login is under way, or its 1006 is just being sent: the answer must come behind it. When too much waits there
		// for one more the client has other signs of life to come.
		c.enqueue(id, nil)
		return true
	}
	if id == wire.MsgText {
		return s.readText(c, now, body)
	}
	known := id == wire.MsgLogin || s.d.Handlers[id] != nil
	if r := s.cfg.RequestRate; r > 0 && !c.bucket.Take(now, 1, float32(r), float32(s.cfg.RequestBurst)) {
		s.d.Metrics.RateLimited.Inc()
		if !c.allowCheap(now, refusedCosts) {
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
	if !c.enqueue(id, body) {
		return c.refuseFrame(id, wire.CodeBusy)
	}
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
	if !c.enqueueRefusal(id, code) {
		c.of.d.Ender.Goodbye(&c.Session, code, "too many requests", ending.RetryAfter)
	}
	return true
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
