package group

import (
	"context"
	"errors"
	"log/slog"
	"sync"
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
	cfg     Config
	d       Deps
	log     *slog.Logger
	metrics *metrics
	began   time.Time
	index   *index
	home    []*home
	away    []*away
	users   *batch.Queue[userRows]
	loads   *batch.Calls[*load]
	blind   *blind

	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup
	wake chan struct{} // holds a token while interests wait to be written

	mu    sync.Mutex // guards the following
	owed  map[int64]int64
	dirty map[int64]struct{} // groups whose interest could not be written; their members get a gap notice when it is
	lost  bool               // all interests must be written again
}

// loadUsers is the number of users per read of memberships, and loaders the number of concurrent reads.
const (
	loadUsers = 256
	loaders   = 2
	maxLoads  = 16384
	userBatch = 64
	userLanes = 2
)

// New starts Groups.
func New(cfg Config, d Deps) *Groups {
	ctx, stop := context.WithCancel(context.Background())
	g := &Groups{
		cfg: cfg, d: d, log: d.Log.With("pkg", "group"), began: time.Now(), index: newIndex(), blind: newBlind(),
		ctx: ctx, stop: stop, wake: make(chan struct{}, 1), owed: make(map[int64]int64), dirty: make(map[int64]struct{}),
		users: batch.NewQueue[userRows](batch.Limits{Items: cfg.Users, BatchItems: userBatch}),
	}
	g.metrics = newMetrics(d.Metrics, g)
	g.loads = batch.NewCalls(batch.Limits{Items: maxLoads, BatchItems: loadUsers}, ctx.Done(), g.load, g.panicked)
	for range loaders {
		g.wg.Go(g.loads.Run)
	}
	for range cfg.Lanes {
		h, a := newHome(g), newAway(g)
		g.home, g.away = append(g.home, h), append(g.away, a)
		g.wg.Go(h.run)
		g.wg.Go(a.run)
	}
	for range userLanes {
		g.wg.Go(func() { g.users.Run(ctx.Done(), g.deliverUsers, g.usersFailed) })
	}
	g.wg.Go(g.retry)
	g.wg.Go(g.keepInterests)
	return g
}

// Close drops everything that waits and returns when all goroutines have ended.
func (g *Groups) Close() {
	g.stop()
	g.wg.Wait()
}

func (g *Groups) panicked(p *batch.Panic) {
	g.metrics.panics.Inc()
	g.log.Error("panic in a group's fan-out", "err", p.Value, "stack", string(p.Stack))
}

// since returns the clock by which groups become empty.
func (g *Groups) since() time.Duration { return time.Since(g.began) }

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
		g.owe(p.Thread, p.Seq)
		return
	}
	g.homeLane(p.Thread).enqueue(item{rows: Rows{Thread: p.Thread, Ver: p.Ver, First: p.FirstSeq(), Last: p.Seq, Body: p.Body}})
}

// errOtherLife refuses a session that logged in under an earlier boot id of the node.
var errOtherLife = errors.New("group: the session logged in under another boot id of the node")

// Enter puts a session that is logging in into the index. The caller calls it before the session becomes Live. After
// an error the index may lack groups of the session until its client asks for its threads.
func (g *Groups) Enter(ctx context.Context, s *session.Session) error {
	if !s.Groups() {
		return nil
	}
	_, err := g.enter(ctx, s)
	return err
}

// Reconcile puts a session into the index of the groups that its client is about to be shown. It reports whether the
// index lacked any group of which the user is a member. The caller must then repeat its read, because rows committed
// in between were not pushed to the session.
func (g *Groups) Reconcile(ctx context.Context, s *session.Session, threads []int64) (added bool, err error) {
	if !s.Groups() || len(g.index.missing(s, threads)) == 0 {
		return false, nil
	}
	n, err := g.enter(ctx, s)
	return n > 0, err
}

// Leave removes a session that has ended from the index.
func (g *Groups) Leave(s *session.Session) {
	if s.Groups() {
		g.index.leave(s, g.since())
	}
}

// load is a call that reads the memberships of a user.
type load struct {
	batch.Part
	uid  int32
	list []store.ThreadMembership
}

// load reads the memberships for a batch of calls together.
func (g *Groups) load(calls []*load) {
	ctx, cancel := context.WithTimeout(g.ctx, g.cfg.Timeout)
	defer cancel()
	uids := make([]int32, len(calls))
	for i, c := range calls {
		uids[i] = c.uid
	}
	found, err := g.d.Store.Memberships(ctx, uids)
	if err != nil {
		g.metrics.loadFailures.Inc()
	}
	for _, c := range calls {
		c.list = found[c.uid]
		c.Settle(err)
	}
}

