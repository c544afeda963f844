package ledger

// room is a group of a run, with its members who are online. Each of them must receive every text of the others
// exactly once, and those of one sender in order, until the row with which it was removed.
type room struct {
	thread  int64
	base    int64 // number of the last row before the run
	members []member
	first   int // side of the first sender
	acked   int64
}

// member is one member's copies of the texts of a room.
type member struct {
	uid       int32
	copies    int64    // received texts of others
	own       int64    // own texts that were acknowledged
	got       []uint64 // bit set of received numbers, from base on
	top       int64    // highest received number
	tops      []uint32 // by sender, counted from the room's first side: the highest received counter plus one
	removed   int64    // number of the row with which it was removed; 0: still a member
	gap       int64    // the node has announced that it may omit pushes from this number on; 0: it may not
	disturbed bool     // it was disconnected during the run
}

// spread is when the first and last copies of a text arrived, in ns; 0: none did.
type spread struct{ first, last int64 }

// place identifies a member of a room.
type place struct{ room, member int }

// OpenRoom adds a group with its members who are online. base is the number of the last row from before the run.
// Members who write also need Open, called in succession, with 0 as the recipient. A user may be in one room only.
func (b *Book) OpenRoom(thread, base int64, members []int32) {
	r := room{thread: thread, base: base, members: make([]member, len(members)), first: len(b.sides)}
	for i, uid := range members {
		r.members[i].uid = uid
		b.places[uid] = place{len(b.rooms), i}
	}
	b.rooms = append(b.rooms, r)
}

// Row is a pushed text that was looked up. It is shared by all members who receive it.
type Row struct {
	side    int
	counter uint32
	seq     int64
	from    int32
	Answer
}

// Row looks up a text pushed to a room, by its content and the sender, thread and number in the push. ok is false if
// no such text is known.
func (b *Book) Row(from int32, thread, seq int64, content []byte) (row Row, ok bool) {
	t, known, intact := ParseText(content)
	if known && intact && t.Run != b.Run {
		return row, false // from another run, delivered late
	}
	i, found := b.byUID[t.From]
	var e *entry
	if known && intact && found {
		e = b.entry(i, t.Counter)
	}
	if e == nil || e.flags&isSent == 0 || e.planned != t.Planned {
		b.faultText(&b.s.Corrupt, "a delivered text that was never sent", Text{From: from}, thread, seq)
		return row, false
	}
	s := &b.sides[i]
	if s.spreads == nil || s.thread != thread || from != t.From || t.To != s.to {
		b.faultText(&b.s.Misrouted, "delivered in another thread or under another sender", t, thread, seq)
		return row, false
	}
	if seq <= b.rooms[b.places[t.From].room].base {
		b.faultText(&b.s.WrongSeq, "delivered under a number that was given before the run", t, thread, seq)
		return row, false
	}
	switch {
	case e.pushed == 0:
		e.flags |= isDelivered
		e.pushed = int32(seq)
		b.s.Delivered++
		if e.seq != 0 && e.seq != e.pushed {
			b.faultText(&b.s.WrongSeq, "delivered under another number than acknowledged", t, thread, seq)
		}
	case e.pushed != int32(seq):
		b.faultText(&b.s.StoredTwice, "delivered under different numbers", t, thread, seq)
	}
	return Row{i, t.Counter, seq, t.From, Answer{e.planned, e.sent, true}}, true
}

