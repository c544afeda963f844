package session

import "parley/internal/wire"

// FirstSeq returns the lowest number in a 1019 or in rows, whose Seq is the highest.
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

// In returns the thread of a push.
func (p *Push) In() int64 { return p.Thread }

// Lost returns the thread of a push, and the lowest number in it.
func (p *Push) Lost() (thread, first int64) { return p.Thread, p.FirstSeq() }

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
