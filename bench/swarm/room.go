package swarm

import (
	"bytes"
	"strconv"
	"time"

	"parley/bench/ledger"
	"parley/bench/scan"
	"parley/internal/wire"
)

// Rooms divides the users of a fleet into groups, or circles of friends; the zero value makes none. The users of a
// group are consecutive and belong to one Swarm: the first is its owner, the first Senders write, and the last are
// offline when the group is measured.
type Rooms struct {
	Members int
	Online  int // of Members
	Senders int // of Online
	// Threads are the groups of all users, in order; nil: the owners make groups, and the others join them.
	Threads []int64
	// Watch makes circles of friends instead, who watch one another's presence.
	Watch bool
}

// unit returns the number of users that belong together.
func (r Rooms) unit() int { return max(r.Members, 2) }

// units returns the number of groups, or pairs, among users.
func (r Rooms) units(users int) int {
	if r.Members > 0 {
		return users / r.Members
	}
	return (users + 1) / 2
}

// Share returns the range of users of part i of n. It keeps pairs and groups together.
func (r Rooms) Share(users, i, n int) (from, to int) {
	unit, units := r.unit(), r.units(users)
	return units * i / n * unit, min(units*(i+1)/n*unit, users)
}

// Part returns the rooms of users from to to.
func (r Rooms) Part(from, to int) Rooms {
	if r.Threads != nil {
		r.Threads = r.Threads[from/r.Members : to/r.Members]
	}
	return r
}

// room is a group on its loop.
type room struct {
	thread int64
	code   string // of the link with which users join
	last   int64  // number of the last row known to the loop
	expel  int    // the next member to remove
	fewest int    // minimum number of online members that stay

	fanned   []int64 // due times of frames that the floor server writes to all members
	fannedTo int     // number of members that have received the oldest
}

// away reports whether a user is to be offline.
func (s *Swarm) away(i int) bool {
	m := s.cfg.Rooms
	return len(s.rooms) > 0 && i%m.Members >= m.Online
}

func (s *Swarm) room(i int) *room { return &s.rooms[i/s.cfg.Rooms.Members] }

// skips reports whether a user has nothing to do in the phase. Groups are created in two phases: owners create them,
// then the others join.
func (r *running) skips(s *Swarm, i int) bool {
	switch r.Kind {
	case "login":
		return s.away(i)
	case "found":
		return i%s.cfg.Rooms.Members != 0
	case "join":
		return i%s.cfg.Rooms.Members == 0
	}
	return false
}

// enter sends the request for which a user logged in during a phase that creates groups.
func (s *Swarm) enter(i int) {
	u := &s.users[i]
	b := append(s.buf[:0], 0, 0, 0, 0)
	if s.phase.Kind == "found" {
		b = append(b, `{"name":"bench","unique_id":"`...)
		b = ledger.Text{Run: s.cfg.Run, From: s.uid(i), Counter: 1<<32 - 1}.AppendUniqueID(b)
		b = append(b, `","uids":[]}`...)
		u.conn.Send(s.framed(b, wire.MsgGroupCreate))
		return
	}
	b = append(append(append(b, `{"code":"`...), s.room(i).code...), `"}`...)
	u.conn.Send(s.framed(b, wire.MsgGroupJoin))
}

// groupReply handles the answers about groups.
func (s *Swarm) groupReply(i int, id wire.MsgID, body []byte) {
	r, g := s.phase, s.room(i)
	code := wire.Code(scan.Number(body, `"error":`))
	switch {
	case id == wire.MsgGroupRemoveRsp:
		s.removed(i, code, scan.Number(body, `"msg_id":`))
		return
	case r == nil || r.Kind != "found" && r.Kind != "join":
		s.st.fail("an unexpected " + id.String())
		return
	case code != 0:
		s.st.fail(id.String() + ": refused with " + strconv.Itoa(int(code)))
	case id == wire.MsgGroupCreateRsp:
		g.thread, g.last = scan.Number(body, `"thread_id":`), scan.Number(body, `"msg_id":`)
		b := append(s.buf[:0], 0, 0, 0, 0)
		b = strconv.AppendInt(append(b, `{"thread_id":`...), g.thread, 10)
		b = strconv.AppendInt(append(b, `,"uses":`...), wire.LinkMaxUses, 10)
		s.users[i].conn.Send(s.framed(append(b, '}'), wire.MsgGroupLink))
		return
	case id == wire.MsgGroupLinkRsp:
		g.code = string(scan.Text(body, `"code":"`))
		s.st.counters["groups"]++
	case id == wire.MsgGroupJoinRsp:
		g.last = max(g.last, scan.Number(body, `"msg_id":`))
		s.st.counters["joined"]++
	}
	r.completed(s, i, s.loop.Now()-s.users[i].planned)
	r.leave(s, i)
}

