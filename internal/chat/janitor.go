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

	mu      sync.Mutex // guards the following
	waiting []presence.Location
	wake    chan struct{}
}

func newJanitor(s *Server) *janitor { return &janitor{s: s, wake: make(chan struct{}, 1)} }

func (j *janitor) release(l presence.Location) {
	j.mu.Lock()
	if len(j.waiting) >= maxReleases {
		j.mu.Unlock()
		j.s.metrics.releasesLost.Inc()
		return
	}
	j.waiting = append(j.waiting, l)
	j.mu.Unlock()
	select {
	case j.wake <- struct{}{}:
	default:
	}
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
		j.mu.Lock()
		n := min(len(j.waiting), janitorBatch)
		batch := append([]presence.Location(nil), j.waiting[:n]...)
		j.mu.Unlock()
		if n == 0 {
			return true
		}
		if err := j.s.presence.Release(ctx, batch); err != nil {
			j.s.log.Debug("sessions not released yet", "n", n, "err", err)
			return false
		}
		j.mu.Lock()
		j.waiting = append(j.waiting[:0], j.waiting[n:]...)
		if len(j.waiting) == 0 {
			j.waiting = nil
		}
		j.mu.Unlock()
	}
}
