package clientconn

import (
	"errors"
	"sync/atomic"
	"time"

	"parley/internal/commit"
	"parley/internal/session"
	"parley/internal/textrate"
	"parley/internal/wire"
)

// texts is what a connection has on its way to the store, and may have.
type texts struct {
	// What the committer holds of this connection: texts, and the bytes of their requests.
	waiting, bytes atomic.Int32
	// queued is how many 1017 are in the serial queue or being handled. The reader adds to it, and goes by it: nothing may
	// overtake them.
	queued atomic.Int32

	// Written by login before the session is live.
	window int32          // texts that may be unanswered
	texter *textrate.User // what the user may send; nil without a limit

	pair atomic.Uint64 // of the last text that named no thread: the recipient, then the thread in 32 bits; see note
}

// SetWindow bounds the texts that may be unanswered.
func (t *texts) SetWindow(texts int) { t.window = int32(texts) }

// SetUser gives the connection the limit of its user's texts.
func (t *texts) SetUser(u *textrate.User) { t.texter = u }

// named reports whether a request names its thread, and names it if it is to the same recipient as the last one: the
// thread of a pair never changes. Finding another one takes the database.
func (t *texts) named(req *wire.TextRequest) bool {
	if req.ThreadID != 0 || len(req.Texts) == 0 {
		return true
	}
	pair := t.pair.Load()
	if pair == 0 || int32(pair>>32) != req.ToUID {
		return false
	}
	req.ThreadID = int64(uint32(pair))
	return true
}

// note remembers the thread with a recipient, unless it has a larger number than any client can name.
func (t *texts) note(to int32, thread int64) {
	if thread <= wire.MaxInt {
		t.pair.Store(uint64(uint32(to))<<32 | uint64(thread))
	}
}

// appendTexts hands a text request to the committer, within what one connection may have unanswered. Only the granted first
// texts are stored; the sender is to try the others again after retry.
func (s *Conns) appendTexts(c *Conn, req *wire.TextRequest, size, granted int, retry time.Duration) {
	n, b := int32(len(req.Texts)), int32(size)
	texts, bytes := c.waiting.Add(n), c.bytes.Add(b)
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
		c.waiting.Add(-n)
		c.bytes.Add(-b)
		s.replyBusy(c, req, err)
	}
}

// Answer takes the 1018 of a request; see commit.Sender.
func (c *Conn) Answer(frame []byte, req *commit.Request, cork *session.Cork) {
	c.waiting.Add(-int32(len(req.Texts)))
	c.bytes.Add(-int32(req.Bytes))
	_ = c.ReplyCorked(frame, cork) // a dead session reads what became of its texts from the store
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

// refuseBody refuses a 1017 that cannot be read. A stock client never sends one: false closes it.
func (s *Conns) refuseBody(c *Conn, code wire.Code) bool {
	s.d.Metrics.Refusals(code).Inc()
	if !c.Native() {
		return false
	}
	_ = c.Reply(wire.AppendCode(nil, wire.MsgTextRsp, code, 0)) // a dead session needs no answer
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
