package router

import (
	"context"
	"sync"
	"time"

	"parley/internal/session"
)

// lane resolves and forwards the pushes of its share of the users, in order.
type lane struct {
	r     *Router
	cache *cache

	mu    sync.Mutex // guards the following
	queue []session.Push
	bytes int
	wake  chan struct{}

	// Owned by run, and kept between batches.
	batch []session.Push
	where [][]string
	uids  []int32
	asked []int
}

func newLane(r *Router) *lane {
	return &lane{r: r, cache: newCache(r.cfg.CacheUsers/r.cfg.Lanes, r.cfg.CacheTTL), wake: make(chan struct{}, 1)}
}

func (l *lane) put(p *session.Push) {
	l.mu.Lock()
	if len(l.queue) >= l.r.cfg.LanePushes || l.bytes+len(p.Body) > l.r.cfg.LaneBytes {
		l.mu.Unlock()
		l.r.metrics.dropped[dropFull].Inc()
		return
	}
	l.queue = append(l.queue, *p)
	l.bytes += len(p.Body)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *lane) run(ctx context.Context) {
	for {
		if l.take() {
			l.send(ctx)
			continue
		}
		select {
		case <-l.wake:
		case <-ctx.Done():
			return
		}
	}
}

func (l *lane) take() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(l.queue), l.r.cfg.Batch)
	l.batch = append(l.batch[:0], l.queue[:n]...)
	for i := range l.batch {
		l.bytes -= len(l.batch[i].Body)
	}
	rest := copy(l.queue, l.queue[n:])
	clear(l.queue[rest:])
	l.queue = l.queue[:rest]
	return n > 0
}

// send finds the nodes of one batch, with one look-up for all that are not remembered, and forwards.
func (l *lane) send(ctx context.Context) {
	now := time.Now()
	l.where, l.uids, l.asked = l.where[:0], l.uids[:0], l.asked[:0]
	for i := range l.batch {
		nodes, ok := l.cache.get(l.batch[i].To, now)
		if !ok {
			l.uids = append(l.uids, l.batch[i].To)
			l.asked = append(l.asked, i)
		}
		l.where = append(l.where, nodes)
	}
	if len(l.uids) > 0 {
		l.lookup(ctx, now)
	}
	for i := range l.batch {
		p := &l.batch[i]
		switch nodes := l.where[i]; {
		case len(nodes) > 0:
			for _, node := range nodes {
				if l.r.forward.Forward(node, p) {
					l.r.metrics.forwarded.Inc()
				} else {
					l.cache.forget(p.To)
					l.r.metrics.dropped[dropPeer].Inc()
				}
			}
		case p.Again:
			l.r.metrics.dropped[dropGone].Inc()
		default:
			l.r.metrics.offline.Inc()
		}
		l.batch[i] = session.Push{}
	}
}

func (l *lane) lookup(ctx context.Context, now time.Time) {
	ctx, cancel := context.WithTimeout(ctx, l.r.cfg.LookupLimit)
	defer cancel()
	found, err := l.r.locator.Locate(ctx, l.uids)
	if err != nil {
		l.r.metrics.dropped[dropLookup].Add(float64(len(l.uids)))
		l.r.log.Debug("users not located", "n", len(l.uids), "err", err)
		return
	}
	for i, at := range l.asked {
		l.where[at] = found[i]
		if len(found[i]) > 0 { // "offline" is never remembered: it ends without telling
			l.cache.put(l.uids[i], found[i], now)
		}
	}
}
