package watch

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

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
	*shared
	table  *table[C]
	reader *reader[C]
	teller *teller[C]
	rights *rights[C]
	news   *news
}

// New starts Watches.
func New[C Client](cfg Config, d Deps) *Watches[C] {
	t := newTable[C]()
	s := &shared{cfg: cfg, d: d, log: d.Log.With("pkg", "watch"), metrics: newMetrics(d.Metrics, t.size)}
	s.ctx, s.stop = context.WithCancel(context.Background())
	w := &Watches[C]{shared: s, table: t, news: newNews(s)}
	w.teller = &teller[C]{shared: s, table: t, wake: make(chan struct{}, 1)}
	w.reader = &reader[C]{shared: s, table: t, teller: w.teller, wake: make(chan struct{}, 1)}
	w.rights = &rights[C]{
		shared: s, table: t, reader: w.reader, teller: w.teller, wake: make(chan struct{}, 1), changed: make(map[change]struct{}),
	}
	s.wg.Go(func() { s.loop(w.reader.wake, w.reader.step) })
	s.wg.Go(func() { s.loop(w.teller.wake, w.teller.step) })
	s.wg.Go(func() { s.loop(w.rights.wake, w.rights.step) })
	s.wg.Go(w.news.run)
	return w
}

// Close drops everything that waits and returns when all goroutines have ended.
func (w *Watches[C]) Close() {
	w.stop()
	w.wg.Wait()
}

// Set makes a session watch the given users and no others. It passes their current states to answer, in the order of
// uids without duplicates; answer queues the reply. From then on the session is told of changes. mine.out keeps any
// change from being sent before the answer. After an error the session watches no users.
func (w *Watches[C]) Set(ctx context.Context, c C, uids []int32, answer func([]wire.Presence) error) error {
	uids = distinct(uids)
	t := w.table
	mine, err := t.replace(c, uids, &w.cfg, time.Now())
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
		signal(w.reader.wake)
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
	w.reader.soil(uids)
	w.news.changed(uids)
}

// RightsChanged announces that watcher's right to see the presence of of may have changed; with watcher 0,
// everyone's. Call it after the commit. It tells the other nodes too.
func (w *Watches[C]) RightsChanged(watcher, of int32) {
	c := change{of, watcher}
	w.rights.recheck([]change{c})
	w.news.rightsChanged(c)
}

// Deleted announces that a user's account was deleted, to this node only; with uid 0, that any accounts may have been.
func (w *Watches[C]) Deleted(uid int32) {
	if uid == 0 {
		w.rights.recheckAll()
		return
	}
	w.rights.recheck([]change{{of: uid}})
}

// All marks all users dirty, for when it is unknown what has changed.
func (w *Watches[C]) All() { w.reader.soilAll() }

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
		signal(w.reader.wake)
	}
	if ended { // it may not have announced its last changes
		w.rights.recheckAll()
	}
}

// Receive handles news from another node.
func (w *Watches[C]) Receive(p *session.Push) {
	what, uids, rights, err := decodeNews(p.Body)
	if err != nil {
		w.log.Warn("malformed news from another node", "err", err)
		what = againUsers | againRights
	}
	w.metrics.received.Inc()
	if what&againUsers != 0 {
		w.reader.soilAll()
	}
	if what&againRights != 0 {
		w.rights.recheckAll()
	}
	w.reader.soil(uids)
	w.rights.recheck(rights)
}

// Lost records that news queued for a node may not have arrived.
func (w *Watches[C]) Lost(node string, p *session.Push) { w.news.lost(node, p.Body) }

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
