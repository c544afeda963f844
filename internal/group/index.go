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

// index says which sessions of this node belong to members of which group. Its methods are safe for concurrent use.
//
// An entry takes 8 bytes, and 4 in its session's list. Sessions that end leave their entries behind, to be cleared when
// they are half of a group's: so leaving takes one step per group, however large.
type index struct {
	mu     sync.Mutex // guards the following
	groups map[uint32]*members
	slots  []slot
	free   []uint32
	slotOf map[*session.Session]uint32
	last   uint64 // number of the group that came in last
	epoch  uint32 // another one means that no interest is known to be written
	boot   string // the life of the node that the epoch belongs to
}

// members are the sessions of one group.
type members struct {
	entries []entry
	live    int32  // entries whose session has not ended
	ver     int32  // all entries are as of this version of the membership, or a later one
	floor   int32  // while a refresh is under way: the lowest version of what was added meanwhile
	held    uint32 // the epoch in which the interest was written
	number  uint64 // of the interest
	emptied time.Duration
	// touched are the slots that were added or changed while a refresh is under way; nil at other times.
	touched map[uint32]struct{}
}

type entry struct{ slot, from uint32 }

// slot is a session in the index. When it has ended, s is nil, and the slot is free once its entries are cleared.
type slot struct {
	s       *session.Session
	threads []uint32 // in ascending order
	pending int32    // entries of a session that has ended
}

// target is who is to get rows, from one number on and, if to is not 0, up to another.
type target struct {
	s        *session.Session
	from, to uint32
}

func newIndex() *index {
	return &index{groups: make(map[uint32]*members), slotOf: make(map[*session.Session]uint32), epoch: 1}
}

// seq32 is a number of a row as the index keeps it. Numbers fit 31 bits everywhere.
func seq32(seq int64) uint32 { return uint32(min(max(seq, 0), math.MaxUint32)) }

// small reports whether a thread's id fits the index, as all do.
func small(thread int64) bool { return thread > 0 && thread <= math.MaxUint32 }

// add puts a session into the index of groups, or brings its entries up to date, and returns how many were new. It does
// nothing for a session that is dead: its leave has come, or comes later and finds it.
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
		return false // what is there is as new, or a refresh brings it
	case there:
		e := slices.IndexFunc(g.entries, func(e entry) bool { return e.slot == at })
		g.entries[e].from = from
	default:
		if g.live == 0 {
			g.ver = m.Ver
		}
		g.ver = min(g.ver, m.Ver)
		if len(g.entries) == cap(g.entries) { // by an eighth: append would double
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

// missing returns those of threads of which the session is not in the index.
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

// leave takes a session that has ended out of the index.
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

// clearLocked removes the entries of sessions that have ended.
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

// targets appends the sessions of a group, if the index is as new as ver. Otherwise it is to be refreshed first.
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

// begin begins a refresh: it returns the users whose membership is to be read. One refresh of a group is under way at most.
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

// end ends a refresh with what was read under a version; ok is false if it could not be. It returns the sessions whose
// users have left, with the rows that they may still read, and the version that the index has now.
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

// enterLife makes boot the life that interests are written for.
func (x *index) enterLife(boot string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.boot != boot {
		x.boot = boot
		x.epoch++
	}
}

// lost forgets that interests were written.
func (x *index) lost() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.epoch++
}

// interests appends the entries that Redis is to hold for groups with members here, those that it is known to hold only if
// all is set. epoch is to be given to noteHeld when they are written.
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

// noteHeld notes that interests were written, in the epoch in which that began.
func (x *index) noteHeld(entries []presence.GroupEntry, epoch uint32) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range entries {
		if g := x.group(entries[i].Thread); g != nil && g.number == entries[i].Number {
			g.held = epoch
		}
	}
}

// threads returns all groups, and drops those that have been empty since before a time: their interests are returned
// beside them.
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

// heldOf tells which of the interests were known to be written.
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

// size returns how many groups and how many of their entries there are.
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