// Copied records that a member received a row. A sender may receive its own texts, or only their acknowledgement.
// Copied returns true for the first copy of another member's text.
func (b *Book) Copied(me int32, row *Row, now int64) bool {
	s := &b.sides[row.side]
	fault := func(n *int64, what string) {
		b.faultText(n, what, Text{From: row.from, To: me, Counter: row.counter}, s.thread, row.seq)
	}
	at, ok := b.places[me]
	if !ok || b.rooms[at.room].thread != s.thread {
		fault(&b.s.Misrouted, "delivered to a user who is not in the group")
		return false
	}
	r := &b.rooms[at.room]
	m := &r.members[at.member]
	word, bit := int(row.seq-r.base)/64, uint64(1)<<(uint(row.seq-r.base)%64)
	for len(m.got) <= word {
		m.got = append(m.got, 0)
	}
	if m.got[word]&bit != 0 {
		if m.disturbed {
			b.s.Redelivered++
		} else {
			fault(&b.s.Duplicated, "delivered twice to one member")
		}
		return false
	}
	m.got[word] |= bit
	sender := row.side - r.first
	for len(m.tops) <= sender {
		m.tops = append(m.tops, 0)
	}
	switch late := row.counter < m.tops[sender]; {
	case late && !m.disturbed:
		fault(&b.s.Reordered, "delivered after a later one of the same sender")
	case late || row.seq < m.top: // rows of another node overtook it: clients sort them
		b.s.ReorderedPushes++
	}
	m.top, m.tops[sender] = max(m.top, row.seq), max(m.tops[sender], row.counter+1)
	if row.from == me {
		return false
	}
	m.copies++
	b.s.Copies++
	if now-row.Planned > b.late() {
		b.s.Late++
	}
	c := &s.spreads[row.counter-s.first]
	if c.first == 0 {
		c.first = now
	}
	c.last = now
	return true
}

// Removed records the number of the row with which a member was removed. Later rows are not for the member.
func (b *Book) Removed(uid int32, seq int64) {
	if m := b.member(uid); m != nil {
		m.removed = seq
	}
}

// Gap records that a node told a member that it omits pushes from a number on.
func (b *Book) Gap(uid int32, from int64) {
	if m := b.member(uid); m != nil && (m.gap == 0 || from < m.gap) {
		m.gap = max(from, 1)
		b.s.Gaps++
	}
}

func (b *Book) member(uid int32) *member {
	at, ok := b.places[uid]
	if !ok {
		return nil
	}
	return &b.rooms[at.room].members[at.member]
}

// ackedInRoom counts an acknowledged text of a member.
func (b *Book) ackedInRoom(uid int32) {
	at := b.places[uid]
	b.rooms[at.room].acked++
	b.rooms[at.room].members[at.member].own++
}

// Settled reports whether all members, except removed ones, have received all texts acknowledged so far.
func (b *Book) Settled() bool {
	for i := range b.rooms {
		r := &b.rooms[i]
		for k := range r.members {
			if m := &r.members[k]; m.removed == 0 && m.copies < r.acked-m.own {
				return false
			}
		}
	}
	return true
}

// EachSpread calls f for each delivered text of a room with the time it was due and the times its first and last
// copies arrived.
func (b *Book) EachSpread(f func(planned, first, last int64)) {
	for i := range b.sides {
		s := &b.sides[i]
		for k, c := range s.spreads {
			if c.first != 0 {
				f(s.texts[k].planned, c.first, c.last)
			}
		}
	}
}

// copies reconciles the members' copies of a text.
func (b *Book) copies(s *side, e *entry, out *Summary, note func(what string, to int32)) {
	seq := int64(max(e.seq, e.pushed))
	if seq == 0 {
		return
	}
	r := &b.rooms[b.places[s.from].room]
	word, bit := int(seq-r.base)/64, uint64(1)<<(uint(seq-r.base)%64)
	for k := range r.members {
		m := &r.members[k]
		got := seq > r.base && word < len(m.got) && m.got[word]&bit != 0
		switch {
		case m.removed != 0 && seq > m.removed:
			if got {
				out.AfterRemoval++
				note("delivered to a member who had been removed", m.uid)
			}
		case got || m.uid == s.from || e.flags&isAcked == 0:
		case m.disturbed, m.gap != 0 && (seq >= m.gap || m.removed != 0):
			// Rows sent by another node may come after a removed member is no longer pushed to; the member was told
			// to read them.
			out.ReadBack++
		default:
			out.Missed++
			note("acknowledged, but no push came to a member who was there", m.uid)
		}
	}
}
