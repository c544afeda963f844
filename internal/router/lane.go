package router

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"parley/internal/batch"
	"parley/internal/recent"
	"parley/internal/session"
	"parley/internal/wire"
)

// A lane locates the users of its share and forwards their pushes, in order.
type lane struct {
	r     *Router
	cache *cache

	queue *batch.Queue[session.Push]

	// Owned by run and reused for each batch.
	batch []session.Push // the batch being sent
	where [][]string     // nodes of each push of the batch
	uids  []int32        // users to look up
	asked []question
	index map[int32]int // index in uids by user
}

// question says which push waits for which entry of uids.
type question struct{ push, uid int }

func newLane(r *Router) *lane {
	return &lane{
		r: r, cache: newCache(r.cfg.CacheUsers/r.cfg.Lanes, r.cfg.CacheTTL), index: make(map[int32]int),
		queue: batch.NewQueue[session.Push](batch.Limits{
			Items: r.cfg.LanePushes, Weight: r.cfg.LaneBytes, BatchItems: r.cfg.Batch,
		}),
	}
}

// enqueue queues a copy of p. If the lane is full, the push is dropped and noted in the ledger. Fleeting pushes may use
// half of the lane only, so that they never displace texts.
func (l *lane) enqueue(p *session.Push) {
	if p.ID.Fleeting() {
		if waiting, _ := l.queue.Waiting(); waiting > l.r.cfg.LanePushes/2 {
			l.r.metrics.dropped[dropFull].Inc()
			return
		}
	}
	if !l.queue.Put(*p, len(p.Body)) {
		l.r.metrics.dropped[dropFull].Inc()
		l.r.ledger.note(nowhere, p)
	}
}

func (l *lane) run(ctx context.Context) {
	l.queue.Run(ctx.Done(), func(pushes []session.Push) {
		l.batch = pushes
		l.send(ctx)
	}, l.failed)
}

// failed notes the pushes of a batch that a panic left unsent.
func (l *lane) failed(pushes []session.Push, p *batch.Panic) {
	l.r.panicked(p)
	for i := range pushes {
		if pushes[i].To != 0 {
			l.r.ledger.note(nowhere, &pushes[i])
		}
	}
}

// send locates the users of one batch, with one look-up for all that are not cached, and forwards their pushes.
func (l *lane) send(ctx context.Context) {
	now := time.Now()
	l.where, l.uids, l.asked = l.where[:0], l.uids[:0], l.asked[:0]
	clear(l.index)
	for i := range l.batch {
		p := &l.batch[i]
		nodes, ok := l.cache.get(p.To, now)
		p.Route.Cached = ok
		if !ok {
			at, known := l.index[p.To]
			if !known {
				at = len(l.uids)
				l.uids = append(l.uids, p.To)
				l.index[p.To] = at
			}
			l.asked = append(l.asked, question{i, at})
		}
		l.where = append(l.where, nodes)
	}
	failed := len(l.uids) > 0 && !l.lookup(ctx, now)
	if failed {
		l.guess()
	}
	for i := range l.batch {
		p := &l.batch[i]
		if !failed || p.Route.Cached {
			l.forward(p, l.where[i])
		}
		*p = session.Push{}
	}
}

// forward queues p for each node that holds sessions of its user. On a second try it skips the nodes that have
// already been sent the push.
func (l *lane) forward(p *session.Push, nodes []string) {
	first := p.Route
	p.Route.Tried, p.Route.Moved = nodes, nil
	if len(nodes) > 1 {
		p.Route.Moved = new(atomic.Bool)
	}
	sent, mine := false, first.Moved == nil
	for _, node := range nodes {
		if first.Again && node != first.Failed {
			if slices.Contains(first.Tried, node) {
				continue
			}
			if mine = mine || first.Moved.CompareAndSwap(false, true); !mine {
				continue // the answer of another node has already led to this try
			}
		}
		sent = true
		if l.r.forward.Forward(node, p) {
			l.r.metrics.forwarded.Inc()
		} else {
			// The cached place may be the reason; the next push looks the user up again.
			l.cache.forget(p.To)
			l.r.metrics.dropped[dropPeer].Inc()
			l.r.ledger.note(node, p)
		}
	}
	switch {
	case sent, p.Route.Here:
	case first.Failed != "":
		l.r.metrics.dropped[dropGone].Inc()
	case !first.Again:
		l.r.metrics.offline.Inc()
	}
}

