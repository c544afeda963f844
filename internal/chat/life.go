package chat

import (
	"context"
	"time"

	"parley/internal/legacy"
	"parley/internal/presence"
	"parley/internal/session"
	"parley/internal/wire"
)

// noteOpen, noteLoggedIn and noteClosed follow a connection's life.
func (s *Server) noteOpen(c *conn) {
	s.openMu.Lock()
	s.open[c] = struct{}{}
	s.openMu.Unlock()
}

func (s *Server) noteLoggedIn(c *conn) { s.admission.Authenticated(&c.entry) }

func (s *Server) noteClosed(c *conn) {
	s.openMu.Lock()
	delete(s.open, c)
	s.openMu.Unlock()
	s.admission.Closed(&c.entry, time.Now())
}

func (s *Server) connections() int {
	s.openMu.Lock()
	defer s.openMu.Unlock()
	return len(s.open)
}

// leave takes a session out of the registry and, by the janitor, out of Redis. It may be called any number of times.
func (s *Server) leave(c *conn) {
	removed := c.SID() != 0 && s.registry.Remove(&c.Session)
	if c.joined.Swap(false) {
		s.texts.Leave(c.texter, c.location(), time.Now())
	} else if removed {
		s.janitor.release(c.location())
	}
}

// location is the session as Redis knows it.
func (c *conn) location() presence.Location {
	return presence.Location{
		UID: c.UID(), Device: c.Device(), SID: c.SID().String(), Node: c.srv.cfg.SelfServer.Name, Boot: c.boot,
	}
}

// entryOf is a live session as Redis should know it.
func entryOf(sess *session.Session) presence.Session {
	c := sess.Owner().(*conn)
	return presence.Session{Location: c.location(), Since: time.UnixMilli(c.began)}
}

// newStock returns the policy for a client that did not announce itself.
func (s *Server) newStock(sess *session.Session, lists []byte) session.Stock {
	friends, err := friendsOf(lists)
	if err != nil {
		s.log.Error("friends of a stock client not read", "err", err)
		friends = make(map[int32]struct{})
	}
	return legacy.New(sess, s.wheel, friends, &s.metrics.legacy, time.Now())
}

// policy returns what a stock client needs, nil for a native one.
func (c *conn) policy() *legacy.Policy {
	p, _ := c.Stock().(*legacy.Policy)
	return p
}

// noteFirstGeneration marks a stock client that names no thread in its texts.
func (c *conn) noteFirstGeneration() {
	if p := c.policy(); p != nil && !c.firstGen.Swap(true) {
		p.FirstGeneration()
	}
}

// reply encodes and sends a reply.
func (c *conn) reply(id wire.MsgID, v any) error {
	frame, err := encodeFrame(id, v)
	if err != nil {
		return wire.Refuse(wire.CodeInternal, err)
	}
	_ = c.Reply(frame) // a dead session needs no answer
	return nil
}

func encodeFrame(id wire.MsgID, v any) ([]byte, error) {
	body, err := wire.Encode(v)
	if err != nil {
		return nil, err
	}
	return wire.AppendFrame(make([]byte, 0, len(body)+wire.HeaderLen), id, body)
}

// endAll says goodbye to every session at once.
func (s *Server) endAll(code wire.Code, reason string) {
	s.registry.Each(func(sess *session.Session) {
		sess.Owner().(*conn).goodbye(code, reason, retryMS*time.Millisecond)
	})
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
		s.registry.Each(func(sess *session.Session) {
			if c := sess.Owner().(*conn); left > 0 && c.idle() {
				left--
				c.goodbye(wire.CodeDraining, "node is going away", 0)
			}
		})
		time.Sleep(pass)
	}
	s.endAll(wire.CodeDraining, "node is going away")
	s.awaitClosed(deadline)
	s.log.Info("drained", "n", s.connections(), "dur", time.Since(began))
}

// idle reports whether the connection has nothing unanswered.
func (c *conn) idle() bool {
	c.mu.Lock()
	running := c.running
	c.mu.Unlock()
	return !running && c.texts.Load() == 0
}
