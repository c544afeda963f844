package group

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/internal/batch"
	"parley/internal/presence"
	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
)

// Rows are rows of a group that are pushed together. All were stored under the same version of the membership, and no
// row of another version lies between them.
type Rows struct {
	Thread      int64
	Ver         int32
	First, Last int64  // numbers
	Body        []byte // of a 2144; must not be modified
	// Skip is the session that receives the rows as the answer to its request; 0: none.
	Skip session.SID
}

// push returns rows as a push to a user or, with 0, to the members.
func (r *Rows) push(to int32) session.Push {
	return session.Push{To: to, ID: wire.MsgGroupPush, Thread: r.Thread, Ver: r.Ver, First: r.First, Seq: r.Last, Body: r.Body}
}

// EventRows returns the rows that announce a change. The change must have appended an event.
func EventRows(c *store.GroupChange) Rows {
	e := &c.Event
	text := []wire.StoredText{{
		Sender: e.Sender, MsgID: e.Seq, ThreadID: e.ThreadID, UniqueID: e.UniqueID, Content: e.Content, Status: wire.StatusSent,
		CreatedMS: e.CreatedMS, Kind: int32(e.Kind),
	}}
	return Rows{Thread: e.ThreadID, Ver: c.Ver, First: e.Seq, Last: e.Seq, Body: wire.AppendGroupPush(nil, e.ThreadID, c.Ver, text)}
}

// Store is the part of *store.Groups that Groups uses.
type Store interface {
	Memberships(ctx context.Context, uids []int32) (map[int32][]store.ThreadMembership, error)
	LocalMembers(ctx context.Context, thread int64, uids []int32) (ver int32, members map[int32]store.Membership, err error)
}

// Interest is the part of internal/presence that Groups uses.
type Interest interface {
	Hold(ctx context.Context, entries []presence.GroupEntry) (added []bool, err error)
	Drop(ctx context.Context, entries []presence.GroupEntry) error
}

// Config bounds Groups. See DefaultConfig.
type Config struct {
	Lanes     int           // goroutines that write to sessions, and as many that look nodes up; a group always belongs to the same lane
	LaneItems int           // pushes waiting in a lane
	LaneBytes int           // bytes of their bodies
	Batch     int           // pushes written together
	BatchSize int           // bytes of their bodies
	Users     int           // waiting pushes to single users
	Timeout   time.Duration // of one read or write of SQL or Redis
	Retry     time.Duration // interval at which owed notices are tried again
	Pass      time.Duration // time in which each interest is written again
	Linger    time.Duration // how long an interest is kept after the group has no session here
}

// DefaultConfig returns the bounds of docs/LIMITS.md.
func DefaultConfig() Config {
	return Config{
		Lanes: 4, LaneItems: 16384, LaneBytes: 16 << 20, Batch: 64, BatchSize: 64 << 10, Users: 16384,
		Timeout: 2 * time.Second, Retry: 250 * time.Millisecond, Pass: 48 * time.Second, Linger: time.Minute,
	}
}

// Deps are the dependencies of Groups. None of the functions but Locate may block.
type Deps struct {
	Log      *slog.Logger
	Metrics  prometheus.Registerer // nil: registered nowhere
	Node     string
	Boot     func() string // this node's boot id now
	Store    Store
	Interest Interest
	Registry *session.Registry
	// Locate returns, for each group, the other nodes with members, and the entries of replaced lives. sure is false
	// if the result may lack nodes.
	Locate func(ctx context.Context, threads []int64) (nodes [][]string, replaced []presence.GroupEntry, sure bool, err error)
	// Nodes returns the nodes that Forward can reach. Forward queues a copy of a push for a node, and returns false
	// if it cannot.
	Nodes   func() []string
	Forward func(node string, p *session.Push) bool
	// Lost schedules a gap notice for rows that were not sent to a node, or with "" to any node that has members.
	Lost func(node string, p *session.Push)
	// Deliver delivers pushes to users, wherever they are.
	Deliver func([]session.Push, *session.Cork)
}

