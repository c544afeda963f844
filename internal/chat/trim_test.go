package chat

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What a rush left behind is no reason to hold twice the memory that a node's sessions need.
func TestMemoryThatNobodyNeedsIsGivenBack(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // the runtime by itself would keep it all
	f := newFixture(t, 1)
	n := f.start("chat1")
	rush := make([][]byte, 64<<20/4096)
	for i := range rush {
		rush[i] = make([]byte, 4096)
		rush[i][0] = 1
	}
	runtime.KeepAlive(rush)
	rush = nil
	runtime.GC()
	trims := counterValue(t, n.metrics.trims)
	n.workers.Go(func() { n.trim(n.ctx, 50*time.Millisecond) })
	eventually(t, "it to be given back", func() bool {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return counterValue(t, n.metrics.trims) > trims && m.HeapIdle-m.HeapReleased < 16<<20
	})
	trims = counterValue(t, n.metrics.trims)
	time.Sleep(300 * time.Millisecond) // six looks
	require.Equal(t, trims, counterValue(t, n.metrics.trims), "once after a rush")
}
