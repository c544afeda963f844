// Package bucket provides a token bucket that occupies 8 bytes, small enough for one per connection and per user.
// golang.org/x/time/rate can do more, but takes 80 bytes and a lock.
package bucket

import "time"

// A Bucket holds tokens, which are refilled at a rate up to a burst. The caller passes the rate and the burst with
// each call, so that they may change. The zero value is full. The caller must serialise access.
type Bucket struct {
	at   uint32  // time of the last Set, the low 32 bits of unix milliseconds, which wrap after 49 days; 0: full
	left float32 // tokens at that time
}

// Left returns the number of tokens available now.
func (b *Bucket) Left(now time.Time, rate, burst float32) float32 {
	if b.at == 0 {
		return burst
	}
	since := int32(uint32(now.UnixMilli()) - b.at) // negative when the clock was set back
	return min(burst, b.left+float32(max(since, 0))*rate/1000)
}

// Take uses n tokens and returns true if they are available. Otherwise it uses none.
func (b *Bucket) Take(now time.Time, n int, rate, burst float32) bool {
	left := b.Left(now, rate, burst)
	ok := left >= float32(n)
	if ok {
		left -= float32(n)
	}
	b.Set(now, left)
	return ok
}

// Set sets the number of available tokens.
func (b *Bucket) Set(now time.Time, tokens float32) {
	b.at, b.left = max(uint32(now.UnixMilli()), 1), tokens // 0 means full
}

// Full reports whether the bucket is full; its owner may then replace it with a new one.
func (b *Bucket) Full(now time.Time, rate, burst float32) bool {
	return b.Left(now, rate, burst) >= burst
}
