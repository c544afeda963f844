package chat

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"parley/internal/presence"
	"parley/internal/wire"
)

var errScope = errors.New(`chat: scope of a logout is "device" or "all"`)

// logout answers 2113. The reply is the session's last frame: what it says has been done by then. On an error the session
// goes on, and the client may ask again.
func logout(s *Server, ctx context.Context, c *conn, body []byte) error {
	var req wire.LogoutRequest
	if err := wire.Decode(body, &req); err != nil {
		return err
	}
	switch req.Scope {
	case wire.LogoutDevice:
	case wire.LogoutAll:
		if err := endOthers(s, ctx, c); err != nil {
			return err
		}
	default:
		return wire.Refuse(wire.CodeBadRequest, errScope)
	}
	if err := s.presence.Logout(ctx, c.location()); err != nil {
		return err
	}
	frame, err := encodeFrame(wire.MsgLogoutRsp, codeOnly{})
	if err != nil {
		return wire.Refuse(wire.CodeInternal, err)
	}
	c.finish(frame)
	return nil
}

// endOthers refuses all tokens and tickets of the user that were issued until now, and ends the user's sessions other than
// c. Tokens come first, so that no session that is ended here comes back. Sessions of other nodes end as at a login: a node
// that does not answer finds the kick in its mailbox, a dead one is fenced.
func endOthers(s *Server, ctx context.Context, c *conn) error {
	if err := s.presence.RevokeTokens(ctx, c.UID()); err != nil {
		return err
	}
	found, err := s.presence.Locate(ctx, []int32{c.UID()})
	if err != nil {
		return fmt.Errorf("chat: end sessions: %w", err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, at := range found[0] {
		switch {
		case at.SID == c.SID().String():
		case at.Node == s.cfg.SelfServer.Name && at.Boot == s.lease.Boot():
			s.kickLocal(at.UID, at.SID)
		default:
			wg.Go(func() {
				e := endRemote(s, ctx, at)
				mu.Lock()
				defer mu.Unlock()
				err = errors.Join(err, e)
			})
		}
	}
	wg.Wait()
	return err
}

// endRemote ends a session of another node.
func endRemote(s *Server, ctx context.Context, at presence.Location) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("chat: panic while a session was ended: %v", v)
		}
	}()
	return s.kicker.End(ctx, at)
}
