package swarm

import (
	"strconv"

	"parley/internal/wire"
)

// sentMark is a mark that waits for its answer. Answers come in the order of requests.
type sentMark struct{ planned, read int64 }

// maxMarksWaiting is how many marks a user has unanswered. What is read meanwhile is marked with a later text.
const maxMarksWaiting = 4

// mark has a user mark a text as read, or not: a share of the texts that come is marked.
func (s *Swarm) mark(i int, thread, seq int64) {
	u := &s.users[i]
	if s.cfg.Marks <= 0 || u.chat == nil || len(u.chat.marks) >= maxMarksWaiting || s.rng.Float64() >= s.cfg.Marks {
		return
	}
	b := append(s.buf[:0], 0, 0, 0, 0)
	b = strconv.AppendInt(append(b, `{"thread_id":`...), thread, 10)
	b = append(strconv.AppendInt(append(b, `,"read":`...), seq, 10), '}')
	u.conn.Send(s.framed(b, wire.MsgMark))
	u.chat.marks = append(u.chat.marks, sentMark{s.loop.Now(), seq})
}

// markReply takes 2147: a mark that is stored is never below the one that was sent.
func (s *Swarm) markReply(i int, body []byte) {
	c := s.users[i].chat
	if c == nil || len(c.marks) == 0 {
		s.st.fail("an unexpected 2147")
		return
	}
	m := c.marks[0]
	if c.marks = c.marks[1:]; len(c.marks) == 0 {
		c.marks = nil
	}
	switch code := number(body, `"error":`); {
	case code != 0:
		s.st.fail("mark refused " + strconv.FormatInt(code, 10))
	case number(body, `"read":`) < m.read:
		s.st.fail("a mark that went back")
	default:
		s.st.counters["marks"]++
		if r := s.phase; r != nil && m.planned >= r.measureFrom {
			s.st.hist(HMark).Record(s.loop.Now() - m.planned)
		}
	}
}
