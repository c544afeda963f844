package legacy

import (
	"cmp"
	"slices"

	"parley/internal/wire"
)

// maxRuns bounds the runs remembered per thread. A text of the user's own ends a run.
const maxRuns = 32

// received holds, by thread, which texts were pushed to the client in this session. A node repeats a text if it is
// not sure that the first push arrived, but the stock client would show it twice.
type received map[int64][]run

// A run is a range of numbers of pushed texts.
type run struct{ lo, hi int32 }

// find returns the first run that ends at or after seq, and reports whether that run contains seq.
func (r received) find(thread, seq int64) (at int, in bool) {
	runs := r[thread]
	at, _ = slices.BinarySearchFunc(runs, seq, func(r run, seq int64) int { return cmp.Compare(int64(r.hi), seq) })
	return at, at < len(runs) && int64(runs[at].lo) <= seq
}

// add records a text and reports whether it is new. When there are too many runs, it drops the first and treats
// everything before the second as received.
func (r received) add(thread, seq int64) bool {
	if seq < 1 || seq > wire.MaxInt {
		return true // from a foreign node, without a number
	}
	at, in := r.find(thread, seq)
	if in {
		return false
	}
	runs, n := r[thread], int32(seq)
	left := at > 0 && runs[at-1].hi == n-1
	right := at < len(runs) && runs[at].lo == n+1
	switch {
	case left && right:
		runs[at-1].hi = runs[at].hi
		runs = slices.Delete(runs, at, at+1)
	case left:
		runs[at-1].hi = n
	case right:
		runs[at].lo = n
	default:
		runs = slices.Insert(runs, at, run{n, n})
	}
	if len(runs) > maxRuns {
		runs = slices.Delete(runs, 0, 1)
		runs[0].lo = 1
	}
	r[thread] = runs
	return true
}

// floor returns the number up to which all texts count as received.
func (r received) floor(thread int64) int64 {
	if runs := r[thread]; len(runs) > 0 && runs[0].lo == 1 {
		return int64(runs[0].hi)
	}
	return 0
}
