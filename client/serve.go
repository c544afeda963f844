package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// What a session waits before it reads the history for a hole.
const (
	ownWait   = 50 * time.Millisecond  // while own texts are unanswered: the answer may be what is missing
	holeBase  = 100 * time.Millisecond // after a page that did not fill it; doubled each time
	holeLimit = 10 * time.Second       // at most
	holeTries = 4                      // then the history's word counts: there is nothing
	gapSpread = time.Second            // after the word that texts of any thread may be missing
)

// syncCursors is how many cursors of the largest ids fit a request.
const syncCursors = 350

// hole is something to be read from the history at a time; the zero value is nothing.
type hole struct {
	due   time.Time
	tries int  // without an answer that filled it
	told  bool // by a gap notice: to be read although no later message shows that one is missing
}

// later puts the next try off.
func (h *hole) later(atLeast time.Duration) {
	h.due = time.Now().Add(max(atLeast, min(holeBase<<min(h.tries, 10), holeLimit)))
	h.tries++
}

// sooner is h with a try at a time, unless one is due before.
func sooner(h hole, at time.Time) hole {
	if h.due.IsZero() || at.Before(h.due) {
		h.due = at
	}
	return h
}

// serve hands on what conn brings, until it ends or the session is closed.
func (s *Session) serve(ctx context.Context, conn *Conn) error {
	s.holes = make(map[int64]*hole)
	s.resync, s.again, s.caught = hole{due: time.Now()}, hole{due: time.Now()}, false
	if err := s.handOut(ctx, conn); err != nil {
		return err
	}
	for {
		wake := s.earliest()
		if !wake.IsZero() && !time.Now().Before(wake) {
			if err := s.fetch(ctx, conn); err != nil {
				return err
			}
			continue
		}
		ev, err := nextBefore(ctx, conn, wake)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			continue
		case ctx.Err() != nil:
			return ErrClosed
		case err != nil:
			return err
		}
		if err := s.handle(ctx, conn, ev); err != nil {
			return err
		}
	}
}

// nextBefore is conn.Next with a deadline; the zero time is none.
func nextBefore(ctx context.Context, conn *Conn, deadline time.Time) (Event, error) {
	if !deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	return conn.Next(ctx)
}

// earliest returns when something is to be fetched, or the zero time.
func (s *Session) earliest() time.Time {
	at := s.resync.due
	if due := s.again.due; !due.IsZero() && (at.IsZero() || due.Before(at)) {
		at = due
	}
	for _, h := range s.holes {
		if at.IsZero() || h.due.Before(at) {
			at = h.due
		}
	}
	return at
}

func (s *Session) handle(ctx context.Context, conn *Conn, ev Event) error {
	switch ev := ev.(type) {
	case Texts:
		return s.pushed(ctx, conn, ev.ThreadID, ev.Messages)
	case Gap:
		if ev.ThreadID == 0 {
			// Many sessions of the node are told at the same time.
			s.resync = sooner(s.resync, time.Now().Add(rand.N(gapSpread)))
			break
		}
		s.noteHole(ev.ThreadID, 0)
		s.holes[ev.ThreadID].told = true
	case stored:
		s.ord.expect(ev.thread, ev.id)
		if s.ord.hole(ev.thread) {
			s.noteHole(ev.thread, ownWait) // its push may be under way
		}
	case Applied:
		s.applied(ev.Application)
		return s.hand(ctx, conn, ev)
	case Approved:
		s.befriend(Friend{Profile: ev.Friend})
		if err := s.hand(ctx, conn, ev); err != nil || len(ev.Messages) == 0 {
			return err
		}
		return s.pushed(ctx, conn, ev.Messages[0].ThreadID, ev.Messages)
	case FriendsChanged:
		if ev.Change == ChangeUnfriend || ev.Change == ChangeBlock {
			s.parted(ev.UID)
		}
		return s.hand(ctx, conn, ev)
	case Hidden:
		return s.hand(ctx, conn, ev)
	case MarksMoved:
		return s.hand(ctx, conn, ev)
	case Online:
		return s.hand(ctx, conn, ev)
	case Typing:
		if len(s.backlog) == 0 {
			s.offer(ev) // without room it is worth nothing later
		}
	case Disconnected:
		return ev.Err
	}
	return nil
}

