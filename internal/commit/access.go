package commit

import (
	"context"
	"slices"
	"time"

	"parley/internal/store"
	"parley/internal/wire"
)

// How long a positive answer is believed: friendships and the members of private threads only grow today. A negative
// answer is never kept, so that an approval takes effect at once.
const memberTTL = 60 * time.Second

// maxMembers bounds each of the cache's two generations.
const maxMembers = 65536

// memberCache remembers who may write into a thread. It forgets by generations: entries live in the young one, become
// old together after half of memberTTL or when the young one is full, and are dropped with the next turn. It belongs to
// one goroutine.
type memberCache struct {
	young, old map[int64][2]int32
	turned     time.Time
}

func (c *memberCache) turn(now time.Time) {
	age := now.Sub(c.turned)
	if c.young != nil && len(c.young) < maxMembers && age < memberTTL/2 {
		return
	}
	c.old = c.young
	if age >= memberTTL { // nobody wrote for so long: what was young is too old as well
		c.old = nil
	}
	c.young, c.turned = make(map[int64][2]int32), now
}

func (c *memberCache) get(thread int64) ([2]int32, bool) {
	pair, ok := c.young[thread]
	if !ok {
		pair, ok = c.old[thread]
	}
	return pair, ok
}

// authorise refuses the texts of those who are not in the thread or no friends of its other member. What is not cached is
// read with one SELECT for the whole batch.
func (s *shard) authorise(ctx context.Context, now time.Time) {
	s.members.turn(now)
	missing := s.missing[:0]
	for _, r := range s.batch {
		if _, ok := s.members.get(r.Thread); !ok && r.Thread > 0 && r.pending() {
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
				s.members.young[id] = [2]int32{a.User1, a.User2}
			}
		}
	}
	for _, r := range s.batch {
		pair, ok := s.members.get(r.Thread)
		uid := r.From.UID()
		switch {
		case ok && uid == pair[0]:
			r.peer = pair[1]
		case ok && uid == pair[1]:
			r.peer = pair[0]
		case !ok && err != nil && r.Thread > 0:
			r.refuse(wire.CodeUnavailable)
		default:
			r.refuse(wire.CodeNotAllowed)
		}
	}
}
