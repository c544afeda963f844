package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"parley/internal/outbox"
	"parley/internal/session"
	"parley/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster is the rest of the cluster: where users are, and what was handed to each node.
type cluster struct {
	mu    sync.Mutex // guards the following
	where map[int32][]string
	err   error
	asked [][]int32
	sent  map[string][]session.Push
	down  map[string]bool
	gone  map[string]bool // nodes without a link
	young bool            // Redis has just lost its data
	hook  func()
}

func (c *cluster) Knows(node string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.gone[node]
}

func (c *cluster) Open(node string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.down[node]
}

func (c *cluster) Nodes() []string { return []string{"b", "c"} }

// set changes the cluster.
func (c *cluster) set(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func (c *cluster) Locate(ctx context.Context, uids []int32) ([][]string, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, slices.Clone(uids))
	if c.hook != nil {
		c.hook()
	}
	if c.err != nil {
		return nil, false, c.err
	}
	found := make([][]string, len(uids))
	for i, uid := range uids {
		found[i] = slices.Clone(c.where[uid])
	}
	return found, !c.young, ctx.Err()
}

func (c *cluster) Forward(node string, p *session.Push) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down[node] {
		return false
	}
	c.sent[node] = append(c.sent[node], *p)
	return true
}

// at moves a user.
func (c *cluster) at(uid int32, nodes ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.where[uid] = nodes
}

// take returns the numbers of texts handed to a node since the last call, and all pushes.
func (c *cluster) take(node string) (seqs []int64, pushes []session.Push) {
	c.mu.Lock()
	defer c.mu.Unlock()
	pushes, c.sent[node] = c.sent[node], nil
	for _, p := range pushes {
		seqs = append(seqs, p.Seq)
	}
	return seqs, pushes
}

func (c *cluster) questions() [][]int32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	asked := c.asked
	c.asked = nil
	return asked
}

// inbox is a local session that counts its pushes.
type inbox struct {
	mu   sync.Mutex
	seqs []int64
	err  error
}

func (b *inbox) Push(p *session.Push) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.seqs = append(b.seqs, p.Seq)
	}
	return b.err
}
func (b *inbox) Reply([]byte) error { return nil }
func (b *inbox) Close([]byte)       {}
func (b *inbox) Gone()              {}

func (b *inbox) take() []int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.seqs
	b.seqs = nil
	return s
}

type noConn struct{}

func (noConn) Fd() int                     { return -1 }
func (noConn) Write(b []byte) (int, error) { return len(b), nil }
func (noConn) Close() error                { return nil }

// world is a router in a bubble of fake time.
type world struct {
	*cluster
	t   *testing.T
	r   *Router
	reg *session.Registry
	seq int64

	told []int64 // first missed number of each notice to local sessions

	rowsHere map[int32]int // number of a user's local sessions that accept group rows
	rowsFor  []int32
}

func (w *world) rows(p *session.Push) (int, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rowsFor = append(w.rowsFor, p.To)
	return w.rowsHere[p.To], false
}

func (w *world) missed(_ *session.Session, _, from int64) {
	w.set(func() { w.told = append(w.told, from) })
}

func in(t *testing.T, change func(*Config), f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.Lanes = 2
		if change != nil {
			change(&cfg)
		}
		w := &world{cluster: &cluster{where: map[int32][]string{}, sent: map[string][]session.Push{}, down: map[string]bool{}, gone: map[string]bool{}}, t: t, reg: session.NewRegistry()}
		w.r = New(cfg, slog.New(slog.DiscardHandler), nil, w.reg, w.cluster, w.cluster, w.missed, w.rows)
		defer w.r.Close()
		f(t, w)
	})
}

// login adds a local session of a user.
func (w *world) login(uid int32, device string) (*session.Session, *inbox) {
	w.t.Helper()
	s, b := new(session.Session), new(inbox)
	s.Init(noConn{}, &session.Limits{Limits: outbox.Limits{Go: func(f func()) { f() }}})
	require.True(w.t, s.Identify(session.Identity{UID: uid, Device: device, SID: session.SID(uid), Stock: b}))
	w.reg.Add(s)
	require.Equal(w.t, session.Activated, w.reg.Activate(s))
	return s, b
}

