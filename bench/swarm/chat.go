package swarm

import (
	"bytes"
	"strconv"

	"parley/bench/ledger"
	"parley/bench/scan"
	"parley/internal/wire"
)

// chatter is the additional state of a user who chats.
type chatter struct {
	side     int // in the book
	partner  int
	thread   int64
	cursor   int64  // last number of the thread before the run
	next     uint32 // counter of the next text to write; later planned texts wait for the window
	planned  uint32
	inflight int
	marks    []sentMark // unanswered marks
	// The following are for reading the history.
	reading bool
	asked   int64
}

// window bounds the unanswered texts of a user; the server grants 64.
const window = 64

// plan records a text that is due, and writes it if the window permits.
func (s *Swarm) plan(i int, planned int64) {
	c := s.users[i].chat
	s.book.Plan(c.side, planned)
	c.planned++
	s.write(i)
}

// write sends the planned texts that the window permits. The others are sent later, never dropped.
func (s *Swarm) write(i int) {
	u := &s.users[i]
	c := u.chat
	for u.state == in && c.inflight < window && c.next < c.planned {
		s.sendText(i, c.next)
		c.next++
	}
}

func (s *Swarm) sendText(i int, counter uint32) {
	u := &s.users[i]
	c := u.chat
	t := s.book.Text(c.side, counter)
	if s.speakers != nil {
		b := t.AppendText(s.buf[:0], s.cfg.TextBytes)
		s.buf = b[:0]
		c.inflight++
		s.book.Sent(c.side, counter, s.loop.Now())
		s.speakers[i].Say(counter, b)
		return
	}
	b := append(s.buf[:0], 0, 0, 0, 0)
	b = strconv.AppendInt(append(b, `{"fromuid":`...), int64(t.From), 10)
	b = strconv.AppendInt(append(b, `,"touid":`...), int64(t.To), 10)
	b = strconv.AppendInt(append(b, `,"thread_id":`...), c.thread, 10)
	b = t.AppendText(append(b, `,"text_array":[{"content":"`...), s.cfg.TextBytes)
	b = t.AppendUniqueID(append(b, `","unique_id":"`...))
	b = append(b, `"}]}`...)
	u.conn.Send(s.framed(b, wire.MsgText))
	c.inflight++
	s.book.Sent(c.side, counter, s.loop.Now())
}

// resend repeats, in order and with the same unique ids, the texts that were unanswered when the connection was lost.
func (s *Swarm) resend(i int) {
	c := s.users[i].chat
	c.inflight = 0
	s.book.Unanswered(c.side, func(counter uint32) { s.sendText(i, counter) })
	s.write(i)
}

// textReply handles a 1018.
func (s *Swarm) textReply(i int, body []byte) {
	c := s.users[i].chat
	if c == nil {
		s.st.fail("an unexpected 1018")
		return
	}
	answered := 0
	ok := eachText(body, func(e *element) {
		run, _, counter, ours := ledger.ParseUniqueID(e.unique)
		switch {
		case !ours || run != s.cfg.Run:
			s.st.fail("a 1018 of an unknown text")
		case e.status == wire.StatusFailed:
			answered += s.refused(c, counter, strconv.FormatInt(e.code, 10))
		default:
			answered += s.acked(c, counter, e.seq)
		}
	})
	if !ok {
		s.st.fail("a 1018 that cannot be read, or error " + strconv.FormatInt(scan.Number(body, `"error":`), 10))
		return
	}
	s.answered(i, answered)
}

// acked records an acknowledgement, and returns the number of texts that it answers, 0 or 1.
func (s *Swarm) acked(c *chatter, counter uint32, seq int64) int {
	a, ok := s.book.Acked(c.side, counter, seq)
	if !ok || !a.First {
		return 0
	}
	s.st.counters["acked"]++
	if r := s.phase; r != nil && (r.Kind == "chat" || r.Kind == "mixed") {
		now := s.loop.Now()
		if a.Planned >= r.measureFrom {
			s.st.hist(HAck).Record(now - a.Planned)
			s.st.hist(HAckService).Record(now - a.Sent)
		}
		r.inflight--
		r.done(s, now-a.Planned)
	}
	return 1
}

