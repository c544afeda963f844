package crew

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/bench/schedule"
	"parley/bench/swarm"
	"parley/internal/standalone"
)

// pipes returns connections to n workers, as processes would have them.
func pipes(t *testing.T, n int) (conns []net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	for range n {
		ours, err := net.Dial("tcp", ln.Addr().String())
		require.NoError(t, err)
		theirs, err := ln.Accept()
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() { done <- ServeWorker(theirs) }()
		t.Cleanup(func() { ours.Close(); require.NoError(t, <-done) })
		conns = append(conns, ours)
	}
	return conns
}

func TestManyWorkersAreOneCrew(t *testing.T) {
	const users = 50 // an uneven number of pairs
	o := standalone.LocalOptions()
	o.Demo, o.Crowd = false, users
	cluster, err := standalone.Start(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = cluster.Close() }) // how a cluster ends is its own test's
	stopped := false
	c := Many(Spec{
		FirstUID: standalone.CrowdFirst, Users: users, Status: []string{cluster.StatusAddr()}, Run: 9, Seed: 1, Cross: .5, Loops: 1,
	}, pipes(t, 3), func() { stopped = true })
	require.NoError(t, c.Prepare(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must := func(p swarm.Phase) *swarm.Outcome {
		t.Helper()
		out, err := c.Run(ctx, p)
		require.NoError(t, err)
		require.Empty(t, out.Errors)
		return out
	}
	require.EqualValues(t, 33, must(swarm.Phase{Kind: "login", Concurrency: 9, Users: 33}).Counters["logins"])
	require.EqualValues(t, users-33, must(swarm.Phase{Kind: "login", Concurrency: 9, Users: users}).Counters["logins"])
	require.EqualValues(t, users, c.Live().Online)
	require.Len(t, c.Nodes(), 2)
	must(swarm.Phase{Kind: "hold", For: 1500 * time.Millisecond}) // nodes look for new peers once a second
	require.EqualValues(t, users/2, must(swarm.Phase{Kind: "threads"}).Counters["threads"])
	load, err := schedule.Parse("constant", 300, time.Second, 1)
	require.NoError(t, err)
	out := must(swarm.Phase{Kind: "chat", Load: load, Patience: 20 * time.Second})
	require.EqualValues(t, 300, out.Hist(swarm.HAck).Count(), "the workers' loads are the whole load")
	out = must(swarm.Phase{Kind: "verify"})
	require.EqualValues(t, 300, out.Ledger.HistoryRead)
	require.True(t, out.Ledger.HistoryChecked)
	require.Zero(t, out.Ledger.Wrong(), "%+v", out.Ledger)
	require.Positive(t, c.Self().CPU)

	cut, stop := context.WithCancel(ctx)
	time.AfterFunc(200*time.Millisecond, stop)
	_, err = c.Run(cut, swarm.Phase{Kind: "hold", For: time.Hour})
	require.ErrorIs(t, err, context.Canceled)
	must(swarm.Phase{Kind: "close"})
	c.Close()
	require.True(t, stopped)
}

func TestSpecsThatCannotWork(t *testing.T) {
	for _, s := range []Spec{{Users: 2}, {Users: 2, Fixed: "nowhere"}, {Fixed: "127.0.0.1:1"}} {
		_, err := New(s)
		require.Error(t, err, "%+v", s)
	}
	c := Many(Spec{Users: 2, Fixed: "nowhere"}, pipes(t, 1), func() {})
	require.ErrorContains(t, c.Prepare(t.Context()), "worker 1")
	_, err := c.Run(t.Context(), swarm.Phase{Kind: "close"})
	require.ErrorContains(t, err, "not prepared")
	c.Close()
}
