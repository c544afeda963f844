package group

import (
	"context"
	"errors"
	"math"

	"parley/internal/batch"
	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
)

// item waits in a lane for the members on this node. It holds rows or, without a body, the notice that rows from
// rows.First on were dropped.
type item struct{ rows Rows }

// home is a lane that writes rows to sessions of this node.
type home struct {
	*shared
	owed  *owed
	queue *batch.Queue[item]

	// Owned by run, and kept between batches.
	works   []work
	at      map[int64]int // of a group in works
	targets []target
	uids    []int32
	frames  []byte
	ends    []int // of each item's frame in frames
}

// work is what waits for one group.
type work struct {
	thread int64
	items  []item
	ver    int32 // the latest version of items
	notice int64 // first number of dropped rows; 0: none
}

func newHome(s *shared, o *owed) *home {
	return &home{shared: s, owed: o, at: make(map[int64]int), queue: batch.NewQueue[item](batch.Limits{
		Items: s.cfg.LaneItems, Weight: s.cfg.LaneBytes, BatchItems: s.cfg.Batch, BatchWeight: s.cfg.BatchSize,
	})}
}

func (h *home) enqueue(it item) {
	if !h.queue.Put(it, len(it.rows.Body)) {
		h.metrics.overflows.Inc()
		h.owed.add(it.rows.Thread, it.rows.First)
	}
}

func (h *home) run() { h.queue.Run(h.ctx.Done(), h.deliver, h.failed) }

func (h *home) failed(items []item, p *batch.Panic) {
	h.panicked(p)
	for i := range items {
		h.owed.add(items[i].rows.Thread, items[i].rows.First)
	}
}

// deliver writes one batch, starting with the groups whose index is fresh. After one membership could not be read, it
// does not try to read others, because the lane would wait for each of them.
func (h *home) deliver(items []item) {
	h.sort(items)
	stale := 0
	for i := range h.works {
		if w := &h.works[i]; !h.write(w) {
			h.works[stale], h.works[i] = h.works[i], h.works[stale]
			stale++
		}
	}
	failed := false
	for i := range h.works[:stale] {
		w := &h.works[i]
		if failed = failed || !h.refresh(w); failed || !h.write(w) {
			h.owed.add(w.thread, w.first())
		}
	}
	for i := range h.works {
		clear(h.works[i].items)
	}
}

// sort groups the items by group.
func (h *home) sort(items []item) {
	clear(h.at)
	h.works = h.works[:0]
	for i := range items {
		r := &items[i].rows
		at, known := h.at[r.Thread]
		if !known {
			at = len(h.works)
			h.at[r.Thread] = at
			if at < cap(h.works) { // reuse the items of an earlier batch
				h.works = h.works[:at+1]
				h.works[at] = work{thread: r.Thread, items: h.works[at].items[:0]}
			} else {
				h.works = append(h.works, work{thread: r.Thread})
			}
		}
		w := &h.works[at]
		if r.Body == nil {
			w.notice = min(r.First, orMax(w.notice))
			w.ver = math.MaxInt32 // who may be told is known only after a refresh
			continue
		}
		w.items = append(w.items, items[i])
		w.ver = max(w.ver, r.Ver)
	}
}

func orMax(n int64) int64 {
	if n == 0 {
		return math.MaxInt64
	}
	return n
}

// first returns the lowest number that waits.
func (w *work) first() int64 {
	first := orMax(w.notice)
	for i := range w.items {
		first = min(first, w.items[i].rows.First)
	}
	return first
}

// write writes what waits to the members. It returns false if the index must be refreshed first.
func (h *home) write(w *work) bool {
	var fresh bool
	if h.targets, fresh = h.index.targets(h.targets[:0], w.thread, w.ver); !fresh {
		return false
	}
	h.writeTo(w, h.targets)
	clear(h.targets)
	return true
}

