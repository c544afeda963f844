// Package admission decides which connections a listener keeps. It limits the connections in all and per network, and
// chooses which one to close when too many have not authenticated yet.
//
// Connections are counted by network: an IPv4 address, or the /64 of an IPv6 address, which is what one subscriber
// receives. A connection is waiting until it has authenticated. A waiting connection is silent, or busy while a
// request of it that has arrived completely is being served. When the number of waiting connections reaches its
// limit, a new connection is not refused; instead the network with the most silent connections loses its oldest. So
// clients that connect and send nothing compete only with each other, however many they are. If a listener waits for
// the time that Pause returns before each accept, each connection has at least Grace for its first request.
package admission

import (
	"net/netip"
	"sync"
	"time"

	"parley/internal/bucket"
)

// A Reason says why a connection was refused, or why another one was closed for it.
type Reason int

// Admitted means that there was no reason.
const (
	Admitted    Reason = iota - 1
	Full               // Limits.Connections
	Waiting            // Limits.Waiting
	Network            // Limits.PerNetwork
	NetworkRate        // Limits.NetworkRate
	Rate               // Limits.Rate
	Draining           // Drain was called
	Reasons            // the number of reasons
)

var names = [Reasons]string{"full", "unauthenticated", "address", "address_rate", "rate", "draining"}

// String returns the name of the reason in metrics.
func (r Reason) String() string {
	if r < 0 || r >= Reasons {
		return "admitted"
	}
	return names[r]
}

// Limits bound what a Table admits. 0 means no limit, except in Waiting, Timeout and MinTimeout.
type Limits struct {
	Connections int // in total
	Waiting     int // not authenticated yet
	PerNetwork  int // per network
	NetworkRate int // new connections per second per network, and as many at once
	Rate        int // new connections per second in total, and as many at once
	// DisplaceOwn closes the oldest silent connection of a network at PerNetwork, if it has one, instead of refusing
	// a new one.
	DisplaceOwn bool
	// Exempt networks may exceed PerNetwork and NetworkRate. Eviction applies to them like to all others. Exempt may
	// be nil.
	Exempt func(netip.Addr) bool
	// Timeout is how long a connection may wait. MinTimeout is the timeout of silent connections when the table is
	// full.
	Timeout, MinTimeout time.Duration
}

// Grace is how long a connection may stay silent before it may be closed for another one; see Table.Pause.
const Grace = 250 * time.Millisecond

// A Table counts connections. Use New to make one. All methods are safe for concurrent use.
type Table struct {
	limits Limits

	mu       sync.Mutex // guards the following
	conns    int
	networks networks
	queues   queues
	all      bucket.Bucket
	draining bool
}

// Conn is a connection that may be evicted. Evict closes it; the table itself never calls it.
type Conn interface{ Evict() }

// An Entry is a connection's place in a Table; the zero value has none. It belongs to the connection, and must not be
// copied after Admit.
type Entry struct {
	network *network
	waiting *waiting // nil once authenticated, evicted or closed
}

// New returns an empty table.
func New(l Limits) *Table {
	t := &Table{limits: l}
	t.networks = networks{limits: &t.limits, byAddr: make(map[netip.Addr]*network)}
	return t
}

// Admit counts a new connection if there is room for it or another one can be evicted; the caller must close evicted
// if it is not nil. reached is the limit that was in the way, or Admitted. An admitted connection is waiting: call
// Bind once it can be closed, and Closed when it has been. The zero Addr stands for an address that is not known yet: all
// such connections count as one network without limits of its own, until SetAddr.
func (t *Table) Admit(e *Entry, addr netip.Addr, now time.Time) (evicted Conn, reached Reason, ok bool) {
	key := NetworkOf(addr)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.draining {
		return nil, Draining, false
	}
	if evicted, reached, ok = t.roomLocked(t.networks.byAddr[key], addr, now); !ok {
		return nil, reached, false
	}
	n := t.networks.enter(key, addr, now)
	t.conns++
	e.network, e.waiting = n, &waiting{since: now, network: n}
	t.queues.add(e.waiting)
	return evicted, reached, true
}

