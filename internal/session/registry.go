package session

import (
	"sync"
	"time"
)

// MaxDevices bounds the live sessions of one user on one node.
const MaxDevices = 8

// shards spreads the registry's locks; a power of two.
const shards = 64

// Registry finds the sessions of a user on this node, and those that are due to be looked at. All methods are safe for
// concurrent use; NewRegistry makes one.
type Registry struct {
	shard [shards]shard
	wheel wheel
}

type shard struct {
	mu    sync.RWMutex
	users map[int32]*Session // newest first, linked by Session.next
	live  int
	_     [24]byte // keeps neighbours off one cache line
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry {
	r := &Registry{wheel: wheel{began: time.Now()}}
	for i := range r.shard {
		r.shard[i].users = make(map[int32]*Session)
	}
	return r
}

// Add makes a Pending session known by its id. Pushes do not find it before Activate.
func (r *Registry) Add(s *Session) {
	sh := &r.shard[uint32(s.uid)%shards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s.next = sh.users[s.uid]
	sh.users[s.uid] = s
	sh.accompanyLocked(s.uid)
}

// accompanyLocked tells a user's sessions whether there is more than one.
func (sh *shard) accompanyLocked(uid int32) {
	s := sh.users[uid]
	for more := s != nil && s.next != nil; s != nil; s = s.next {
		s.here.Store(more)
	}
}

// Activation is what Activate found.
type Activation uint8

// What became of a login by the time it was done.
const (
	Activated  Activation = iota // the session is Live
	Superseded                   // a newer login took over meanwhile: tell the client so
	Died                         // the connection closed meanwhile
)

// Activate makes an added session Live, unless a newer login or a close came first. One that died is forgotten: its close
// may have come before Add, and then nobody else would.
func (r *Registry) Activate(s *Session) Activation {
	sh := &r.shard[uint32(s.uid)%shards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s.superseded {
		return Superseded
	}
	if !s.advance(Pending, Live) {
		sh.removeLocked(s)
		r.wheel.drop(s)
		return Died
	}
	sh.live++
	s.counted = true
	return Activated
}

// Supersede prepares the end of a session that a newer login replaces. It returns the session as live if it is Live, to be
// finished by the caller. Another one is marked, so that Activate refuses it, and returned as pending: its login may be under
// way. If live is nil, no push reaches that session any more.
func (r *Registry) Supersede(uid int32, sid SID) (live, pending *Session) {
	sh := &r.shard[uint32(uid)%shards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for s := sh.users[uid]; s != nil; s = s.next {
		if s.sid != sid {
			continue
		}
		if s.State() == Live {
			return s, nil
		}
		s.superseded = true
		return nil, s
	}
	return nil, nil
}

// Remove forgets this session, and no other of the same user. It reports whether the session was there.
func (r *Registry) Remove(s *Session) bool {
	sh := &r.shard[uint32(s.uid)%shards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	r.wheel.drop(s)
	return sh.removeLocked(s)
}

func (sh *shard) removeLocked(s *Session) bool {
	var before *Session
	for at := sh.users[s.uid]; at != nil; before, at = at, at.next {
		if at != s {
			continue
		}
		switch {
		case before != nil:
			before.next = s.next
		case s.next != nil:
			sh.users[s.uid] = s.next
		default:
			delete(sh.users, s.uid)
		}
		s.next = nil
		sh.accompanyLocked(s.uid)
		if s.counted {
			s.counted = false
			sh.live--
		}
		return true
	}
	return false
}

// Of appends the ids of the user's sessions that are not dead, pending ones included.
func (r *Registry) Of(dst []SID, uid int32) []SID {
	sh := &r.shard[uint32(uid)%shards]
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	for s := sh.users[uid]; s != nil; s = s.next {
		if s.State() != Dead {
			dst = append(dst, s.sid)
		}
	}
	return dst
}

// Deliver hands p to the user's live sessions that it is meant for. It returns how many took it, whether one of them knows
// of sessions on other nodes, and the first reason why one did not take it: ErrSlow or ErrClosed. What they took
// is written when cork is released, at once if that is nil. A Pending session remembers that it missed something. One that
// p skips counts as if it took p.
func (r *Registry) Deliver(p *Push, cork *Cork) (n int, elsewhere bool, err error) {
	var few [MaxDevices]*Session // Push must not run under the shard's lock: a slow consumer is closed inside it
	list, elsewhere := r.Find(few[:0], p)
	for _, s := range list {
		if p.Skip != 0 && s.sid == p.Skip {
			n++
		} else if e := s.PushCorked(p, cork); e == nil {
			n++
		} else if err == nil {
			err = e
		}
	}
	return n, elsewhere, err
}

// Find appends the user's live sessions that p is meant for, at most MaxDevices, and returns whether one of them knows of
// sessions on other nodes. A Pending session remembers that it missed something.
func (r *Registry) Find(dst []*Session, p *Push) (_ []*Session, elsewhere bool) {
	var sid SID
	if p.SID != "" {
		var ok bool
		if sid, ok = ParseSID(p.SID); !ok {
			return dst, false
		}
	}
	n := 0
	sh := &r.shard[uint32(p.To)%shards]
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	for s := sh.users[p.To]; s != nil && n < MaxDevices; s = s.next {
		if p.Device != "" && p.Device != s.device || p.SID != "" && sid != s.sid {
			continue
		}
		switch s.State() {
		case Live:
			dst = append(dst, s)
			n++
			elsewhere = elsewhere || s.elsewhere.Load()
		case Pending:
			s.missed.Store(true)
		}
	}
	return dst, elsewhere
}

// Elsewhere notes that the user has sessions on other nodes too, so that pushes from here look for them. It reports
// whether the user has a session here. It is not taken back: a needless look-up is harmless, a missed device is not.
func (r *Registry) Elsewhere(uid int32) bool {
	sh := &r.shard[uint32(uid)%shards]
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	s := sh.users[uid]
	here := s != nil
	for ; s != nil; s = s.next {
		s.elsewhere.Store(true)
	}
	return here
}

// Live returns how many sessions are logged in.
func (r *Registry) Live() int {
	n := 0
	for i := range r.shard {
		sh := &r.shard[i]
		sh.mu.RLock()
		n += sh.live
		sh.mu.RUnlock()
	}
	return n
}

// LookAt has Due return a session once, after the given time, in place of the time it was given before. Times that have
// passed mean the next Due; those more than wheelSlots seconds ahead come up earlier. It does nothing for a session that
// is Dead.
func (r *Registry) LookAt(s *Session, at time.Time) { r.wheel.put(s, at) }

// Due appends the sessions that are to be looked at by now, in whole seconds. Those that the caller does not give another
// time come up no more.
func (r *Registry) Due(dst []*Session, now time.Time) []*Session { return r.wheel.take(dst, now) }

// Parts is how many parts EachOf divides the sessions into.
const Parts = shards

// Each calls f for every session, pending ones included, without holding a lock. Sessions that come or go meanwhile may be
// missed.
func (r *Registry) Each(f func(*Session)) {
	for i := range Parts {
		r.EachOf(i, f)
	}
}

// EachOf is Each for one of Parts parts, which are of about the same size.
func (r *Registry) EachOf(part int, f func(*Session)) {
	sh := &r.shard[part]
	sh.mu.RLock()
	list := make([]*Session, 0, len(sh.users))
	for _, s := range sh.users {
		for ; s != nil; s = s.next {
			list = append(list, s)
		}
	}
	sh.mu.RUnlock()
	for _, s := range list {
		f(s)
	}
}
