// Package slots bounds how many operations run at once, and how many may wait.
package slots

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// Why Take gave no slot, beside the end of its context.
var (
	ErrFull = errors.New("slots: too many wait")
	ErrLate = errors.New("slots: none came free in time")
)

// Slots are a number of places, and a queue of bounded length in front of them. Make it with New. All methods are safe
// for concurrent use.
type Slots struct {
	taken      chan struct{}
	waiting    atomic.Int64
	maxWaiting int64
}

// New returns n slots, 1 or more, for which at most maxWaiting callers wait; 0: none does.
func New(n, maxWaiting int) *Slots {
	return &Slots{taken: make(chan struct{}, n), maxWaiting: int64(maxWaiting)}
}

// Take takes a slot, which the caller returns with Give. It waits in order, at most for patience: ErrFull when too many
// wait already, ErrLate when none came free, or the cause when ctx has ended.
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

// Taken is how many slots are taken.
func (s *Slots) Taken() int { return len(s.taken) }

// Waiting is how many callers wait for one.
func (s *Slots) Waiting() int { return int(s.waiting.Load()) }
