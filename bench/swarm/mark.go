package swarm

import (
	"strconv"

	"parley/bench/scan"
	"parley/internal/wire"
)

// sentMark is a mark waiting for its answer. Answers arrive in the order of requests.
type sentMark struct{ planned, read int64 }

// maxMarksWaiting bounds the unanswered marks of a user. Texts read meanwhile are marked together with a later one.
const maxMarksWaiting = 4

// mark marks a text as read, for the configured share of texts.
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

// markReply handles a 2147: the stored mark must not be below the one sent.
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
	switch code := scan.Number(body, `"error":`); {
	case code != 0:
		s.st.fail("mark refused " + strconv.FormatInt(code, 10))
	case scan.Number(body, `"read":`) < m.read:
		s.st.fail("a mark that went back")
	default:
		s.st.counters["marks"]++
		if r := s.phase; r != nil && m.planned >= r.measureFrom {
			s.st.hist(HMark).Record(s.loop.Now() - m.planned)
		}
	}
}
