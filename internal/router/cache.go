package router

import (
	"sync"
	"time"

	"parley/internal/recent"
)

// cache remembers which nodes hold a user's sessions. An entry is used for ttl; older entries are kept as a guess for
// when Redis does not answer. It is safe for concurrent use.
type cache struct {
	ttl time.Duration

	mu     sync.Mutex // guards places
	places *recent.Map[int32, place]
}

// place says which nodes held a user's sessions at a time.
type place struct {
	nodes []string
	at    time.Time
}

func newCache(limit int, ttl time.Duration) *cache {
	return &cache{ttl: ttl, places: recent.New[int32, place](limit)}
}

// get returns a user's nodes if they were found less than ttl ago.
func (c *cache) get(uid int32, now time.Time) ([]string, bool) {
	p, ok := c.last(uid)
	if !ok || now.Sub(p.at) >= c.ttl {
		return nil, false
	}
	return p.nodes, true
}

// last returns where a user was last found, however long ago.
func (c *cache) last(uid int32) (place, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.places.Get(uid)
}

func (c *cache) put(uid int32, nodes []string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.places.Put(uid, place{nodes, now})
}

func (c *cache) forget(uid int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.places.Delete(uid)
}
