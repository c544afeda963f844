package commit

import (
	"context"
	"slices"

	"parley/internal/store"
	"parley/internal/wire"
)

// maxMembers is how many threads a shard remembers at least.
const maxMembers = 65536

// member is a thread whose two members may write to it, as of a version of its membership. It need not be true any more:
// the append finds out, because it reads the thread's version with the row that it locks anyway.
type member struct {
	pair [2]int32
	ver  int32
}

// authorise refuses the texts of users who are not in the thread, and texts whose request names another user than the
// thread's other member. It leaves members who are not friends to the append, which decides under the thread's lock and
// recognises resent texts from the time when they were friends. One SELECT for the whole batch reads what is not cached.
// A negative answer is never cached, so that an approval takes effect at once.
func (s *shard) authorise(ctx context.Context) {
	missing := s.missing[:0]
	for _, r := range s.batch {
		if _, ok := s.members.Get(r.Thread); !ok && r.Thread > 0 && r.pending() {
			missing = append(missing, r.Thread)
		}
	}
	slices.Sort(missing)
	missing = slices.Compact(missing)
	s.missing = missing
	var read map[int64]store.Access
	var err error
	if len(missing) > 0 {
		if read, err = s.c.deps.Store.Access(ctx, missing); err != nil {
			s.c.deps.Log.Warn("members not read", "n", len(missing), "err", err)
		}
		for id, a := range read {
			if a.Friends {
				s.members.Put(id, member{[2]int32{a.User1, a.User2}, a.Ver})
			}
		}
	}
	for _, r := range s.batch {
		m, ok := s.members.Get(r.Thread)
		if !ok {
			if a, found := read[r.Thread]; found {
				m, ok = member{[2]int32{a.User1, a.User2}, store.UnknownVer}, true
			}
		}
		uid, peer := r.From.UID(), int32(0)
		switch {
		case ok && uid == m.pair[0]:
			peer = m.pair[1]
		case ok && uid == m.pair[1]:
			peer = m.pair[0]
		}
		switch {
		case peer != 0 && r.To != 0 && r.To != peer:
			r.refuse(wire.CodeBadRequest)
		case peer != 0:
			r.peer, r.ver = peer, m.ver
		case !ok && err != nil && r.Thread > 0:
			r.refuse(wire.CodeUnavailable)
		default:
			r.refuse(wire.CodeNotAllowed)
		}
	}
}
