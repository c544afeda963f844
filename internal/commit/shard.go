package commit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/trace"
	"slices"
	"sync"
	"time"

	"parley/internal/batch"
	"parley/internal/group"
	"parley/internal/recent"
	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
)

// minSQL is the minimum time a batch gets, however long its oldest request has waited.
const minSQL = 250 * time.Millisecond

// A shard commits the texts of its share of the threads, one transaction at a time.
type shard struct {
	c     *Committer
	index int // among the committer's shards

	queue *batch.Queue[*Request] // a request's weight is its number of texts

	mu    sync.Mutex // guards the following
	delay delay

	// Owned by run and reused for each batch.
	members *recent.Map[int64, member]         // by thread
	writers *recent.Map[store.GroupKey, int32] // membership versions under which group members may write
	missing []int64
	batch   []*Request
	msgs    []store.NewMessage
	stored  []store.Appended
	where   []place
	pushes  []session.Push
	rows    []group.Rows
	texts   []wire.StoredText // scratch: texts of one push of rows
	order   []int             // scratch: indices of group rows in msgs, sorted by group
	frame   []byte
	cork    session.Cork
}

// place says which text of which request a row of msgs holds.
type place struct{ req, text int }

func newShard(c *Committer, index int) *shard {
	s := &shard{
		c: c, index: index,
		queue: batch.NewQueue[*Request](batch.Limits{BatchWeight: c.cfg.Batch}), members: recent.New[int64, member](maxMembers),
		writers: recent.New[store.GroupKey, int32](maxMembers),
	}
	s.delay.target, s.delay.recovery = c.cfg.Target, c.cfg.Recovery
	return s
}

// enqueue queues a request. It refuses if the texts would wait too long, and if the shard is closed, because no answer
// would follow.
func (s *shard) enqueue(req *Request) error {
	s.mu.Lock()
	// The queue may change between this call and Put below; the prediction tolerates that.
	_, waiting := s.queue.Waiting()
	retry := s.delay.admit(req.queued, len(req.Texts), waiting, s.c.cfg.Batch)
	s.mu.Unlock()
	if retry > 0 {
		s.c.metrics.shed.Inc()
		return &BusyError{RetryAfter: retry}
	}
	if !s.queue.Put(req, len(req.Texts)) {
		s.c.metrics.refused.Inc()
		return errFull
	}
	return nil
}

func (s *shard) run() {
	s.queue.Run(nil, s.commit, s.panicked)
}

// commit stores one batch, delivers it and answers each request exactly once, even if a step panics.
func (s *shard) commit(requests []*Request) {
	s.batch = requests
	if trace.IsEnabled() {
		trace.Log(context.Background(), "texts taken", fmt.Sprintf("%d %d", s.index, len(requests)))
	}
	s.guard(s.decide)
	answering := trace.StartRegion(context.Background(), "answer")
	for _, r := range requests {
		s.guard(func() { s.answer(r) })
	}
	s.cork.Release() // pushes and answers to one session share a write
	answering.End()
	clear(s.msgs) // an idle shard must not keep texts alive
}

func (s *shard) guard(f func()) {
	if p := batch.Try(f); p != nil {
		s.panicked(s.batch, p)
	}
}

func (s *shard) panicked(_ []*Request, p *batch.Panic) {
	s.c.metrics.panics.Inc()
	s.c.deps.Log.Error("panic in a batch", "err", p.Value, "stack", string(p.Stack))
}

// decide settles the outcome of each text of the batch, and delivers the stored ones.
func (s *shard) decide() {
	now := time.Now()
	boot := s.c.deps.Boot()
	for _, r := range s.batch {
		if r.prepare(); r.Boot != boot {
			// The node was fenced off after this session logged in. The user may have logged in elsewhere since, so a
			// text from the old session must not be stored.
			r.refuse(wire.CodeUnavailable)
			s.c.metrics.stranded.Inc()
		}
	}
	oldest := now
	for _, r := range s.batch {
		if now.Sub(r.queued) > s.c.cfg.MaxWait {
			r.refuse(wire.CodeBusy)
			s.c.metrics.late.Inc()
			continue // its age must not shorten the timeout of the others
		}
		if r.queued.Before(oldest) {
			oldest = r.queued
		}
	}
	timeout := max(min(s.c.cfg.MaxSQL, s.c.cfg.MaxWait-now.Sub(oldest)), minSQL)
	// The context is not derived from any request: the batch serves many, and no single one may cancel it.
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()

	trace.WithRegion(ctx, "authorise", func() { s.authorise(ctx) })
	s.store(ctx, boot)
}

