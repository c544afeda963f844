package login

import (
	"context"
	"errors"

	"parley/internal/history"
	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
)

// CatchUp tells a session that has just become live of the friends and applications that came after its 1006 was
// put together, and of the friends that went. Their pushes found nobody: not this session yet, nor the one before. A push goes out after its change
// was counted, so a change that is not in the count now will find the session.
func (l *Logins) CatchUp(ctx context.Context, s *session.Session, version int64, lists []byte) {
	now, err := l.d.Presence.Cache.ListsVersion(ctx, s.UID())
	if err == nil && now != version {
		err = l.pushNewcomers(ctx, s, now, lists)
	}
	if err != nil {
		l.d.Log.Warn("lists not compared after login", "sid", s.SID(), "err", err)
	}
}

// people is what the encoded lists hold.
type people struct {
	Friends      []wire.Friend      `json:"friend_list"`
	Applications []wire.Application `json:"apply_list"`
	Cut          bool               `json:"friends_cut"`
}

func decodeLists(lists []byte) (p people, err error) {
	err = wire.Decode(append(append([]byte{'{'}, lists...), '}'), &p)
	return p, err
}

func (l *Logins) pushNewcomers(ctx context.Context, s *session.Session, version int64, lists []byte) error {
	fresh, err := l.d.Users.Lists(ctx, s.UID(), version)
	if err != nil {
		return err
	}
	old, err := decodeLists(lists)
	if err != nil {
		return err
	}
	now, err := decodeLists(fresh)
	if err != nil {
		return err
	}
	known := make(map[int32]struct{}, len(old.Friends))
	for _, f := range old.Friends {
		known[f.UID] = struct{}{}
	}
	for i := range now.Friends {
		if _, ok := known[now.Friends[i].UID]; !ok {
			if err := l.pushFriend(ctx, s, &now.Friends[i].Profile); err != nil {
				return err
			}
		}
	}
	if err := l.pushGone(s, old, now); err != nil {
		return err
	}
	clear(known)
	for _, a := range old.Applications {
		known[a.UID] = struct{}{}
	}
	for _, a := range now.Applications {
		if _, ok := known[a.UID]; !ok {
			if err := l.pushHere(s, a.UID, wire.MsgApplied, wire.AppliedPush{
				ApplyUID: a.UID, Name: a.Name, Desc: a.Desc, Icon: a.Icon, Nick: a.Nick, Sex: a.Sex,
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

// pushGone tells a native session of the friends it was given that are none any more.
func (l *Logins) pushGone(s *session.Session, old, now people) error {
	if !s.Native() || now.Cut { // of a cut list nobody can say who is missing
		return nil
	}
	still := make(map[int32]struct{}, len(now.Friends))
	for _, f := range now.Friends {
		still[f.UID] = struct{}{}
	}
	for _, f := range old.Friends {
		if _, ok := still[f.UID]; ok {
			continue
		}
		if err := l.pushHere(s, s.UID(), wire.MsgFriendsChanged, wire.FriendsChangedPush{Change: wire.ChangeUnfriend, UID: f.UID}); err != nil {
			return err
		}
	}
	return nil
}

// pushFriend sends the 1015 of a friendship again, from what its thread holds.
func (l *Logins) pushFriend(ctx context.Context, s *session.Session, friend *wire.Profile) error {
	id, err := l.d.Store.Threads.OfPair(ctx, s.UID(), friend.UID)
	if errors.Is(err, store.ErrNotFound) {
		return nil // no approval made it; the next login lists it
	}
	if err != nil {
		return err
	}
	page := wire.HistoryReply{ThreadID: id}
	view := history.View{UID: s.UID(), Rows: s.Shown(wire.FeatureRows), Stock: !s.Native()}
	if _, err := history.Page(ctx, l.d.Store.Messages, &page, history.Range{}, view, history.StockRows, history.StockBytes); err != nil || len(page.Chats) == 0 {
		return err // the stock client crashes on a 1015 without messages
	}
	return l.pushHere(s, friend.UID, wire.MsgApproved, wire.ApprovedPush{
		FromUID: friend.UID, ToUID: s.UID(), Name: friend.Name, Nick: friend.Nick, Icon: friend.Icon, Sex: friend.Sex, Chats: page.Chats,
	})
}

// pushHere sends a push to one session.
func (l *Logins) pushHere(s *session.Session, from int32, id wire.MsgID, v any) error {
	body, err := wire.Encode(v)
	if err != nil {
		return err
	}
	_ = s.Push(&session.Push{To: s.UID(), From: from, ID: id, Body: body}) // a dead session reads it at its next login
	return nil
}
