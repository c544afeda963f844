package handler

import (
	"context"
	"errors"
	"time"

	"parley/internal/session"
	"parley/internal/watch"
	"parley/internal/wire"
)

// typingMembers is the largest group whose members are told who is typing.
const typingMembers = 50

// typingAtOnce is how many notices of typing are looked up in SQL at once; more are dropped.
const typingAtOnce = 4

var errManyUIDs = errors.New("handler: more than 500 users to watch")

// presences answers who is online and typing.
type presences struct {
	*Deps
	lookups chan struct{} // holds a token for each notice of typing that is looked up
}

// watch answers 2151.
func (p *presences) watch(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.WatchRequest
	if err := wire.Decode(body, &req); err != nil {
		return err
	}
	if len(req.UIDs) > wire.MaxWatched {
		return wire.Refuse(wire.CodeBadRequest, errManyUIDs)
	}
	err := p.Watch.Set(ctx, s, req.UIDs, func(states []wire.Presence) error {
		body := wire.AppendWatchReply(make([]byte, 0, 32+56*len(states)), states)
		frame, err := wire.AppendFrame(make([]byte, 0, len(body)+wire.HeaderLen), wire.MsgWatchRsp, body)
		if err == nil {
			_ = s.Reply(frame) // a dead session needs no answer
		}
		return err
	})
	switch {
	case errors.Is(err, watch.ErrTooMany):
		return wire.Refuse(wire.CodeBadRequest, err)
	case errors.Is(err, watch.ErrFull):
		return wire.Refuse(wire.CodeBusy, err)
	case errors.Is(err, watch.ErrOften):
		return wire.Refuse(wire.CodeRateLimited, err)
	case errors.Is(err, session.ErrClosed):
		return nil
	}
	return err
}

// visible answers 2156.
func (p *presences) visible(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.VisibleRequest
	if err := wire.Decode(body, &req); err != nil {
		return err
	}
	if req.Visible == nil {
		visible, err := p.Store.Visibility.Of(ctx, s.UID())
		if err != nil {
			return err
		}
		return reply(s, wire.MsgVisibleRsp, wire.VisibleReply{Visible: visible})
	}
	if err := p.Store.Visibility.Set(ctx, s.UID(), *req.Visible); err != nil {
		return err
	}
	p.Watch.RightsChanged(0, s.UID())
	return reply(s, wire.MsgVisibleRsp, wire.VisibleReply{Visible: *req.Visible})
}

// typing takes 2154, which is never answered: it is dropped when it comes too often, or when too many are looked up.
func (p *presences) typing(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.TypingRequest
	if !s.Shown(wire.FeaturePresence) || wire.Decode(body, &req) != nil || !p.Watch.Typing(s, req.ThreadID, time.Now()) {
		p.TypingDropped.Inc()
		return nil
	}
	select {
	case p.lookups <- struct{}{}:
		defer func() { <-p.lookups }()
	default:
		p.TypingDropped.Inc()
		return nil
	}
	to, err := p.Store.Visibility.TypingTo(ctx, req.ThreadID, s.UID(), typingMembers)
	if err != nil || len(to) == 0 {
		p.TypingDropped.Inc()
		return nil
	}
	push := wire.AppendTypingPush(make([]byte, 0, 48), req.ThreadID, s.UID())
	pushes := make([]session.Push, len(to))
	for i, uid := range to {
		pushes[i] = session.Push{To: uid, From: s.UID(), ID: wire.MsgTypingPush, Thread: req.ThreadID, Body: push}
	}
	p.Deliver(pushes, nil)
	return nil
}
