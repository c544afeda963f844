package admission

import (
	"net/netip"
	"time"

	"parley/internal/bucket"
)

// maxIdle bounds the networks without connections that are kept only for their rate.
const maxIdle = 65536

// networks counts the connections of each network, and limits them. It is guarded by Table.mu.
type networks struct {
	limits *Limits
	byAddr map[netip.Addr]*network
	idle   int // networks without connections
}

// network holds the connections of one network. Without connections it is kept until its bucket is full again.
type network struct {
	addr   netip.Addr
	conns  int
	bucket bucket.Bucket
	lists  [kinds]list // oldest first
	rank   [kinds]int  // position in queues.most, -1 if none
}

// NetworkOf returns the address that identifies a client's network.
func NetworkOf(addr netip.Addr) netip.Addr {
	addr = addr.Unmap()
	if !addr.Is6() {
		return addr
	}
	p, err := addr.WithZone("").Prefix(64)
	if err != nil { // cannot happen for an address of 128 bits
		return addr
	}
	return p.Addr()
}

// enter counts one connection more of a network.
func (ns *networks) enter(key, addr netip.Addr, now time.Time) *network {
	n := ns.byAddr[key]
	switch {
	case n == nil:
		n = &network{addr: key, rank: [kinds]int{-1, -1}}
		ns.byAddr[key] = n
	case n.conns == 0:
		ns.idle--
	}
	if ns.limits.NetworkRate > 0 && !ns.exempt(addr) {
		rate := float32(ns.limits.NetworkRate)
		n.bucket.Take(now, 1, rate, rate)
	}
	n.conns++
	return n
}

// leave counts one connection less of a network.
func (ns *networks) leave(n *network, now time.Time) {
	if n.conns--; n.conns > 0 {
		return
	}
	ns.idle++
	if ns.idle > maxIdle || ns.full(n, now) {
		ns.drop(n)
	}
}

// within returns which limit of network n, which may be nil, is in the way of a connection more. own reports that the
// network may lose one of its silent connections for it.
func (ns *networks) within(n *network, addr netip.Addr, now time.Time) (own bool, reached Reason) {
	if n == nil || ns.exempt(addr) {
		return false, Admitted
	}
	reached = Admitted
	if l := ns.limits.PerNetwork; l > 0 && n.conns >= l {
		if own = ns.limits.DisplaceOwn && n.lists[silent].n > 0; !own {
			return false, Network
		}
		reached = Network
	}
	if r := float32(ns.limits.NetworkRate); r > 0 && n.bucket.Left(now, r, r) < 1 {
		return false, NetworkRate
	}
	return own, reached
}

// exempt reports whether an address has no limits of its own. One that is not known yet has none; see SetAddr.
func (ns *networks) exempt(addr netip.Addr) bool {
	return !addr.IsValid() || ns.limits.Exempt != nil && ns.limits.Exempt(addr)
}

// forget drops networks that have no connections and whose bucket is full.
func (ns *networks) forget(now time.Time) {
	if ns.idle == 0 {
		return
	}
	for _, n := range ns.byAddr {
		if n.conns == 0 && ns.full(n, now) {
			ns.drop(n)
		}
	}
}

func (ns *networks) full(n *network, now time.Time) bool {
	r := float32(ns.limits.NetworkRate)
	return n.bucket.Full(now, r, r)
}

func (ns *networks) drop(n *network) {
	delete(ns.byAddr, n.addr)
	ns.idle--
}
