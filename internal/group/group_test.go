package group

import (
	"context"
	"maps"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/batch"
	"parley/internal/presence"
	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
)

// has returns the numbers of a group's rows that a client has, however it received them.
func (c *client) has(thread int64) (seqs []int64) {
	c.read()
	for seq := range c.rows[thread] {
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	return seqs
}

// forget makes a client forget its rows, so that later pushes are visible.
func (c *client) forget() {
	c.read()
	clear(c.rows)
	c.gaps = nil
}

func (w *world) readsOf() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reads
}

// held returns what Redis contains for a group.
func (w *world) held(thread int64) map[string]uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.hash[thread])
}

// members makes users members of group 1 and logs each of them in on a node.
func (w *world) members(n *node, uids ...int32) (list []*client) {
	for _, uid := range uids {
		w.join(1, uid)
		list = append(list, n.login(uid))
	}
	synctest.Wait()
	for _, c := range list {
		c.forget()
	}
	return list
}

func TestARowReachesTheMembersOnEachNodeOnce(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		a, b := w.start("a"), w.start("b")
		w.start("c")
		here, there := w.members(a, 1, 2), w.members(b, 3)
		w.join(2, 4)
		other := b.login(4)
		other.forget()
		r := w.text(1)
		r.Skip = here[1].SID()
		a.Publish(r)
		synctest.Wait()
		require.Equal(t, []int64{r.First}, here[0].has(1))
		require.Empty(t, here[1].has(1), "its answer told it")
		require.Equal(t, []int64{r.First}, there[0].has(1))
		require.Equal(t, 1, there[0].rows[1][r.First])
		require.Empty(t, other.has(1))
		require.Equal(t, 1, w.readsOf(), "on the node where some have logged in before others joined")
		again := w.text(1)
		b.Publish(again)
		synctest.Wait()
		for _, c := range append(here, there...) {
			require.Contains(t, c.has(1), again.First)
		}
		require.Equal(t, 1, w.readsOf(), "nothing has changed")
	})
}

// Waiting rows of a group are written together, and each member receives those that it may read.
func TestRowsThatWaitAreWrittenTogether(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		a := w.start("a")
		old := w.members(a, 1)[0]
		lane := newHome(a.shared, a.owed)
		first := w.text(1)
		event, _ := w.join(1, 2)
		young := a.login(2)
		young.forget()
		second := w.text(1)
		second.Skip = old.SID()
		lane.deliver([]item{{rows: first}, {rows: event}, {rows: second}})
		require.Equal(t, []int64{first.First, event.First}, old.has(1))
		require.Equal(t, []int64{event.First, second.First}, young.has(1))
	})
}

func TestWhoIsRemovedGetsNothingThatComesAfter(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		a, b := w.start("a"), w.start("b")
		stays, goes := w.members(b, 1)[0], w.members(b, 2)[0]
		before := w.text(1)
		event, _ := w.remove(1, 2)
		after := w.text(1)
		// Publish the latest first, and the event only to the group, as when it is dissolved.
		a.Publish(after)
		synctest.Wait()
		require.Equal(t, []int64{after.First}, stays.has(1))
		require.Empty(t, goes.has(1))
		require.Equal(t, []wire.Gap{{ThreadID: 1, FromSeq: event.First}}, goes.gaps, "its client reads what it may still read")
		a.Publish(event, before)
		synctest.Wait()
		require.Equal(t, []int64{before.First, event.First, after.First}, stays.has(1))
		require.Empty(t, goes.has(1))
		goes.ask()
		require.Contains(t, goes.has(1), before.First)
		require.NotContains(t, goes.has(1), after.First)
	})
}

// A user is added and removed again before its node is known to have a member, so the node of the remover sends it
// nothing. The notice after the interest has been written stands for the removal.
func TestWhoIsRemovedBeforeTheInterestIsWrittenIsTold(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		a, b := w.start("a"), w.start("b")
		w.members(a, 1)
		goes := b.login(2)
		joined, _ := w.join(1, 2)
		var removed Rows
		w.set(func() {
			w.onHold = func() {
				removed, _ = w.remove(1, 2)
				a.Publish(removed)
				time.Sleep(time.Second) // fake time: a looks up the nodes
			}
		})
		a.Added([]int32{2}, joined)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, []int64{joined.First}, goes.has(1), "the event by which it joined, but not the removal")
		require.Equal(t, []wire.Gap{{ThreadID: 1, FromSeq: removed.First}}, goes.gaps)
		goes.ask()
		require.Equal(t, []int64{joined.First, removed.First}, goes.has(1))
	})
}

