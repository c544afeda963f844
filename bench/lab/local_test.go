package lab

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/bench/report"
	"parley/lab/launch"
	"parley/lab/launchtest"
)

// needServers skips the test where real clusters cannot be started.
func needServers(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and starts seven processes")
	}
	if err := launch.Missing(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// TestARealClusterLosesANode kills and restarts a chat node under load. Afterwards SQL must have every acknowledged
// text, and Redis must have forgotten all users except those whom only the killed node could have removed.
func TestARealClusterLosesANode(t *testing.T) {
	needServers(t)
	launchtest.Turn(t)
	l, out := lab()
	o := Options{
		Local: 2, Users: 40, Workers: 1, Loops: 1, Nodes: 2, Seed: 7, Heartbeat: 30 * time.Second, MaxLag: 10 * time.Second,
		Out: t.TempDir(), Name: "run", Quiet: true, Fault: "kill chat2 at 1500ms, restart at 3s",
	}
	code := l.Chat(t.Context(), o, chatFlags(100, 8*time.Second))
	r := kept(t, o)
	require.Equal(t, report.Pass, code, out)
	require.Equal(t, readFromSQL, r.HistoryBy)
	require.True(t, r.Ledger.HistoryChecked)
	require.GreaterOrEqual(t, r.Ledger.HistoryRead, r.Ledger.Acked)
	require.NotNil(t, r.Left)
	require.True(t, r.Left.Redis)
	require.Zero(t, r.Left.Wrong(), r.Left)

	require.Len(t, r.Faults, 2)
	killed, restarted := r.Faults[0], r.Faults[1]
	require.Equal(t, []string{"kill chat2", "restart chat2"}, []string{killed.What, restarted.What})
	require.False(t, killed.Repair)
	require.True(t, restarted.Repair)
	require.NotNil(t, killed.Detection, "twenty connections broke")
	require.Less(t, *killed.Detection, 5.0, "the kernel of the dead process says so at once")
	require.NotEmpty(t, killed.Sign)
	if killed.Recovery != nil { // else this machine was too slow for a second without failures
		require.Greater(t, *killed.Recovery, *killed.Detection)
	}
	require.Contains(t, out.String(), "detected after")
}
