// Package refill sends missed texts to sessions whose clients do not understand a gap notice.
package refill

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/internal/history"
	"parley/internal/legacy"
	"parley/internal/session"
	"parley/internal/slots"
	"parley/internal/store"
	"parley/internal/wire"
)

const (
	// maxSessions bounds the sessions being refilled at the same time, maxReads the concurrent reads of the store for
	// them.
	maxSessions = 4096
	maxReads    = 4
	// maxThreads bounds the threads waiting to be refilled for one session.
	maxThreads = 1024
	// readRows and readBytes bound one read. A thread with more than rowsAll missed rows is given up.
	readRows  = 50
	readBytes = 8 << 10
	rowsAll   = 5000
	// patience bounds the time spent on one thread of a session. While the session is not ready for more, its state
	// is polled once per pause.
	patience = time.Minute
	pause    = 50 * time.Millisecond
)

// A Refiller sends missed texts to sessions that do not understand a gap notice (2104): stock clients, and native
// clients without the capability. It leaves out what it knows a stock client to have.
type Refiller struct {
	d     Deps
	turns *slots.Slots

	mu      sync.Mutex                           // guards the following
	waiting map[*session.Session]map[int64]int64 // first missed number by thread; an entry exists while the session's goroutine runs
}

// Deps are the dependencies of a Refiller.
type Deps struct {
	Log     *slog.Logger
	Context context.Context // ends the work
	Go      func(func())    // starts a goroutine that the node waits for
	History func(ctx context.Context, thread, after int64, limit, maxBytes int) ([]store.Message, bool, error)
	Member  func(ctx context.Context, thread int64, uid int32) (bool, error)
	// Reload ends a session if nothing tells what it has missed; its client then loads everything at its next login.
	Reload func(*session.Session)
	// Refilled counts texts sent. GivenUp counts threads, or sessions, for which a bound was reached.
	Refilled, GivenUp prometheus.Counter
}

// New returns an idle Refiller.
func New(d Deps) *Refiller {
	return &Refiller{d: d, turns: slots.New(maxReads, maxSessions), waiting: make(map[*session.Session]map[int64]int64)}
}

// Add schedules the texts of a thread from number from on to be sent to s. Thread 0 stands for all threads that the
// client knows. Add does not block.
func (r *Refiller) Add(s *session.Session, thread, from int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	threads, running := r.waiting[s]
	at, known := threads[thread]
	switch {
	case known:
		from = min(from, at)
	case !running && len(r.waiting) >= maxSessions, len(threads) >= maxThreads:
		r.d.GivenUp.Inc()
		return
	case !running:
		threads = make(map[int64]int64)
		r.waiting[s] = threads
		r.d.Go(func() { r.work(s) })
	}
	threads[thread] = from
}

// next removes and returns a thread to refill. When none is left it removes the session's entry under the same lock,
// so that an Add that comes later starts a new goroutine.
func (r *Refiller) next(s *session.Session) (thread, from int64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for thread, from = range r.waiting[s] {
		delete(r.waiting[s], thread)
		return thread, from, true
	}
	delete(r.waiting, s)
	return 0, 0, false
}

// work refills the threads of one session until none is left.
func (r *Refiller) work(s *session.Session) {
	ended := false
	defer func() {
		if !ended { // after a panic: let the next Add start a new goroutine
			r.mu.Lock()
			delete(r.waiting, s)
			r.mu.Unlock()
		}
	}()
	for {
		thread, from, ok := r.next(s)
		if !ok {
			ended = true
			return
		}
		r.refill(s, thread, from)
	}
}

// refill sends the missing texts of one thread, or with thread 0 of all threads that the policy knows. A native
// session has no policy that knows, so it is ended instead.
func (r *Refiller) refill(s *session.Session, thread, from int64) {
	p := legacy.Of(s)
	switch {
	case thread != 0:
		r.thread(s, p, thread, from)
	case p == nil:
		r.d.Reload(s)
	default:
		for _, thread := range p.Known() {
			r.thread(s, p, thread, 1)
		}
	}
}

// thread sends the missing texts of one thread.
func (r *Refiller) thread(s *session.Session, p *legacy.Policy, thread, from int64) {
	ctx, cancel := context.WithTimeout(r.d.Context, patience)
	defer cancel()
	err := r.send(ctx, s, p, thread, from)
	if err != nil && s.State() == session.Live {
		r.d.GivenUp.Inc()
		r.d.Log.Warn("missed texts not sent; the next login shows them", "sid", s.SID(), "err", err)
	}
}

// send sends the missing texts of a thread page by page. Before each page it waits until the client has taken most of
// the one before, so that refilling never fills the session's queue.
func (r *Refiller) send(ctx context.Context, s *session.Session, p *legacy.Policy, thread, from int64) error {
	// A text that the client is about to load itself need not be sent.
	if err := r.await(ctx, s, func() bool { return p == nil || p.Settled(thread) }); err != nil {
		return err
	}
	member, err := r.d.Member(ctx, thread, s.UID())
	if err != nil || !member {
		return err
	}
	after := from - 1
	if p != nil {
		after = max(after, p.Floor(thread))
	}
	for rows := 0; rows < rowsAll; {
		page, more, err := r.read(ctx, thread, after)
		if err != nil || len(page) == 0 {
			return err
		}
		rows += len(page)
		after = page[len(page)-1].Seq
		r.push(s, p, page)
		if !more {
			return nil
		}
		room := func() bool {
			if p != nil {
				return p.Held() < legacy.MaxHeld/4
			}
			return s.Queued() < readBytes
		}
		if err := r.await(ctx, s, room); err != nil {
			return err
		}
	}
	return context.DeadlineExceeded
}

// await polls ok until it returns true. ok must be cheap.
func (r *Refiller) await(ctx context.Context, s *session.Session, ok func() bool) error {
	for !ok() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
		if s.State() != session.Live {
			return session.ErrClosed
		}
	}
	return nil
}

func (r *Refiller) read(ctx context.Context, thread, after int64) (page []store.Message, more bool, err error) {
	if err := r.turns.Take(ctx, patience); err != nil {
		return nil, false, err
	}
	defer r.turns.Give()
	return r.d.History(ctx, thread, after, readRows, readBytes)
}

// push sends the missing texts of a page that other users sent. Consecutive texts of one sender share a push.
func (r *Refiller) push(s *session.Session, p *legacy.Policy, page []store.Message) {
	var run []wire.SentText
	flush := func(from int32, thread int64) {
		if len(run) == 0 {
			return
		}
		// On an error the session has closed or will close; its next login loads these texts.
		_ = s.Push(&session.Push{
			To: s.UID(), From: from, ID: wire.MsgTextPush, Thread: thread, Seq: run[len(run)-1].Seq,
			Body: wire.AppendTextBody(nil, from, s.UID(), thread, run),
		})
		r.d.Refilled.Add(float64(len(run)))
		run = nil
	}
	for i := range page {
		m := &page[i]
		if i > 0 && m.Sender != page[i-1].Sender {
			flush(page[i-1].Sender, m.ThreadID)
		}
		if m.Kind == store.KindText && m.Sender != s.UID() && (p == nil || p.Lacks(m.ThreadID, m.Seq)) {
			t := history.Stored(m, history.View{Stock: p != nil})
			run = append(run, wire.SentText{UniqueID: t.UniqueID, Content: t.Content, Type: t.Type, Seq: t.MsgID, CreatedMS: t.CreatedMS})
		}
	}
	if len(page) > 0 {
		last := &page[len(page)-1]
		flush(last.Sender, last.ThreadID)
	}
}
