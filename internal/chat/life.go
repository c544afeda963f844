package chat

import (
	"context"
	"time"

	"parley/internal/legacy"
	"parley/internal/session"
	"parley/internal/wire"
)

// noteOpen and noteClosed follow a connection's life.
func (s *Server) noteOpen(c *conn) {
	s.openMu.Lock()
	s.open[c] = struct{}{}
	s.openMu.Unlock()
}

func (s *Server) noteClosed(c *conn) {
	s.openMu.Lock()
	delete(s.open, c)
	s.openMu.Unlock()
	s.admission.Closed(&c.entry, time.Now())
}

// opened returns the connections that are open now.
func (s *Server) opened() []*conn {
	s.openMu.Lock()
	defer s.openMu.Unlock()
	list := make([]*conn, 0, len(s.open))
	for c := range s.open {
		list = append(list, c)
	}
	return list
}

func (s *Server) connections() int {
	s.openMu.Lock()
	defer s.openMu.Unlock()
	return len(s.open)
}

// noteFirstGeneration marks a stock client that names no thread in its texts.
func (c *conn) noteFirstGeneration() {
	quiet := c.srv.cfg.Limits.QuietTimeout
	if p := legacy.Of(&c.Session); p != nil && c.Silence() != quiet {
		c.SetSilence(quiet)
		p.FirstGeneration()
	}
}

// drain sees the clients off: no new ones, then those that have nothing unanswered, spread over the time there is, then
// whoever is left.
func (s *Server) drain() {
	began := time.Now()
	s.log.Info("draining", "n", s.registry.Live(), "limit", s.cfg.Limits.DrainTimeout)
	s.admission.Drain()
	announce, cancel := context.WithTimeout(context.Background(), time.Second)
	s.lease.Drain(announce)
	cancel()
	deadline := began.Add(s.cfg.Limits.DrainTimeout)

	// At most 500 a second leave, so that the other nodes are not stormed, unless the time is shorter than that.
	const pass = 50 * time.Millisecond
	passes := max(int(s.cfg.Limits.DrainTimeout*8/10/pass), 1)
	quota := max(s.registry.Live()/passes+1, 25)
	for time.Now().Before(deadline) && s.registry.Live() > 0 {
		left := quota
		for _, c := range s.opened() {
			if left > 0 && c.idle() {
				left--
				c.goodbye(wire.CodeDraining, "node is going away", 0)
			}
		}
		time.Sleep(pass)
	}
	s.ender.All(wire.CodeDraining, "node is going away")
	s.awaitClosed(deadline)
	s.log.Info("drained", "n", s.connections(), "dur", time.Since(began))
}

// idle reports whether the connection is logged in and has nothing unanswered.
func (c *conn) idle() bool {
	if c.State() != session.Live {
		return false
	}
	c.mu.Lock()
	running := c.running
	c.mu.Unlock()
	return !running && c.texts.Load() == 0
}
