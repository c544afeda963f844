package gate

import (
	"context"
	"math"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"parley/internal/recent"
)

// addressLimit limits the failed logins of each address in this process to burst at once, and burst per period. Like
// accountLimit it counts only failures, and allows no more concurrent attempts than may still fail. Beyond
// trackedAddresses, the least recently seen address starts afresh. It is safe for concurrent use.
type addressLimit struct {
	every  rate.Limit
	burst  int
	exempt func(netip.Addr) bool
	now    func() time.Time

	mu      sync.Mutex // guards the following
	buckets *recent.Map[netip.Prefix, *bucket]
}

// bucket is the state of one address. The mutex of addressLimit guards it.
type bucket struct {
	failures *rate.Limiter
	underWay int
	ended    chan struct{} // closed when an attempt ends; nil while no caller waits
}

func newAddressLimit(burst int, period time.Duration, exempt func(netip.Addr) bool) *addressLimit {
	return &addressLimit{
		every: rate.Every(period / time.Duration(burst)), burst: burst, exempt: exempt, now: time.Now,
		buckets: recent.New[netip.Prefix, *bucket](trackedAddresses),
	}
}

// beginAttempt begins an attempt of addr; the caller ends it by calling done. While as many attempts of the address
// are under way as may fail, beginAttempt waits for their outcome. If the address may not fail now, it returns the
// time until it may; if ctx ends, its cause.
func (l *addressLimit) beginAttempt(ctx context.Context, addr netip.Addr) (done func(failed bool), wait time.Duration, err error) {
	if l.exempt(addr) {
		return func(bool) {}, 0, nil
	}
	for {
		b, wait, ended := l.begin(addr)
		if b != nil {
			return func(failed bool) { l.end(b, failed) }, 0, nil
		}
		if wait > 0 {
			return nil, wait, nil
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return nil, 0, context.Cause(ctx)
		}
	}
}

// begin returns the bucket of addr if an attempt has begun. Otherwise it returns the time until one may begin, or a
// channel that is closed when it is worth trying again.
func (l *addressLimit) begin(addr netip.Addr) (b *bucket, wait time.Duration, ended <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := network(addr)
	b, ok := l.buckets.Get(key)
	if !ok {
		b = &bucket{failures: rate.NewLimiter(l.every, l.burst)}
		l.buckets.Put(key, b)
	}
	left := b.failures.TokensAt(l.now())
	switch {
	case left >= float64(b.underWay+1):
		b.underWay++
		return b, 0, nil
	case b.underWay == 0:
		return nil, time.Duration(math.Ceil((1 - left) / float64(l.every) * float64(time.Second))), nil
	}
	if b.ended == nil {
		b.ended = make(chan struct{})
	}
	return nil, 0, b.ended
}

// end ends an attempt and wakes all attempts of the address that wait for its outcome.
func (l *addressLimit) end(b *bucket, failed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b.underWay--
	if failed {
		b.failures.AllowN(l.now(), 1)
	}
	if b.ended != nil {
		close(b.ended)
		b.ended = nil
	}
}

// network returns what is limited as one address: an IPv4 address or an IPv6 /64, which is what one subscriber
// receives.
func network(addr netip.Addr) netip.Prefix {
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.WithZone("").Prefix(bits) // fails only for an invalid Addr; all of these share one bucket
	return p
}
