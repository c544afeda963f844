package chat

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"parley/internal/ending"
	"parley/internal/session"
	"parley/internal/wire"
)

var errSecondLogin = errors.New("chat: second login on one connection")

// dispatch takes one frame from the reader. body is borrowed. false: close the connection.
func (c *conn) dispatch(now time.Time, id wire.MsgID, body []byte) bool {
	s := c.srv
	if c.State() == session.New {
		// Only a login, and only one: what follows it waits behind it.
		if !c.loggingIn && id != wire.MsgLogin {
			s.metrics.badFrames.Inc()
			return false
		}
		if !c.loggingIn {
			c.loggingIn = true
			s.admission.Busy(&c.entry, now)
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
		return c.text(now, body)
	}
	known := id == wire.MsgLogin || s.handlers[id] != nil
	if r := s.cfg.Limits.RequestRate; r > 0 && !c.bucket.Take(now, 1, float32(r), float32(s.cfg.Limits.RequestBurst)) {
		s.metrics.rateLimited.Inc()
		if !c.bear(now, refusedCosts) {
			return c.refuseStream(wire.CodeRateLimited)
		}
		return c.refuseFrame(id, wire.CodeRateLimited)
	}
	if !known {
		s.metrics.unknownIDs.Inc()
		// A newer native client hears that we are older. Under any other id the refusal could be taken for a push of ours.
		return !c.Native() || !id.Free() || c.refuseFrame(id, wire.CodeBadRequest)
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
func (c *conn) refuseFrame(id wire.MsgID, code wire.Code) bool {
	if !c.Native() {
		return false
	}
	if !c.enqueueRefusal(id, code) {
		c.goodbye(code, "too many requests", ending.RetryAfter)
	}
	return true
}

// handle runs the handler of one request and turns its error into what the client can bear.
func (c *conn) handle(r request) {
	s := c.srv
	if r.id == wire.MsgLogin && c.State() == session.New && r.refused == wire.CodeOK {
		s.metrics.requests(r.id).Inc()
		s.logins.Login(c, &c.Session, r.body)
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Limits.RequestTimeout)
	defer cancel()
	began := time.Now()
	var err error
	switch h := s.handlers[r.id]; {
	case r.refused != wire.CodeOK:
		err = wire.Refuse(r.refused, nil)
	case r.id == wire.MsgLogin:
		err = wire.Fatal(wire.CodeBadRequest, errSecondLogin)
	case c.State() == session.New:
		return // the login before it failed
	case r.id == wire.MsgText:
		c.textFromQueue(ctx, r.body)
	case h != nil:
		err = h(ctx, &c.Session, r.body)
	case r.id == wire.MsgHeartbeat:
		s.metrics.heartbeats.Inc()
		_ = c.Reply(wire.HeartbeatFrame) // a dead session needs no answer
		return
	default:
		s.metrics.unknownIDs.Inc()
	}
	s.metrics.requests(r.id).Inc()
	s.metrics.handlerSeconds.Observe(time.Since(began).Seconds())
	if err != nil {
		c.refuse(ctx, r.id, err)
	}
}

// refuse answers a request that failed, logs why once, and closes where the client could only hang.
func (c *conn) refuse(ctx context.Context, id wire.MsgID, err error) {
	code := wire.CodeOr(err, wire.CodeUnavailable)
	level := slog.LevelDebug // the client's own doing
	switch code {
	case wire.CodeInternal:
		level = slog.LevelError
	case wire.CodeUnavailable:
		level = slog.LevelWarn
	}
	c.srv.metrics.refusals(code).Inc()
	c.srv.log.LogAttrs(ctx, level, "request refused", slog.String("sid", c.SID().String()), slog.Int("msg", int(id)),
		slog.Int("code", int(code)), slog.Any("err", err))

	e, ok := errors.AsType[*wire.Error](err)
	switch fatal := ok && e.Fatal; {
	case fatal && c.Native():
		c.goodbye(code, "request refused", 0)
	case fatal, !c.Native() && (id == wire.MsgThreads || id == wire.MsgHistory):
		// A stock client that gets an error here shows its loading window for ever; without a connection it logs in again.
		c.finish(nil)
	default:
		retry := 0
		if code == wire.CodeUnavailable || code == wire.CodeBusy || code == wire.CodeRateLimited {
			retry = retryMS
		}
		_ = c.Reply(wire.AppendCode(nil, id+1, code, retry))
	}
}
