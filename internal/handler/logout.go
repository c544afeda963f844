package handler

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"parley/internal/presence"
	"parley/internal/session"
	"parley/internal/wire"
)

var errScope = errors.New(`handler: scope of a logout is "device" or "all"`)

// logouts answers users who log out.
type logouts struct{ *Deps }

// logout answers 2113. The reply is the session's last frame: what it says has been done by then. On an error the session
// goes on, and the client may ask again.
func (l *logouts) logout(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.LogoutRequest
	if err := wire.Decode(body, &req); err != nil {
		return err
	}
	switch req.Scope {
	case wire.LogoutDevice:
	case wire.LogoutAll:
		if err := l.endOthers(ctx, s); err != nil {
			return err
		}
	default:
		return wire.Refuse(wire.CodeBadRequest, errScope)
	}
	if err := l.Presence.Sessions.Logout(ctx, l.Ender.Location(s)); err != nil {
		return err
	}
	frame, err := wire.EncodeFrame(wire.MsgLogoutRsp, codeOnly{})
	if err != nil {
		return wire.Refuse(wire.CodeInternal, err)
	}
	l.Ender.Finish(s, frame)
	return nil
}

// endOthers refuses all tokens and tickets of the user that were issued until now, and ends the user's sessions other than
// s. Tokens come first, so that no session that is ended here comes back. Sessions of other nodes end as at a login: a node
// that does not answer finds the kick in its mailbox, a dead one is fenced.
func (l *logouts) endOthers(ctx context.Context, s *session.Session) error {
	if err := l.Presence.Tokens.Revoke(ctx, s.UID()); err != nil {
		return err
	}
	found, err := l.Presence.Sessions.Locate(ctx, []int32{s.UID()})
	if err != nil {
		return fmt.Errorf("handler: end sessions: %w", err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, at := range found[0] {
		switch {
		case at.SID == s.SID().String():
		case at.Node == l.Node && at.Boot == l.Boot():
			l.Ender.Kick(at.UID, at.SID)
		default:
			wg.Go(func() {
				e := l.endRemote(ctx, at)
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
func (l *logouts) endRemote(ctx context.Context, at presence.Location) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("handler: panic while a session was ended: %v", v)
		}
	}()
	return l.Kicker.End(ctx, at)
}