// writeTo writes what waits to sessions. Sessions that may read all of it share one buffer.
func (h *home) writeTo(w *work, targets []target) {
	if len(targets) == 0 {
		return
	}
	h.frames, h.ends = h.frames[:0], h.ends[:0]
	first, last, skip := int64(math.MaxInt64), int64(0), false
	for i := range w.items {
		r := &w.items[i].rows
		h.frames = appendFrame(h.frames, r.Body)
		h.ends = append(h.ends, len(h.frames))
		first, last, skip = min(first, r.First), max(last, r.Last), skip || r.Skip != 0
	}
	writes, pushes := 0, 0
	for i := range targets {
		t := &targets[i]
		if int64(t.from) <= first && (t.to == 0 || last <= int64(t.to)) && !(skip && h.skips(w, t.s)) {
			if len(w.items) > 0 && t.s.PushFrames(h.frames, w.thread, first) == nil {
				writes++
				pushes += len(w.items)
			}
		} else {
			n := h.some(w, t)
			writes += n
			pushes += n
		}
		if w.notice > 0 {
			h.tell(t.s, w.thread, max(w.notice, int64(t.from)))
		}
	}
	h.metrics.writes.Add(float64(writes))
	h.metrics.rows.Add(float64(pushes))
}

func (h *home) skips(w *work, s *session.Session) bool {
	for i := range w.items {
		if w.items[i].rows.Skip == s.SID() {
			return true
		}
	}
	return false
}

// some writes those rows to a session that it may read and does not know yet.
func (h *home) some(w *work, t *target) (n int) {
	for i := range w.items {
		r := &w.items[i].rows
		if r.First < int64(t.from) && r.Last >= int64(t.from) && t.to == 0 {
			h.tell(t.s, w.thread, r.Last) // the row changes a text that the member may not read: the store serves it without the content
		}
		if r.First < int64(t.from) || t.to != 0 && r.Last > int64(t.to) || r.Skip != 0 && r.Skip == t.s.SID() {
			continue
		}
		at := h.ends[i] - len(r.Body) - wire.HeaderLen
		if t.s.PushFrames(h.frames[at:h.ends[i]], w.thread, r.First) == nil {
			n++
		}
	}
	return n
}

// refreshes is the maximum number of reads of a membership per batch. More than one is needed if it changes
// meanwhile, or if a login adds an entry from an older read.
const refreshes = 3

// refresh brings the index of a group up to the version of the waiting rows, and writes to members who have left what
// they may still read. It returns false if that failed.
func (h *home) refresh(w *work) bool {
	notice := w.ver == math.MaxInt32
	for range refreshes {
		ver, ok := h.read(w)
		switch {
		case !ok:
			return false
		case notice:
			w.ver = 0
			for i := range w.items {
				w.ver = max(w.ver, w.items[i].rows.Ver)
			}
			notice = false
		}
		if ver >= w.ver {
			return true
		}
	}
	return false
}

// read reads the membership of the local users once, and returns the version that the index has afterwards.
func (h *home) read(w *work) (ver int32, ok bool) {
	if h.uids = h.index.begin(h.uids[:0], w.thread); len(h.uids) == 0 {
		return math.MaxInt32, true // no sessions are left here
	}
	ctx, cancel := context.WithTimeout(h.ctx, h.cfg.Timeout)
	defer cancel()
	h.metrics.refreshes.Inc()
	var members map[int32]store.Membership
	var err error
	// Deferred, because the refresh must also end after a panic.
	defer func() {
		var left []target
		left, ver = h.index.end(w.thread, ver, members, ok, h.since())
		h.writeTo(w, left)
		for i := range left {
			h.tell(left[i].s, w.thread, min(w.first(), int64(left[i].to)))
		}
	}()
	ver, members, err = h.d.Store.LocalMembers(ctx, w.thread, h.uids)
	if errors.Is(err, store.ErrNotFound) {
		return math.MaxInt32 - 1, true // the group has no members
	}
	if err != nil {
		if h.ctx.Err() == nil {
			h.metrics.refreshFailures.Inc()
			h.log.Warn("members not read", "thread", w.thread, "n", len(h.uids), "err", err)
		}
		return 0, false
	}
	return ver, true
}

func appendFrame(dst, body []byte) []byte {
	return append(wire.AppendHeader(dst, wire.MsgGroupPush, len(body)), body...)
}