// SetAddr gives its address to a connection that was admitted with the zero Addr, because its proxy was still to name the
// client. From now on the connection counts for its network, and its timeout starts again. Like Admit, SetAddr checks the
// limits of the network; the caller must close the connection if it returns false, and evicted if it is not nil.
func (t *Table) SetAddr(e *Entry, addr netip.Addr, now time.Time) (evicted Conn, reached Reason, ok bool) {
	key := NetworkOf(addr)
	t.mu.Lock()
	defer t.mu.Unlock()
	w := e.waiting
	if w == nil || w.network == nil {
		return nil, Admitted, true // evicted or closed meanwhile
	}
	own, reached := t.networks.within(t.networks.byAddr[key], addr, now)
	if reached != Admitted && !own {
		return nil, reached, false
	}
	if own {
		evicted = t.queues.take(t.networks.byAddr[key].lists[silent].first)
	}
	t.queues.remove(w)
	t.networks.leave(e.network, now)
	n := t.networks.enter(key, addr, now)
	e.network = n
	w.network, w.since = n, now
	t.queues.add(w)
	return evicted, reached, true
}

// roomLocked finds room for a connection of network n, which may be nil, evicting another connection if that helps.
// It charges the total rate after the checks of the network, so that a network that is refused does not use it up.
func (t *Table) roomLocked(n *network, addr netip.Addr, now time.Time) (evicted Conn, reached Reason, ok bool) {
	own, reached := t.networks.within(n, addr, now)
	if reached != Admitted && !own {
		return nil, reached, false
	}
	if r := float32(t.limits.Rate); r > 0 && !t.all.Take(now, 1, r, r) {
		return nil, Rate, false
	}
	switch {
	case own:
		return t.queues.take(n.lists[silent].first), Network, true
	case t.limits.Connections > 0 && t.conns >= t.limits.Connections:
		reached = Full
	case t.queues.total() >= t.limits.Waiting:
		reached = Waiting
	default:
		return nil, Admitted, true
	}
	evicted, ok = t.queues.evict(n)
	return evicted, reached, ok
}

// Pause returns how long a listener should wait before it accepts: as long as the next connection would evict one
// that has not had its Grace. Meanwhile clients wait in the kernel's backlog, where they cost next to nothing.
func (t *Table) Pause(now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	full := t.queues.total() >= t.limits.Waiting || t.limits.Connections > 0 && t.conns >= t.limits.Connections
	most := t.queues.most[silent].top()
	if !full || most == nil {
		return 0
	}
	// Limit the wait to Grace, in case the clock was set back.
	return min(max(Grace-now.Sub(most.lists[silent].first.since), 0), Grace)
}

// Displace evicts the connection that would have to make room for a new network, for the caller to close. It returns
// nil if there is none.
func (t *Table) Displace() Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	evicted, _ := t.queues.evict(nil)
	return evicted
}

// Bind sets the connection to close on eviction. It returns false if the entry has been evicted already; the caller
// must then close the connection.
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

// Busy records that a request of a waiting connection has arrived completely and is being served. Its timeout starts
// again.
func (t *Table) Busy(e *Entry, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queues.move(e.waiting, busy, now)
}

// Silent records that a busy connection has been answered. Its timeout starts again.
func (t *Table) Silent(e *Entry, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queues.move(e.waiting, silent, now)
}

// Authenticated records that the connection is no longer waiting: it still counts for its network, but cannot be
// evicted. It returns false if the connection was not waiting, because it had been evicted or closed.
func (t *Table) Authenticated(e *Entry) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	waited := e.waiting != nil && e.waiting.network != nil
	t.forgetWaitingLocked(e)
	return waited
}

func (t *Table) forgetWaitingLocked(e *Entry) {
	if w := e.waiting; w != nil && w.network != nil {
		t.queues.remove(w)
	}
	e.waiting = nil
}

// Closed removes an admitted connection from the counts. Calling it again has no effect.
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
	t.networks.leave(n, now)
}

// Late removes the connections that have waited too long, and appends them to dst for the caller to close. Busy
// connections have Timeout. Silent connections have the same while the table is at most half full; beyond that their
// timeout shrinks linearly to MinTimeout when it is full.
func (t *Table) Late(dst []Conn, now time.Time) []Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	dst = t.queues.late(dst, silent, now, t.patienceLocked())
	return t.queues.late(dst, busy, now, t.limits.Timeout)
}

// patienceLocked returns the timeout of silent connections at the current load; see Late.
func (t *Table) patienceLocked() time.Duration {
	most, least := t.limits.Timeout, min(t.limits.MinTimeout, t.limits.Timeout)
	load := float64(t.queues.total()) / float64(max(t.limits.Waiting, 1))
	return most - time.Duration(float64(most-least)*min(max(2*load-1, 0), 1))
}

// Forget drops networks that have no connections and whose bucket is full.
func (t *Table) Forget(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.networks.forget(now)
}

// Drain refuses all connections from now on.
func (t *Table) Drain() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.draining = true
}

// Counts returns the number of connections, and how many of them are waiting.
func (t *Table) Counts() (conns, waiting int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.conns, t.queues.total()
}
