// Package workers runs short functions on goroutines that are used again. A new goroutine starts with a small stack, which
// has to be copied to a larger one several times in a deep call; a goroutine that did the same before has its stack already.
package workers

import (
	"sync"

	"parley/internal/batch"
)

// Workers starts functions on goroutines of their own, of which some rest in between. Use New to make one. Its methods are
// safe for concurrent use.
type Workers struct {
	panicked func(*batch.Panic)
	maxIdle  int

	mu     sync.Mutex // guards the following
	idle   []worker   // those that rest; the one that worked last is taken first, because its stack is still in the caches
	closed bool

	wg sync.WaitGroup
}

// worker is the way to a resting goroutine. Closing it ends the goroutine.
type worker chan func()

// New returns Workers of which at most maxIdle rest; with 0, each function gets a new goroutine. If a function panics, its
// goroutine calls panicked.
func New(maxIdle int, panicked func(*batch.Panic)) *Workers {
	return &Workers{panicked: panicked, maxIdle: maxIdle}
}

// Go runs f on a goroutine of its own. It does not wait, and sets no bound on how many run at once: that is the caller's. A
// function that runs may call Go while Close waits; what others start then is run, but Close may have returned before.
func (w *Workers) Go(f func()) {
	w.mu.Lock()
	if last := len(w.idle) - 1; last >= 0 {
		next := w.idle[last]
		w.idle = w.idle[:last]
		w.mu.Unlock()
		next <- f // it has room for one
		return
	}
	w.mu.Unlock()
	w.wg.Add(1)
	go w.work(f)
}

// Close waits until all functions have returned, and ends the goroutines.
func (w *Workers) Close() {
	w.mu.Lock()
	w.closed = true
	for _, one := range w.idle {
		close(one)
	}
	w.idle = nil
	w.mu.Unlock()
	w.wg.Wait()
}

func (w *Workers) work(f func()) {
	defer w.wg.Done()
	mine := make(worker, 1)
	for ok := true; ok; f, ok = <-mine {
		w.run(f)
		if !w.rest(mine) {
			return
		}
	}
}

// rest puts a goroutine among those that wait for work. It reports false if enough do.
func (w *Workers) rest(mine worker) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(w.idle) >= w.maxIdle {
		return false
	}
	w.idle = append(w.idle, mine)
	return true
}

func (w *Workers) run(f func()) {
	if p := batch.Try(f); p != nil {
		w.panicked(p)
	}
}
