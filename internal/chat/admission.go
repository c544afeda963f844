package chat

import (
	"net/netip"
	"sync"
	"time"
)

// Why a connection was refused before it said anything.
const (
	admitted   = -1
	refuseFull = iota - 1
	refuseUnauthenticated
	refuseAddress
	refuseAddressRate
	refuseRate
	refuseDraining
	refusals
)

var refusalNames = [refusals]string{"full", "unauthenticated", "address", "address_rate", "rate", "draining"}

// admission decides who may connect. Safe for concurrent use.
type admission struct {
	limits   *Limits
	maxConns int

	mu              sync.Mutex // guards the following
	conns           int
	unauthenticated int
	addrs           map[netip.Addr]*address
	all             bucket
	draining        bool
}

// address is what one client address holds. It is forgotten when it has no connection and its bucket is full again.
type address struct {
	conns  int
	bucket bucket
}

// maxAddresses bounds the map; past it addresses that are not in it are not limited apart.
const maxAddresses = 65536

func newAdmission(l *Limits, maxConns int) *admission {
	return &admission{limits: l, maxConns: maxConns, addrs: make(map[netip.Addr]*address)}
}

func (a *admission) limited(addr netip.Addr) bool {
	return (a.limits.PerAddress > 0 || a.limits.AddressRate > 0) && (a.limits.LimitLoopback || !addr.IsLoopback())
}

// admit counts a new connection, or says why not.
func (a *admission) admit(addr netip.Addr, now time.Time) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.draining:
		return refuseDraining
	case a.maxConns > 0 && a.conns >= a.maxConns:
		return refuseFull
	case a.unauthenticated >= a.limits.Unauthenticated:
		return refuseUnauthenticated
	}
	if a.limited(addr) {
		e := a.addrs[addr]
		if e == nil {
			if len(a.addrs) >= maxAddresses {
				a.forgetLocked(now)
			}
			e = new(address)
			if len(a.addrs) < maxAddresses {
				a.addrs[addr] = e
			}
		}
		if a.limits.PerAddress > 0 && e.conns >= a.limits.PerAddress {
			return refuseAddress
		}
		if r := a.limits.AddressRate; r > 0 && !e.bucket.take(now, r, r) {
			return refuseAddressRate
		}
		e.conns++
	}
	if r := a.limits.AcceptRate; r > 0 && !a.all.take(now, r, r) {
		if e := a.addrs[addr]; e != nil && a.limited(addr) {
			e.conns--
		}
		return refuseRate
	}
	a.conns++
	a.unauthenticated++
	return admitted
}

// loggedIn says that a connection is no longer unauthenticated.
func (a *admission) loggedIn() {
	a.mu.Lock()
	a.unauthenticated--
	a.mu.Unlock()
}

// closed takes a connection out of the counts; loggedIn tells whether loggedIn was called for it.
func (a *admission) closed(addr netip.Addr, loggedIn bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conns--
	if !loggedIn {
		a.unauthenticated--
	}
	if e := a.addrs[addr]; e != nil && e.conns > 0 {
		e.conns--
	}
}

// forgetLocked drops the addresses that hold nothing.
func (a *admission) forgetLocked(now time.Time) {
	for addr, e := range a.addrs {
		if e.conns == 0 && e.bucket.full(now, a.limits.AddressRate, a.limits.AddressRate) {
			delete(a.addrs, addr)
		}
	}
}

func (a *admission) forget(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forgetLocked(now)
}

func (a *admission) drain() {
	a.mu.Lock()
	a.draining = true
	a.mu.Unlock()
}

// bucket is a token bucket in 8 bytes; x/time/rate needs 80 and a lock, and there are two for each connection. The zero
// value is a full one. Its owner guards it.
type bucket struct {
	at   uint32  // of the last take: unix milliseconds, of which 32 bits tell 49 days apart; 0: full
	left float32 // tokens then
}

func (b *bucket) fill(now time.Time, rate, burst int) float32 {
	if b.at == 0 {
		return float32(burst)
	}
	since := int32(uint32(now.UnixMilli()) - b.at) // negative when the clock was set back
	return min(float32(burst), b.left+float32(max(since, 0))*float32(rate)/1000)
}

// take uses one token if there is one.
func (b *bucket) take(now time.Time, rate, burst int) bool { return b.takeMany(now, 1, rate, burst) }

// takeMany uses n tokens if there are so many.
func (b *bucket) takeMany(now time.Time, n, rate, burst int) bool {
	left := b.fill(now, rate, burst)
	ok := left >= float32(n)
	if ok {
		left -= float32(n)
	}
	b.at, b.left = max(uint32(now.UnixMilli()), 1), left
	return ok
}

func (b *bucket) full(now time.Time, rate, burst int) bool {
	return b.fill(now, rate, burst) >= float32(burst)
}
