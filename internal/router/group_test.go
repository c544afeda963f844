package router

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"parley/internal/session"
	"parley/internal/wire"
)

func TestRowsOfAGroupForAUserGoWhereTheUserIs(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.at(2, "b")
		w.rowsHere = map[int32]int{1: 1}
		row := session.Push{ID: wire.MsgGroupPush, Thread: 7, Ver: 3, First: 4, Seq: 6, Body: []byte("rows")}
		for uid := range int32(3) {
			row.To = uid + 1
			w.r.Deliver([]session.Push{row}, nil)
		}
		synctest.Wait()
		require.Equal(t, []int32{1, 2, 3}, w.rowsFor)
		_, pushes := w.take("b")
		require.Len(t, pushes, 1)
		require.EqualValues(t, 3, pushes[0].Ver)
		require.EqualValues(t, 4, pushes[0].First)

		w.set(func() { w.down["b"] = true })
		w.r.Forget(2)
		row.To = 2
		w.r.Deliver([]session.Push{row}, nil)
		synctest.Wait()
		w.set(func() { w.down["b"] = false })
		w.wait()
		told, others := w.toldAt("b")
		require.Equal(t, []owed{{2, 7, 4}}, told)
		require.Zero(t, others)
	})
}

// Rows of a group that a node was not sent are owed once for all its members, and rows sent to no node are owed to
// all nodes.
func TestRowsThatANodeWasNotSentAreToldToItsMembers(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.set(func() { w.down["b"] = true })
		for seq := int64(9); seq > 3; seq-- {
			w.r.Lost("b", &session.Push{ID: wire.MsgGroupPush, Thread: 7, First: seq, Seq: seq, Body: []byte("row")})
		}
		w.r.Lost("b", &session.Push{ID: wire.MsgGroupPush, Thread: 8, First: 1, Seq: 2, Body: []byte("row")})
		require.Equal(t, 2, w.r.Owed())
		w.wait()
		told, _ := w.toldAt("b")
		require.Empty(t, told)
		w.set(func() { w.down["b"] = false })
		w.wait()
		told, others := w.toldAt("b")
		require.ElementsMatch(t, []owed{{0, 7, 4}, {0, 8, 1}}, told)
		require.Zero(t, others)

		w.r.Lost("", &session.Push{ID: wire.MsgGroupPush, Thread: 7, First: 12, Seq: 12, Body: []byte("row")})
		w.r.Lost("", &session.Push{ID: wire.MsgGap, Thread: 8, Seq: 5})
		w.wait()
		for _, node := range []string{"b", "c"} {
			told, _ = w.toldAt(node)
			require.ElementsMatch(t, []owed{{0, 7, 12}, {0, 8, 5}}, told, node)
		}
		require.Zero(t, w.r.Owed())
		require.Empty(t, w.questions(), "nobody is looked up")
	})
}
