package model

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/chat"
	"parley/internal/presence"
	"parley/internal/store"
	"parley/internal/store/sqlite"
)

const (
	firstUID = 1001
	// patience bounds every wait. Nothing here takes long except on a loaded machine.
	patience = 30 * time.Second
)

// world is a cluster of chat nodes in this process.
type world struct {
	t     testing.TB
	path  string // of the SQLite file
	redis *miniredis.Miniredis
	rdb   *redis.Client
	store *store.Store
	place *presence.Presence // used by the test itself
	nodes []*node

	mu   sync.Mutex // guards the following
	next int32      // uid of the next user
}

// node is a run of a chat node, with its own connections to Redis and SQL, so that they can be cut.
type node struct {
	name     string
	server   *chat.Server
	rdb      *redis.Client
	store    *store.Store
	presence *presence.Presence
	stop     context.CancelFunc
	done     chan error
}

func newWorld(t testing.TB, nodes int) *world {
	t.Helper()
	w := &world{t: t, path: filepath.Join(t.TempDir(), "parley.db"), redis: miniredis.RunT(t), next: firstUID}
	w.rdb = w.dialRedis()
	t.Cleanup(func() { w.rdb.Close() })
	require.NoError(t, presence.SeedGeneration(t.Context(), w.rdb))
	var err error
	w.store, err = sqlite.Open(t.Context(), w.path)
	require.NoError(t, err)
	t.Cleanup(func() { w.store.Close() })
	require.NoError(t, w.store.Migrate(t.Context()))
	w.place = presence.New(w.rdb, presence.Options{})
	t.Cleanup(w.place.Close)
	w.runClock()
	for i := range nodes {
		w.nodes = append(w.nodes, w.start(fmt.Sprintf("chat%d", i+1)))
	}
	t.Cleanup(func() {
		for _, n := range w.nodes {
			w.end(n)
		}
	})
	return w
}

func (w *world) dialRedis() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: w.redis.Addr(), Protocol: 2, DisableIdentity: true, ContextTimeoutEnabled: true})
}

// runClock advances the clock of the embedded Redis, which stands still otherwise.
func (w *world) runClock() {
	stop := make(chan struct{})
	var clock sync.WaitGroup
	clock.Go(func() {
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				w.redis.FastForward(250 * time.Millisecond)
			}
		}
	})
	w.t.Cleanup(func() { close(stop); clock.Wait() })
}

// start starts a node and waits until users can be placed there.
func (w *world) start(name string) *node {
	w.t.Helper()
	n := &node{name: name, rdb: w.dialRedis(), done: make(chan error, 1)}
	n.presence = presence.New(n.rdb, presence.Options{})
	var err error
	n.store, err = sqlite.Open(context.Background(), w.path)
	require.NoError(w.t, err)
	cfg := chat.LocalConfig(name)
	cfg.Limits.DrainTimeout = 500 * time.Millisecond
	cfg.Limits.RequestTimeout = patience
	cfg.Limits.CommitShards = 1                        // SQLite has one writer
	cfg.Limits.RequestRate, cfg.Limits.TextRate = 0, 0 // steps follow each other as fast as possible
	n.server, err = chat.New(cfg, chat.Deps{Log: slog.New(slog.DiscardHandler), Store: n.store, Presence: n.presence})
	require.NoError(w.t, err)
	ctx, stop := context.WithCancel(context.Background())
	n.stop = stop
	go func() { n.done <- n.server.Run(ctx) }()
	require.Eventually(w.t, func() bool {
		nodes, err := w.place.Nodes.Read(context.Background())
		if err != nil {
			return false
		}
		for _, at := range nodes {
			if at.Name == name && at.Live && at.ClientAddr == n.server.ClientAddr() {
				return true
			}
		}
		return false
	}, patience, 5*time.Millisecond, "%s joins", name)
	return n
}

// end drains a node.
func (w *world) end(n *node) {
	n.stop()
	<-n.done // the error of a node cut off from its stores is expected
	n.presence.Close()
	n.rdb.Close()
	n.store.Close()
}

// kill ends a node as a crash does: no cleaning up reaches Redis or SQL. Then it restarts the node under the same
// name.
func (w *world) kill(i int) {
	n := w.nodes[i]
	n.rdb.Close()
	n.store.Close()
	w.end(n)
	w.nodes[i] = w.start(n.name)
}

// users creates n users without friends, and returns the first uid.
func (w *world) users(t require.TestingT, n int) int32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	first := w.next
	w.next += int32(n)
	made := make([]store.NewUser, n)
	for i := range made {
		name := fmt.Sprintf("user%d", first+int32(i))
		made[i] = store.NewUser{Name: name, Email: name + "@example.com", PasswordHash: "x", Nick: name}
	}
	require.NoError(t, w.store.Seed.Users(context.Background(), first, made))
	return first
}

// ticket returns what the gate would give a user for a node.
func (w *world) ticket(t require.TestingT, uid int32, at int) client.Ticket {
	placed, err := w.place.Nodes.Place(context.Background(), []int32{uid})
	require.NoError(t, err)
	return client.Ticket{UID: uid, Token: placed[0].Token, Addr: w.nodes[at].server.ClientAddr()}
}
