package peer

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestACallIsCarriedOutOnce(t *testing.T) {
	var s Streams
	var done []uint64
	do := func(id, call uint64) bool {
		before := len(done)
		codes := s.Do(id, call, 2, func() []int32 { done = append(done, call); return make([]int32, 2) })
		require.Len(t, codes, 2)
		return len(done) > before
	}
	require.True(t, do(7, 1))
	require.False(t, do(7, 1), "repeated")
	require.True(t, do(8, 1), "another stream")
	require.True(t, do(7, 3), "one that was given up may be missing")
	require.False(t, do(7, 2), "and comes too late then")
	require.True(t, do(0, 1))
	require.True(t, do(0, 1), "no stream")
	require.Equal(t, []uint64{1, 1, 3, 1, 1}, done)
}

// C3: otherwise a push for a user who was not there would count as delivered if the first answer is late.
func TestARepeatedCallGetsTheAnswerOfTheFirst(t *testing.T) {
	var s Streams
	answer := func(codes ...int32) func() []int32 { return func() []int32 { return codes } }
	never := func() []int32 { t.Error("carried out again"); return nil }
	require.Equal(t, []int32{0, CodeNotHere, CodeElsewhereToo}, s.Do(7, 1, 3, answer(0, CodeNotHere, CodeElsewhereToo)))
	for range 2 {
		require.Equal(t, []int32{0, CodeNotHere, CodeElsewhereToo}, s.Do(7, 1, 3, never))
	}
	require.Equal(t, []int32{0, 0}, s.Do(7, 2, 2, answer(0, 0)))
	require.Equal(t, []int32{0, 0}, s.Do(7, 2, 2, never), "an answer of zeros costs no memory, and is the same again")
	require.Nil(t, s.of(7).codes)
	require.Equal(t, []int32{0, 0, 0}, s.Do(7, 1, 3, never), "its caller has gone on")
}

func TestACallThatIsRepeatedWaitsForTheFirst(t *testing.T) {
	var s Streams
	inside, leave := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { s.Do(7, 1, 1, func() []int32 { close(inside); <-leave; return []int32{CodeNotHere} }) })
	<-inside
	answered := make(chan []int32, 1)
	wg.Go(func() { answered <- s.Do(7, 1, 1, func() []int32 { return nil }) })
	require.Equal(t, []int32{0}, s.Do(8, 1, 1, func() []int32 { return []int32{0} }), "other streams do not wait")
	require.Empty(t, answered)
	close(leave)
	wg.Wait()
	require.Equal(t, []int32{CodeNotHere}, <-answered)
}

func TestStreamsAreBoundedAndThoseInUseStay(t *testing.T) {
	var s Streams
	do := func(id uint64) bool {
		done := false
		s.Do(id, 1, 1, func() []int32 { done = true; return []int32{0} })
		return done
	}
	require.True(t, do(1))
	for id := uint64(2); id < 10*maxStreams; id++ {
		require.True(t, do(id))
		if id%1000 == 0 {
			require.False(t, do(1))
		}
	}
	require.LessOrEqual(t, s.latest.Len(), 2*maxStreams)
}
