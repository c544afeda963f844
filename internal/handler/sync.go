package handler

import (
	"context"
	"fmt"
	"time"

	"parley/internal/history"
	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
)

// syncPage is a 2103 in the making.
type syncPage struct {
	wire.SyncReply
	of   []store.Thread // of each part
	view history.View
	room int // bytes that are left
}

// full reports whether no other part fits, and says in the reply that there are more.
func (p *syncPage) full() bool {
	if p.room < 2*history.ElementBytes {
		p.LoadMore = true
		return true
	}
	return false
}

// syncs answers what has come to threads.
type syncs struct {
	*Deps
	threads *threads
	marks   *marks
}

// sync answers 2102: for each thread with news a page of it, as many as fit a frame.
func (y *syncs) sync(ctx context.Context, s *session.Session, body []byte) error {
	req, err := wire.DecodeSync(body)
	if err != nil {
		return err
	}
	now := int64(0)
	if req.Since != "" || req.WantSince {
		if now, err = y.Store.Clock(ctx); err != nil {
			return err
		}
	}
	page := &syncPage{SyncReply: wire.SyncReply{Threads: []wire.HistoryReply{}}, view: viewOf(s), room: y.pageBytes(s)}
	hides, err := y.Store.Messages.HidesAny(ctx, s.UID())
	if err != nil {
		return err
	}
	page.view.HidesNone = !hides // one look for all threads
	if req.Since != "" {
		err = y.since(ctx, s, req, now, page)
	} else {
		if req.WantSince {
			page.Since = since{next: now}.String()
		}
		err = y.cursors(ctx, s, req, page)
	}
	if err != nil {
		return err
	}
	marks, err := y.marks.ofThreads(ctx, s, page.of)
	if err != nil {
		return err
	}
	for i := range marks {
		page.Threads[i].ThreadMarks = marks[i]
	}
	return reply(s, wire.MsgSyncRsp, page.SyncReply)
}

// cursors fills page with what lies beyond the request's cursors. It looks at all threads of the user.
func (y *syncs) cursors(ctx context.Context, s *session.Session, req *wire.SyncRequest, page *syncPage) error {
	if len(req.Cursors) == 0 && !req.All {
		return nil
	}
	cursors := make(map[int64]int64, len(req.Cursors))
	for _, at := range req.Cursors {
		cursors[at.ThreadID] = at.Seq
	}
	for after := int64(0); ; {
		list, err := y.threads.list(ctx, s, func() ([]store.Thread, error) { return y.Store.Threads.List(ctx, s.UID(), after, nativePage) })
		if err != nil {
			return err
		}
		var starts []history.Start
		for _, t := range list {
			after = t.ID
			seq, known := cursors[t.ID]
			seq = max(seq, t.FromSeq-1)
			if t.LastSeq != seq && (known || req.All) && !hidden(s, &t) {
				starts = append(starts, history.Start{Thread: t, After: seq})
			}
		}
		n, more, err := y.add(ctx, page, starts)
		if err != nil {
			return err
		}
		page.LoadMore = page.LoadMore || more
		if n < len(starts) || len(list) < nativePage {
			return nil
		}
	}
}

// add adds parts with what follows numbers of threads until the page is full. It returns how many it added, and reports
// whether there is more of these.
func (y *syncs) add(ctx context.Context, page *syncPage, starts []history.Start) (added int, more bool, err error) {
	for added < len(starts) && !page.full() {
		ahead, n, err := history.ReadAhead(ctx, y.Store.Messages, starts[added:], page.view, nativePage, page.room)
		if err != nil {
			return 0, false, err
		}
		for _, at := range starts[added : added+n] {
			if page.full() {
				return added, more, nil
			}
			cut, err := page.add(ctx, ahead, &at)
			if err != nil {
				return 0, false, err
			}
			more = more || cut
			added++
		}
	}
	return added, more, nil
}

