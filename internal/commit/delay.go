package commit

import (
	"slices"
	"time"
)

// A shard refuses by the delay that a text would have, not by the length of its queue: the same queue is a moment when
// SQL is quick and many seconds when it is not.
//
// The delay is predicted, because the texts that cause it are those that come: by the time the oldest has waited for
// the target, three times the capacity would have put 1.5 s of work behind it. It is also compared with the load. A stall
// of SQL leaves a backlog too, but one that drains by itself when the load is below the capacity; to refuse it would
// only make clients send it again.
type delay struct {
	target   time.Duration
	recovery time.Duration

	took  [delaySamples]time.Duration // of the latest transactions, a ring
	n     int                         // how many there were
	usual time.Duration               // the median of took

	refusing bool
	window   time.Time // start of the window that offered counts
	offered  int       // texts of this window
	before   float64   // texts per second of the window before
}

const (
	// delaySamples is how many transactions tell how long one takes. The median of an odd number of them ignores a
	// single stall.
	delaySamples = 9
	// delayWindow is the time over which the load is measured.
	delayWindow = 500 * time.Millisecond
	// Refused clients are asked to come back after the backlog has gone.
	minRetry = 100 * time.Millisecond
	maxRetry = 2 * time.Second
)

// note tells how long a transaction took.
func (d *delay) note(took time.Duration) {
	d.took[d.n%delaySamples] = took
	d.n++
	sorted := d.took
	known := sorted[:min(d.n, delaySamples)]
	slices.Sort(known)
	d.usual = known[len(known)/2]
}

// admit decides about n texts that come while waiting texts wait, of which a transaction takes batch. It returns 0 to
// take them, else after what time to try again.
func (d *delay) admit(now time.Time, n, waiting, batch int) (retry time.Duration) {
	load := d.load(now, n)
	if waiting+n <= batch {
		d.refusing = false
		return 0 // the next transaction has room for it: the least delay there can be
	}
	// The transaction under way may have just begun.
	predicted := d.usual + d.usual*time.Duration(waiting)/time.Duration(batch)
	limit := d.target
	if capacity := float64(batch) / max(d.usual.Seconds(), 1e-6); load < capacity {
		limit += time.Duration(float64(d.recovery) * (1 - load/capacity))
	}
	switch {
	case predicted > limit:
		d.refusing = true
	case predicted <= limit/2:
		d.refusing = false
	}
	if !d.refusing {
		return 0
	}
	return min(max(predicted, minRetry), maxRetry)
}

// load counts n more texts and returns how many came per second lately, refused ones included.
func (d *delay) load(now time.Time, n int) float64 {
	age := now.Sub(d.window)
	if age >= delayWindow {
		d.before = 0
		if age < 2*delayWindow {
			d.before = float64(d.offered) / age.Seconds()
		}
		d.window, d.offered, age = now, 0, 0
	}
	d.offered += n
	// The window before counts for the part of this one that is still to come.
	part := age.Seconds() / delayWindow.Seconds()
	return d.before*(1-part) + float64(d.offered)/delayWindow.Seconds()
}
