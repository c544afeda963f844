package admission

import (
	"net/netip"
	"time"
)

// roomLocked finds room for a connection of network n, which may be nil, evicting another connection if that helps.
// It charges the total rate after the checks of the network, so that a network that is refused does not use it up.
func (t *Table) roomLocked(n *network, addr netip.Addr, now time.Time) (evicted Conn, reached Reason, ok bool) {
	own, reached := t.withinLocked(n, addr, now)
	if reached != Admitted && !own {
		return nil, reached, false
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

// Displace evicts the connection that would have to make room for a new network, for the caller to close. It returns
// nil if there is none.
func (t *Table) Displace() Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	evicted, _ := t.evictLocked(nil)
	return evicted
}

// evictLocked evicts a waiting connection to make room for one of network n, which may be nil. The caller must close
// it; it is nil if it was not bound yet. Silent connections are evicted first, the oldest of the network with the
// most. Busy connections are served in order, so the newest is evicted, and only in favour of a network with fewer.
// evictLocked returns false if no connection can be evicted.
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

// evictedEarly marks an entry that was evicted before Bind.
type evictedEarly struct{}

func (evictedEarly) Evict() {}