// While SQL does not tell who is a member, no session gets anything; then all get a notice.
func TestNobodyGetsARowBeforeTheMembershipIsKnown(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		a := w.start("a")
		stays, goes := w.members(a, 1)[0], w.members(a, 2)[0]
		w.remove(1, 2)
		w.set(func() { w.sqlErr = errAway })
		row := w.text(1)
		a.Publish(row)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		require.Empty(t, stays.has(1))
		require.Empty(t, stays.gaps)
		require.Equal(t, 1, a.Owed())
		w.set(func() { w.sqlErr = nil })
		time.Sleep(time.Second)
		synctest.Wait()
		require.Empty(t, stays.has(1))
		require.Empty(t, goes.has(1))
		require.Equal(t, []wire.Gap{{ThreadID: 1, FromSeq: row.First}}, stays.gaps)
		require.Zero(t, a.Owed())
	})
}

func TestASlowMemberCostsTheOthersNothing(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		a := w.start("a")
		slow, quick := w.members(a, 1)[0], w.members(a, 2)[0]
		quick.forget()
		body := make([]byte, 8000)
		var rows int
		for a.metrics != nil && slow.Queued() < 100<<10 {
			r := w.text(1)
			r.Body = append(r.Body[:len(r.Body)-1], append([]byte(`,"x":"`), append(append([]byte(nil), fill(body)...), `"}`...)...)...)
			a.Publish(r)
			rows++
			synctest.Wait()
			require.Len(t, quick.has(1), rows)
		}
		for range 20 {
			r := w.text(1)
			r.Body = append(r.Body[:len(r.Body)-1], append([]byte(`,"x":"`), append(append([]byte(nil), fill(body)...), `"}`...)...)...)
			a.Publish(r)
			rows++
			synctest.Wait()
			require.Len(t, quick.has(1), rows)
		}
		require.LessOrEqual(t, slow.Queued(), 128<<10)
		for range 100 { // it reads again
			slow.follow()
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
		}
		require.NotEmpty(t, slow.gaps)
		require.GreaterOrEqual(t, len(slow.has(1)), rows)
	})
}

func fill(b []byte) []byte {
	for i := range b {
		b[i] = 'x'
	}
	return b
}

// Rows dropped by a full lane are owed to the members as a notice.
func TestWhatALaneHasNoRoomForIsTold(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		a := w.start("a")
		c := w.members(a, 1)[0]
		full := newHome(a.shared, a.owed)
		for range a.cfg.LaneItems {
			full.enqueue(item{rows: w.text(1)})
		}
		row := w.text(1)
		full.enqueue(item{rows: row})
		require.Equal(t, 1, a.Owed())
		time.Sleep(time.Second)
		synctest.Wait()
		c.read()
		require.Equal(t, []wire.Gap{{ThreadID: 1, FromSeq: row.First}}, c.gaps)
	})
}

// A node without links gets a notice when Redis can tell again which nodes have members.
func TestANodeThatNobodyKnewIsTold(t *testing.T) {
	for name, lose := range map[string]func(w *world){
		"away":      func(w *world) { w.set(func() { w.redisErr = errAway }) },
		"lost data": func(w *world) { w.loseRedis() },
	} {
		inWorld(t, 1, func(t *testing.T, w *world) {
			a, b, c := w.start("a"), w.start("b"), w.start("c")
			known, unknown := w.members(b, 1)[0], w.members(c, 2)[0]
			w.set(func() { w.hidden = "c" })
			lose(w)
			row := w.text(1)
			a.Publish(row)
			time.Sleep(4 * time.Second)
			synctest.Wait()
			require.Equal(t, []int64{row.First}, known.has(1), name)
			require.Empty(t, unknown.has(1), name)
			w.set(func() { w.redisErr, w.hidden = nil, "" })
			time.Sleep(time.Minute)
			synctest.Wait()
			unknown.read()
			known.read()
			require.Contains(t, unknown.gaps, wire.Gap{ThreadID: 1, FromSeq: row.First}, name)
			require.Empty(t, known.gaps, name)
		})
	}
}

