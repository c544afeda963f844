package ending

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/internal/presence"
)

const (
	janitorBatch = 256
	janitorRest  = time.Second // wait while Redis does not answer
	// maxReleases bounds the releases that wait while Redis does not answer. Entries beyond it stay until they expire
	// or are replaced.
	maxReleases = 1 << 18
)

// A Janitor removes ended sessions from Redis, on behalf of callbacks that must not wait. A release is a
// compare-and-delete, so a late one does no harm. Its methods are safe for concurrent use.
type Janitor struct {
	log   *slog.Logger
	redis Releaser
	lost  prometheus.Counter
	gone  func(uids []int32)
	wake  chan struct{}

	mu      sync.Mutex // guards the following; held only briefly, because close callbacks of connections wait for it
	batches [][]presence.Location
	waiting int // in all batches
}

// Releaser removes sessions from Redis; *presence.Sessions implements it.
type Releaser interface {
	Release(ctx context.Context, sessions []presence.Location) error
}

// NewJanitor returns a Janitor; the caller must run Run beside it. lost counts sessions left in Redis to expire. gone
// is called with the users of sessions that have been removed.
func NewJanitor(log *slog.Logger, redis Releaser, lost prometheus.Counter, gone func(uids []int32)) *Janitor {
	return &Janitor{log: log, redis: redis, lost: lost, gone: gone, wake: make(chan struct{}, 1)}
}

// Release schedules the removal of a session from Redis. It does not wait.
func (j *Janitor) Release(l presence.Location) {
	if !j.add(l) {
		j.lost.Inc()
		return
	}
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// add appends to the last batch. Batches are handed over whole, so nothing is copied however many wait.
func (j *Janitor) add(l presence.Location) bool {
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

// oldest removes and returns the oldest batch, or nil.
func (j *Janitor) oldest() []presence.Location {
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

// giveBack returns a batch that could not be released. Order does not matter, because a release is a
// compare-and-delete.
func (j *Janitor) giveBack(batch []presence.Location) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.batches = append(j.batches, batch)
	j.waiting += len(batch)
}

// Run releases sessions until ctx ends, then makes a last attempt to release all that wait.
func (j *Janitor) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			j.releaseAll(last)
			cancel()
			return
		case <-j.wake:
		}
		if !j.releaseAll(ctx) {
			select { // wait before the next attempt
			case <-ctx.Done():
			case <-time.After(janitorRest):
			}
			select {
			case j.wake <- struct{}{}:
			default:
			}
		}
	}
}

// releaseAll releases all waiting sessions, and returns false after an error.
func (j *Janitor) releaseAll(ctx context.Context) bool {
	for {
		batch := j.oldest()
		if len(batch) == 0 {
			return true
		}
		if err := j.redis.Release(ctx, batch); err != nil {
			j.log.Debug("sessions not released yet", "n", len(batch), "err", err)
			j.giveBack(batch)
			return false
		}
		uids := make([]int32, len(batch))
		for i := range batch {
			uids[i] = batch[i].UID
		}
		j.gone(uids)
	}
}
