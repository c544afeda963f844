package lab

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/bench/report"
)

// TestHogsAreMeasured runs a few kinds that end quickly. It does not check speeds and megabytes, which depend on the
// machine, but that they were measured and that the outcome of the hogs was recorded.
func TestHogsAreMeasured(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts the standalone binary")
	}
	t.Parallel()
	l, out := lab()
	o := Options{
		Standalone: true, Users: 4, Workers: 1, Loops: 1, Seed: 7, Heartbeat: 30 * time.Second, MaxLag: time.Minute,
		Out: t.TempDir(), Name: "run", Quiet: true,
		Assert: "half_frame_bytes<100M,flooding_writer_bytes<100M,hog_ratio>0,hogs_kept_memory==0,lost==0,acked==280",
	}
	code := l.Hogs(t.Context(), o, HogFlags{Peers: 3, Kinds: []string{"half_frame", "bad_length"}, Rate: 20, Before: 3 * time.Second})
	require.Equal(t, report.Pass, code, out)
	r := kept(t, o)
	require.Len(t, r.Tables, 2)
	require.NotEmpty(t, r.Tables[1].Rows, "what the node counts as trouble: bad frames, or a flood")
	rows := r.Tables[0].Rows
	require.Len(t, rows, 2)
	require.Contains(t, strings.Join(rows[0], " "), "3 kept")
	require.Contains(t, strings.Join(rows[1], " "), "closed")
}
