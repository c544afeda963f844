package swarm

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"parley/bench/engine"
	"parley/bench/foreign"
	"parley/bench/schedule"
)

// Place says where a user may log in, with the token.
type Place struct {
	engine.Target
	Said  string // the address as the cluster says it
	Node  string
	Token string
}

// Placer places users, as the cluster's status nodes do. It is called from several goroutines.
type Placer func(ctx context.Context, uids []int32) ([]Place, error)

// Config configures a fleet. Only Users and Place are required.
type Config struct {
	FirstUID int32 // the uid of the first user; the others follow, and 2i and 2i+1 from it are friends
	Users    int   // an even number
	Rooms    Rooms
	Place    Placer
	Loops    int // 0: one
	Index    int // of this process among several, so that their source addresses differ
	// Heartbeat is the requested period, in whole seconds from 5 to 300; 0 means 30 s.
	Heartbeat time.Duration
	Run       uint32 // identifies the run in every text
	Seed      uint64
	// Cross is the share of pairs whose users are on different nodes, 0 to 1; if negative, the status node decides.
	Cross float64
	// KeepTo is the number of nodes that the users of this fleet use, whatever the status node says; 0: no limit.
	// Index selects the nodes, unless Together is set: then all fleets use the same ones.
	KeepTo   int
	Together bool
	// Marks is the share of texts that their recipients mark as read, 0 to 1.
	Marks float64
	// Resume requests resume tickets and reconnects with them.
	Resume bool
	// Reconnect reconnects users whose connection is lost during a phase.
	Reconnect bool
	TextBytes int // 0: 100
	// Foreign is the server that the users speak to, if it is not Parley's. There are phases of the kinds connect, login,
	// threads, hold, chat, storm, churn and close then.
	Foreign foreign.Server
	// Roots are the authorities that sign the certificates of nodes with TLS; nil: those of the system.
	Roots *x509.CertPool
	// LoginTimeout bounds an attempt to connect and log in; 0 means 10 s.
	LoginTimeout time.Duration
}

// Fleet is the set of users of this process. Call Prepare first, then Run for each phase, then Close. Calls of Run
// must not overlap; Live may be called at any time.
type Fleet struct {
	cfg    Config
	swarms []*Swarm
	cancel context.CancelFunc
	wg     sync.WaitGroup
	fatal  chan error

	mu    sync.Mutex // guards the following
	addrs []engine.Target
	nodes []string
	said  map[string]Place // nodes that users were placed on, by address

	live liveCounters
	want chan wanted
}

type wanted struct {
	logins *logins
	user   int
}

type liveCounters struct{ online, done, offered, wrong atomic.Int64 }

// Live is the state of a running phase. The counts are since the start of the fleet. P99 is that of the last full
// second in the slowest loop, in nanoseconds.
type Live struct{ Online, Done, Offered, Wrong, P99 int64 }

// Phase is an activity of all users.
type Phase struct {
	// Kind is connect, login, threads, hold, ping, chat, storm, churn, verify or close; found and join, which create
	// groups; or fan, for use with the floor server of that name.
	Kind string
	// StartAt is the wall-clock time at which seconds begin to count, so that processes agree; zero means now.
	StartAt time.Time
	Load    schedule.Load // ping, chat, churn; login and connect if its Rates are set
	Warmup  time.Duration // before Load, at its first rate; not counted
	// Concurrency makes the load a closed loop with this many logins in flight, or unanswered pings or texts per
	// loop. 0: open loop.
	Concurrency int
	For         time.Duration // for hold, and for a closed loop
	Users       int           // for connect, login, threads: number of this process's users; 0: all
	Patience    time.Duration // maximum wait for answers, and for news of friends, after the end of the load; 0: 5 s
	Spread      time.Duration // storm: users return at random times within it
	Away        time.Duration // churn: users return after it
	Again       bool          // connect, login: close and repeat until For has passed
	Mute        int           // hold: number of users that stop reading
	Churn       schedule.Load // chat: users who do not chat leave and return at the same time
	Fine        bool          // record each tenth of a second, and the times of failures
	Entered     bool          // verify: the history was read elsewhere and passed to Enter
	Remove      float64       // chat: share of each group's online members that are removed, from the middle of the load on
	Size        int           // fan: bytes of a frame
}