// pushed takes messages that came by themselves.
func (s *Session) pushed(ctx context.Context, conn *Conn, thread int64, msgs []Message) error {
	ready := s.ord.push(thread, msgs)
	if s.ord.hole(thread) {
		wait := time.Duration(0)
		if s.box.inFlight() {
			wait = ownWait
		}
		s.noteHole(thread, wait)
	} else if h := s.holes[thread]; h != nil && !h.told {
		delete(s.holes, thread)
	}
	return s.handTexts(ctx, conn, thread, ready)
}

// noteHole has the thread's history read after wait, unless that is planned already.
func (s *Session) noteHole(thread int64, wait time.Duration) {
	if s.holes[thread] == nil {
		s.holes[thread] = &hole{due: time.Now().Add(wait)}
	}
}

// fetch reads what is due. Refusals put it off; an error means that the connection, or the session, has ended.
func (s *Session) fetch(ctx context.Context, conn *Conn) error {
	now := time.Now()
	if at := s.resync.due; !at.IsZero() && !now.Before(at) {
		err := s.catchUp(ctx, conn)
		switch {
		case err == nil:
			s.resync = hole{due: s.whole}
			if s.caught {
				break
			}
			s.caught = true
			if err := s.hand(ctx, conn, CaughtUp{}); err != nil {
				return err
			}
		case fatal(ctx, conn) != nil:
			return fatal(ctx, conn)
		default:
			s.resync.later(RetryAfter(err))
		}
	}
	if at := s.again.due; !at.IsZero() && !now.Before(at) {
		switch err := s.rewatch(ctx, conn); {
		case err == nil:
			s.again = hole{}
		case fatal(ctx, conn) != nil:
			return fatal(ctx, conn)
		default:
			s.again.later(RetryAfter(err))
		}
	}
	for thread, h := range s.holes {
		if now.Before(h.due) {
			continue
		}
		err := s.pull(ctx, conn, thread)
		switch {
		case fatal(ctx, conn) != nil:
			return fatal(ctx, conn)
		case err != nil:
			h.later(RetryAfter(err))
		case !s.ord.hole(thread):
			delete(s.holes, thread)
		case h.tries < holeTries:
			h.later(0)
		default:
			delete(s.holes, thread)
			if err := s.handTexts(ctx, conn, thread, s.ord.skip(thread)); err != nil {
				return err
			}
		}
	}
	return nil
}

// fatal returns why nothing more can be read from conn, or nil.
func fatal(ctx context.Context, conn *Conn) error {
	if ctx.Err() != nil {
		return ErrClosed
	}
	return conn.Err()
}

// pull reads the thread's history from its cursor to its end.
func (s *Session) pull(ctx context.Context, conn *Conn, thread int64) error {
	for {
		p, err := conn.History(ctx, thread, s.ord.cursor(thread), pageLimit)
		if err != nil {
			return err
		}
		if err := s.handTexts(ctx, conn, thread, s.ord.page(thread, p.Messages, p.Next)); err != nil {
			return err
		}
		if !p.More {
			return nil
		}
	}
}

// catchUp reads what was stored while we were away: of the threads that have changed since it was last done, if the server
// can tell, and now and then of all.
func (s *Session) catchUp(ctx context.Context, conn *Conn) error {
	if s.since != "" && (s.whole.IsZero() || time.Now().Before(s.whole)) {
		if err := s.syncSince(ctx, conn); err != nil || s.since != "" {
			return err
		}
	}
	since, err := s.catchUpAll(ctx, conn)
	if err != nil {
		return err
	}
	s.since, s.whole = since, time.Time{}
	if every := s.opts.SyncEvery; every > 0 {
		s.whole = time.Now().Add(every/2 + rand.N(every))
	}
	return nil
}

// syncSince reads what has come since s.since. It empties s.since if the server has no use for it.
func (s *Session) syncSince(ctx context.Context, conn *Conn) error {
	for {
		p, err := conn.SyncSince(ctx, s.since, s.ord.latest())
		if err != nil {
			return err
		}
		for _, page := range p.Threads {
			if err := s.changed(ctx, conn, &page); err != nil {
				return err
			}
		}
		if p.More && p.Since == s.since {
			return ErrProtocol
		}
		if s.since = p.Since; s.since == "" || !p.More {
			return nil
		}
	}
}

