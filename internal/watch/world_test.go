package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/presence"
	"parley/internal/session"
	"parley/internal/wire"
)

// world is a cluster of Watches over a Redis, an SQL database and links that are maps, in a bubble of fake time. Each
// call takes a random time before and after its effect, so that each seed is another interleaving.
type world struct {
	t  testing.TB
	wg sync.WaitGroup // calls and messages in progress

	mu        sync.Mutex // guards the following
	rand      *rand.Rand
	slow      time.Duration
	entries   map[int32]map[string]life // Redis: user -> session -> life
	seen      map[int32]int32
	leases    map[string]lease
	unsettled time.Time
	redisErr  error
	sqlErr    error
	friends   map[[2]int32]bool
	hidden    map[int32]bool
	nodes     map[string]*node
	sessions  int
	reads     int // reads of users in Redis
}

type lease struct {
	boot string
	ends time.Time // zero: it is kept
}

// node is a process, in one life after the other.
type node struct {
	w     *world
	name  string
	watch *Watches[*client]
	stop  chan struct{}

	// Guarded by world.mu.
	boot    string
	clients map[*client]struct{}
	paused  chan struct{} // closed when the process continues; nil: not paused
	cut     bool          // it has no links
	lossy   bool          // links to it lose messages
}

// client is a session of a user.
type client struct {
	n    *node
	uid  int32
	sid  string
	boot string

	mu     sync.Mutex // guards the following
	dead   bool
	set    []int32
	told   map[int32]wire.Presence // nil: no set has been answered
	last   time.Time               // of the last frame
	queued int
}

var errAway = errors.New("away")

func inWorld(t *testing.T, seed uint64, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			t: t, rand: rand.New(rand.NewPCG(seed, 1)), entries: make(map[int32]map[string]life), seen: make(map[int32]int32),
			leases: make(map[string]lease), friends: make(map[[2]int32]bool), hidden: make(map[int32]bool), nodes: make(map[string]*node),
		}
		defer func() {
			for _, n := range w.nodes {
				n.resume()
				n.end()
			}
			w.wg.Wait()
		}()
		f(w)
	})
}