// New starts the loops; the users stay idle.
func New(cfg Config) (*Fleet, error) {
	if cfg.Loops <= 0 {
		cfg.Loops = 1
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = 30 * time.Second
	}
	if cfg.TextBytes == 0 {
		cfg.TextBytes = 100
	}
	if cfg.LoginTimeout == 0 {
		cfg.LoginTimeout = 10 * time.Second
	}
	if cfg.Users < 1 {
		return nil, errors.New("swarm: no users")
	}
	f := &Fleet{cfg: cfg, fatal: make(chan error, cfg.Loops), want: make(chan wanted, cfg.Users+1)}
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	cfg.Loops = max(min(cfg.Loops, cfg.Rooms.units(cfg.Users)), 1)
	for i := range cfg.Loops {
		from, to := cfg.Rooms.Share(cfg.Users, i, cfg.Loops)
		s, err := newSwarm(f, i, from, to)
		if err != nil {
			cancel()
			return nil, err
		}
		f.swarms = append(f.swarms, s)
	}
	for _, s := range f.swarms {
		f.wg.Go(func() {
			if err := s.loop.Run(ctx); err != nil {
				f.fatal <- err
			}
		})
	}
	for range 4 {
		f.wg.Go(func() { f.placeAgain(ctx) })
	}
	return f, nil
}

// Close closes all connections and waits for the loops.
func (f *Fleet) Close() {
	f.cancel()
	f.wg.Wait()
}

// Live returns the current counts.
func (f *Fleet) Live() Live {
	l := Live{Online: f.live.online.Load(), Done: f.live.done.Load(), Offered: f.live.offered.Load(), Wrong: f.live.wrong.Load()}
	for _, s := range f.swarms {
		l.P99 = max(l.P99, s.p99.Load())
	}
	return l
}

// Nodes returns the names of the chat nodes the users were placed on.
func (f *Fleet) Nodes() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.nodes...)
}

// addrIndex returns the index of an address, adding it if it is new.
func (f *Fleet) addrIndex(p Place) uint16 {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, a := range f.addrs {
		if a == p.Target {
			return uint16(i)
		}
	}
	f.addrs = append(f.addrs, p.Target)
	f.nodes = append(f.nodes, p.Node)
	return uint16(len(f.addrs) - 1)
}

// learn notes where nodes are, for users that are told to go there.
func (f *Fleet) learn(places []Place) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.said == nil {
		f.said = map[string]Place{}
	}
	for _, p := range places {
		f.said[p.Said] = p
	}
}

// known returns the index of the address that a node was said to have.
func (f *Fleet) known(said string) (i uint16, ok bool) {
	f.mu.Lock()
	p, ok := f.said[said]
	f.mu.Unlock()
	if ok {
		i = f.addrIndex(p)
	}
	return i, ok
}

func (f *Fleet) addr(i uint16) engine.Target {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.addrs[i]
}

func (f *Fleet) addrCount() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.addrs)
}

const placeBatch = 500

// Prepare obtains a token for each user.
func (f *Fleet) Prepare(ctx context.Context) error {
	if f.cfg.Foreign != nil {
		if err := f.cfg.Foreign.Prepare(ctx, f.cfg.FirstUID, f.cfg.Users); err != nil {
			return err
		}
	}
	type batch struct{ from, to int }
	work := make(chan batch)
	places := make([]Place, f.cfg.Users)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for b := range work {
				uids := make([]int32, 0, b.to-b.from)
				for i := b.from; i < b.to; i++ {
					uids = append(uids, f.cfg.FirstUID+int32(i))
				}
				got, err := f.cfg.Place(ctx, uids)
				if err == nil && len(got) != len(uids) {
					err = fmt.Errorf("%d places for %d users", len(got), len(uids))
				}
				if err != nil {
					cancel(fmt.Errorf("swarm: place users: %w", err))
					continue
				}
				copy(places[b.from:], got)
			}
		})
	}
	for from := 0; from < f.cfg.Users; from += placeBatch {
		work <- batch{from, min(from+placeBatch, f.cfg.Users)}
	}
	close(work)
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	f.learn(places)
	f.spread(places)
	return f.all(ctx, func(s *Swarm) {
		s.logins.prepared = engine.Clock()
		for i := range s.users {
			s.logins.setPlace(i, places[s.first+i])
		}
	})
}

