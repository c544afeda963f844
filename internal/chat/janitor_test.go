package chat

import (
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/presence"
)

// E9: what waits is handed over in whole batches; nothing is moved while callbacks of closing connections wait.
func TestTheJanitorMovesNothing(t *testing.T) {
	j := newJanitor(nil)
	const n = 1000*janitorBatch + 7
	for uid := range int32(n) {
		if !j.put(presence.Location{UID: uid}) {
			t.Fatalf("%d was not taken", uid)
		}
	}
	require.Equal(t, n, j.waiting)
	failed := j.take()
	require.Len(t, failed, janitorBatch)
	j.giveBack(failed)
	require.Equal(t, n, j.waiting)
	require.Less(t, testing.AllocsPerRun(100, func() { j.giveBack(j.take()) }), 1.0)

	seen := make(map[int32]bool)
	for batch := j.take(); batch != nil; batch = j.take() {
		require.LessOrEqual(t, len(batch), janitorBatch)
		for _, l := range batch {
			seen[l.UID] = true
		}
	}
	require.Len(t, seen, n)
	require.Zero(t, j.waiting)
	for n := range maxReleases {
		if !j.put(presence.Location{}) {
			t.Fatalf("%d of %d were taken", n, maxReleases)
		}
	}
	require.False(t, j.put(presence.Location{}), "bounded")
	require.NotNil(t, j.take())
	require.True(t, j.put(presence.Location{}))
}
