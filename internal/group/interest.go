package group

import (
	"context"
	"maps"
	"slices"
	"time"

	"parley/internal/batch"
	"parley/internal/presence"
)

// holdBatch is the number of interests per write.
const holdBatch = 256

// Rewrite has all interests written again, because Redis has lost its data. Until then the other nodes send this node
// the rows of all groups.
func (g *Groups) Rewrite() {
	g.index.lost()
	g.mu.Lock()
	g.lost = true
	g.mu.Unlock()
	g.wakeUp()
}

func (g *Groups) wakeUp() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// keepInterests writes the interests in all groups periodically, until Close.
func (g *Groups) keepInterests() {
	pass := &pass{}
	timer := time.NewTimer(g.cfg.Pass)
	defer timer.Stop()
	for {
		select {
		case <-g.ctx.Done():
			return
		case <-g.wake:
		case <-timer.C:
		}
		wait := time.Second
		if p := batch.Try(func() { wait = g.step(pass) }); p != nil {
			g.panicked(p)
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
func (g *Groups) step(p *pass) time.Duration {
	g.mu.Lock()
	hurry, late := g.lost || p.failed, p.failed
	g.lost = false
	dirty := slices.Collect(maps.Keys(g.dirty))
	clear(g.dirty)
	g.mu.Unlock()
	p.failed = false
	for part := range slices.Chunk(dirty, holdBatch) {
		p.failed = !g.write(part, tellAll) || p.failed
	}
	if hurry || len(p.threads) == 0 {
		p.threads, p.tell = g.begin(), tellLost
		p.pause = g.cfg.Pass / time.Duration(len(p.threads)/holdBatch+1)
		if hurry {
			p.pause = 0
		}
		if late {
			p.tell = tellAdded
		}
	}
	part := p.threads[:min(holdBatch, len(p.threads))]
	if p.failed = !g.write(part, p.tell) || p.failed; p.failed {
		return 4 * g.cfg.Retry
	}
	if p.threads = p.threads[len(part):]; len(p.threads) == 0 {
		return max(p.pause, g.cfg.Pass/64)
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
func (g *Groups) begin() []int64 {
	threads, dropped := g.index.threads(g.d.Node, g.since()-g.cfg.Linger)
	for part := range slices.Chunk(dropped, holdBatch) {
		ctx, cancel := context.WithTimeout(g.ctx, g.cfg.Timeout)
		if err := g.d.Interest.Drop(ctx, part); err != nil {
			g.log.Debug("interests not dropped", "n", len(part), "err", err) // harmless: this node is sent rows that no session here reads
		}
		cancel()
	}
	return threads
}

// write writes interests and schedules gap notices as tell says. It returns false if the write failed.
func (g *Groups) write(threads []int64, tell telling) bool {
	g.index.enterLife(g.d.Boot())
	entries, epoch := g.index.interests(nil, threads, g.d.Node, true)
	if len(entries) == 0 {
		return true
	}
	held := g.index.heldOf(entries)
	ctx, cancel := context.WithTimeout(g.ctx, g.cfg.Timeout)
	defer cancel()
	g.metrics.interests.Add(float64(len(entries)))
	added, err := g.d.Interest.Hold(ctx, entries)
	if err != nil {
		if g.ctx.Err() == nil {
			g.metrics.interestFailures.Inc()
			g.log.Warn("interests not written, retrying", "n", len(entries), "err", err)
		}
		if tell == tellAll {
			g.soil(entries)
		}
		return false
	}
	g.index.noteHeld(entries, epoch)
	for i := range entries {
		if added[i] && held[i] {
			g.metrics.interestsLost.Inc()
		}
		if tell == tellAll || added[i] && (held[i] || tell == tellAdded) {
			g.owe(entries[i].Thread, 1)
		}
	}
	return true
}

// soil marks interests that could not be written.
func (g *Groups) soil(entries []presence.GroupEntry) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range entries {
		g.dirty[entries[i].Thread] = struct{}{}
	}
}
