package reconcile

import (
	"context"
	"sync"
	"time"

	"parley/internal/presence"
)

const (
	// staticFor is how long a static peer that does not answer a kick is asked again.
	staticFor = time.Minute
	// maxStatic bounds the kicks of static peers that wait to be repeated.
	maxStatic = 1024
)

// staticKicks are kicks of sessions on static peers that were not answered. Such a peer may be llfcchat's: it reads no
// mailbox, has no fence, and ends whatever session the user has there, because it knows no session ids.
type staticKicks struct {
	mu      sync.Mutex // guards the following
	waiting []staticKick
}

type staticKick struct {
	old   presence.Location
	until time.Time
}

// endOnStatic asks a static peer to end a session, as llfcchat's nodes ask each other.
func (k *Kicker) endOnStatic(ctx context.Context, old presence.Location) {
	err := k.call(ctx, k.kick(old))
	if err == nil {
		return
	}
	k.log.Warn("static peer did not answer a kick, retrying", "peer", old.Node, "err", err)
	k.keepStatic(staticKick{old, time.Now().Add(staticFor)})
}

func (k *Kicker) keepStatic(kick staticKick) {
	k.static.mu.Lock()
	defer k.static.mu.Unlock()
	if len(k.static.waiting) >= maxStatic {
		k.metrics.lost.Inc()
		return
	}
	k.static.waiting = append(k.static.waiting, kick)
}

// retryStatic asks again, each peer until it fails once more.
func (k *Kicker) retryStatic(ctx context.Context) {
	k.static.mu.Lock()
	waiting := k.static.waiting
	k.static.waiting = nil
	k.static.mu.Unlock()
	failed := make(map[string]bool)
	for _, kick := range waiting {
		node := kick.old.Node
		switch {
		case time.Now().After(kick.until):
			k.metrics.lost.Inc()
			k.log.Warn("kick given up: the static peer does not answer", "peer", node)
			continue
		case !failed[node] && k.backOn(ctx, kick.old):
			continue // the kick would end the newer session
		case !failed[node] && k.call(ctx, k.kick(kick.old)) == nil:
			continue
		}
		failed[node] = true
		k.keepStatic(kick)
	}
}

// backOn reports whether the user has logged in again on the node of the session that was replaced.
func (k *Kicker) backOn(ctx context.Context, old presence.Location) bool {
	found, err := k.presence.Locate(ctx, []int32{old.UID})
	if err != nil {
		return false
	}
	for _, at := range found[0] {
		if at.Node == old.Node {
			return true
		}
	}
	return false
}
