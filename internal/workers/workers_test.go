package workers

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"parley/internal/batch"
)

func none(*batch.Panic) {}

func TestEachFunctionRunsOnceAndCloseWaitsForAll(t *testing.T) {
	w := New(4, none)
	var ran atomic.Int32
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 500 {
				w.Go(func() { runtime.Gosched(); ran.Add(1) })
			}
		})
	}
	callers.Wait()
	w.Close()
	require.EqualValues(t, 8*500, ran.Load())
}

// A function that waits must not keep the next one from running.
func TestFunctionsThatWaitDoNotHoldOthersUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New(2, none)
		var running atomic.Int32
		release := make(chan struct{})
		for range 10 {
			w.Go(func() { running.Add(1); <-release })
		}
		synctest.Wait()
		require.EqualValues(t, 10, running.Load())
		close(release)
		synctest.Wait()
		require.Len(t, w.idle, 2, "more rest than should")
		w.Close()
	})
}

func TestAGoroutineIsUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New(1, none)
		for range 3 {
			w.Go(func() {})
			synctest.Wait()
		}
		require.Len(t, w.idle, 1)
		before := runtime.NumGoroutine()
		w.Go(func() {})
		synctest.Wait()
		require.Equal(t, before, runtime.NumGoroutine())
		w.Close()
		require.Empty(t, w.idle)
	})
}

func TestAPanicIsToldAndCostsNoOtherFunction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []any
		w := New(1, func(p *batch.Panic) { told = append(told, p.Value) })
		w.Go(func() { panic("first") })
		synctest.Wait()
		ran := false
		w.Go(func() { ran = true })
		synctest.Wait()
		w.Close()
		require.Equal(t, []any{"first"}, told)
		require.True(t, ran)
	})
}

func TestCloseWaitsForWhatARunningFunctionStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New(1, none)
		release, ran := make(chan struct{}), false
		w.Go(func() {
			<-release
			w.Go(func() { synctest.Wait(); ran = true })
		})
		var closing sync.WaitGroup
		closing.Go(w.Close)
		synctest.Wait()
		close(release)
		closing.Wait()
		require.True(t, ran)
	})
}

// What ends a connection while the node stops may still come.
func TestAFunctionAfterCloseRuns(t *testing.T) {
	w := New(1, none)
	w.Close()
	done := make(chan struct{})
	w.Go(func() { close(done) })
	<-done
}
