package legacy

import (
	"context"
	"sync"
	"time"
)

// Resolution is the granularity of the spacing.
const Resolution = 10 * time.Millisecond

// slots times Resolution must exceed the longest wait.
const slots = 16

// Spacing is the time a stock client has for a frame before the next one is sent.
type Spacing struct {
	Frame time.Duration // minimum time for any frame
	Text  time.Duration // additional time per pushed text: while an open chat page draws texts one by one, the client reads nothing
}

// A Wheel wakes policies after a few steps, with one timer for all stock clients of a node. It ticks only while a
// policy waits. Use NewWheel to make one. It is safe for concurrent use.
type Wheel struct {
	spacing Spacing // fixed

	mu      sync.Mutex // guards the following
	slot    [slots][]*Policy
	at      int
	waiting int
	wake    chan struct{}
}

// NewWheel returns a wheel; the caller must run Run beside it.
func NewWheel(s Spacing) *Wheel { return &Wheel{spacing: s, wake: make(chan struct{}, 1)} }

// after schedules one call of p.pump in d, rounded up to Resolution and limited to the span of the wheel.
func (w *Wheel) after(d time.Duration, p *Policy) {
	steps := min(max(int((d+Resolution-1)/Resolution), 1), slots-1)
	w.mu.Lock()
	i := (w.at + steps) % slots
	w.slot[i] = append(w.slot[i], p)
	w.waiting++
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run turns the wheel until ctx ends.
func (w *Wheel) Run(ctx context.Context) {
	tick := time.NewTicker(Resolution)
	defer tick.Stop()
	var due []*Policy
	for {
		w.mu.Lock()
		idle := w.waiting == 0
		w.mu.Unlock()
		if idle {
			select {
			case <-w.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		due = w.turn(due)
	}
}

// turn advances the wheel by a step and calls the policies that are due. It returns due, its scratch space.
func (w *Wheel) turn(due []*Policy) []*Policy {
	w.mu.Lock()
	w.at = (w.at + 1) % slots
	due = append(due[:0], w.slot[w.at]...)
	clear(w.slot[w.at])
	w.slot[w.at] = w.slot[w.at][:0]
	w.waiting -= len(due)
	w.mu.Unlock()
	for i, p := range due {
		w.call(p)
		due[i] = nil
	}
	return due
}

// call confines a panic to the client whose frames caused it: that client loses its connection.
func (w *Wheel) call(p *Policy) {
	defer func() {
		if recover() != nil {
			count(p.counters.Panicked)
			p.s.CloseSoon()
		}
	}()
	p.pump(time.Now())
}
