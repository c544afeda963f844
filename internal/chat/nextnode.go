package chat

import (
	"math/rand/v2"
	"slices"
	"sync"

	"parley/internal/presence"
	"parley/internal/wire"
)

// nextNode returns the address, for a transport, of the node that should take the next client, "" if no other node takes logins
// by it.
func (s *Server) nextNode(via wire.Transport) string {
	return s.addrOf(s.next.choose(s.presence.View(), via), via)
}

// addrOf returns where clients reach a node by a transport, "" if that is not known.
func (s *Server) addrOf(node string, via wire.Transport) string {
	n, _ := s.presence.View().Node(node)
	return addressIn(&n.Lease, via)
}

// otherNode returns the address, for a transport, of some other node that takes logins by it, "" if there is none.
func (s *Server) otherNode(via wire.Transport) string { return s.next.any(s.presence.View(), via) }

// chooser chooses nodes for clients that leave this one. Its zero value is not usable: self must be set.
type chooser struct {
	self string

	mu   sync.Mutex // guards the following
	view *presence.View
	sent map[string]int64 // chosen since the view was read
}

// takes reports whether a node is another one that takes logins.
func (c *chooser) takes(n presence.Node) bool { return n.Open() && n.Name != c.self }

// open reports whether another node takes logins.
func (c *chooser) open(v *presence.View) bool { return slices.ContainsFunc(v.Nodes(), c.takes) }

// choose returns the least loaded other node that takes logins by a transport, "" if there is none. It counts those that it has
// chosen since the counts were read.
func (c *chooser) choose(v *presence.View, via wire.Transport) (best string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v != c.view {
		c.view, c.sent = v, map[string]int64{}
	}
	var least int64
	for _, n := range v.Nodes() {
		if !c.takes(n) || addressIn(&n.Lease, via) == "" {
			continue
		}
		if load := n.Count + c.sent[n.Name]; best == "" || load < least {
			best, least = n.Name, load
		}
	}
	if best != "" {
		c.sent[best]++
	}
	return best
}

// any returns the address of one of the other nodes that take logins by a transport, each as likely as the others, "" if there is none.
func (c *chooser) any(v *presence.View, via wire.Transport) (addr string) {
	seen := 0
	for _, n := range v.Nodes() {
		at := addressIn(&n.Lease, via)
		if !c.takes(n) || at == "" {
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
