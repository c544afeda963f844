// Package router delivers a push to its user: to a session on this node, else to the node where presence locates the
// user. It drops pushes for offline users, because SQL has the texts. For a push that is lost on the way it remembers user,
// thread and number, within a bound, and sends the user's sessions a gap notice when they can be reached again.
//
// It does not know the transport.
package router

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/internal/batch"
	"parley/internal/session"
	"parley/internal/wire"
)

// Locator finds users in the cluster.
type Locator interface {
	// Locate returns, for each uid, the other nodes that hold sessions of the user; none when offline. It is not sure if it
	// may lack some, as long as not all nodes have written their sessions into a Redis that lost its data.
	Locate(ctx context.Context, uids []int32) (nodes [][]string, sure bool, err error)
}

// Forwarder hands pushes to other nodes.
type Forwarder interface {
	// Forward queues a copy of p for the node and returns false when it cannot: unknown, down or full. It never blocks.
	Forward(node string, p *session.Push) bool
	// Knows reports whether there is a way to a node, Open whether it may be used now.
	Knows(node string) bool
	Open(node string) bool
	// Nodes returns the nodes that it knows.
	Nodes() []string
}

// Config bounds a router. See DefaultConfig.
type Config struct {
	Lanes       int           // goroutines that look users up; one user is always in the same lane, which keeps order
	LanePushes  int           // pushes waiting in a lane
	LaneBytes   int           // bytes of their bodies
	Batch       int           // pushes that share one look-up
	CacheUsers  int           // users whose node is remembered, in each of two generations
	CacheTTL    time.Duration // how long, at most
	LookupLimit time.Duration // one look-up

	OwedThreads  int           // threads of users of which is remembered that they have lost pushes
	SettleEvery  time.Duration // how often is tried to tell the users, while something is owed
	SettlePushes int           // how many are told at once, per node
}

// DefaultConfig returns the bounds of docs/CONFIG.md.
func DefaultConfig() Config {
	return Config{
		Lanes: 4, LanePushes: 16384, LaneBytes: 16 << 20, Batch: 256,
		CacheUsers: 65536, CacheTTL: 10 * time.Second, LookupLimit: time.Second,
		OwedThreads: 65536, SettleEvery: 250 * time.Millisecond, SettlePushes: 4096,
	}
}

// Router delivers pushes. New starts it; Close ends it. All methods are safe for concurrent use and never block on a
// client, a peer or Redis.
type Router struct {
	cfg      Config
	log      *slog.Logger
	metrics  *metrics
	registry *session.Registry
	locator  Locator
	forward  Forwarder
	missed   func(s *session.Session, thread, from int64)
	rows     func(p *session.Push) (n int, elsewhere bool)
	ledger   *ledger
	lanes    []*lane
	wg       sync.WaitGroup
	stop     context.CancelFunc
}

// New starts a router over the sessions of reg. missed is told of a session here that has missed texts and cannot be sent a
// 2104. rows takes rows of a group for one user, and returns how many sessions of the user are here and whether one of them
// knows of sessions on other nodes. Neither may block.
func New(cfg Config, log *slog.Logger, metrics prometheus.Registerer, reg *session.Registry, loc Locator, fwd Forwarder,
	missed func(s *session.Session, thread, from int64), rows func(p *session.Push) (n int, elsewhere bool),
) *Router {
	ctx, stop := context.WithCancel(context.Background())
	r := &Router{
		cfg: cfg, log: log.With("pkg", "router"), metrics: newMetrics(metrics),
		registry: reg, locator: loc, forward: fwd, missed: missed, rows: rows, stop: stop,
	}
	r.ledger = newLedger(cfg.OwedThreads, r.metrics)
	r.wg.Go(func() { r.settle(ctx) })
	for range cfg.Lanes {
		l := newLane(r)
		r.lanes = append(r.lanes, l)
		r.wg.Go(func() { l.run(ctx) })
	}
	return r
}

// Close drops what waits and returns when all goroutines have ended.
func (r *Router) Close() {
	r.stop()
	r.wg.Wait()
}

// Deliver takes pushes in order; of two for the same user the first arrives first, unless the user moves meanwhile. It
// copies the slice's elements and keeps their bodies. Sessions of this node are written to when cork is released, at once
// if that is nil.
func (r *Router) Deliver(pushes []session.Push, cork *session.Cork) {
	for i := range pushes {
		p := &pushes[i]
		here, elsewhere := r.local(p, cork)
		if here && !elsewhere {
			continue
		}
		away := *p
		away.Route = session.Route{Here: here}
		r.lane(p.To).put(&away)
	}
}

// local offers p to this node's sessions.
func (r *Router) local(p *session.Push, cork *session.Cork) (here, elsewhere bool) {
	if p.ID == wire.MsgGap {
		return r.Gap(p.To, p.Thread, p.Seq)
	}
	if p.ID == wire.MsgGroupPush {
		n, elsewhere := r.rows(p)
		return n > 0, elsewhere
	}
	n, elsewhere, err := r.registry.Deliver(p, cork)
	taken := n
	if p.Skip != 0 {
		taken-- // it counts as one that has it
	}
	if taken > 0 {
		r.metrics.local.Add(float64(taken))
	}
	if err != nil {
		r.metrics.dropped[dropSession].Inc()
	}
	// A session that closes may do so because its user moved: look again. A slow one is still the user's.
	return n > 0 || errors.Is(err, session.ErrSlow), elsewhere
}

// Gap tells the user's sessions here that they have missed texts of a thread from a number on, or with thread 0 that they
// may have missed some of any. It returns whether there are any, and whether one knows of sessions on other nodes.
func (r *Router) Gap(uid int32, thread, from int64) (here, elsewhere bool) {
	n, elsewhere := r.registry.Gap(uid, thread, from, func(s *session.Session) { r.missed(s, thread, from) })
	return n > 0, elsewhere
}

// Lost says that a push which was handed over for a node may not have arrived there.
func (r *Router) Lost(node string, p *session.Push) { r.ledger.note(node, p) }

// NotHere says that a node named for p's user did not know it. The user is looked up once more; after that the push is
// left to the store.
func (r *Router) NotHere(node string, p *session.Push) {
	r.lane(p.To).cache.forget(p.To)
	if p.Route.Again {
		r.metrics.dropped[dropGone].Inc()
		return
	}
	r.again(node, p)
}

// ElsewhereToo says that a node handed p over and knows of sessions on other nodes. If where the user is was only
// remembered, one of those may have been left out: the user is looked up again.
func (r *Router) ElsewhereToo(p *session.Push) {
	r.lane(p.To).cache.forget(p.To)
	if p.Route.Cached && !p.Route.Again {
		r.again("", p)
	}
}

func (r *Router) again(failed string, p *session.Push) {
	again := *p
	again.Route.Again, again.Route.Failed = true, failed
	if !again.Route.Here { // the sessions here have it
		here, elsewhere := r.local(&again, nil)
		if here && !elsewhere {
			return
		}
		again.Route.Here = here
	}
	r.lane(p.To).put(&again)
}

// Forget drops what is remembered of where a user is.
func (r *Router) Forget(uid int32) { r.lane(uid).cache.forget(uid) }

// panicked notes a panic, which costs a batch and not the node.
func (r *Router) panicked(p *batch.Panic) {
	r.metrics.panics.Inc()
	r.log.Error("panic in the router", "err", p.Value, "stack", string(p.Stack))
}

func (r *Router) lane(uid int32) *lane { return r.lanes[uint32(uid)%uint32(len(r.lanes))] }
