package presence

import (
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// B10: a Redis that answers but takes no writes is named, and the probe recovers by itself.
func TestAWriteProbeSeesWhatPingDoesNot(t *testing.T) {
	server, err := startRedis(false)
	require.NoError(t, err)
	t.Cleanup(func() { server.kill(); _ = os.RemoveAll(server.dir) })
	rdb := client(t, &redis.UniversalOptions{Addrs: []string{server.addr()}})
	p := New(rdb, Options{Timeout: 20 * time.Second})
	t.Cleanup(p.Close)
	do := func(words ...any) {
		t.Helper()
		require.NoError(t, rdb.Do(t.Context(), words...).Err())
	}
	for _, c := range []struct {
		reason       string
		refuse, heal []any
	}{
		{"out of memory", []any{"config", "set", "maxmemory", "1"}, []any{"config", "set", "maxmemory", "0"}},
		{"read-only", []any{"replicaof", "127.0.0.1", "1"}, []any{"replicaof", "no", "one"}},
		{"too few replicas", []any{"config", "set", "min-replicas-to-write", "1"}, []any{"config", "set", "min-replicas-to-write", "0"}},
	} {
		probe := p.NewWriteProbe()
		do(c.refuse...)
		require.NoError(t, p.Ping(t.Context()), c.reason)
		for range 2 {
			var u *Unwritable
			require.ErrorAs(t, probe.Check(t.Context()), &u, c.reason)
			require.Equal(t, c.reason, u.Public())
		}
		do(c.heal...)
		require.NoError(t, probe.Check(t.Context()), c.reason)
		do(c.refuse...)
		require.NoError(t, probe.Check(t.Context()), "a write counts for some seconds")
		probe.wrote = time.Time{}
		require.Error(t, probe.Check(t.Context()))
		do(c.heal...)
	}
	require.Equal(t, "cannot save to disk", unwritable("MISCONF Redis is configured to save RDB snapshots, but it's …"))
	require.Equal(t, "refuses writes", unwritable("ERR whatever"))
	server.kill()
	var u *Unwritable
	err = p.NewWriteProbe().Check(t.Context())
	require.Error(t, err)
	require.NotErrorAs(t, err, &u, "a server that is gone is told by Ping")
}
