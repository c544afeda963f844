package watch

import (
	"context"
	"sync/atomic"
	"time"
)

// reader reads the presence of dirty users from Redis. It is one goroutine, so that an older read never overwrites a
// newer one.
type reader[C Client] struct {
	*shared
	table  *table[C]
	teller *teller[C]
	wake   chan struct{} // holds a token while there may be dirty users
	soon   atomic.Bool   // such a token comes within Config.Gather
}

// soil marks users dirty. They are read a little later, because others change too, and a read costs as much for one user as
// for several.
func (r *reader[C]) soil(uids []int32) {
	if r.table.unread.soil(uids) && r.soon.CompareAndSwap(false, true) {
		time.AfterFunc(r.cfg.Gather, func() {
			r.soon.Store(false)
			signal(r.wake)
		})
	}
}

// soilAll marks all users dirty.
func (r *reader[C]) soilAll() {
	r.metrics.all.Inc()
	if r.table.unread.soilAll() {
		signal(r.wake)
	}
}

// step reads one batch of dirty users.
func (r *reader[C]) step() (rest time.Duration) {
	t := r.table
	users := t.unread.take(r.cfg.Batch, time.Now())
	if len(users) == 0 {
		return r.audit()
	}
	read := false
	defer func() {
		if !read {
			t.unread.giveBack(users)
		}
	}()
	uids := make([]int32, len(users))
	for i, u := range users {
		uids[i] = u.uid
	}
	ctx, cancel := context.WithTimeout(r.ctx, r.cfg.Timeout)
	defer cancel()
	found, gen, err := r.d.Whereabouts(ctx, uids)
	if err != nil {
		if r.ctx.Err() == nil {
			r.metrics.readFailures.Inc()
			r.log.Warn("presence not read, retrying", "n", len(uids), "err", err)
		}
		return r.cfg.Retry
	}
	r.metrics.read.Add(float64(len(uids)))
	now := time.Now()
	minute := int32(now.Unix() / 60)
	changed, crashed := t.learn(users, found, r.d.Settled(gen), minute, now.Add(r.cfg.Retry))
	read = true
	if changed {
		signal(r.teller.wake)
	}
	if len(crashed) > 0 {
		if err := r.d.NoteSeen(ctx, crashed, minute); err != nil {
			r.log.Debug("last seen not noted", "n", len(crashed), "err", err) // this node has the time all the same
		}
	}
	more, later := t.unread.left()
	if more {
		signal(r.wake)
	}
	if later {
		return r.cfg.Retry
	}
	return r.auditEvery()
}

// audit marks a few users dirty, once per second.
func (r *reader[C]) audit() (rest time.Duration) {
	if r.table.unread.audit(r.cfg.Audit, time.Now()) {
		signal(r.wake)
	}
	if _, later := r.table.unread.left(); later {
		return r.cfg.Retry
	}
	return r.auditEvery()
}

func (r *reader[C]) auditEvery() time.Duration {
	if r.cfg.Audit == 0 {
		return 0
	}
	return time.Second
}
