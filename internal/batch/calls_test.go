package batch

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

type double struct {
	Part
	in, out int
}

// calls returns Calls whose Run has not been started.
func calls(stop chan struct{}, limits Limits, serve func([]*double)) (cs *Calls[*double], panics *int) {
	panics = new(int)
	return NewCalls(limits, stop, serve, func(*Panic) { *panics++ }), panics
}

func TestCallsThatWaitAreMadeTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := make(chan struct{})
		var sizes []int
		odd := errors.New("odd")
		cs, _ := calls(stop, Limits{Items: 10, BatchItems: 4}, func(batch []*double) {
			sizes = append(sizes, len(batch))
			for _, d := range batch {
				if d.out = 2 * d.in; d.in%2 == 1 {
					d.Settle(odd)
				}
			}
		})
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				d := &double{in: i}
				err := cs.Do(t.Context(), d, 1, false)
				require.Equal(t, 2*i, d.out)
				require.Equal(t, i%2 == 1, errors.Is(err, odd))
			})
		}
		synctest.Wait()
		require.Equal(t, 10, cs.Waiting())
		require.ErrorIs(t, cs.Do(t.Context(), &double{}, 1, false), ErrFull)
		go cs.Run()
		wg.Wait()
		require.Equal(t, []int{4, 4, 2}, sizes)
		close(stop)
		require.ErrorIs(t, cs.Do(t.Context(), &double{}, 1, false), ErrClosed)
	})
}

func TestACallerMayLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop, answer := make(chan struct{}), make(chan struct{})
		made := 0
		cs, _ := calls(stop, Limits{BatchItems: 1}, func(batch []*double) {
			<-answer
			made += len(batch)
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go cs.Run()
		begin := time.Now()
		var wg sync.WaitGroup
		call := func(settle bool, after time.Duration, want error) {
			wg.Go(func() {
				require.ErrorIs(t, cs.Do(ctx, &double{}, 1, settle), want)
				require.Equal(t, after, time.Since(begin))
			})
			synctest.Wait()
		}
		call(true, 5*time.Second, nil) // under way
		call(true, time.Second, context.DeadlineExceeded)
		call(false, time.Second, context.DeadlineExceeded)
		time.Sleep(5 * time.Second)
		close(answer)
		wg.Wait()
		require.Equal(t, 1, made, "those that left first were not made")
		close(stop)
	})
}

func TestClosedCallsDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop, answer := make(chan struct{}), make(chan struct{})
		cs, _ := calls(stop, Limits{BatchItems: 1}, func([]*double) { <-answer })
		go cs.Run()
		var wg sync.WaitGroup
		wg.Go(func() { require.NoError(t, cs.Do(t.Context(), &double{}, 1, false), "under way") })
		synctest.Wait()
		wg.Go(func() { require.ErrorIs(t, cs.Do(t.Context(), &double{}, 1, false), ErrClosed) })
		synctest.Wait()
		close(stop)
		synctest.Wait()
		close(answer)
		wg.Wait()
	})
}

func TestAPanicIsTheOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := make(chan struct{})
		cs, panics := calls(stop, Limits{}, func([]*double) { panic("in serve") })
		go cs.Run()
		require.ErrorContains(t, cs.Do(t.Context(), &double{}, 1, false), "in serve")
		require.Equal(t, 1, *panics)
		close(stop)
	})
}
