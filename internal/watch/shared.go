package watch

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"parley/internal/batch"
)

// shared is what all parts of Watches share.
type shared struct {
	cfg     Config
	d       Deps
	log     *slog.Logger
	metrics *metrics

	ctx  context.Context // ends with Close
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// loop calls step whenever wake holds a token, until Close. step returns the time after which to call it again in any
// case; 0 means never.
func (s *shared) loop(wake chan struct{}, step func() time.Duration) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-wake:
		case <-timer.C:
		}
		rest := s.cfg.Retry
		if p := batch.Try(func() { rest = step() }); p != nil {
			s.panicked(p)
		}
		if rest == 0 {
			rest = time.Hour
		}
		timer.Reset(rest)
	}
}

func signal(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// sleep waits for d, and returns false if Close was called.
func (s *shared) sleep(d time.Duration) bool {
	select {
	case <-s.ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (s *shared) panicked(p *batch.Panic) {
	s.metrics.panics.Inc()
	s.log.Error("panic", "err", p.Value, "stack", string(p.Stack))
}
