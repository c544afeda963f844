package group

import (
	"context"
	"errors"

	"parley/internal/batch"
	"parley/internal/session"
	"parley/internal/store"
)

// logins puts sessions into the index as they log in, and takes them out when they end.
type logins struct {
	*shared
	interests *interests
	loads     *batch.Calls[*load]
}

const (
	loadUsers = 256 // users per read of memberships
	loaders   = 2   // concurrent reads
	maxLoads  = 16384
)

func newLogins(s *shared, is *interests) *logins {
	l := &logins{shared: s, interests: is}
	l.loads = batch.NewCalls(batch.Limits{Items: maxLoads, BatchItems: loadUsers}, s.ctx.Done(), l.load, s.panicked)
	for range loaders {
		s.wg.Go(l.loads.Run)
	}
	return l
}

// errOtherLife refuses a session that logged in under an earlier boot id of the node.
var errOtherLife = errors.New("group: the session logged in under another boot id of the node")

// Enter puts a session that is logging in into the index. The caller calls it before the session becomes Live. After
// an error the index may lack groups of the session until its client asks for its threads.
func (l *logins) Enter(ctx context.Context, s *session.Session) error {
	if !s.Groups() {
		return nil
	}
	_, err := l.enter(ctx, s)
	return err
}

// Reconcile puts a session into the index of the groups that its client is about to be shown. It reports whether the
// index lacked any group of which the user is a member. The caller must then repeat its read, because rows committed
// in between were not pushed to the session.
func (l *logins) Reconcile(ctx context.Context, s *session.Session, threads []int64) (added bool, err error) {
	if !s.Groups() || len(l.index.missing(s, threads)) == 0 {
		return false, nil
	}
	n, err := l.enter(ctx, s)
	return n > 0, err
}

// Leave removes a session that has ended from the index.
func (l *logins) Leave(s *session.Session) {
	if s.Groups() {
		l.index.leave(s, l.since())
	}
}

// load is a call that reads the memberships of a user.
type load struct {
	batch.Part
	uid  int32
	list []store.ThreadMembership
}

// load reads the memberships for a batch of calls together.
func (l *logins) load(calls []*load) {
	ctx, cancel := context.WithTimeout(l.ctx, l.cfg.Timeout)
	defer cancel()
	uids := make([]int32, len(calls))
	for i, c := range calls {
		uids[i] = c.uid
	}
	found, err := l.d.Store.Memberships(ctx, uids)
	if err != nil {
		l.metrics.loadFailures.Inc()
	}
	for _, c := range calls {
		c.list = found[c.uid]
		c.Settle(err)
	}
}

// enter reads the memberships of a session's user, puts the session into the index, and waits until the interests are
// written. The index comes first: once the interest is in Redis, other nodes rely on it.
func (l *logins) enter(ctx context.Context, s *session.Session) (added int, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	if s.Boot() != l.d.Boot() {
		return 0, errOtherLife
	}
	c := &load{uid: s.UID()}
	if err := l.loads.Do(ctx, c, 1, false); err != nil {
		return 0, err
	}
	added = l.index.add(s, c.list)
	threads := make([]int64, len(c.list))
	for i := range c.list {
		threads[i] = c.list[i].Thread
	}
	return added, l.interests.hold(ctx, threads)
}
