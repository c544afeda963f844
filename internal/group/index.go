package group

import (
	"math"
	"slices"
	"sync"
	"time"

	"parley/internal/presence"
	"parley/internal/session"
	"parley/internal/store"
)

// index holds which sessions of this node belong to members of which group. Its methods are safe for concurrent use.
//
// An entry takes 8 bytes, and 4 more in its session's list. When a session ends, its entries stay until half of a
// group's entries are dead. Leaving thus takes one step per group, however large the group is.
type index struct {
	mu     sync.Mutex // guards the following
	groups map[uint32]*members
	slots  []slot
	free   []uint32
	slotOf map[*session.Session]uint32
	last   uint64 // number of the last group that entered
	epoch  uint32 // incremented when no interest is known to be written any more
	boot   string // boot id that the epoch belongs to
}

// members holds the sessions of one group.
type members struct {
	entries []entry
	live    int32  // entries whose session is alive
	ver     int32  // all entries are at least as new as this version of the membership
	floor   int32  // during a refresh: the lowest version of the entries added since it began
	held    uint32 // the epoch in which the interest was written
	number  uint64 // of the interest
	emptied time.Duration
	// touched holds the slots added or changed during a refresh; nil when there is none.
	touched map[uint32]struct{}
}

type entry struct{ slot, from uint32 }

// slot is a session in the index. s is nil after the session has ended; the slot is free once its entries are
// cleared.
type slot struct {
	s       *session.Session
	threads []uint32 // in ascending order
	pending int32    // entries left of a session that has ended
}

// target is a session that is to get rows from one number on and, if to is not 0, up to another.
type target struct {
	s        *session.Session
	from, to uint32
}

func newIndex() *index {
	return &index{groups: make(map[uint32]*members), slotOf: make(map[*session.Session]uint32), epoch: 1}
}

// seq32 converts a row number to the form in the index. Row numbers fit 31 bits.
func seq32(seq int64) uint32 { return uint32(min(max(seq, 0), math.MaxUint32)) }

// small reports whether a thread id fits the index. All valid ids do.
func small(thread int64) bool { return thread > 0 && thread <= math.MaxUint32 }

// add puts a session into the index of groups, or updates its entries, and returns the number of new entries. It does
// nothing if the session is dead, because leave has already been called. If the session dies later, leave follows and
// finds the entries.
func (x *index) add(s *session.Session, list []store.ThreadMembership) (added int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if s.State() == session.Dead {
		return 0
	}
	at, known := x.slotOf[s]
	if !known {
		if n := len(x.free); n > 0 {
			at, x.free = x.free[n-1], x.free[:n-1]
		} else {
			at = uint32(len(x.slots))
			x.slots = append(x.slots, slot{})
		}
		x.slots[at] = slot{s: s, threads: make([]uint32, 0, len(list))}
		x.slotOf[s] = at
	}
	for i := range list {
		if m := &list[i]; small(m.Thread) && m.Present() && x.addLocked(at, m) {
			added++
		}
	}
	return added
}

// addLocked adds an entry or updates an existing one, and reports whether it was new. A new entry that is older than
// the others lowers the version of the group, so that the next row causes a refresh.
func (x *index) addLocked(at uint32, m *store.ThreadMembership) bool {
	thread, from := uint32(m.Thread), seq32(m.FromSeq)
	g := x.groups[thread]
	if g == nil {
		x.last++
		g = &members{number: x.last}
		x.groups[thread] = g
	}
	sl := &x.slots[at]
	i, there := slices.BinarySearch(sl.threads, thread)
	switch {
	case there && m.Ver < g.ver:
		return false // the entry is as new, or a refresh will update it
	case there:
		e := slices.IndexFunc(g.entries, func(e entry) bool { return e.slot == at })
		g.entries[e].from = from
	default:
		if g.live == 0 {
			g.ver = m.Ver
		}
		g.ver = min(g.ver, m.Ver)
		if len(g.entries) == cap(g.entries) { // grow by an eighth; append would double
			g.entries = append(make([]entry, 0, len(g.entries)+len(g.entries)/8+2), g.entries...)
		}
		g.entries = append(g.entries, entry{at, from})
		g.live++
		sl.threads = slices.Insert(sl.threads, i, thread)
	}
	if g.touched != nil {
		g.touched[at] = struct{}{}
		g.floor = min(g.floor, m.Ver)
	}
	return !there
}

// missing returns the threads whose index does not contain the session.
func (x *index) missing(s *session.Session, threads []int64) (out []int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	var mine []uint32
	if at, ok := x.slotOf[s]; ok {
		mine = x.slots[at].threads
	}
	for _, thread := range threads {
		if !small(thread) {
			continue
		}
		if _, there := slices.BinarySearch(mine, uint32(thread)); !there {
			out = append(out, thread)
		}
	}
	return out
}

// leave removes a session that has ended.
func (x *index) leave(s *session.Session, now time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	at, ok := x.slotOf[s]
	if !ok {
		return
	}
	delete(x.slotOf, s)
	sl := &x.slots[at]
	threads := sl.threads
	*sl = slot{pending: int32(len(threads))}
	if len(threads) == 0 {
		x.free = append(x.free, at)
	}
	for _, thread := range threads {
		g := x.groups[thread]
		g.live--
		if int(g.live) < (len(g.entries)+1)/2 {
			x.clearLocked(g)
		}
		if g.live == 0 {
			g.emptied = now
		}
	}
}