// spread decides which pairs are on one node and which on two. It can, because a token is valid on every node.
func (f *Fleet) spread(places []Place) {
	var seen []Place
	for _, p := range places {
		known := false
		for _, q := range seen {
			known = known || q.Target == p.Target
		}
		if !known {
			seen = append(seen, p)
		}
	}
	slices.SortFunc(seen, func(a, b Place) int { return a.Addr.Compare(b.Addr) })
	if k := f.cfg.KeepTo; 0 < k && k < len(seen) {
		at := f.cfg.Index % len(seen)
		if f.cfg.Together {
			at = 0
		}
		seen = append(seen, seen...)[at:][:k]
	} else if f.cfg.Cross < 0 || len(seen) < 2 {
		return
	}
	cross := f.cfg.Cross
	if cross < 0 {
		cross = 1 // as the status node mostly does
	}
	crossed := 0.0
	for i := 0; i+1 < len(places); i += 2 {
		a := seen[i/2%len(seen)]
		b := a
		if crossed += cross; crossed >= 1 {
			crossed--
			b = seen[(i/2+1)%len(seen)]
		}
		places[i].Target, places[i].Said, places[i].Node = a.Target, a.Said, a.Node
		places[i+1].Target, places[i+1].Said, places[i+1].Node = b.Target, b.Said, b.Node
	}
}

// all runs do on each loop and waits.
func (f *Fleet) all(ctx context.Context, do func(s *Swarm)) error {
	done := make(chan struct{}, len(f.swarms))
	for _, s := range f.swarms {
		if !s.loop.Do(func() { do(s); done <- struct{}{} }) {
			return f.ended()
		}
	}
	for range f.swarms {
		select {
		case <-done:
		case err := <-f.fatal:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// ended returns why a loop runs no more.
func (f *Fleet) ended() error {
	select {
	case err := <-f.fatal:
		return err
	default:
		return errors.New("swarm: its loops have ended")
	}
}

// Run runs a phase on all loops and returns the merged outcome. If ctx ends, it cuts the phase short and returns the
// outcome so far with ctx's error. It returns an error if the loops have ended, as after Close.
func (f *Fleet) Run(ctx context.Context, p Phase) (*Outcome, error) {
	if p.Patience == 0 {
		p.Patience = 5 * time.Second
	}
	if p.StartAt.IsZero() {
		p.StartAt = time.Now()
	}
	results := make(chan *Outcome, len(f.swarms))
	for i, s := range f.swarms {
		part := p
		part.Load = p.Load.Split(i, len(f.swarms))
		part.Churn = p.Churn.Split(i, len(f.swarms))
		if p.Concurrency > 0 {
			part.Concurrency = max(p.Concurrency*(i+1)/len(f.swarms)-p.Concurrency*i/len(f.swarms), 1)
		}
		if !s.loop.Do(func() { s.begin(part, results) }) {
			return &Outcome{}, f.ended()
		}
	}
	var parts []*Outcome
	var err error
	ended := ctx.Done()
	for len(parts) < len(f.swarms) {
		select {
		case o := <-results:
			parts = append(parts, o)
		case e := <-f.fatal:
			total, _ := Merge(parts) // e is the more useful error
			return total, e
		case <-ended:
			ended = nil
			err = context.Cause(ctx)
			for _, s := range f.swarms {
				s.loop.Do(s.cut)
			}
		}
	}
	total, e := Merge(parts)
	return total, errors.Join(err, e)
}

// placeAgain obtains new tokens for users that reconnect.
func (f *Fleet) placeAgain(ctx context.Context) {
	for {
		var batch []wanted
		select {
		case w := <-f.want:
			batch = append(batch, w)
		case <-ctx.Done():
			return
		}
	more:
		for len(batch) < placeBatch {
			select {
			case w := <-f.want:
				batch = append(batch, w)
			default:
				break more
			}
		}
		uids := make([]int32, len(batch))
		for i, w := range batch {
			uids[i] = f.cfg.FirstUID + int32(w.logins.first+w.user)
		}
		call, cancel := context.WithTimeout(ctx, 5*time.Second)
		got, err := f.cfg.Place(call, uids)
		cancel()
		for i, w := range batch {
			w.logins.loop.Do(func() {
				if err != nil || len(got) != len(uids) {
					w.logins.notPlaced(w.user)
				} else {
					w.logins.placed(w.user, got[i])
				}
			})
		}
	}
}

// sourceOptions gives each loop source addresses of its own.
func (c *Config) sourceOptions(loop int) engine.Options {
	const sources = 64
	return engine.Options{Sources: sources, FirstSource: (c.Index*c.Loops + loop) * sources, Roots: c.Roots}
}
