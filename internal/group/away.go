package group

import (
	"slices"

	"parley/internal/batch"
)

// away is a lane that sends rows to other nodes.
type away struct {
	*shared
	locator *locator
	queue   *batch.Queue[Rows]

	// Owned by run, and kept between batches.
	threads []int64
	at      map[int64]int // of a group in threads
}

// awayBatch is the number of pushes per look-up.
const awayBatch = 256

func newAway(s *shared, l *locator) *away {
	return &away{shared: s, locator: l, at: make(map[int64]int), queue: batch.NewQueue[Rows](batch.Limits{
		Items: s.cfg.LaneItems, Weight: s.cfg.LaneBytes, BatchItems: awayBatch,
	})}
}

func (a *away) enqueue(r *Rows) {
	if !a.queue.Put(*r, len(r.Body)) {
		a.metrics.overflows.Inc()
		a.lose("", r)
	}
}

// lose schedules a gap notice for the members on a node, or with "" on all nodes.
func (a *away) lose(node string, r *Rows) {
	p := r.push(0)
	a.d.Lost(node, &p)
}

func (a *away) run() {
	a.queue.Run(a.ctx.Done(), a.forward, func(list []Rows, p *batch.Panic) {
		a.panicked(p)
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
	nodes, sure, err := a.locator.locate(a.threads)
	all := []string(nil)
	if !sure || err != nil {
		all = a.d.Nodes()
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
			a.locator.note(r.Thread, r.First, to)
		}
		for _, node := range to {
			p := r.push(0)
			if a.d.Forward(node, &p) {
				a.metrics.forwarded.Inc()
			} else {
				a.lose(node, r)
			}
		}
	}
}

func union(a, b []string) []string {
	for _, name := range b {
		if !slices.Contains(a, name) {
			a = append(slices.Clip(a), name)
		}
	}
	return a
}