// clearLocked removes the entries of ended sessions from a group.
func (x *index) clearLocked(g *members) {
	g.entries = slices.DeleteFunc(g.entries, func(e entry) bool {
		sl := &x.slots[e.slot]
		if sl.s != nil {
			return false
		}
		if sl.pending--; sl.pending == 0 {
			x.free = append(x.free, e.slot)
		}
		return true
	})
	switch n := len(g.entries); {
	case n == 0:
		g.entries = nil
	case cap(g.entries) > 2*n+8:
		g.entries = slices.Clone(g.entries)
	}
}

// targets appends the sessions of a group to dst. It returns false if the index is older than ver and must be
// refreshed first.
func (x *index) targets(dst []target, thread int64, ver int32) (_ []target, fresh bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	g := x.group(thread)
	if g == nil || g.live == 0 {
		return dst, true
	}
	if g.ver < ver {
		return dst, false
	}
	for _, e := range g.entries {
		if s := x.slots[e.slot].s; s != nil {
			dst = append(dst, target{s: s, from: e.from})
		}
	}
	return dst, true
}

func (x *index) group(thread int64) *members {
	if !small(thread) {
		return nil
	}
	return x.groups[uint32(thread)]
}

// begin starts a refresh and returns the users whose membership must be read. A group has at most one refresh at a
// time, because its lane is one goroutine.
func (x *index) begin(dst []int32, thread int64) []int32 {
	x.mu.Lock()
	defer x.mu.Unlock()
	g := x.group(thread)
	if g == nil || g.live == 0 {
		return dst
	}
	g.touched, g.floor = make(map[uint32]struct{}), math.MaxInt32
	for _, e := range g.entries {
		if s := x.slots[e.slot].s; s != nil {
			dst = append(dst, s.UID())
		}
	}
	slices.Sort(dst)
	return slices.Compact(dst)
}

// end ends a refresh with the membership read and its version; ok is false if the read failed. It returns the
// sessions whose users have left, with the rows they may still read, and the version of the index. Entries touched
// during the refresh keep their values, which are newer than the read or lower the version by way of floor.
func (x *index) end(thread int64, ver int32, read map[int32]store.Membership, ok bool, now time.Duration) (left []target, _ int32) {
	x.mu.Lock()
	defer x.mu.Unlock()
	g := x.group(thread)
	if g == nil || g.touched == nil {
		return nil, ver
	}
	touched := g.touched
	g.touched = nil
	if !ok {
		return nil, 0
	}
	g.entries = slices.DeleteFunc(g.entries, func(e entry) bool {
		sl := &x.slots[e.slot]
		if _, later := touched[e.slot]; later || sl.s == nil {
			return false
		}
		m, known := read[sl.s.UID()]
		if known && m.Present() {
			return false
		}
		if known {
			left = append(left, target{sl.s, e.from, seq32(m.LeftSeq)})
		}
		g.live--
		if i, there := slices.BinarySearch(sl.threads, uint32(thread)); there {
			sl.threads = slices.Delete(sl.threads, i, i+1)
		}
		return true
	})
	for i := range g.entries {
		e := &g.entries[i]
		if _, later := touched[e.slot]; later || x.slots[e.slot].s == nil {
			continue
		}
		m := read[x.slots[e.slot].s.UID()]
		e.from = seq32(m.FromSeq)
	}
	if g.live == 0 {
		g.emptied = now
	}
	g.ver = min(ver, g.floor)
	return left, g.ver
}

// enterLife sets the boot id for which interests are written.
func (x *index) enterLife(boot string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.boot != boot {
		x.boot = boot
		x.epoch++
	}
}

// lost marks all interests as not written.
func (x *index) lost() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.epoch++
}

// interests appends the entries that Redis should hold for groups with members here. Unless all is set, it leaves out
// those known to be written. Pass epoch to noteHeld after writing them.
func (x *index) interests(dst []presence.GroupEntry, threads []int64, node string, all bool) (_ []presence.GroupEntry, epoch uint32) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, thread := range threads {
		if g := x.group(thread); g != nil && g.live > 0 && (all || g.held != x.epoch) {
			dst = append(dst, presence.GroupEntry{Thread: thread, Node: node, Boot: x.boot, Number: g.number})
		}
	}
	return dst, x.epoch
}

// noteHeld records that interests were written. epoch is the one in which the write began: if Redis has lost its data
// since, they still count as not written.
func (x *index) noteHeld(entries []presence.GroupEntry, epoch uint32) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range entries {
		if g := x.group(entries[i].Thread); g != nil && g.number == entries[i].Number {
			g.held = epoch
		}
	}
}

// threads returns all groups with members here. It drops groups that have been empty since before a time, and returns
// their interests.
func (x *index) threads(node string, emptied time.Duration) (all []int64, dropped []presence.GroupEntry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	all = make([]int64, 0, len(x.groups))
	for thread, g := range x.groups {
		switch {
		case g.live > 0:
			all = append(all, int64(thread))
		case g.emptied < emptied:
			x.clearLocked(g)
			delete(x.groups, thread)
			dropped = append(dropped, presence.GroupEntry{Thread: int64(thread), Node: node, Boot: x.boot, Number: g.number})
		}
	}
	return all, dropped
}

// heldOf reports which interests are known to be written.
func (x *index) heldOf(entries []presence.GroupEntry) []bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	held := make([]bool, len(entries))
	for i := range entries {
		g := x.group(entries[i].Thread)
		held[i] = g != nil && g.number == entries[i].Number && g.held == x.epoch
	}
	return held
}

// size returns the number of groups and of their entries.
func (x *index) size() (groups, entries int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, g := range x.groups {
		if g.live > 0 {
			groups++
			entries += int(g.live)
		}
	}
	return groups, entries
}
