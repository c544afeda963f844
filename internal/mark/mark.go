// Package mark stores how far users have read and received threads, and tells the users concerned.
//
// Marks that arrive while a transaction runs share the next one. There is no timer: a lone mark is stored at once.
// Marks of the same user and thread become one row and one push per recipient, so a burst costs little more than its
// last mark. A lost push is not repeated, because clients also read marks with the list of threads.
package mark

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/internal/batch"
	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
)

// ErrBusy is the error of Raise if too many marks wait or Close was called.
var ErrBusy = errors.New("mark: too many marks wait")

// MaxTold is the size of the largest group whose authors are told who has read their texts.
const MaxTold = 100

// Store keeps the marks; *store.Marks implements it.
type Store interface {
	Raise(ctx context.Context, marks []store.Mark) ([]store.Marked, error)
	Authors(ctx context.Context, spans []store.Span) ([]store.Author, error)
}

// Config bounds the marks of a node. See DefaultConfig.
type Config struct {
	Waiting int           // marks in the queue
	Batch   int           // marks per transaction, at most store.MaxMarks
	MaxSQL  time.Duration // for one batch
}

// DefaultConfig returns the bounds of docs/LIMITS.md.
func DefaultConfig() Config {
	return Config{Waiting: 16384, Batch: store.MaxMarks, MaxSQL: 4 * time.Second}
}

// Deps are the dependencies of Marks.
type Deps struct {
	Log     *slog.Logger
	Metrics prometheus.Registerer // nil: registered nowhere
	Store   Store
	// Deliver delivers pushes to their users. It must not block.
	Deliver func([]session.Push, *session.Cork)
}

// Marks stores marks. New starts it; Close ends it. Its methods are safe for concurrent use.
type Marks struct {
	cfg     Config
	d       Deps
	metrics *metrics
	calls   *batch.Calls[*call]
	stop    chan struct{}
	closing sync.Once
	wg      sync.WaitGroup
}

// call is a mark sent by a session.
type call struct {
	batch.Part
	from session.SID
	mark store.Mark
	done store.Marked
}

// New starts Marks.
func New(cfg Config, d Deps) *Marks {
	m := &Marks{cfg: cfg, d: d, stop: make(chan struct{})}
	m.d.Log = d.Log.With("pkg", "mark")
	limits := batch.Limits{Items: cfg.Waiting, BatchItems: min(cfg.Batch, store.MaxMarks)}
	m.calls = batch.NewCalls(limits, m.stop, m.serve, m.panicked)
	m.metrics = newMetrics(d.Metrics, func() float64 { return float64(m.calls.Waiting()) })
	m.wg.Go(m.calls.Run)
	return m
}

// Close refuses waiting marks and returns when the last batch is done.
func (m *Marks) Close() {
	m.closing.Do(func() { close(m.stop) })
	m.wg.Wait()
}

// Raise stores a mark sent by a client, and after the commit returns the mark as stored. Its errors include ErrBusy
// and store.ErrNotMember. After any other error the mark may have been stored.
func (m *Marks) Raise(ctx context.Context, from session.SID, mark store.Mark) (store.Mark, error) {
	m.metrics.asked.Inc()
	c := &call{from: from, mark: mark}
	switch err := m.calls.Do(ctx, c, 1, true); {
	case errors.Is(err, batch.ErrFull), errors.Is(err, batch.ErrClosed):
		m.metrics.refused.Inc()
		return store.Mark{}, ErrBusy
	case err != nil:
		return store.Mark{}, err
	}
	return c.done.Mark, c.done.Err
}

func (m *Marks) panicked(p *batch.Panic) {
	m.metrics.panics.Inc()
	m.d.Log.Error("panic in a batch", "err", p.Value, "stack", string(p.Stack))
}

// wanted combines the calls of one user and thread.
type wanted struct {
	mark  store.Mark
	calls []*call
}

// serve stores a batch and pushes the marks that moved.
func (m *Marks) serve(calls []*call) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), m.cfg.MaxSQL)
	defer cancel()
	list := merge(calls)
	marks := make([]store.Mark, len(list))
	for i := range list {
		marks[i] = list[i].mark
	}
	stored, err := m.d.Store.Raise(ctx, marks)
	m.metrics.size.Observe(float64(len(marks)))
	m.metrics.seconds.Observe(time.Since(began).Seconds())
	if err != nil {
		m.metrics.failed.Add(float64(len(calls)))
		m.d.Log.Warn("marks not stored", "n", len(marks), "err", err)
		for _, c := range calls {
			c.Settle(err)
		}
		return
	}
	for i := range list {
		for _, c := range list[i].calls {
			c.done = stored[i]
		}
		if stored[i].Moved() {
			m.metrics.moved.Inc()
		}
	}
	m.push(ctx, list, stored)
}