func (w *world) n(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rand.IntN(n)
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// pause waits for a random part of w.slow.
func (w *world) pause() {
	w.mu.Lock()
	d := time.Duration(0)
	if w.slow > 0 {
		d = time.Duration(w.rand.Int64N(int64(w.slow)))
	}
	w.mu.Unlock()
	time.Sleep(d)
}

func testConfig() Config {
	cfg := DefaultConfig()
	cfg.Audit, cfg.MaxNews, cfg.Batch, cfg.SetBurst = 0, 8, 4, 1000
	return cfg
}

func (w *world) start(name string, cfg Config) *node {
	n := &node{w: w, name: name, boot: fmt.Sprint("boot", w.n(1<<30)), clients: make(map[*client]struct{}), stop: make(chan struct{})}
	n.watch = New[*client](cfg, Deps{
		Log: slog.New(slog.DiscardHandler), Visible: n.visible, Watchers: n.watchers, Whereabouts: n.whereabouts,
		Settled: func(string) bool { w.mu.Lock(); defer w.mu.Unlock(); return !time.Now().Before(w.unsettled) },
		NoteSeen: func(_ context.Context, uids []int32, minute int32) error {
			n.call()
			w.set(func() {
				for _, uid := range uids {
					w.seen[uid] = minute
				}
			})
			return nil
		},
		Nodes: func() []string { return w.others(name) }, Forward: n.forward,
	})
	w.set(func() {
		w.leases[name] = lease{boot: n.boot}
		w.nodes[name] = n
	})
	w.wg.Go(n.see)
	return n
}

func (w *world) others(name string) (names []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for other := range w.nodes {
		if other != name {
			names = append(names, other)
		}
	}
	slices.Sort(names)
	return names
}

// see reads the leases.
func (n *node) see() {
	for {
		n.call()
		n.w.mu.Lock()
		away := n.w.redisErr != nil
		var nodes []presence.Node
		for name := range n.w.leases {
			if boot := n.w.leaseLocked(name); boot != "" {
				nodes = append(nodes, presence.Node{Lease: presence.Lease{Name: name, Boot: boot}, Live: true})
			}
		}
		n.w.mu.Unlock()
		if !away {
			n.watch.Lives(nodes)
		}
		select {
		case <-n.stop:
			return
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// leaseLocked returns the boot id in a node's lease, or "".
func (w *world) leaseLocked(name string) string {
	l := w.leases[name]
	if !l.ends.IsZero() && !time.Now().Before(l.ends) {
		return ""
	}
	return l.boot
}

// call takes the time of a node's call; a paused node makes none.
func (n *node) call() {
	n.w.pause()
	n.w.mu.Lock()
	paused := n.paused
	n.w.mu.Unlock()
	if paused != nil {
		<-paused
	}
}

func (n *node) resume() {
	n.w.set(func() {
		if n.paused != nil {
			close(n.paused)
			n.paused = nil
		}
	})
}

func (n *node) end() {
	close(n.stop)
	n.watch.Close()
}

// Redis.

func (n *node) whereabouts(ctx context.Context, uids []int32) (found []presence.Whereabouts, gen string, err error) {
	n.call()
	n.w.set(func() {
		n.w.reads += len(uids)
		if err = n.w.redisErr; err != nil {
			return
		}
		for _, uid := range uids {
			at := presence.Whereabouts{SeenMin: n.w.seen[uid]}
			for sid, l := range n.w.entries[uid] {
				at.Locations = append(at.Locations, presence.Location{UID: uid, SID: sid, Node: l.node, Boot: l.boot})
			}
			found = append(found, at)
		}
	})
	n.call()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return found, "", err
}

// SQL.

func (w *world) seesLocked(watcher, of int32) bool {
	return w.friends[pairOf(watcher, of)] && !w.hidden[of]
}

func pairOf(a, b int32) [2]int32 { return [2]int32{min(a, b), max(a, b)} }

func (n *node) visible(_ context.Context, watcher int32, of []int32) (may []int32, err error) {
	n.call()
	n.w.set(func() {
		err = n.w.sqlErr
		for _, uid := range of {
			if n.w.seesLocked(watcher, uid) {
				may = append(may, uid)
			}
		}
	})
	n.call()
	return may, err
}

func (n *node) watchers(_ context.Context, watchers []int32, of int32) (may []int32, err error) {
	n.call()
	n.w.set(func() {
		err = n.w.sqlErr
		for _, uid := range watchers {
			if n.w.seesLocked(uid, of) {
				may = append(may, uid)
			}
		}
	})
	n.call()
	return may, err
}

// Links.

func (n *node) forward(to string, p *session.Push) bool {
	w := n.w
	w.mu.Lock()
	other := w.nodes[to]
	cut, lost := other == nil || other.cut, other != nil && other.lossy && w.rand.IntN(2) == 0
	w.mu.Unlock()
	if cut {
		return false
	}
	again := *p
	w.wg.Go(func() {
		w.pause()
		if lost && w.n(2) == 0 { // else only the answer was lost
			w.pause()
			n.watch.Lost(to, &again)
			return
		}
		other.call()
		other.watch.Receive(&again)
		if lost {
			n.watch.Lost(to, &again)
		}
	})
	return true
}

// Sessions.

func (c *client) UID() int32 { return c.uid }

func (c *client) State() session.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return session.Dead
	}
	return session.Live
}

func (c *client) Queued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queued
}

func (c *client) Push(p *session.Push) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return session.ErrClosed
	}
	now := time.Now()
	if now.Sub(c.last) < time.Second {
		c.n.w.t.Errorf("user %d got a frame %v after the last one", c.uid, now.Sub(c.last))
	}
	c.last = now
	var body wire.OnlinePush
	if err := wire.Decode(p.Body, &body); err != nil || len(body.States) == 0 || p.ID != wire.MsgOnline {
		c.n.w.t.Errorf("frame %q: %v", p.Body, err)
	}
	for _, s := range body.States {
		if at, ok := c.told[s.UID]; ok {
			if at == s {
				c.n.w.t.Errorf("user %d was told the same again: %+v", c.uid, s)
			}
			c.told[s.UID] = s
		}
	}
	return nil
}

// login opens a session: it takes its place in Redis, becomes live, and is then announced by the node.
func (n *node) login(uid int32) *client {
	w := n.w
	c := &client{n: n, uid: uid}
	w.pause()
	w.set(func() {
		w.sessions++
		c.sid, c.boot = fmt.Sprint("s", w.sessions), n.boot
		if w.entries[uid] == nil {
			w.entries[uid] = make(map[string]life)
		}
		w.entries[uid][c.sid] = life{n.name, c.boot}
		n.clients[c] = struct{}{}
	})
	w.pause()
	n.watch.Changed(uid)
	return c
}

// logout ends a session; its entry is removed later.
func (c *client) logout() {
	c.kill()
	c.n.watch.Leave(c)
	c.n.call()
	c.release()
	c.n.call()
	c.n.watch.Changed(c.uid)
}

func (c *client) kill() {
	c.mu.Lock()
	c.dead = true
	c.mu.Unlock()
	c.n.w.set(func() { delete(c.n.clients, c) })
}