// push delivers one text and waits until everything is idle.
func (w *world) push(uid int32) int64 {
	w.seq++
	w.r.Deliver([]session.Push{{To: uid, ID: wire.MsgTextPush, Seq: w.seq, Body: []byte("body")}}, nil)
	synctest.Wait()
	return w.seq
}

func TestLocalAndRemote(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		_, here := w.login(1, "")
		w.at(2, "b")
		one, two, three := w.push(1), w.push(2), w.push(3)
		require.Equal(t, []int64{one}, here.take())
		seqs, pushes := w.take("b")
		require.Equal(t, []int64{two}, seqs)
		require.Equal(t, "body", string(pushes[0].Body))
		require.Equal(t, [][]int32{{2}, {3}}, w.questions(), "who is here needs no look-up")
		_ = three
		w.at(3, "b")
		four := w.push(3)
		seqs, _ = w.take("b")
		require.Equal(t, []int64{four}, seqs, "offline is never remembered")
	})
}

// An action of a session is pushed to the user's other sessions, without a look-up while there are none.
func TestASkippedSessionIsAtHome(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		s, here := w.login(1, "")
		own := session.Push{To: 1, Skip: s.SID(), ID: wire.MsgTextPush, Seq: 7, Body: []byte("body")}
		w.r.Deliver([]session.Push{own}, nil)
		synctest.Wait()
		require.Empty(t, here.take())
		require.Empty(t, w.questions())
		w.at(1, "b")
		w.reg.Elsewhere(1)
		w.r.Deliver([]session.Push{own}, nil)
		synctest.Wait()
		require.Empty(t, here.take())
		seqs, _ := w.take("b")
		require.Equal(t, []int64{7}, seqs)
		s.Close()
		w.reg.Remove(s)
		w.r.Forget(1)
		w.r.Deliver([]session.Push{own}, nil)
		synctest.Wait()
		seqs, _ = w.take("b")
		require.Equal(t, []int64{7}, seqs, "the session has gone meanwhile")
	})
}

// Clients read marks again anyway, so lost ones are not owed.
func TestLostMarksAreNotOwed(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.at(2, "b")
		w.set(func() { w.down["b"] = true })
		w.r.Deliver([]session.Push{{To: 2, ID: wire.MsgMarkPush, Thread: 7, Body: []byte("{}")}}, nil)
		synctest.Wait()
		require.Zero(t, w.r.Owed())
		require.InDelta(t, 1, testutil.ToFloat64(w.r.metrics.unremembered), 0)
	})
}

func TestUsersAreFoundOnceAndForgottenInTime(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.at(2, "b")
		w.push(2)
		w.push(2)
		require.Len(t, w.questions(), 1)
		time.Sleep(DefaultConfig().CacheTTL + time.Millisecond)
		w.push(2)
		require.Len(t, w.questions(), 1, "nobody asked meanwhile: it is as old as it is")
		w.r.Forget(2)
		w.push(2)
		require.Len(t, w.questions(), 1)
	})
}

func TestCacheIsBounded(t *testing.T) {
	now := time.Now()
	c := newCache(3, 10*time.Second)
	c.put(1, []string{"a"}, now)
	_, ok := c.get(1, now.Add(6*time.Second))
	require.True(t, ok)
	_, ok = c.get(1, now.Add(9*time.Second))
	require.True(t, ok)
	_, ok = c.get(1, now.Add(12*time.Second))
	require.False(t, ok)
	for i := range int32(100) {
		c.put(i, nil, now.Add(12*time.Second))
		require.LessOrEqual(t, c.places.Len(), 6)
	}
	c.put(5, []string{"a"}, now.Add(13*time.Second))
	c.forget(5)
	_, ok = c.get(5, now.Add(13*time.Second))
	require.False(t, ok)
}

