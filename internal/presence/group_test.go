package presence

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestGroupEntriesAreWrittenReadAndDropped(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		ctx, p := t.Context(), b.open(t, Options{MaxBatch: 3})
		_, _, err := p.Leases.Generation(ctx)
		require.NoError(t, err)
		at := func(thread int64, node, boot string, number uint64) GroupEntry {
			return GroupEntry{Thread: thread, Node: node, Boot: boot, Number: number}
		}
		var mine []GroupEntry
		for thread := range int64(7) {
			mine = append(mine, at(thread, "n1", "b1", uint64(thread)))
		}
		added, err := p.Groups.Hold(ctx, mine)
		require.NoError(t, err)
		require.Equal(t, []bool{true, true, true, true, true, true, true}, added)
		require.NoError(t, p.rdb.Del(ctx, p.keys.group(4)).Err()) // as after an eviction or a failover
		added, err = p.Groups.Hold(ctx, mine)
		require.NoError(t, err)
		require.Equal(t, []bool{false, false, false, false, true, false, false}, added)
		require.Positive(t, p.rdb.TTL(ctx, p.keys.group(4)).Val())

		_, err = p.Groups.Hold(ctx, []GroupEntry{at(2, "n2", "b2", 1), at(2, "n1", "b0", 9)})
		require.NoError(t, err)
		found, gen, err := p.Groups.Entries(ctx, []int64{2, 100, 0, 1, 5})
		require.NoError(t, err)
		require.NotEmpty(t, gen)
		require.Equal(t, [][]GroupEntry{
			{at(2, "n1", "b0", 9), at(2, "n1", "b1", 2), at(2, "n2", "b2", 1)}, nil, {mine[0]}, {mine[1]}, {mine[5]},
		}, found, "each life of a node has an entry of its own")

		require.NoError(t, p.Groups.Drop(ctx, []GroupEntry{at(2, "n1", "b0", 9), at(2, "n2", "b2", 7), at(100, "n1", "b1", 1), mine[5]}))
		found, _, err = p.Groups.Entries(ctx, []int64{2, 5})
		require.NoError(t, err)
		require.Equal(t, [][]GroupEntry{{at(2, "n1", "b1", 2), at(2, "n2", "b2", 1)}, nil}, found, "an entry with another number stays")

		_, err = p.Groups.Hold(ctx, []GroupEntry{at(1, "n|1", "b", 1)})
		require.Error(t, err)
	})
}
