package group

import (
	"context"

	"parley/internal/batch"
	"parley/internal/session"
	"parley/internal/store"
)

// singles delivers rows to single users whose sessions the index may lack.
type singles struct {
	*shared
	interests *interests
	queue     *batch.Queue[userRows]
}

const (
	userBatch = 64 // pushes per batch
	userLanes = 2  // goroutines that deliver them
)

func newSingles(s *shared, is *interests) *singles {
	si := &singles{shared: s, interests: is}
	si.queue = batch.NewQueue[userRows](batch.Limits{Items: s.cfg.Users, BatchItems: userBatch})
	for range userLanes {
		s.wg.Go(func() { si.queue.Run(s.ctx.Done(), si.deliver, si.failed) })
	}
	return si
}

// User hands group rows to the sessions of one user, in the background, after putting these sessions into the index.
// It returns the number of the user's live sessions here, and whether one of them knows of sessions on other nodes.
func (si *singles) User(p *session.Push) (n int, elsewhere bool) {
	var few [session.MaxDevices]*session.Session
	list, elsewhere := si.d.Registry.Find(few[:0], p)
	var shown []*session.Session
	for _, s := range list {
		if s.Groups() {
			shown = append(shown, s)
		}
	}
	if len(shown) > 0 && !si.queue.Put(userRows{*p, shown}, 1) {
		si.metrics.overflows.Inc()
		for _, s := range shown {
			si.tell(s, p.Thread, p.FirstSeq())
		}
	}
	return len(list), elsewhere
}

// userRows are rows for the sessions of one user.
type userRows struct {
	push     session.Push
	sessions []*session.Session
}

// deliver puts users' sessions into the index, writes the interests, and hands on the rows. Later rows may have been
// pushed before the interest was written, so the clients also get a gap notice.
func (si *singles) deliver(list []userRows) {
	ctx, cancel := context.WithTimeout(si.ctx, si.cfg.Timeout)
	defer cancel()
	members := make([]store.Membership, len(list))
	known := make([]bool, len(list))
	byThread := make(map[int64][]int32)
	for i := range list {
		p := &list[i].push
		byThread[p.Thread] = append(byThread[p.Thread], p.To)
	}
	threads := make([]int64, 0, len(byThread))
	for thread, uids := range byThread {
		ver, found, err := si.d.Store.LocalMembers(ctx, thread, uids)
		if err != nil {
			si.metrics.refreshFailures.Inc()
			si.log.Warn("members not read", "thread", thread, "n", len(uids), "err", err)
			continue
		}
		threads = append(threads, thread)
		for i := range list {
			u := &list[i]
			if u.push.Thread != thread {
				continue
			}
			if members[i], known[i] = found[u.push.To]; !known[i] {
				continue
			}
			for _, s := range u.sessions {
				si.index.add(s, []store.ThreadMembership{{Thread: thread, Ver: ver, Membership: members[i]}})
			}
		}
	}
	if err := si.interests.hold(ctx, threads); err != nil {
		si.log.Warn("interests not written", "n", len(threads), "err", err)
	}
	for i := range list {
		u := &list[i]
		first, last := u.push.FirstSeq(), u.push.Seq
		m, missed := &members[i], first
		var frame []byte
		if known[i] && first >= m.FromSeq && (m.LeftSeq == 0 || last <= m.LeftSeq) {
			frame, missed = appendFrame(nil, u.push.Body), last+1
		}
		for _, s := range u.sessions {
			if frame != nil && s.PushFrames(frame, u.push.Thread, first) == nil {
				si.metrics.rows.Inc()
				si.metrics.writes.Inc()
			}
			si.tell(s, u.push.Thread, missed)
		}
	}
}

func (si *singles) failed(list []userRows, p *batch.Panic) {
	si.panicked(p)
	for i := range list {
		for _, s := range list[i].sessions {
			si.tell(s, list[i].push.Thread, list[i].push.FirstSeq())
		}
	}
}
