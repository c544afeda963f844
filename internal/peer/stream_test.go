package peer

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestACallIsCarriedOutOnce(t *testing.T) {
	var s Streams
	var done []uint64
	do := func(id, call uint64) bool { return s.Do(id, call, func() { done = append(done, call) }) }
	require.True(t, do(7, 1))
	require.False(t, do(7, 1), "repeated")
	require.True(t, do(8, 1), "another stream")
	require.True(t, do(7, 3), "one that was given up may be missing")
	require.False(t, do(7, 2), "and comes too late then")
	require.True(t, do(0, 1))
	require.True(t, do(0, 1), "no stream")
	require.Equal(t, []uint64{1, 1, 3, 1, 1}, done)
}

func TestACallThatIsRepeatedWaitsForTheFirst(t *testing.T) {
	var s Streams
	inside, leave := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { s.Do(7, 1, func() { close(inside); <-leave }) })
	<-inside
	answered := make(chan bool, 1)
	wg.Go(func() { answered <- s.Do(7, 1, func() {}) })
	require.True(t, s.Do(8, 1, func() {}), "other streams do not wait")
	require.Empty(t, answered)
	close(leave)
	wg.Wait()
	require.False(t, <-answered)
}

func TestStreamsAreBoundedAndThoseInUseStay(t *testing.T) {
	var s Streams
	require.True(t, s.Do(1, 1, func() {}))
	for id := uint64(2); id < 10*maxStreams; id++ {
		require.True(t, s.Do(id, 1, func() {}))
		if id%1000 == 0 {
			require.False(t, s.Do(1, 1, func() {}))
		}
	}
	require.LessOrEqual(t, len(s.young)+len(s.old), 2*maxStreams)
}
