package router

import (
	"context"
	"slices"
	"sync"
	"time"

	"parley/internal/batch"
	"parley/internal/session"
	"parley/internal/wire"
)

// maxWhole and maxWholeBytes bound the pushes that are remembered themselves, because no history holds them.
const (
	maxWhole      = 4096
	maxWholeBytes = 1 << 20
)

// LateHint is the Thread of a push with ID 0 that comes late: texts may have missed the sender's session meanwhile.
const LateHint = 1

// nowhere is the account of users of whom nobody could say where they are.
const nowhere = ""

// ledger remembers what became of nobody: for each node, and for users who could not be found, which threads of which
// users have lost pushes, and from which number on. It is what makes a dropped push late instead of lost: when the node,
// or Redis, is back the user's sessions are told (2104), and read what they missed. Safe for concurrent use.
type ledger struct {
	limit   int // threads of users
	metrics *metrics
	wake    chan struct{} // holds a token while something is owed

	mu    sync.Mutex // guards the following
	owed  map[string]*account
	texts int // entries of all accounts
	whole int
	bytes int // of the bodies of whole
}

// account is what one node's users are owed.
type account struct {
	texts    map[debt]claim
	whole    []session.Push // pushes other than texts, in order
	everyone bool           // too much to name: all sessions are to look for themselves
}

// debt names a thread of a user; thread 0 is all of them. User 0 stands for the members of a group.
type debt struct {
	uid    int32
	thread int64
}

// claim is the number from which on a thread has lost pushes.
type claim struct {
	first int64
	told  bool // to the sessions found, while some may not have been found
}

func newLedger(limit int, m *metrics) *ledger {
	return &ledger{limit: limit, metrics: m, wake: make(chan struct{}, 1), owed: make(map[string]*account)}
}

// isText reports whether a push can be replaced by a gap notice.
func isText(p *session.Push) bool { return p.ID.Rows() }

// note remembers a push that was dropped on its way to a node.
func (g *ledger) note(node string, p *session.Push) {
	if p.ID.Passing() {
		g.metrics.unremembered.Inc()
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.accountLocked(node)
	switch {
	case p.ID == wire.MsgGap && p.To == 0 && p.Thread == 0:
		a.everyone = true
	case p.ID == wire.MsgGap:
		g.textLocked(a, debt{p.To, p.Thread}, func() int64 { return p.Seq })
	case isText(p):
		g.textLocked(a, debt{p.To, p.Thread}, p.FirstSeq)
	case g.whole >= maxWhole || g.bytes+len(p.Body) > maxWholeBytes:
		g.metrics.unremembered.Inc()
	default:
		again := *p
		again.Route = session.Route{}
		a.whole = append(a.whole, again)
		g.whole++
		g.bytes += len(p.Body)
	}
	g.gaugeLocked()
	g.signal()
}

func (g *ledger) signal() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

func (g *ledger) accountLocked(node string) *account {
	a := g.owed[node]
	if a == nil {
		a = &account{texts: make(map[debt]claim)}
		g.owed[node] = a
	}
	return a
}

func (g *ledger) textLocked(a *account, d debt, first func() int64) {
	if a.everyone {
		return
	}
	c, known := a.texts[d]
	if !known && g.texts >= g.limit {
		g.metrics.overflowed.Inc()
		g.texts -= len(a.texts)
		clear(a.texts)
		a.everyone = true
		return
	}
	if at := first(); !known || at < c.first {
		c.first = at
	}
	c.told = false
	if !known {
		g.texts++
	}
	a.texts[d] = c
}

func (g *ledger) gaugeLocked() { g.metrics.owed.Set(float64(g.texts + g.whole)) }

// nodes returns the nodes with an account, nowhere left out.
func (g *ledger) nodes() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var names []string
	for name := range g.owed {
		if name != nowhere {
			names = append(names, name)
		}
	}
	return names
}

// empty reports whether nothing is owed.
func (g *ledger) empty() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.owed) == 0
}

// take takes up to n debts out of a node's account, and all that is not texts: as pushes that settle them. Route.Again
// marks those that were told already, to the sessions that could be found.
func (g *ledger) take(node string, n int) []session.Push {
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.owed[node]
	if a == nil {
		return nil
	}
	pushes := a.whole
	a.whole = nil
	g.whole -= len(pushes)
	for i := range pushes {
		g.bytes -= len(pushes[i].Body)
		if pushes[i].ID == 0 {
			pushes[i].Thread = LateHint
		}
	}
	if a.everyone {
		pushes = append(pushes, session.Push{ID: wire.MsgGap})
		a.everyone = false
	}
	for d, c := range a.texts {
		if len(pushes) >= n {
			break
		}
		delete(a.texts, d)
		g.texts--
		pushes = append(pushes, session.Push{To: d.uid, ID: wire.MsgGap, Thread: d.thread, Seq: c.first, Route: session.Route{Again: c.told}})
	}
	if len(a.texts) == 0 {
		delete(g.owed, node)
	}
	g.gaugeLocked()
	return pushes
}

