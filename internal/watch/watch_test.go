package watch

import (
	"context"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/presence"
	"parley/internal/session"
	"parley/internal/wire"
	"parley/test/benchgate/cputime"
)

type ctx = context.Context

var discard = slog.New(slog.DiscardHandler)

// two runs f with two nodes; user 1, on the first, watches users 2 and 3. Users 1 and 2 are friends.
func two(t *testing.T, f func(w *world, a, b *node, c *client)) {
	inWorld(t, 1, func(w *world) {
		w.slow = 10 * time.Millisecond
		w.friends[pairOf(1, 2)] = true
		a, b := w.start("a", testConfig()), w.start("b", testConfig())
		time.Sleep(2 * time.Second)
		c := a.login(1)
		require.NoError(t, c.watchThese(2, 3))
		f(w, a, b, c)
	})
}

// frames returns the number of frames that a session received while f ran.
func (c *client) frames(f func()) (n int) {
	c.mu.Lock()
	c.last = time.Time{}
	c.mu.Unlock()
	f()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.last.IsZero() {
		n++
	}
	return n
}

func TestAFriendIsSeenToComeAndGo(t *testing.T) {
	two(t, func(w *world, _, b *node, c *client) {
		require.Equal(t, wire.Presence{UID: 2}, c.is(2), "never seen")
		friend, stranger := b.login(2), b.login(3)
		time.Sleep(2 * time.Second)
		require.Equal(t, wire.Presence{UID: 2, Online: true}, c.is(2))
		second := b.login(2)
		time.Sleep(2 * time.Second)
		require.Zero(t, c.frames(func() { friend.logout(); stranger.logout(); time.Sleep(2 * time.Second) }), "another device is there")
		second.logout()
		left := minuteNow()
		time.Sleep(2 * time.Second)
		require.Equal(t, wire.Presence{UID: 2, LastSeenMin: left}, c.is(2))
		require.Equal(t, wire.Presence{UID: 3}, c.is(3), "a stranger is offline, and was never seen")
		time.Sleep(time.Hour)
		require.NoError(t, c.watchThese(3, 2, 3))
		require.Equal(t, map[int32]wire.Presence{2: {UID: 2, LastSeenMin: left}, 3: {UID: 3}}, c.told)
	})
}

func TestUsersOfADeadNodeAreOfflineWhenItsLeaseEnds(t *testing.T) {
	two(t, func(w *world, _, b *node, c *client) {
		b.login(2)
		time.Sleep(2 * time.Second)
		w.kill(b)
		w.set(func() { w.leases["b"] = lease{b.boot, time.Now().Add(10 * time.Second)}; delete(w.nodes, "b") })
		time.Sleep(9900 * time.Millisecond)
		require.True(t, c.is(2).Online, "not before")
		died := minuteNow()
		time.Sleep(2 * time.Second)
		require.False(t, c.is(2).Online)
		require.InDelta(t, died, c.is(2).LastSeenMin, 1)
		seen := c.is(2).LastSeenMin
		time.Sleep(time.Hour)
		require.NoError(t, c.watchThese(2))
		require.Equal(t, seen, c.is(2).LastSeenMin, "the time of its end is kept")
	})
}

// An absent entry means nothing while nodes write theirs back.
func TestARedisThatLostItsDataTellsNobodyOffline(t *testing.T) {
	two(t, func(w *world, a, b *node, c *client) {
		friend := b.login(2)
		time.Sleep(2 * time.Second)
		require.Zero(t, c.frames(func() { w.loseData(); a.watch.All(); time.Sleep(6 * time.Second) }))
		require.True(t, c.is(2).Online)
		w.set(func() {
			clear(w.entries)
			w.unsettled = time.Now().Add(3 * time.Second)
		})
		a.watch.All()
		require.ErrorIs(t, a.login(1).watchThese(2), nil, "what is known is answered")
		w.friends[pairOf(1, 4)] = true
		require.ErrorIs(t, a.login(1).watchThese(4), ErrUnknown, "what is not known is not")
		b.watch.table.unread.soil([]int32{2})
		friend.logout()
		time.Sleep(3 * time.Second)
		require.False(t, c.is(2).Online)
	})
}

func TestWhatCouldNotBeReadIsReadAgain(t *testing.T) {
	two(t, func(w *world, _, b *node, c *client) {
		w.set(func() { w.redisErr, w.sqlErr = errAway, errAway })
		b.login(2)
		w.friends[pairOf(1, 3)] = true
		b.login(3)
		b.watch.RightsChanged(1, 3)
		time.Sleep(5 * time.Second)
		require.False(t, c.is(2).Online)
		require.ErrorIs(t, c.n.login(1).watchThese(2), errAway)
		w.set(func() { w.redisErr, w.sqlErr = nil, nil })
		time.Sleep(2 * time.Second)
		require.True(t, c.is(2).Online)
		require.True(t, c.is(3).Online)
	})
}