// changed takes a page of a thread that need not begin at the cursor.
func (s *Session) changed(ctx context.Context, conn *Conn, page *Page) error {
	thread := page.ThreadID
	if !page.More && page.Next < s.ord.cursor(thread) {
		return s.setBack(ctx, conn, thread, page.Next)
	}
	s.ord.expect(thread, page.Next)
	if err := s.handTexts(ctx, conn, thread, s.ord.push(thread, page.Messages)); err != nil {
		return err
	}
	if page.More || s.ord.hole(thread) {
		return s.pull(ctx, conn, thread)
	}
	return nil
}

// catchUpAll reads what was stored beyond the cursors of all threads: by one request as a rule, thread by thread if there are
// very many or the server cannot. It returns what the server gave for the moment before that.
func (s *Session) catchUpAll(ctx context.Context, conn *Conn) (since string, err error) {
	if len(s.ord.threads) <= syncCursors {
		since, err := s.sync(ctx, conn)
		if err == nil || fatal(ctx, conn) != nil {
			return since, err
		}
		switch CodeOf(err) {
		case CodeBusy, CodeUnavailable, CodeRateLimited:
			return "", err
		}
	}
	now, err := conn.Sync(ctx, nil, false)
	if err != nil && fatal(ctx, conn) != nil {
		return "", err
	}
	threads, err := conn.Threads(ctx)
	if err != nil {
		return "", err
	}
	for _, t := range threads {
		if t.LastID < s.ord.cursor(t.ID) {
			if err := s.setBack(ctx, conn, t.ID, t.LastID); err != nil {
				return "", err
			}
		}
		s.ord.expect(t.ID, t.LastID)
		if s.ord.hole(t.ID) {
			if err := s.pull(ctx, conn, t.ID); err != nil {
				return "", err
			}
		}
	}
	return now.Since, nil
}

// sync reads what lies beyond the cursors, and returns what the server gave for the moment of the first request.
func (s *Session) sync(ctx context.Context, conn *Conn) (since string, err error) {
	for first := true; ; first = false {
		p, err := conn.Sync(ctx, s.ord.cursors(), true)
		if err != nil {
			return "", err
		}
		if first {
			since = p.Since
		}
		moved := false
		for _, page := range p.Threads {
			before := s.ord.cursor(page.ThreadID)
			if page.Next < before {
				if err := s.setBack(ctx, conn, page.ThreadID, page.Next); err != nil {
					return "", err
				}
				moved = true
				continue
			}
			ready := s.ord.page(page.ThreadID, page.Messages, page.Next)
			moved = moved || s.ord.cursor(page.ThreadID) > before
			if err := s.handTexts(ctx, conn, page.ThreadID, ready); err != nil {
				return "", err
			}
		}
		if !p.More {
			return since, nil
		}
		if !moved {
			return "", ErrProtocol
		}
	}
}

// handTexts hands on texts that are in order; none is nothing.
func (s *Session) handTexts(ctx context.Context, conn *Conn, thread int64, msgs []Message) error {
	if len(msgs) == 0 {
		return nil
	}
	return s.hand(ctx, conn, Texts{ThreadID: thread, Messages: msgs})
}

// hand gives ev to Next, waiting for room. If the connection ends meanwhile ev stays in the backlog, and the session can
// keep its connection alive although no caller takes its events.
func (s *Session) hand(ctx context.Context, conn *Conn, ev Event) error {
	s.backlog = append(s.backlog, ev)
	return s.handOut(ctx, conn)
}

func (s *Session) handOut(ctx context.Context, conn *Conn) error {
	for len(s.backlog) > 0 {
		select {
		case s.out <- s.backlog[0]:
			s.backlog = s.backlog[1:]
		case <-conn.Done():
			return conn.Err()
		case <-ctx.Done():
			return ErrClosed
		}
	}
	s.backlog = nil
	return nil
}

// tell gives a change of state, Connected or Disconnected, to Next without waiting for room. If there is
// none it keeps only the newest, so that a program that reads events again learns the current state.
func (s *Session) tell(ev Event) {
	for len(s.backlog) > 0 && s.offer(s.backlog[0]) {
		s.backlog = s.backlog[1:]
	}
	if len(s.backlog) == 0 && s.offer(ev) {
		return
	}
	if n := len(s.backlog); n > 0 {
		switch s.backlog[n-1].(type) {
		case Connected, Disconnected:
			s.backlog = s.backlog[:n-1]
		}
	}
	s.backlog = append(s.backlog, ev)
}

// offer gives ev to Next if there is room.
func (s *Session) offer(ev Event) bool {
	select {
	case s.out <- ev:
		return true
	default:
		return false
	}
}
