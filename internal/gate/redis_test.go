package gate

import (
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"parley/lab/launch"
	"parley/lab/launchtest"
)

// The scripts and keys work on a real server and on a member of a cluster, which refuses scripts whose keys do not
// share a slot.
func TestOnRealRedis(t *testing.T) {
	launchtest.Need(t)
	for name, clustered := range map[string]bool{"single": false, "cluster": true} {
		t.Run(name, func(t *testing.T) {
			srv, err := launch.StartRedis(t.Context(), launch.RedisOptions{Cluster: clustered})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, srv.Close()) })
			ctx := t.Context()
			if clustered {
				admin := redis.NewClient(&redis.Options{Addr: srv.Addr(), DisableIdentity: true})
				require.NoError(t, admin.ClusterAddSlotsRange(ctx, 0, 16383).Err())
				require.Eventually(t, func() bool {
					return admin.Set(ctx, "probe", "1", 0).Err() == nil
				}, patience, 10*time.Millisecond)
				require.NoError(t, admin.Close())
			}
			rdb := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{srv.Addr()}, IsClusterMode: clustered, DisableIdentity: true})
			t.Cleanup(func() { _ = rdb.Close() })

			c := &codes{rdb: rdb, timeout: patience, secret: []byte("s"), cluster: clustered, plain: true}
			require.NoError(t, c.store(ctx, "a@example.com", "123456"))
			for range codeTries - 1 {
				_, err := c.use(ctx, "a@example.com", "654321")
				require.ErrorIs(t, err, errWrongCode)
			}
			got, err := c.use(ctx, "a@example.com", "123456")
			require.NoError(t, err)
			require.EqualValues(t, codeTries, got.tries)
			require.InDelta(t, codeTTL, got.ttl, float64(patience))
			_, err = c.use(ctx, "a@example.com", "123456")
			require.ErrorIs(t, err, errNoCode)
			require.NoError(t, c.putBack(ctx, got, true))
			_, err = c.use(ctx, "a@example.com", "123456")
			require.NoError(t, err)
			require.NoError(t, rdb.Set(ctx, "code_b@example.com", "0a9f", 0).Err())
			got, err = c.use(ctx, "b@example.com", "0a9f")
			require.NoError(t, err)
			require.Equal(t, "0a9f", got.value)

			limits := DefaultConfig().Limits
			a := &accountLimit{rdb: rdb, timeout: patience, secret: []byte("s"), limits: limits}
			var open []attempt
			for range limits.AccountFailures {
				at, wait, busy, err := a.beginAttempt(ctx, "a@example.com")
				require.NoError(t, err)
				require.Zero(t, wait)
				require.False(t, busy)
				open = append(open, at)
			}
			_, _, busy, err := a.beginAttempt(ctx, "a@example.com")
			require.NoError(t, err)
			require.True(t, busy)
			require.NoError(t, a.giveBack(ctx, open[0]))
			at, _, busy, err := a.beginAttempt(ctx, "a@example.com")
			require.NoError(t, err)
			require.False(t, busy, "one was given back")
			open[0] = at
			for _, at := range open {
				require.NoError(t, a.failed(ctx, at))
			}
			_, wait, busy, err := a.beginAttempt(ctx, "a@example.com")
			require.NoError(t, err)
			require.False(t, busy)
			require.InDelta(t, limits.AccountLock, wait, float64(patience))
			require.NoError(t, a.succeeded(ctx, "a@example.com"))

			h := &hourly{rdb: rdb, timeout: patience, secret: []byte("s"), name: "codemail", limit: 2, now: time.Now}
			for _, want := range []bool{true, true, false} {
				wait, err := h.take(ctx, "a@example.com")
				require.NoError(t, err)
				require.Equal(t, want, wait == 0)
			}

			require.NoError(t, srv.Close())
			_, err = c.use(ctx, "a@example.com", "123456")
			require.Error(t, err)
			require.False(t, errors.Is(err, errNoCode), "a dead Redis is not a missing code")
		})
	}
}
