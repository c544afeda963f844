package chat

import (
	"context"
	"sync"
	"time"

	"parley/internal/presence"
)

const (
	janitorBatch = 256
	// maxReleases bounds what waits while Redis is away; entries past it stay until they expire or are replaced.
	maxReleases = 1 << 18
)

// janitor takes ended sessions out of Redis, away from the callbacks that must not wait. A release is compare-and-delete,
// so a late one harms nobody.
type janitor struct {
	s *Server

	wake chan struct{}

	mu      sync.Mutex // guards the following, for a moment: callbacks of connections that close wait for it
	batches [][]presence.Location
	waiting int // in all batches
}

func newJanitor(s *Server) *janitor { return &janitor{s: s, wake: make(chan struct{}, 1)} }

// release has a session taken out of Redis. It does not wait.
func (j *janitor) release(l presence.Location) {
	if !j.put(l) {
		j.s.metrics.releasesLost.Inc()
		return
	}
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// put appends to the last batch. Full batches are handed over whole, so that nothing is moved however many wait.
func (j *janitor) put(l presence.Location) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.waiting >= maxReleases {
		return false
	}
	j.waiting++
	if last := len(j.batches) - 1; last >= 0 && len(j.batches[last]) < janitorBatch {
		j.batches[last] = append(j.batches[last], l)
	} else {
		j.batches = append(j.batches, []presence.Location{l})
	}
	return true
}

// take removes the oldest batch; nil: nothing waits.
func (j *janitor) take() []presence.Location {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.batches) == 0 {
		return nil
	}
	batch := j.batches[0]
	j.batches[0] = nil
	j.batches = j.batches[1:]
	j.waiting -= len(batch)
	return batch
}

// giveBack puts a batch back that could not be released. Releases are compare-and-delete: their order does not matter.
func (j *janitor) giveBack(batch []presence.Location) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.batches = append(j.batches, batch)
	j.waiting += len(batch)
}

// run works until ctx ends, then tries once more to release all that waits.
func (j *janitor) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			j.work(last)
			cancel()
			return
		case <-j.wake:
		}
		if !j.work(ctx) {
			select { // Redis is away: no hurry
			case <-ctx.Done():
			case <-time.After(tick):
			}
			select {
			case j.wake <- struct{}{}:
			default:
			}
		}
	}
}

// work releases what waits, and reports whether it could.
func (j *janitor) work(ctx context.Context) bool {
	for {
		batch := j.take()
		if len(batch) == 0 {
			return true
		}
		if err := j.s.presence.Release(ctx, batch); err != nil {
			j.s.log.Debug("sessions not released yet", "n", len(batch), "err", err)
			j.giveBack(batch)
			return false
		}
	}
}
