package legacy

import (
	"context"
	"sync"
	"time"
)

// Resolution is how finely frames are spaced.
const Resolution = 10 * time.Millisecond

// slots must cover the longest wait asked for, in steps of Resolution.
const slots = 16

// Spacing is the time that a stock client has for a frame before it gets the next one.
type Spacing struct {
	Frame time.Duration // at least
	Text  time.Duration // more, for each pushed text in it: an open page draws them one by one, and reads nothing meanwhile
}

// Wheel wakes policies a few steps later: one timer for all stock clients of a node. It ticks only while somebody waits.
// NewWheel makes one; it is safe for concurrent use.
type Wheel struct {
	spacing Spacing // fixed

	mu      sync.Mutex // guards the following
	slot    [slots][]*Policy
	at      int
	waiting int
	wake    chan struct{}
}

// NewWheel returns a wheel; Run turns it.
func NewWheel(s Spacing) *Wheel { return &Wheel{spacing: s, wake: make(chan struct{}, 1)} }

// after has p.pump called once, d from now, rounded up to Resolution and cut to what the wheel covers.
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

// turn goes one step on and calls those whose time has come. It returns due, which it uses as scratch.
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

// call keeps a panic over one client's frames from ending all the others': it costs that client its connection.
func (w *Wheel) call(p *Policy) {
	defer func() {
		if recover() != nil {
			count(p.counters.Panicked)
			p.s.CloseSoon()
		}
	}()
	p.pump(time.Now())
}