func TestRightsAreThoseOfNow(t *testing.T) {
	two(t, func(w *world, _, b *node, c *client) {
		b.login(2)
		time.Sleep(2 * time.Second)
		require.True(t, c.is(2).Online)
		w.set(func() { w.hidden[2] = true })
		b.watch.RightsChanged(0, 2)
		time.Sleep(2 * time.Second)
		require.Equal(t, wire.Presence{UID: 2}, c.is(2))
		w.set(func() { w.hidden[2] = false })
		b.watch.RightsChanged(0, 2)
		time.Sleep(2 * time.Second)
		require.True(t, c.is(2).Online)
		w.set(func() { w.friends[pairOf(1, 2)] = false })
		b.watch.RightsChanged(1, 2)
		time.Sleep(2 * time.Second)
		require.Equal(t, wire.Presence{UID: 2}, c.is(2))
	})
}

// A change while a set is being read must not be overwritten by the older result.
func TestAChangeDuringASetWins(t *testing.T) {
	two(t, func(w *world, a, b *node, c *client) {
		b.login(2)
		time.Sleep(2 * time.Second)
		old := a.watch.d.Visible
		a.watch.d.Visible = func(ctx ctx, watcher int32, of []int32) ([]int32, error) {
			may, err := old(ctx, watcher, of)
			w.set(func() { w.friends[pairOf(1, 2)] = false })
			a.watch.RightsChanged(1, 2)
			time.Sleep(time.Second)
			return may, err
		}
		require.NoError(t, c.watchThese(2))
		require.False(t, c.is(2).Online)
		time.Sleep(2 * time.Second)
		require.False(t, c.is(2).Online)
	})
}

func TestNoFrameComesBeforeTheAnswer(t *testing.T) {
	two(t, func(w *world, a, b *node, c *client) {
		w.friends[pairOf(1, 4)] = true
		old := a.watch.d.Visible
		a.watch.d.Visible = func(ctx ctx, watcher int32, of []int32) ([]int32, error) {
			may, err := old(ctx, watcher, of)
			b.login(2)
			time.Sleep(1500 * time.Millisecond)
			return may, err
		}
		require.Zero(t, c.frames(func() {
			go func() { time.Sleep(100 * time.Millisecond); a.watch.rights.recheck([]change{{2, 1}}) }()
			require.NoError(t, c.watchThese(2, 4))
		}))
		require.True(t, c.is(2).Online)
	})
}

// A client that does not read takes no memory, and is told the latest state when it reads again.
func TestASlowClientIsToldTheLatest(t *testing.T) {
	two(t, func(_ *world, _, b *node, c *client) {
		c.queued = 1 << 20
		require.Zero(t, c.frames(func() {
			for range 10 {
				friend := b.login(2)
				time.Sleep(time.Second)
				friend.logout()
			}
			b.login(2)
			time.Sleep(5 * time.Second)
		}))
		c.mu.Lock()
		c.queued = 0
		c.mu.Unlock()
		time.Sleep(time.Second + tellEvery)
		require.True(t, c.is(2).Online)
	})
}

func TestSetsAreBounded(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		cfg := testConfig()
		cfg.Pairs, cfg.PerWatch, cfg.SetBurst = 5, 3, 4
		n := w.start("n", cfg)
		c, d := n.login(1), n.login(2)
		require.ErrorIs(t, c.watchThese(1, 2, 3, 4), ErrTooMany)
		require.NoError(t, c.watchThese(1, 2, 3, 3, 3))
		require.ErrorIs(t, d.watchThese(1, 2, 3), ErrFull)
		require.NoError(t, c.watchThese(1, 2))
		require.NoError(t, d.watchThese(1, 2, 3), "the place of the first set is free")
		require.NoError(t, c.watchThese())
		require.NoError(t, c.watchThese(1))
		require.ErrorIs(t, c.watchThese(1), ErrOften)
		time.Sleep(time.Second)
		require.NoError(t, c.watchThese(1))
		c.logout()
		require.ErrorIs(t, c.watchThese(1), session.ErrClosed)
		n.watch.Leave(c)
		n.watch.Leave(d)
		require.Zero(t, n.watch.table.size())
		require.Zero(t, w.reads, "strangers are not looked for")
	})
}

// However many users come and go, the messages between nodes are bounded.
func TestAStormBecomesReadAll(t *testing.T) {
	two(t, func(w *world, a, b *node, c *client) {
		sent, largest := 0, 0
		old := b.watch.d.Forward
		b.watch.d.Forward = func(node string, p *session.Push) bool {
			sent++
			largest = max(largest, len(p.Body))
			return old(node, p)
		}
		for uid := range int32(1000) {
			go b.login(uid + 100)
			if uid%100 == 0 {
				time.Sleep(100 * time.Millisecond)
			}
		}
		b.login(2)
		time.Sleep(2 * time.Second)
		require.True(t, c.is(2).Online)
		require.Less(t, sent, 10)
		require.LessOrEqual(t, largest, 5+4*b.watch.cfg.MaxNews)
	})
}

