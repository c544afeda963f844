package group

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"parley/internal/batch"
	"parley/internal/presence"
)

// holdBatch is the number of interests per write.
const holdBatch = 256

// interests keeps written to Redis which groups have members on this node.
type interests struct {
	*shared
	owed *owed
	wake chan struct{} // holds a token while interests wait to be written

	mu    sync.Mutex         // guards the following
	dirty map[int64]struct{} // groups whose interest could not be written; their members get a gap notice when it is
	lost  bool               // all interests must be written again
}

func newInterests(s *shared, o *owed) *interests {
	is := &interests{shared: s, owed: o, wake: make(chan struct{}, 1), dirty: make(map[int64]struct{})}
	s.wg.Go(is.keep)
	return is
}

// hold writes the interests in groups unless they are known to be written. If that fails, keep repeats it later.
func (is *interests) hold(ctx context.Context, threads []int64) error {
	is.index.enterLife(is.d.Boot())
	entries, epoch := is.index.interests(nil, threads, is.d.Node, false)
	if len(entries) == 0 {
		return nil
	}
	is.metrics.interests.Add(float64(len(entries)))
	if _, err := is.d.Interest.Hold(ctx, entries); err != nil {
		is.metrics.interestFailures.Inc()
		is.soil(entries)
		is.wakeUp()
		return err
	}
	is.index.noteHeld(entries, epoch)
	return nil
}

// rewrite has all interests written again, because Redis has lost its data. Until then the other nodes send this node
// the rows of all groups.
func (is *interests) rewrite() {
	is.index.lost()
	is.mu.Lock()
	is.lost = true
	is.mu.Unlock()
	is.wakeUp()
}

func (is *interests) wakeUp() {
	select {
	case is.wake <- struct{}{}:
	default:
	}
}

// keep writes the interests in all groups periodically, until Close.
func (is *interests) keep() {
	pass := &pass{}
	timer := time.NewTimer(is.cfg.Pass)
	defer timer.Stop()
	for {
		select {
		case <-is.ctx.Done():
			return
		case <-is.wake:
		case <-timer.C:
		}
		wait := time.Second
		if p := batch.Try(func() { wait = is.step(pass) }); p != nil {
			is.panicked(p)
		}
		timer.Reset(wait)
	}
}

// pass holds what remains to be done to write all interests once.
type pass struct {
	threads []int64
	pause   time.Duration // between two parts
	tell    telling
	failed  bool
}

// step writes some interests and returns the time until the next step. Interests that a login could not write come
// first. After a failure all interests are written without pauses, because Redis may have lost some when it comes
// back.
func (is *interests) step(p *pass) time.Duration {
	is.mu.Lock()
	hurry, late := is.lost || p.failed, p.failed
	is.lost = false
	dirty := slices.Collect(maps.Keys(is.dirty))
	clear(is.dirty)
	is.mu.Unlock()
	p.failed = false
	for part := range slices.Chunk(dirty, holdBatch) {
		p.failed = !is.write(part, tellAll) || p.failed
	}
	if hurry || len(p.threads) == 0 {
		p.threads, p.tell = is.begin(), tellLost
		p.pause = is.cfg.Pass / time.Duration(len(p.threads)/holdBatch+1)
		if hurry {
			p.pause = 0
		}
		if late {
			p.tell = tellAdded
		}
	}
	part := p.threads[:min(holdBatch, len(p.threads))]
	if p.failed = !is.write(part, p.tell) || p.failed; p.failed {
		return 4 * is.cfg.Retry
	}
	if p.threads = p.threads[len(part):]; len(p.threads) == 0 {
		return max(p.pause, is.cfg.Pass/64)
	}
	return p.pause
}

// telling selects the groups whose members get a gap notice, because rows may not have been sent to this node.
type telling int

const (
	tellLost  telling = iota // groups whose interest had been written but was missing in Redis
	tellAdded                // all groups whose interest was missing in Redis
	tellAll
)

// begin returns all groups with members here, and drops the interests in groups that have had none for a while.
func (is *interests) begin() []int64 {
	threads, dropped := is.index.threads(is.d.Node, is.since()-is.cfg.Linger)
	for part := range slices.Chunk(dropped, holdBatch) {
		ctx, cancel := context.WithTimeout(is.ctx, is.cfg.Timeout)
		if err := is.d.Interest.Drop(ctx, part); err != nil {
			is.log.Debug("interests not dropped", "n", len(part), "err", err) // harmless: this node is sent rows that no session here reads
		}
		cancel()
	}
	return threads
}

// write writes interests and schedules gap notices as tell says. It returns false if the write failed.
func (is *interests) write(threads []int64, tell telling) bool {
	is.index.enterLife(is.d.Boot())
	entries, epoch := is.index.interests(nil, threads, is.d.Node, true)
	if len(entries) == 0 {
		return true
	}
	held := is.index.heldOf(entries)
	ctx, cancel := context.WithTimeout(is.ctx, is.cfg.Timeout)
	defer cancel()
	is.metrics.interests.Add(float64(len(entries)))
	added, err := is.d.Interest.Hold(ctx, entries)
	if err != nil {
		if is.ctx.Err() == nil {
			is.metrics.interestFailures.Inc()
			is.log.Warn("interests not written, retrying", "n", len(entries), "err", err)
		}
		if tell == tellAll {
			is.soil(entries)
		}
		return false
	}
	is.index.noteHeld(entries, epoch)
	for i := range entries {
		if added[i] && held[i] {
			is.metrics.interestsLost.Inc()
		}
		if tell == tellAll || added[i] && (held[i] || tell == tellAdded) {
			is.owed.add(entries[i].Thread, 1)
		}
	}
	return true
}

// soil marks interests that could not be written.
func (is *interests) soil(entries []presence.GroupEntry) {
	is.mu.Lock()
	defer is.mu.Unlock()
	for i := range entries {
		is.dirty[entries[i].Thread] = struct{}{}
	}
}