// Groups delivers rows to members. New starts it; Close ends it. All methods are safe for concurrent use.
type Groups struct {
	*shared
	*logins   // Enter, Reconcile, Leave
	*singles  // User
	interests *interests
	locator   *locator
	owed      *owed
	home      []*home
	away      []*away
}

// New starts Groups.
func New(cfg Config, d Deps) *Groups {
	s := &shared{cfg: cfg, d: d, log: d.Log.With("pkg", "group"), began: time.Now(), index: newIndex()}
	s.ctx, s.stop = context.WithCancel(context.Background())
	g := &Groups{shared: s, locator: newLocator(s), owed: newOwed()}
	s.metrics = newMetrics(d.Metrics, s.index, g.owed)
	g.interests = newInterests(s, g.owed)
	g.logins = newLogins(s, g.interests)
	g.singles = newSingles(s, g.interests)
	for range cfg.Lanes {
		h, a := newHome(s, g.owed), newAway(s, g.locator)
		g.home, g.away = append(g.home, h), append(g.away, a)
		s.wg.Go(h.run)
		s.wg.Go(a.run)
	}
	s.wg.Go(g.retry)
	return g
}

// Close drops everything that waits and returns when all goroutines have ended.
func (g *Groups) Close() {
	g.stop()
	g.wg.Wait()
}

func (g *Groups) homeLane(thread int64) *home { return g.home[uint64(thread)%uint64(len(g.home))] }

// Publish delivers rows stored by this node to the sessions of the members, here and on other nodes. Rows of a group
// arrive in the order of the calls.
func (g *Groups) Publish(rows ...Rows) {
	for i := range rows {
		r := &rows[i]
		g.homeLane(r.Thread).enqueue(item{rows: *r})
		g.away[uint64(r.Thread)%uint64(len(g.away))].enqueue(r)
	}
}

// Added is Publish for an event that changes the membership of users. It also pushes the event to each of the users,
// because they may have sessions on nodes whose index does not contain them.
func (g *Groups) Added(uids []int32, rows Rows) {
	g.Publish(rows)
	pushes := make([]session.Push, len(uids))
	for i, uid := range uids {
		pushes[i] = rows.push(uid)
	}
	g.d.Deliver(pushes, nil)
}

// Deliver receives rows for the members, or the notice that rows were dropped, from another node.
func (g *Groups) Deliver(p *session.Push) {
	if p.ID == wire.MsgGap {
		g.owed.add(p.Thread, p.Seq)
		return
	}
	g.homeLane(p.Thread).enqueue(item{rows: Rows{Thread: p.Thread, Ver: p.Ver, First: p.FirstSeq(), Last: p.Seq, Body: p.Body}})
}

// Rewrite has all interests written again, because Redis has lost its data. Until then the other nodes send this node
// the rows of all groups.
func (g *Groups) Rewrite() { g.interests.rewrite() }

// Owed returns the number of groups whose members here wait for a gap notice.
func (g *Groups) Owed() int { return g.owed.size() }

// retry tells from time to time whom rows did not reach, until Close: members here, and other nodes.
func (g *Groups) retry() {
	every := time.NewTicker(g.cfg.Retry)
	defer every.Stop()
	for {
		select {
		case <-g.ctx.Done():
			return
		case <-every.C:
		}
		if p := batch.Try(g.retryOnce); p != nil {
			g.panicked(p)
		}
	}
}

// retryOnce queues every owed notice once. It takes them all before queueing: a lane that is full owes the notice again.
func (g *Groups) retryOnce() {
	for thread, first := range g.owed.take() {
		g.homeLane(thread).enqueue(item{rows: Rows{Thread: thread, First: first}}) // a full lane owes it again
	}
	g.locator.settle()
}
