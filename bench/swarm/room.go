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

// rooms are the groups of a loop. They are empty with Rooms.Watch.
type rooms struct {
	*shared
	all    []room
	pushed [16]pushed // recently received 2144s, by a hash of their number
}

func newRooms(s *shared, from, to int) *rooms {
	rs := &rooms{shared: s}
	if m := s.cfg.Rooms; m.Members > 0 && !m.Watch {
		rs.all = make([]room, len(s.users)/m.Members)
		if threads := m.Part(from, to).Threads; threads != nil {
			for k := range rs.all {
				rs.all[k].thread, rs.all[k].last = threads[k], 1 // the row that tells of the group
			}
			rs.open()
		}
	}
	return rs
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
func (rs *rooms) away(i int) bool {
	m := rs.cfg.Rooms
	return len(rs.all) > 0 && i%m.Members >= m.Online
}

func (rs *rooms) of(i int) *room { return &rs.all[i/rs.cfg.Rooms.Members] }

// skips reports whether a user has nothing to do in the phase. Groups are created in two phases: owners create them,
// then the others join.
func (r *running) skips(i int) bool {
	switch r.Kind {
	case "login":
		return r.s.rooms.away(i)
	case "found":
		return i%r.s.cfg.Rooms.Members != 0
	case "join":
		return i%r.s.cfg.Rooms.Members == 0
	}
	return false
}

// enter sends the request for which a user logged in during a phase that creates groups.
func (rs *rooms) enter(i int) {
	u := &rs.users[i]
	b := append(rs.buf[:0], 0, 0, 0, 0)
	if rs.phase.Kind == "found" {
		b = append(b, `{"name":"bench","unique_id":"`...)
		b = ledger.Text{Run: rs.cfg.Run, From: rs.uid(i), Counter: 1<<32 - 1}.AppendUniqueID(b)
		b = append(b, `","uids":[]}`...)
		u.conn.Send(rs.framed(b, wire.MsgGroupCreate))
		return
	}
	b = append(append(append(b, `{"code":"`...), rs.of(i).code...), `"}`...)
	u.conn.Send(rs.framed(b, wire.MsgGroupJoin))
}

// reply handles the answers about groups.
func (rs *rooms) reply(i int, id wire.MsgID, body []byte) {
	r, g := rs.phase, rs.of(i)
	code := wire.Code(scan.Number(body, `"error":`))
	switch {
	case id == wire.MsgGroupRemoveRsp:
		rs.removed(i, code, scan.Number(body, `"msg_id":`))
		return
	case r == nil || r.Kind != "found" && r.Kind != "join":
		rs.st.fail("an unexpected " + id.String())
		return
	case code != 0:
		rs.st.fail(id.String() + ": refused with " + strconv.Itoa(int(code)))
	case id == wire.MsgGroupCreateRsp:
		g.thread, g.last = scan.Number(body, `"thread_id":`), scan.Number(body, `"msg_id":`)
		b := append(rs.buf[:0], 0, 0, 0, 0)
		b = strconv.AppendInt(append(b, `{"thread_id":`...), g.thread, 10)
		b = strconv.AppendInt(append(b, `,"uses":`...), wire.LinkMaxUses, 10)
		rs.users[i].conn.Send(rs.framed(append(b, '}'), wire.MsgGroupLink))
		return
	case id == wire.MsgGroupLinkRsp:
		g.code = string(scan.Text(body, `"code":"`))
		rs.st.counters["groups"]++
	case id == wire.MsgGroupJoinRsp:
		g.last = max(g.last, scan.Number(body, `"msg_id":`))
		rs.st.counters["joined"]++
	}
	r.completed(i, rs.loop.Now()-rs.users[i].planned)
	r.leave(i)
}

// open opens the rooms in the book after all users are members.
func (rs *rooms) open() {
	m := rs.cfg.Rooms
	for k := range rs.all {
		g, first := &rs.all[k], k*m.Members
		uids := make([]int32, m.Online)
		for j := range uids {
			uids[j] = rs.uid(first + j)
		}
		rs.book.OpenRoom(g.thread, g.last, uids)
		for j := range m.Senders {
			// The owner's chatter reads the history.
			partner := first
			if j == 0 {
				partner = first + 1
			}
			rs.users[first+j].chat = &chatter{
				side: rs.book.Open(uids[j], 0, g.thread), partner: partner, thread: g.thread, cursor: g.last,
			}
		}
	}
}

// pushed is a 2144 that was decoded.
type pushed struct {
	body []byte
	rows []ledger.Row
}

// deliver handles a 2144. Members receive the same bytes, so only the first copy is decoded.
func (rs *rooms) deliver(i int, body []byte) {
	now := rs.loop.Now()
	rs.st.counters["frames"]++
	rs.st.counters["frame bytes"] += int64(len(body) + wire.HeaderLen)
	p := &rs.pushed[scan.Number(body, `"msg_id":`)%int64(len(rs.pushed))]
	if !bytes.Equal(p.body, body) {
		var push wire.GroupPush
		if wire.Decode(body, &push) != nil || len(push.Chats) == 0 {
			rs.st.fail("a 2144 that cannot be read")
			return
		}
		p.body, p.rows = append(p.body[:0], body...), p.rows[:0]
		for k := range push.Chats {
			c := &push.Chats[k]
			if c.Kind != wire.KindText {
				continue
			}
			if row, ok := rs.book.Row(c.Sender, push.ThreadID, c.MsgID, []byte(c.Content)); ok {
				p.rows = append(p.rows, row)
			}
		}
	}
	r, latency, copies := rs.phase, rs.st.hist(HDeliver), int64(0)
	for k := range p.rows {
		if row := &p.rows[k]; rs.book.Copied(rs.uid(i), row, now) {
			copies++
			if r != nil && row.Planned >= r.measureFrom {
				latency.Record(now - row.Planned)
			}
		}
	}
	rs.st.counters["copies"] += copies
}

// gapNotice handles a 2104.
func (rs *rooms) gapNotice(i int, body []byte) {
	rs.book.Gap(rs.uid(i), scan.Number(body, `"from_seq":`))
}

// expelSome has the owner of each group remove a share of the members who only read, one after the other, starting
// with the last.
func (rs *rooms) expelSome(share float64) {
	m := rs.cfg.Rooms
	for k := range rs.all {
		g := &rs.all[k]
		g.expel, g.fewest = m.Online-1, max(m.Online-int(float64(m.Online)*share), m.Senders)
		rs.expel(k * m.Members)
	}
}

// expel requests the next removal; i is the group's owner.
func (rs *rooms) expel(i int) {
	g := rs.of(i)
	if u := &rs.users[i]; g.expel >= g.fewest && u.state == in {
		b := append(rs.buf[:0], 0, 0, 0, 0)
		b = strconv.AppendInt(append(b, `{"thread_id":`...), g.thread, 10)
		b = strconv.AppendInt(append(b, `,"uid":`...), int64(rs.uid(i+g.expel)), 10)
		u.conn.Send(rs.framed(append(b, '}'), wire.MsgGroupRemove))
	}
}

// removed handles a 2127. seq is the number of the event; later rows are not for the member.
func (rs *rooms) removed(i int, code wire.Code, seq int64) {
	g := rs.of(i)
	switch {
	case code == wire.CodeRateLimited && rs.phase != nil:
		rs.phase.later = append(rs.phase.later, later{rs.loop.Now() + int64(200*time.Millisecond), func() { rs.expel(i) }})
		return
	case code != 0 || seq == 0:
		rs.st.fail("a member could not be removed: " + strconv.Itoa(int(code)))
	default:
		rs.book.Removed(rs.uid(i+g.expel), seq)
		rs.st.counters["removed"]++
	}
	g.expel--
	rs.expel(i)
}

// spreads records how long the texts of groups took to reach their first and last members.
func (rs *rooms) spreads(from int64) {
	rs.book.EachSpread(func(planned, first, last int64) {
		if planned >= from {
			rs.st.hist(HFirst).Record(first - planned)
			rs.st.hist(HLast).Record(last - planned)
		}
	})
}

// fan sends a frame that the floor server writes to all members of a user's group.
func (rs *rooms) fan(i int, planned int64) {
	rs.users[i].conn.Send(rs.framed(make([]byte, rs.phase.Size), wire.MsgGroupPush))
	g := rs.of(i)
	g.fanned = append(g.fanned, planned)
}

// fannedOut handles such a frame, of which one arrives per member.
func (rs *rooms) fannedOut(r *running, i int) {
	rs.st.counters["frames"]++
	g := rs.of(i)
	if g.fannedTo++; g.fannedTo < rs.cfg.Rooms.Online {
		return
	}
	g.fannedTo = 0
	r.inflight--
	if len(g.fanned) > 0 {
		r.done(rs.loop.Now() - g.fanned[0])
		g.fanned = g.fanned[1:]
	}
}
