// Package admission decides which connections a listener keeps: how many in all, how many of one network, and, when too
// many have not said anything useful yet, which of them to close.
//
// Connections are counted by network: an IPv4 address, or the /64 of an IPv6 address, which is what one subscriber is
// given. A connection is waiting until it has authenticated. While it waits it is silent, or busy with a request that
// has arrived completely. When the waiting connections reach their bound, a new one is not refused: the network that holds most
// silent connections loses its oldest. So clients that connect and say nothing compete with each other, however many they
// are. A listener that waits as Pause says before each accept leaves each connection at least Grace for its first request.
package admission

import (
	"container/heap"
	"net/netip"
	"sync"
	"time"

	"parley/internal/bucket"
)

// Reason is why a connection was refused, or another one had to go for it.
type Reason int

// Admitted is none; the others are.
const (
	Admitted    Reason = iota - 1
	Full               // Limits.Connections
	Waiting            // Limits.Waiting
	Network            // Limits.PerNetwork
	NetworkRate        // Limits.NetworkRate
	Rate               // Limits.Rate
	Draining           // Drain was called
	Reasons            // how many there are
)

var names = [Reasons]string{"full", "unauthenticated", "address", "address_rate", "rate", "draining"}

// String returns the reason as metrics name it.
func (r Reason) String() string {
	if r < 0 || r >= Reasons {
		return "admitted"
	}
	return names[r]
}

// Limits bound what a Table admits. 0 means no limit, except for Waiting, Timeout and MinTimeout.
type Limits struct {
	Connections int // in all
	Waiting     int // not authenticated
	PerNetwork  int // of one network
	NetworkRate int // new ones per second from one network, and as many at once
	Rate        int // new ones per second in all, and as many at once
	// DisplaceOwn lets a network at PerNetwork that has silent connections lose the oldest of them instead of being refused.
	DisplaceOwn bool
	// Exempt networks may exceed PerNetwork and NetworkRate. They lose connections by eviction like all others. May be nil.
	Exempt func(netip.Addr) bool
	// Timeout is how long a connection may wait. MinTimeout is what is left of it for silent ones when the table is full.
	Timeout, MinTimeout time.Duration
}

// Grace is how long a connection may stay silent before it has to go for another one; see Table.Pause.
const Grace = 250 * time.Millisecond

// maxIdle bounds the networks that are remembered for their rate alone.
const maxIdle = 65536

// A Table counts connections. All methods are safe for concurrent use; New makes one.
type Table struct {
	limits Limits

	mu       sync.Mutex // guards the following
	conns    int
	waiting  [kinds]int
	networks map[netip.Addr]*network
	most     [kinds]ranking // networks by how many waiting connections of a kind they hold
	idle     int            // networks without a connection
	all      bucket.Bucket
	draining bool
}

// Conn is a connection that may have to go. Evict closes it; the table calls none of its methods itself.
type Conn interface{ Evict() }

// The kinds of waiting connections.
const (
	silent = iota
	busy
	kinds
)

// network is what one network holds. Without a connection it stays until its bucket is full again.
type network struct {
	addr   netip.Addr
	conns  int
	bucket bucket.Bucket
	lists  [kinds]list // oldest first
	rank   [kinds]int  // place in Table.most, -1 none
}

// waiting is a connection that has not authenticated.
type waiting struct {
	kind       int
	since      time.Time // it is of its kind
	conn       Conn      // nil before Bind
	next, prev *waiting
	network    *network
}

// Entry is a connection's place in a Table; the zero value is in none. It belongs to the connection, and must not be
// copied once admitted.
type Entry struct {
	network *network
	waiting *waiting // nil once authenticated, evicted or closed
}

// New returns an empty table.
func New(l Limits) *Table { return &Table{limits: l, networks: make(map[netip.Addr]*network)} }

// NetworkOf returns the address that stands for a client's network.
func NetworkOf(addr netip.Addr) netip.Addr {
	addr = addr.Unmap()
	if !addr.Is6() {
		return addr
	}
	p, err := addr.WithZone("").Prefix(64)
	if err != nil { // not for an address of 128 bits
		return addr
	}
	return p.Addr()
}

