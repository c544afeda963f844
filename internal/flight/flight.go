// Package flight lets callers that want the same thing at the same time share one attempt. It differs from
// golang.org/x/sync/singleflight in two ways: a caller waits only as long as its context allows, and if the caller
// that makes the attempt is cancelled, another caller makes a new attempt instead of receiving the first caller's
// error.
package flight

import (
	"context"
	"sync"
)

// A Group holds the attempts under way, by key. The zero value is ready for use. It is safe for concurrent use.
type Group[K comparable, V any] struct {
	mu   sync.Mutex // guards open
	open map[K]*attempt[V]
}

type attempt[V any] struct {
	done  chan struct{} // closed once the fields below are final
	value V
	err   error
	left  bool // the caller was cancelled or f panicked: the result is not for other callers
}

// Do calls f and returns its result, unless another call with the same key is under way; it then waits for that call
// and returns its result. mine reports whether this call ran f. f should return when ctx ends.
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

// join returns the attempt under way, or a new one that the caller must make.
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
	a.left = true // stays true if f panics
	defer func() {
		g.mu.Lock()
		delete(g.open, key)
		g.mu.Unlock()
		close(a.done)
	}()
	a.value, a.err = f()
	a.left = a.err != nil && ctx.Err() != nil
}
