package watch

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/internal/batch"
	"parley/internal/presence"
	"parley/internal/session"
	"parley/internal/wire"
)

// Client is a session that watches users; *session.Session implements it.
type Client interface {
	comparable
	UID() int32
	State() session.State
	Push(p *session.Push) error
	Queued() int
}

// Config bounds Watches. See DefaultConfig.
type Config struct {
	Pairs    int           // pairs of a session and a watched user
	PerWatch int           // users watched by one session
	Sets     time.Duration // a session may replace its set once in this time, and SetBurst times at once
	SetBurst int
	Batch    int           // users per read of Redis
	Gather   time.Duration // after a change, how long others are gathered for the same read
	News     time.Duration // interval between messages to another node
	MaxNews  int           // changed users per message; beyond it the other nodes read all users again
	Spacing  time.Duration // minimum time between frames to one session
	Backlog  int           // bytes queued for a client, beyond which its states wait in the table
	Timeout  time.Duration // of one read of Redis or SQL
	Retry    time.Duration // pause after a failed read
	Audit    int           // users read again per second although no change is known
	Typing   time.Duration // minimum time between typing notices of one session in one thread
}

// DefaultConfig returns the bounds of docs/LIMITS.md.
func DefaultConfig() Config {
	return Config{
		Pairs: 2_000_000, PerWatch: wire.MaxWatched, Sets: time.Second, SetBurst: 10, Batch: 256, Gather: 100 * time.Millisecond,
		News: 500 * time.Millisecond, MaxNews: 4096, Spacing: time.Second, Backlog: 16 << 10,
		Timeout: 2 * time.Second, Retry: 250 * time.Millisecond, Audit: 64, Typing: 3 * time.Second,
	}
}

// Deps are the dependencies of Watches. Nodes, Forward and Settled must not block.
type Deps struct {
	Log     *slog.Logger
	Metrics prometheus.Registerer // nil: registered nowhere
	// Visible returns the users in of whose presence watcher may see.
	Visible func(ctx context.Context, watcher int32, of []int32) ([]int32, error)
	// Watchers returns the users in watchers who may see the presence of of.
	Watchers func(ctx context.Context, watchers []int32, of int32) ([]int32, error)
	// Whereabouts reads where users are, and the generation id of the data in Redis. Settled reports whether all
	// nodes have written their sessions into the data with that id.
	Whereabouts func(ctx context.Context, uids []int32) (found []presence.Whereabouts, gen string, err error)
	Settled     func(gen string) bool
	// NoteSeen records that users went offline now without a release, because their node died.
	NoteSeen func(ctx context.Context, uids []int32, minute int32) error
	// Nodes returns the nodes that Forward can reach. Forward queues a copy of a push for a node, and returns false
	// if it cannot.
	Nodes   func() []string
	Forward func(node string, p *session.Push) bool
}

var (
	// ErrTooMany refuses a set that is too large.
	ErrTooMany = errors.New("watch: too many users")
	// ErrFull refuses a set because the node has reached its limit of pairs.
	ErrFull = errors.New("watch: this node has reached its limit of watched users")
	// ErrOften refuses a set because the session replaced its set too often.
	ErrOften = errors.New("watch: set replaced too often")
	// ErrUnknown refuses a set because Redis did not answer in time.
	ErrUnknown = errors.New("watch: presence is unknown")
)

// Watches tells the sessions of this node about the users they watch. New starts it; Close ends it. All methods are
// safe for concurrent use.
type Watches[C Client] struct {
	cfg     Config
	d       Deps
	log     *slog.Logger
	metrics *metrics

	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	table  table[C]
	read   chan struct{} // holds a token while there may be dirty users
	soon   atomic.Bool   // such a token comes within Config.Gather
	tell   chan struct{} // holds a token while sessions may have changes
	check  chan struct{} // holds a token while rights may have to be read
	news   news
	rights rights
}

// New starts Watches.
func New[C Client](cfg Config, d Deps) *Watches[C] {
	ctx, stop := context.WithCancel(context.Background())
	w := &Watches[C]{
		cfg: cfg, d: d, log: d.Log.With("pkg", "watch"), ctx: ctx, stop: stop,
		read: make(chan struct{}, 1), tell: make(chan struct{}, 1), check: make(chan struct{}, 1),
	}
	w.table.init()
	w.metrics = newMetrics(d.Metrics, w.size)
	w.news.init()
	w.rights.changed = make(map[change]struct{})
	w.wg.Go(func() { w.loop(w.read, w.readDirty) })
	w.wg.Go(func() { w.loop(w.tell, w.tellChanged) })
	w.wg.Go(func() { w.loop(w.check, w.checkRights) })
	w.wg.Go(w.sendNews)
	return w
}