// refused records a refusal, likewise.
func (s *Swarm) refused(c *chatter, counter uint32, why string) int {
	if a, ok := s.book.Refused(c.side, counter); !ok || !a.First {
		return 0
	}
	s.st.fail("text refused " + why)
	return 1
}

// answered goes on after n answers to a user's texts.
func (s *Swarm) answered(i, n int) {
	c := s.users[i].chat
	c.inflight = max(c.inflight-n, 0)
	if r := s.phase; r != nil {
		r.answered(s, n)
	}
	s.write(i)
}

// textPush handles a 1019.
func (s *Swarm) textPush(i int, body []byte) {
	from := int32(scan.Number(body, `"fromuid":`))
	thread := scan.Number(body, `"thread_id":`)
	ok := eachText(body, func(e *element) {
		if s.delivered(i, from, thread, e.seq, e.content) {
			s.mark(i, thread, e.seq)
		}
	})
	if !ok {
		s.st.fail("a 1019 that cannot be read")
	}
}

// delivered records a text that came to a user, and reports whether it came for the first time.
func (s *Swarm) delivered(i int, from int32, thread, seq int64, content []byte) bool {
	now := s.loop.Now()
	a, ok := s.book.Delivered(s.uid(i), from, thread, seq, content, now)
	if !ok || !a.First {
		return false
	}
	s.st.counters["delivered"]++
	if r := s.phase; r != nil && (r.Kind == "chat" || r.Kind == "mixed") {
		r.delivered++
		if a.Planned >= r.measureFrom {
			s.st.hist(HDeliver).Record(now - a.Planned)
			s.st.hist(HDeliverService).Record(now - a.Sent)
		}
	}
	return true
}

// element is one text of a 1018 or 1019. The slices are borrowed.
type element struct {
	seq, code, status int64
	unique, content   []byte
}

var keyChats = []byte(`"chat_datas":[`)

// eachText calls f for each element of a 1018 or 1019. It searches the compact JSON of Parley's servers for keys,
// which is many times cheaper than decoding; texts of this tool contain nothing that JSON escapes. Other bodies are
// decoded.
func eachText(body []byte, f func(*element)) bool {
	at := bytes.Index(body, keyChats)
	if at < 0 || bytes.IndexByte(body, '\\') >= 0 {
		return eachDecoded(body, f)
	}
	for rest := body[at+len(keyChats):]; len(rest) > 0 && rest[0] == '{'; {
		end := bytes.IndexByte(rest, '}')
		// A unique id contains braces: skip them.
		if u := bytes.Index(rest, []byte(`"unique_id":"`)); u >= 0 && u < end {
			k := bytes.IndexByte(rest[u+13:], '"')
			if k < 0 {
				return false
			}
			if end = bytes.IndexByte(rest[u+13+k:], '}'); end >= 0 {
				end += u + 13 + k
			}
		}
		if end < 0 {
			return false
		}
		one := rest[:end]
		f(&element{
			seq: scan.Number(one, `"message_id":`), code: scan.Number(one, `"code":`), status: scan.Number(one, `"status":`),
			unique: scan.Text(one, `"unique_id":"`), content: scan.Text(one, `"content":"`),
		})
		if rest = rest[end+1:]; len(rest) > 0 && rest[0] == ',' {
			rest = rest[1:]
		}
	}
	return true
}

func eachDecoded(body []byte, f func(*element)) bool {
	var p wire.TextPush
	if wire.Decode(body, &p) != nil || p.Error != 0 {
		return false
	}
	for i := range p.Chats {
		c := &p.Chats[i]
		f(&element{c.Seq, int64(c.Code), int64(c.Status), []byte(c.UniqueID), []byte(c.Content)})
	}
	return true
}
