package commit

import (
	"slices"
	"time"
)

// delay decides whether a shard is overloaded. It looks at the delay a text would have rather than at the length of
// the queue: the same queue is drained in a moment if SQL is fast, and in many seconds if it is not.
//
// The delay is predicted, not measured. If admission waited until the oldest text had reached the target, a load of
// three times the capacity would by then have queued 1.5 s of work. The prediction is weighed against the load: a
// stall of SQL also leaves a backlog, but one that drains by itself if the load is below the capacity. Refusing that
// backlog would only make clients send it again.
type delay struct {
	target   time.Duration
	recovery time.Duration

	took  [delaySamples]time.Duration // durations of the latest transactions, a ring
	n     int                         // transactions noted so far
	usual time.Duration               // the median of took

	refusing bool
	window   time.Time // start of the current window
	offered  int       // texts offered in the current window
	before   float64   // texts per second in the window before
}

const (
	// delaySamples is the number of transactions whose median is the usual duration. The median ignores a single
	// stall.
	delaySamples = 9
	// delayWindow is the time over which the load is measured.
	delayWindow = 500 * time.Millisecond
	// minRetry and maxRetry bound the retry time sent with a refusal. Within them, clients are asked to return when
	// the backlog has drained.
	minRetry = 100 * time.Millisecond
	maxRetry = 2 * time.Second
)

// note records the duration of a transaction.
func (d *delay) note(took time.Duration) {
	d.took[d.n%delaySamples] = took
	d.n++
	sorted := d.took
	known := sorted[:min(d.n, delaySamples)]
	slices.Sort(known)
	d.usual = known[len(known)/2]
}

// admit decides about n new texts while waiting texts are queued and a transaction takes up to batch texts. It
// returns 0 to accept them, or the time after which to try again. Once it refuses, it goes on refusing until the
// predicted delay has fallen to half the limit, so that it does not switch back and forth around the limit.
func (d *delay) admit(now time.Time, n, waiting, batch int) (retry time.Duration) {
	load := d.load(now, n)
	if waiting+n <= batch {
		d.refusing = false
		return 0 // they fit into the next transaction: no admission can do better
	}
	// The transaction under way may have just begun: it counts in full.
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

// load counts n more texts and returns the recent number per second, including refused texts.
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
	// Texts of the previous window count in proportion to the part of the current window still to come.
	part := age.Seconds() / delayWindow.Seconds()
	return d.before*(1-part) + float64(d.offered)/delayWindow.Seconds()
}
