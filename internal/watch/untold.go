package watch

import (
	"time"

	"parley/internal/wire"
)

// untold holds the sessions with changes that they have not been told. Its fields are guarded by the table's lock.
type untold[C Client] struct {
	t       *table[C]
	changed []*watcher[C]
}

// addLocked queues a session for the teller. It returns false if the session is queued already or not ready.
func (q *untold[C]) addLocked(w *watcher[C]) bool {
	if !w.ready || w.queued {
		return false
	}
	w.queued = true
	q.changed = append(q.changed, w)
	return true
}

// due removes the sessions that may be told now from the queue, and reports whether others wait.
func (q *untold[C]) due(dst []*watcher[C], now time.Time) (_ []*watcher[C], waits bool) {
	q.t.mu.Lock()
	defer q.t.mu.Unlock()
	kept := q.changed[:0]
	for _, w := range q.changed {
		if w.ready && now.Before(w.next) {
			kept = append(kept, w)
			continue
		}
		w.queued = false
		dst = append(dst, w)
	}
	clear(q.changed[len(kept):])
	if q.changed = kept; len(kept) == 0 {
		q.changed = nil
	}
	return dst, len(kept) > 0
}

// later queues a session again, to be told at a time.
func (q *untold[C]) later(w *watcher[C], at time.Time) {
	q.t.mu.Lock()
	defer q.t.mu.Unlock()
	w.next = at
	q.addLocked(w)
}

// differ returns the states that differ from what the session was told, and records them as told. The next frame must
// not be sent before next.
func (q *untold[C]) differ(w *watcher[C], next time.Time) (states []wire.Presence) {
	q.t.mu.Lock()
	defer q.t.mu.Unlock()
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
