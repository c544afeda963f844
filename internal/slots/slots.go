// Package slots limits how many operations run at once, and how many callers may wait for their turn.
package slots

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// Errors of Take, apart from the cause of its context's end.
var (
	ErrFull = errors.New("slots: too many wait")
	ErrLate = errors.New("slots: none came free in time")
)

// Slots is a semaphore with a bounded queue of waiting callers. Use New to make one. All methods are safe for
// concurrent use.
type Slots struct {
	taken      chan struct{}
	waiting    atomic.Int64
	maxWaiting int64
}

// New returns n slots, at least 1. At most maxWaiting callers wait for a slot; with 0, none does.
func New(n, maxWaiting int) *Slots {
	return &Slots{taken: make(chan struct{}, n), maxWaiting: int64(maxWaiting)}
}

// Take takes a slot, which the caller returns with Give. If none is free it waits its turn, for at most patience. It
// returns ErrFull if too many callers wait already, ErrLate after patience, or the cause when ctx has ended.
func (s *Slots) Take(ctx context.Context, patience time.Duration) error {
	select {
	case s.taken <- struct{}{}:
		return nil
	default:
	}
	if s.waiting.Add(1) > s.maxWaiting {
		s.waiting.Add(-1)
		return ErrFull
	}
	defer s.waiting.Add(-1)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case s.taken <- struct{}{}:
		return nil
	case <-timer.C:
		return ErrLate
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Give returns a slot.
func (s *Slots) Give() { <-s.taken }

// Taken returns the number of slots in use.
func (s *Slots) Taken() int { return len(s.taken) }

// Waiting returns the number of callers waiting for a slot.
func (s *Slots) Waiting() int { return int(s.waiting.Load()) }
