package lab

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/bench/report"
	"parley/internal/standalone"
)

// startCluster runs a cluster with users in this process, and returns the options of a run against it. The processor
// time of the generator then includes the cluster's; with more loops than the machine has cores, it is never
// considered too high.
func startCluster(t *testing.T, users int) (*standalone.Cluster, Options) {
	t.Helper()
	o := standalone.LocalOptions()
	o.Demo, o.Crowd = false, users
	c, err := standalone.Start(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() }) // shutting down is tested elsewhere
	return c, Options{
		Gate: c.GateURL(), Status: []string{c.StatusAddr()}, Users: users, Workers: 1, Loops: min(2*runtime.NumCPU(), 64), Nodes: 2, Seed: 7,
		Heartbeat: 30 * time.Second, MaxLag: 10 * time.Second, Out: t.TempDir(), Name: "run", Quiet: true,
	}
}

func lab() (Lab, *bytes.Buffer) {
	var out bytes.Buffer
	return Lab{Stdout: &out, Stderr: &out, Args: []string{"chat"}, Shared: true}, &out
}

func chatFlags(rate float64, d time.Duration) ChatFlags {
	return ChatFlags{LoadFlags: LoadFlags{Rate: rate, Shape: "constant", For: d}, Cross: .5, Size: 100}
}

func kept(t *testing.T, o Options) *report.Report {
	t.Helper()
	r, err := report.Read(filepath.Join(o.Out, o.Name+".json"))
	require.NoError(t, err)
	page, err := os.ReadFile(filepath.Join(o.Out, o.Name+".html"))
	require.NoError(t, err)
	require.Contains(t, string(page), r.Verdict.Word)
	require.NotRegexp(t, `(src|href)="https?:`, string(page), "the page loads nothing")
	return r
}

func TestAssertionsDecideTheExitCode(t *testing.T) {
	t.Parallel()
	c, o := startCluster(t, 40)
	o.Budgets = false // a busy machine moves clients late
	o.Users = 20
	for text, want := range map[string]int{
		"ack.p99<1h,lost==0,acked>100": report.Pass,
		"ack.p99<1ns":                  report.Missed,
		"knee>5":                       report.Missed, // a figure that this verb does not measure must not pass
		"nonsense<5":                   report.Setup,
	} {
		l, out := lab()
		o.Assert = text
		require.Equal(t, want, l.Chat(t.Context(), o, chatFlags(300, 500*time.Millisecond)), "%s\n%s", text, out)
	}

	// Two transports take turns, and are compared. All texts are in the books.
	l, out := lab()
	o.Assert, o.Transport, o.Rounds = "ws_rate_ratio>0.5,acked==300", []string{"tcp", "ws"}, 1
	require.Equal(t, report.Pass, l.Chat(t.Context(), o, chatFlags(300, 500*time.Millisecond)), out)
	r := kept(t, o)
	require.True(t, r.Ledger.HistoryChecked)
	require.EqualValues(t, 300, r.Ledger.HistoryRead)
	var compared [][]string
	for _, table := range r.Tables {
		if table.Title == "texts by transport, taking turns" {
			compared = table.Rows
		}
	}
	require.Len(t, compared, 2, out)
	require.Equal(t, "ws", compared[1][0])

	// A drain moves everybody to the other node, and loses nothing.
	l, out = lab()
	o.Assert, o.Transport, o.Ops = "moved==20,told==20,lost==0,unanswered==0", []string{"ws"}, []string{"status1=" + c.OpsAddr()}
	require.Equal(t, report.Pass, l.Drain(t.Context(), o, DrainFlags{Rate: 200, Over: time.Second, Size: 100}), out)
	r = kept(t, o)
	require.True(t, r.Ledger.HistoryChecked)
	require.EqualValues(t, 20, r.Histogram("move").Summary.Count)
}

// TestAnOverloadedGeneratorIsInvalid asks for a higher rate than any loop can generate.
func TestAnOverloadedGeneratorIsInvalid(t *testing.T) {
	_, o := startCluster(t, 50)
	o.MaxLag = 10 * time.Millisecond
	l, out := lab()
	code := l.Ping(t.Context(), o, LoadFlags{Rate: 20_000_000, Shape: "constant", For: 100 * time.Millisecond})
	require.Equal(t, report.Invalid, code, out)
	require.Contains(t, strings.Join(kept(t, o).Verdict.Reasons, "\n"), "generator itself was late")
}

// TestAStallShowsInThePercentiles pauses a server for two of six seconds. Every heartbeat due in that time waits for
// the rest of the stall, so a third of all latencies are spread evenly between 0 and 2 s. A tool that waits for
// answers before it continues would show a single slow one.
func TestAStallShowsInThePercentiles(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts the standalone binary")
	}
	l, out := lab()
	o := Options{
		Standalone: true, Nodes: 2, Users: 100, Workers: 1, Loops: 1, Seed: 7, Heartbeat: 30 * time.Second, MaxLag: 10 * time.Second,
		Out: t.TempDir(), Name: "run", Quiet: true, Fault: "pause standalone at 2s, resume at 4s",
	}
	code := l.Ping(t.Context(), o, LoadFlags{Rate: 300, Shape: "constant", For: 6 * time.Second})
	require.Equal(t, report.Pass, code, out)
	r := kept(t, o)
	require.Len(t, r.Marks, 2)
	stall := r.Marks[1].At - r.Marks[0].At
	require.Greater(t, stall, 1.5)
	require.Less(t, stall, 4.)
	for _, want := range []struct{ quantile, seconds float64 }{
		// Of N latencies, N*stall/6 are spread over (0, stall).
		{1 - stall/6/2, stall / 2},
		{1 - stall/6/4, stall * 3 / 4},
		{1, stall},
	} {
		h := r.Histogram("ping")
		require.NotNil(t, h)
		got := 0.0
		for _, p := range h.Curve {
			if p[0] >= want.quantile {
				got = p[1] / 1e3
				break
			}
		}
		if want.quantile == 1 {
			got = float64(h.Summary.Max) / 1e9
		}
		require.Greater(t, got, want.seconds-.3, "quantile %v: %s", want.quantile, out)
		require.Less(t, got, want.seconds+1, "quantile %v: %s", want.quantile, out) // a busy machine adds some
	}
	require.Less(t, r.Histogram("ping").Summary.P50, int64(time.Second), "two thirds of the pings met no stall")
}