// prepare initialises the outcome of each text, and refuses invalid texts and those over the sender's limit.
func (r *Request) prepare() {
	r.sent = r.one[:0]
	if n := len(r.Texts); n > 1 {
		r.sent = make([]wire.SentText, 0, n)
	}
	for i := range r.Texts {
		t := &r.Texts[i]
		code := t.Fault()
		if code == wire.CodeOK && i >= len(r.Texts)-r.Over {
			code = wire.CodeRateLimited
		}
		r.sent = append(r.sent, wire.SentText{UniqueID: t.UniqueID, Content: t.Content, Type: t.Type, Code: code})
	}
}

// pending reports whether any text of the request is not refused yet.
func (r *Request) pending() bool {
	for i := range r.sent {
		if r.sent[i].Code == wire.CodeOK {
			return true
		}
	}
	return false
}

// refuse sets the code of every text that is not refused yet.
func (r *Request) refuse(code wire.Code) {
	for i := range r.sent {
		if r.sent[i].Code == wire.CodeOK {
			r.sent[i].Code = code
		}
	}
}

// store appends the texts that were not refused, under the given boot id, and records the outcome of each.
func (s *shard) store(ctx context.Context, boot string) {
	s.msgs, s.where = s.msgs[:0], s.where[:0]
	for ri, r := range s.batch {
		for ti := range r.sent {
			if t := &r.sent[ti]; t.Code == wire.CodeOK {
				s.msgs = append(s.msgs, store.NewMessage{
					ThreadID: r.Thread, Sender: r.From.UID(), MemberVer: r.ver, UniqueID: t.UniqueID, Content: t.Content, Type: t.Type,
				})
				s.where = append(s.where, place{ri, ti})
			}
		}
	}
	if len(s.msgs) == 0 {
		return
	}
	if cap(s.stored) < len(s.msgs) {
		s.stored = make([]store.Appended, len(s.msgs))
	}
	s.stored = s.stored[:len(s.msgs)]
	clear(s.stored)

	began := time.Now()
	err := s.c.deps.Store.Append(ctx, s.c.deps.Node, boot, s.msgs, s.stored)
	took := time.Since(began)
	s.c.metrics.seconds.Observe(took.Seconds())
	s.c.metrics.size.Observe(float64(len(s.msgs)))
	if errors.Is(err, store.ErrFenced) && s.c.deps.Fenced != nil {
		s.c.deps.Fenced(boot)
	}
	if err != nil {
		s.c.deps.Log.Warn("texts not stored", "n", len(s.msgs), "err", err, "dur", took)
	} else {
		s.mu.Lock()
		s.delay.note(took) // a failure does not tell how fast texts are stored
		s.mu.Unlock()
	}
	// A call that failed may still have stored some texts: each row has its own outcome. An outdated version means
	// that the membership changed since it was cached.
	for i, at := range s.where {
		t, got := &s.batch[at.req].sent[at.text], &s.stored[i]
		if m := &s.msgs[i]; got.MemberVer != m.MemberVer {
			if s.batch[at.req].group {
				s.writers.Delete(store.GroupKey{Thread: m.ThreadID, UID: m.Sender})
			} else {
				s.members.Delete(m.ThreadID)
			}
		}
		if errors.Is(got.Err, store.ErrMayNotWrite) {
			s.c.metrics.denied.Inc()
			t.Code = wire.CodeNotAllowed
			continue
		}
		if got.Seq == 0 {
			s.c.metrics.failed.Inc()
			if t.Code = wire.CodeUnavailable; err == nil {
				t.Code = codeOf(got.Err)
				s.c.deps.Log.Warn("text not stored", "err", got.Err)
			}
			continue
		}
		t.Seq, t.CreatedMS = got.Seq, got.CreatedMS
		if got.Resent {
			s.c.metrics.resent.Inc()
		} else {
			s.c.metrics.stored.Inc()
		}
	}
	trace.WithRegion(ctx, "push", s.deliver)
}

