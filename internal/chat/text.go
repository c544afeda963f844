package chat

import (
	"context"
	"errors"
	"time"

	"parley/internal/commit"
	"parley/internal/ending"
	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
)

// text takes 1017 from the reader. It answers at once only to refuse; a stored text is answered by the committer, in
// commit order. body is borrowed. false: close the connection.
func (c *conn) text(now time.Time, body []byte) bool {
	s := c.srv
	if c.State() != session.Live {
		if c.enqueue(wire.MsgText, body) { // behind the login
			return true
		}
		return c.refuseText(now, body, wire.CodeBusy, retryMS)
	}
	req, err := wire.DecodeText(body) // copies what it keeps
	if err != nil {
		s.metrics.requests(wire.MsgText).Inc()
		if granted, _ := s.texts.Take(c.texter, 1, now); granted == 0 && !c.bear(now, refusedCosts) {
			return c.refuseStream(wire.CodeRateLimited)
		}
		return c.refuseBody(wire.CodeOf(err))
	}
	// The reader alone adds to what is queued: when nothing is, no earlier text can be overtaken.
	if c.textsQueued.Load() == 0 && c.named(req) {
		s.metrics.requests(wire.MsgText).Inc()
		granted, retry := s.texts.Take(c.texter, max(len(req.Texts), 1), now)
		if granted == 0 {
			return c.refuseTexts(now, req, wire.CodeRateLimited, retry)
		}
		c.append(req, len(body), granted, retry)
		return true
	}
	if wait, spent := s.texts.Spent(c.texter, now); spent {
		return c.refuseTexts(now, req, wire.CodeRateLimited, wait)
	}
	if !c.enqueue(wire.MsgText, body) {
		return c.refuseTexts(now, req, wire.CodeBusy, ending.RetryAfter)
	}
	return true
}

// named reports whether a request names its thread, and names it if it is to the same recipient as the last one: the
// thread of a pair never changes. Finding another one takes the database.
func (c *conn) named(req *wire.TextRequest) bool {
	if req.ThreadID != 0 || len(req.Texts) == 0 {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lastTo != req.ToUID || c.lastThread == 0 {
		return false
	}
	req.ThreadID = c.lastThread
	return true
}

// textFromQueue takes a 1017 that could not go straight to the committer.
func (c *conn) textFromQueue(ctx context.Context, body []byte) {
	req, err := wire.DecodeText(body)
	if err != nil {
		if !c.refuseBody(wire.CodeOf(err)) {
			c.finish(nil)
		}
		return
	}
	granted, retry := c.srv.texts.Take(c.texter, max(len(req.Texts), 1), time.Now())
	if granted == 0 {
		c.noteLimited(len(req.Texts))
		c.replyRefused(req, wire.CodeRateLimited, retry)
		return
	}
	if req.ThreadID == 0 && len(req.Texts) > 0 {
		c.noteFirstGeneration()
		req.ThreadID, err = c.srv.store.PairThread(ctx, c.UID(), req.ToUID)
		switch {
		case errors.Is(err, store.ErrNotFound):
			// Friends have a thread since their approval.
			c.replyRefused(req, wire.CodeNotAllowed, 0)
			return
		case err != nil:
			c.srv.log.Warn("thread of a pair not read", "err", err)
			c.replyRefused(req, wire.CodeUnavailable, ending.RetryAfter)
			return
		}
		c.mu.Lock()
		c.lastTo, c.lastThread = req.ToUID, req.ThreadID
		c.mu.Unlock()
	}
	c.append(req, len(body), granted, retry)
}

// append hands a text request to the committer, within what one connection may have unanswered. Only the granted first
// texts are stored; the sender is to try the others again after retry.
func (c *conn) append(req *wire.TextRequest, size, granted int, retry time.Duration) {
	n, b := int32(len(req.Texts)), int32(size)
	texts, bytes := c.texts.Add(n), c.bytes.Add(b)
	full := texts > c.window || bytes > int32(c.srv.cfg.Limits.InFlightBytes)
	if full {
		c.srv.metrics.windowFull.Inc()
	}
	r := &commit.Request{From: c, Boot: c.Boot(), To: req.ToUID, Thread: req.ThreadID, Texts: req.Texts, Bytes: size}
	if over := len(req.Texts) - granted; over > 0 {
		c.noteLimited(over)
		r.Over, r.RetryMS = over, millis(retry)
	}
	var err error
	if !full {
		err = c.srv.commits.Append(r)
	}
	if full || err != nil {
		c.texts.Add(-n)
		c.bytes.Add(-b)
		c.replyBusy(req, err)
	}
}

// replyBusy refuses texts for which there is no room now, and says when to try again.
func (c *conn) replyBusy(req *wire.TextRequest, err error) {
	retry := retryMS * time.Millisecond
	if busy, ok := errors.AsType[*commit.BusyError](err); ok {
		retry = busy.RetryAfter
	}
	c.replyRefused(req, wire.CodeBusy, retry)
}

func (c *conn) noteLimited(texts int) { c.srv.metrics.textsLimited.Add(float64(texts)) }

// millis rounds up, so that a client that waits as long does not come too early.
func millis(d time.Duration) int { return int((d + time.Millisecond - 1) / time.Millisecond) }

// Answer takes the 1018 of a request; see commit.Sender.
func (c *conn) Answer(frame []byte, req *commit.Request, cork *session.Cork) {
	c.texts.Add(-int32(len(req.Texts)))
	c.bytes.Add(-int32(req.Bytes))
	_ = c.ReplyCorked(frame, cork) // a dead session reads what became of its texts from the store
}

// refuseBody refuses a 1017 that cannot be read. A stock client never sends one: false closes it.
func (c *conn) refuseBody(code wire.Code) bool {
	c.srv.metrics.refusals(code).Inc()
	if !c.Native() {
		return false
	}
	_ = c.Reply(wire.AppendCode(nil, wire.MsgTextRsp, code, 0)) // a dead session needs no answer
	return true
}

// refuseText refuses a 1017 whole.
func (c *conn) refuseText(now time.Time, body []byte, code wire.Code, retryMS int) bool {
	req, err := wire.DecodeText(body)
	if err != nil {
		return c.refuseBody(wire.CodeOf(err))
	}
	return c.refuseTexts(now, req, code, time.Duration(retryMS)*time.Millisecond)
}

// refuseTexts refuses a request whole. It is the reader's: a client that goes on without looking at the answers is closed.
func (c *conn) refuseTexts(now time.Time, req *wire.TextRequest, code wire.Code, retry time.Duration) bool {
	if code == wire.CodeRateLimited {
		c.noteLimited(len(req.Texts))
	}
	if !c.bear(now, refusedCosts) {
		return c.refuseStream(wire.CodeRateLimited)
	}
	c.replyRefused(req, code, retry)
	return true
}

// replyRefused answers with every text refused, in the form every client bears: error 0, and status 1 for each element.
func (c *conn) replyRefused(req *wire.TextRequest, code wire.Code, retry time.Duration) {
	c.srv.metrics.refusals(code).Inc()
	sent := make([]wire.SentText, len(req.Texts))
	for i := range req.Texts {
		sent[i] = wire.SentText{UniqueID: req.Texts[i].UniqueID, Content: req.Texts[i].Content, Code: code}
	}
	_ = c.Reply(wire.AppendTextRefusal(nil, c.UID(), req.ToUID, req.ThreadID, sent, millis(retry))) // a dead session needs no answer
}
