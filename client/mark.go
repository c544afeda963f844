package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"parley/internal/wire"
)

// ErrNoMarks refuses requests about read marks where the server did not grant the capability "marks", as older ones do not.
var ErrNoMarks = errors.New("client: the server does not support read marks")

// MaxUnread is where a server stops to count unread texts.
const MaxUnread = wire.MaxUnread

// Mark says how far a user has read a thread, and which message is the last that a device of the user has received. A user
// who writes has read what was before, whatever the mark says.
type Mark struct {
	UID        int32
	Read, Recv int64 // ids of messages
}

// ThreadMarks says how far this user, and the other user of a private thread, have come, as marked. The other user's marks
// are 0 unless the two are friends. All are 0 where the server does not support marks.
type ThreadMarks struct {
	Read, Recv         int64
	PeerRead, PeerRecv int64
	// Unread is how many texts of others there are above Read and above this user's own newest text; MaxUnread means that
	// many or more.
	Unread int
}

func threadMarksOf(m wire.ThreadMarks) ThreadMarks {
	return ThreadMarks{Read: m.Read, Recv: m.Recv, PeerRead: m.PeerRead, PeerRecv: m.PeerRecv, Unread: m.Unread}
}

// MarksMoved says that users have read or received more of a thread: another device of this user, the other user of a private
// thread, or members of a small group who have read texts of this user. It is a hint, which may be lost: Threads and Marks
// tell what is stored.
type MarksMoved struct {
	ThreadID int64
	Marks    []Mark // at least one
}

func (MarksMoved) event() {}

// merge adds what a later event of the same thread says.
func (m *MarksMoved) merge(later MarksMoved) {
	for _, l := range later.Marks {
		i := slices.IndexFunc(m.Marks, func(at Mark) bool { return at.UID == l.UID })
		if i < 0 {
			m.Marks = append(m.Marks, l)
			continue
		}
		m.Marks[i].Read, m.Marks[i].Recv = max(m.Marks[i].Read, l.Read), max(m.Marks[i].Recv, l.Recv)
	}
}

func marksOf(list []wire.Mark) []Mark {
	out := make([]Mark, len(list))
	for i, m := range list {
		out[i] = Mark(m)
	}
	return out
}

// Mark says that this user has read a thread up to one message and received it up to another; 0 says nothing. Marks are
// shared by all devices of the user and never move back. It returns the user's mark as it is stored then.
func (c *Conn) Mark(ctx context.Context, thread, read, recv int64) (Mark, error) {
	var reply wire.MarkReply
	err := c.requestFor(ctx, wire.CapMarks, "mark", wire.MsgMark, wire.MarkRequest{ThreadID: thread, Read: read, Recv: recv}, &reply)
	if err != nil {
		return Mark{}, err
	}
	return Mark{UID: c.welcome.UID, Read: reply.Read, Recv: reply.Recv}, nil
}

// Marks iterates over the marks of a thread, by ascending uid, asking for pages as needed: those of the members of a group,
// or of the two users of a private thread while they are friends. Users who have marked nothing are left out. While the
// server refuses for too many requests it waits and asks again, a few times; another error ends it.
func (c *Conn) Marks(ctx context.Context, thread int64) iter.Seq2[Mark, error] {
	return marks(ctx, thread, c.marksPage)
}

// marksPage asks for the marks above a uid.
func (c *Conn) marksPage(ctx context.Context, thread int64, after int32) (wire.MarksReply, error) {
	var reply wire.MarksReply
	err := c.requestFor(ctx, wire.CapMarks, "marks", wire.MsgMarks, wire.MarksRequest{ThreadID: thread, After: after, Limit: pageLimit}, &reply)
	if n := len(reply.Marks); err == nil && reply.LoadMore && (n == 0 || reply.Marks[n-1].UID <= after) {
		err = fmt.Errorf("marks: %w: the cursor stands still", ErrProtocol)
	}
	return reply, err
}

func marks(ctx context.Context, thread int64, page func(context.Context, int64, int32) (wire.MarksReply, error)) iter.Seq2[Mark, error] {
	return func(yield func(Mark, error) bool) {
		for after := int32(0); ; {
			reply, err := patiently(ctx, func() (wire.MarksReply, error) { return page(ctx, thread, after) })
			if err != nil {
				yield(Mark{}, err)
				return
			}
			for _, m := range reply.Marks {
				after = m.UID
				if !yield(Mark(m), nil) {
					return
				}
			}
			if !reply.LoadMore {
				return
			}
		}
	}
}

