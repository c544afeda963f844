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
	// kickTimeout is how long a login waits for the node of the session that it replaces.
	kickTimeout = time.Second
	// maxCalls bounds the kicks that wait for an answer: a node that stops answering costs so many logins a second, and
	// the others nothing.
	maxCalls = 256
	// silence is how long a node that did not answer is left alone; then one kick tries it again.
	silence = 2 * time.Second
	// watchFor is how long the lease of a node that was left a kick is watched. A node that still has it by then has
	// extended it since the kick was left, and so has read its mailbox.
	watchFor = presence.DefaultLease * 3 / 2
	// maxWatched bounds the nodes' lives that are watched or remembered as silent.
	maxWatched = 1024
	// retryEvery is how often what was left undone is looked at.
	retryEvery = time.Second
)

var (
	errSilent = errors.New("reconcile: the node did not answer a moment ago")
	errCrowd  = errors.New("reconcile: too many kicks wait for an answer")
)

// Peers reaches other nodes by RPC; *peer.Pool does.
type Peers interface {
	// Kick ends a session on another node, and returns no error when the node has answered. If the session has moved here,
	// texts is how many of the user's texts the node hands over, or nil.
	Kick(ctx context.Context, node string, uid int32, sid string, moved bool) (texts *int32, err error)
	// Knows reports whether there is a way to a node.
	Knows(node string) bool
	// Static reports whether a node comes from the configuration; it may be llfcchat's and have no lease.
	Static(node string) bool
}

// KickerDeps is what a Kicker works with.
type KickerDeps struct {
	Log      *slog.Logger
	Metrics  prometheus.Registerer // nil: registered nowhere
	Presence *presence.Presence
	Peers    Peers
	// Link makes ways to the nodes of the latest view.
	Link func()
	// Fence forbids a dead boot of a node to store anything more.
	Fence func(ctx context.Context, node, boot string) error
}

// Kicker ends sessions that live on other nodes. All methods are safe for concurrent use.
type Kicker struct {
	log      *slog.Logger
	presence *presence.Presence
	peers    Peers
	link     func()
	fences   *fences
	static   staticKicks
	metrics  kickerMetrics
	calls    atomic.Int64 // under way

	mu      sync.Mutex                     // guards the following
	watched map[life]time.Time             // lives that were left a kick, and when the last one was
	silent  *recent.Map[string, time.Time] // nodes that did not answer, and until when they are left alone
}

// A life is one process of a node.
type life struct{ node, boot string }

type kickerMetrics struct {
	unanswered, left, lost prometheus.Counter
}

// NewKicker returns a Kicker; Run has to run with it.
func NewKicker(d KickerDeps) *Kicker {
	f := promauto.With(d.Metrics)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "parley_chat_" + name, Help: help})
	}
	log := d.Log.With("pkg", "reconcile")
	return &Kicker{
		log: log, presence: d.Presence, peers: d.Peers, link: d.Link,
		fences: newFences(d.Fence, log),
		metrics: kickerMetrics{
			unanswered: counter("kick_failures_total", "Kicks that another node did not answer."),
			left:       counter("kicks_left_total", "Kicks left in the mailbox of a node, which reads it every second."),
			lost:       counter("kicks_lost_total", "Kicks of sessions on static peers given up after a minute, or because too many waited."),
		},
		watched: make(map[life]time.Time), silent: recent.New[string, time.Time](maxWatched),
	}
}

// Run looks after what End has left undone, until ctx ends.
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

// End ends a session of another node, or of an earlier life of this one. When it returns nil, one of these is true: the
// node has answered; the kick is in the mailbox that the node reads each second; the node's life is fenced, so that
// nothing the session still sends can be stored; the session is on a static peer without a lease, which is asked again
// for a minute.
func (k *Kicker) End(ctx context.Context, old presence.Location) error {
	return k.end(ctx, old, k.kick(old))
}

// Move is End for a session that one of this node replaces. It also returns the number of texts that the old node hands
// over; nil if that node did not answer or keeps them.
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

func (k *Kicker) end(ctx context.Context, old presence.Location, kick func(context.Context) error) error {
	ending, err := k.presence.EndSession(ctx, old, func(ctx context.Context, n presence.Node) error {
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

// ask tells a Parley node to end a session. It does not ask a node that has just failed to answer.
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
		k.link() // it has just joined
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

// mayAsk reports whether a node may be asked. After its silence, the first caller tries it.
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
		return // the first login of one of its users elsewhere fences it
	}
	k.watched[l] = time.Now()
}

// watch fences lives that were left a kick and lost their lease before they can have read it.
func (k *Kicker) watch(ctx context.Context) {
	k.mu.Lock()
	watched := make(map[life]time.Time, len(k.watched))
	for l, since := range k.watched {
		watched[l] = since
	}
	k.mu.Unlock()
	view := k.presence.View()
	for l, since := range watched {
		readAfter := time.Since(since) - view.Age() // how long after the kick the leases were read
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
		if k.watched[l].Equal(since) { // else another kick was left meanwhile
			delete(k.watched, l)
		}
		k.mu.Unlock()
	}
}
