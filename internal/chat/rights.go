package chat

import (
	"context"
	"errors"

	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
)

// nativeOnly leaves requests of ours that a stock client sends unanswered, like any id it cannot know.
func nativeOnly(h handler) handler {
	return func(s *Server, ctx context.Context, c *conn, body []byte) error {
		if !c.Native() {
			s.metrics.unknownIDs.Inc()
			return nil
		}
		return h(s, ctx, c, body)
	}
}

// unfriend answers 2105.
func unfriend(s *Server, ctx context.Context, c *conn, body []byte) error {
	return changeRelation(s, ctx, c, body, wire.MsgUnfriendRsp, wire.ChangeUnfriend, func(boot string, other int32) error {
		_, err := s.store.Unfriend(ctx, s.cfg.SelfServer.Name, boot, c.UID(), other)
		return err
	})
}

// block answers 2107.
func block(s *Server, ctx context.Context, c *conn, body []byte) error {
	return changeRelation(s, ctx, c, body, wire.MsgBlockRsp, wire.ChangeBlock, func(boot string, other int32) error {
		_, err := s.store.Block(ctx, s.cfg.SelfServer.Name, boot, c.UID(), other)
		return err
	})
}

// unblock answers 2109.
func unblock(s *Server, ctx context.Context, c *conn, body []byte) error {
	return changeRelation(s, ctx, c, body, wire.MsgUnblockRsp, wire.ChangeUnblock, func(boot string, other int32) error {
		return s.store.Unblock(ctx, s.cfg.SelfServer.Name, boot, c.UID(), other)
	})
}

// changeRelation changes how the user stands to another, then makes the cached lists of both stale, answers, and tells the
// user's other devices. The other is not told: its next login lists its friends. What the change forbids is not stored from
// the commit on; see store.Append. All of it may be repeated.
func changeRelation(
	s *Server, ctx context.Context, c *conn, body []byte, reply wire.MsgID, change string, commit func(boot string, other int32) error,
) error {
	var req wire.OtherRequest
	if err := wire.Decode(body, &req); err != nil {
		return err
	}
	switch err := commit(c.boot, req.UID); {
	case errors.Is(err, store.ErrNotFound):
		return wire.Refuse(wire.CodeUIDInvalid, err)
	case errors.Is(err, store.ErrSelf), errors.Is(err, store.ErrTooMany):
		return wire.Refuse(wire.CodeNotAllowed, err)
	case errors.Is(err, store.ErrFenced):
		s.lease.NoteFenced(c.boot)
		return err
	case err != nil:
		return err
	}
	if change != wire.ChangeUnblock {
		s.bumpLists(ctx, c.UID(), req.UID)
	}
	if err := c.reply(reply, wire.OtherReply{UID: req.UID}); err != nil {
		return err
	}
	return pushToOwn(s, ctx, c, wire.MsgFriendsChanged, wire.FriendsChangedPush{Change: change, UID: req.UID})
}

// pushToOwn pushes to the user's sessions other than c, on whatever nodes they are. It is a hint: without Redis only those
// of this node get it.
func pushToOwn(s *Server, ctx context.Context, c *conn, id wire.MsgID, v any) error {
	body, err := wire.Encode(v)
	if err != nil {
		return wire.Refuse(wire.CodeInternal, err)
	}
	var pushes []session.Push
	to := func(sid string) {
		if sid != c.SID().String() {
			pushes = append(pushes, session.Push{To: c.UID(), From: c.UID(), SID: sid, ID: id, Body: body})
		}
	}
	found, err := s.presence.Locate(ctx, []int32{c.UID()})
	if err != nil {
		s.log.Debug("own devices not found", "sid", c.SID(), "err", err)
		var few [session.MaxDevices]session.SID
		for _, sid := range s.registry.Of(few[:0], c.UID()) {
			to(sid.String())
		}
	} else {
		for _, at := range found[0] {
			to(at.SID)
		}
	}
	s.router.Deliver(pushes, nil)
	return nil
}

// blocks answers 2111: a page of those whom the user has blocked, by ascending uid.
func blocks(s *Server, ctx context.Context, c *conn, body []byte) error {
	var req wire.BlocksRequest
	if err := wire.Decode(body, &req); err != nil {
		return err
	}
	limit := pageLimit(c, req.Limit, nativePage)
	list, err := s.store.Blocks(ctx, c.UID(), req.After, limit+1)
	if err != nil {
		return err
	}
	reply := wire.BlocksReply{Blocked: []wire.Blocked{}, LastUID: req.After}
	room := s.pageBytes(c)
	for i := range list {
		p := wireProfile(list[i].Profile)
		room -= messageOverhead + wire.StringLen(p.Name) + wire.StringLen(p.Nick) + wire.StringLen(p.Icon) + wire.StringLen(p.Desc)
		if i == limit || room < 0 && i > 0 {
			reply.LoadMore = true
			break
		}
		reply.Blocked = append(reply.Blocked, wire.Blocked{Profile: p, CreatedMS: list[i].CreatedMS})
		reply.LastUID = p.UID
	}
	return c.reply(wire.MsgBlocksRsp, reply)
}