// Close drops everything that waits and returns when all goroutines have ended.
func (w *Watches[C]) Close() {
	w.stop()
	w.wg.Wait()
}

// loop calls step whenever wake holds a token. step returns the time after which to call it again in any case; 0
// means never.
func (w *Watches[C]) loop(wake chan struct{}, step func() time.Duration) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-w.ctx.Done():
			return
		case <-wake:
		case <-timer.C:
		}
		rest := w.cfg.Retry
		if p := batch.Try(func() { rest = step() }); p != nil {
			w.panicked(p)
		}
		if rest == 0 {
			rest = time.Hour
		}
		timer.Reset(rest)
	}
}

func (w *Watches[C]) panicked(p *batch.Panic) {
	w.metrics.panics.Inc()
	w.log.Error("panic", "err", p.Value, "stack", string(p.Stack))
}

func signal(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// sleep waits for d, and returns false if Close was called.
func (w *Watches[C]) sleep(d time.Duration) bool {
	select {
	case <-w.ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (w *Watches[C]) size() sizes {
	t := &w.table
	t.mu.Lock()
	defer t.mu.Unlock()
	return sizes{len(t.watchers), t.pairs, len(t.users), len(t.dirty) + len(t.doubtful), len(t.changed)}
}

// Set makes a session watch the given users and no others. It passes their current states to answer, in the order of
// uids without duplicates; answer queues the reply. From then on the session is told of changes. mine.out keeps any
// change from being sent before the answer. After an error the session watches no users.
func (w *Watches[C]) Set(ctx context.Context, c C, uids []int32, answer func([]wire.Presence) error) error {
	uids = distinct(uids)
	t := &w.table
	mine, err := t.replace(c, uids, w, time.Now())
	if err != nil {
		w.metrics.refused.Inc()
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	if err := w.fill(ctx, c, mine, uids); err != nil {
		w.metrics.refused.Inc()
		t.clear(c)
		return err
	}
	mine.out.Lock()
	defer mine.out.Unlock()
	return answer(t.ready(mine))
}

// fill reads the rights for a new set, and waits until the users that the session may see are known.
func (w *Watches[C]) fill(ctx context.Context, c C, mine *watcher[C], uids []int32) error {
	if len(uids) == 0 {
		return nil
	}
	visible, err := w.d.Visible(ctx, c.UID(), uids)
	if err != nil {
		return err
	}
	w.metrics.rightsRead.Add(float64(len(uids)))
	if w.table.allow(mine, visible) {
		signal(w.read)
	}
	for {
		known, again := w.table.known(mine)
		if known {
			return nil
		}
		select {
		case <-again:
		case <-ctx.Done():
			return ErrUnknown
		case <-w.ctx.Done():
			return ErrUnknown
		}
	}
}

// Leave removes a session that has ended.
func (w *Watches[C]) Leave(c C) { w.table.leave(c) }

// Changed announces that a session of each of these users began or ended. Call it after the change is in Redis. It
// tells the other nodes too.
func (w *Watches[C]) Changed(uids ...int32) {
	w.soil(uids)
	w.news.changed(uids, w.cfg.MaxNews)
}

// soil marks users dirty. They are read a little later, because others change too, and a read costs as much for one user as
// for several.
func (w *Watches[C]) soil(uids []int32) {
	if w.table.soil(uids) && w.soon.CompareAndSwap(false, true) {
		time.AfterFunc(w.cfg.Gather, func() {
			w.soon.Store(false)
			signal(w.read)
		})
	}
}

// RightsChanged announces that watcher's right to see the presence of of may have changed; with watcher 0,
// everyone's. Call it after the commit. It tells the other nodes too.
func (w *Watches[C]) RightsChanged(watcher, of int32) {
	w.recheck([]change{{of, watcher}})
	w.news.rightsChanged(change{of, watcher}, w.cfg.MaxNews)
}

// Deleted announces that a user's account was deleted, to this node only; with uid 0, that any accounts may have been.
func (w *Watches[C]) Deleted(uid int32) {
	if uid == 0 {
		w.recheckAll()
		return
	}
	w.recheck([]change{{of: uid}})
}

// All marks all users dirty, for when it is unknown what has changed.
func (w *Watches[C]) All() {
	w.metrics.all.Inc()
	if w.table.soilAll() {
		signal(w.read)
	}
}

// Lives records which lives of nodes have a lease now.
func (w *Watches[C]) Lives(nodes []presence.Node) {
	alive := make(map[life]struct{}, len(nodes))
	for _, n := range nodes {
		if n.Live {
			alive[life{n.Name, n.Boot}] = struct{}{}
		}
	}
	read, ended := w.table.live(alive)
	if read {
		signal(w.read)
	}
	if ended { // it may not have announced its last changes
		w.recheckAll()
	}
}

// readDirty reads one batch of dirty users.
func (w *Watches[C]) readDirty() (rest time.Duration) {
	t := &w.table
	users := t.takeDirty(w.cfg.Batch, time.Now())
	if len(users) == 0 {
		return w.audit()
	}
	read := false
	defer func() {
		if !read {
			t.giveBack(users)
		}
	}()
	uids := make([]int32, len(users))
	for i, u := range users {
		uids[i] = u.uid
	}
	ctx, cancel := context.WithTimeout(w.ctx, w.cfg.Timeout)
	defer cancel()
	found, gen, err := w.d.Whereabouts(ctx, uids)
	if err != nil {
		if w.ctx.Err() == nil {
			w.metrics.readFailures.Inc()
			w.log.Warn("presence not read, retrying", "n", len(uids), "err", err)
		}
		return w.cfg.Retry
	}
	w.metrics.read.Add(float64(len(uids)))
	now := time.Now()
	minute := int32(now.Unix() / 60)
	changed, crashed := t.learn(users, found, w.d.Settled(gen), minute, now.Add(w.cfg.Retry))
	read = true
	if changed {
		signal(w.tell)
	}
	if len(crashed) > 0 {
		if err := w.d.NoteSeen(ctx, crashed, minute); err != nil {
			w.log.Debug("last seen not noted", "n", len(crashed), "err", err) // this node has the time all the same
		}
	}
	more, later := t.unread()
	if more {
		signal(w.read)
	}
	if later {
		return w.cfg.Retry
	}
	return w.auditEvery()
}

// audit marks a few users dirty, once per second.
func (w *Watches[C]) audit() (rest time.Duration) {
	if w.table.audit(w.cfg.Audit, time.Now()) {
		signal(w.read)
	}
	if _, later := w.table.unread(); later {
		return w.cfg.Retry
	}
	return w.auditEvery()
}

func (w *Watches[C]) auditEvery() time.Duration {
	if w.cfg.Audit == 0 {
		return 0
	}
	return time.Second
}

// tellEvery is the interval at which sessions waiting for their next frame are checked.
const tellEvery = 20 * time.Millisecond

// tellChanged tells the sessions whose next frame is due.
func (w *Watches[C]) tellChanged() (rest time.Duration) {
	due, waits := w.table.due(nil, time.Now())
	for _, mine := range due {
		if p := batch.Try(func() { w.tellOne(mine) }); p != nil {
			w.panicked(p)
		}
	}
	if waits || len(due) > 0 {
		return tellEvery
	}
	return 0
}

// tellOne sends a session the states that differ from what it was told.
func (w *Watches[C]) tellOne(mine *watcher[C]) {
	t := &w.table
	mine.out.Lock()
	defer mine.out.Unlock()
	if mine.client.Queued() > w.cfg.Backlog {
		w.metrics.delayed.Inc()
		t.later(mine, time.Now().Add(w.cfg.Spacing))
		return
	}
	states := t.differ(mine, time.Now().Add(w.cfg.Spacing))
	if len(states) == 0 {
		return
	}
	w.metrics.frames.Inc()
	w.metrics.states.Add(float64(len(states)))
	body := wire.AppendOnlinePush(make([]byte, 0, 16+56*len(states)), states)
	_ = mine.client.Push(&session.Push{To: mine.client.UID(), ID: wire.MsgOnline, Body: body}) // an error means that the session has ended
}

// distinct returns uids without duplicates, in order.
func distinct(uids []int32) []int32 {
	seen := make(map[int32]struct{}, len(uids))
	out := make([]int32, 0, len(uids))
	for _, uid := range uids {
		if _, double := seen[uid]; !double {
			seen[uid] = struct{}{}
			out = append(out, uid)
		}
	}
	return out
}
