package presence

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"parley/internal/memredis"
)

// The tests run on the embedded Redis, on a redis-server, and on a cluster of two servers, which refuse commands across slots.

func TestMain(m *testing.M) {
	logging.Disable() // go-redis logs each connection refused by a stopped server to stderr
	goleak.VerifyTestMain(withServers{m})
}

type withServers struct{ m *testing.M }

func (w withServers) Run() int {
	defer func() {
		single.stop()
		pair.stop()
	}()
	return w.m.Run()
}

// backend is a kind of Redis used in tests.
type backend struct {
	name    string
	cluster bool
	connect func(t testing.TB) redis.UniversalClient
}

// on runs a test on each backend, which is empty at the start.
func on(t *testing.T, test func(t *testing.T, b *backend)) {
	t.Run("embedded", func(t *testing.T) {
		r := memredis.New(Embedded()...)
		test(t, &backend{
			name:    "embedded",
			connect: func(testing.TB) redis.UniversalClient { return r.Client() },
		})
	})
	onServers(t, test)
}

// onServers is on for tests of connections and of scripts that a server has lost, which the embedded Redis has not.
func onServers(t *testing.T, test func(t *testing.T, b *backend)) {
	t.Run("redis", func(t *testing.T) { test(t, single.backend(t, "redis")) })
	t.Run("cluster", func(t *testing.T) { test(t, pair.backend(t, "cluster")) })
}

func client(t testing.TB, o *redis.UniversalOptions) redis.UniversalClient {
	o.ContextTimeoutEnabled = true
	o.DisableIdentity = true
	o.Protocol = 2
	o.PoolSize = 16
	rdb := redis.NewUniversalClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// open returns a Presence with a client of its own.
func (b *backend) open(t testing.TB, o Options) *Presence {
	return b.openOn(t, b.connect(t), o)
}

func (b *backend) openOn(t testing.TB, rdb redis.UniversalClient, o Options) *Presence {
	o.Cluster = b.cluster
	// Long, so that a busy machine does not fail the test. No one extends the leases.
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	if o.Lease == 0 {
		o.Lease = time.Hour
	}
	if o.Reserve == 0 {
		o.Reserve = time.Hour
	}
	p := New(rdb, o)
	t.Cleanup(p.Close)
	return p
}

// servers are redis-server processes, started when first needed and killed at the end.
type servers struct {
	count int // 1: a single server; more: masters of a cluster
	once  sync.Once
	err   error
	procs []*redisServer
}

var (
	single = &servers{count: 1}
	pair   = &servers{count: 2}
)

func requireRedisServer(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("redis-server is not installed, and CI must not skip it: %v", err)
		}
		t.Skipf("redis-server is not installed: %v", err)
	}
}

func (s *servers) backend(t testing.TB, name string) *backend {
	requireRedisServer(t)
	s.once.Do(func() { s.err = s.start() })
	require.NoError(t, s.err)
	var addrs []string
	for _, p := range s.procs {
		addrs = append(addrs, p.addr())
		flush := redis.NewClient(&redis.Options{Addr: p.addr(), DisableIdentity: true})
		require.NoError(t, flush.FlushAll(t.Context()).Err())
		require.NoError(t, flush.Close())
	}
	return &backend{
		name:    name,
		cluster: s.count > 1,
		connect: func(t testing.TB) redis.UniversalClient {
			return client(t, &redis.UniversalOptions{Addrs: addrs, IsClusterMode: s.count > 1})
		},
	}
}

func (s *servers) start() error {
	for range s.count {
		p, err := startRedis(s.count > 1)
		if err != nil {
			return err
		}
		s.procs = append(s.procs, p)
	}
	if s.count > 1 {
		return joinCluster(s.procs)
	}
	return nil
}

func (s *servers) stop() {
	for _, p := range s.procs {
		p.kill()
	}
	for _, p := range s.procs {
		_ = os.RemoveAll(p.dir)
	}
}

type redisServer struct {
	dir     string
	port    int
	busPort int // of a cluster member
	cmd     *exec.Cmd
}

func (r *redisServer) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port)) }

func (r *redisServer) kill() {
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait() // reports the kill
}

func startRedis(cluster bool) (*redisServer, error) {
	dir, err := os.MkdirTemp("", "parley-redis-")
	if err != nil {
		return nil, err
	}
	for range 5 { // another process may take the free port before the server binds it
		r := &redisServer{dir: dir, port: freePort()}
		if cluster {
			r.busPort = freePort()
		}
		if err = r.run(); err == nil {
			return r, nil
		}
	}
	_ = os.RemoveAll(dir)
	return nil, err
}

