// Package router delivers a push to its user: to a session on this node, else to the nodes where presence locates the
// user. It drops pushes for offline users, because SQL has the texts. When a push is lost on the way, the router
// remembers user, thread and number, within a bound, and sends the user's sessions a gap notice once they can be
// reached again.
//
// The package does not know the transport.
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

// A Locator finds users in the cluster.
type Locator interface {
	// Locate returns, for each uid, the other nodes that hold sessions of the user; none if the user is offline. sure
	// is false while the result may lack sessions, because not all nodes have written theirs back into a Redis that
	// lost its data.
	Locate(ctx context.Context, uids []int32) (nodes [][]string, sure bool, err error)
}

// A Forwarder hands pushes to other nodes.
type Forwarder interface {
	// Forward queues a copy of p for the node. It returns false if the node is unknown or down, or its queue full. It
	// never blocks.
	Forward(node string, p *session.Push) bool
	// Knows reports whether there is a link to a node; Open reports whether the link may be used now.
	Knows(node string) bool
	Open(node string) bool
	// Nodes returns the names of all nodes with a link.
	Nodes() []string
}

// Config bounds a router. See DefaultConfig.
type Config struct {
	Lanes       int           // goroutines that look users up; a user always belongs to the same lane, which keeps order
	LanePushes  int           // pushes waiting in a lane
	LaneBytes   int           // bytes of the waiting pushes
	Batch       int           // pushes that share one look-up
	CacheUsers  int           // users whose node is remembered, in each of two generations
	CacheTTL    time.Duration // how long a remembered node is used
	LookupLimit time.Duration // of one look-up

	OwedThreads  int           // threads of users that have lost pushes and are remembered
	SettleEvery  time.Duration // interval between attempts to tell the users
	SettlePushes int           // notices per attempt and node
}

// DefaultConfig returns the bounds of docs/CONFIG.md.
func DefaultConfig() Config {
	return Config{
		Lanes: 4, LanePushes: 16384, LaneBytes: 16 << 20, Batch: 256,
		CacheUsers: 65536, CacheTTL: 10 * time.Second, LookupLimit: time.Second,
		OwedThreads: 65536, SettleEvery: 250 * time.Millisecond, SettlePushes: 4096,
	}
}

// A Router delivers pushes. New starts it; Close ends it. All methods are safe for concurrent use and never block on
// a client, a peer or Redis.
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

// New starts a router over the sessions of reg. It calls missed for a session of this node that has missed texts but
// does not understand a gap notice. It calls rows with group rows for one user; rows returns how many sessions of the
// user are here and whether any of them knows of sessions on other nodes. Neither may block.
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

// Close drops waiting pushes and returns when all goroutines have ended.
func (r *Router) Close() {
	r.stop()
	r.wg.Wait()
}

// Deliver delivers pushes in order. Pushes for the same user arrive in order unless the user moves between nodes.
// Deliver copies the elements of the slice but keeps their bodies. Sessions of this node are written to when cork is
// released, or at once if cork is nil.
func (r *Router) Deliver(pushes []session.Push, cork *session.Cork) {
	for i := range pushes {
		p := &pushes[i]
		here, elsewhere := r.local(p, cork)
		if here && !elsewhere {
			continue
		}
		away := *p
		away.Route = session.Route{Here: here}
		r.lane(p.To).enqueue(&away)
	}
}

// local offers p to the user's sessions on this node. here reports whether there were any, elsewhere whether the user
// has sessions on other nodes too.
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
		taken-- // the skipped session counts as delivered, but was not sent anything
	}
	if taken > 0 {
		r.metrics.local.Add(float64(taken))
	}
	if err != nil {
		r.metrics.dropped[dropSession].Inc()
	}
	// A session may close because its user moved to another node: not here, so look there. A slow session still
	// belongs to the user.
	return n > 0 || errors.Is(err, session.ErrSlow), elsewhere
}

// Gap tells the user's sessions on this node that they have missed texts of a thread from a number on, or for thread
// 0 that they may have missed texts of any thread. here reports whether there are any, elsewhere whether one of them
// knows of sessions on other nodes.
func (r *Router) Gap(uid int32, thread, from int64) (here, elsewhere bool) {
	n, elsewhere := r.registry.Gap(uid, thread, from, func(s *session.Session) { r.missed(s, thread, from) })
	return n > 0, elsewhere
}

// Lost records that a push queued for a node may not have arrived.
func (r *Router) Lost(node string, p *session.Push) { r.ledger.note(node, p) }

// NotHere handles a node's answer that it has no session of p's user. The first time, the user is looked up again;
// the second time, the push is dropped, and the text remains in SQL.
func (r *Router) NotHere(node string, p *session.Push) {
	r.lane(p.To).cache.forget(p.To)
	if p.Route.Again {
		r.metrics.dropped[dropGone].Inc()
		return
	}
	r.again(node, p)
}

// ElsewhereToo handles a node's answer that it delivered p and knows of sessions on other nodes. If the nodes came
// from the cache, one may have been left out: the user is looked up again.
func (r *Router) ElsewhereToo(p *session.Push) {
	r.lane(p.To).cache.forget(p.To)
	if p.Route.Cached && !p.Route.Again {
		r.again("", p)
	}
}

// again delivers p a second time. It begins with this node, to which the user may have moved.
func (r *Router) again(failed string, p *session.Push) {
	again := *p
	again.Route.Again, again.Route.Failed = true, failed
	if !again.Route.Here { // else the sessions here already have it
		here, elsewhere := r.local(&again, nil)
		if here && !elsewhere {
			return
		}
		again.Route.Here = here
	}
	r.lane(p.To).enqueue(&again)
}

// Forget drops the cached nodes of a user.
func (r *Router) Forget(uid int32) { r.lane(uid).cache.forget(uid) }

// panicked counts and logs a panic. It costs one batch, not the node.
func (r *Router) panicked(p *batch.Panic) {
	r.metrics.panics.Inc()
	r.log.Error("panic in the router", "err", p.Value, "stack", string(p.Stack))
}

func (r *Router) lane(uid int32) *lane { return r.lanes[uint32(uid)%uint32(len(r.lanes))] }
