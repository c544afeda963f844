package chat

import (
	"math/rand/v2"
	"slices"
	"sync"

	"parley/internal/presence"
	"parley/internal/wire"
)

// otherNodes chooses nodes for clients that leave this one.
type otherNodes struct {
	self string
	view func() *presence.View // the latest

	mu   sync.Mutex // guards the following
	base *presence.View
	sent map[string]int64 // chosen since base was read
}

// takes reports whether a node is another one that takes logins.
func (o *otherNodes) takes(n presence.Node) bool { return n.Open() && n.Name != o.self }

// open reports whether another node takes logins.
func (o *otherNodes) open() bool { return slices.ContainsFunc(o.view().Nodes(), o.takes) }

// next returns the address, for a transport, of the node that should take the next client, "" if no other node takes logins by it.
func (o *otherNodes) next(via wire.Transport) string { return o.addr(o.choose(via), via) }

// addr returns where clients reach a node by a transport, "" if that is not known.
func (o *otherNodes) addr(node string, via wire.Transport) string {
	n, _ := o.view().Node(node)
	return addressIn(&n.Lease, via)
}

// rpcAddrs returns the addresses of the other live nodes for RPC.
func (o *otherNodes) rpcAddrs() (addrs []string) {
	for _, n := range o.view().Nodes() {
		if n.Live && n.Name != o.self && n.RPCAddr != "" {
			addrs = append(addrs, n.RPCAddr)
		}
	}
	return addrs
}

// choose returns the least loaded other node that takes logins by a transport, "" if there is none. It counts those that it has
// chosen since the counts were read.
func (o *otherNodes) choose(via wire.Transport) (best string) {
	v := o.view()
	o.mu.Lock()
	defer o.mu.Unlock()
	if v != o.base {
		o.base, o.sent = v, map[string]int64{}
	}
	var least int64
	for _, n := range v.Nodes() {
		if !o.takes(n) || addressIn(&n.Lease, via) == "" {
			continue
		}
		if load := n.Count + o.sent[n.Name]; best == "" || load < least {
			best, least = n.Name, load
		}
	}
	if best != "" {
		o.sent[best]++
	}
	return best
}

// any returns the address of one of the other nodes that take logins by a transport, each as likely as the others, "" if there is none.
func (o *otherNodes) any(via wire.Transport) (addr string) {
	seen := 0
	for _, n := range o.view().Nodes() {
		at := addressIn(&n.Lease, via)
		if !o.takes(n) || at == "" {
			continue
		}
		if seen++; rand.IntN(seen) == 0 {
			addr = at
		}
	}
	return addr
}

// addressIn is where clients of a node connect by a transport, "" for nowhere.
func addressIn(l *presence.Lease, via wire.Transport) string {
	switch via {
	case wire.TLS:
		return l.Web.TLS
	case wire.WS:
		return l.Web.WS
	case wire.WSS:
		return l.Web.WSS
	}
	return l.ClientAddr
}
