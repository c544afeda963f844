// Package ledger records each text of a run as sent, answered, received and stored in the history, and finds the
// differences. It has no sockets; callers report the events.
//
// It checks contents, not counts: a lost text and a duplicated one do not cancel out.
package ledger

import "slices"

// The state of a text, as a set of bits.
const (
	isSent uint8 = 1 << iota
	isAcked
	isRefused
	isDelivered
	isStored
	isResent
)

// entry is a text as its sender knows it. Its counter is its index in the conversation.
type entry struct {
	planned, sent int64 // ns; sent: when first sent
	seq           int32 // number in the ack; 0 before
	pushed        int32 // number in the push; 0 before
	flags         uint8
}

// side is one direction of a pair: the texts sent from one user to the other.
type side struct {
	from, to  int32
	thread    int64
	texts     []entry
	first     uint32   // counter of texts[0]
	top       uint32   // highest counter delivered, plus one
	disturbed bool     // one of the two users was disconnected during the run
	spreads   []spread // parallel to texts, if this is a member's side of a room
}

// Book is the ledger of a generator loop. It is not safe for concurrent use.
type Book struct {
	Run   uint32
	sides []side
	byUID map[int32]int

	rooms  []room
	places map[int32]place // room and index of a member, by uid

	// Late is how long after its planned time a delivery counts as late, in nanoseconds; 0 means a second.
	Late int64

	s       Summary
	strange []Fault
}

// maxFaults bounds the examples in a report.
const maxFaults = 20

// Fault is an example of a violation.
type Fault struct {
	What     string
	From, To int32
	Thread   int64
	Counter  uint32
	Seq      int64
}

// New returns an empty book. run distinguishes the texts of this run from those of others.
func New(run uint32) *Book { return &Book{Run: run, byUID: map[int32]int{}, places: map[int32]place{}} }

// Open adds the direction from -> to and returns its number. A user may send only to one other user, or to one room.
func (b *Book) Open(from, to int32, thread int64) int {
	b.byUID[from] = len(b.sides)
	s := side{from: from, to: to, thread: thread}
	if _, ok := b.places[from]; ok {
		s.spreads = []spread{}
	}
	b.sides = append(b.sides, s)
	return len(b.sides) - 1
}

// Thread returns the thread of a direction.
func (b *Book) Thread(i int) int64 { return b.sides[i].thread }

// Pending returns the number of texts of a direction that were sent and not answered.
func (b *Book) Pending(i int) (n int) {
	for k := range b.sides[i].texts {
		if b.sides[i].texts[k].flags&(isSent|isAcked|isRefused) == isSent {
			n++
		}
	}
	return n
}

// Plan records a text that is due and returns it. It counts as sent only after Sent.
func (b *Book) Plan(i int, planned int64) Text {
	s := &b.sides[i]
	s.texts = append(s.texts, entry{planned: planned})
	if s.spreads != nil {
		s.spreads = append(s.spreads, spread{})
	}
	b.s.Planned++
	return Text{Run: b.Run, From: s.from, To: s.to, Counter: s.first + uint32(len(s.texts)-1), Planned: planned}
}

// Sent records that a text was written, the first time or again.
func (b *Book) Sent(i int, counter uint32, now int64) {
	e := b.entry(i, counter)
	if e == nil {
		return
	}
	if e.flags&isSent != 0 {
		e.flags |= isResent
		b.s.Resent++
		return
	}
	e.flags |= isSent
	e.sent = now
	b.s.Sent++
}

// Text returns a planned text, for sending it again.
func (b *Book) Text(i int, counter uint32) Text {
	s := &b.sides[i]
	t := Text{Run: b.Run, From: s.from, To: s.to, Counter: counter}
	if e := b.entry(i, counter); e != nil {
		t.Planned = e.planned
	}
	return t
}

// Unanswered calls f for each text of a direction that was sent and not answered, in order.
func (b *Book) Unanswered(i int, f func(counter uint32)) {
	s := &b.sides[i]
	for k := range s.texts {
		if s.texts[k].flags&(isSent|isAcked|isRefused) == isSent {
			f(s.first + uint32(k))
		}
	}
}

func (b *Book) entry(i int, counter uint32) *entry {
	s := &b.sides[i]
	if k := counter - s.first; int(k) < len(s.texts) {
		return &s.texts[k]
	}
	return nil
}