// Marks iterates over the marks of a thread; see [Conn.Marks].
func (s *Session) Marks(ctx context.Context, thread int64) iter.Seq2[Mark, error] {
	return marks(ctx, thread, func(ctx context.Context, thread int64, after int32) (wire.MarksReply, error) {
		return ask(ctx, s, func(c *Conn) (wire.MarksReply, error) { return c.marksPage(ctx, thread, after) })
	})
}

// Mark says that this user has read a thread up to a message, and waits until that is stored. It returns the user's mark.
func (s *Session) Mark(ctx context.Context, thread, read int64) (Mark, error) {
	return ask(ctx, s, func(c *Conn) (Mark, error) { return c.Mark(ctx, thread, read, 0) })
}

// MarkRead is Mark without the waiting: the session stores the newest mark of each thread when it can, at most once per
// second. What Next returns it marks as received by itself, in the same way.
func (s *Session) MarkRead(thread, read int64) { s.receipts.note(thread, read, 0) }

const (
	receiptEvery = time.Second            // between two marks of one thread
	receiptPause = 100 * time.Millisecond // between two marks, so that other requests have room
	// maxReceipts bounds the threads that wait for a mark. What is beyond is marked with the next message.
	maxReceipts = 4096
)

// The marks that wait when a session is closed get a last chance.
const (
	lastReceipts    = 32 // marks; the rest are made again by the next session
	lastReceiptWait = time.Second
)

// receipts sends a session's marks. The zero value is not usable; see init.
type receipts struct {
	wake chan struct{} // holds a token when there is something to send

	mu    sync.Mutex // guards the following
	wait  map[int64]wire.MarkRequest
	round map[int64]wire.MarkRequest // taken out of wait; run sends these, then pauses
}

func (r *receipts) init() {
	r.wake, r.wait = make(chan struct{}, 1), make(map[int64]wire.MarkRequest)
}

// note has a mark sent.
func (r *receipts) note(thread, read, recv int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, known := r.wait[thread]
	if !known && len(r.wait) >= maxReceipts {
		return
	}
	m.Read, m.Recv = max(m.Read, read), max(m.Recv, recv)
	r.wait[thread] = m
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// begin starts a round with all that waits.
func (r *receipts) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.round, r.wait = r.wait, make(map[int64]wire.MarkRequest)
}

// take removes a mark from the round. It returns false at the round's end.
func (r *receipts) take() (thread int64, m wire.MarkRequest, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for thread, m = range r.round {
		delete(r.round, thread)
		return thread, m, true
	}
	return 0, m, false
}

// rest removes everything that has not been sent, and returns it.
func (r *receipts) rest() map[int64]wire.MarkRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	rest := r.wait
	for thread, m := range r.round {
		newer := rest[thread]
		rest[thread] = wire.MarkRequest{Read: max(m.Read, newer.Read), Recv: max(m.Recv, newer.Recv)}
	}
	r.round, r.wait = nil, make(map[int64]wire.MarkRequest)
	return rest
}

// run sends marks until ctx or the session ends. A mark that cannot be stored for now is sent again.
func (r *receipts) run(ctx context.Context, s *Session) {
	for {
		select {
		case <-r.wake:
		case <-ctx.Done():
			return
		}
		r.begin()
		for {
			thread, m, ok := r.take()
			if !ok {
				break
			}
			conn, err := s.connected(ctx)
			if err != nil {
				return
			}
			_, err = conn.Mark(ctx, thread, m.Read, m.Recv)
			switch code := CodeOf(err); {
			case code == CodeBusy, code == CodeUnavailable, code == CodeRateLimited, err != nil && conn.Err() != nil:
				r.note(thread, m.Read, m.Recv)
			}
			if !pause(ctx, max(receiptPause, RetryAfter(err))) {
				return
			}
		}
		if !pause(ctx, receiptEvery) {
			return
		}
	}
}

// last sends what waits, at once: up to lastReceipts marks, for at most lastReceiptWait.
func (r *receipts) last(conn *Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), lastReceiptWait)
	defer cancel()
	var sent sync.WaitGroup
	n := 0
	for thread, m := range r.rest() {
		if n++; n > lastReceipts {
			break
		}
		sent.Go(func() { _, _ = conn.Mark(ctx, thread, m.Read, m.Recv) }) // the next session marks again what failed
	}
	sent.Wait()
}

// pause waits and reports whether ctx still lives.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
