package commit

import (
	"cmp"
	"context"
	"slices"
	"time"

	"parley/internal/store"
	"parley/internal/wire"
)

// maxMembers is the number of private threads, and of group writers, that a shard remembers at least.
const maxMembers = 65536

// member records that both members of a private thread may write to it, as of a version of the thread's membership.
// It may be out of date. That is safe because the append reads the current version together with the row it locks
// anyway, and refuses the text if the sender may no longer write.
type member struct {
	pair [2]int32
	ver  int32
}

// authorise refuses texts from users outside the thread, and requests that name a recipient other than the thread's
// other member. It leaves members without the right to write, and former members, to the append: only the append
// decides under the thread's lock, and it recognises a text that was first sent when its sender still had the right.
// Threads missing from the cache are read with one SELECT per batch, and those that are not private with a second
// one. Refusals are never cached, so an approval takes effect at once.
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
		if read, err = s.c.deps.Rights.Access(ctx, missing); err != nil {
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

// inGroup authorises a group request from the cache. It reports whether the sender is cached as a member with the
// right to write.
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

// authoriseGroups authorises requests for threads that are not private. It leaves former members, and members without
// the right to write, to the append: it marks their requests with an unknown version.
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
	rights, err := s.c.deps.Rights.InGroups(ctx, keys)
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

// mayBeGroup reports whether a request is for a thread not known to be private, from a client that is shown groups.
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
