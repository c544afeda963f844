package chat

import (
	"time"

	"parley/internal/session"
	"parley/internal/wire"
)

// everyoneTakes is in how long all sessions of a node are told that they may have missed texts: what they ask then should
// not come at once.
const everyoneTakes = 3 * time.Second

// missed takes a session here that has missed texts and does not understand a 2104.
func (s *Server) missed(sess *session.Session, thread, from int64) { s.refills.Add(sess, thread, from) }

// mayHaveMissed tells a session here that it may have missed texts of any thread.
func (s *Server) mayHaveMissed(sess *session.Session) {
	if !sess.Gap(0, 0) && !sess.CanGap() {
		s.missed(sess, 0, 0)
	}
}

// reload ends a native session that does not understand a 2104, when nobody can say what it has missed.
func (s *Server) reload(sess *session.Session) {
	sess.Owner().(*conn).goodbye(wire.CodeTooFarBehind, "texts were missed", 0)
}

// missedByAll tells all sessions of this node that they may have missed texts, a part of them at a time. What came while it
// was under way begins it anew.
func (s *Server) missedByAll() {
	if s.telling.Add(1) > 1 {
		return
	}
	s.spawn(func() {
		for {
			round := s.telling.Load()
			if !s.tellAll() || s.telling.CompareAndSwap(round, 0) {
				return
			}
		}
	})
}

// tellAll returns false if the node stops meanwhile.
func (s *Server) tellAll() bool {
	s.log.Warn("another node could not remember whose pushes it dropped: telling all sessions")
	for part := range session.Parts {
		s.registry.EachOf(part, func(sess *session.Session) {
			if sess.State() == session.Live {
				s.mayHaveMissed(sess)
			}
		})
		select {
		case <-s.ctx.Done():
			return false
		case <-time.After(everyoneTakes / session.Parts):
		}
	}
	return true
}
