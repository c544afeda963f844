package memredis

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// What the commands do is tested in internal/standalone, against a redis-server.

func TestExpiredKeysAreFreed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New()
		c := r.Client()
		held := func() int {
			r.mu.Lock()
			defer r.mu.Unlock()
			return len(r.keys)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- r.Run(ctx) }()
		for i := range 3 * sweepChunk {
			require.NoError(t, c.Set(ctx, fmt.Sprint("short", i), "x", time.Second).Err())
			require.NoError(t, c.Set(ctx, fmt.Sprint("long", i), "x", time.Hour).Err())
		}
		require.NoError(t, c.Set(ctx, "ever", "x", 0).Err())
		time.Sleep(sweepEvery + time.Second)
		synctest.Wait()
		require.Equal(t, 3*sweepChunk+1, held())
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, 1, held())
		stop()
		require.NoError(t, <-ended)
	})
}

func TestUnknownIsAnError(t *testing.T) {
	c := New().Client()
	ctx := t.Context()
	require.ErrorContains(t, c.ZPopMax(ctx, "k").Err(), "no command")
	require.ErrorContains(t, c.SetXX(ctx, "k", "v", 0).Err(), "SET with xx")
	require.True(t, redis.HasErrorPrefix(c.EvalSha(ctx, "5d3c", nil).Err(), "NOSCRIPT"))
	require.Error(t, redis.NewScript("return 1").Run(ctx, c, nil).Err(), "there is no Lua")
	require.Error(t, c.ScriptLoad(ctx, "return 1").Err())
}

func TestCommandAfterTheDeadlineDoesNothing(t *testing.T) {
	c := New().Client()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	require.ErrorIs(t, c.Set(ctx, "k", "v", 0).Err(), context.Canceled)
	pipe := c.Pipeline()
	set := pipe.Set(ctx, "k", "v", 0)
	_, err := pipe.Exec(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, set.Err(), context.Canceled)
	require.Zero(t, c.Exists(t.Context(), "k").Val())
}

func TestScriptIsAtomic(t *testing.T) {
	lua := redis.NewScript("return redis.call('INCR', KEYS[1]) and nil")
	r := New(Script{Lua: lua, Go: func(tx *Tx, keys, _ []string) any {
		n, _ := tx.Get(keys[0])
		time.Sleep(time.Microsecond) // let others in, if they can
		if n == "" {
			n = "0"
		}
		tx.Set(keys[0], fmt.Sprint(Int(n)+1), 0)
		return nil
	}})
	c := r.Client()
	const calls = 100
	done := make(chan error, calls)
	for range calls {
		go func() { done <- lua.EvalSha(t.Context(), c, []string{"n"}).Err() }()
	}
	for range calls {
		require.ErrorIs(t, <-done, redis.Nil)
	}
	require.Equal(t, fmt.Sprint(calls), c.Get(t.Context(), "n").Val())
}
