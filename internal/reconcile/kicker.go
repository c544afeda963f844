package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"parley/internal/presence"
	"parley/internal/recent"
)

const (
	// kickTimeout bounds how long a login waits for the node of the session it replaces.
	kickTimeout = time.Second
	// maxCalls bounds the kicks waiting for an answer. A node that stops answering thus delays at most that many
	// logins a second.
	maxCalls = 256
	// silence is how long a node that did not answer is not called; then a single kick tries it again.
	silence = 2 * time.Second
	// watchFor is how long the lease of a node is watched after a kick was left in its mailbox. If the node still has
	// the lease then, it has extended it since the kick was left, and so has read its mailbox.
	watchFor = presence.DefaultLease * 3 / 2
	// maxWatched bounds the watched lives, and the nodes remembered as silent.
	maxWatched = 1024
	// retryEvery is the interval of Run.
	retryEvery = time.Second
)

var (
	errSilent = errors.New("reconcile: the node has recently failed to answer")
	errCrowd  = errors.New("reconcile: too many kicks wait for an answer")
)

// Peers calls other nodes by RPC; *peer.Pool implements it.
type Peers interface {
	// Kick ends a session on another node. A nil error means that the node has answered. If the session has moved
	// here, texts is the number of the user's texts that the node hands over, or nil.
	Kick(ctx context.Context, node string, uid int32, sid string, moved bool) (texts *int32, err error)
	// Knows reports whether there is a link to a node.
	Knows(node string) bool
	// Static reports whether a node comes from the configuration. Such a node may be llfcchat's and have no lease.
	Static(node string) bool
}

// KickerDeps are the dependencies of a Kicker.
type KickerDeps struct {
	Log      *slog.Logger
	Metrics  prometheus.Registerer // nil: registered nowhere
	Nodes    *presence.Nodes
	Sessions *presence.Sessions
	Peers    Peers
	// Link links the nodes of the latest view.
	Link func()
	// Fence makes the store refuse everything from a dead boot id of a node.
	Fence func(ctx context.Context, node, boot string) error
}

// A Kicker ends sessions on other nodes. All methods are safe for concurrent use.
type Kicker struct {
	log      *slog.Logger
	nodes    *presence.Nodes
	sessions *presence.Sessions
	peers    Peers
	link     func()
	fences   *fences
	static   staticKicks
	metrics  kickerMetrics
	calls    atomic.Int64 // in flight

	mu      sync.Mutex                     // guards the following
	watched map[life]time.Time             // lives with a kick in their mailbox, and when the latest was left
	silent  *recent.Map[string, time.Time] // nodes that did not answer, and until when they are not called
}

// A life is one run of a node under one boot id.
type life struct{ node, boot string }

type kickerMetrics struct {
	unanswered, left, lost prometheus.Counter
}

// NewKicker returns a Kicker; the caller must run Run beside it.
func NewKicker(d KickerDeps) *Kicker {
	f := promauto.With(d.Metrics)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "parley_chat_" + name, Help: help})
	}
	log := d.Log.With("pkg", "reconcile")
	return &Kicker{
		log: log, nodes: d.Nodes, sessions: d.Sessions, peers: d.Peers, link: d.Link,
		fences: newFences(d.Fence, log),
		metrics: kickerMetrics{
			unanswered: counter("kick_failures_total", "Kicks that another node did not answer."),
			left:       counter("kicks_left_total", "Kicks left in the mailbox of a node, which reads it every second."),
			lost:       counter("kicks_lost_total", "Kicks of sessions on static peers given up after a minute, or because too many waited."),
		},
		watched: make(map[life]time.Time), silent: recent.New[string, time.Time](maxWatched),
	}
}

// Run watches the lives that were left a kick and repeats unanswered kicks of static peers, until ctx ends.
func (k *Kicker) Run(ctx context.Context) {
	every := time.NewTicker(retryEvery)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		k.watch(ctx)
		k.retryStatic(ctx)
	}
}

// End ends a session of another node, or of an earlier life of this one. A nil error means one of the following: the
// node has answered; the kick is in the mailbox that the node reads every second; the node's life is fenced, so
// nothing that the session still sends can be stored; or the session is on a static peer without a lease, which is
// called again for a minute.
func (k *Kicker) End(ctx context.Context, old presence.Location) error {
	return k.end(ctx, old, k.kick(old))
}

