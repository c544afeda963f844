package client

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// order puts the messages of each thread into their one order, without holes and without doubles. Messages come as
// pushes, which may be early, late, doubled or missing, and as pages of the history, which say what there is. It is
// plain state: no locks, no time.
//
// In a group the messages that the user may read begin with the event that admits it and end with the event that parts it
// from the group; a page says where they begin.
type order struct {
	self    int32 // the user
	threads map[int64]*position
}

type position struct {
	cursor  int64 // everything up to here has been handed on
	highest int64 // the highest id heard of; above cursor means that something is missing
	ahead   map[int64]Message
	newest  time.Time // when the newest message that was handed on was stored
	back    int64     // up to here messages no newer than that have been handed on already

	admitted int64 // the newest event heard of that admits the user to the group
	parted   int64 // the newest event handed on that parts the user from it
}

// out reports whether the user has left the group, as far as known.
func (p *position) out() bool { return p.parted > p.admitted }

// maxAhead bounds the messages kept of a thread while what comes before them is fetched. What is beyond is fetched too.
const maxAhead = 256

func (o *order) at(thread int64) *position {
	p := o.threads[thread]
	if p == nil {
		if o.threads == nil {
			o.threads = make(map[int64]*position)
		}
		p = new(position)
		o.threads[thread] = p
	}
	return p
}

// start says that everything of the thread up to id is known. It never moves backwards.
func (o *order) start(thread, id int64) {
	p := o.at(thread)
	p.cursor = max(p.cursor, id)
	p.highest = max(p.highest, id)
}

// expect says that the thread holds messages up to id.
func (o *order) expect(thread, id int64) {
	p := o.at(thread)
	p.highest = max(p.highest, id)
}

// push takes messages as they arrive and returns those that are next, in order.
func (o *order) push(thread int64, msgs []Message) []Message {
	p := o.at(thread)
	var ready []Message
	for _, m := range msgs {
		o.hear(p, m)
		if p.out() && m.ID > p.parted {
			continue // not for this user
		}
		p.highest = max(p.highest, m.ID)
		switch {
		case m.ID <= p.cursor:
		case m.ID == p.cursor+1:
			p.cursor++
			ready = o.drain(p, o.handOn(p, ready, m))
		case len(p.ahead) < maxAhead:
			if p.ahead == nil {
				p.ahead = make(map[int64]Message)
			}
			p.ahead[m.ID] = m
		}
	}
	return ready
}

// page takes a part of the history that begins right after the cursor and returns what is new in it, in order. An id
// the history leaves out does not exist.
func (o *order) page(thread int64, msgs []Message, next int64) []Message {
	p := o.at(thread)
	var ready []Message
	for _, m := range msgs {
		o.hear(p, m)
		if m.ID > p.cursor {
			p.cursor = m.ID
			ready = o.handOn(p, ready, m)
		}
	}
	p.cursor = max(p.cursor, next)
	p.highest = max(p.highest, p.cursor)
	return o.drain(p, ready)
}

// hear notes that the user was admitted to a group.
func (o *order) hear(p *position, m Message) {
	if m.Event != nil && m.ID > p.admitted && m.Event.admits(o.self) {
		p.admitted = m.ID
	}
}

// drain appends what was kept and is next now, and forgets what is known by now.
func (o *order) drain(p *position, ready []Message) []Message {
	for len(p.ahead) > 0 {
		m, ok := p.ahead[p.cursor+1]
		if !ok {
			break
		}
		delete(p.ahead, m.ID)
		p.cursor++
		ready = o.handOn(p, ready, m)
	}
	if p.out() {
		p.ahead, p.highest = nil, p.cursor
	}
	for id := range p.ahead {
		if id <= p.cursor {
			delete(p.ahead, id)
		}
	}
	if len(p.ahead) == 0 {
		p.ahead = nil
	}
	return ready
}

// skip gives up on what is missing and returns what was kept, in order. It is for a history that does not hold what was
// pushed, or what was said to be there.
func (o *order) skip(thread int64) []Message {
	p := o.at(thread)
	var ready []Message
	for _, m := range slices.SortedFunc(maps.Values(p.ahead), func(a, b Message) int { return cmp.Compare(a.ID, b.ID) }) {
		if p.out() {
			break
		}
		p.cursor = m.ID
		ready = o.handOn(p, ready, m)
	}
	p.ahead = nil
	p.highest = p.cursor
	return ready
}

// maxBack is how many messages at the end of a thread that was set back are looked at for new ones.
const maxBack = 1000

// handOn appends a message that is next to those that are ready, unless it was handed on before the thread was set back.
func (o *order) handOn(p *position, ready []Message, m Message) []Message {
	if m.Event != nil && m.Event.parts(o.self) {
		p.parted = m.ID
	}
	if m.ID <= p.back && !m.Time.After(p.newest) {
		return ready
	}
	if m.Time.After(p.newest) {
		p.newest = m.Time
	}
	return append(ready, m)
}

// setBack says that the thread ends at last, before the cursor, because an older backup was restored. What was stored since
// may be among its last messages; the time tells.
func (o *order) setBack(thread, last int64) {
	p := o.at(thread)
	p.cursor, p.highest, p.back, p.ahead = last, last, last, nil
	p.admitted, p.parted = 0, 0
	if !p.newest.IsZero() {
		p.cursor = max(0, last-maxBack)
	}
}

// cursor returns up to where the thread has been handed on.
func (o *order) cursor(thread int64) int64 { return o.at(thread).cursor }

// hole reports whether something of the thread is known to be missing.
func (o *order) hole(thread int64) bool {
	p := o.at(thread)
	return p.highest > p.cursor
}

// latest returns the cursor of the thread of which the newest message was handed on; the zero value if there is none.
func (o *order) latest() (at Cursor) {
	var newest time.Time
	for thread, p := range o.threads {
		if p.newest.After(newest) {
			newest, at = p.newest, Cursor{ThreadID: thread, LastID: p.cursor}
		}
	}
	return at
}

// cursors returns all cursors, by thread id.
func (o *order) cursors() []Cursor {
	out := make([]Cursor, 0, len(o.threads))
	for thread, p := range o.threads {
		out = append(out, Cursor{ThreadID: thread, LastID: p.cursor})
	}
	slices.SortFunc(out, func(a, b Cursor) int { return int(a.ThreadID - b.ThreadID) })
	return out
}
