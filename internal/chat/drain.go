package chat

import (
	"context"
	"time"

	"parley/internal/moving"
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
		Log: s.log, Node: s.cfg.SelfServer.Name, Go: s.workers.Go, Sessions: s.registry.Live,
		Idle: func(n int, native, busy bool) []*session.Session { return s.conns.Idle(n, native, busy) },
		Next: func(sess *session.Session) string { return s.others.choose(sess.Transport()) },
		Open: s.others.open,
		Tell: func(sess *session.Session, to string) bool {
			return s.ender.Move(sess, "go on at another node", s.others.addr(to, sess.Transport()))
		},
		Locate: s.presence.Sessions.Locate,
		Alive:  func(node, boot string) bool { return s.presence.Nodes.View().Alive(node, boot) },
	})
}
