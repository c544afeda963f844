package client

import (
	"context"
	"sync"
)

// windowBytes bounds the texts in flight beside their number: a server takes 128 KiB of a connection at a time.
const windowBytes = 96 << 10

// window counts the texts in flight. Who waits is served in the order of arrival, so that a large batch is not starved
// by single texts.
type window struct {
	texts int // the limit; fixed after init

	mu        sync.Mutex // guards the following
	freeTexts int
	freeBytes int
	waiters   []*windowWaiter
	err       error // set once the connection has ended
}

type windowWaiter struct {
	texts, bytes int
	ready        chan error // capacity 1
}

func (w *window) init(texts int) {
	w.texts, w.freeTexts, w.freeBytes = texts, texts, windowBytes
}

// try takes a place and returns true, or returns false if there is none or another caller waits already.
func (w *window) try(texts, bytes int) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return false, w.err
	}
	if len(w.waiters) > 0 || texts > w.freeTexts || bytes > w.freeBytes {
		return false, nil
	}
	w.freeTexts -= texts
	w.freeBytes -= bytes
	return true, nil
}

// acquire takes a place, waiting for it until ctx ends or the connection does.
func (w *window) acquire(ctx context.Context, texts, bytes int) error {
	if ok, err := w.try(texts, bytes); ok || err != nil {
		return err
	}
	wt := &windowWaiter{texts, bytes, make(chan error, 1)}
	w.mu.Lock()
	if w.err != nil {
		w.mu.Unlock()
		return w.err
	}
	w.waiters = append(w.waiters, wt)
	w.serveLocked()
	w.mu.Unlock()
	select {
	case err := <-wt.ready:
		return err
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, other := range w.waiters {
		if other == wt {
			w.waiters = append(w.waiters[:i], w.waiters[i+1:]...)
			w.serveLocked() // the next waiters may fit
			return contextError(ctx)
		}
	}
	// Served, or ended, while the context did.
	if err := <-wt.ready; err != nil {
		return err
	}
	w.freeTexts += texts
	w.freeBytes += bytes
	w.serveLocked()
	return contextError(ctx)
}

func (w *window) release(texts, bytes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.freeTexts += texts
	w.freeBytes += bytes
	w.serveLocked()
}

func (w *window) serveLocked() {
	for len(w.waiters) > 0 {
		wt := w.waiters[0]
		if w.err == nil && (wt.texts > w.freeTexts || wt.bytes > w.freeBytes) {
			return
		}
		if w.err == nil {
			w.freeTexts -= wt.texts
			w.freeBytes -= wt.bytes
		}
		w.waiters[0] = nil
		w.waiters = w.waiters[1:]
		wt.ready <- w.err
	}
}

// close makes every waiting and later call return err.
func (w *window) close(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
	w.serveLocked()
}