// keep remembers texts that were told, or handed, to the sessions that could be found, for those that could not.
func (g *ledger) keep(p *session.Push) {
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.accountLocked(nowhere)
	d := debt{p.To, p.Thread}
	if _, known := a.texts[d]; known {
		return // a gap notice for this thread waits already
	}
	first := func() int64 { return p.Seq }
	if isText(p) {
		first = p.FirstSeq
	}
	g.textLocked(a, d, first)
	if c, ok := a.texts[d]; ok {
		c.told = true
		a.texts[d] = c
	}
	g.gaugeLocked()
	g.signal()
}

// disown makes what a node's users are owed that of users who are to be looked for: the node is gone.
func (g *ledger) disown(node string) {
	g.mu.Lock()
	a := g.owed[node]
	delete(g.owed, node)
	if a == nil {
		g.mu.Unlock()
		return
	}
	to := g.accountLocked(nowhere)
	to.whole = append(to.whole, a.whole...)
	g.texts -= len(a.texts)
	for d, c := range a.texts {
		g.textLocked(to, d, func() int64 { return c.first })
	}
	// a.everyone: the sessions have gone with the node, and each new login has read the texts there are.
	if len(to.texts) == 0 && len(to.whole) == 0 && !to.everyone {
		delete(g.owed, nowhere)
	}
	g.gaugeLocked()
	g.mu.Unlock()
}

// settle sends gap notices as the nodes and Redis come back, until ctx ends.
func (r *Router) settle(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.ledger.wake:
		}
		for !r.ledger.empty() {
			select {
			case <-ctx.Done():
				return
			case <-time.After(r.cfg.SettleEvery):
			}
			if p := batch.Try(func() { r.settleOnce(ctx) }); p != nil {
				r.panicked(p)
			}
		}
	}
}

func (r *Router) settleOnce(ctx context.Context) {
	for range max(r.cfg.SettlePushes/r.cfg.Batch, 1) {
		if !r.settleNowhere(ctx) {
			break
		}
	}
	for _, node := range r.ledger.nodes() {
		switch {
		case !r.forward.Knows(node):
			r.ledger.disown(node)
		case r.forward.Open(node):
			pushes := r.ledger.take(node, r.cfg.SettlePushes)
			for i := range pushes {
				pushes[i].Route = session.Route{}
				r.pay(node, &pushes[i])
			}
		}
	}
}

// pay forwards a push to a node, or remembers it again.
func (r *Router) pay(node string, p *session.Push) {
	if r.forward.Forward(node, p) {
		r.metrics.settled.Inc()
	} else {
		r.ledger.note(node, p)
	}
}

// settleNowhere looks for some of the users who could not be found before. While the answers may lack some sessions, those
// that are found are told at once, and all of them again when the answers are sure. It reports whether it is worth going
// on at once.
func (r *Router) settleNowhere(ctx context.Context) bool {
	pushes := r.ledger.take(nowhere, r.cfg.Batch)
	index := make(map[int32]int, len(pushes))
	var uids []int32
	for i := range pushes {
		if _, known := index[pushes[i].To]; !known && pushes[i].To != 0 {
			index[pushes[i].To] = len(uids)
			uids = append(uids, pushes[i].To)
		}
	}
	var found [][]string
	sure := true
	if len(uids) > 0 {
		var err error
		ctx, cancel := context.WithTimeout(ctx, r.cfg.LookupLimit)
		found, sure, err = r.locator.Locate(ctx, uids)
		cancel()
		if err != nil { // Redis is away
			for i := range pushes {
				r.ledger.note(nowhere, &pushes[i])
			}
			return false
		}
	}
	progress := false
	for i := range pushes {
		p := &pushes[i]
		nodes := r.forward.Nodes() // of everyone
		if p.To != 0 {
			nodes = found[index[p.To]]
		}
		progress = r.settleAt(nodes, p, sure) || progress
	}
	return progress
}

// settleAt tells a user at the nodes where sessions of the user were found, and reports whether that changed anything.
func (r *Router) settleAt(nodes []string, p *session.Push, sure bool) bool {
	told := p.Route.Again
	p.Route = session.Route{}
	switch {
	case sure || p.To == 0:
	case told:
		r.ledger.keep(p)
		return false
	case len(nodes) == 0:
		r.ledger.note(nowhere, p)
		return false
	case p.ID == wire.MsgGap:
		r.ledger.keep(p)
	}
	for _, node := range nodes {
		r.pay(node, p)
	}
	if len(nodes) == 0 {
		r.metrics.offline.Inc()
	}
	return true
}

// Owed returns how many threads of users, and other pushes, are to be told of something, for tests and operators.
func (r *Router) Owed() int {
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	return r.ledger.texts + r.ledger.whole
}

// union returns the names of both lists, which have no doubles.
func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, name := range b {
		if !slices.Contains(a, name) {
			out = append(out, name)
		}
	}
	return out
}
