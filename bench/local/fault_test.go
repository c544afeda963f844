package local

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFaultPlans(t *testing.T) {
	plan, err := ParseFaults("kill chatnode2 at 10s, restart at 14s,pause redis at 20s, resume at 21500ms")
	require.NoError(t, err)
	require.Equal(t, []Fault{
		{"kill", "chat2", 10 * time.Second},
		{"restart", "chat2", 14 * time.Second},
		{"pause", "redis", 20 * time.Second},
		{"resume", "redis", 21500 * time.Millisecond},
	}, plan)
	require.NoError(t, CheckFaults(plan, 2))
	require.ErrorContains(t, CheckFaults(plan, 1), "chat2")
	require.Error(t, CheckFaults(plan, 0))
	alone, err := ParseFaults("pause standalone at 1s, resume at 2s")
	require.NoError(t, err)
	require.NoError(t, CheckFaults(alone, 0))
	none, err := ParseFaults(" ")
	require.NoError(t, err)
	require.Empty(t, none)
	require.Equal(t, "kill chat2 at 10s", plan[0].String())
}

func TestFaultPlansThatAreNone(t *testing.T) {
	for _, text := range []string{
		"kill", "restart at 5s", "kill chat1 5s", "melt chat1 at 5s", "kill chat1 at soon", "kill chat1 at -5s",
		"kill chat1 at 5s, restart at 4s", "kill chat1 at 5s,",
	} {
		_, err := ParseFaults(text)
		require.Error(t, err, text)
	}
}

func TestNamesOfProcesses(t *testing.T) {
	for in, want := range map[string]string{"chatnode2": "chat2", "chat1": "chat1", "gatenode": "gate1", "mysql": "mariadb", "redis": "redis"} {
		require.Equal(t, want, NodeName(in))
	}
}

func TestGreetingOfStandalone(t *testing.T) {
	l := &Layout{}
	text := "Parley is up after 12 ms.\n\n  gate        http://127.0.0.1:1234\n  status      127.0.0.1:77 (RPC)\n" +
		"  operations  http://127.0.0.1:99/metrics, /healthz\n"
	require.Error(t, l.readGreeting(text), "it has not said all yet")
	require.NoError(t, l.readGreeting(text+"\nCtrl-C stops it.\n"))
	require.Equal(t, "http://127.0.0.1:1234", l.Gate)
	require.Equal(t, []string{"127.0.0.1:77"}, l.Status)
	require.Equal(t, "127.0.0.1:99", l.Nodes[0].Ops)
}