// Disturb records that one of the users of a direction was disconnected. From then on a push may be missing,
// duplicated or late, and only the history decides.
func (b *Book) Disturb(uid int32) {
	if m := b.member(uid); m != nil {
		m.disturbed = true
	}
	if i, ok := b.byUID[uid]; ok {
		s := &b.sides[i]
		s.disturbed = true
		if j, ok := b.byUID[s.to]; ok {
			b.sides[j].disturbed = true
		}
	}
}

// Answer is the state of the text that an ack or a push refers to.
type Answer struct {
	Planned, Sent int64
	First         bool // the first ack or push for this text
}

// Acked records that the sender was told that its text is stored. ok is false if no such text was sent.
func (b *Book) Acked(i int, counter uint32, seq int64) (a Answer, ok bool) {
	e := b.entry(i, counter)
	if e == nil || e.flags&isSent == 0 || seq <= 0 {
		b.fault(&b.s.Corrupt, "an acknowledgement of a text that was not sent", i, counter, seq)
		return a, false
	}
	a = Answer{e.planned, e.sent, e.flags&isAcked == 0}
	switch {
	case a.First:
		e.flags |= isAcked
		e.flags &^= isRefused
		e.seq = int32(seq)
		b.s.Acked++
		if b.sides[i].spreads != nil {
			b.ackedInRoom(b.sides[i].from)
		}
		if e.pushed != 0 && e.pushed != e.seq {
			b.fault(&b.s.WrongSeq, "acknowledged under another number than delivered", i, counter, seq)
		}
	case e.seq != int32(seq):
		b.fault(&b.s.WrongSeq, "acknowledged twice under different numbers", i, counter, seq)
	case e.flags&isResent == 0:
		b.fault(&b.s.AckedTwice, "acknowledged twice", i, counter, seq)
	}
	return a, true
}

// Refused records that the sender's text was refused.
func (b *Book) Refused(i int, counter uint32) (a Answer, ok bool) {
	e := b.entry(i, counter)
	if e == nil || e.flags&isSent == 0 {
		b.fault(&b.s.Corrupt, "a refusal of a text that was not sent", i, counter, 0)
		return a, false
	}
	if e.flags&(isAcked|isRefused) == 0 {
		e.flags |= isRefused
		b.s.Refused++
		return Answer{e.planned, e.sent, true}, true
	}
	return Answer{e.planned, e.sent, false}, true
}

// Delivered records a pushed text: its content, its recipient, the sender, thread and number in the push, and the
// time. ok is false if no such text is known.
func (b *Book) Delivered(me, from int32, thread, seq int64, content []byte, now int64) (a Answer, ok bool) {
	t, known, intact := ParseText(content)
	switch {
	case known && intact && t.Run != b.Run:
		return a, false // from another run, delivered late
	case !known || !intact:
		b.faultText(&b.s.Corrupt, "a delivered text that was never sent", Text{From: from, To: me}, thread, seq)
		return a, false
	case t.To != me:
		b.faultText(&b.s.Misrouted, "delivered to the wrong user", t, thread, seq)
		return a, false
	}
	i, found := b.byUID[t.From]
	if !found {
		b.faultText(&b.s.Misrouted, "delivered from a user who sends here nothing", t, thread, seq)
		return a, false
	}
	s := &b.sides[i]
	e := b.entry(i, t.Counter)
	if e == nil || e.flags&isSent == 0 || e.planned != t.Planned {
		b.faultText(&b.s.Corrupt, "a delivered text that was not sent", t, thread, seq)
		return a, false
	}
	if s.thread != thread || from != t.From || s.to != me {
		b.faultText(&b.s.Misrouted, "delivered in another thread or under another sender", t, thread, seq)
	}
	a = Answer{e.planned, e.sent, e.flags&isDelivered == 0}
	if !a.First {
		switch {
		case e.pushed != int32(seq):
			b.faultText(&b.s.StoredTwice, "delivered twice under different numbers", t, thread, seq)
		case s.disturbed || e.flags&isResent != 0:
			b.s.Redelivered++
		default:
			b.faultText(&b.s.Duplicated, "delivered twice", t, thread, seq)
		}
		return a, true
	}
	e.flags |= isDelivered
	e.pushed = int32(seq)
	b.s.Delivered++
	if e.seq != 0 && e.seq != e.pushed {
		b.faultText(&b.s.WrongSeq, "delivered under another number than acknowledged", t, thread, seq)
	}
	if t.Counter < s.top {
		if s.disturbed {
			b.s.ReorderedPushes++
		} else {
			b.faultText(&b.s.Reordered, "delivered after a later one", t, thread, seq)
		}
	} else {
		s.top = t.Counter + 1
	}
	if now-t.Planned > b.late() {
		b.s.Late++
	}
	return a, true
}

