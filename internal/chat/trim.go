package chat

import (
	"context"
	"runtime/debug"
	rtm "runtime/metrics"
	"time"
)

const (
	// trimEvery is how often a node looks whether it holds memory that nobody needs.
	trimEvery = 5 * time.Second
	// trimFrom is how much that has to be, at least, and of what lives at least an eighth.
	trimFrom = 4 << 20
)

// trim gives back to the system what a rush of logins or texts left behind. Go's runtime keeps as much as lives beside it,
// for what is allocated until the next collection, and a node full of idle sessions allocates next to nothing. It costs
// one collection, and so is done once after each rush, when the node is quiet again: when it has allocated less than an
// eighth of what lives since the look before.
func (s *Server) trim(ctx context.Context, every time.Duration) {
	heap := []rtm.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
	tick := time.NewTicker(every)
	defer tick.Stop()
	var before uint64
	for rushed := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		rtm.Read(heap)
		live, allocated, free := heap[0].Value.Uint64(), heap[1].Value.Uint64(), heap[2].Value.Uint64()
		switch quiet := allocated-before < live/8; {
		case !quiet:
			rushed = true
		case rushed && free > max(live/8, trimFrom):
			debug.FreeOSMemory()
			s.metrics.trims.Inc()
			rushed = false
		}
		before = allocated
	}
}
