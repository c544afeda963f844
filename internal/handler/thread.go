package handler

import (
	"context"
	"errors"

	"parley/internal/history"
	"parley/internal/legacy"
	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
)

var (
	errNotMember  = errors.New("handler: not a member of the thread")
	errNotFriends = errors.New("handler: not friends")
)

// threads answers 1025: a page of the user's threads above the cursor, in ascending order.
func (d *Deps) threads(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.ThreadsRequest
	if err := wire.Decode(body, &req); err != nil {
		return err
	}
	if p := legacy.Of(s); p != nil {
		after, first := p.ThreadsAsked(req.After)
		req.After = after
		if first {
			// Each friend's thread is listed before any chat, so that no push names a thread the client does not know.
			if err := d.Store.Threads.EnsureOfFriends(ctx, s.UID()); err != nil {
				return err
			}
		}
	}
	limit := pageLimit(s, req.Limit, stockThreads)
	list, err := d.threadList(ctx, s, func() ([]store.Thread, error) { return d.Store.Threads.List(ctx, s.UID(), req.After, limit+1) })
	if err != nil {
		return err
	}
	page := wire.ThreadsReply{UID: s.UID(), NextLast: req.After, Threads: []wire.Thread{}}
	if page.LoadMore = len(list) > limit; page.LoadMore {
		list = list[:limit]
	}
	if n := fitting(list); n < len(list) {
		list, page.LoadMore = list[:n], true
	}
	marks, err := d.threadMarks(ctx, s, list)
	if err != nil {
		return err
	}
	for i, t := range list {
		page.NextLast = t.ID
		if p := legacy.Of(s); hidden(s, &t) || p != nil && !p.Announce(t.ID, peerOf(t, s.UID())) {
			continue
		}
		page.Threads = append(page.Threads, wire.Thread{
			ID: t.ID, Type: t.Type, User1: t.User1, User2: t.User2, LastSeq: t.LastSeq,
			Name: t.Name, Role: int(t.Role), Members: t.Members, FirstID: t.FromSeq, Left: t.LeftSeq, ThreadMarks: marks[i],
		})
	}
	if err := reply(s, wire.MsgThreadsRsp, page); err != nil {
		return err
	}
	if p := legacy.Of(s); p != nil && !page.LoadMore {
		p.ThreadsListed()
	}
	return nil
}

// threadList returns what read does. From then on the session is told of what is stored in the groups among them: what is
// not in the list or its pages comes as a push.
func (d *Deps) threadList(ctx context.Context, s *session.Session, read func() ([]store.Thread, error)) ([]store.Thread, error) {
	list, err := read()
	if err != nil {
		return nil, err
	}
	var groups []int64
	for i := range list {
		if list[i].Type == store.ThreadGroup && list[i].LeftSeq == 0 {
			groups = append(groups, list[i].ID)
		}
	}
	if news, err := d.follow(ctx, s, groups...); err != nil || !news {
		return list, err
	}
	return read()
}

func peerOf(t store.Thread, uid int32) int32 {
	if t.User1 == uid {
		return t.User2
	}
	return t.User1
}

// openThread answers 1027: the private thread with a friend, made if there is none.
func (d *Deps) openThread(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.OpenThreadRequest
	if err := wire.Decode(body, &req); err != nil {
		return err
	}
	if req.OtherUID < 1 || req.OtherUID == s.UID() {
		return wire.Refuse(wire.CodeCreateChat, errNotMember)
	}
	id, err := d.friendThread(ctx, s.UID(), req.OtherUID)
	if err != nil {
		return err
	}
	if p := legacy.Of(s); p != nil && !p.AnnounceLoaded(id, req.OtherUID) {
		// Its friend list of this login lacks that friend, and a thread with a stranger crashes it.
		return wire.Refuse(wire.CodeCreateChat, errNotFriends)
	}
	return reply(s, wire.MsgOpenThreadRsp, wire.OpenThreadReply{UID: s.UID(), OtherUID: req.OtherUID, ThreadID: id})
}

// friendThread returns the thread of two friends. Approval makes it; for friendships older than that it is made here.
func (d *Deps) friendThread(ctx context.Context, a, b int32) (int64, error) {
	id, err := d.Store.Threads.OfPair(ctx, a, b)
	if errors.Is(err, store.ErrNotFound) {
		if err = d.Store.Threads.EnsureOfFriends(ctx, a); err == nil {
			id, err = d.Store.Threads.OfPair(ctx, a, b)
		}
	}
	if errors.Is(err, store.ErrNotFound) {
		return 0, wire.Refuse(wire.CodeCreateChat, errNotFriends)
	}
	if err != nil {
		return 0, err
	}
	access, err := d.Store.Rights.Access(ctx, []int64{id})
	if err == nil && !access[id].Friends {
		err = wire.Refuse(wire.CodeCreateChat, errNotFriends)
	}
	return id, err
}

// history answers 1029: a page of a thread above the cursor, in ascending order, cut by rows and by bytes. A thread that
// is not the user's is an empty page, as the stock client can ask for one in good faith after a change of user.
func (d *Deps) history(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.HistoryRequest
	if err := wire.Decode(body, &req); err != nil {
		return err
	}
	page := wire.HistoryReply{ThreadID: req.ThreadID, LastID: req.After, Chats: []wire.StoredText{}}
	within, member, err := d.readable(ctx, s, req.ThreadID)
	if err != nil {
		return err
	}
	pushed := int64(0)
	if p := legacy.Of(s); p != nil {
		pushed = p.HistoryAsked(req.ThreadID)
	}
	if member {
		limit := pageLimit(s, req.Limit, history.StockRows)
		if _, err := history.Page(ctx, d.Store.Messages, &page, within, viewOf(s), limit, d.pageBytes(s)); err != nil {
			return err
		}
		if pushed > 0 {
			leaveOut(&page, req.After, pushed)
		}
	}
	if err := reply(s, wire.MsgHistoryRsp, page); err != nil {
		return err
	}
	if p := legacy.Of(s); p != nil {
		p.HistoryServed(req.ThreadID, page.LastID, page.LoadMore)
	}
	return nil
}

// readable is history.Readable for a session, which is told of what is stored in the group from then on.
func (d *Deps) readable(ctx context.Context, s *session.Session, thread int64) (within history.Range, ok bool, err error) {
	within, ok, err = history.Readable(ctx, d.Store, thread, s.UID(), s.Groups())
	if err != nil || !within.Grows {
		return within, ok, err
	}
	if news, err := d.follow(ctx, s, thread); err != nil || !news {
		return within, ok, err
	}
	return history.Readable(ctx, d.Store, thread, s.UID(), s.Groups())
}
