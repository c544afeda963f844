package swarm

import (
	"strconv"

	"parley/bench/scan"
	"parley/internal/wire"
)

// marks tell how far a user has read.
type marks struct{ *shared }

// sentMark is a mark waiting for its answer. Answers arrive in the order of requests.
type sentMark struct{ planned, read int64 }

// maxMarksWaiting bounds the unanswered marks of a user. Texts read meanwhile are marked together with a later one.
const maxMarksWaiting = 4

// mark marks a text as read, for the configured share of texts.
func (ms *marks) mark(i int, thread, seq int64) {
	u := &ms.users[i]
	if ms.cfg.Marks <= 0 || u.chat == nil || len(u.chat.marks) >= maxMarksWaiting || ms.rng.Float64() >= ms.cfg.Marks {
		return
	}
	b := append(ms.buf[:0], 0, 0, 0, 0)
	b = strconv.AppendInt(append(b, `{"thread_id":`...), thread, 10)
	b = append(strconv.AppendInt(append(b, `,"read":`...), seq, 10), '}')
	u.conn.Send(ms.framed(b, wire.MsgMark))
	u.chat.marks = append(u.chat.marks, sentMark{ms.loop.Now(), seq})
}

// reply handles a 2147: the stored mark must not be below the one sent.
func (ms *marks) reply(i int, body []byte) {
	c := ms.users[i].chat
	if c == nil || len(c.marks) == 0 {
		ms.st.fail("an unexpected 2147")
		return
	}
	m := c.marks[0]
	if c.marks = c.marks[1:]; len(c.marks) == 0 {
		c.marks = nil
	}
	switch code := scan.Number(body, `"error":`); {
	case code != 0:
		ms.st.fail("mark refused " + strconv.FormatInt(code, 10))
	case scan.Number(body, `"read":`) < m.read:
		ms.st.fail("a mark that went back")
	default:
		ms.st.counters["marks"]++
		if r := ms.phase; r != nil && m.planned >= r.measureFrom {
			ms.st.hist(HMark).Record(ms.loop.Now() - m.planned)
		}
	}
}