// Move is End for a session that a session of this node replaces. It also returns the number of texts that the old
// node hands over, or nil if that node does not answer or keeps them.
func (k *Kicker) Move(ctx context.Context, old presence.Location) (texts *int32, err error) {
	err = k.end(ctx, old, func(ctx context.Context) (err error) {
		texts, err = k.peers.Kick(ctx, old.Node, old.UID, old.SID, true)
		return err
	})
	return texts, err
}

// kick returns the call that ends a session.
func (k *Kicker) kick(old presence.Location) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := k.peers.Kick(ctx, old.Node, old.UID, old.SID, false)
		return err
	}
}

// end ends a session with the given call. When the node's lease is gone, only the fence makes it safe to go on: the
// process may be paused and store texts when it wakes.
func (k *Kicker) end(ctx context.Context, old presence.Location, kick func(context.Context) error) error {
	ending, err := k.sessions.End(ctx, old, func(ctx context.Context, n presence.Node) error {
		return k.ask(ctx, n.Name, kick)
	})
	switch {
	case err != nil:
		return err
	case ending == presence.EndingLeft:
		k.metrics.left.Inc()
		k.watchLife(life{old.Node, old.Boot})
	case ending == presence.EndingNoNode:
		if k.peers.Static(old.Node) {
			k.endOnStatic(ctx, old)
		}
		return k.fences.fence(ctx, life{old.Node, old.Boot})
	}
	return nil
}

// ask calls a Parley node to end a session. It does not call a node that has recently failed to answer.
func (k *Kicker) ask(ctx context.Context, node string, kick func(context.Context) error) error {
	if !k.mayAsk(node) {
		return errSilent
	}
	if k.calls.Add(1) > maxCalls {
		k.calls.Add(-1)
		return errCrowd
	}
	defer k.calls.Add(-1)
	if !k.peers.Knows(node) {
		k.link() // the node may have just joined
	}
	err := k.call(ctx, kick)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		k.silent.Delete(node)
		return nil
	}
	if _, was := k.silent.Get(node); !was {
		k.log.Warn("kick unanswered; leaving kicks in the node's mailbox for a while", "peer", node, "err", err)
	}
	k.silent.Put(node, time.Now().Add(silence))
	return err
}

func (k *Kicker) call(ctx context.Context, kick func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, kickTimeout)
	defer cancel()
	err := kick(ctx)
	if err != nil {
		k.metrics.unanswered.Inc()
	}
	return err
}

// mayAsk reports whether a node may be called. When a node's silence is over, the first caller may try it; for all
// others the silence is renewed, and ends with that caller's success.
func (k *Kicker) mayAsk(node string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	until, silent := k.silent.Get(node)
	if !silent {
		return true
	}
	now := time.Now()
	if now.Before(until) {
		return false
	}
	k.silent.Put(node, now.Add(silence))
	return true
}

func (k *Kicker) watchLife(l life) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.watched[l]; !ok && len(k.watched) >= maxWatched {
		return // safe: the first login elsewhere of one of its users fences it
	}
	k.watched[l] = time.Now()
}

// watch fences the lives that were left a kick and lost their lease before they can have read it.
func (k *Kicker) watch(ctx context.Context) {
	k.mu.Lock()
	watched := make(map[life]time.Time, len(k.watched))
	for l, since := range k.watched {
		watched[l] = since
	}
	k.mu.Unlock()
	view := k.nodes.View()
	for l, since := range watched {
		readAfter := time.Since(since) - view.Age() // how long after the kick the view was read
		switch {
		case readAfter <= 0:
			continue
		case !view.Alive(l.node, l.boot):
			if err := k.fences.fence(ctx, l); err != nil {
				k.log.Warn("dead node not fenced yet", "peer", l.node, "err", err)
				continue
			}
		case readAfter < watchFor:
			continue
		}
		k.mu.Lock()
		if k.watched[l].Equal(since) { // else another kick was left meanwhile, and the watch goes on
			delete(k.watched, l)
		}
		k.mu.Unlock()
	}
}
