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

// threads answers what a user reads of its threads.
type threads struct {
	*Deps
	marks *marks
}

// threads answers 1025: a page of the user's threads above the cursor, in ascending order.
func (t *threads) threads(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.ThreadsRequest
	if err := wire.Decode(body, &req); err != nil {
		return err
	}
	if p := legacy.Of(s); p != nil {
		after, first := p.ThreadsAsked(req.After)
		req.After = after
		if first {
			// Each friend's thread is listed before any chat, so that no push names a thread the client does not know.
			if err := t.Store.Threads.EnsureOfFriends(ctx, s.UID()); err != nil {
				return err
			}
		}
	}
	limit := pageLimit(s, req.Limit, stockThreads)
	list, err := t.list(ctx, s, func() ([]store.Thread, error) { return t.Store.Threads.List(ctx, s.UID(), req.After, limit+1) })
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
	marks, err := t.marks.ofThreads(ctx, s, list)
	if err != nil {
		return err
	}
	for i, one := range list {
		page.NextLast = one.ID
		if p := legacy.Of(s); hidden(s, &one) || p != nil && !p.Announce(one.ID, peerOf(one, s.UID())) {
			continue
		}
		page.Threads = append(page.Threads, wire.Thread{
			ID: one.ID, Type: one.Type, User1: one.User1, User2: one.User2, LastSeq: one.LastSeq,
			Name: one.Name, Role: int(one.Role), Members: one.Members, FirstID: one.FromSeq, Left: one.LeftSeq, ThreadMarks: marks[i],
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

// list returns what read does. From then on the session is told of what is stored in the groups among them: what is
// not in the list or its pages comes as a push.
func (t *threads) list(ctx context.Context, s *session.Session, read func() ([]store.Thread, error)) ([]store.Thread, error) {
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
	if news, err := t.follow(ctx, s, groups...); err != nil || !news {
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

// open answers 1027: the private thread with a friend, made if there is none.
func (t *threads) open(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.OpenThreadRequest
	if err := wire.Decode(body, &req); err != nil {
		return err
	}
	if req.OtherUID < 1 || req.OtherUID == s.UID() {
		return wire.Refuse(wire.CodeCreateChat, errNotMember)
	}
	id, err := t.ofFriends(ctx, s.UID(), req.OtherUID)
	if err != nil {
		return err
	}
	if p := legacy.Of(s); p != nil && !p.AnnounceLoaded(id, req.OtherUID) {
		// Its friend list of this login lacks that friend, and a thread with a stranger crashes it.
		return wire.Refuse(wire.CodeCreateChat, errNotFriends)
	}
	return reply(s, wire.MsgOpenThreadRsp, wire.OpenThreadReply{UID: s.UID(), OtherUID: req.OtherUID, ThreadID: id})
}

// ofFriends returns the thread of two friends. Approval makes it; for friendships older than that it is made here.
func (t *threads) ofFriends(ctx context.Context, a, b int32) (int64, error) {
	id, err := t.Store.Threads.OfPair(ctx, a, b)
	if errors.Is(err, store.ErrNotFound) {
		if err = t.Store.Threads.EnsureOfFriends(ctx, a); err == nil {
			id, err = t.Store.Threads.OfPair(ctx, a, b)
		}
	}
	if errors.Is(err, store.ErrNotFound) {
		return 0, wire.Refuse(wire.CodeCreateChat, errNotFriends)
	}
	if err != nil {
		return 0, err
	}
	access, err := t.Store.Rights.Access(ctx, []int64{id})
	if err == nil && !access[id].Friends {
		err = wire.Refuse(wire.CodeCreateChat, errNotFriends)
	}
	return id, err
}

// history answers 1029: a page of a thread above the cursor, in ascending order, cut by rows and by bytes. A thread that
// is not the user's is an empty page, as the stock client can ask for one in good faith after a change of user.
func (t *threads) history(ctx context.Context, s *session.Session, body []byte) error {
	var req wire.HistoryRequest
	if err := wire.Decode(body, &req); err != nil {
		return err
	}
	page := wire.HistoryReply{ThreadID: req.ThreadID, LastID: req.After, Chats: []wire.StoredText{}}
	within, member, err := t.readable(ctx, s, req.ThreadID)
	if err != nil {
		return err
	}
	pushed := int64(0)
	if p := legacy.Of(s); p != nil {
		pushed = p.HistoryAsked(req.ThreadID)
	}
	if member {
		limit := pageLimit(s, req.Limit, history.StockRows)
		if _, err := history.Page(ctx, t.Store.Messages, &page, within, viewOf(s), limit, t.pageBytes(s)); err != nil {
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
func (t *threads) readable(ctx context.Context, s *session.Session, thread int64) (within history.Range, ok bool, err error) {
	within, ok, err = history.Readable(ctx, t.Store, thread, s.UID(), s.Groups())
	if err != nil || !within.Grows {
		return within, ok, err
	}
	if news, err := t.follow(ctx, s, thread); err != nil || !news {
		return within, ok, err
	}
	return history.Readable(ctx, t.Store, thread, s.UID(), s.Groups())
}

// follow has a session told of what is stored in groups from now on. It reports whether that is news: then rows that were
// stored just before reached neither the session nor what was read for it.
func (t *threads) follow(ctx context.Context, s *session.Session, groups ...int64) (news bool, err error) {
	if len(groups) == 0 || !s.Groups() {
		return false, nil
	}
	news, err = t.Groups.Reconcile(ctx, s, groups)
	if news {
		err = nil // the session is told here; without Redis, other nodes tell all nodes
	}
	return news, err
}
