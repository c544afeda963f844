package chat

import (
	"slices"
	"time"

	"parley/internal/presence"
	"parley/internal/session"
	"parley/internal/wire"
)

// kickLocal ends a session of this node because a newer login took its place. If the session's own login is under way, it
// returns the session, which ends when that login is done.
func (s *Server) kickLocal(uid int32, sid string) (pending *session.Session) {
	id, ok := session.ParseSID(sid)
	if !ok {
		return nil
	}
	old, pending := s.registry.Supersede(uid, id)
	if old != nil {
		old.Owner().(*conn).finish(s.replacedFrame(uid))
		s.metrics.replaced.Inc()
	}
	return pending
}

const (
	// loginPatience is how long a login waits for the login that it replaces; less than it waits for another node.
	loginPatience = 750 * time.Millisecond
	loginPause    = time.Millisecond
)

// replaceLocal is kickLocal for a login that takes the place of the session. A session whose own login is under way may
// not have ended yet the one whose place it took: replaceLocal waits until it has.
func (s *Server) replaceLocal(uid int32, sid string) {
	pending := s.kickLocal(uid, sid)
	for began := time.Now(); pending != nil && pending.State() == session.Pending && time.Since(began) < loginPatience; {
		time.Sleep(loginPause)
	}
}

// replacedFrame is 1021.
func (s *Server) replacedFrame(uid int32) []byte {
	frame, err := encodeFrame(wire.MsgReplaced, struct {
		Error wire.Code `json:"error"`
		UID   int32     `json:"uid"`
	}{UID: uid})
	if err != nil {
		return nil
	}
	return frame
}

// tellElsewhere lets nodes that hold other devices of a user know that they are not alone.
func (s *Server) tellElsewhere(others []presence.Location) {
	view := s.presence.View()
	names := []string{s.cfg.SelfServer.Name}
	for i := range others {
		if !slices.Contains(names, others[i].Node) {
			names = append(names, others[i].Node)
		}
	}
	nodes := len(names)
	for i := range others {
		o := &others[i]
		if o.Node == s.cfg.SelfServer.Name {
			continue
		}
		s.registry.Elsewhere(o.UID)
		if view.Alive(o.Node, o.Boot) {
			// A hint: without it that node's users reach one device less, and the user may send more until the nodes are counted.
			s.peers.Forward(o.Node, &session.Push{To: o.UID, Seq: int64(nodes)})
		}
	}
}