// Admit counts a new connection if there is room for it, or another one can go: the caller closes evicted, if it is not
// nil. reached is the limit that stood in the way, Admitted if none did. An admitted connection waits: call Bind once it can
// be closed, and Closed when it was.
func (t *Table) Admit(e *Entry, addr netip.Addr, now time.Time) (evicted Conn, reached Reason, ok bool) {
	key := NetworkOf(addr)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.draining {
		return nil, Draining, false
	}
	n := t.networks[key]
	if evicted, reached, ok = t.roomLocked(n, addr, now); !ok {
		return nil, reached, false
	}
	switch {
	case n == nil:
		n = &network{addr: key, rank: [kinds]int{-1, -1}}
		t.networks[key] = n
	case n.conns == 0:
		t.idle--
	}
	if t.limits.NetworkRate > 0 && !t.exempt(addr) {
		rate := float32(t.limits.NetworkRate)
		n.bucket.Take(now, 1, rate, rate)
	}
	n.conns++
	t.conns++
	e.network, e.waiting = n, &waiting{since: now, network: n}
	t.addLocked(e.waiting)
	return evicted, reached, true
}

// roomLocked looks for room for a connection of network n, which may be nil, and evicts another one where that helps. The
// rate of all is charged after those of the network, so that a refused network does not use it up.
func (t *Table) roomLocked(n *network, addr netip.Addr, now time.Time) (evicted Conn, reached Reason, ok bool) {
	own := false
	if n != nil && !t.exempt(addr) {
		if l := t.limits.PerNetwork; l > 0 && n.conns >= l {
			if own = t.limits.DisplaceOwn && n.lists[silent].n > 0; !own {
				return nil, Network, false
			}
		}
		if r := float32(t.limits.NetworkRate); r > 0 && n.bucket.Left(now, r, r) < 1 {
			return nil, NetworkRate, false
		}
	}
	if r := float32(t.limits.Rate); r > 0 && !t.all.Take(now, 1, r, r) {
		return nil, Rate, false
	}
	switch {
	case own:
		return t.takeLocked(n.lists[silent].first), Network, true
	case t.limits.Connections > 0 && t.conns >= t.limits.Connections:
		reached = Full
	case t.waiting[silent]+t.waiting[busy] >= t.limits.Waiting:
		reached = Waiting
	default:
		return nil, Admitted, true
	}
	evicted, ok = t.evictLocked(n)
	return evicted, reached, ok
}

// Displace takes the connection out that would have to go for one of a new network, for the caller to close; nil: there is
// none.
func (t *Table) Displace() Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	evicted, _ := t.evictLocked(nil)
	return evicted
}

// Pause returns how long a listener should wait before it accepts: while the next connection would cost one its place that
// has not had its Grace. Clients wait in the kernel's backlog meanwhile, where they cost next to nothing.
func (t *Table) Pause(now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	full := t.waiting[silent]+t.waiting[busy] >= t.limits.Waiting || t.limits.Connections > 0 && t.conns >= t.limits.Connections
	if !full || len(t.most[silent].networks) == 0 {
		return 0
	}
	// A clock that was set back must not keep it waiting.
	return min(max(Grace-now.Sub(t.most[silent].networks[0].lists[silent].first.since), 0), Grace)
}

func (t *Table) exempt(addr netip.Addr) bool { return t.limits.Exempt != nil && t.limits.Exempt(addr) }

// evictLocked takes a waiting connection out to make room for one of network n, which may be nil, and returns it to be
// closed; it may be nil if it was not bound yet. Silent ones go first, the oldest of the network that holds most. Busy ones
// are served in order, so the newest goes, and only for a network that holds fewer. false: there is none to evict.
func (t *Table) evictLocked(n *network) (Conn, bool) {
	var w *waiting
	switch {
	case len(t.most[silent].networks) > 0:
		w = t.most[silent].networks[0].lists[silent].first
	case len(t.most[busy].networks) > 0:
		top := t.most[busy].networks[0]
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
	return t.takeLocked(w), true
}

func (t *Table) takeLocked(w *waiting) Conn {
	t.removeLocked(w)
	if w.conn == nil {
		w.conn = evictedEarly{}
		return nil
	}
	return w.conn
}

// evictedEarly stands for the connection of an entry that was evicted before Bind.
type evictedEarly struct{}

func (evictedEarly) Evict() {}

// Bind says how the connection is closed when it has to go. It returns false if that has happened already: then the caller
// closes it.
func (t *Table) Bind(e *Entry, c Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.waiting == nil {
		return true
	}
	if e.waiting.conn != nil {
		return false
	}
	e.waiting.conn = c
	return true
}

// Busy says that a request of a waiting connection has arrived whole and is being worked on. Its time starts anew.
func (t *Table) Busy(e *Entry, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.moveLocked(e, busy, now)
}

// Silent says that a busy connection has its answer. Its time starts anew.
func (t *Table) Silent(e *Entry, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.moveLocked(e, silent, now)
}

func (t *Table) moveLocked(e *Entry, kind int, now time.Time) {
	w := e.waiting
	if w == nil || w.network == nil || w.kind == kind {
		return
	}
	n := w.network
	t.removeLocked(w)
	w.kind, w.since, w.network = kind, now, n
	t.addLocked(w)
}

// Authenticated says that the connection waits no longer: it counts for its network, and is not evicted. It returns false if
// it waited no longer before, because it was evicted or closed.
func (t *Table) Authenticated(e *Entry) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	waited := e.waiting != nil && e.waiting.network != nil
	t.forgetWaitingLocked(e)
	return waited
}