// guess fills in the nodes where the users were last found, for use while Redis does not answer. A user who has not
// moved is still reached; for a user who has moved, the node answers that the user is not there.
func (l *lane) guess() {
	for _, q := range l.asked {
		p, ok := l.cache.last(l.uids[q.uid])
		if !ok {
			l.r.metrics.dropped[dropLookup].Inc()
			l.r.ledger.note(nowhere, &l.batch[q.push])
			continue
		}
		l.where[q.push] = p.nodes
		l.batch[q.push].Route.Cached = true
	}
}

// lookup fills in the nodes of the users in uids. It returns false if Redis did not answer.
func (l *lane) lookup(ctx context.Context, now time.Time) bool {
	ctx, cancel := context.WithTimeout(ctx, l.r.cfg.LookupLimit)
	defer cancel()
	found, sure, err := l.r.locator.Locate(ctx, l.uids)
	if err != nil {
		l.r.log.Debug("users not located", "n", len(l.uids), "err", err)
		return false
	}
	if !sure {
		l.doubt(found, now)
		return true
	}
	for _, q := range l.asked {
		l.where[q.push] = found[q.uid]
	}
	for i, uid := range l.uids {
		if len(found[i]) > 0 { // a login elsewhere would not invalidate a cached "offline"
			l.cache.put(uid, found[i], now)
		}
	}
	return true
}

// doubt handles answers that may lack some sessions. It also tries the nodes where a user was last found, and has the
// ledger send a gap notice once the answers are complete.
func (l *lane) doubt(found [][]string, now time.Time) {
	for i, uid := range l.uids {
		if p, ok := l.cache.last(uid); ok {
			found[i] = union(found[i], p.nodes)
		}
		if len(found[i]) > 0 { // expired at once, but still a guess while Redis does not answer
			l.cache.put(uid, found[i], now.Add(-l.cache.ttl))
		}
	}
	for _, q := range l.asked {
		p := &l.batch[q.push]
		l.where[q.push] = found[q.uid]
		switch {
		case len(found[q.uid]) == 0:
			l.r.ledger.note(nowhere, p)
		case isText(p) || p.ID == wire.MsgGap:
			l.r.ledger.keepTold(p)
		}
	}
}

// cache remembers which nodes hold a user's sessions. An entry is used for ttl; older entries are kept as a guess for
// when Redis does not answer. It is safe for concurrent use.
type cache struct {
	ttl time.Duration

	mu     sync.Mutex // guards places
	places *recent.Map[int32, place]
}

// place says which nodes held a user's sessions at a time.
type place struct {
	nodes []string
	at    time.Time
}

func newCache(limit int, ttl time.Duration) *cache {
	return &cache{ttl: ttl, places: recent.New[int32, place](limit)}
}

// get returns a user's nodes if they were found less than ttl ago.
func (c *cache) get(uid int32, now time.Time) ([]string, bool) {
	p, ok := c.last(uid)
	if !ok || now.Sub(p.at) >= c.ttl {
		return nil, false
	}
	return p.nodes, true
}

// last returns where a user was last found, however long ago.
func (c *cache) last(uid int32) (place, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.places.Get(uid)
}

func (c *cache) put(uid int32, nodes []string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.places.Put(uid, place{nodes, now})
}

func (c *cache) forget(uid int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.places.Delete(uid)
}