// codeOf distinguishes a text that can never be stored from an internal failure.
func codeOf(err error) wire.Code {
	switch {
	case errors.Is(err, store.ErrUniqueIDTaken), errors.Is(err, store.ErrInvalid):
		return wire.CodeBadRequest
	case errors.Is(err, store.ErrThreadFull), errors.Is(err, store.ErrNotFound):
		return wire.CodeNotAllowed
	}
	return wire.CodeInternal
}

// deliver hands the stored texts to the router, one push per request. It pushes resent texts too: the call that
// stored them first may have failed before the push, here or on another node, and nothing records whether it did.
// Pushing twice is safe, because clients, or the node on behalf of stock clients, recognise a repeat by its number.
func (s *shard) deliver() {
	s.pushes = s.pushes[:0]
	row, groups := 0, false
	for ri, r := range s.batch {
		if r.group {
			groups = true
			for row < len(s.where) && s.where[row].req == ri {
				row++
			}
			continue
		}
		fresh := 0
		last := int64(0)
		all := true
		for ti := range r.sent {
			isRow := row < len(s.where) && s.where[row] == (place{ri, ti})
			if isRow && s.pushable(row) {
				fresh++
				last = max(last, r.sent[ti].Seq)
			} else {
				all = false
			}
			if isRow {
				row++
			}
		}
		if fresh == 0 {
			continue
		}
		texts := r.sent
		if !all {
			texts = s.fresh(ri)
		}
		// Reserve 128 bytes for the envelope and 176 per text plus its content, so that the body is usually one
		// allocation.
		size := 128
		for i := range texts {
			size += 176 + len(texts[i].Content)
		}
		body := wire.AppendTextBody(make([]byte, 0, size), r.From.UID(), r.peer, r.Thread, texts)
		s.pushes = append(s.pushes, session.Push{
			To: r.peer, ID: wire.MsgTextPush, From: r.From.UID(), Thread: r.Thread, Seq: last, Body: body,
		})
		if !r.From.Alone() {
			s.pushes = append(s.pushes, s.toOwn(r, texts))
		}
	}
	if len(s.pushes) > 0 {
		s.c.deps.Deliver(s.pushes, &s.cork)
	}
	clear(s.pushes)
	if groups {
		s.publish()
	}
}

// toOwn returns the push of texts to the sender's other sessions. Only sessions whose clients understand rows receive
// it.
func (s *shard) toOwn(r *Request, texts []wire.SentText) session.Push {
	s.texts = s.texts[:0]
	first, last, size := texts[0].Seq, int64(0), 64
	for i := range texts {
		t := &texts[i]
		first, last = min(first, t.Seq), max(last, t.Seq)
		s.texts = append(s.texts, wire.StoredText{
			Sender: r.From.UID(), MsgID: t.Seq, ThreadID: r.Thread, UniqueID: t.UniqueID, Content: t.Content, CreatedMS: t.CreatedMS,
			Type: t.Type,
		})
		size += 192 + len(t.UniqueID) + len(t.Content)
	}
	slices.SortFunc(s.texts, func(a, b wire.StoredText) int { return cmp.Compare(a.MsgID, b.MsgID) }) // a resent text may have a lower number
	body := wire.AppendRowPush(make([]byte, 0, size), r.Thread, s.texts)
	clear(s.texts)
	return session.Push{
		To: r.From.UID(), ID: wire.MsgRowPush, From: r.From.UID(), Thread: r.Thread, First: first, Seq: last, Body: body, Skip: r.From.SID(),
	}
}

// maxRows bounds the body of a push of group rows in bytes, unless a single text is longer.
const maxRows = 16 << 10

// publish hands group rows on in as few pushes as possible. All rows of a push were stored under the same membership
// version and follow each other, so a member may read either all of them or none. A resent text has a push of its
// own, because its number lies in the past.
func (s *shard) publish() {
	s.order, s.rows = s.order[:0], s.rows[:0]
	for i, at := range s.where {
		if s.batch[at.req].group && s.pushable(i) {
			s.order = append(s.order, i)
		}
	}
	slices.SortStableFunc(s.order, func(a, b int) int { return cmp.Compare(s.msgs[a].ThreadID, s.msgs[b].ThreadID) })
	for from := 0; from < len(s.order); {
		to := from + 1
		for size := s.rowSize(from); to < len(s.order) && s.together(to-1, to); to++ {
			if size += s.rowSize(to); size > maxRows {
				break
			}
		}
		s.encode(s.order[from:to])
		from = to
	}
	if len(s.rows) > 0 {
		s.c.deps.Publish(s.rows...)
	}
	clear(s.rows)
}

