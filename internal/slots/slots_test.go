package slots

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(2, 1)
		require.NoError(t, s.Take(t.Context(), 0))
		require.NoError(t, s.Take(t.Context(), 0))
		require.Equal(t, 2, s.Taken())
		require.ErrorIs(t, s.Take(t.Context(), time.Second), ErrLate)

		cause := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { require.ErrorIs(t, s.Take(ctx, time.Hour), cause) })
		synctest.Wait()
		require.Equal(t, 1, s.Waiting())
		require.ErrorIs(t, s.Take(t.Context(), time.Hour), ErrFull)
		cancel(cause)
		wg.Wait()

		wg.Go(func() { require.NoError(t, s.Take(t.Context(), time.Hour)) })
		synctest.Wait()
		s.Give()
		wg.Wait()
		require.Zero(t, s.Waiting())
		require.Equal(t, 2, s.Taken())
		s.Give()
		s.Give()
		require.Zero(t, s.Taken())
	})
}