// enter reads the memberships of a session's user, puts the session into the index, and waits until the interests are
// written. The index comes first: once the interest is in Redis, other nodes rely on it.
func (g *Groups) enter(ctx context.Context, s *session.Session) (added int, err error) {
	ctx, cancel := context.WithTimeout(ctx, g.cfg.Timeout)
	defer cancel()
	if s.Boot() != g.d.Boot() {
		return 0, errOtherLife
	}
	c := &load{uid: s.UID()}
	if err := g.loads.Do(ctx, c, 1, false); err != nil {
		return 0, err
	}
	added = g.index.add(s, c.list)
	threads := make([]int64, len(c.list))
	for i := range c.list {
		threads[i] = c.list[i].Thread
	}
	return added, g.hold(ctx, threads)
}

// hold writes the interests in groups unless they are known to be written. If that fails, keepInterests repeats it
// later.
func (g *Groups) hold(ctx context.Context, threads []int64) error {
	g.index.enterLife(g.d.Boot())
	entries, epoch := g.index.interests(nil, threads, g.d.Node, false)
	if len(entries) == 0 {
		return nil
	}
	g.metrics.interests.Add(float64(len(entries)))
	if _, err := g.d.Interest.Hold(ctx, entries); err != nil {
		g.metrics.interestFailures.Inc()
		g.soil(entries)
		g.wakeUp()
		return err
	}
	g.index.noteHeld(entries, epoch)
	return nil
}

// User hands group rows to the sessions of one user, in the background, after putting these sessions into the index.
// It returns the number of the user's live sessions here, and whether one of them knows of sessions on other nodes.
func (g *Groups) User(p *session.Push) (n int, elsewhere bool) {
	var few [session.MaxDevices]*session.Session
	list, elsewhere := g.d.Registry.Find(few[:0], p)
	var shown []*session.Session
	for _, s := range list {
		if s.Groups() {
			shown = append(shown, s)
		}
	}
	if len(shown) > 0 && !g.users.Put(userRows{*p, shown}, 1) {
		g.metrics.overflows.Inc()
		for _, s := range shown {
			g.tell(s, p.Thread, p.FirstSeq())
		}
	}
	return len(list), elsewhere
}

// userRows are rows for the sessions of one user.
type userRows struct {
	push     session.Push
	sessions []*session.Session
}

// deliverUsers puts users' sessions into the index, writes the interests, and hands on the rows. Later rows may have
// been pushed before the interest was written, so the clients also get a gap notice.
func (g *Groups) deliverUsers(list []userRows) {
	ctx, cancel := context.WithTimeout(g.ctx, g.cfg.Timeout)
	defer cancel()
	members := make([]store.Membership, len(list))
	known := make([]bool, len(list))
	byThread := make(map[int64][]int32)
	for i := range list {
		p := &list[i].push
		byThread[p.Thread] = append(byThread[p.Thread], p.To)
	}
	threads := make([]int64, 0, len(byThread))
	for thread, uids := range byThread {
		ver, found, err := g.d.Store.LocalMembers(ctx, thread, uids)
		if err != nil {
			g.metrics.refreshFailures.Inc()
			g.log.Warn("members not read", "thread", thread, "n", len(uids), "err", err)
			continue
		}
		threads = append(threads, thread)
		for i := range list {
			u := &list[i]
			if u.push.Thread != thread {
				continue
			}
			if members[i], known[i] = found[u.push.To]; !known[i] {
				continue
			}
			for _, s := range u.sessions {
				g.index.add(s, []store.ThreadMembership{{Thread: thread, Ver: ver, Membership: members[i]}})
			}
		}
	}
	if err := g.hold(ctx, threads); err != nil {
		g.log.Warn("interests not written", "n", len(threads), "err", err)
	}
	for i := range list {
		u := &list[i]
		first, last := u.push.FirstSeq(), u.push.Seq
		m, missed := &members[i], first
		var frame []byte
		if known[i] && first >= m.FromSeq && (m.LeftSeq == 0 || last <= m.LeftSeq) {
			frame, missed = appendFrame(nil, u.push.Body), last+1
		}
		for _, s := range u.sessions {
			if frame != nil && s.PushFrames(frame, u.push.Thread, first) == nil {
				g.metrics.rows.Inc()
				g.metrics.writes.Inc()
			}
			g.tell(s, u.push.Thread, missed)
		}
	}
}

func (g *Groups) usersFailed(list []userRows, p *batch.Panic) {
	g.panicked(p)
	for i := range list {
		for _, s := range list[i].sessions {
			g.tell(s, list[i].push.Thread, list[i].push.FirstSeq())
		}
	}
}

// tell sends a session a gap notice, unless the session is not Live yet: the notice would precede the answer to the
// login, after which the client asks anyway.
func (g *Groups) tell(s *session.Session, thread, from int64) {
	if s.State() == session.Live && s.Gap(thread, from) {
		g.metrics.notices.Inc()
	}
}

func appendFrame(dst, body []byte) []byte {
	return append(wire.AppendHeader(dst, wire.MsgGroupPush, len(body)), body...)
}
