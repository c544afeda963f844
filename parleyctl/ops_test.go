package main

import (
	"encoding/json"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/standalone"
)

// TestAnOperatorDrainsANodeAndEndsASession runs the commands against a cluster of two chat nodes.
func TestAnOperatorDrainsANodeAndEndsASession(t *testing.T) {
	c, err := standalone.Start(t.Context(), standalone.LocalOptions())
	require.NoError(t, err)
	defer c.Close()
	g, err := client.NewGate(c.GateURL())
	require.NoError(t, err)
	sessions := map[string]*client.Session{}
	for _, u := range standalone.Demo { // one after the other: on different nodes
		s, err := client.Open(t.Context(), client.SessionOptions{Gate: g, Email: u.Email, Password: u.Password})
		require.NoError(t, err)
		defer s.Close()
		go func() {
			for range s.Events(t.Context()) {
			}
		}()
		sessions[s.Node()] = s
	}
	require.Len(t, sessions, 2)
	ops := "--ops=" + c.OpsAddr()
	expect := func(want string, args ...string) string {
		t.Helper()
		code, stdout, stderr := execute(t, "", append(args, ops)...)
		require.Equal(t, exitOK, code, stderr)
		require.Contains(t, stdout, want)
		return stdout
	}
	awaitSessions := func(want map[string]int) {
		t.Helper()
		for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
			var got struct{ Nodes []nodeView }
			require.NoError(t, json.Unmarshal([]byte(expect("", "nodes", "--json")), &got))
			have := map[string]int{}
			for _, n := range got.Nodes {
				have[n.Name] = n.Sessions
			}
			if len(have) == len(want) && have["chat1"] == want["chat1"] && have["chat2"] == want["chat2"] {
				return
			}
			require.Less(t, time.Since(began), patience, "%v", have)
		}
	}
	awaitSessions(map[string]int{"chat1": 1, "chat2": 1})
	expect("open", "top", "--count=2")
	expect("nothing to move", "rebalance", "--dry-run")

	expect("chat1 is drained: 1 of 1 clients moved, gap p50", "node", "drain", "chat1", "--over=100ms")
	awaitSessions(map[string]int{"chat1": 0, "chat2": 2})
	require.Eventually(t, func() bool { return sessions["chat1"].Node() == "chat2" }, patience, time.Millisecond) // the node knows first
	expect("nothing to move", "rebalance")                                                                        // a drained node gets nobody
	expect("", "node", "undrain", "chat1")
	awaitSessions(map[string]int{"chat1": 0, "chat2": 2})
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) { // the next look shows the node open
		if stdout := expect("", "rebalance", "--dry-run"); stdout == "chat2 -> chat1  1 sessions\n" {
			break
		}
		require.Less(t, time.Since(began), patience)
	}
	expect("chat2 -> chat1  1 sessions", "rebalance")
	awaitSessions(map[string]int{"chat1": 1, "chat2": 1})

	uid := sessions["chat2"].Profile().UID
	expect("native", "session", "list", "--limit=0")
	expect("1 sessions ended", "session", "kick", jsonOf(uid))
	select {
	case <-sessions["chat2"].Done():
	case <-time.After(patience):
		t.Fatal("the session goes on")
	}

	code, _, stderr := execute(t, "", "node", "drain", "chat7", ops)
	require.Equal(t, exitFail, code)
	require.Contains(t, stderr, `no node "chat7" is alive`)
	code, _, stderr = execute(t, "", "nodes", "--ops="+c.GateAddr())
	require.Equal(t, exitFail, code)
	require.Contains(t, stderr, "is no status node")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ln.Close()
	code, _, stderr = execute(t, "", "nodes", "--ops="+ln.Addr().String())
	require.Equal(t, exitFail, code)
	require.Contains(t, stderr, "see --ops")
}

func jsonOf(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}
