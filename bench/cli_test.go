package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/bench/report"
)

// TestMistakesAreFoundBeforeAnythingStarts gives impossible command lines. Each must fail with the exit code of a
// failed set-up and an explanation.
func TestMistakesAreFoundBeforeAnythingStarts(t *testing.T) {
	for _, c := range []struct {
		want string
		args []string
	}{
		{"expected one of", nil},
		{"unexpected argument", []string{"dance"}},
		{"unknown flag", []string{"chat", "--speed", "9"}},
		{"exclude each other", []string{"chat", "--standalone", "--local", "2"}},
		{"needs --status", []string{"login", "--gate", "http://127.0.0.1:1"}},
		{"neither a number nor a duration", []string{"chat", "--assert", "p99<fast"}},
		{"no figure is called", []string{"chat", "--assert", "p98<5ms"}},
		{"is none of", []string{"chat", "--local", "2", "--fault", "melt chat1 at 5s"}},
		{"there is no chat3", []string{"chat", "--local", "2", "--fault", "kill chat3 at 5s"}},
		{"only processes that this tool started", []string{"chat", "--gate", "http://127.0.0.1:1", "--status", "127.0.0.1:1", "--fault", "kill chat1 at 5s"}},
		{"whole seconds", []string{"ping", "--heartbeat", "1500ms"}},
		{"descriptors a process", []string{"idle", "-u", "40000000", "--out", ""}},
		{"there is no hog called", []string{"hogs", "--kinds", "slow_native,greedy"}},
		{"only a node that this tool started", []string{"hogs", "--gate", "http://127.0.0.1:1", "--status", "127.0.0.1:1"}},
		{"at most 20000000 can be kept", []string{"chat", "--rate", "1e9", "-d", "2s"}}, // E2
		{"at most 20000000 can be kept", []string{"mixed", "--churn", "1e9", "-d", "2s"}},
		{"at most 20000000 can be kept", []string{"find-max", "--to", "1e9"}},
		{"at most 20000000 can be kept", []string{"idle", "--texts", "1e9"}},
		{"is none of", []string{"chat", "--shape", "wavy"}},
		{"--cross must be", []string{"chat", "--cross", "2"}},
		{"--for must be more than 0", []string{"chat", "-d", "0s"}},
		{"--rounds", []string{"floor", "--rounds", "0"}},
		{"want one of tcp, tls, ws and wss", []string{"chat", "--transport", "udp"}},
		{"none twice", []string{"chat", "--transport", "ws,ws"}},
		{"standalone has no TLS", []string{"chat", "--transport", "wss"}},
		{"one transport at a time", []string{"storm", "--transport", "tcp,ws"}},
		{"one transport at a time", []string{"idle", "--transport", "tcp,ws", "--texts", "5"}},
		{"hogs speaks TCP only, not ws", []string{"hogs", "--transport", "ws"}},
		{"floor speaks TCP only, not tls", []string{"floor", "--local", "1", "--transport", "tls"}},
		{"and no --fault", []string{"chat", "--local", "2", "--transport", "tcp,ws", "--fault", "kill chat2 at 1s"}},
		{"--ca", []string{"chat", "--ca", "/nonexistent"}},
		{"two nodes or more", []string{"drain", "--local", "1"}},
		{"--stop needs --local", []string{"drain", "--stop"}},
		{"one transport at a time", []string{"drain", "--transport", "tcp,ws"}},
		{"--members 2 to", []string{"room", "-n", "1"}},
		{"two members", []string{"room", "-n", "100", "--online", "0.01"}},
		{"--remove must be", []string{"room", "--remove", "1"}},
		{"there must be a group for each", []string{"room", "--workers", "2"}},
		{"not by --users", []string{"room", "-u", "100"}},
		{"there is no driver for", []string{"compare", "carrierpigeon=tcp://127.0.0.1:1"}},
		{"two servers are called echo", []string{"compare", "echo", "echo=tcp://127.0.0.1:1"}},
		{"needs an address", []string{"compare", "nats"}},
		{"must begin with ws://", []string{"compare", "centrifugo=wss://127.0.0.1:1"}},
		{"no server is called nats", []string{"compare", "echo", "--pid", "nats=1"}},
		{"no process has this number", []string{"compare", "echo", "--pid", "echo=0"}},
		{"nor both 0", []string{"compare", "--rate", "0", "--closed", "0"}},
		{"--rounds", []string{"compare", "echo", "--rounds", "0"}},
		{"takes no --fault", []string{"compare", "--local", "2", "--fault", "kill chat2 at 1s"}},
		{"compare speaks TCP only, not ws", []string{"compare", "--transport", "ws"}},
		{"needs --local", []string{"presence"}},
		{"--friends must be", []string{"presence", "--local", "1", "--friends", "501"}},
		{"no closed loop", []string{"presence", "--local", "1", "--closed", "5"}},
		{"there must be a circle for each", []string{"presence", "--local", "1", "-u", "100", "--workers", "3"}},
		{"seed wants --config", []string{"seed", "-u", "10"}},
		{"no such file", []string{"diff", "/nonexistent/a", "/nonexistent/b"}},
	} {
		var out bytes.Buffer
		require.Equal(t, report.Setup, run(t.Context(), c.args, &out, &out), "%v: %s", c.args, &out)
		require.Contains(t, out.String(), c.want, "%v", c.args)
	}
}

func TestHelpAndDoctor(t *testing.T) {
	var out bytes.Buffer
	require.Equal(t, report.Pass, run(t.Context(), []string{"--help"}, &out, &out))
	for _, verb := range []string{"doctor", "seed", "quick", "connect", "login", "idle", "ping", "chat", "room", "storm", "churn", "presence", "mixed", "drain", "hogs", "floor", "compare", "find-max", "report", "diff"} {
		require.Contains(t, out.String(), verb)
	}
	out.Reset()
	require.Equal(t, report.Pass, run(t.Context(), []string{"doctor", "-u", "10"}, &out, &out))
	require.Contains(t, out.String(), "largest number of connections")
	require.Equal(t, report.Setup, run(t.Context(), []string{"doctor", "-u", "100000000"}, &out, &out))
}
