// Package bucket is a token bucket of 8 bytes. golang.org/x/time/rate does more, in 80 bytes and with a lock: too much
// where each connection and each user has one.
package bucket

import "time"

// Bucket holds tokens, which come back at a rate and of which it keeps a burst at most. The rate and the burst are given
// with each call, so that they may change. The zero value is full. Its owner guards it.
type Bucket struct {
	at   uint32  // of the last take: unix milliseconds, of which 32 bits tell 49 days apart; 0: full
	left float32 // tokens then
}

// Left returns the tokens that are there.
func (b *Bucket) Left(now time.Time, rate, burst float32) float32 {
	if b.at == 0 {
		return burst
	}
	since := int32(uint32(now.UnixMilli()) - b.at) // negative when the clock was set back
	return min(burst, b.left+float32(max(since, 0))*rate/1000)
}

// Take uses n tokens if there are so many.
func (b *Bucket) Take(now time.Time, n int, rate, burst float32) bool {
	left := b.Left(now, rate, burst)
	ok := left >= float32(n)
	if ok {
		left -= float32(n)
	}
	b.Set(now, left)
	return ok
}

// Set makes the tokens so many.
func (b *Bucket) Set(now time.Time, tokens float32) {
	b.at, b.left = max(uint32(now.UnixMilli()), 1), tokens
}

// Full reports whether as many tokens are there as fit, so that a new bucket would do as well.
func (b *Bucket) Full(now time.Time, rate, burst float32) bool {
	return b.Left(now, rate, burst) >= burst
}
