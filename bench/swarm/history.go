package swarm

import (
	"context"
	"strconv"
	"sync"
	"time"

	"parley/internal/wire"
)

// histories are the threads of pairs, found before the texts and read after them.
type histories struct{ *shared }

// askThread requests the threads of a user, to learn the thread with the partner and its last number.
func (hs *histories) askThread(i int) {
	b := append(hs.buf[:0], 0, 0, 0, 0)
	b = strconv.AppendInt(append(b, `{"uid":`...), int64(hs.uid(i)), 10)
	b = append(b, `,"thread_id":0,"limit":500}`...)
	hs.users[i].conn.Send(hs.framed(b, wire.MsgThreads))
}

// threadsReply handles a 1026 and opens both directions of a pair's conversation.
func (hs *histories) threadsReply(i int, body []byte) {
	r := hs.phase
	if r == nil || r.Kind != "threads" {
		hs.st.fail("an unexpected 1026")
		return
	}
	r.inflight--
	var reply wire.ThreadsReply
	if wire.Decode(body, &reply) != nil || reply.Error != 0 {
		hs.st.fail("threads refused " + strconv.Itoa(int(reply.Error)))
		return
	}
	me, other := hs.uid(i), hs.uid(i+1)
	for _, t := range reply.Threads {
		if t.Type == "private" && (t.User1 == me && t.User2 == other || t.User1 == other && t.User2 == me) {
			hs.pair(i, t.ID, t.LastSeq)
			return
		}
	}
	hs.st.fail("no thread with the partner: are they friends? (bench seed)")
}

// pair opens both directions of the conversation of a user and the next one.
func (hs *histories) pair(i int, thread, cursor int64) {
	me, other := hs.uid(i), hs.uid(i+1)
	hs.users[i].chat = &chatter{side: hs.book.Open(me, other, thread), partner: i + 1, thread: thread, cursor: cursor}
	hs.users[i+1].chat = &chatter{side: hs.book.Open(other, me, thread), partner: i, thread: thread, cursor: cursor}
	hs.st.counters["threads"]++
}

// askHistory requests the next page of a user's thread.
func (hs *histories) askHistory(i int) {
	u := &hs.users[i]
	c := u.chat
	if u.state != in {
		return
	}
	c.asked = engineNow()
	b := append(hs.buf[:0], 0, 0, 0, 0)
	b = strconv.AppendInt(append(b, `{"thread_id":`...), c.thread, 10)
	b = strconv.AppendInt(append(b, `,"message_id":`...), c.cursor, 10)
	b = append(b, `,"limit":500}`...)
	u.conn.Send(hs.framed(b, wire.MsgHistory))
}

// historyReply handles a 1030 and records it in the book.
func (hs *histories) historyReply(i int, body []byte) {
	r, c := hs.phase, hs.users[i].chat
	if r == nil || r.Kind != "verify" || c == nil || !c.reading {
		hs.st.fail("an unexpected 1030")
		return
	}
	now := hs.loop.Now()
	var page wire.HistoryReply
	if err := wire.Decode(body, &page); err != nil {
		hs.st.fail("a 1030 that cannot be read")
		c.reading = false
		r.inflight--
		r.failed = true
		return
	}
	if page.Error != 0 {
		// The request exceeded the user's rate: repeat it later.
		hs.st.counters["pages asked again"]++
		r.later = append(r.later, later{now + int64(200*time.Millisecond), func() { hs.askHistory(i) }})
		return
	}
	hs.st.hist(HHistory).Record(now - c.asked)
	hs.st.counters["pages"]++
	for k := range page.Chats {
		m := &page.Chats[k]
		hs.stored(c, m.ThreadID, m.MsgID, m.Sender, m.UniqueID, m.Content)
	}
	if page.LoadMore {
		hs.askHistory(i)
		return
	}
	c.reading = false
	r.inflight--
}

// stored records the next message of a history, whichever way it was read.
func (hs *histories) stored(c *chatter, thread, seq int64, sender int32, uniqueID, content string) {
	if c.cursor++; seq != c.cursor {
		hs.book.Hole(c.thread, c.cursor)
		c.cursor = seq
	}
	hs.book.Stored(thread, seq, sender, uniqueID, []byte(content))
}

// Conversation is a thread in which users of the run write to each other.
type Conversation struct {
	UID    int32 // user in whose book it is recorded
	Thread int64
	After  int64 // last number from before the run, or already recorded
}

// Stored is the part of a conversation in the store after After, in ascending order, or the beginning of that.
type Stored struct {
	Conversation
	Messages []Message
}

// Message is a stored message.
type Message struct {
	Seq               int64
	Sender            int32
	UniqueID, Content string
}

// Conversations returns the conversations of all users.
func (f *Fleet) Conversations(ctx context.Context) ([]Conversation, error) {
	var mu sync.Mutex
	var all []Conversation
	err := f.all(ctx, func(s *Swarm) {
		mu.Lock()
		defer mu.Unlock()
		for i := range s.users {
			if c := s.users[i].chat; c != nil && c.partner > i {
				all = append(all, Conversation{s.uid(i), c.thread, c.cursor})
			}
		}
	})
	if err != nil {
		return nil, err // a loop may still be running it
	}
	return all, nil
}

// Enter records messages that were read from the store. The parts of a conversation must come in order. A phase
// "verify" with Entered then closes the books.
func (f *Fleet) Enter(ctx context.Context, parts []Stored) error {
	return f.all(ctx, func(s *Swarm) {
		for k := range parts {
			p := &parts[k]
			i := int(p.UID - s.uid(0))
			if i < 0 || i >= len(s.users) || s.users[i].chat == nil {
				continue // belongs to another loop
			}
			for _, m := range p.Messages {
				s.histories.stored(s.users[i].chat, p.Thread, m.Seq, m.Sender, m.UniqueID, m.Content)
			}
		}
	})
}
