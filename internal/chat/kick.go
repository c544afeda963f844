package chat

import (
	"context"
	"fmt"
	"sync"
	"time"

	"parley/internal/presence"
	"parley/internal/session"
	"parley/internal/wire"
)

const (
	// maxFenced is how many dead boot ids are remembered, so that each is fenced once.
	maxFenced = 1024
	// maxKickRetries bounds the kicks that wait for a node which is alive but does not answer.
	maxKickRetries = 1024
)

// kickLocal ends a session of this node because a newer login took its place.
func (s *Server) kickLocal(uid int32, sid string) {
	id, ok := session.ParseSID(sid)
	if !ok {
		return
	}
	if old := s.registry.Supersede(uid, id); old != nil {
		old.Owner().(*conn).finish(s.replacedFrame(uid))
		s.metrics.replaced.Inc()
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

// kickRemote ends a session of another node, or fences that node when it is dead: after that nothing the session still
// sends can be stored. A node that is alive but silent is asked again until it answers; the login does not wait for that.
func (s *Server) kickRemote(ctx context.Context, old presence.Location) error {
	alive, err := s.alive(ctx, old.Node, old.Boot)
	if err != nil {
		return err
	}
	if !alive {
		return s.fenced.fence(ctx, s, old.Node, old.Boot)
	}
	kick, cancel := context.WithTimeout(ctx, kickTimeout)
	defer cancel()
	if err := s.peers.Kick(kick, old.Node, old.UID, old.SID); err != nil {
		s.metrics.kickFailures.Inc()
		// The view that called it alive was up to a second old, and the kick took another one: a lease that has lapsed by
		// now means that nothing keeps the old session from storing but the fence.
		if alive, err := s.aliveNow(ctx, old.Node, old.Boot); err == nil && !alive {
			return s.fenced.fence(ctx, s, old.Node, old.Boot)
		}
		s.log.Warn("kick unanswered, asking again", "peer", old.Node, "err", err)
		s.kickAgain(old)
	}
	return nil
}

// alive reports whether a node's lease carries a boot id. The view may be a second old, which is too old to call a node
// dead.
func (s *Server) alive(ctx context.Context, node, boot string) (bool, error) {
	if s.presence.View().Alive(node, boot) {
		return true, nil
	}
	return s.aliveNow(ctx, node, boot)
}

// aliveNow asks Redis.
func (s *Server) aliveNow(ctx context.Context, node, boot string) (bool, error) {
	if _, err := s.presence.Nodes(ctx); err != nil {
		return false, fmt.Errorf("chat: is node %s alive: %w", node, err)
	}
	s.onNodes(s.presence.View()) // a node that has just joined has no link yet
	return s.presence.View().Alive(node, boot), nil
}

// kickAgain repeats a kick until it is answered or the node's lease is gone.
func (s *Server) kickAgain(old presence.Location) {
	if s.kicks.Add(1) > maxKickRetries {
		s.kicks.Add(-1)
		s.log.Error("kick given up: too many wait", "peer", old.Node)
		return
	}
	s.spawn(func() {
		defer s.kicks.Add(-1)
		for wait := 200 * time.Millisecond; ; wait = min(2*wait, 3*time.Second) {
			select {
			case <-s.ctx.Done():
				return
			case <-time.After(wait):
			}
			ctx, cancel := context.WithTimeout(s.ctx, 3*kickTimeout)
			alive, err := s.alive(ctx, old.Node, old.Boot)
			if err == nil && !alive {
				err = s.fenced.fence(ctx, s, old.Node, old.Boot)
			} else if err == nil {
				err = s.peers.Kick(ctx, old.Node, old.UID, old.SID)
			}
			cancel()
			if err == nil {
				return
			}
		}
	})
}

// fences remembers which dead boots were fenced, so that the storm of logins after a crash fences once. The zero value is
// ready.
type fences struct {
	mu   sync.Mutex
	done map[string]struct{}
}

func (f *fences) fence(ctx context.Context, s *Server, node, boot string) error {
	f.mu.Lock()
	_, done := f.done[boot]
	f.mu.Unlock()
	if done {
		return nil
	}
	if err := s.store.Fence(ctx, node, boot); err != nil {
		return err
	}
	s.log.Info("fenced a dead node", "peer", node, "boot", boot)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done == nil || len(f.done) >= maxFenced {
		f.done = make(map[string]struct{})
	}
	f.done[boot] = struct{}{}
	return nil
}

// tellElsewhere lets nodes that hold other devices of a user know that they are not alone.
func (s *Server) tellElsewhere(others []presence.Location) {
	view := s.presence.View()
	names := []string{s.cfg.SelfServer.Name}
	for i := range others {
		names = addNode(names, others[i].Node)
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