// If an interest was lost in Redis and could not be written back while the other nodes waited, the members get a
// notice when it is written.
func TestAnInterestThatIsWrittenLateIsTold(t *testing.T) {
	for _, generation := range []bool{true, false} {
		inWorld(t, 1, func(t *testing.T, w *world) {
			a, b := w.start("a"), w.start("b")
			c := w.members(b, 1)[0]
			if generation {
				w.set(func() { w.holdErr = map[string]error{"b": errAway} })
				w.loseRedis()
				time.Sleep(10 * time.Second)
				synctest.Wait()
			} else { // one key, as after an eviction
				w.set(func() { clear(w.hash) })
			}
			row := w.text(1)
			a.Publish(row)
			time.Sleep(time.Second)
			synctest.Wait()
			require.Empty(t, c.has(1), "nobody knows of the node")
			require.Empty(t, c.gaps)
			w.set(func() { w.holdErr = nil })
			time.Sleep(2 * a.cfg.Pass)
			synctest.Wait()
			c.read()
			require.Len(t, c.gaps, 1)
			again := w.text(1)
			a.Publish(again)
			synctest.Wait()
			require.Equal(t, []int64{again.First}, c.has(1))
		})
	}
}

// A Redis that lost its data causes no notices if the nodes write their interests in time.
func TestALossOfDataIsNotNoticed(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		a, b := w.start("a"), w.start("b")
		c := w.members(b, 1)[0]
		w.loseRedis()
		var want []int64
		for range 100 {
			row := w.text(1)
			want = append(want, row.First)
			a.Publish(row)
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
		}
		require.Equal(t, want, c.has(1))
		require.Empty(t, c.gaps)
	})
}

func TestTheInterestInAnEmptyGroupIsDroppedAndComesBackUnderAnotherNumber(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		a := w.start("a")
		c := w.members(a, 1)[0]
		key := "a|" + a.boot
		number := w.held(1)[key]
		require.NotZero(t, number)
		c.logout()
		time.Sleep(a.cfg.Linger / 2)
		synctest.Wait()
		require.Contains(t, w.held(1), key)
		time.Sleep(3 * a.cfg.Pass)
		synctest.Wait()
		require.NotContains(t, w.held(1), key)
		groups, _ := a.index.size()
		require.Zero(t, groups)
		a.login(1)
		require.Contains(t, w.held(1), key)
		require.NotEqual(t, number, w.held(1)[key])
		require.NoError(t, w.Drop(t.Context(), []presence.GroupEntry{{Thread: 1, Node: "a", Boot: a.boot, Number: number}}))
		require.Contains(t, w.held(1), key, "a late delete of the first one")
	})
}

// A login causes no calls to Redis for groups of which the node already has members.
func TestOnlyTheFirstMemberWritesTheInterest(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		a := w.start("a")
		w.members(a, 1)
		w.set(func() { w.redisErr = errAway })
		w.join(1, 2)
		c := a.connect(t, 2, session.Identity{})
		require.NoError(t, a.Enter(t.Context(), c.Session))
		w.join(2, 2)
		added, err := a.Reconcile(t.Context(), c.Session, []int64{1, 2})
		require.ErrorIs(t, err, errAway)
		require.True(t, added)
		w.set(func() { w.redisErr = nil })
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Contains(t, w.held(2), "a|"+a.boot, "it is written when it can be")
		added, err = a.Reconcile(t.Context(), c.Session, []int64{1, 2})
		require.NoError(t, err)
		require.False(t, added)
		c.close()
	})
}

func TestASessionThatIsShownNoGroupsIsInNoIndex(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		a := w.start("a")
		w.join(1, 1)
		s := new(session.Session)
		s.Init(&socket{-1}, &session.Limits{})
		require.True(t, s.Identify(session.Identity{UID: 1, SID: 1, Native: true, Gap: true, Boot: a.boot}))
		require.NoError(t, a.Enter(t.Context(), s))
		added, err := a.Reconcile(t.Context(), s, []int64{1})
		require.NoError(t, err)
		require.False(t, added)
		groups, _ := a.index.size()
		require.Zero(t, groups)
		a.Leave(s)
	})
}