func TestTheAuditFindsWhatNobodySaid(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		cfg := testConfig()
		cfg.Audit = 2
		n := w.start("n", cfg)
		time.Sleep(time.Second)
		w.friends[pairOf(1, 2)] = true
		c := n.login(1)
		require.NoError(t, c.watchThese(2, 3, 4, 5, 6))
		w.set(func() { w.entries[2] = map[string]life{"s": {"n", n.boot}} })
		time.Sleep(6 * time.Second)
		require.True(t, c.is(2).Online)
	})
}

func TestTypingIsSaidNowAndThen(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		n := w.start("n", testConfig())
		c, now := n.login(1), time.Now()
		for thread := range int64(typedThreads) {
			require.True(t, n.watch.Typing(c, thread, now))
			require.False(t, n.watch.Typing(c, thread, now.Add(2999*time.Millisecond)))
		}
		require.False(t, n.watch.Typing(c, 99, now.Add(time.Second)), "in few threads at once")
		require.True(t, n.watch.Typing(c, 0, now.Add(3*time.Second)))
		n.watch.Leave(c)
	})
}

func TestNewsAreReadAsTheyWereWritten(t *testing.T) {
	uids, rights := map[int32]struct{}{}, map[change]struct{}{}
	for i := range int32(3) {
		uids[i+7] = struct{}{}
		rights[change{i, i + 1}] = struct{}{}
		b := encodeNews(againRights, uids, rights)
		what, gotUIDs, gotRights, err := decodeNews(b)
		require.NoError(t, err)
		require.Equal(t, againRights, what)
		require.Len(t, gotUIDs, len(uids))
		require.Len(t, gotRights, len(rights))
		for _, c := range gotRights {
			require.Contains(t, rights, c)
		}
		require.Equal(t, againUsers|againRights, missed(b))
		for n := range len(b) {
			_, _, _, err := decodeNews(b[:n])
			require.True(t, err != nil || (len(b)-n)%8 == 0)
		}
	}
}

func FuzzDecodeNews(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 1, 0, 0, 0, 7})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, uids, rights, err := decodeNews(b)
		if err == nil && 5+4*len(uids)+8*len(rights) != len(b) {
			t.Fatal(uids, rights)
		}
	})
}

// A panic costs one step, not the goroutine.
func TestAPanicIsSurvived(t *testing.T) {
	two(t, func(_ *world, a, b *node, c *client) {
		old := a.watch.d.Whereabouts
		a.watch.d.Whereabouts = func(ctx ctx, uids []int32) ([]presence.Whereabouts, string, error) {
			a.watch.d.Whereabouts = old
			panic("lost")
		}
		b.login(2)
		time.Sleep(2 * time.Second)
		require.True(t, c.is(2).Online)
	})
}

// BenchmarkPair measures the cost for a node of a session that watches 50 users.
func BenchmarkPair(b *testing.B) {
	inBench(b, func(w *Watches[*client]) {
		const of = 50
		list := make([]int32, of)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		clients := make([]*client, b.N)
		for i := range clients {
			clients[i] = &client{uid: int32(i)}
			for k := range list {
				list[k] = int32((i*7 + k*13) % max(b.N, of))
			}
			require.NoError(b, w.Set(b.Context(), clients[i], list, func([]wire.Presence) error { return nil }))
		}
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(b.N*of), "B/pair")
		runtime.KeepAlive(clients)
	})
}

// BenchmarkChange measures a user who comes or goes and is watched by 50 sessions.
func BenchmarkChange(b *testing.B) {
	inBench(b, func(w *Watches[*client]) {
		for i := range 50 {
			require.NoError(b, w.Set(b.Context(), &client{uid: int32(i)}, []int32{1}, func([]wire.Presence) error { return nil }))
		}
		u := w.table.users[1]
		found := [2][]presence.Whereabouts{{{SeenMin: 1}}, {{SeenMin: 9}}}
		b.ReportAllocs()
		defer cputime.Report(b)()
		for i := range b.N {
			w.table.learn([]*user[*client]{u}, found[i%2], true, 0, time.Time{})
			for _, at := range u.watchers {
				w.teller.tell(at.w)
			}
		}
	})
}

func inBench(b *testing.B, f func(w *Watches[*client])) {
	w := New[*client](testConfig(), Deps{
		Log:     discard,
		Visible: func(_ ctx, _ int32, of []int32) ([]int32, error) { return of, nil },
		Whereabouts: func(_ ctx, uids []int32) ([]presence.Whereabouts, string, error) {
			return make([]presence.Whereabouts, len(uids)), "", nil
		},
		Settled: func(string) bool { return true }, Nodes: func() []string { return nil },
	})
	defer w.Close()
	b.ResetTimer()
	f(w)
}
