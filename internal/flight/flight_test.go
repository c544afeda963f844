package flight

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestCallersShareAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[string, int]
		release := make(chan struct{})
		made, own := 0, 0
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				v, mine, err := g.Do(t.Context(), "a", func() (int, error) {
					made++
					<-release
					return 7, nil
				})
				require.NoError(t, err)
				require.Equal(t, 7, v)
				mu.Lock()
				defer mu.Unlock()
				if mine {
					own++
				}
			})
		}
		synctest.Wait()
		v, mine, err := g.Do(t.Context(), "b", func() (int, error) { return 8, nil })
		require.NoError(t, err)
		require.True(t, mine)
		require.Equal(t, 8, v, "another key")
		close(release)
		wg.Wait()
		require.Equal(t, 1, made)
		require.Equal(t, 1, own)
		require.Empty(t, g.open)
	})
}

func TestAnotherCallerTriesWhenTheFirstLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[string, int]
		first, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			_, mine, err := g.Do(first, "a", func() (int, error) {
				<-first.Done()
				return 0, first.Err()
			})
			require.True(t, mine)
			require.ErrorIs(t, err, context.Canceled)
		})
		synctest.Wait()
		failing := errors.New("failing")
		for range 3 {
			wg.Go(func() {
				_, _, err := g.Do(t.Context(), "a", func() (int, error) { return 0, failing })
				require.ErrorIs(t, err, failing)
			})
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		_, mine, err := g.Do(gone, "a", nil)
		require.False(t, mine)
		require.ErrorIs(t, err, context.Canceled, "waiting ends with the context")
		synctest.Wait()
		leave()
		wg.Wait()
		require.Empty(t, g.open)
	})
}

func TestAPanicIsForItsCallerAlone(t *testing.T) {
	var g Group[string, int]
	require.Panics(t, func() { _, _, _ = g.Do(t.Context(), "a", func() (int, error) { panic("a bug") }) })
	v, mine, err := g.Do(t.Context(), "a", func() (int, error) { return 7, nil })
	require.NoError(t, err)
	require.True(t, mine)
	require.Equal(t, 7, v)
}
