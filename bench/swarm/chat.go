package swarm

import (
	"bytes"
	"strconv"

	"parley/bench/ledger"
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
	now := s.loop.Now()
	answered := 0
	ok := eachText(body, func(e *element) {
		run, _, counter, ours := ledger.ParseUniqueID(e.unique)
		if !ours || run != s.cfg.Run {
			s.st.fail("a 1018 of an unknown text")
			return
		}
		if e.status == wire.StatusFailed {
			if a, ok := s.book.Refused(c.side, counter); ok && a.First {
				answered++
				s.st.fail("text refused " + strconv.FormatInt(e.code, 10))
			}
			return
		}
		a, ok := s.book.Acked(c.side, counter, e.seq)
		if !ok || !a.First {
			return
		}
		answered++
		s.st.counters["acked"]++
		r := s.phase
		if r == nil || r.Kind != "chat" && r.Kind != "mixed" {
			return
		}
		if a.Planned >= r.measureFrom {
			s.st.hist(HAck).Record(now - a.Planned)
			s.st.hist(HAckService).Record(now - a.Sent)
		}
		r.inflight--
		r.done(s, now-a.Planned)
	})
	if !ok {
		s.st.fail("a 1018 that cannot be read, or error " + strconv.FormatInt(number(body, `"error":`), 10))
		return
	}
	c.inflight = max(c.inflight-answered, 0)
	if r := s.phase; r != nil {
		r.answered(s, answered)
	}
	s.write(i)
}

// textPush handles a 1019.
func (s *Swarm) textPush(i int, body []byte) {
	now := s.loop.Now()
	from := int32(number(body, `"fromuid":`))
	thread := number(body, `"thread_id":`)
	ok := eachText(body, func(e *element) {
		a, ok := s.book.Delivered(s.uid(i), from, thread, e.seq, e.content, now)
		if !ok || !a.First {
			return
		}
		s.st.counters["delivered"]++
		s.mark(i, thread, e.seq)
		if r := s.phase; r != nil && (r.Kind == "chat" || r.Kind == "mixed") {
			r.delivered++
			if a.Planned >= r.measureFrom {
				s.st.hist(HDeliver).Record(now - a.Planned)
				s.st.hist(HDeliverService).Record(now - a.Sent)
			}
		}
	})
	if !ok {
		s.st.fail("a 1019 that cannot be read")
	}
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
			seq: number(one, `"message_id":`), code: number(one, `"code":`), status: number(one, `"status":`),
			unique: text(one, `"unique_id":"`), content: text(one, `"content":"`),
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

// number returns the integer after a key, or 0.
func number(b []byte, key string) (n int64) {
	at := bytes.Index(b, []byte(key))
	if at < 0 {
		return 0
	}
	for _, c := range b[at+len(key):] {
		if c == ' ' && n == 0 {
			continue
		}
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int64(c-'0')
	}
	return n
}

// text returns the string after a key that ends with its opening quote, or nil. The string must not contain escapes.
func text(b []byte, key string) []byte {
	at := bytes.Index(b, []byte(key))
	if at < 0 {
		return nil
	}
	b = b[at+len(key):]
	if end := bytes.IndexByte(b, '"'); end >= 0 {
		return b[:end]
	}
	return nil
}