// openRooms opens the rooms in the book after all users are members.
func (s *Swarm) openRooms() {
	m := s.cfg.Rooms
	for k := range s.rooms {
		g, first := &s.rooms[k], k*m.Members
		uids := make([]int32, m.Online)
		for j := range uids {
			uids[j] = s.uid(first + j)
		}
		s.book.OpenRoom(g.thread, g.last, uids)
		for j := range m.Senders {
			// The owner's chatter reads the history.
			partner := first
			if j == 0 {
				partner = first + 1
			}
			s.users[first+j].chat = &chatter{
				side: s.book.Open(uids[j], 0, g.thread), partner: partner, thread: g.thread, cursor: g.last,
			}
		}
	}
}

// pushed is a 2144 that was decoded.
type pushed struct {
	body []byte
	rows []ledger.Row
}

// groupPush handles a 2144. Members receive the same bytes, so only the first copy is decoded.
func (s *Swarm) groupPush(i int, body []byte) {
	now := s.loop.Now()
	s.st.counters["frames"]++
	s.st.counters["frame bytes"] += int64(len(body) + wire.HeaderLen)
	p := &s.pushed[scan.Number(body, `"msg_id":`)%int64(len(s.pushed))]
	if !bytes.Equal(p.body, body) {
		var push wire.GroupPush
		if wire.Decode(body, &push) != nil || len(push.Chats) == 0 {
			s.st.fail("a 2144 that cannot be read")
			return
		}
		p.body, p.rows = append(p.body[:0], body...), p.rows[:0]
		for k := range push.Chats {
			c := &push.Chats[k]
			if c.Kind != wire.KindText {
				continue
			}
			if row, ok := s.book.Row(c.Sender, push.ThreadID, c.MsgID, []byte(c.Content)); ok {
				p.rows = append(p.rows, row)
			}
		}
	}
	r, latency, copies := s.phase, s.st.hist(HDeliver), int64(0)
	for k := range p.rows {
		if row := &p.rows[k]; s.book.Copied(s.uid(i), row, now) {
			copies++
			if r != nil && row.Planned >= r.measureFrom {
				latency.Record(now - row.Planned)
			}
		}
	}
	s.st.counters["copies"] += copies
}

// gapNotice handles a 2104.
func (s *Swarm) gapNotice(i int, body []byte) {
	s.book.Gap(s.uid(i), scan.Number(body, `"from_seq":`))
}

// expelSome has the owner of each group remove a share of the members who only read, one after the other, starting
// with the last.
func (s *Swarm) expelSome(share float64) {
	m := s.cfg.Rooms
	for k := range s.rooms {
		g := &s.rooms[k]
		g.expel, g.fewest = m.Online-1, max(m.Online-int(float64(m.Online)*share), m.Senders)
		s.expel(k * m.Members)
	}
}

// expel requests the next removal; i is the group's owner.
func (s *Swarm) expel(i int) {
	g := s.room(i)
	if u := &s.users[i]; g.expel >= g.fewest && u.state == in {
		b := append(s.buf[:0], 0, 0, 0, 0)
		b = strconv.AppendInt(append(b, `{"thread_id":`...), g.thread, 10)
		b = strconv.AppendInt(append(b, `,"uid":`...), int64(s.uid(i+g.expel)), 10)
		u.conn.Send(s.framed(append(b, '}'), wire.MsgGroupRemove))
	}
}

// removed handles a 2127. seq is the number of the event; later rows are not for the member.
func (s *Swarm) removed(i int, code wire.Code, seq int64) {
	g := s.room(i)
	switch {
	case code == wire.CodeRateLimited && s.phase != nil:
		s.phase.later = append(s.phase.later, later{s.loop.Now() + int64(200*time.Millisecond), func() { s.expel(i) }})
		return
	case code != 0 || seq == 0:
		s.st.fail("a member could not be removed: " + strconv.Itoa(int(code)))
	default:
		s.book.Removed(s.uid(i+g.expel), seq)
		s.st.counters["removed"]++
	}
	g.expel--
	s.expel(i)
}

// spreads records how long the texts of groups took to reach their first and last members.
func (s *Swarm) spreads(from int64) {
	s.book.EachSpread(func(planned, first, last int64) {
		if planned >= from {
			s.st.hist(HFirst).Record(first - planned)
			s.st.hist(HLast).Record(last - planned)
		}
	})
}

// fan sends a frame that the floor server writes to all members of a user's group.
func (s *Swarm) fan(i int, planned int64) {
	s.users[i].conn.Send(s.framed(make([]byte, s.phase.Size), wire.MsgGroupPush))
	g := s.room(i)
	g.fanned = append(g.fanned, planned)
}

// fannedOut handles such a frame, of which one arrives per member.
func (s *Swarm) fannedOut(r *running, i int) {
	s.st.counters["frames"]++
	g := s.room(i)
	if g.fannedTo++; g.fannedTo < s.cfg.Rooms.Online {
		return
	}
	g.fannedTo = 0
	r.inflight--
	if len(g.fanned) > 0 {
		r.done(s, s.loop.Now()-g.fanned[0])
		g.fanned = g.fanned[1:]
	}
}