func TestMissesShareALookUpAndEachUserIsAskedForOnce(t *testing.T) {
	in(t, func(c *Config) { c.Lanes = 1 }, func(t *testing.T, w *world) {
		w.at(2, "b")
		w.at(3, "b")
		var pushes []session.Push
		for i := range 20 {
			pushes = append(pushes, session.Push{To: int32(2 + i%3), ID: wire.MsgTextPush, Seq: int64(i)})
		}
		// The lane processes its first batch while the others arrive.
		w.hook = func() { w.hook = nil; w.mu.Unlock(); w.r.Deliver(pushes, nil); w.mu.Lock() }
		w.push(9)
		asked := w.questions()
		require.Equal(t, [][]int32{{9}, {2, 3, 4}}, asked)
		seqs, _ := w.take("b")
		require.Equal(t, []int64{0, 1, 3, 4, 6, 7, 9, 10, 12, 13, 15, 16, 18, 19}, seqs)
	})
}

func TestOrderPerUser(t *testing.T) {
	in(t, func(c *Config) { c.Lanes, c.Batch = 4, 7 }, func(t *testing.T, w *world) {
		const users, each = 10, 200
		for u := range int32(users) {
			w.at(u, "b")
		}
		var wg sync.WaitGroup
		for u := range int32(users) {
			wg.Go(func() {
				for i := range each {
					w.r.Deliver([]session.Push{{To: u, ID: wire.MsgTextPush, Seq: int64(i)}}, nil)
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		_, pushes := w.take("b")
		next := map[int32]int64{}
		for _, p := range pushes {
			require.Equal(t, next[p.To], p.Seq)
			next[p.To]++
		}
		require.Len(t, pushes, users*each)
	})
}

func TestNotHereIsTriedOnceMore(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.at(2, "b")
		w.push(2)
		_, pushes := w.take("b")
		w.at(2, "c") // moved
		w.r.NotHere("b", &pushes[0])
		synctest.Wait()
		_, pushes = w.take("c")
		require.Len(t, pushes, 1)
		w.at(2, "d")
		w.r.NotHere("c", &pushes[0])
		synctest.Wait()
		seqs, _ := w.take("d")
		require.Empty(t, seqs, "left to the store")

		// The user is back on the same node, where the session may have become live since.
		seq := w.push(2)
		_, pushes = w.take("d")
		w.r.NotHere("d", &pushes[0])
		synctest.Wait()
		seqs, pushes = w.take("d")
		require.Equal(t, []int64{seq}, seqs)
		w.r.NotHere("d", &pushes[0])
		synctest.Wait()
		seqs, _ = w.take("d")
		require.Empty(t, seqs)

		// The user is on this node by now.
		seq = w.push(2)
		_, pushes = w.take("d")
		_, here := w.login(2, "")
		w.r.NotHere("d", &pushes[0])
		synctest.Wait()
		require.Equal(t, []int64{seq}, here.take())
	})
}

func TestASecondTryReachesNoSessionTwice(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		// One device is here, one was on b, one is on c.
		_, here := w.login(2, "")
		w.reg.Elsewhere(2)
		w.at(2, "b", "c")
		seq := w.push(2)
		require.Equal(t, []int64{seq}, here.take())
		_, onB := w.take("b")
		onC, _ := w.take("c")
		require.Equal(t, []int64{seq}, onC)
		w.at(2, "c")
		w.r.NotHere("b", &onB[0])
		synctest.Wait()
		require.Empty(t, here.take(), "it has it")
		seqs, _ := w.take("c")
		require.Empty(t, seqs, "it has it")

		// Both devices have moved to d, which must not get two copies.
		w.at(2, "b", "c")
		w.r.Forget(2)
		seq = w.push(2)
		_, onB = w.take("b")
		_, fromC := w.take("c")
		w.at(2, "d")
		w.r.NotHere("b", &onB[0])
		w.r.NotHere("c", &fromC[0])
		synctest.Wait()
		seqs, _ = w.take("d")
		require.Equal(t, []int64{seq}, seqs)
	})
}

