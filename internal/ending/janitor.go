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
	janitorRest  = time.Second // while Redis is away
	// maxReleases bounds what waits while Redis is away; entries past it stay until they expire or are replaced.
	maxReleases = 1 << 18
)

// Janitor takes ended sessions out of Redis, away from the callbacks that must not wait. A release is compare-and-delete,
// so a late one harms nobody. Its methods are safe for concurrent use.
type Janitor struct {
	log   *slog.Logger
	redis Releaser
	lost  prometheus.Counter
	gone  func(uids []int32)
	wake  chan struct{}

	mu      sync.Mutex // guards the following, for a moment: callbacks of connections that close wait for it
	batches [][]presence.Location
	waiting int // in all batches
}

// Releaser takes sessions out of Redis; *presence.Presence is one.
type Releaser interface {
	Release(ctx context.Context, sessions []presence.Location) error
}

// NewJanitor returns a Janitor; Run has to run with it. lost counts the sessions that are left in Redis to expire. gone is
// told of the users of those that are out of it.
func NewJanitor(log *slog.Logger, redis Releaser, lost prometheus.Counter, gone func(uids []int32)) *Janitor {
	return &Janitor{log: log, redis: redis, lost: lost, gone: gone, wake: make(chan struct{}, 1)}
}

// Release has a session taken out of Redis. It does not wait.
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

// add appends to the last batch. Full batches are handed over whole, so that nothing is moved however many wait.
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

// oldest removes the oldest batch; nil: nothing waits.
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

// giveBack puts a batch back that could not be released. Releases are compare-and-delete: their order does not matter.
func (j *Janitor) giveBack(batch []presence.Location) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.batches = append(j.batches, batch)
	j.waiting += len(batch)
}

// Run works until ctx ends, then tries once more to release all that waits.
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
			select { // Redis is away: no hurry
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

// releaseAll releases what waits, and reports whether it could.
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
