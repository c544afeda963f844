package batch

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestBatchesAreInOrderAndBounded(t *testing.T) {
	q := NewQueue[int](Limits{Items: 5, Weight: 20, BatchItems: 3, BatchWeight: 6})
	require.Empty(t, q.Take(nil))
	for i, weight := range []int{1, 1, 1, 9, 2} {
		require.True(t, q.Put(i, weight))
	}
	require.False(t, q.Put(5, 0), "five wait")
	items, weight := q.Waiting()
	require.Equal(t, 5, items)
	require.Equal(t, 14, weight)
	require.Equal(t, []int{0, 1, 2}, q.Take(nil), "three items")
	require.True(t, q.Put(5, 9))
	require.False(t, q.Put(6, 1), "20 wait")
	require.Equal(t, []int{3}, q.Take(nil), "too heavy for a batch, and alone in one")
	require.Equal(t, []int{7, 4}, q.Take([]int{7}), "with the next it would weigh 11")
	require.Equal(t, []int{5}, q.Take(nil))
	items, weight = q.Waiting()
	require.Zero(t, items)
	require.Zero(t, weight)
}

func TestOrderSurvivesGrowth(t *testing.T) {
	q := NewQueue[int](Limits{BatchItems: 7})
	next, put := 0, 0
	for round := range 400 {
		for range 10 + round%5 {
			require.True(t, q.Put(put, 0))
			put++
		}
		for _, got := range q.Take(nil) {
			require.Equal(t, next, got)
			next++
		}
	}
	for batch := q.Take(nil); len(batch) > 0; batch = q.Take(batch[:0]) {
		for _, got := range batch {
			require.Equal(t, next, got)
			next++
		}
	}
	require.Equal(t, put, next)
	require.Nil(t, q.ring, "an empty queue gives the memory of a long one back")
}

func TestTakenItemsAreNotHeld(t *testing.T) {
	q := NewQueue[*int](Limits{})
	q.Put(new(int), 0)
	q.Take(nil)
	require.Equal(t, make([]entry[*int], minRing), q.ring)
}

func TestCloseAnswersWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue[int](Limits{BatchItems: 2})
		var mu sync.Mutex
		var got []int
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				q.Run(nil, func(batch []int) {
					mu.Lock()
					defer mu.Unlock()
					got = append(got, batch...)
				}, nil)
			})
		}
		synctest.Wait()
		for i := range 9 {
			require.True(t, q.Put(i, 1))
		}
		q.Close()
		require.False(t, q.Put(9, 1))
		wg.Wait()
		slices.Sort(got)
		require.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7, 8}, got)
	})
}

func TestStopLeavesWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue[int](Limits{BatchItems: 1})
		stop := make(chan struct{})
		var once sync.Once
		var wg sync.WaitGroup
		wg.Go(func() { q.Run(stop, func([]int) { once.Do(func() { close(stop) }) }, nil) })
		wg.Go(func() { q.Run(stop, func([]int) { once.Do(func() { close(stop) }) }, nil) })
		synctest.Wait()
		for i := range 5 {
			q.Put(i, 0)
		}
		wg.Wait()
		items, _ := q.Waiting()
		require.GreaterOrEqual(t, items, 3)
	})
}

func TestTwoWorkersShareABacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue[int](Limits{BatchItems: 1})
		busy := make(chan int)
		for range 2 {
			go q.Run(nil, func(batch []int) { busy <- batch[0] }, nil)
		}
		synctest.Wait()
		q.Put(1, 0)
		q.Put(2, 0)
		synctest.Wait()
		items, _ := q.Waiting()
		require.Zero(t, items, "both workers have one")
		require.ElementsMatch(t, []int{1, 2}, []int{<-busy, <-busy})
		q.Close()
	})
}

func TestAPanicCostsOneBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue[int](Limits{BatchItems: 1})
		q.Put(1, 0)
		q.Put(2, 0)
		q.Close()
		var lost, done []int
		q.Run(nil, func(batch []int) {
			if batch[0] == 1 {
				panic("one")
			}
			done = append(done, batch...)
		}, func(batch []int, p *Panic) {
			lost = append(lost, batch...)
			require.Equal(t, "one", p.Value)
			require.ErrorContains(t, p, "TestAPanicCostsOneBatch")
		})
		require.Equal(t, []int{1}, lost)
		require.Equal(t, []int{2}, done)
	})
}

// item is as large as a push.
type item [200]byte

func TestAllocFreeQueue(t *testing.T) {
	q := NewQueue[item](Limits{BatchItems: 64})
	var batch []item
	allocs := testing.AllocsPerRun(100, func() {
		for range 64 {
			q.Put(item{}, 1)
		}
		batch = q.Take(batch[:0])
	})
	require.Zero(t, allocs)
}
