package lab

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/bench/seed"
	"parley/bench/swarm"
)

// TestHistoriesAreHandedOverInBoundedParts reads many short threads and one that is longer than a part may be.
func TestHistoriesAreHandedOverInBoundedParts(t *testing.T) {
	const threads, long = 1000, 7
	length := func(thread int64) int64 {
		if thread == long {
			return 3*partRows + 5
		}
		return thread % 4
	}
	read := historyReader(func(_ context.Context, thread, after int64, each func(seed.Message)) error {
		for seq := after + 1; seq <= length(thread); seq++ {
			each(seed.Message{Seq: seq, UniqueID: "u", Content: "c"})
		}
		return nil
	})
	of := make([]swarm.Conversation, threads)
	for i := range of {
		of[i] = swarm.Conversation{UID: int32(i), Thread: int64(i), After: 1}
	}
	var mu sync.Mutex
	last := map[int64]int64{}
	require.NoError(t, read.readAll(t.Context(), of, func(parts []swarm.Stored) error {
		mu.Lock()
		defer mu.Unlock()
		rows := 0
		for _, p := range parts {
			require.EqualValues(t, p.UID, p.Thread)
			for _, m := range p.Messages {
				require.Equal(t, max(last[p.Thread], 1)+1, m.Seq, "in order, nothing twice")
				last[p.Thread] = m.Seq
			}
			rows += len(p.Messages)
		}
		require.LessOrEqual(t, rows, partRows)
		require.LessOrEqual(t, len(parts), partThreads)
		return nil
	}))
	for thread := range int64(threads) {
		if want := length(thread); want > 1 {
			require.Equal(t, want, last[thread])
		}
	}

	broken := errors.New("broken")
	require.ErrorIs(t, read.readAll(t.Context(), of, func([]swarm.Stored) error { return broken }), broken)
	gone := historyReader(func(context.Context, int64, int64, func(seed.Message)) error { return broken })
	require.ErrorIs(t, gone.readAll(t.Context(), of, func([]swarm.Stored) error { return nil }), broken)
}