// add adds a part with what follows a number of a thread, and reports whether there is more of it.
func (p *syncPage) add(ctx context.Context, src history.Source, at *history.Start) (more bool, err error) {
	part := wire.HistoryReply{ThreadID: at.ID, LastID: min(at.After, at.LastSeq), Chats: []wire.StoredText{}}
	used := history.ElementBytes
	if at.After < at.LastSeq { // else a backup was restored: the client learns where the thread ends now
		if used, err = history.Page(ctx, src, &part, history.OfThread(&at.Thread), p.view, nativePage, p.room); err != nil {
			return false, err
		}
	}
	p.room -= used
	p.Threads = append(p.Threads, part)
	p.of = append(p.of, at.Thread)
	return part.LoadMore, nil
}

const (
	// sinceAge is how old a since may be: after that most threads have changed.
	sinceAge = 30 * 24 * 60 * 60 // seconds
	// clocksApart is how much the clocks of nodes and of the database are expected to differ. If it is more, clients find
	// out by their cursors, and read the rest with 1029.
	clocksApart = time.Minute
	// sinceDepth is how many rows of a thread are looked at for those that are new.
	sinceDepth = 1000
	sincePage  = 256 // threads at once
)

// since stands for a moment, by the database's clock in seconds, and tells where a reply left off. Clients see its String.
type since struct {
	next int64 // the moment
	// The reply that left off listed the threads that have changed from then on up to a thread; zero if it was complete.
	from, after int64
}

func (s since) String() string { return fmt.Sprintf("1-%d-%d-%d", s.next, s.from, s.after) }

// parseSince is the inverse of String. It returns false for what is no since, or one of no use now.
func parseSince(text string, now int64) (s since, ok bool) {
	if n, err := fmt.Sscanf(text, "1-%d-%d-%d", &s.next, &s.from, &s.after); n != 3 || err != nil || s.String() != text {
		return since{}, false
	}
	from := s.next
	if s.from > 0 {
		from = s.from
	}
	return s, s.next <= now && from <= s.next && from >= now-sinceAge && s.after >= 0
}

// since fills page with what has come to threads since the last reply, and looks at no other threads but groups. A thread that
// has changed a little earlier can be among them, with rows that the client has. It leaves page.Since empty if the
// request's is of no use, or the request's cursor shows that rows are gone which the client has.
func (y *syncs) since(ctx context.Context, s *session.Session, req *wire.SyncRequest, now int64, page *syncPage) error {
	at, ok := parseSince(req.Since, now)
	if !ok {
		return nil
	}
	for _, cursor := range req.Cursors {
		if there, err := y.reached(ctx, s.UID(), cursor); err != nil || !there {
			return err
		}
	}
	if at.from == 0 {
		at.from, at.next = at.next, now
	}
	for {
		list, err := y.threads.list(ctx, s, func() ([]store.Thread, error) {
			return y.Store.Threads.Since(ctx, s.UID(), at.from, at.after, sincePage)
		})
		if err != nil {
			return err
		}
		ends := make([]store.Before, len(list))
		for i := range list {
			ends[i] = store.Before{Thread: list[i].ID, Seq: list[i].LastSeq}
		}
		known, err := y.Store.Threads.LastBefore(ctx, ends, at.from*1000-clocksApart.Milliseconds(), sinceDepth)
		if err != nil {
			return err
		}
		var starts []history.Start
		for i, t := range list {
			if !hidden(s, &t) {
				starts = append(starts, history.Start{Thread: t, After: max(known[i], t.FromSeq-1)})
			}
		}
		n, _, err := y.add(ctx, page, starts)
		if err != nil {
			return err
		}
		if n < len(starts) {
			if n > 0 {
				at.after = starts[n-1].ID
			}
			page.Since = at.String()
			return nil
		}
		if len(list) < sincePage {
			page.Since = since{next: at.next}.String()
			return nil
		}
		at.after = list[len(list)-1].ID
	}
}

// reached reports whether a thread of the user's goes as far as the cursor.
func (y *syncs) reached(ctx context.Context, uid int32, at wire.Cursor) (bool, error) {
	list, err := y.Store.Threads.List(ctx, uid, at.ThreadID-1, 1)
	return len(list) == 1 && list[0].ID == at.ThreadID && list[0].LastSeq >= at.Seq, err
}
