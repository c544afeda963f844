package session

import "parley/internal/wire"

// FirstSeq returns the lowest number in a 1019 or in rows of a group, whose Seq is the highest.
func (p *Push) FirstSeq() int64 {
	if p.First > 0 {
		return p.First
	}
	first := p.Seq
	var body wire.TextPush
	if wire.Decode(p.Body, &body) == nil {
		for i := range body.Chats {
			first = min(first, body.Chats[i].Seq)
		}
	}
	return first
}

// Gap tells a client with Identity.Gap that it has missed texts of a thread from a number on, or with thread 0 that it may
// have missed some of any. It returns false if the session cannot be told: the client has no Gap, or the session is dead.
func (s *Session) Gap(thread, from int64) bool {
	s.mu.Lock()
	if !s.gap || s.gone || s.last {
		s.mu.Unlock()
		return false
	}
	s.noteGapLocked(thread, from)
	start := !s.busy
	s.busy = true
	s.mu.Unlock()
	if start {
		s.limits.Go(s.flush)
	}
	return true
}

func (s *Session) noteGapLocked(thread, from int64) {
	if s.gaps == nil {
		s.gaps = make(map[int64]int64)
	}
	if at, known := s.gaps[thread]; known {
		from = min(from, at)
	} else if len(s.gaps) >= maxGaps {
		thread, from = 0, 0 // too many to name
	}
	s.gaps[thread] = from
}

// CanGap reports whether Gap tells the client anything.
func (s *Session) CanGap() bool { return s.gap }

// Gap tells the user's live sessions what Session.Gap does, and hands those that cannot be told so to other. It returns how
// many there were, and whether one of them knows of sessions on other nodes.
func (r *Registry) Gap(uid int32, thread, from int64, other func(*Session)) (n int, elsewhere bool) {
	var few [MaxDevices]*Session
	list := few[:0]
	sh := &r.shard[uint32(uid)%shards]
	sh.mu.RLock()
	for s := sh.users[uid]; s != nil && len(list) < len(few); s = s.next {
		if s.State() == Live {
			list = append(list, s)
			elsewhere = elsewhere || s.elsewhere.Load()
		}
	}
	sh.mu.RUnlock()
	for _, s := range list {
		if !s.Gap(thread, from) && !s.CanGap() {
			other(s)
		}
	}
	return len(list), elsewhere
}
