package store

import (
	"sync"
	"sync/atomic"
	"time"
)

// renewEvery bounds how often all connections are replaced: often enough to recover soon after a fail-over, and rarely
// enough for a server that goes on refusing.
const renewEvery = 500 * time.Millisecond

// renewal replaces the connections of a store. A server that turns read-only in a planned fail-over stays up, and so do
// the connections to it, although its name leads elsewhere by now; one whose user was given a privilege again tells only
// new connections.
type renewal struct {
	renew func()

	n atomic.Uint64 // how often it was done; changed under mu

	mu     sync.Mutex // guards the following
	latest time.Time
}

// renewSince reports whether the connections have been renewed after the given count was read, and renews them if they
// were not and it is time.
func (db *database) renewSince(n uint64) bool {
	r := &db.renewal
	if r.renew == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n.Load() != n {
		return true
	}
	now := time.Now()
	if now.Sub(r.latest) < renewEvery {
		return false
	}
	r.n.Add(1)
	r.latest = now
	db.m.renewals.Inc()
	db.writers.flush()
	r.renew()
	return true
}