// rowSize estimates the size of a row in a push; it ignores escaping.
func (s *shard) rowSize(i int) int {
	m := &s.msgs[s.order[i]]
	return 176 + len(m.UniqueID) + len(m.Content)
}

// together reports whether two rows may share a push.
func (s *shard) together(i, j int) bool {
	a, b := s.order[i], s.order[j]
	x, y := &s.stored[a], &s.stored[b]
	return s.msgs[a].ThreadID == s.msgs[b].ThreadID && x.MemberVer == y.MemberVer && !x.Resent && !y.Resent
}

// encode appends a push of rows of one group. If escaping makes the push much longer than estimated, it splits the
// rows.
func (s *shard) encode(rows []int) {
	s.texts = s.texts[:0]
	first, size := &s.stored[rows[0]], 64
	out := group.Rows{Thread: s.msgs[rows[0]].ThreadID, Ver: first.MemberVer, First: first.Seq}
	for n, i := range rows {
		m, got, from := &s.msgs[i], &s.stored[i], s.batch[s.where[i].req].From
		if sid := from.SID(); n == 0 {
			out.Skip = sid
		} else if out.Skip != sid {
			out.Skip = 0
		}
		out.First, out.Last = min(out.First, got.Seq), max(out.Last, got.Seq)
		s.texts = append(s.texts, wire.StoredText{
			Sender: m.Sender, MsgID: got.Seq, ThreadID: m.ThreadID, UniqueID: m.UniqueID, Content: m.Content, CreatedMS: got.CreatedMS,
			Type: m.Type,
		})
		size += 192 + len(m.UniqueID) + len(m.Content)
	}
	out.Body = wire.AppendGroupPush(make([]byte, 0, size), out.Thread, out.Ver, s.texts)
	clear(s.texts)
	if half := len(rows) / 2; half > 0 && len(out.Body) > 2*maxRows {
		s.encode(rows[:half])
		s.encode(rows[half:])
		return
	}
	s.rows = append(s.rows, out)
}

// pushable reports whether a row of the batch is to be pushed. It must be stored, and must not repeat an earlier row
// of the batch. A resent text is answered even if its sender may no longer write, but it is pushed only while the
// sender may. A text that was edited or recalled since is not pushed: the row that announces the change came after it
// and must not be overtaken by the old content.
func (s *shard) pushable(row int) bool {
	got := &s.stored[row]
	if got.Changed {
		return false
	}
	if got.Seq == 0 || !got.Resent {
		return got.Seq > 0
	}
	if got.MemberVer != s.msgs[row].MemberVer {
		return false
	}
	for i := range row { // resends are few
		if s.stored[i].Seq == got.Seq && s.msgs[i].ThreadID == s.msgs[row].ThreadID {
			return false
		}
	}
	return true
}

// fresh returns the texts of one request that are to be pushed.
func (s *shard) fresh(req int) []wire.SentText {
	var texts []wire.SentText
	for i, at := range s.where {
		if at.req == req && s.pushable(i) {
			texts = append(texts, s.batch[req].sent[at.text])
		}
	}
	return texts
}

// answer sends the reply (1018) to a request. It first returns the request's share of the bounds, so that the
// client's next request finds room.
func (s *shard) answer(r *Request) {
	s.c.release(r)
	s.c.metrics.wait.Observe(time.Since(r.queued).Seconds())
	to := r.To
	if r.peer != 0 {
		to = r.peer
	} else if r.group {
		to = 0
	}
	for i := range r.sent {
		if t := &r.sent[i]; t.Seq == 0 && t.Code == wire.CodeOK {
			t.Code = wire.CodeInternal // a panic left the text without an outcome
		}
	}
	if r.RetryMS > 0 {
		s.frame = wire.AppendTextRefusal(s.frame[:0], r.From.UID(), to, r.Thread, r.sent, r.RetryMS)
	} else {
		s.frame = wire.AppendTextReply(s.frame[:0], r.From.UID(), to, r.Thread, r.sent)
	}
	r.From.Answer(s.frame, r, &s.cork)
}
