package ending

import (
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/presence"
)

// E9: waiting releases are handed over in whole batches; nothing is copied while close callbacks of connections wait.
func TestTheJanitorMovesNothing(t *testing.T) {
	j := NewJanitor(nil, nil, nil, nil)
	const n = 1000*janitorBatch + 7
	for uid := range int32(n) {
		if !j.add(presence.Location{UID: uid}) {
			t.Fatalf("%d was not taken", uid)
		}
	}
	require.Equal(t, n, j.waiting)
	failed := j.oldest()
	require.Len(t, failed, janitorBatch)
	j.giveBack(failed)
	require.Equal(t, n, j.waiting)
	require.Less(t, testing.AllocsPerRun(100, func() { j.giveBack(j.oldest()) }), 1.0)

	seen := make(map[int32]bool)
	for batch := j.oldest(); batch != nil; batch = j.oldest() {
		require.LessOrEqual(t, len(batch), janitorBatch)
		for _, l := range batch {
			seen[l.UID] = true
		}
	}
	require.Len(t, seen, n)
	require.Zero(t, j.waiting)
	for n := range maxReleases {
		if !j.add(presence.Location{}) {
			t.Fatalf("%d of %d were taken", n, maxReleases)
		}
	}
	require.False(t, j.add(presence.Location{}), "bounded")
	require.NotNil(t, j.oldest())
	require.True(t, j.add(presence.Location{}))
}
