package local

import (
	"context"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/bench/seed"
	"parley/lab/launch"
)

// TestAClusterOfProcesses starts real processes with few users, breaks a link and a node, and stops them.
func TestAClusterOfProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts seven processes")
	}
	if err := launch.Missing(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	plan, err := ParseFaults("slow:5ms chat2-redis at 0s, heal at 0s, pause chat1 at 0s, resume at 0s, kill at 0s, restart at 0s")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	seeded := map[string]int{}
	l, err := Cluster(ctx, Options{Chat: 2, Users: 10, Faults: plan, Progress: func(step string, done, _ int) { seeded[step] = done }})
	require.NoError(t, err)
	closed := false
	t.Cleanup(func() {
		if !closed {
			_ = l.Close() // the test has failed already
		}
	})
	require.Equal(t, map[string]int{"users": 10, "friends": 10, "caches": 10}, seeded)
	require.Equal(t, seed.FirstUID, l.FirstUID)
	require.Len(t, l.Status, 1)
	require.NotEmpty(t, l.Secret)
	var names []string
	for _, n := range l.Nodes {
		names = append(names, n.Name)
		require.True(t, n.Proc.Running(), n.Name)
	}
	slices.Sort(names)
	require.Equal(t, []string{"chat1", "chat2", "gate1", "mariadb", "redis", "status1"}, names)
	for _, f := range plan {
		require.NoError(t, l.Do(ctx, f), f)
	}
	require.Error(t, l.Do(ctx, Fault{What: "kill", Node: "chat9"}))
	require.Error(t, l.Do(ctx, Fault{What: "cut", Node: "chat1-redis"}), "the plan did not name it")
	proxy := l.links["chat2-redis"].Addr()
	require.NoError(t, l.Close())
	closed = true
	_, err = net.DialTimeout("tcp", proxy, time.Second)
	require.Error(t, err, "the link's proxy is gone too")
}
