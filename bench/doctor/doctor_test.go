package doctor

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLimitsAreNamedBeforeTheRun(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	require.NoError(t, Check(Plan{Connections: 10, Processes: 1, Sources: 64}))
	err := Check(Plan{Connections: 50_000_000, Processes: 1, Sources: 64, Servers: 2})
	require.ErrorContains(t, err, "descriptors a process")
	require.ErrorContains(t, err, "--workers")
	require.ErrorContains(t, err, "--local")
	require.ErrorContains(t, err, "memory")
	err = Check(Plan{Connections: 50_000_000, Beside: 49_999_990, Processes: 1, Sources: 64, Servers: 2})
	require.ErrorContains(t, err, "descriptors a process")
	require.NotContains(t, err.Error(), "--local", "the nodes have ten of them")
	require.Positive(t, Most(Examine(Plan{Connections: 10})))
}
