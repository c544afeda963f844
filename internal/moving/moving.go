// Package moving moves the clients of a node to other nodes: it paces the goodbyes, spreads them over the nodes that take
// logins, and reports when each user was back.
package moving

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"parley/internal/ops"
	"parley/internal/presence"
	"parley/internal/session"
)

// Deps is what a Mover works with. None of the functions but Locate may wait.
type Deps struct {
	Log  *slog.Logger
	Node string
	Go   func(func()) // starts a goroutine that the node waits for
	// Sessions returns how many sessions there are.
	Sessions func() int
	// Idle returns up to n live sessions of native clients, or of stock ones; only those with nothing unanswered unless busy
	// says that others may be among them.
	Idle func(n int, native, busy bool) []*session.Session
	// Next returns the node that should take this client, "" if none takes logins in the way the client makes them. Open reports
	// whether any takes logins.
	Next func(s *session.Session) string
	Open func() bool
	// Tell sends a client to a node, with an empty name to any. It reports whether the session lived until then.
	Tell func(s *session.Session, node string) bool
	// Locate returns the sessions of users, in the order of uids; Alive says whether a node still has a life.
	Locate func(ctx context.Context, uids []int32) ([][]presence.Location, error)
	Alive  func(node, boot string) bool
}

// Plan says who is to be moved, and how fast.
type Plan struct {
	Reason string // of the report: drain, stop, rebalance
	// Over is the time over which the goodbyes are spread. At least Floor per second leave, and at most Rate (0: no such bound),
	// which comes first.
	Over        time.Duration
	Floor, Rate int
	// To are the nodes and how many native clients each of them gets. nil: all clients are moved, stock ones too.
	To map[string]int
	// Anywhere sends clients away although no other node takes logins; else they stay until one does.
	Anywhere bool
	// Patience is how long, after the last goodbye, the clients are waited for.
	Patience time.Duration
}

const (
	pass      = 50 * time.Millisecond
	checkRest = 100 * time.Millisecond
	// MaxTracked bounds the clients that a report follows; the others are told as well.
	MaxTracked = 1 << 16
)

// Mover moves clients. One moving runs at a time. Its methods are safe for concurrent use.
type Mover struct {
	d    Deps
	turn chan struct{} // holds a token while a moving runs

	mu      sync.Mutex // guards the following
	stop    func()     // ends the latest moving; nil: there was none
	running int        // movings begun and not ended
	latest  *tracks
}

// New returns a Mover.
func New(d Deps) *Mover { return &Mover{d: d, turn: make(chan struct{}, 1)} }

// Start begins a moving in place of the one that runs, if any. ctx ends it.
func (m *Mover) Start(ctx context.Context, p Plan) {
	run := m.begin(ctx, p)
	m.d.Go(run)
}

// Run is Start, and waits until the moving has ended.
func (m *Mover) Run(ctx context.Context, p Plan) { m.begin(ctx, p)() }

// begin ends the moving before, and returns a function that carries out the next one.
func (m *Mover) begin(ctx context.Context, p Plan) func() {
	ctx, cancel := context.WithCancel(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stop != nil {
		m.stop()
	}
	m.stop = cancel
	m.running++
	return func() {
		m.turn <- struct{}{} // the one before ends soon
		t := newTracks(p.Reason)
		m.mu.Lock()
		m.latest = t
		m.mu.Unlock()
		defer func() {
			cancel()
			t.end()
			m.mu.Lock()
			m.running--
			m.mu.Unlock()
			<-m.turn
		}()
		m.run(ctx, p, t)
	}
}

// Stop ends the moving that runs, if any: the clients that were told are followed no more.
func (m *Mover) Stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stop != nil {
		m.stop()
	}
}

// Busy reports whether a moving runs.
func (m *Mover) Busy() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.running > 0
}

// Report returns the report on the latest moving, nil if there was none.
func (m *Mover) Report() *ops.Moving {
	m.mu.Lock()
	t := m.latest
	m.mu.Unlock()
	if t == nil {
		return nil
	}
	return t.report(m.d.Sessions())
}

