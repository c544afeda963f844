package chat

import (
	"context"
	"time"

	"parley/internal/presence"
	"parley/internal/session"
	"parley/internal/wire"
)

// sweep ends what has been silent for too long, each second: one pass over the registry instead of a timer a connection.
func (s *Server) sweep(ctx context.Context) {
	every := time.NewTicker(tick)
	defer every.Stop()
	for round := uint64(0); ; round++ {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		now := time.Now()
		s.endUnauthenticated(now)
		s.admission.forget(now)
		s.sweepSessions(ctx, now, round)
	}
}

// endUnauthenticated closes connections that have not logged in in time. They are not told: nobody is known there.
func (s *Server) endUnauthenticated(now time.Time) {
	var late []*conn
	before := now.Add(-s.cfg.Limits.LoginTimeout).UnixMilli()
	s.openMu.Lock()
	for c := range s.unauthenticated {
		if c.accepted <= before {
			late = append(late, c)
		}
	}
	s.openMu.Unlock()
	for _, c := range late {
		s.metrics.loginTimeouts.Inc()
		c.Close()
	}
}

func (s *Server) sweepSessions(ctx context.Context, now time.Time, round uint64) {
	// Redis forgets a session after an hour; each is extended every touchEvery, spread by its random id.
	slices := uint64(touchEvery / tick)
	var touch []presence.Location
	s.registry.Each(func(sess *session.Session) {
		c := sess.Owner().(*conn)
		if p := c.policy(); p != nil {
			p.Tick(now)
		}
		limit := c.dead
		if c.firstGen.Load() {
			limit = s.cfg.Limits.QuietTimeout
		}
		if now.Sub(c.LastSeen()) >= limit && c.State() == session.Live {
			s.metrics.stale.Inc()
			c.goodbye(wire.CodeUnavailable, "no heartbeat", 0)
			return
		}
		if uint64(c.SID())%slices == round%slices && c.State() == session.Live {
			touch = append(touch, c.location())
		}
	})
	if len(touch) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, tick)
	defer cancel()
	if err := s.presence.Touch(ctx, touch); err != nil {
		s.log.Warn("sessions not extended", "n", len(touch), "err", err)
	}
}

// restore writes this node's sessions into a Redis that lost them. Whoever is logged in elsewhere by now is closed here.
func (s *Server) restore(ctx context.Context) {
	var locs []presence.Location
	s.registry.Each(func(sess *session.Session) {
		if sess.State() == session.Live {
			locs = append(locs, sess.Owner().(*conn).location())
		}
	})
	lost, err := s.presence.Restore(ctx, locs)
	if err != nil {
		s.log.Warn("sessions not written back", "n", len(locs), "err", err)
		s.lease.forgetGeneration()
	}
	for _, l := range lost {
		s.kickLocal(l.UID, l.SID)
	}
	s.log.Info("sessions written back", "n", len(locs)-len(lost), "lost", len(lost))
}
