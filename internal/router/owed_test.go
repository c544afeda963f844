package router

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/session"
	"parley/internal/wire"
)

// text delivers a 1019 with the given numbers of a thread.
func (w *world) text(uid int32, thread int64, seqs ...int64) {
	w.t.Helper()
	var texts []wire.SentText
	for _, seq := range seqs {
		texts = append(texts, wire.SentText{UniqueID: "u", Content: "hello", Seq: seq})
	}
	w.r.Deliver([]session.Push{{
		To: uid, ID: wire.MsgTextPush, From: 9, Thread: thread, Seq: seqs[len(seqs)-1], Body: wire.AppendTextBody(nil, 9, uid, thread, texts),
	}}, nil)
	synctest.Wait()
}

// owed is a notice sent to a node: user, thread, and first number.
type owed struct {
	uid           int32
	thread, first int64
}

// toldAt returns the gap notices handed to a node since the last call, and the number of other pushes.
func (w *world) toldAt(node string) (told []owed, others int) {
	_, pushes := w.take(node)
	for _, p := range pushes {
		if p.ID == wire.MsgGap {
			told = append(told, owed{p.To, p.Thread, p.Seq})
		} else {
			others++
		}
	}
	return told, others
}

// wait waits long enough for all owed notices that can be sent.
func (w *world) wait() {
	time.Sleep(3 * DefaultConfig().SettleEvery)
	synctest.Wait()
}

// C1: one notice per user and thread, from the first text on.
func TestWhatAPeerDidNotTakeIsToldWhenItIsBack(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.at(2, "b")
		w.at(3, "b")
		w.set(func() { w.down["b"] = true })
		w.text(2, 7, 4, 5)
		w.text(2, 7, 6)
		w.text(2, 8, 1)
		w.text(3, 9, 30)
		w.wait()
		told, others := w.toldAt("b")
		require.Empty(t, told)
		require.Zero(t, others)
		require.Equal(t, 3, w.r.Owed())

		w.set(func() { w.down["b"] = false })
		w.wait()
		told, others = w.toldAt("b")
		require.ElementsMatch(t, []owed{{2, 7, 4}, {2, 8, 1}, {3, 9, 30}}, told)
		require.Zero(t, others)
		require.Zero(t, w.r.Owed())
		time.Sleep(time.Minute)
		told, _ = w.toldAt("b")
		require.Empty(t, told, "once")
	})
}

// C1
func TestWhatAFailedCallCarriedIsTold(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.at(2, "b")
		w.text(2, 7, 4)
		_, pushes := w.take("b")
		w.r.Lost("b", &pushes[0])
		w.wait()
		told, _ := w.toldAt("b")
		require.Equal(t, []owed{{2, 7, 4}}, told)

		// The notice is lost too, and the user has moved in the meantime.
		w.r.Lost("b", &session.Push{To: 2, ID: wire.MsgGap, Thread: 7, Seq: 4})
		w.wait()
		_, notice := w.take("b")
		require.Len(t, notice, 1)
		w.at(2, "c")
		w.r.NotHere("b", &notice[0])
		synctest.Wait()
		told, _ = w.toldAt("c")
		require.Equal(t, []owed{{2, 7, 4}}, told)
	})
}

// C1
func TestWhoCouldNotBeLookedUpIsToldWhenRedisIsBack(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.at(2, "b")
		w.set(func() { w.err = errors.New("redis is away") })
		w.text(2, 7, 4)
		w.text(3, 9, 1)
		w.wait()
		require.Equal(t, 2, w.r.Owed())
		w.set(func() { w.err = nil })
		w.wait()
		told, _ := w.toldAt("b")
		require.Equal(t, []owed{{2, 7, 4}}, told)
		require.Zero(t, w.r.Owed(), "nobody is online as 3")
	})
}

// C1
func TestNowhereIsNotBelievedWhileRedisIsYoung(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.at(4, "b", "c")
		w.text(4, 7, 1) // cached
		w.take("b")
		w.take("c")
		time.Sleep(2 * DefaultConfig().CacheTTL)
		w.set(func() { w.young = true; clear(w.where) })
		w.text(4, 7, 2)
		for _, node := range []string{"b", "c"} {
			told, others := w.toldAt(node)
			require.Empty(t, told)
			require.Equal(t, 1, others, "the last known place is tried")
		}
		w.text(2, 8, 5)
		w.wait()
		w.at(2, "b") // written back
		w.wait()
		told, _ := w.toldAt("b")
		require.Equal(t, []owed{{2, 8, 5}}, told, "as soon as found")
		w.wait()
		told, _ = w.toldAt("b")
		require.Empty(t, told)

		w.at(2, "b", "c") // another device, written back later
		w.at(4, "b", "c")
		w.wait()
		told, _ = w.toldAt("c")
		require.Empty(t, told)
		w.set(func() { w.young = false })
		w.wait()
		told, _ = w.toldAt("c")
		require.ElementsMatch(t, []owed{{2, 8, 5}, {4, 7, 2}}, told, "and once more when all are there")
		require.Zero(t, w.r.Owed())
	})
}

