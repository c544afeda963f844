package legacy

import (
	"cmp"
	"maps"
	"slices"

	"parley/internal/wire"
)

// maxRuns bounds what is remembered of one thread. A run is as long as no text of the user's own comes in between.
const maxRuns = 32

// received is which texts a client was sent by pushes in this session. Some may be sent to it a second time, because a node
// is not sure whether the first reached it, and the stock client shows each that it gets.
type received map[int64][]run

// run is the texts of a thread from lo to hi.
type run struct{ lo, hi int32 }

// find returns the first run that does not end before seq, and whether seq is in it.
func (r received) find(thread, seq int64) (at int, in bool) {
	runs := r[thread]
	at, _ = slices.BinarySearchFunc(runs, seq, func(r run, seq int64) int { return cmp.Compare(int64(r.hi), seq) })
	return at, at < len(runs) && int64(runs[at].lo) <= seq
}

// add notes a text and reports whether it is new. When there are too many runs, all before the second is taken for sent.
func (r received) add(thread, seq int64) bool {
	if seq < 1 || seq > wire.MaxInt {
		return true // a foreign node's, without a number
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

// floor returns the number up to which all is taken for sent.
func (r received) floor(thread int64) int64 {
	if runs := r[thread]; len(runs) > 0 && runs[0].lo == 1 {
		return int64(runs[0].hi)
	}
	return 0
}

// servedLocked returns the number up to which the client is sent no text of a thread, because it has them. A client of the
// first generation loads no history, and keeps over a new login what it was shown: it has all that was stored before.
func (p *Policy) servedLocked(id int64) int64 {
	if p.gen1 {
		return max(p.threads[id].served, p.stored[id])
	}
	return p.threads[id].served
}

// Lacks reports whether the client was sent a text neither in a page of history nor as a push.
func (p *Policy) Lacks(id, seq int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, in := p.received.find(id, seq)
	return !in && seq > p.servedLocked(id)
}

// Floor returns the number up to which the client lacks nothing of a thread.
func (p *Policy) Floor(id int64) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(p.servedLocked(id), p.received.floor(id))
}

// Settled reports whether it is known what of a thread the client has: it is not loading, nor about to.
func (p *Policy) Settled(id int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return (p.listed || p.gen1) && !p.threads[id].loading
}

// Known returns the threads that the client was told of or sent texts of, and those of the first generation's friends.
func (p *Policy) Known() []int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	ids := slices.AppendSeq(make([]int64, 0, len(p.threads)), maps.Keys(p.threads))
	ids = slices.AppendSeq(ids, maps.Keys(p.received))
	if p.gen1 {
		ids = slices.AppendSeq(ids, maps.Keys(p.stored))
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// Held returns the bytes of the pushes that wait.
func (p *Policy) Held() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held
}
