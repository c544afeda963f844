package handler

import (
	"sync"
	"time"

	"parley/internal/bucket"
	"parley/internal/recent"
)

const (
	// appliedBurst applications are pushed to one user at once, then one per appliedEvery, however many accounts send them.
	appliedBurst = 10
	appliedEvery = 2 * time.Second
	// maxApplied is how many users are remembered at least.
	maxApplied = 32768
)

// applyRates bounds the applications for friendship that each user is pushed. Buckets that have had the time to fill are
// forgotten. Make it with newApplyRates; it is safe for concurrent use.
type applyRates struct {
	mu     sync.Mutex // guards the following
	users  *recent.Map[int32, bucket.Bucket]
	turned time.Time
}

func newApplyRates() *applyRates {
	return &applyRates{users: recent.New[int32, bucket.Bucket](maxApplied)}
}

// allow charges an application that is about to be pushed to a user. It returns false if there were too many.
func (a *applyRates) allow(to int32, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.turned) >= appliedBurst*appliedEvery {
		a.users.Turn()
		a.turned = now
	}
	rate, _ := a.users.Get(to) // the zero value is a full bucket
	allowed := rate.Take(now, 1, float32(time.Second)/float32(appliedEvery), appliedBurst)
	a.users.Put(to, rate)
	return allowed
}
