package session

import (
	"strconv"

	"parley/internal/wire"
)

// maxGaps bounds the threads in which a session may have missed texts; past it the client is a slow consumer after all.
const maxGaps = 1024

// pushText queues a text for a client that would rather be told of a gap than be closed: what does not fit the outbox is
// dropped, and once the outbox is empty 2104 says from which number on the thread is to be read. Until then the thread's
// later texts are dropped too, so that the client meets no hole it is not told of.
func (s *Session) pushText(p *Push) error {
	s.mu.Lock()
	_, missing := s.gaps[p.Thread]
	if !missing && s.fitsLocked(wire.HeaderLen+len(p.Body)) {
		s.mu.Unlock()
		return s.write(p.ID, p.Body, true, false)
	}
	if s.gone || s.last {
		s.mu.Unlock()
		return ErrClosed
	}
	full := len(s.gaps) >= maxGaps
	if !missing && !full {
		if s.gaps == nil {
			s.gaps = make(map[int64]int64)
		}
		s.gaps[p.Thread] = firstSeq(p)
	}
	s.mu.Unlock()
	if full && !missing {
		s.slow()
		return ErrSlow
	}
	if s.limits.OnGap != nil {
		s.limits.OnGap(s)
	}
	return nil
}

// firstSeq returns the number of the first text of a push.
func firstSeq(p *Push) int64 {
	var body wire.TextPush
	if wire.Decode(p.Body, &body) != nil || len(body.Chats) == 0 {
		return p.Seq
	}
	return body.Chats[0].Seq
}

// appendGapsLocked puts the 2104 frames of all gaps into the outbox, which is empty.
func (s *Session) appendGapsLocked() {
	if s.out == nil {
		s.out = getBuffer()
	}
	var few [64]byte
	for thread, from := range s.gaps {
		body := strconv.AppendInt(append(few[:0], `{"thread_id":`...), thread, 10)
		body = append(strconv.AppendInt(append(body, `,"from_seq":`...), from, 10), '}')
		s.out = append(wire.AppendHeader(s.out, wire.MsgGap, len(body)), body...)
	}
	s.gaps = nil
}
