package router

import (
	"sync"
	"time"
)

// cache remembers where users are. An entry is believed for ttl, and kept for longer, for when nobody else can say. Its
// size is bounded by generations: when the young one is full it becomes the old one, and what was old is forgotten. Safe
// for concurrent use.
type cache struct {
	max int
	ttl time.Duration

	mu         sync.Mutex // guards the following
	young, old map[int32]place
}

// place is where a user was, and when that was found.
type place struct {
	nodes []string
	at    time.Time
}

func newCache(limit int, ttl time.Duration) *cache {
	return &cache{max: limit, ttl: ttl, young: make(map[int32]place)}
}

// get returns where a user is, if that was found lately.
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
	p, ok := c.young[uid]
	if !ok {
		p, ok = c.old[uid]
	}
	return p, ok
}

func (c *cache) put(uid int32, nodes []string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.young) >= c.max {
		c.old, c.young = c.young, make(map[int32]place)
	}
	c.young[uid] = place{nodes, now}
}

func (c *cache) forget(uid int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.young, uid)
	delete(c.old, uid)
}