// C1
func TestAFullLaneMakesPushesLate(t *testing.T) {
	in(t, func(c *Config) { c.Lanes, c.LanePushes, c.Batch = 1, 1, 1 }, func(t *testing.T, w *world) {
		w.at(2, "b")
		block := make(chan struct{})
		w.set(func() { w.hook = func() { w.hook = nil; w.mu.Unlock(); <-block; w.mu.Lock() } })
		for seq := range int64(4) {
			w.text(2, 7, seq+1) // one is being looked up, one waits
		}
		close(block)
		w.wait()
		told, others := w.toldAt("b")
		require.Equal(t, []owed{{2, 7, 3}}, told)
		require.Equal(t, 2, others)
	})
}

// C1: pushes that no history contains are sent again.
func TestOtherPushesAreKeptThemselves(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.at(2, "b")
		w.set(func() { w.down["b"] = true })
		w.r.Deliver([]session.Push{{To: 2, ID: wire.MsgApplied, Body: []byte("first")}, {To: 2, ID: wire.MsgApproved, Body: []byte("second")}}, nil)
		w.r.Deliver([]session.Push{{To: 2, From: 2, ID: wire.MsgHiddenPush, Body: []byte("third")}}, nil)
		w.r.Lost("b", &session.Push{To: 2})
		w.wait()
		w.set(func() { w.down["b"] = false })
		w.wait()
		_, pushes := w.take("b")
		require.Len(t, pushes, 4)
		bodies := map[string]int64{}
		for _, p := range pushes {
			bodies[string(p.Body)] = p.Thread
		}
		require.Equal(t, map[string]int64{"first": 0, "second": 0, "third": 0, "": LateHint}, bodies)

		w.set(func() { w.down["b"] = true })
		for range maxWhole + 10 {
			w.r.Lost("b", &session.Push{To: 2, ID: wire.MsgApplied})
		}
		w.r.Lost("b", &session.Push{To: 2, ID: wire.MsgApplied, Body: make([]byte, maxWholeBytes)})
		require.Equal(t, maxWhole, w.r.Owed())
	})
}

// C1: beyond the bound pushes are not lost; the notices only become less exact.
func TestPastTheBoundAllSessionsOfTheNodeAreTold(t *testing.T) {
	in(t, func(c *Config) { c.OwedThreads = 10 }, func(t *testing.T, w *world) {
		w.set(func() { w.down["b"], w.down["c"] = true, true })
		w.r.Lost("c", &session.Push{To: 1, ID: wire.MsgTextPush, Thread: 5, Seq: 3})
		for uid := range int32(20) {
			w.r.Lost("b", &session.Push{To: uid + 1, ID: wire.MsgTextPush, Thread: 7, Seq: 1})
		}
		require.LessOrEqual(t, w.r.Owed(), 10)
		w.set(func() { w.down["b"], w.down["c"] = false, false })
		w.wait()
		told, _ := w.toldAt("b")
		require.Equal(t, []owed{{}}, told, "everyone")
		told, _ = w.toldAt("c")
		require.Equal(t, []owed{{1, 5, 3}}, told)

		// Users who cannot be located may be on any node.
		w.set(func() { w.err = errors.New("redis is away") })
		for uid := range int32(20) {
			w.text(uid+1, 7, 1)
		}
		w.set(func() { w.err = nil })
		w.wait()
		for _, node := range []string{"b", "c"} {
			told, _ = w.toldAt(node)
			require.Equal(t, []owed{{}}, told)
		}
		require.Zero(t, w.r.Owed())
	})
}

// C1: when a node turns out to be gone for good, its users may be anywhere.
func TestWhatANodeWasOwedThatIsGoneIsToldWhereItsUsersAre(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.at(2, "b")
		w.set(func() { w.down["b"] = true })
		w.text(2, 7, 4)
		w.wait()
		w.at(2, "c")
		w.wait()
		told, _ := w.toldAt("c")
		require.Empty(t, told)
		w.set(func() { w.gone["b"] = true })
		w.wait()
		told, _ = w.toldAt("c")
		require.Equal(t, []owed{{2, 7, 4}}, told)
		require.Zero(t, w.r.Owed())
	})
}

func TestASessionHereIsToldOfAGap(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.login(2, "")
		here, elsewhere := w.r.Gap(2, 7, 4)
		require.True(t, here)
		require.False(t, elsewhere)
		require.Equal(t, []int64{4}, w.told)
		here, _ = w.r.Gap(3, 7, 4)
		require.False(t, here)
	})
}

func TestAPanicInALaneMakesPushesLate(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.at(2, "b")
		w.set(func() { w.hook = func() { w.hook = nil; panic("in presence") } })
		w.text(2, 7, 4)
		w.wait()
		told, _ := w.toldAt("b")
		require.Equal(t, []owed{{2, 7, 4}}, told)
	})
}
