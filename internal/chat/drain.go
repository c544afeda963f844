package chat

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"parley/internal/moving"
	"parley/internal/presence"
	"parley/internal/session"
	"parley/internal/wire"
)

// stopFloor is how many clients a second at least are sent away by a node that stops. More leave if DrainTimeout is too short
// for that.
const stopFloor = 500

// drain ends the clients' connections. It accepts no new ones, then sends the clients to other nodes at a steady rate within
// DrainTimeout, idle ones first, then ends the rest.
func (s *Server) drain() {
	began := time.Now()
	s.log.Info("draining", "n", s.registry.Live(), "limit", s.cfg.Limits.DrainTimeout)
	s.admission.Drain()
	announce, cancel := context.WithTimeout(context.Background(), time.Second)
	s.operator.Stopping(announce)
	cancel()
	deadline := began.Add(s.cfg.Limits.DrainTimeout)

	limited, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	s.mover.Run(limited, moving.Plan{
		Reason: "stop", Over: s.cfg.Limits.DrainTimeout * 8 / 10, Floor: stopFloor, Anywhere: true, Patience: time.Second,
	})
	s.ender.All(wire.CodeDraining, "node is going away")
	s.conns.AwaitClosed(deadline)
	s.log.Info("drained", "n", s.conns.Count(), "dur", time.Since(began))
}

// newMover returns what sends clients to other nodes.
func (s *Server) newMover() *moving.Mover {
	return moving.New(moving.Deps{
		Log: s.log, Node: s.cfg.SelfServer.Name, Go: s.spawn, Sessions: s.registry.Live,
		Idle: func(n int, native, busy bool) []*session.Session { return s.conns.Idle(n, native, busy) },
		Next: func(sess *session.Session) string { return s.next.choose(s.presence.View(), sess.Transport()) },
		Open: func() bool { return s.next.open(s.presence.View()) },
		Tell: func(sess *session.Session, to string) bool {
			return s.ender.Move(sess, "go on at another node", s.addrOf(to, sess.Transport()))
		},
		Locate: s.presence.Locate,
		Alive:  func(node, boot string) bool { return s.presence.View().Alive(node, boot) },
	})
}

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
