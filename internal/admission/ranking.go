package admission

import "container/heap"

func (t *Table) addLocked(w *waiting) {
	n := w.network
	n.lists[w.kind].add(w)
	t.waiting[w.kind]++
	t.most[w.kind].changed(n, w.kind)
}

// removeLocked removes w from its network.
func (t *Table) removeLocked(w *waiting) {
	n := w.network
	n.lists[w.kind].remove(w)
	t.waiting[w.kind]--
	t.most[w.kind].changed(n, w.kind)
	w.network = nil
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
