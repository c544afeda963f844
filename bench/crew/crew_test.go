package crew

import (
	"context"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/bench/engine"
	"parley/bench/schedule"
	"parley/bench/seed"
	"parley/bench/swarm"
	"parley/internal/standalone"
	"parley/internal/store"
	"parley/internal/store/sqlite"
	"parley/internal/wire"
)

// pipes returns connections to n workers, as between processes.
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
	t.Cleanup(func() { _ = cluster.Close() }) // shutting down is tested elsewhere
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
	require.EqualValues(t, users/2, must(swarm.Phase{Kind: "threads"}).Counters["threads"])
	load, err := schedule.Parse("constant", 300, time.Second, 1)
	require.NoError(t, err)
	out := must(swarm.Phase{Kind: "chat", Load: load, Patience: 20 * time.Second})
	require.EqualValues(t, 300, out.Hist(swarm.HAck).Count(), "the workers' loads are the whole load")
	require.Len(t, out.Cores, 3)
	for _, used := range out.Cores {
		require.Positive(t, used, "each worker says what it used")
	}
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

// TestHistoryFromTheStoreItself has the coordinator read the database, and withholds one text from the books.
func TestHistoryFromTheStoreItself(t *testing.T) {
	const users, texts = 40, 200
	o := standalone.LocalOptions()
	o.Demo, o.Crowd = false, users
	cluster, err := standalone.Start(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = cluster.Close() }) // shutting down is tested elsewhere
	db, err := sqlite.Open(t.Context(), filepath.Join(cluster.DataDir(), "parley.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	t.Run("groups that were seeded", func(t *testing.T) { seededGroups(t, cluster, db, users) })
	for name, make := range map[string]func(Spec) (Crew, error){
		"one process": New,
		"workers":     func(s Spec) (Crew, error) { return Many(s, pipes(t, 2), func() {}), nil },
	} {
		t.Run(name, func(t *testing.T) {
			c, err := make(Spec{
				FirstUID: standalone.CrowdFirst, Users: users, Status: []string{cluster.StatusAddr()}, Run: rand.Uint32() | 1, Seed: 1,
				Loops: 2,
			})
			require.NoError(t, err)
			t.Cleanup(c.Close)
			require.NoError(t, c.Prepare(t.Context()))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			load, err := schedule.Parse("constant", texts, time.Second, 1)
			require.NoError(t, err)
			for _, p := range []swarm.Phase{
				{Kind: "login", Concurrency: 9}, {Kind: "threads"}, {Kind: "chat", Load: load, Patience: 20 * time.Second}, {Kind: "close"},
			} {
				out, err := c.Run(ctx, p)
				require.NoError(t, err)
				require.Empty(t, out.Errors, p.Kind)
			}
			var mu sync.Mutex
			threads, hidden := map[int64]bool{}, false
			require.NoError(t, c.ReadHistory(ctx, func(ctx context.Context, of []swarm.Conversation, enter func([]swarm.Stored) error) error {
				for _, conversation := range of {
					rows, more, err := db.Messages.History(ctx, conversation.Thread, conversation.After, texts, 1<<20)
					require.NoError(t, err)
					require.False(t, more)
					mu.Lock()
					require.False(t, threads[conversation.Thread], "asked for twice")
					threads[conversation.Thread] = true
					for _, m := range rows { // each in a part of its own
						if !hidden && m.Seq < rows[len(rows)-1].Seq {
							hidden = true
							continue
						}
						require.NoError(t, enter([]swarm.Stored{{
							Conversation: conversation, Messages: []swarm.Message{{Seq: m.Seq, Sender: m.Sender, UniqueID: m.UniqueID, Content: m.Content}},
						}}))
					}
					mu.Unlock()
				}
				return nil
			}))
			require.Len(t, threads, users/2)
			out, err := c.Run(ctx, swarm.Phase{Kind: "verify", Entered: true})
			require.NoError(t, err)
			l := out.Ledger
			require.True(t, l.HistoryChecked)
			require.EqualValues(t, texts, l.Acked)
			require.EqualValues(t, texts-1, l.HistoryRead)
			require.EqualValues(t, []int64{1, 1}, []int64{l.Unstored, l.Holes}, "%+v", l)
			require.EqualValues(t, 2, l.Wrong(), "%+v", l)
		})
	}
}

func TestSpecsThatCannotWork(t *testing.T) {
	for _, s := range []Spec{{Users: 2}, {Users: 2, Fixed: []string{"nowhere"}}, {Fixed: []string{"127.0.0.1:1"}}} {
		_, err := New(s)
		require.Error(t, err, "%+v", s)
	}
	c := Many(Spec{Users: 2, Fixed: []string{"nowhere"}}, pipes(t, 1), func() {})
	require.ErrorContains(t, c.Prepare(t.Context()), "worker 1")
	_, err := c.Run(t.Context(), swarm.Phase{Kind: "close"})
	require.ErrorContains(t, err, "not prepared")
	require.ErrorContains(t, c.ReadHistory(t.Context(), nil), "not prepared")
	c.Close()
}

// seededGroups has two workers with two loops each write to groups that nobody had to join. Each member who is online gets each text.
func seededGroups(t *testing.T, cluster *standalone.Cluster, db *store.Store, users int) {
	const members, online, texts = 10, 8, 60
	threads, err := seed.SeedGroups(t.Context(), db, standalone.CrowdFirst, users/members, members)
	require.NoError(t, err)
	c := Many(Spec{
		FirstUID: standalone.CrowdFirst, Users: users, Status: []string{cluster.StatusAddr()}, Run: rand.Uint32() | 1, Seed: 1, Cross: 1, Loops: 2,
		Rooms: swarm.Rooms{Members: members, Online: online, Senders: 3, Threads: threads},
	}, pipes(t, 2), func() {})
	t.Cleanup(c.Close)
	require.NoError(t, c.Prepare(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	load, err := schedule.Parse("constant", texts, time.Second, 1)
	require.NoError(t, err)
	for _, p := range []swarm.Phase{
		{Kind: "login", Concurrency: 9}, {Kind: "chat", Load: load, Patience: 20 * time.Second}, {Kind: "close"},
	} {
		out, err := c.Run(ctx, p)
		require.NoError(t, err)
		require.Empty(t, out.Errors, p.Kind)
		switch p.Kind {
		case "login":
			require.EqualValues(t, users/members*online, out.Counters["logins"])
		case "chat":
			require.EqualValues(t, texts, out.Ledger.Acked, "%+v", out.Ledger)
			require.EqualValues(t, texts*(online-1), out.Counters["copies"], "all but the sender: %+v", out.Ledger)
			require.Zero(t, out.Ledger.Wrong(), "%+v", out.Ledger)
		}
	}
	for _, thread := range threads {
		rows, _, err := db.Messages.History(ctx, thread, 0, texts+1, 1<<20)
		require.NoError(t, err)
		require.Greater(t, len(rows), 1, "each group was written to")
	}
}

func TestAddressesOfTransports(t *testing.T) {
	for _, c := range []struct {
		via              wire.Transport
		said, name, path string
	}{
		{wire.TCP, "10.0.0.5:8090", "10.0.0.5:8090", ""},
		{wire.TLS, "chat1.example.org:8443", "chat1.example.org:8443", ""},
		{wire.WS, "ws://10.0.0.5:8110/", "10.0.0.5:8110", "/"},
		{wire.WS, "ws://chat.example.org/node1", "chat.example.org:80", "/node1"},
		{wire.WSS, "wss://chat.example.org", "chat.example.org:443", ""},
	} {
		got, err := Spec{Transport: c.via}.target(c.said)
		require.NoError(t, err, c.said)
		require.Equal(t, engine.Target{Via: c.via, Name: c.name, Path: c.path}, got)
	}
	_, err := Spec{Transport: wire.WS}.target("")
	require.ErrorContains(t, err, "no address for clients that use ws")
	_, err = Spec{Transport: wire.WS}.target("10.0.0.5:8110")
	require.Error(t, err)

	_, err = Spec{CA: []byte("none")}.roots()
	require.Error(t, err)
}
