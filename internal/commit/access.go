package commit

import (
	"cmp"
	"context"
	"slices"
	"time"

	"parley/internal/store"
	"parley/internal/wire"
)

// maxMembers is how many threads, and how many members of groups, a shard remembers at least.
const maxMembers = 65536

// member is a thread whose two members may write to it, as of a version of its membership. It need not be true any more:
// the append finds out, because it reads the thread's version with the row that it locks anyway.
type member struct {
	pair [2]int32
	ver  int32
}

// authorise refuses the texts of users who are not in the thread, and texts whose request names another user than the
// thread's other member. It leaves members who may not write, and former ones, to the append, which decides under the
// thread's lock and recognises resent texts from the time when they might. One SELECT for the whole batch reads what is not
// cached, and another one what is no private thread. A negative answer is never cached, so that an approval takes effect at once.
func (s *shard) authorise(ctx context.Context) {
	missing := s.missing[:0]
	for _, r := range s.batch {
		if _, ok := s.members.Get(r.Thread); !ok && r.Thread > 0 && r.pending() && !s.inGroup(r) {
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
		if err == nil && len(read) < len(missing) {
			err = s.authoriseGroups(ctx, read)
		}
	}
	for _, r := range s.batch {
		if r.group {
			if r.To != 0 {
				r.refuse(wire.CodeBadRequest)
			}
			continue
		}
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

// inGroup authorises a request for a group whose sender is known to be a member who may write.
func (s *shard) inGroup(r *Request) bool {
	if !r.From.Groups() {
		return false
	}
	ver, ok := s.writers.Get(store.GroupKey{Thread: r.Thread, UID: r.From.UID()})
	if ok {
		r.group, r.ver = true, ver
	}
	return ok
}

// authoriseGroups authorises requests for threads that are not private. A member who may not write, and a former one, is
// left to the append.
func (s *shard) authoriseGroups(ctx context.Context, private map[int64]store.Access) error {
	var keys []store.GroupKey
	for _, r := range s.batch {
		if s.mayBeGroup(r, private) {
			keys = append(keys, store.GroupKey{Thread: r.Thread, UID: r.From.UID()})
		}
	}
	if len(keys) == 0 {
		return nil
	}
	slices.SortFunc(keys, compareKeys)
	keys = slices.Compact(keys)
	rights, err := s.c.deps.Store.GroupRights(ctx, keys)
	if err != nil {
		s.c.deps.Log.Warn("rights in groups not read", "n", len(keys), "err", err)
		return err
	}
	now := time.Now().UnixMilli()
	for _, r := range s.batch {
		if !s.mayBeGroup(r, private) {
			continue
		}
		key := store.GroupKey{Thread: r.Thread, UID: r.From.UID()}
		right, found := rights[key]
		if !found {
			continue
		}
		r.group, r.ver = true, store.UnknownVer
		if right.MayWrite(now) {
			r.ver = right.Ver
			s.writers.Put(key, right.Ver)
		}
	}
	return nil
}

// mayBeGroup reports whether a request is for a thread that is not known to be private, by a client that is shown groups.
func (s *shard) mayBeGroup(r *Request, private map[int64]store.Access) bool {
	if r.group || r.Thread <= 0 || !r.From.Groups() || !r.pending() {
		return false
	}
	if _, found := private[r.Thread]; found {
		return false
	}
	_, cached := s.members.Get(r.Thread)
	return !cached
}

func compareKeys(a, b store.GroupKey) int {
	return cmp.Or(cmp.Compare(a.Thread, b.Thread), cmp.Compare(a.UID, b.UID))
}
