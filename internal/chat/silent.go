package chat

import (
	"context"
	"time"

	"parley/internal/session"
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
		s.delivery.Peers.CloseLeft()
		due = s.registry.Due(due[:0], now)
		for _, sess := range due {
			s.ender.EndSilent(sess, now)
		}
		clear(due)
	}
}