func TestADeviceThatTheCacheMissedIsFound(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.at(2, "b")
		w.push(2)
		w.at(2, "b", "c") // another device logs in
		seq := w.push(2)
		_, pushes := w.take("b")
		w.r.ElsewhereToo(&pushes[1])
		synctest.Wait()
		seqs, _ := w.take("c")
		require.Equal(t, []int64{seq}, seqs)
		seqs, _ = w.take("b")
		require.Empty(t, seqs, "it has it")

		w.r.Forget(2)
		w.push(2)
		w.questions()
		_, pushes = w.take("b")
		w.r.ElsewhereToo(&pushes[0])
		synctest.Wait()
		require.Empty(t, w.questions(), "it was looked up just now")
	})
}

func TestASlowSessionIsStillTheUsers(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		_, here := w.login(2, "")
		here.err = session.ErrSlow
		w.push(2)
		require.Empty(t, w.questions())
		here.err = session.ErrClosed // perhaps because the user moved
		w.at(2, "b")
		seq := w.push(2)
		seqs, _ := w.take("b")
		require.Equal(t, []int64{seq}, seqs)
	})
}

func TestRedisAwayDropsOnlyWhoIsNotKnown(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.at(2, "b")
		w.at(4, "b")
		w.push(2)
		w.take("b")
		w.mu.Lock()
		w.err = errors.New("redis is away")
		w.mu.Unlock()
		two := w.push(2)
		w.push(4)
		seqs, _ := w.take("b")
		require.Equal(t, []int64{two}, seqs)
		time.Sleep(3 * DefaultConfig().CacheTTL)
		two = w.push(2)
		seqs, _ = w.take("b")
		require.Equal(t, []int64{two}, seqs, "who has not moved is reached for as long as Redis is away")
		w.mu.Lock()
		w.err = nil
		w.mu.Unlock()
		four := w.push(4)
		seqs, _ = w.take("b")
		require.Equal(t, []int64{four}, seqs)
	})
}

func TestAPeerThatTakesNothingIsLookedUpAgain(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.at(2, "b")
		w.down["b"] = true
		w.push(2)
		require.Len(t, w.questions(), 1)
		w.at(2, "c")
		seq := w.push(2)
		seqs, _ := w.take("c")
		require.Equal(t, []int64{seq}, seqs)
	})
}

func TestBoundsOfALane(t *testing.T) {
	for _, change := range []func(*Config){
		func(c *Config) { c.Lanes, c.LanePushes = 1, 5 },
		func(c *Config) { c.Lanes, c.LaneBytes = 1, 20 },
	} {
		in(t, change, func(t *testing.T, w *world) {
			w.at(2, "b")
			w.hook = func() {
				w.hook = nil
				w.mu.Unlock()
				for range 50 {
					w.r.Deliver([]session.Push{{To: 2, ID: wire.MsgTextPush, Body: []byte("four")}}, nil)
				}
				w.mu.Lock()
			}
			w.push(2)
			seqs, _ := w.take("b")
			require.Len(t, seqs, 6, "the one under way and what may wait")
			_, bytes := w.r.lanes[0].queue.Waiting()
			require.Zero(t, bytes)
		})
	}
}

func TestAPanicCostsABatch(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.at(2, "b")
		w.hook = func() { w.hook = nil; panic("in locate") }
		w.push(2)
		seq := w.push(2)
		seqs, _ := w.take("b")
		require.Equal(t, []int64{seq}, seqs)
	})
}

func TestCloseWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &cluster{where: map[int32][]string{2: {"b"}}, sent: map[string][]session.Push{}, down: map[string]bool{}}
		r := New(DefaultConfig(), slog.New(slog.DiscardHandler), nil, session.NewRegistry(), slowLocator{}, w, func(*session.Session, int64, int64) {}, nil)
		for i := range 100 {
			r.Deliver([]session.Push{{To: int32(i), Body: []byte(fmt.Sprint(i))}}, nil)
		}
		synctest.Wait()
		r.Close() // goleak and synctest detect leaked goroutines
		r.Deliver([]session.Push{{To: 1}}, nil)
		require.Empty(t, w.sent)
	})
}

// slowLocator answers only when its context ends.
type slowLocator struct{}

func (slowLocator) Locate(ctx context.Context, _ []int32) ([][]string, bool, error) {
	<-ctx.Done()
	return nil, false, ctx.Err()
}
