package chat

import (
	"context"
	"time"

	"parley/internal/wire"
)

// drain ends the clients' connections. It accepts no new ones, then ends idle ones at a steady rate within DrainTimeout,
// then the rest.
func (s *Server) drain() {
	began := time.Now()
	s.log.Info("draining", "n", s.registry.Live(), "limit", s.cfg.Limits.DrainTimeout)
	s.admission.Drain()
	announce, cancel := context.WithTimeout(context.Background(), time.Second)
	s.lease.Drain(announce)
	cancel()
	deadline := began.Add(s.cfg.Limits.DrainTimeout)

	// At most 500 per second leave, so that the other nodes are not stormed, unless the time is shorter than that.
	const pass = 50 * time.Millisecond
	passes := max(int(s.cfg.Limits.DrainTimeout*8/10/pass), 1)
	quota := max(s.registry.Live()/passes+1, 25)
	for time.Now().Before(deadline) && s.registry.Live() > 0 {
		s.conns.EndIdle(quota)
		time.Sleep(pass)
	}
	s.ender.All(wire.CodeDraining, "node is going away")
	s.conns.AwaitClosed(deadline)
	s.log.Info("drained", "n", s.conns.Count(), "dur", time.Since(began))
}
