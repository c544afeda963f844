package chat

import (
	"context"
	"time"

	"parley/internal/presence"
	"parley/internal/session"
	"parley/internal/wire"
)

// touchEvery is the time in which each session is extended in Redis, which forgets it after an hour; a part of them at a
// time.
const touchEvery = 20 * time.Minute

// sweep ends what has been silent for too long, each second: one wheel instead of a timer a connection.
func (s *Server) sweep(ctx context.Context) {
	every := time.NewTicker(tick)
	defer every.Stop()
	began, touched, seconds := time.Now(), 0, 0
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
		s.texts.sweep(seconds, now)
		seconds++
		s.peers.CloseLeft()
		due = s.registry.Due(due[:0], now)
		for _, sess := range due {
			s.look(sess.Owner().(*conn), now)
		}
		clear(due)
		if now.Sub(began) >= time.Duration(touched+1)*touchEvery/session.Parts {
			s.touch(ctx, touched%session.Parts)
			touched++
		}
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

// touch extends a part of the sessions in Redis.
func (s *Server) touch(ctx context.Context, part int) {
	var locs []presence.Location
	s.registry.EachOf(part, func(sess *session.Session) {
		if sess.State() == session.Live {
			locs = append(locs, sess.Owner().(*conn).location())
		}
	})
	if len(locs) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, tick)
	defer cancel()
	if err := s.presence.Touch(ctx, locs); err != nil {
		s.log.Warn("sessions not extended", "n", len(locs), "err", err)
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
