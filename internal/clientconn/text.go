package clientconn

import (
	"context"
	"errors"
	"time"

	"parley/internal/commit"
	"parley/internal/ending"
	"parley/internal/legacy"
	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
)

// readText takes 1017 from the reader. It answers at once only to refuse; a stored text is answered by the committer, in
// commit order. body is borrowed. false: close the connection.
func (s *Conns) readText(c *Conn, now time.Time, body []byte) bool {
	if c.State() != session.Live {
		if c.enqueue(wire.MsgText, body) { // behind the login
			return true
		}
		return s.refuseText(c, now, body, wire.CodeBusy, retryMS)
	}
	req, err := wire.DecodeText(body) // copies what it keeps
	if err != nil {
		s.d.Metrics.Requests(wire.MsgText).Inc()
		if granted, _ := s.d.Texts.Take(c.texter, 1, now); granted == 0 && !c.allowCheap(now, refusedCosts) {
			return c.refuseStream(wire.CodeRateLimited)
		}
		return s.refuseBody(c, wire.CodeOf(err))
	}
	// The reader alone adds to what is queued: when nothing is, no earlier text can be overtaken.
	if c.textsQueued.Load() == 0 && s.named(c, req) {
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
	if !c.enqueue(wire.MsgText, body) {
		return s.refuseTexts(c, now, req, wire.CodeBusy, ending.RetryAfter)
	}
	return true
}

// named reports whether a request names its thread, and names it if it is to the same recipient as the last one: the
// thread of a pair never changes. Finding another one takes the database.
func (s *Conns) named(c *Conn, req *wire.TextRequest) bool {
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
		c.mu.Lock()
		c.lastTo, c.lastThread = req.ToUID, req.ThreadID
		c.mu.Unlock()
	}
	s.appendTexts(c, req, len(body), granted, retry)
}

// appendTexts hands a text request to the committer, within what one connection may have unanswered. Only the granted first
// texts are stored; the sender is to try the others again after retry.
func (s *Conns) appendTexts(c *Conn, req *wire.TextRequest, size, granted int, retry time.Duration) {
	n, b := int32(len(req.Texts)), int32(size)
	texts, bytes := c.texts.Add(n), c.bytes.Add(b)
	full := texts > c.window || bytes > int32(s.cfg.InFlightBytes)
	if full {
		s.d.Metrics.WindowFull.Inc()
	}
	r := &commit.Request{From: c, Boot: c.Boot(), To: req.ToUID, Thread: req.ThreadID, Texts: req.Texts, Bytes: size}
	if over := len(req.Texts) - granted; over > 0 {
		s.noteLimited(over)
		r.Over, r.RetryMS = over, millis(retry)
	}
	var err error
	if !full {
		err = s.d.Append(r)
	}
	if full || err != nil {
		c.texts.Add(-n)
		c.bytes.Add(-b)
		s.replyBusy(c, req, err)
	}
}

// replyBusy refuses texts for which there is no room now, and says when to try again.
func (s *Conns) replyBusy(c *Conn, req *wire.TextRequest, err error) {
	retry := retryMS * time.Millisecond
	if busy, ok := errors.AsType[*commit.BusyError](err); ok {
		retry = busy.RetryAfter
	}
	s.replyRefused(c, req, wire.CodeBusy, retry)
}

func (s *Conns) noteLimited(texts int) { s.d.Metrics.TextsLimited.Add(float64(texts)) }

// millis rounds up, so that a client that waits as long does not come too early.
func millis(d time.Duration) int { return int((d + time.Millisecond - 1) / time.Millisecond) }

// Answer takes the 1018 of a request; see commit.Sender.
func (c *Conn) Answer(frame []byte, req *commit.Request, cork *session.Cork) {
	c.texts.Add(-int32(len(req.Texts)))
	c.bytes.Add(-int32(req.Bytes))
	_ = c.ReplyCorked(frame, cork) // a dead session reads what became of its texts from the store
}

// refuseBody refuses a 1017 that cannot be read. A stock client never sends one: false closes it.
func (s *Conns) refuseBody(c *Conn, code wire.Code) bool {
	s.d.Metrics.Refusals(code).Inc()
	if !c.Native() {
		return false
	}
	_ = c.Reply(wire.AppendCode(nil, wire.MsgTextRsp, code, 0)) // a dead session needs no answer
	return true
}

// refuseText refuses a 1017 whole.
func (s *Conns) refuseText(c *Conn, now time.Time, body []byte, code wire.Code, retryMS int) bool {
	req, err := wire.DecodeText(body)
	if err != nil {
		return s.refuseBody(c, wire.CodeOf(err))
	}
	return s.refuseTexts(c, now, req, code, time.Duration(retryMS)*time.Millisecond)
}

// refuseTexts refuses a request whole. It is the reader's: a client that goes on without looking at the answers is closed.
func (s *Conns) refuseTexts(c *Conn, now time.Time, req *wire.TextRequest, code wire.Code, retry time.Duration) bool {
	if code == wire.CodeRateLimited {
		s.noteLimited(len(req.Texts))
	}
	if !c.allowCheap(now, refusedCosts) {
		return c.refuseStream(wire.CodeRateLimited)
	}
	s.replyRefused(c, req, code, retry)
	return true
}

// replyRefused answers with every text refused, in the form every client bears: error 0, and status 1 for each element.
func (s *Conns) replyRefused(c *Conn, req *wire.TextRequest, code wire.Code, retry time.Duration) {
	s.d.Metrics.Refusals(code).Inc()
	sent := make([]wire.SentText, len(req.Texts))
	for i := range req.Texts {
		sent[i] = wire.SentText{UniqueID: req.Texts[i].UniqueID, Content: req.Texts[i].Content, Code: code}
	}
	_ = c.Reply(wire.AppendTextRefusal(nil, c.UID(), req.ToUID, req.ThreadID, sent, millis(retry))) // a dead session needs no answer
}

// noteFirstGeneration marks a stock client that names no thread in its texts.
func (s *Conns) noteFirstGeneration(c *Conn) {
	quiet := s.cfg.QuietTimeout
	if p := legacy.Of(&c.Session); p != nil && c.Silence() != quiet {
		c.SetSilence(quiet)
		p.FirstGeneration()
	}
}
