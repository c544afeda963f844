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

// maxWhole and maxWholeBytes bound the pushes that are kept whole because no history holds them.
const (
	maxWhole      = 4096
	maxWholeBytes = 1 << 20
)

// LateHint is the Thread of a push with ID 0 that is delivered late. Texts may have missed the sender's session in
// the meantime.
const LateHint = 1

// nowhere is the account of users who could not be located.
const nowhere = ""

// ledger remembers lost pushes: for each node, and for users who could not be located, the threads of users and the
// first number lost in each. When the node or Redis is back, the users' sessions receive a gap notice (2104) and read
// what they missed. A dropped push is thus late instead of lost. It is safe for concurrent use.
type ledger struct {
	limit   int // of the entries of all accounts
	metrics *metrics
	wake    chan struct{} // holds a token while there may be something to settle

	mu    sync.Mutex // guards the following
	owed  map[string]*account
	texts int // entries of all accounts
	whole int // pushes kept whole, of all accounts
	bytes int // of the bodies of whole
}

// account holds what the users of one node are owed.
type account struct {
	texts    map[debt]gap
	whole    []session.Push // pushes other than texts, in order
	everyone bool           // too many threads to name: all sessions of the node get a notice
}

// debt names a thread of a user. Thread 0 stands for all threads, user 0 for the members of a group.
type debt struct {
	uid    int32
	thread int64
}

// gap says from which number on a thread has lost pushes.
type gap struct {
	first int64
	told  bool // the sessions that were found have been told; others may exist
}

func newLedger(limit int, m *metrics) *ledger {
	return &ledger{limit: limit, metrics: m, wake: make(chan struct{}, 1), owed: make(map[string]*account)}
}

// isText reports whether a push can be replaced by a gap notice.
func isText(p *session.Push) bool { return p.ID.Rows() }

// note remembers a push that was dropped on its way to a node. Rows and gap notices are reduced to a debt; other
// pushes are kept whole, within bounds.
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
		a = &account{texts: make(map[debt]gap)}
		g.owed[node] = a
	}
	return a
}

// textLocked records a debt. Beyond the limit it trades all debts of the account for one notice to everyone, which
// takes no memory. first is a function because reading it decodes the body.
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

// nodes returns the nodes that have an account.
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

// takeDebts removes up to n debts, and all pushes kept whole, from a node's account, and returns the pushes that settle
// them. Route.Again marks debts of which the sessions that could be found have been told.
func (g *ledger) takeDebts(node string, n int) []session.Push {
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

// keepTold records a debt for sessions that could not be found, although the sessions that were found have been told or
// have the text.
func (g *ledger) keepTold(p *session.Push) {
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

// disown moves the debts of a node that is gone to the users who have to be located.
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
	// a.everyone needs no move: the node's sessions are gone with it, and each new login reads all texts.
	if len(to.texts) == 0 && len(to.whole) == 0 && !to.everyone {
		delete(g.owed, nowhere)
	}
	g.gaugeLocked()
	g.mu.Unlock()
}

// settle pays debts as nodes and Redis come back, until ctx ends.
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

// settleOnce tries each account once. It settles a bounded number of debts, so that a node that comes back is not
// flooded.
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
			pushes := r.ledger.takeDebts(node, r.cfg.SettlePushes)
			for i := range pushes {
				pushes[i].Route = session.Route{}
				r.pay(node, &pushes[i])
			}
		}
	}
}

// pay forwards a push to a node, or notes it again.
func (r *Router) pay(node string, p *session.Push) {
	if r.forward.Forward(node, p) {
		r.metrics.settled.Inc()
	} else {
		r.ledger.note(node, p)
	}
}

// settleNowhere locates some of the users who could not be located before. While the answers may lack some sessions,
// it tells those that are found at once, and keeps the debt to tell all of them when the answers are complete. It
// reports whether another call is likely to make progress.
func (r *Router) settleNowhere(ctx context.Context) bool {
	pushes := r.ledger.takeDebts(nowhere, r.cfg.Batch)
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
		nodes := r.forward.Nodes() // for a debt of all users
		if p.To != 0 {
			nodes = found[index[p.To]]
		}
		progress = r.settleAt(nodes, p, sure) || progress
	}
	return progress
}

// settleAt sends p to the nodes that hold sessions of its user, and reports whether that made progress.
func (r *Router) settleAt(nodes []string, p *session.Push, sure bool) bool {
	told := p.Route.Again
	p.Route = session.Route{}
	switch {
	case sure || p.To == 0:
	case told:
		r.ledger.keepTold(p)
		return false
	case len(nodes) == 0:
		r.ledger.note(nowhere, p)
		return false
	case p.ID == wire.MsgGap:
		r.ledger.keepTold(p)
	}
	for _, node := range nodes {
		r.pay(node, p)
	}
	if len(nodes) == 0 {
		r.metrics.offline.Inc()
	}
	return true
}

// Owed returns the number of debts and of pushes kept whole, for tests and operators.
func (r *Router) Owed() int {
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	return r.ledger.texts + r.ledger.whole
}

// union returns the names of both lists. Neither list holds a name twice.
func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, name := range b {
		if !slices.Contains(a, name) {
			out = append(out, name)
		}
	}
	return out
}
