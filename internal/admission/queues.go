package admission

import (
	"container/heap"
	"time"
)

// The kinds of waiting connections.
const (
	silent = iota
	busy
	kinds
)

// waiting is a connection that has not authenticated yet.
type waiting struct {
	kind       int
	since      time.Time // when it became of this kind
	conn       Conn      // nil before Bind
	next, prev *waiting
	network    *network
}

// queues holds the waiting connections of all networks, by kind. It is guarded by Table.mu.
type queues struct {
	n    [kinds]int
	most [kinds]ranking // networks ranked by their number of waiting connections of each kind
}

// total returns the number of waiting connections.
func (q *queues) total() int { return q.n[silent] + q.n[busy] }

// add puts w at the end of its kind's list of its network.
func (q *queues) add(w *waiting) {
	n := w.network
	n.lists[w.kind].add(w)
	q.n[w.kind]++
	q.most[w.kind].changed(n, w.kind)
}

// remove removes w from its network.
func (q *queues) remove(w *waiting) {
	n := w.network
	n.lists[w.kind].remove(w)
	q.n[w.kind]--
	q.most[w.kind].changed(n, w.kind)
	w.network = nil
}

// move changes the kind of a waiting connection. One that no longer waits stays as it is; w may be nil.
func (q *queues) move(w *waiting, kind int, now time.Time) {
	if w == nil || w.network == nil || w.kind == kind {
		return
	}
	n := w.network
	q.remove(w)
	w.kind, w.since, w.network = kind, now, n
	q.add(w)
}

// evict evicts a waiting connection to make room for one of network n, which may be nil. The caller must close it;
// it is nil if it was not bound yet. Silent connections are evicted first, the oldest of the network with the most.
// Busy connections are served in order, so the newest is evicted, and only in favour of a network with fewer. evict
// returns false if no connection can be evicted.
func (q *queues) evict(n *network) (Conn, bool) {
	var w *waiting
	switch {
	case q.most[silent].top() != nil:
		w = q.most[silent].top().lists[silent].first
	case q.most[busy].top() != nil:
		top := q.most[busy].top()
		mine := 0
		if n != nil {
			mine = n.lists[busy].n
		}
		if top.lists[busy].n <= mine+1 {
			return nil, false
		}
		w = top.lists[busy].last
	default:
		return nil, false
	}
	return q.take(w), true
}

// take removes w and returns its connection; nil if it was not bound yet.
func (q *queues) take(w *waiting) Conn {
	q.remove(w)
	if w.conn == nil {
		w.conn = evictedEarly{}
		return nil
	}
	return w.conn
}

// evictedEarly marks an entry that was evicted before Bind.
type evictedEarly struct{}

func (evictedEarly) Evict() {}

// late removes the bound connections of a kind that have waited for patience, and appends them to dst.
func (q *queues) late(dst []Conn, kind int, now time.Time, patience time.Duration) []Conn {
	var late []*waiting
	for _, n := range q.most[kind].networks {
		for w := n.lists[kind].first; w != nil; w = w.next {
			if w.conn != nil && now.Sub(w.since) >= patience {
				late = append(late, w)
			}
		}
	}
	for _, w := range late {
		q.remove(w)
		dst = append(dst, w.conn)
	}
	return dst
}

// list is a doubly linked list of waiting connections, oldest first.
type list struct {
	first, last *waiting
	n           int
}

func (l *list) add(w *waiting) {
	w.next, w.prev = nil, l.last
	if l.last != nil {
		l.last.next = w
	} else {
		l.first = w
	}
	l.last = w
	l.n++
}

func (l *list) remove(w *waiting) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		l.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		l.last = w.prev
	}
	w.next, w.prev = nil, nil
	l.n--
}

// ranking is a heap of the networks with waiting connections of one kind. The network with the most is on top; among
// equals, the one whose oldest has waited longest.
type ranking struct {
	networks []*network
	kind     int
}

// changed restores the position of n after its list has changed.
func (r *ranking) changed(n *network, kind int) {
	r.kind = kind
	switch at := n.rank[kind]; {
	case n.lists[kind].n == 0:
		heap.Remove(r, at)
	case at < 0:
		heap.Push(r, n)
	default:
		heap.Fix(r, at)
	}
}

// top returns the network on top, nil if there is none.
func (r *ranking) top() *network {
	if len(r.networks) == 0 {
		return nil
	}
	return r.networks[0]
}

func (r *ranking) Len() int { return len(r.networks) }

func (r *ranking) Less(i, j int) bool {
	a, b := &r.networks[i].lists[r.kind], &r.networks[j].lists[r.kind]
	if a.n != b.n {
		return a.n > b.n
	}
	return a.first.since.Before(b.first.since)
}

func (r *ranking) Swap(i, j int) {
	r.networks[i], r.networks[j] = r.networks[j], r.networks[i]
	r.networks[i].rank[r.kind], r.networks[j].rank[r.kind] = i, j
}

// Push implements heap.Interface.
func (r *ranking) Push(x any) {
	n := x.(*network)
	n.rank[r.kind] = len(r.networks)
	r.networks = append(r.networks, n)
}

// Pop implements heap.Interface.
func (r *ranking) Pop() any {
	last := len(r.networks) - 1
	n := r.networks[last]
	r.networks[last] = nil
	r.networks = r.networks[:last]
	n.rank[r.kind] = -1
	return n
}