func (c *client) release() {
	w := c.n.w
	w.set(func() {
		if _, there := w.entries[c.uid][c.sid]; there {
			delete(w.entries[c.uid], c.sid)
			if len(w.entries[c.uid]) == 0 {
				w.seen[c.uid] = minuteNow()
			}
		}
	})
}

func minuteNow() int32 { return int32(time.Now().Unix() / 60) }

// watchThese replaces the session's set.
func (c *client) watchThese(uids ...int32) error {
	c.mu.Lock()
	c.set, c.told = uids, nil
	c.mu.Unlock()
	return c.n.watch.Set(context.Background(), c, uids, func(states []wire.Presence) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.told = make(map[int32]wire.Presence)
		for _, s := range states {
			c.told[s.UID] = s
		}
		return nil
	})
}

// is returns what a session has been told about a user.
func (c *client) is(uid int32) wire.Presence {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.told[uid]
}

// onlineLocked returns whether a user is really online.
func (w *world) onlineLocked(uid int32) bool {
	for _, l := range w.entries[uid] {
		if w.leaseLocked(l.node) == l.boot {
			return true
		}
	}
	return false
}

// judge compares what each session was told with the truth.
func (w *world) judge(when string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.nodes {
		for c := range n.clients {
			c.mu.Lock()
			for uid, told := range c.told {
				want := wire.Presence{UID: uid}
				if w.seesLocked(c.uid, uid) {
					want.Online = w.onlineLocked(uid)
				}
				if told.Online != want.Online {
					w.t.Errorf("%s: %s: session %s of %d: told %+v, sees %v, entries %v, leases %v", when, n.name, c.sid, c.uid, told,
						w.seesLocked(c.uid, uid), w.entries[uid], w.leases)
				}
				if told.LastSeenMin != 0 && (told.Online || !w.seesLocked(c.uid, uid)) {
					w.t.Errorf("%s: session of %d: told %+v", when, c.uid, told)
				}
			}
			c.mu.Unlock()
		}
	}
}

// TestWatchersAreToldTheTruth checks the promise of the package: two seconds after the last event, each session knows
// the truth, whatever happened before; and no session receives more than one frame a second.
func TestWatchersAreToldTheTruth(t *testing.T) {
	seeds := 40
	if testing.Short() {
		seeds = 5
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			inWorld(t, uint64(seed), func(w *world) {
				w.slow = time.Duration(1+w.n(60)) * time.Millisecond
				for i := range 2 + w.n(3) {
					w.start(fmt.Sprint("n", i), testConfig())
				}
				for a := range int32(users) {
					for b := range a {
						w.friends[[2]int32{b, a}] = w.n(3) > 0
					}
				}
				for round := range 6 {
					for range 5 + w.n(40) {
						w.act()
					}
					w.heal()
					time.Sleep(2 * time.Second)
					w.judge(fmt.Sprint("round ", round))
					if t.Failed() {
						return
					}
				}
			})
		})
	}
}

const users = 12

// act performs a random event without waiting for its completion.
func (w *world) act() {
	names := w.others("")
	n := w.nodes[names[w.n(len(names))]]
	uid := int32(w.n(users))
	var c *client
	w.set(func() {
		for at := range n.clients {
			if c == nil || at.sid < c.sid {
				c = at
			}
		}
		i := 0
		if len(n.clients) > 0 {
			i = w.rand.IntN(len(n.clients))
		}
		for at := range n.clients { // which one is random, but not reproducible
			if i--; i < 0 {
				c = at
				break
			}
		}
	})
	boot := func() string { return fmt.Sprint("boot", w.n(1<<30)) }
	switch k := w.n(40); {
	case k < 10:
		w.wg.Go(func() {
			c := n.login(uid)
			if w.n(4) > 0 {
				_ = c.watchThese(w.some()...)
			}
		})
	case k < 16 && c != nil:
		w.wg.Go(c.logout)
	case k < 20 && c != nil:
		c.mu.Lock()
		busy := c.told == nil && c.set != nil
		c.mu.Unlock()
		if !busy {
			w.wg.Go(func() { _ = c.watchThese(w.some()...) })
		}
	case k < 22: // many at once
		for range 20 {
			w.wg.Go(func() { n.login(int32(w.n(users))) })
		}
	case k < 25:
		other := int32(w.n(users))
		w.wg.Go(func() {
			w.set(func() { w.friends[pairOf(uid, other)] = !w.friends[pairOf(uid, other)] })
			n.call()
			n.watch.RightsChanged(uid, other)
			n.watch.RightsChanged(other, uid)
		})
	case k < 27:
		w.wg.Go(func() {
			w.set(func() { w.hidden[uid] = !w.hidden[uid] })
			n.call()
			n.watch.RightsChanged(0, uid)
		})
	case k < 29: // the process dies and another one starts
		w.kill(n)
		w.start(n.name, testConfig())
	case k < 30: // the lease lapses, and is taken again
		w.set(func() { w.leases[n.name] = lease{n.boot, time.Now()} })
		w.pause()
		w.set(func() {
			if w.rand.IntN(2) == 0 {
				w.leases[n.name] = lease{boot: n.boot}
			}
		})
	case k < 31: // paused: the lease lapses
		w.set(func() {
			if n.paused == nil {
				n.paused = make(chan struct{})
				w.leases[n.name] = lease{n.boot, time.Now().Add(time.Second)}
			}
		})
	case k < 32: // fenced: another life, without sessions
		w.fence(n, boot())
	case k < 33:
		w.set(func() { w.redisErr = errAway })
	case k < 34:
		w.set(func() { w.sqlErr = errAway })
	case k < 35:
		w.loseData()
	case k < 36: // one key
		w.wg.Go(func() {
			w.set(func() { delete(w.entries, uid) })
			w.pause()
			w.restore(func(c *client) bool { return c.uid == uid })
		})
	case k < 37:
		w.set(func() { n.cut = !n.cut })
	case k < 38:
		w.set(func() { n.lossy = !n.lossy })
	case k < 39 && c != nil:
		c.mu.Lock()
		c.queued = 1<<20 - c.queued
		c.mu.Unlock()
	}
	if w.n(3) == 0 {
		time.Sleep(time.Duration(w.n(1500)) * time.Millisecond)
	}
}

