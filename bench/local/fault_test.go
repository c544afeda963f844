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
		{"kill", "chat2", 10 * time.Second, 0},
		{"restart", "chat2", 14 * time.Second, 0},
		{"pause", "redis", 20 * time.Second, 0},
		{"resume", "redis", 21500 * time.Millisecond, 0},
	}, plan)
	require.NoError(t, CheckFaults(plan, 2))
	require.ErrorContains(t, CheckFaults(plan, 1), "chat2")
	require.Error(t, CheckFaults(plan, 0))
	alone, err := ParseFaults("pause standalone at 1s, resume at 2s")
	require.NoError(t, err)
	require.NoError(t, CheckFaults(alone, 0))
	links, err := ParseFaults("slow:20ms chatnode1-mysql at 1s, heal at 2s, cut chat2-redis at 3s")
	require.NoError(t, err)
	require.Equal(t, []Fault{
		{"slow", "chat1-mariadb", time.Second, 20 * time.Millisecond},
		{"heal", "chat1-mariadb", 2 * time.Second, 0},
		{"cut", "chat2-redis", 3 * time.Second, 0},
	}, links)
	require.NoError(t, CheckFaults(links, 2))
	require.Error(t, CheckFaults([]Fault{{What: "cut", Node: "chat1-gate1"}}, 2))
	none, err := ParseFaults(" ")
	require.NoError(t, err)
	require.Empty(t, none)
	require.Equal(t, "kill chat2 at 10s", plan[0].String())
}

func TestFaultPlansThatAreNone(t *testing.T) {
	for _, text := range []string{
		"kill", "restart at 5s", "kill chat1 5s", "melt chat1 at 5s", "kill chat1 at soon", "kill chat1 at -5s",
		"kill chat1 at 5s, restart at 4s", "kill chat1 at 5s,",
		"kill chat1-redis at 5s", "slow chat1 at 5s", "slow:fast chat1-redis at 5s", "cut:5ms chat1-redis at 5s",
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
