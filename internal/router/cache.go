package router

import (
	"sync"
	"time"
)

// cache remembers where users are. It forgets by generations: entries live in the young one, which becomes the old one
// when it is full or half of the time to live has passed, and is dropped at the turn after. Safe for concurrent use.
type cache struct {
	max int
	ttl time.Duration

	mu         sync.Mutex // guards the following
	young, old map[int32][]string
	turned     time.Time
}

func newCache(limit int, ttl time.Duration) *cache {
	return &cache{max: limit, ttl: ttl, young: make(map[int32][]string)}
}

func (c *cache) get(uid int32, now time.Time) ([]string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turnLocked(now)
	nodes, ok := c.young[uid]
	if !ok {
		nodes, ok = c.old[uid]
	}
	return nodes, ok
}

func (c *cache) put(uid int32, nodes []string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turnLocked(now)
	c.young[uid] = nodes
}

func (c *cache) forget(uid int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.young, uid)
	delete(c.old, uid)
}

func (c *cache) turnLocked(now time.Time) {
	age := now.Sub(c.turned)
	if len(c.young) < c.max && age < c.ttl/2 {
		return
	}
	c.old = c.young
	if age >= c.ttl { // nobody asked for so long: what was young is too old as well
		c.old = nil
	}
	c.young, c.turned = make(map[int32][]string), now
}
