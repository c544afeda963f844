package swarm

import (
	"bytes"
	"strconv"

	"parley/bench/ledger"
	"parley/bench/scan"
	"parley/internal/wire"
)

// texts are what users write to each other, planned, sent, answered and delivered.
type texts struct {
	*shared
	marks *marks
}

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
func (ts *texts) plan(i int, planned int64) {
	c := ts.users[i].chat
	ts.book.Plan(c.side, planned)
	c.planned++
	ts.write(i)
}

// write sends the planned texts that the window permits. The others are sent later, never dropped.
func (ts *texts) write(i int) {
	u := &ts.users[i]
	c := u.chat
	for u.state == in && c.inflight < window && c.next < c.planned {
		ts.sendText(i, c.next)
		c.next++
	}
}

func (ts *texts) sendText(i int, counter uint32) {
	u := &ts.users[i]
	c := u.chat
	t := ts.book.Text(c.side, counter)
	if ts.speakers != nil {
		b := t.AppendText(ts.buf[:0], ts.cfg.TextBytes)
		ts.buf = b[:0]
		c.inflight++
		ts.book.Sent(c.side, counter, ts.loop.Now())
		ts.speakers[i].Say(counter, b)
		return
	}
	b := append(ts.buf[:0], 0, 0, 0, 0)
	b = strconv.AppendInt(append(b, `{"fromuid":`...), int64(t.From), 10)
	b = strconv.AppendInt(append(b, `,"touid":`...), int64(t.To), 10)
	b = strconv.AppendInt(append(b, `,"thread_id":`...), c.thread, 10)
	b = t.AppendText(append(b, `,"text_array":[{"content":"`...), ts.cfg.TextBytes)
	b = t.AppendUniqueID(append(b, `","unique_id":"`...))
	b = append(b, `"}]}`...)
	u.conn.Send(ts.framed(b, wire.MsgText))
	c.inflight++
	ts.book.Sent(c.side, counter, ts.loop.Now())
}

// resend repeats, in order and with the same unique ids, the texts that were unanswered when the connection was lost.
func (ts *texts) resend(i int) {
	c := ts.users[i].chat
	c.inflight = 0
	ts.book.Unanswered(c.side, func(counter uint32) { ts.sendText(i, counter) })
	ts.write(i)
}

// reply handles a 1018.
func (ts *texts) reply(i int, body []byte) {
	c := ts.users[i].chat
	if c == nil {
		ts.st.fail("an unexpected 1018")
		return
	}
	answered := 0
	ok := eachText(body, func(e *element) {
		run, _, counter, ours := ledger.ParseUniqueID(e.unique)
		switch {
		case !ours || run != ts.cfg.Run:
			ts.st.fail("a 1018 of an unknown text")
		case e.status == wire.StatusFailed:
			answered += ts.refused(c, counter, strconv.FormatInt(e.code, 10))
		default:
			answered += ts.acked(c, counter, e.seq)
		}
	})
	if !ok {
		ts.st.fail("a 1018 that cannot be read, or error " + strconv.FormatInt(scan.Number(body, `"error":`), 10))
		return
	}
	ts.answered(i, answered)
}

// acked records an acknowledgement, and returns the number of texts that it answers, 0 or 1.
func (ts *texts) acked(c *chatter, counter uint32, seq int64) int {
	a, ok := ts.book.Acked(c.side, counter, seq)
	if !ok || !a.First {
		return 0
	}
	ts.st.counters["acked"]++
	if r := ts.phase; r != nil && (r.Kind == "chat" || r.Kind == "mixed") {
		now := ts.loop.Now()
		if a.Planned >= r.measureFrom {
			ts.st.hist(HAck).Record(now - a.Planned)
			ts.st.hist(HAckService).Record(now - a.Sent)
		}
		r.inflight--
		r.done(now - a.Planned)
	}
	return 1
}

// refused records a refusal, likewise.
func (ts *texts) refused(c *chatter, counter uint32, why string) int {
	if a, ok := ts.book.Refused(c.side, counter); !ok || !a.First {
		return 0
	}
	ts.st.fail("text refused " + why)
	return 1
}

// answered goes on after n answers to a user's texts.
func (ts *texts) answered(i, n int) {
	c := ts.users[i].chat
	c.inflight = max(c.inflight-n, 0)
	if r := ts.phase; r != nil {
		r.answered(n)
	}
	ts.write(i)
}

// pushed handles a 1019.
func (ts *texts) pushed(i int, body []byte) {
	from := int32(scan.Number(body, `"fromuid":`))
	thread := scan.Number(body, `"thread_id":`)
	ok := eachText(body, func(e *element) {
		if ts.delivered(i, from, thread, e.seq, e.content) {
			ts.marks.mark(i, thread, e.seq)
		}
	})
	if !ok {
		ts.st.fail("a 1019 that cannot be read")
	}
}

// delivered records a text that came to a user, and reports whether it came for the first time.
func (ts *texts) delivered(i int, from int32, thread, seq int64, content []byte) bool {
	now := ts.loop.Now()
	a, ok := ts.book.Delivered(ts.uid(i), from, thread, seq, content, now)
	if !ok || !a.First {
		return false
	}
	ts.st.counters["delivered"]++
	if r := ts.phase; r != nil && (r.Kind == "chat" || r.Kind == "mixed") {
		r.delivered++
		if a.Planned >= r.measureFrom {
			ts.st.hist(HDeliver).Record(now - a.Planned)
			ts.st.hist(HDeliverService).Record(now - a.Sent)
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
