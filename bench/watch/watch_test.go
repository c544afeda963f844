package watch

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const metricsText = `# HELP parley_chat_sessions Sessions logged in.
parley_chat_sessions{node="chat1"} 3
parley_chat_sessions{node="chat2"} 4
process_resident_memory_bytes 1.5e+07
go_goroutines 12
unrelated{le="0.5"} 9
`

func TestMetricsOfSeveralNodesAddUp(t *testing.T) {
	require.Equal(t, map[string]float64{
		"parley_chat_sessions": 7, "process_resident_memory_bytes": 1.5e7, "go_goroutines": 12, "unrelated": 9,
	}, Parse(strings.NewReader(metricsText)))
}

// TestTroublesAreCountedFromTheWatchOn has a node that counted before, goes on counting, and restarts.
func TestTroublesAreCountedFromTheWatchOn(t *testing.T) {
	var text atomic.Value
	text.Store("")
	ops := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text.Load().(string)) }))
	defer ops.Close()
	n := &Nodes{
		began: time.Now(), http: ops.Client(), last: map[string]reading{},
		troubles: map[string]float64{}, counted: map[string]map[string]float64{},
	}
	for _, s := range []string{"dropped_total{reason=\"gone\"} 5", "dropped_total{reason=\"gone\"} 7", "dropped_total{reason=\"gone\"} 1"} {
		text.Store("parley_router_pushes_" + s + "\nparley_router_pushes_local_total 9\nparley_chat_slow_consumers_total 0\n")
		n.look(t.Context(), Watched{Name: "node", Ops: ops.Listener.Addr().String()})
	}
	text.Store("parley_chat_slow_consumers_total 2\n")
	n.look(t.Context(), Watched{Name: "node", Ops: ops.Listener.Addr().String()})
	require.Equal(t, map[string]float64{
		`parley_router_pushes_dropped_total{reason="gone"}`: 3, "parley_chat_slow_consumers_total": 2,
	}, n.Troubles())
}

func TestNodesAreWatched(t *testing.T) {
	ops := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(metricsText)) }))
	n := WatchNodes(time.Now(), []Watched{{Name: "node", Ops: ops.Listener.Addr().String()}, {Name: "gone", Ops: "127.0.0.1:1"}})
	n.Add(Watched{Name: "me", Pid: os.Getpid})
	n.Look(t.Context())
	latest := n.Latest()
	require.EqualValues(t, 7, latest["node"].Sessions)
	require.True(t, latest["gone"].Gone)
	if runtime.GOOS == "linux" {
		require.Positive(t, latest["me"].RSS)
	}
	ops.Close()
	samples, machine := n.Stop()
	require.GreaterOrEqual(t, len(samples), 5)
	require.GreaterOrEqual(t, len(machine), 2)
}

func TestSelfKnowsWhatItUses(t *testing.T) {
	w := StartSelf()
	var s Self
	for s.CPU == 0 || s.GCs == 0 {
		runtime.GC()
		s = w.Read()
	}
	sum := Worst(s, Self{CPU: 1, SchedP99: 99})
	require.InDelta(t, s.CPU+1, sum.CPU, 1e-9)
	require.EqualValues(t, 99, sum.SchedP99)
}
