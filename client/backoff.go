package client

import (
	"math/rand/v2"
	"time"
)

// backoff is full jitter: a uniform wait between 0 and min(limit, base·2ⁿ), so that clients who lost the same node at
// the same moment do not come back at the same moment.
type backoff struct {
	base, limit time.Duration
}

// Defaults of a session's back-off.
const (
	DefaultBackoffBase  = 500 * time.Millisecond
	DefaultBackoffLimit = 30 * time.Second
)

// wait returns how long to wait before attempt n, counted from 0. atLeast is the server's minimum; the jitter
// is added to it, because all clients get the same minimum.
func (b backoff) wait(n int, atLeast time.Duration) time.Duration {
	most := b.limit
	if n < 30 && b.base<<n < b.limit && b.base<<n > 0 {
		most = b.base << n
	}
	return max(atLeast, 0) + rand.N(most+1)
}
