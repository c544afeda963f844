package chat

import (
	"context"
	"errors"
	"time"

	"parley/internal/store"
	"parley/internal/wire"
)

// Pages. The stock client asks for the next by itself; upstream's pages had ten rows.
const (
	stockThreads  = 50
	stockMessages = 50
	nativePage    = 500 // what a native client may ask for
	pageBytes     = 16 << 10
	// messageOverhead is what an element of chat_datas adds to its strings, at most: keys, numbers, times.
	messageOverhead = 224
)

var (
	errNotMember  = errors.New("chat: not a member of the thread")
	errNotFriends = errors.New("chat: not friends")
)

// pageLimit returns the page a client gets for the limit it asked for.
func pageLimit(c *conn, asked, usual int) int {
	if !c.Native() || asked <= 0 {
		return usual
	}
	return min(asked, nativePage)
}

// threads answers 1025: a page of the user's threads above the cursor, in ascending order.
func (s *Server) threads(ctx context.Context, c *conn, body []byte) error {
	var req wire.ThreadsRequest
	if err := wire.Decode(body, &req); err != nil {
		return err
	}
	if p := c.policy(); p != nil {
		after, first := p.ThreadsAsked(req.After)
		req.After = after
		if first {
			// Each friend's thread is listed before any chat, so that no push names a thread the client does not know.
			if err := s.store.EnsureFriendThreads(ctx, c.UID()); err != nil {
				return err
			}
		}
	}
	limit := pageLimit(c, req.Limit, stockThreads)
	page, err := s.store.Threads(ctx, c.UID(), req.After, limit+1)
	if err != nil {
		return err
	}
	reply := wire.ThreadsReply{UID: c.UID(), NextLast: req.After, Threads: []wire.Thread{}}
	if reply.LoadMore = len(page) > limit; reply.LoadMore {
		page = page[:limit]
	}
	for _, t := range page {
		reply.NextLast = t.ID
		if p := c.policy(); p != nil && !p.Announce(t.ID, peerOf(t, c.UID())) {
			continue
		}
		reply.Threads = append(reply.Threads, wire.Thread{ID: t.ID, Type: t.Type, User1: t.User1, User2: t.User2, LastSeq: t.LastSeq})
	}
	if err := c.reply(wire.MsgThreadsRsp, reply); err != nil {
		return err
	}
	if p := c.policy(); p != nil && !reply.LoadMore {
		p.ThreadsListed()
	}
	return nil
}

func peerOf(t store.Thread, uid int32) int32 {
	if t.User1 == uid {
		return t.User2
	}
	return t.User1
}

// openThread answers 1027: the private thread with a friend, made if there is none.
func (s *Server) openThread(ctx context.Context, c *conn, body []byte) error {
	var req wire.OpenThreadRequest
	if err := wire.Decode(body, &req); err != nil {
		return err
	}
	if req.OtherUID < 1 || req.OtherUID == c.UID() {
		return wire.Refuse(wire.CodeCreateChat, errNotMember)
	}
	id, err := s.friendThread(ctx, c.UID(), req.OtherUID)
	if err != nil {
		return err
	}
	if p := c.policy(); p != nil && !p.AnnounceLoaded(id, req.OtherUID) {
		// Its friend list of this login lacks that friend, and a thread with a stranger crashes it.
		return wire.Refuse(wire.CodeCreateChat, errNotFriends)
	}
	return c.reply(wire.MsgOpenThreadRsp, wire.OpenThreadReply{UID: c.UID(), OtherUID: req.OtherUID, ThreadID: id})
}

// friendThread returns the thread of two friends. Approval makes it; for friendships older than that it is made here.
func (s *Server) friendThread(ctx context.Context, a, b int32) (int64, error) {
	id, err := s.store.PairThread(ctx, a, b)
	if errors.Is(err, store.ErrNotFound) {
		if err = s.store.EnsureFriendThreads(ctx, a); err == nil {
			id, err = s.store.PairThread(ctx, a, b)
		}
	}
	if errors.Is(err, store.ErrNotFound) {
		return 0, wire.Refuse(wire.CodeCreateChat, errNotFriends)
	}
	if err != nil {
		return 0, err
	}
	access, err := s.store.Access(ctx, []int64{id})
	if err == nil && !access[id].Friends {
		err = wire.Refuse(wire.CodeCreateChat, errNotFriends)
	}
	return id, err
}