func (t *Table) forgetWaitingLocked(e *Entry) {
	if w := e.waiting; w != nil && w.network != nil {
		t.removeLocked(w)
	}
	e.waiting = nil
}

// Closed takes an admitted connection out of the counts. Calling it again does nothing.
func (t *Table) Closed(e *Entry, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := e.network
	if n == nil {
		return
	}
	t.forgetWaitingLocked(e)
	e.network = nil
	t.conns--
	if n.conns--; n.conns > 0 {
		return
	}
	t.idle++
	if t.idle > maxIdle || t.full(n, now) {
		t.dropLocked(n)
	}
}

// Late takes out the connections that have waited too long, and appends them to dst for the caller to close. Busy ones have
// Timeout. Silent ones have as much while the table is at most half full; from there on their time shrinks evenly, to
// MinTimeout when it is full.
func (t *Table) Late(dst []Conn, now time.Time) []Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	for kind, patience := range [kinds]time.Duration{t.patienceLocked(), t.limits.Timeout} {
		var late []*waiting
		for _, n := range t.most[kind].networks {
			for w := n.lists[kind].first; w != nil; w = w.next {
				if w.conn != nil && now.Sub(w.since) >= patience {
					late = append(late, w)
				}
			}
		}
		for _, w := range late {
			t.removeLocked(w)
			dst = append(dst, w.conn)
		}
	}
	return dst
}

func (t *Table) patienceLocked() time.Duration {
	most, least := t.limits.Timeout, min(t.limits.MinTimeout, t.limits.Timeout)
	load := float64(t.waiting[silent]+t.waiting[busy]) / float64(max(t.limits.Waiting, 1))
	return most - time.Duration(float64(most-least)*min(max(2*load-1, 0), 1))
}

// Forget drops the networks that have no connection and whose rate is forgiven.
func (t *Table) Forget(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.idle == 0 {
		return
	}
	for _, n := range t.networks {
		if n.conns == 0 && t.full(n, now) {
			t.dropLocked(n)
		}
	}
}

func (t *Table) full(n *network, now time.Time) bool {
	r := float32(t.limits.NetworkRate)
	return n.bucket.Full(now, r, r)
}

func (t *Table) dropLocked(n *network) {
	delete(t.networks, n.addr)
	t.idle--
}

// Drain refuses every connection from now on.
func (t *Table) Drain() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.draining = true
}

// Counts returns how many connections there are, and how many of them wait.
func (t *Table) Counts() (conns, waiting int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.conns, t.waiting[silent] + t.waiting[busy]
}

func (t *Table) addLocked(w *waiting) {
	n := w.network
	n.lists[w.kind].add(w)
	t.waiting[w.kind]++
	t.most[w.kind].changed(n, w.kind)
}

// removeLocked takes w out of its network, which it forgets.
func (t *Table) removeLocked(w *waiting) {
	n := w.network
	n.lists[w.kind].remove(w)
	t.waiting[w.kind]--
	t.most[w.kind].changed(n, w.kind)
	w.network = nil
}

// list holds waiting connections, oldest first.
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

// ranking is a heap of the networks that hold waiting connections of one kind, the one with most on top; of equals the one
// whose oldest has waited longest.
type ranking struct {
	networks []*network
	kind     int
}

// changed puts n where it belongs after its list has changed.
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

// Push is for package heap.
func (r *ranking) Push(x any) {
	n := x.(*network)
	n.rank[r.kind] = len(r.networks)
	r.networks = append(r.networks, n)
}

// Pop is for package heap.
func (r *ranking) Pop() any {
	last := len(r.networks) - 1
	n := r.networks[last]
	r.networks[last] = nil
	r.networks = r.networks[:last]
	n.rank[r.kind] = -1
	return n
}
