package reconcile

import (
	"context"
	"sync"
	"time"

	"parley/internal/presence"
)

const (
	// staticFor is how long a kick to a static peer that does not answer is repeated.
	staticFor = time.Minute
	// maxStatic bounds the kicks to static peers waiting to be repeated.
	maxStatic = 1024
)

// staticKicks holds unanswered kicks to static peers. A static peer may be llfcchat's: it reads no mailbox, has no
// fence, and knows no session ids, so a kick ends whatever session the user has there.
type staticKicks struct {
	mu      sync.Mutex // guards the following
	waiting []staticKick
}

type staticKick struct {
	old   presence.Location
	until time.Time
}

// endOnStatic calls a static peer to end a session, as llfcchat's nodes call each other.
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

// retryStatic repeats the waiting kicks. After one failure it does not call that peer again in this round.
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

// backOn reports whether the user has logged in again on the node of the replaced session.
func (k *Kicker) backOn(ctx context.Context, old presence.Location) bool {
	found, err := k.sessions.Locate(ctx, []int32{old.UID})
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
