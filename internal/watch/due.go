package watch

import (
	"time"

	"parley/internal/wire"
)

// changedLocked queues a session for the teller. It returns false if the session is queued already or not ready.
func (t *table[C]) changedLocked(w *watcher[C]) bool {
	if !w.ready || w.queued {
		return false
	}
	w.queued = true
	t.changed = append(t.changed, w)
	return true
}

// due removes the sessions that may be told now from the teller's queue, and reports whether others wait.
func (t *table[C]) due(dst []*watcher[C], now time.Time) (_ []*watcher[C], waits bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	kept := t.changed[:0]
	for _, w := range t.changed {
		if w.ready && now.Before(w.next) {
			kept = append(kept, w)
			continue
		}
		w.queued = false
		dst = append(dst, w)
	}
	clear(t.changed[len(kept):])
	if t.changed = kept; len(kept) == 0 {
		t.changed = nil
	}
	return dst, len(kept) > 0
}

// later queues a session again, to be told at a time.
func (t *table[C]) later(w *watcher[C], at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w.next = at
	t.changedLocked(w)
}

// differ returns the states that differ from what the session was told, and records them as told. The next frame must
// not be sent before next.
func (t *table[C]) differ(w *watcher[C], next time.Time) (states []wire.Presence) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !w.ready {
		return nil
	}
	for i := range w.pairs {
		if p := &w.pairs[i]; p.tell() {
			states = append(states, p.state())
		}
	}
	if len(states) > 0 {
		w.next = next
	}
	return states
}
