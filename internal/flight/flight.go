// Package flight lets callers that want the same thing at the same time share one attempt at it. Unlike
// golang.org/x/sync/singleflight, a caller waits only as long as its context allows, and if the one that makes the attempt
// leaves before it is done, another one makes the next instead of getting the error of the one that left.
package flight

import (
	"context"
	"sync"
)

// A Group is the attempts under way, by key. The zero value is ready; it is safe for concurrent use.
type Group[K comparable, V any] struct {
	mu   sync.Mutex // guards open
	open map[K]*attempt[V]
}

type attempt[V any] struct {
	done  chan struct{} // closed when the following are set
	value V
	err   error
	left  bool // the caller's time was over, or f panicked: err is for nobody else
}

// Do returns what f returns, of this call or of one with the same key that is under way; mine reports whether it was this
// call's. f should end when ctx does.
func (g *Group[K, V]) Do(ctx context.Context, key K, f func() (V, error)) (v V, mine bool, err error) {
	for {
		a, mine := g.join(key)
		if mine {
			g.try(ctx, key, a, f)
			return a.value, true, a.err
		}
		select {
		case <-a.done:
		case <-ctx.Done():
			return v, false, context.Cause(ctx)
		}
		if !a.left {
			return a.value, false, a.err
		}
	}
}

// join returns the attempt that is under way, or a new one, which is the caller's to make.
func (g *Group[K, V]) join(key K) (a *attempt[V], mine bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if a := g.open[key]; a != nil {
		return a, false
	}
	if g.open == nil {
		g.open = make(map[K]*attempt[V])
	}
	a = &attempt[V]{done: make(chan struct{})}
	g.open[key] = a
	return a, true
}

func (g *Group[K, V]) try(ctx context.Context, key K, a *attempt[V], f func() (V, error)) {
	a.left = true // unless f returns
	defer func() {
		g.mu.Lock()
		delete(g.open, key)
		g.mu.Unlock()
		close(a.done)
	}()
	a.value, a.err = f()
	a.left = a.err != nil && ctx.Err() != nil
}