// run moves clients, while another goroutine looks where they have gone.
func (m *Mover) run(ctx context.Context, p Plan, t *tracks) {
	m.d.Log.Info("moving clients", "reason", p.Reason, "n", m.d.Sessions(), "dur", p.Over)
	follow, stop := context.WithCancel(ctx)
	followed := make(chan struct{})
	m.d.Go(func() { defer close(followed); m.follow(follow, t) })
	m.send(ctx, p, t)
	t.await(ctx, p.Patience)
	stop()
	<-followed
	r := t.report(m.d.Sessions())
	m.d.Log.Info("moved clients", "reason", p.Reason, "told", r.Told, "moved", r.Moved, "missing", r.Missing, "ended", r.Ended, "left", r.Left,
		"gap_p50_ms", r.GapP50MS, "gap_p99_ms", r.GapP99MS, "gap_max_ms", r.GapMaxMS)
}

// send says the goodbyes, until all have been said or ctx ends.
func (m *Mover) send(ctx context.Context, p Plan, t *tracks) {
	tick := time.NewTicker(pass)
	defer tick.Stop()
	began := time.Now()
	next := m.d.Next
	want := func() int { return m.d.Sessions() }
	if p.To != nil {
		list := newShares(p.To)
		next, want = func(*session.Session) string { return list.next() }, list.left
	}
	credit := 0.0
	for want() > 0 {
		left := p.Over - time.Since(began)
		quota := max(float64(want())/max(float64(left/pass), 1), float64(p.Floor)*pass.Seconds())
		if p.Rate > 0 {
			quota = min(quota, float64(p.Rate)*pass.Seconds())
		}
		credit = min(credit+quota, max(2*quota, 1)) // what a pass could not use is not saved up
		n := min(int(credit), want())
		told := m.tell(n, next, left <= 0, p, t)
		credit -= float64(told)
		if p.To != nil && told == 0 && n > 0 && left <= 0 {
			return // fewer native clients are here than were to be moved
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// tell says up to n goodbyes: to native clients, and once there are no more of them to stock ones, which are told nothing. It
// returns how many it said.
func (m *Mover) tell(n int, next func(*session.Session) string, busy bool, p Plan, t *tracks) (told int) {
	if n == 0 {
		return 0
	}
	if p.To == nil && !p.Anywhere && !m.d.Open() {
		return 0
	}
	for _, s := range m.d.Idle(n, true, busy) {
		to := next(s)
		if m.d.Tell(s, to) {
			t.told(s, to, time.Now())
		}
		told++
	}
	if p.To != nil {
		return told
	}
	for _, s := range m.d.Idle(n-told, false, busy) {
		if m.d.Tell(s, "") {
			t.ended()
		}
		told++
	}
	return told
}

// follow looks where the clients are that were told, until ctx ends.
func (m *Mover) follow(ctx context.Context, t *tracks) {
	tick := time.NewTicker(checkRest)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		due := t.due(time.Now())
		if len(due) == 0 {
			continue
		}
		uids := make([]int32, len(due))
		for i := range due {
			uids[i] = due[i].uid
		}
		limited, cancel := context.WithTimeout(ctx, time.Second)
		found, err := m.d.Locate(limited, uids)
		cancel()
		now := time.Now()
		if err != nil {
			t.again(due, now)
			continue
		}
		var missing []track
		for i := range due {
			if !m.back(t, &due[i], found[i], now) {
				missing = append(missing, due[i])
			}
		}
		t.again(missing, now)
	}
}

// back looks for the client among the sessions of its user, and notes it if it is there.
func (m *Mover) back(t *tracks, c *track, found []presence.Location, now time.Time) bool {
	for _, at := range found {
		sid, ok := session.ParseSID(at.SID)
		if !ok || at.Device != c.device || sid == c.sid || !m.d.Alive(at.Node, at.Boot) {
			continue
		}
		t.back(max(now.Sub(c.at)-sid.Age(now), 0), at.Node == m.d.Node)
		return true
	}
	return false
}