// merge combines the calls into one element per user and thread. Marks only rise, so the highest of each is enough.
func merge(calls []*call) []wanted {
	list := make([]wanted, 0, len(calls))
	index := make(map[store.GroupKey]int, len(calls))
	for _, c := range calls {
		key := store.GroupKey{Thread: c.mark.Thread, UID: c.mark.UID}
		i, known := index[key]
		if !known {
			i = len(list)
			index[key] = i
			list = append(list, wanted{mark: c.mark})
		}
		w := &list[i]
		w.mark.Read, w.mark.Recv = max(w.mark.Read, c.mark.Read), max(w.mark.Recv, c.mark.Recv)
		w.calls = append(w.calls, c)
	}
	return list
}

// target is a recipient of marks: a user who is told of others' marks in a thread, or with own the user's other
// sessions.
type target struct {
	thread int64
	uid    int32
	own    bool
}

// told is what a target is told.
type told struct {
	skip  session.SID
	marks []wire.Mark
}

// push tells of each mark that moved: the user's other sessions; in a private thread the other member, if the two are
// friends; in a group of at most MaxTold members the authors of the texts read. Each target gets one push.
func (m *Marks) push(ctx context.Context, list []wanted, stored []store.Marked) {
	targets := make(map[target]*told)
	order := make([]target, 0, 2*len(list))
	tell := func(to target, skip session.SID, mark *store.Mark) {
		t := targets[to]
		if t == nil {
			t = &told{skip: skip}
			targets[to] = t
			order = append(order, to)
		}
		t.marks = append(t.marks, wire.Mark{UID: mark.UID, Read: mark.Read, Recv: mark.Recv})
	}
	for i := range stored {
		s := &stored[i]
		if s.Err != nil || !s.Moved() {
			continue
		}
		var skip session.SID
		if calls := list[i].calls; len(calls) == 1 {
			skip = calls[0].from // its reply contains the same
		}
		tell(target{s.Thread, s.UID, true}, skip, &s.Mark)
		if s.Peer != 0 {
			tell(target{s.Thread, s.Peer, false}, 0, &s.Mark)
		}
	}
	m.tellAuthors(ctx, stored, func(uid int32, mark *store.Mark) { tell(target{mark.Thread, uid, false}, 0, mark) })
	if len(order) == 0 {
		return
	}
	pushes := make([]session.Push, len(order))
	for i, to := range order {
		t := targets[to]
		pushes[i] = session.Push{
			To: to.uid, From: t.marks[0].UID, Skip: t.skip, ID: wire.MsgMarkPush, Thread: to.thread,
			Body: wire.AppendMarkPush(make([]byte, 0, 48+64*len(t.marks)), to.thread, t.marks),
		}
	}
	m.metrics.pushes.Add(float64(len(pushes)))
	var cork session.Cork
	defer cork.Release()
	m.d.Deliver(pushes, &cork)
}

// tellAuthors calls tell for each present author of texts of a small group that a member has just read.
func (m *Marks) tellAuthors(ctx context.Context, stored []store.Marked, tell func(uid int32, mark *store.Mark)) {
	spans := make(map[int64]store.Span)
	for i := range stored {
		s := &stored[i]
		if s.Err != nil || s.Members == 0 || s.Members > MaxTold || s.Read <= s.WasRead {
			continue
		}
		span, known := spans[s.Thread]
		if !known {
			span = store.Span{Thread: s.Thread, After: s.WasRead}
		}
		spans[s.Thread] = store.Span{Thread: s.Thread, After: min(span.After, s.WasRead), Upto: max(span.Upto, s.Read)}
	}
	if len(spans) == 0 {
		return
	}
	asked := make([]store.Span, 0, len(spans))
	for _, span := range spans {
		asked = append(asked, span)
	}
	authors, err := m.d.Store.Authors(ctx, asked)
	if err != nil {
		m.metrics.untold.Inc()
		m.d.Log.Warn("authors not read", "n", len(asked), "err", err)
		return
	}
	slices.SortFunc(authors, func(a, b store.Author) int { return cmp.Or(cmp.Compare(a.Thread, b.Thread), cmp.Compare(a.UID, b.UID)) })
	for i := range stored {
		s := &stored[i]
		if _, asked := spans[s.Thread]; !asked || s.Err != nil {
			continue
		}
		at, _ := slices.BinarySearchFunc(authors, s.Thread, func(a store.Author, id int64) int { return cmp.Compare(a.Thread, id) })
		last := s.UID // never told of its own mark; also skips repeated authors
		for ; at < len(authors) && authors[at].Thread == s.Thread; at++ {
			if a := &authors[at]; a.UID != last && a.UID != s.UID && a.Seq > s.WasRead && a.Seq <= s.Read {
				last = a.UID
				tell(a.UID, &s.Mark)
			}
		}
	}
}
