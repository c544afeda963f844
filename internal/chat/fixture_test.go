package chat

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/presence"
	"parley/internal/reconcile"
	"parley/internal/session"
	"parley/internal/store"
	"parley/lab/storetest"
)

// firstUID is the first of the fixture's users; each is a friend of the next one, so 1 and 2 are, and 2 and 3.
const firstUID = 1001

// patience bounds what takes no promised time, on a machine that is busy with other things too.
const patience = time.Minute

// patient bears a busy machine: Redis has time for each answer, and a node that comes late to extend its lease has it still.
var patient = presence.Options{Timeout: patience, Lease: 3 * presence.DefaultLease}

// fixture is a cluster of chat nodes over one miniredis and one SQLite file.
type fixture struct {
	t        testing.TB
	redis    *miniredis.Miniredis
	rdb      *redis.Client
	file     string // of the SQLite database
	store    *store.Store
	presence *presence.Presence // the test's own
	threads  []int64            // of each pair of neighbours
	nodes    map[string]*node
	// reconcile is how often the nodes that are started from now on compare their sessions with Redis.
	reconcile reconcile.Config
}

type node struct {
	*Server
	presence *presence.Presence
	reg      *prometheus.Registry
	stop     context.CancelFunc
	done     chan error
}

func newFixture(t testing.TB, users int) *fixture {
	t.Helper()
	f := &fixture{t: t, redis: miniredis.RunT(t), nodes: make(map[string]*node)}
	f.rdb = redis.NewClient(&redis.Options{Addr: f.redis.Addr(), Protocol: 2, DisableIdentity: true, ContextTimeoutEnabled: true, ReadTimeout: patience, WriteTimeout: patience})
	t.Cleanup(func() { f.rdb.Close() })
	require.NoError(t, presence.SeedGeneration(t.Context(), f.rdb))
	f.store, f.file = storetest.SQLite(t)
	var seeded []store.NewUser
	var pairs [][2]int32
	for i := range users {
		seeded = append(seeded, store.NewUser{
			Name: fmt.Sprintf("user%d", i+1), Email: fmt.Sprintf("user%d@example.com", i+1), PasswordHash: "x", Nick: fmt.Sprintf("User %d", i+1),
		})
		if i > 0 {
			pairs = append(pairs, [2]int32{firstUID + int32(i) - 1, firstUID + int32(i)})
		}
	}
	require.NoError(t, f.store.Seed.Users(t.Context(), firstUID, seeded))
	var err error
	f.threads, err = f.store.Seed.Friends(t.Context(), pairs)
	require.NoError(t, err)
	f.presence = presence.New(f.rdb, patient)
	t.Cleanup(f.presence.Close)
	stopClock := make(chan struct{})
	var clock sync.WaitGroup
	clock.Go(func() { // miniredis' own clock stands still
		for {
			select {
			case <-stopClock:
				return
			case <-time.After(250 * time.Millisecond):
				f.redis.FastForward(250 * time.Millisecond)
			}
		}
	})
	t.Cleanup(func() { close(stopClock); clock.Wait() })
	return f
}

// start runs a node; change may adjust its configuration.
func (f *fixture) start(name string, change ...func(*Config)) *node {
	f.t.Helper()
	cfg := LocalConfig(name)
	cfg.Limits.DrainTimeout = 2 * time.Second
	cfg.Limits.CommitShards = 1
	cfg.Limits.RequestRate, cfg.Limits.TextRate = 0, 0
	cfg.Limits.HeartbeatRate = 1e6
	cfg.Limits.StockTimeout = 5 * time.Minute // not by a test that is slow
	for _, c := range change {
		c(&cfg)
	}
	require.NoError(f.t, cfg.Validate())
	var out io.Writer = io.Discard
	if os.Getenv("PARLEY_TEST_LOG") != "" {
		out = os.Stderr
	}
	n := &node{presence: presence.New(f.rdb, patient), reg: prometheus.NewRegistry(), done: make(chan error, 1)}
	var err error
	n.Server, err = New(cfg, Deps{
		Log: slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", name), Store: f.store, Presence: n.presence,
		Metrics: n.reg, Reconcile: f.reconcile,
	})
	require.NoError(f.t, err)
	ctx, stop := context.WithCancel(context.Background())
	n.stop = stop
	go func() { n.done <- n.Run(ctx) }()
	f.nodes[name] = n
	f.t.Cleanup(func() { f.end(n) })
	eventually(f.t, "node "+name+" to join", func() bool {
		nodes, err := f.presence.Nodes.Read(f.t.Context())
		if err != nil {
			return false
		}
		for _, at := range nodes {
			if at.Name == name && at.Live && at.Boot == n.lease.Boot() {
				return true
			}
		}
		return false
	})
	return n
}

// end drains a node and waits for it; it may be called again.
func (f *fixture) end(n *node) {
	f.t.Helper()
	n.stop()
	select {
	case err, ok := <-n.done:
		if ok {
			require.NoError(f.t, err)
			close(n.done)
			n.presence.Close()
		}
	case <-time.After(patience):
		f.t.Fatal("node did not stop")
	}
}

// ticket returns what the gate would give a user for a node.
func (f *fixture) ticket(n *node, i int) client.Ticket {
	f.t.Helper()
	placed, err := f.presence.Nodes.Place(f.t.Context(), []int32{firstUID + int32(i) - 1})
	require.NoError(f.t, err)
	return client.Ticket{UID: firstUID + int32(i) - 1, Token: placed[0].Token, Addr: n.ClientAddr()}
}

// login connects user i, counted from 1, to a node as a native client, and waits until pushes find it.
func (f *fixture) login(n *node, i int) *client.Conn {
	f.t.Helper()
	c, err := client.Dial(f.t.Context(), f.ticket(n, i), client.Options{})
	require.NoError(f.t, err)
	f.t.Cleanup(func() { c.Close() })
	n.awaitLive(f.t, c)
	return c
}

// awaitLive waits until a session is live, which it becomes behind its 1006: a push that comes in between finds nobody.
func (n *node) awaitLive(t testing.TB, c *client.Conn) {
	t.Helper()
	eventually(t, "the session to be live", func() (live bool) {
		n.registry.Each(func(s *session.Session) {
			live = live || s.SID().String() == c.SID() && s.State() != session.Pending
		})
		return live || c.Err() != nil
	})
}

func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// counterValue reads a counter.
func counterValue(t testing.TB, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	require.NoError(t, c.Write(&m))
	return m.GetCounter().GetValue()
}

// counterOf reads a node's counter, summed over its labels.
func counterOf(t testing.TB, n *node, name string) (sum float64) {
	t.Helper()
	families, err := n.reg.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() == name {
			for _, m := range family.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}
