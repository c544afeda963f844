package lab

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/bench/report"
	"parley/internal/cluster"
)

// needServers skips where real clusters cannot be started.
func needServers(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and starts seven processes")
	}
	if err := cluster.Missing(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// TestARealClusterLosesANode kills a chat node under a load and starts it again. SQL has every text that was acknowledged,
// and Redis forgets everybody but those whom only the dead node could have taken out.
func TestARealClusterLosesANode(t *testing.T) {
	needServers(t)
	l, out := lab()
	o := Options{
		Local: 2, Users: 40, Workers: 1, Loops: 1, Nodes: 2, Seed: 7, Heartbeat: 30 * time.Second, MaxLag: 10 * time.Second,
		Out: t.TempDir(), Name: "run", Quiet: true, Fault: "kill chat2 at 1500ms, restart at 3s",
	}
	code := l.Chat(t.Context(), o, chatFlags(200, 8*time.Second))
	r := kept(t, o)
	require.Equal(t, report.Pass, code, out)
	require.Equal(t, readFromSQL, r.HistoryBy)
	require.True(t, r.Ledger.HistoryChecked)
	require.GreaterOrEqual(t, r.Ledger.HistoryRead, r.Ledger.Acked)
	require.NotNil(t, r.Left)
	require.True(t, r.Left.Redis)
	require.Zero(t, r.Left.Wrong(), r.Left)
}