func membership(thread int64, ver int32, uid int32, from int64) []store.ThreadMembership {
	return []store.ThreadMembership{{Thread: thread, Ver: ver, Membership: store.Membership{UID: uid, FromSeq: from}}}
}

func some(uid int32) *session.Session {
	s := new(session.Session)
	s.Init(&socket{-1}, &session.Limits{})
	s.Identify(session.Identity{UID: uid, SID: session.SID(uid), Native: true, Gap: true, Features: wire.FeatureGroups})
	return s
}

// What a login read before a change of the membership must not count as being as new as the index.
func TestAnOlderViewMakesTheIndexOlder(t *testing.T) {
	x := newIndex()
	x.add(some(1), membership(7, 6, 1, 1))
	_, fresh := x.targets(nil, 7, 6)
	require.True(t, fresh)
	x.add(some(2), membership(7, 5, 2, 1))
	_, fresh = x.targets(nil, 7, 6)
	require.False(t, fresh)
	got, fresh := x.targets(nil, 7, 5)
	require.True(t, fresh)
	require.Len(t, got, 2)
}

// Entries added while a membership is read stay as they are, and the result is no newer than they are.
func TestWhatComesDuringARefreshStays(t *testing.T) {
	x := newIndex()
	one, two, three := some(1), some(2), some(3)
	x.add(one, membership(7, 1, 1, 1))
	x.add(two, membership(7, 1, 2, 1))
	require.Equal(t, []int32{1, 2}, x.begin(nil, 7))
	require.Equal(t, 1, x.add(three, membership(7, 3, 3, 30)))
	require.Zero(t, x.add(two, membership(7, 6, 2, 60)), "came back after the read")
	left, ver := x.end(7, 5, map[int32]store.Membership{1: {UID: 1, FromSeq: 1, LeftSeq: 40}, 2: {UID: 2, FromSeq: 1, LeftSeq: 41}}, true, 0)
	require.Equal(t, []target{{one, 1, 40}}, left)
	require.EqualValues(t, 3, ver)
	got, fresh := x.targets(nil, 7, 3)
	require.True(t, fresh)
	require.ElementsMatch(t, []target{{s: two, from: 60}, {s: three, from: 30}}, got)

	x.leave(two, 0)
	x.leave(three, 0)
	x.leave(three, 0)
	got, fresh = x.targets(nil, 7, math.MaxInt32)
	require.True(t, fresh)
	require.Empty(t, got)
	require.Len(t, x.free, 2)
	x.leave(one, 0)
	require.Len(t, x.free, 3)
}

// Entries of ended sessions are cleared eventually, and their slots reused.
func TestEntriesOfEndedSessionsAreCleared(t *testing.T) {
	x := newIndex()
	for round := range 50 {
		var list []*session.Session
		for i := range 100 {
			s := some(int32(i + 1))
			x.add(s, append(membership(7, 1, int32(i+1), 1), membership(8, 1, int32(i+1), 1)...))
			list = append(list, s)
		}
		for i, s := range list {
			if i%10 != round%10 {
				x.leave(s, 0)
			}
		}
		g := x.groups[7]
		require.LessOrEqual(t, len(g.entries), 2*int(g.live)+1)
		require.EqualValues(t, 10*(round+1), g.live)
	}
	require.Less(t, len(x.slots), 1200)
	require.Len(t, x.slotOf, 500)
}

func TestAPanicOwesWhatItCost(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		a := w.start("a")
		c := w.members(a, 1)[0]
		row := w.text(1)
		row.Thread = 1
		a.home[1%len(a.home)].failed([]item{{rows: row}}, &batch.Panic{Value: "x"})
		time.Sleep(time.Second)
		synctest.Wait()
		c.read()
		require.Equal(t, []wire.Gap{{ThreadID: 1, FromSeq: row.First}}, c.gaps)
	})
}

func TestALoginOfAnEarlierLifeIsLeftOut(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		a := w.start("a")
		c := a.connect(t, 1, session.Identity{})
		a.boot = "another"
		require.ErrorIs(t, a.Enter(context.Background(), c.Session), errOtherLife)
		c.close()
	})
}