// some returns users to watch.
func (w *world) some() (uids []int32) {
	for range w.n(users) {
		uids = append(uids, int32(w.n(users)))
	}
	return uids
}

// kill ends a process without cleaning up. Its lease remains for a moment.
func (w *world) kill(n *node) {
	n.resume()
	n.end()
	w.set(func() {
		for c := range n.clients {
			c.mu.Lock()
			c.dead = true
			c.mu.Unlock()
		}
		clear(n.clients)
	})
}

// fence ends the sessions of a life, releases their entries, and begins another life.
func (w *world) fence(n *node, boot string) {
	n.resume()
	var ended []*client
	w.set(func() {
		for c := range n.clients {
			ended = append(ended, c)
		}
		n.boot = boot
	})
	for _, c := range ended {
		w.wg.Go(c.logout)
	}
	w.set(func() { w.leases[n.name] = lease{boot: boot} })
}

// loseData empties Redis; the nodes write their sessions back.
func (w *world) loseData() {
	w.set(func() {
		clear(w.entries)
		clear(w.seen)
		w.unsettled = time.Now().Add(3 * time.Second)
	})
	w.wg.Go(func() {
		time.Sleep(time.Duration(w.n(2000)) * time.Millisecond)
		w.restore(func(*client) bool { return true })
		for _, name := range w.others("") {
			w.mu.Lock()
			n := w.nodes[name]
			w.mu.Unlock()
			n.watch.All()
		}
	})
}

// restore writes back entries that Redis has lost.
func (w *world) restore(which func(*client) bool) {
	var back []*client
	w.set(func() {
		for _, n := range w.nodes {
			for c := range n.clients {
				if _, there := w.entries[c.uid][c.sid]; which(c) && !there && c.boot == n.boot {
					if w.entries[c.uid] == nil {
						w.entries[c.uid] = make(map[string]life)
					}
					w.entries[c.uid][c.sid] = life{n.name, c.boot}
					back = append(back, c)
				}
			}
		}
	})
	for _, c := range back {
		if c.State() == session.Dead {
			c.release()
		}
		c.n.watch.Changed(c.uid)
	}
}

// heal ends all faults and waits until everything is idle.
func (w *world) heal() {
	w.set(func() { w.redisErr, w.sqlErr = nil, nil })
	for _, name := range w.others("") {
		w.mu.Lock()
		n := w.nodes[name]
		fenced := n.paused != nil
		n.cut, n.lossy = false, false
		for c := range n.clients {
			c.mu.Lock()
			c.queued = 0
			c.mu.Unlock()
		}
		w.mu.Unlock()
		if fenced {
			w.fence(n, fmt.Sprint("boot", w.n(1<<30)))
		}
		w.set(func() {
			if l := w.leases[name]; !l.ends.IsZero() {
				w.leases[name] = lease{boot: n.boot}
			}
		})
	}
	time.Sleep(time.Until(w.unsettled))
	time.Sleep(4 * w.slow) // until nothing is in progress
	for _, name := range w.others("") {
		w.mu.Lock()
		n := w.nodes[name]
		w.mu.Unlock()
		for c := range n.clients {
			require.Equal(w.t, n.boot, c.boot)
		}
	}
}
