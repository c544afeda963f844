package chat

import (
	"context"
	"time"

	"parley/internal/session"
	"parley/internal/wire"
)

// sweep ends what has been silent for too long, each second: one wheel instead of a timer a connection.
func (s *Server) sweep(ctx context.Context) {
	every := time.NewTicker(tick)
	defer every.Stop()
	seconds := 0
	var due []*session.Session
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		now := time.Now()
		for _, c := range s.admission.Late(nil, now) { // they are not told: nobody is known there
			s.metrics.loginTimeouts.Inc()
			c.Evict()
		}
		s.admission.Forget(now)
		s.texts.Sweep(seconds, now)
		seconds++
		s.peers.CloseLeft()
		due = s.registry.Due(due[:0], now)
		for _, sess := range due {
			s.look(sess.Owner().(*conn), now)
		}
		clear(due)
	}
}

// look ends a session that was silent for too long, and says when to look again.
func (s *Server) look(c *conn, now time.Time) {
	limit := c.dead
	if c.firstGen.Load() {
		limit = s.cfg.Limits.QuietTimeout
	}
	again := c.LastSeen().Add(limit)
	if !now.Before(again) && c.State() == session.Live {
		s.metrics.stale.Inc()
		c.goodbye(wire.CodeUnavailable, "no heartbeat", 0)
		return
	}
	if p := c.policy(); p != nil {
		p.Tick(now)
		again = now // each second
	}
	s.registry.LookAt(&c.Session, again)
}
