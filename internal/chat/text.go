package chat

import (
	"context"
	"errors"
	"time"

	"parley/internal/commit"
	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
)

// text takes 1017 from the reader. It answers at once only to refuse; a stored text is answered by the committer, in
// commit order. body is borrowed. false: close the connection.
func (c *conn) text(body []byte) bool {
	req, err := wire.DecodeText(body) // copies what it keeps
	if err != nil {
		return c.refuseBody(wire.CodeOf(err))
	}
	if req.ThreadID == 0 && len(req.Texts) > 0 && !c.fillThread(req) {
		// It names only its recipient, as the first generation does: finding the thread takes the database.
		if !c.enqueue(wire.MsgText, body) {
			c.replyRefused(req, wire.CodeBusy)
		}
		return true
	}
	c.append(req, len(body))
	return true
}

// fillThread names the thread of a text to the same recipient as the last one: the thread of a pair never changes. It
// does not while requests wait, because one of those may be an earlier text.
func (c *conn) fillThread(req *wire.TextRequest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running || c.lastTo != req.ToUID || c.lastThread == 0 {
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
	if req.ThreadID == 0 && len(req.Texts) > 0 {
		c.noteFirstGeneration()
		req.ThreadID, err = c.srv.store.PairThread(ctx, c.UID(), req.ToUID)
		switch {
		case errors.Is(err, store.ErrNotFound):
			// Friends have a thread since their approval.
			c.replyRefused(req, wire.CodeNotAllowed)
			return
		case err != nil:
			c.srv.log.Warn("thread of a pair not read", "err", err)
			c.replyRefused(req, wire.CodeUnavailable)
			return
		}
		c.mu.Lock()
		c.lastTo, c.lastThread = req.ToUID, req.ThreadID
		c.mu.Unlock()
	}
	c.append(req, len(body))
}

// append hands a text request to the committer, within what one connection may have unanswered.
func (c *conn) append(req *wire.TextRequest, size int) {
	n, b := int32(len(req.Texts)), int32(size)
	texts, bytes := c.texts.Add(n), c.bytes.Add(b)
	full := texts > c.window || bytes > int32(c.srv.cfg.Limits.InFlightBytes)
	if full {
		c.srv.metrics.windowFull.Inc()
	}
	var err error
	if !full {
		err = c.srv.commits.Append(&commit.Request{
			From: c, Boot: c.boot, To: req.ToUID, Thread: req.ThreadID, Texts: req.Texts, Bytes: size,
		})
	}
	if full || err != nil {
		c.texts.Add(-n)
		c.bytes.Add(-b)
		c.replyBusy(req, err)
	}
}

// replyBusy refuses texts for which there is no room now, and says when to try again if the committer did.
func (c *conn) replyBusy(req *wire.TextRequest, err error) {
	retry := time.Duration(0)
	if busy, ok := errors.AsType[*commit.BusyError](err); ok {
		retry = busy.RetryAfter
	}
	c.replyRefusedFor(req, wire.CodeBusy, retry)
}

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

// refuseText refuses a 1017 whole, in the form every client bears: error 0, and status 1 for each element.
func (c *conn) refuseText(body []byte, code wire.Code) bool {
	req, err := wire.DecodeText(body)
	if err != nil {
		return c.refuseBody(wire.CodeOf(err))
	}
	c.replyRefused(req, code)
	return true
}

func (c *conn) replyRefused(req *wire.TextRequest, code wire.Code) { c.replyRefusedFor(req, code, 0) }

// replyRefusedFor is replyRefused with the time after which to try again; 0 is none.
func (c *conn) replyRefusedFor(req *wire.TextRequest, code wire.Code, retry time.Duration) {
	c.srv.metrics.refusals(code).Inc()
	sent := make([]wire.SentText, len(req.Texts))
	for i := range req.Texts {
		sent[i] = wire.SentText{UniqueID: req.Texts[i].UniqueID, Content: req.Texts[i].Content, Code: code}
	}
	_ = c.Reply(wire.AppendTextRefusal(nil, c.UID(), req.ToUID, req.ThreadID, sent, int(retry.Milliseconds()))) // a dead session needs no answer
}