func (b *Book) late() int64 {
	if b.Late == 0 {
		return 1e9
	}
	return b.Late
}

// Stored records a message in the history of a thread, in the history's order. The sender may be a user outside the
// run.
func (b *Book) Stored(thread, seq int64, sender int32, uniqueID string, content []byte) {
	run, from, counter, ok := ParseUniqueID([]byte(uniqueID))
	if !ok || run != b.Run {
		return // from before the run
	}
	b.s.HistoryRead++
	i, found := b.byUID[from]
	t, known, intact := ParseText(content)
	if !found || sender != from || !known || !intact || t.From != from || t.Counter != counter {
		b.faultText(&b.s.Corrupt, "the history holds a text that was not sent so", Text{From: from, Counter: counter}, thread, seq)
		return
	}
	s := &b.sides[i]
	e := b.entry(i, counter)
	switch {
	case s.thread != thread:
		b.faultText(&b.s.Misrouted, "stored in another thread", t, thread, seq)
	case e == nil || e.flags&isSent == 0:
		b.faultText(&b.s.Corrupt, "stored, but never sent", t, thread, seq)
	case e.flags&isStored != 0:
		b.faultText(&b.s.StoredTwice, "stored twice", t, thread, seq)
	default:
		e.flags |= isStored
		if e.flags&isAcked != 0 && e.seq != int32(seq) || e.pushed != 0 && e.pushed != int32(seq) {
			b.faultText(&b.s.WrongSeq, "stored under another number than told", t, thread, seq)
		}
		if e.flags&isAcked == 0 {
			b.s.StoredUnacked++
		}
	}
}

// Hole records that the history of a thread skips a number.
func (b *Book) Hole(thread, seq int64) {
	b.faultText(&b.s.Holes, "the history skips a number", Text{}, thread, seq)
}

// ReadAll records that the whole history of all threads was read.
func (b *Book) ReadAll() { b.s.HistoryChecked = true }

// Summary reconciles the book. It may be called again after more was recorded.
func (b *Book) Summary() Summary {
	out := b.s
	out.Faults = slices.Clone(b.strange)
	for i := range b.sides {
		s := &b.sides[i]
		for k := range s.texts {
			e := &s.texts[k]
			counter := s.first + uint32(k)
			noteTo := func(what string, to int32) {
				if len(out.Faults) < maxFaults {
					out.Faults = append(out.Faults, Fault{what, s.from, to, s.thread, counter, int64(e.seq)})
				}
			}
			note := func(what string) { noteTo(what, s.to) }
			if s.spreads != nil {
				b.copies(s, e, &out, noteTo)
			}
			if e.flags&(isSent|isAcked|isRefused) == isSent {
				out.Unanswered++
			}
			if e.flags&isAcked == 0 {
				continue
			}
			unread := !out.HistoryChecked
			switch delivered, stored := e.flags&isDelivered != 0, e.flags&isStored != 0; {
			case !delivered && !stored && (!unread || !s.disturbed):
				out.Lost++
				note("acknowledged, neither delivered nor stored")
			case delivered && !stored && !unread:
				out.Unstored++
				note("acknowledged and delivered, but not stored")
			case s.spreads != nil: // checked by copies
			case !delivered && s.disturbed:
				out.ReadBack++
			case !delivered:
				out.Missed++
				note("acknowledged and stored, but no push came to a user who was there")
			}
		}
	}
	return out
}

func (b *Book) fault(n *int64, what string, i int, counter uint32, seq int64) {
	s := &b.sides[i]
	b.faultText(n, what, Text{From: s.from, To: s.to, Counter: counter}, s.thread, seq)
}

func (b *Book) faultText(n *int64, what string, t Text, thread, seq int64) {
	*n++
	if len(b.strange) < maxFaults {
		b.strange = append(b.strange, Fault{what, t.From, t.To, thread, t.Counter, seq})
	}
}

// Counts returns what has been recorded so far, without looking for missing texts. It is cheap.
func (b *Book) Counts() Summary { return b.s }
