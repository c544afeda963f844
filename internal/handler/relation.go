package handler

import (
	"context"
	"errors"

	"parley/internal/history"
	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/users"
	"parley/internal/wire"
)

// relations answers what ends friendships, and blocks users.
type relations struct{ *Deps }

// unfriend answers 2105.
func (r *relations) unfriend(ctx context.Context, s *session.Session, body []byte) error {
	return r.change(ctx, s, body, wire.MsgUnfriendRsp, wire.ChangeUnfriend, func(boot string, other int32) error {
		_, err := r.Store.Friends.Unfriend(ctx, r.Node, boot, s.UID(), other)
		return err
	})
}

// block answers 2107.
func (r *relations) block(ctx context.Context, s *session.Session, body []byte) error {
	return r.change(ctx, s, body, wire.MsgBlockRsp, wire.ChangeBlock, func(boot string, other int32) error {
		_, err := r.Store.Friends.Block(ctx, r.Node, boot, s.UID(), other)
		return err
	})
}

// unblock answers 2109.
func (r *relations) unblock(ctx context.Context, s *session.Session, body []byte) error {
	return r.change(ctx, s, body, wire.MsgUnblockRsp, wire.ChangeUnblock, func(boot string, other int32) error {
		return r.Store.Friends.Unblock(ctx, r.Node, boot, s.UID(), other)
	})
}

// change changes how the user stands to another, then makes the cached lists of both stale, answers, and tells the
// user's other devices. The other is not told: its next login lists its friends. What the change forbids is not stored from
// the commit on; see store.Append. All of it may be repeated.
func (r *relations) change(
	ctx context.Context, s *session.Session, body []byte, answer wire.MsgID, change string, commit func(boot string, other int32) error,
) error {
	var req wire.OtherRequest
	if err := wire.Decode(body, &req); err != nil {
		return err
	}
	switch err := commit(s.Boot(), req.UID); {
	case errors.Is(err, store.ErrNotFound):
		return wire.Refuse(wire.CodeUIDInvalid, err)
	case errors.Is(err, store.ErrSelf), errors.Is(err, store.ErrTooMany):
		return wire.Refuse(wire.CodeNotAllowed, err)
	case errors.Is(err, store.ErrFenced):
		r.Fenced(s.Boot())
		return err
	case err != nil:
		return err
	}
	if change != wire.ChangeUnblock {
		r.Users.Changed(ctx, s.UID(), req.UID)
		r.seenChanged(s.UID(), req.UID)
	}
	if err := reply(s, answer, wire.OtherReply{UID: req.UID}); err != nil {
		return err
	}
	return r.pushToOwn(ctx, s, wire.MsgFriendsChanged, wire.FriendsChangedPush{Change: change, UID: req.UID})
}

// blocks answers 2111: a page of those whom the user has blocked, by ascending uid.
func (r *relations) blocks(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.BlocksRequest
	if err := wire.Decode(body, &req); err != nil {
		return err
	}
	limit := pageLimit(s, req.Limit, nativePage)
	list, err := r.Store.Friends.Blocks(ctx, s.UID(), req.After, limit+1)
	if err != nil {
		return err
	}
	page := wire.BlocksReply{Blocked: []wire.Blocked{}, LastUID: req.After}
	room := r.pageBytes(s)
	for i := range list {
		p := users.WireProfile(list[i].Profile)
		if room -= profileBytes(&p); i == limit || room < 0 && i > 0 {
			page.LoadMore = true
			break
		}
		page.Blocked = append(page.Blocked, wire.Blocked{Profile: p, CreatedMS: list[i].CreatedMS})
		page.LastUID = p.UID
	}
	return reply(s, wire.MsgBlocksRsp, page)
}

// profileBytes returns about how many bytes a profile takes in a list.
func profileBytes(p *wire.Profile) int {
	return history.ElementBytes + wire.StringLen(p.Name) + wire.StringLen(p.Nick) + wire.StringLen(p.Icon) + wire.StringLen(p.Desc)
}
