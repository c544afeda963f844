package chat

import (
	"hash/maphash"
	"sync"
	"time"

	"parley/internal/bucket"
)

// An application that was pushed is in the store, and its target's next login lists it: pushing it again tells nothing new.
const (
	// appliedAgain is for how long at least an unchanged application is not pushed again; twice as long at most.
	appliedAgain = time.Hour
	// appliedBurst applications are pushed to one user at once, then one per appliedEvery, however many accounts send them.
	appliedBurst = 10
	appliedEvery = 2 * time.Second
	// maxApplied bounds the applications and the users that are remembered, per generation.
	maxApplied = 32768
)

// applyPushes decides which applications for friendship are pushed. It forgets by generations: what is in the young one
// becomes old after appliedAgain, or when the young one is full, and is dropped with the next turn. Make it with
// newApplyPushes; it is safe for concurrent use.
type applyPushes struct {
	seed maphash.Seed

	mu         sync.Mutex // guards the following
	young, old applyGeneration
	turned     time.Time
}

type applyGeneration struct {
	pushed map[[2]int32]uint64     // from and to: hash of the text
	rates  map[int32]bucket.Bucket // of what a user is told
}

func newApplyGeneration() applyGeneration {
	return applyGeneration{pushed: make(map[[2]int32]uint64), rates: make(map[int32]bucket.Bucket)}
}

func newApplyPushes() *applyPushes {
	return &applyPushes{seed: maphash.MakeSeed(), young: newApplyGeneration(), old: newApplyGeneration()}
}

// allow reports whether an application is to be pushed now, and notes that it is.
func (a *applyPushes) allow(from, to int32, text string, now time.Time) bool {
	pair, sum := [2]int32{from, to}, maphash.String(a.seed, text)
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.turned) >= appliedAgain || len(a.young.pushed) >= maxApplied || len(a.young.rates) >= maxApplied {
		if now.Sub(a.turned) >= 2*appliedAgain {
			a.young = newApplyGeneration() // nobody applied for so long
		}
		a.old, a.young, a.turned = a.young, newApplyGeneration(), now
	}
	last, known := a.young.pushed[pair]
	if !known {
		last, known = a.old.pushed[pair]
	}
	if known && last == sum {
		return false
	}
	rate, ok := a.young.rates[to]
	if !ok {
		rate = a.old.rates[to] // the zero value is a full bucket
	}
	told := rate.Take(now, 1, float32(time.Second)/float32(appliedEvery), appliedBurst)
	a.young.rates[to] = rate
	if told {
		a.young.pushed[pair] = sum
	}
	return told
}
