package group

import (
	"context"
	"slices"
	"sync"

	"parley/internal/batch"
	"parley/internal/session"
	"parley/internal/wire"
)

// away is a lane that sends rows to other nodes.
type away struct {
	g     *Groups
	queue *batch.Queue[Rows]

	// Owned by run, and kept between batches.
	threads []int64
	at      map[int64]int // of a group in threads
}

// awayBatch is the number of pushes per look-up.
const awayBatch = 256

func newAway(g *Groups) *away {
	return &away{g: g, at: make(map[int64]int), queue: batch.NewQueue[Rows](batch.Limits{
		Items: g.cfg.LaneItems, Weight: g.cfg.LaneBytes, BatchItems: awayBatch,
	})}
}

func (a *away) enqueue(r *Rows) {
	if !a.queue.Put(*r, len(r.Body)) {
		a.g.metrics.overflows.Inc()
		a.lose("", r)
	}
}

// lose schedules a gap notice for the members on a node, or with "" on all nodes.
func (a *away) lose(node string, r *Rows) {
	p := r.push(0)
	a.g.d.Lost(node, &p)
}

func (a *away) run() {
	a.queue.Run(a.g.ctx.Done(), a.forward, func(list []Rows, p *batch.Panic) {
		a.g.panicked(p)
		for i := range list {
			a.lose("", &list[i])
		}
	})
}

// forward sends one batch to the nodes with members. If Redis cannot say for certain which nodes these are, all nodes
// get it.
func (a *away) forward(list []Rows) {
	a.threads = a.threads[:0]
	clear(a.at)
	for i := range list {
		if _, known := a.at[list[i].Thread]; !known {
			a.at[list[i].Thread] = len(a.threads)
			a.threads = append(a.threads, list[i].Thread)
		}
	}
	nodes, sure, err := a.g.locate(a.threads)
	all := []string(nil)
	if !sure || err != nil {
		all = a.g.d.Nodes()
	}
	for i := range list {
		r := &list[i]
		to := all
		switch {
		case err != nil:
		case !sure:
			to = union(all, nodes[a.at[r.Thread]])
		default:
			to = nodes[a.at[r.Thread]]
		}
		if !sure {
			a.g.blind.note(r.Thread, r.First, to)
		}
		for _, node := range to {
			p := r.push(0)
			if a.g.d.Forward(node, &p) {
				a.g.metrics.forwarded.Inc()
			} else {
				a.lose(node, r)
			}
		}
	}
}

// locate returns the other nodes with members of groups. It removes obsolete entries, those of replaced lives, from
// Redis.
func (g *Groups) locate(threads []int64) (nodes [][]string, sure bool, err error) {
	ctx, cancel := context.WithTimeout(g.ctx, g.cfg.Timeout/2)
	defer cancel()
	nodes, replaced, sure, err := g.d.Locate(ctx, threads)
	if err != nil {
		g.log.Debug("nodes of groups not read", "n", len(threads), "err", err)
		return nil, false, err
	}
	if len(replaced) > 0 {
		if err := g.d.Interest.Drop(ctx, replaced); err != nil {
			g.log.Debug("entries of earlier lives not dropped", "n", len(replaced), "err", err)
		}
	}
	return nodes, sure, nil
}

func union(a, b []string) []string {
	for _, name := range b {
		if !slices.Contains(a, name) {
			a = append(slices.Clip(a), name)
		}
	}
	return a
}

// maxBlind bounds the groups in blind.
const maxBlind = 16384

// blind records the groups whose rows were sent while Redis could not say which nodes have members, and the nodes
// they were sent to. Any other node that turns out to have members gets a gap notice. It is safe for concurrent use.
type blind struct {
	mu     sync.Mutex // guards the following
	groups map[int64]blindGroup
	over   bool // too many groups: all sessions of all nodes get a notice instead
}

type blindGroup struct {
	first int64
	sent  []string // shared; never modified
}

func newBlind() *blind { return &blind{groups: make(map[int64]blindGroup)} }

// note records that rows were sent to nodes. Of several calls for a group it keeps the nodes that were sent all rows.
func (b *blind) note(thread, first int64, sent []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at, known := b.groups[thread]
	if known {
		first = min(first, at.first)
		if !slices.Equal(sent, at.sent) {
			sent = slices.DeleteFunc(slices.Clone(at.sent), func(n string) bool { return !slices.Contains(sent, n) })
		}
	} else if len(b.groups) >= maxBlind {
		b.over = true
		return
	}
	b.groups[thread] = blindGroup{first, sent}
}

// takeSome removes and returns some of the groups.
func (b *blind) takeSome() (threads []int64, groups []blindGroup, over bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for thread, at := range b.groups {
		if len(threads) == awayBatch {
			return threads, groups, false
		}
		delete(b.groups, thread)
		threads, groups = append(threads, thread), append(groups, at)
	}
	over, b.over = b.over, false
	return threads, groups, over
}

// settleBlind sends gap notices to nodes with members that were not sent the rows in blind, once Redis knows these
// nodes.
func (g *Groups) settleBlind() {
	threads, groups, over := g.blind.takeSome()
	if len(threads) == 0 {
		return
	}
	nodes, sure, err := g.locate(threads)
	for i, thread := range threads {
		if err != nil || !sure {
			g.blind.note(thread, groups[i].first, groups[i].sent)
			continue
		}
		for _, node := range nodes[i] {
			if !slices.Contains(groups[i].sent, node) {
				g.d.Lost(node, &session.Push{ID: wire.MsgGap, Thread: thread, Seq: groups[i].first})
			}
		}
	}
	if over {
		g.d.Lost("", &session.Push{ID: wire.MsgGap})
	}
}