// history answers 1029: a page of a thread above the cursor, in ascending order, cut by rows and by bytes. A thread that
// is not the user's is an empty page, as the stock client can ask for one in good faith after a change of user.
func (s *Server) history(ctx context.Context, c *conn, body []byte) error {
	var req wire.HistoryRequest
	if err := wire.Decode(body, &req); err != nil {
		return err
	}
	reply := wire.HistoryReply{ThreadID: req.ThreadID, LastID: req.After, Chats: []wire.StoredText{}}
	member, err := s.isMember(ctx, req.ThreadID, c.UID())
	if err != nil {
		return err
	}
	pushed := int64(0)
	if p := c.policy(); p != nil {
		pushed = p.HistoryAsked(req.ThreadID)
	}
	if member {
		if _, err := s.page(ctx, &reply, pageLimit(c, req.Limit, stockMessages), s.pageBytes(c)); err != nil {
			return err
		}
		if pushed > 0 {
			leaveOut(&reply, req.After, pushed)
		}
	}
	if err := c.reply(wire.MsgHistoryRsp, reply); err != nil {
		return err
	}
	if p := c.policy(); p != nil {
		p.HistoryServed(req.ThreadID, reply.LastID, reply.LoadMore)
	}
	return nil
}

// leaveOut ends a page before a number: what follows, the client has been sent already.
func leaveOut(page *wire.HistoryReply, after, from int64) {
	for i := range page.Chats {
		if page.Chats[i].MsgID >= from {
			page.Chats, page.LoadMore = page.Chats[:i], false
			break
		}
	}
	page.LastID = after
	if n := len(page.Chats); n > 0 {
		page.LastID = page.Chats[n-1].MsgID
	}
}

// pageBytes is what a page may take: 16 KiB for a stock client, for a native one as much as it may send. A page holds one
// row at least, so that it can outgrow this by the largest text in escapes, 24 KiB.
func (s *Server) pageBytes(c *conn) int {
	if c.Native() {
		return min(max(pageBytes, s.cfg.Limits.MaxFrameBytes), 32<<10)
	}
	return pageBytes
}

// page fills reply with what follows reply.LastID: at most limit rows and about so many bytes of JSON, yet one row at
// least. It returns the bytes.
func (s *Server) page(ctx context.Context, reply *wire.HistoryReply, limit, bytes int) (used int, err error) {
	msgs, more, err := s.store.History(ctx, reply.ThreadID, reply.LastID, limit, bytes)
	if err != nil {
		return 0, err
	}
	used = messageOverhead
	for i := range msgs {
		m := &msgs[i]
		used += messageOverhead + wire.StringLen(m.Content) + wire.StringLen(m.UniqueID)
		if used > bytes && i > 0 {
			more = true
			break
		}
		reply.Chats = append(reply.Chats, storedText(m))
		reply.LastID = m.Seq
	}
	reply.LoadMore = more
	return used, nil
}

func storedText(m *store.Message) wire.StoredText {
	return wire.StoredText{
		Sender: m.Sender, MsgID: m.Seq, ThreadID: m.ThreadID, UniqueID: m.UniqueID, Content: m.Content,
		ChatTime: time.UnixMilli(m.CreatedMS).UTC().Format(time.DateTime), Status: wire.StatusSent, CreatedMS: m.CreatedMS,
	}
}

// isMember reports whether the user may read a thread.
func (s *Server) isMember(ctx context.Context, thread int64, uid int32) (bool, error) {
	if thread < 1 || thread > wire.MaxInt {
		return false, nil
	}
	access, err := s.store.Access(ctx, []int64{thread})
	if err != nil {
		return false, err
	}
	a, ok := access[thread]
	return ok && (a.User1 == uid || a.User2 == uid), nil
}

// sync answers 2102: for each thread with news since the client's cursors a page of it, as many as fit a frame.
func (s *Server) sync(ctx context.Context, c *conn, body []byte) error {
	req, err := wire.DecodeSync(body)
	if err != nil {
		return err
	}
	cursors := make(map[int64]int64, len(req.Cursors))
	for _, at := range req.Cursors {
		cursors[at.ThreadID] = at.Seq
	}
	reply := wire.SyncReply{Threads: []wire.HistoryReply{}}
	room := s.pageBytes(c)
	for after := int64(0); ; {
		page, err := s.store.Threads(ctx, c.UID(), after, nativePage)
		if err != nil {
			return err
		}
		for _, t := range page {
			after = t.ID
			seq, known := cursors[t.ID]
			if t.LastSeq == seq || (!known && !req.All) {
				continue
			}
			if room < 2*messageOverhead {
				reply.LoadMore = true
				return c.reply(wire.MsgSyncRsp, reply)
			}
			part := wire.HistoryReply{ThreadID: t.ID, LastID: seq, Chats: []wire.StoredText{}}
			if t.LastSeq < seq { // a backup was restored: the client learns where the thread ends now
				part.LastID = t.LastSeq
				room -= messageOverhead
				reply.Threads = append(reply.Threads, part)
				continue
			}
			used, err := s.page(ctx, &part, nativePage, room)
			if err != nil {
				return err
			}
			room -= used
			reply.LoadMore = reply.LoadMore || part.LoadMore
			reply.Threads = append(reply.Threads, part)
		}
		if len(page) < nativePage {
			return c.reply(wire.MsgSyncRsp, reply)
		}
	}
}
