package handler

import (
	"sync"
	"time"

	"parley/internal/bucket"
)

const (
	// appliedBurst applications are pushed to one user at once, then one per appliedEvery, however many accounts send them.
	appliedBurst = 10
	appliedEvery = 2 * time.Second
	// maxApplied bounds the users that are remembered, per generation.
	maxApplied = 32768
)

// applyRates bounds the applications for friendship that each user is pushed. It forgets by generations, which turn when
// the buckets of the old one are full, or when there are too many. Make it with newApplyRates; it is safe for concurrent
// use.
type applyRates struct {
	mu         sync.Mutex // guards the following
	young, old map[int32]bucket.Bucket
	turned     time.Time
}

func newApplyRates() *applyRates { return &applyRates{young: make(map[int32]bucket.Bucket)} }

// allow charges an application that is about to be pushed to a user. It returns false if there were too many.
func (a *applyRates) allow(to int32, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.turned) >= appliedBurst*appliedEvery || len(a.young) >= maxApplied {
		a.old, a.young, a.turned = a.young, make(map[int32]bucket.Bucket), now
	}
	rate, ok := a.young[to]
	if !ok {
		rate = a.old[to] // the zero value is a full bucket
	}
	allowed := rate.Take(now, 1, float32(time.Second)/float32(appliedEvery), appliedBurst)
	a.young[to] = rate
	return allowed
}