func (r *redisServer) run() error {
	var out bytes.Buffer
	args := []string{
		"--port", strconv.Itoa(r.port), "--bind", "127.0.0.1", "--dir", r.dir, "--save", "", "--appendonly", "no",
	}
	if r.busPort != 0 {
		args = append(args, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(r.busPort),
			"--cluster-config-file", filepath.Join(r.dir, "nodes-"+strconv.Itoa(r.port)+".conf"))
	}
	r.cmd = exec.Command("redis-server", args...)
	r.cmd.Stdout, r.cmd.Stderr = &out, &out
	if err := r.cmd.Start(); err != nil {
		return err
	}
	ok := poll(func() bool {
		conn, err := net.Dial("tcp", r.addr())
		if err != nil {
			return false
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		_, _ = conn.Write([]byte("INFO server\r\n"))
		reply := make([]byte, 8192)
		n, _ := conn.Read(reply)
		return strings.Contains(string(reply[:n]), fmt.Sprintf("process_id:%d\r\n", r.cmd.Process.Pid))
	})
	if !ok {
		r.kill()
		return fmt.Errorf("redis-server on port %d did not start: %s", r.port, out.String())
	}
	return nil
}

// joinCluster divides the slots between two masters.
func joinCluster(procs []*redisServer) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	const slots = 16384
	share := slots / len(procs)
	for i, p := range procs {
		rdb := redis.NewClient(&redis.Options{Addr: p.addr(), DisableIdentity: true})
		defer rdb.Close()
		if err := rdb.Do(ctx, "cluster", "set-config-epoch", i+1).Err(); err != nil {
			return err
		}
		if err := rdb.ClusterAddSlotsRange(ctx, i*share, (i+1)*share-1).Err(); err != nil {
			return err
		}
		if i > 0 {
			if err := rdb.Do(ctx, "cluster", "meet", "127.0.0.1", procs[0].port, procs[0].busPort).Err(); err != nil {
				return err
			}
		}
	}
	for _, p := range procs {
		rdb := redis.NewClient(&redis.Options{Addr: p.addr(), DisableIdentity: true})
		defer rdb.Close()
		if !poll(func() bool {
			info, err := rdb.ClusterInfo(ctx).Result()
			return err == nil && strings.Contains(info, "cluster_state:ok") &&
				strings.Contains(info, fmt.Sprintf("cluster_size:%d", len(procs)))
		}) {
			return fmt.Errorf("cluster did not form")
		}
	}
	return nil
}

func freePort() int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func poll(ok func() bool) bool {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	return false
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	require.True(t, poll(ok), "in a minute it did not come to this: %s", what)
}

// dump reads everything in Redis, to verify that nothing has changed.
func dump(t testing.TB, rdb redis.UniversalClient) map[string]string {
	t.Helper()
	ctx, out, mu := t.Context(), map[string]string{}, sync.Mutex{}
	read := func(ctx context.Context, c redis.UniversalClient) error {
		names, err := c.Keys(ctx, "*").Result()
		if err != nil {
			return err
		}
		for _, name := range names {
			var value any
			switch kind := c.Type(ctx, name).Val(); kind {
			case "string":
				value = c.Get(ctx, name).Val()
			case "hash":
				value = c.HGetAll(ctx, name).Val()
			case "list":
				value = c.LRange(ctx, name, 0, -1).Val()
			case "zset":
				value = c.ZRangeWithScores(ctx, name, 0, -1).Val()
			default:
				return fmt.Errorf("key %q of type %q", name, kind)
			}
			mu.Lock()
			out[name] = fmt.Sprint(value)
			mu.Unlock()
		}
		return nil
	}
	if c, ok := rdb.(*redis.ClusterClient); ok {
		require.NoError(t, c.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error { return read(ctx, c) }))
	} else {
		require.NoError(t, read(ctx, rdb))
	}
	return out
}

// flushAll loses all data, as a restart without persistence does.
func flushAll(t testing.TB, rdb redis.UniversalClient) {
	t.Helper()
	if c, ok := rdb.(*redis.ClusterClient); ok {
		require.NoError(t, c.ForEachMaster(t.Context(), func(ctx context.Context, c *redis.Client) error {
			return c.FlushAll(ctx).Err()
		}))
	} else {
		require.NoError(t, rdb.FlushAll(t.Context()).Err())
	}
	require.NoError(t, rdb.ScriptFlush(t.Context()).Err())
}

// startNode makes a node available for placement.
func startNode(t testing.TB, p *Presence, name string) Lease {
	t.Helper()
	l := Lease{Name: name, Boot: "boot-" + name, ClientAddr: name + ":8090", RPCAddr: name + ":50055", Version: "test", StartedMS: 1}
	require.NoError(t, p.Leases.Take(t.Context(), l, ""))
	require.NoError(t, p.Leases.ReportLoad(t.Context(), name, 0, nil))
	return l
}

// mint returns a token for a user; a node must be live.
func mint(t testing.TB, p *Presence, uid int32) string {
	t.Helper()
	placed, err := p.Nodes.Place(t.Context(), []int32{uid})
	require.NoError(t, err)
	return placed[0].Token
}

func locate(t testing.TB, p *Presence, uid int32) []Location {
	t.Helper()
	found, err := p.Sessions.Locate(t.Context(), []int32{uid})
	require.NoError(t, err)
	require.Len(t, found, 1)
	return found[0]
}
