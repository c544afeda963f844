package presence

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// roundTrips counts the pipelines sent to Redis; while held, they wait.
type roundTrips struct {
	pipelines, single, commands atomic.Int64

	mu   sync.Mutex
	gate chan struct{}
}

func (h *roundTrips) hold() (release func()) {
	gate := make(chan struct{})
	h.mu.Lock()
	h.gate = gate
	h.mu.Unlock()
	return sync.OnceFunc(func() {
		h.mu.Lock()
		h.gate = nil
		h.mu.Unlock()
		close(gate)
	})
}

func (h *roundTrips) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (h *roundTrips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.single.Add(1)
		return next(ctx, cmd)
	}
}

func (h *roundTrips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.mu.Lock()
		gate := h.gate
		h.mu.Unlock()
		h.pipelines.Add(1)
		h.commands.Add(int64(len(cmds)))
		if gate != nil {
			<-gate
		}
		return next(ctx, cmds)
	}
}

func hooked(t *testing.T, b *backend, o Options) (*Presence, *roundTrips) {
	rdb, h := b.connect(t), &roundTrips{}
	rdb.AddHook(h)
	return b.openOn(t, rdb, o), h
}

// stall occupies every worker of commands until release.
func stall(t *testing.T, p *Presence, h *roundTrips) (release func()) {
	t.Helper()
	free := h.hold()
	before := h.pipelines.Load()
	var wg sync.WaitGroup
	for i := range p.opt.Workers {
		wg.Go(func() {
			_, err := p.Sessions.Locate(context.WithoutCancel(t.Context()), []int32{1})
			if err != nil {
				t.Errorf("locate: %v", err)
			}
		})
		eventually(t, "a worker is on its way", func() bool { return h.pipelines.Load() == before+int64(i)+1 })
	}
	release = sync.OnceFunc(func() {
		free()
		wg.Wait()
	})
	t.Cleanup(release)
	return release
}

// counted sums a counter over its labels.
func counted(t *testing.T, reg *prometheus.Registry, name string) (sum float64) {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

func TestConcurrentCallsShareRoundTrips(t *testing.T) {
	onServers(t, func(t *testing.T, b *backend) {
		ctx := t.Context()
		p, h := hooked(t, b, Options{})
		startNode(t, p, "n1")
		const users = 100
		var uids []int32
		for uid := range int32(users) {
			uids = append(uids, uid)
		}
		placed, err := p.Nodes.Place(ctx, uids)
		require.NoError(t, err)
		_, err = p.Logins.Claim(ctx, Claim{UID: 9999, Token: "x", SID: "s", Node: "n1", Boot: "b"})
		require.ErrorIs(t, err, ErrTokenInvalid) // scripts are loaded from here on

		release := stall(t, p, h)
		before, commands := h.pipelines.Load(), h.commands.Load()
		var wg sync.WaitGroup
		for _, uid := range uids {
			wg.Go(func() {
				if pre, err := p.Logins.Prelogin(ctx, uid, placed[uid].Token); err != nil {
					t.Errorf("prelogin of %d: %+v: %v", uid, pre, err)
				}
			})
			wg.Go(func() {
				if _, err := p.Logins.Claim(ctx, Claim{UID: uid, Token: placed[uid].Token, SID: "s", Node: "n1", Boot: "b"}); err != nil {
					t.Errorf("claim of %d: %v", uid, err)
				}
			})
			wg.Go(func() {
				if err := p.Sessions.Release(ctx, []Location{{UID: uid, SID: "other", Node: "n1", Boot: "b"}}); err != nil {
					t.Errorf("release of %d: %v", uid, err)
				}
			})
		}
		eventually(t, "all wait", func() bool { return p.commands.Waiting() == 3*users })
		release()
		wg.Wait()
		require.EqualValues(t, 3*users, h.commands.Load()-commands, "one command each")
		require.LessOrEqual(t, h.pipelines.Load()-before, int64(8), "300 calls in batches of 256 by 4 workers")
		for _, uid := range uids {
			require.Len(t, locate(t, p, uid), 1)
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	onServers(t, func(t *testing.T, b *backend) {
		ctx, reg := t.Context(), prometheus.NewRegistry()
		p, h := hooked(t, b, Options{Queue: 4, Workers: 1, Metrics: reg})
		startNode(t, p, "n1")
		token := mint(t, p, 7)
		release := stall(t, p, h)

		// A claim whose caller left before a worker took it must not be made.
		leaving, leave := context.WithCancel(ctx)
		left := make(chan error)
		go func() {
			_, err := p.Logins.Claim(leaving, Claim{UID: 7, Token: token, SID: "left", Node: "n1", Boot: "b"})
			left <- err
		}()
		eventually(t, "the claim waits", func() bool { return p.commands.Waiting() == 1 })
		leave()
		require.ErrorIs(t, <-left, context.Canceled)

		answers := make(chan error, 3)
		for uid := range int32(3) {
			go func() {
				_, err := p.Sessions.Locate(ctx, []int32{uid})
				answers <- err
			}()
		}
		eventually(t, "the queue is full", func() bool { return p.commands.Waiting() == 4 })
		_, err := p.Logins.Claim(ctx, Claim{UID: 7, Token: token, SID: "busy", Node: "n1", Boot: "b"})
		require.ErrorIs(t, err, ErrBusy)
		_, err = p.Logins.Prelogin(ctx, 7, token)
		require.ErrorIs(t, err, ErrBusy)
		require.EqualValues(t, 2, counted(t, reg, "parley_presence_queue_full_total"))

		release()
		for range 3 {
			require.NoError(t, <-answers)
		}
		require.Empty(t, locate(t, p, 7))
		got, err := p.Logins.Claim(ctx, Claim{UID: 7, Token: token, SID: "s", Node: "n1", Boot: "b"})
		require.NoError(t, err)
		require.Nil(t, got.Old)
		require.EqualValues(t, 1, counted(t, reg, "parley_presence_placements_total"))
		require.EqualValues(t, 3, counted(t, reg, "parley_presence_claims_total"), "two were not granted")
	})
}

// After a claim is on its way, its caller must learn the outcome. Otherwise the session it replaced would not be
// kicked.
func TestClaimUnderWayIsWaitedFor(t *testing.T) {
	onServers(t, func(t *testing.T, b *backend) {
		p, h := hooked(t, b, Options{})
		startNode(t, p, "n1")
		token := mint(t, p, 7)
		free := h.hold()
		defer free()
		before := h.pipelines.Load()
		ctx, cancel := context.WithCancel(t.Context())
		claimed, located := make(chan error), make(chan error)
		go func() {
			_, err := p.Logins.Claim(ctx, Claim{UID: 7, Token: token, SID: "s", Node: "n1", Boot: "b"})
			claimed <- err
		}()
		eventually(t, "the claim is under way", func() bool { return h.pipelines.Load() == before+1 })
		go func() {
			_, err := p.Sessions.Locate(ctx, []int32{7})
			located <- err
		}()
		eventually(t, "both are under way", func() bool { return h.pipelines.Load() == before+2 })
		cancel()
		require.ErrorIs(t, <-located, context.Canceled, "a reader leaves at once")
		select {
		case err := <-claimed:
			t.Fatalf("the claim did not wait: %v", err)
		default:
		}
		free()
		require.NoError(t, <-claimed)
		require.Len(t, locate(t, p, 7), 1)
	})
}

func TestClose(t *testing.T) {
	onServers(t, func(t *testing.T, b *backend) {
		ctx := t.Context()
		p, h := hooked(t, b, Options{Workers: 1})
		startNode(t, p, "n1")
		require.NoError(t, p.Ping(ctx))
		release := stall(t, p, h)
		queued := make(chan error)
		go func() {
			_, err := p.Sessions.Locate(ctx, []int32{1})
			queued <- err
		}()
		eventually(t, "a call waits", func() bool { return p.commands.Waiting() == 1 })
		closed := make(chan struct{})
		go func() {
			p.Close()
			close(closed)
		}()
		require.ErrorIs(t, <-queued, ErrClosed)
		select {
		case <-closed:
			t.Fatal("Close did not wait for the pipeline under way")
		default:
		}
		release()
		<-closed
		p.Close()
		_, err := p.Sessions.Locate(ctx, []int32{1})
		require.ErrorIs(t, err, ErrClosed)
		_, err = p.Nodes.Place(ctx, []int32{1})
		require.ErrorIs(t, err, ErrClosed)
	})
}

func TestScriptsAreLoadedAgain(t *testing.T) {
	onServers(t, func(t *testing.T, b *backend) {
		ctx := t.Context()
		reg := prometheus.NewRegistry()
		p := b.open(t, Options{Metrics: reg})
		for round := range 3 {
			flushAll(t, p.rdb)
			l := startNode(t, p, "n1")
			tokens := make([]string, 20)
			for i := range tokens {
				tokens[i] = mint(t, p, int32(i))
			}
			require.NoError(t, p.rdb.ScriptFlush(ctx).Err())
			var wg sync.WaitGroup
			for i, token := range tokens {
				wg.Go(func() {
					c := Claim{UID: int32(i), Token: token, SID: fmt.Sprint("s", round), Node: "n1", Boot: l.Boot}
					if _, err := p.Logins.Claim(ctx, c); err != nil {
						t.Errorf("claim: %v", err)
					}
				})
			}
			wg.Wait()
			require.NoError(t, p.rdb.ScriptFlush(ctx).Err())
			require.NoError(t, p.Sessions.Release(ctx, locate(t, p, 3)))
			require.Empty(t, locate(t, p, 3))
			require.NoError(t, p.rdb.ScriptFlush(ctx).Err())
			_, err := p.Leases.Extend(ctx, l)
			require.NoError(t, err)
			require.NoError(t, p.Tokens.Revoke(ctx, 3))
			require.NoError(t, p.Leases.Drop(ctx, l))
		}
		require.Positive(t, counted(t, reg, "parley_presence_script_reloads_total"))
	})
}

func TestRedisRestarts(t *testing.T) {
	requireRedisServer(t)
	server, err := startRedis(false)
	require.NoError(t, err)
	defer func() {
		server.kill()
		require.NoError(t, os.RemoveAll(server.dir))
	}()
	rdb := client(t, &redis.UniversalOptions{Addrs: []string{server.addr()}, MaxRetries: 1, DialTimeout: time.Second})
	p := New(rdb, Options{Timeout: 10 * time.Second})
	t.Cleanup(p.Close)
	ctx := t.Context()
	for round := range 2 {
		startNode(t, p, "n1")
		_, err := p.Nodes.Read(ctx)
		require.NoError(t, err)
		_, err = p.Logins.Claim(ctx, Claim{UID: 7, Token: mint(t, p, 7), SID: fmt.Sprint("s", round), Node: "n1", Boot: "b"})
		require.NoError(t, err)
		if round > 0 {
			break
		}
		server.kill()
		_, err = p.Sessions.Locate(ctx, []int32{7})
		require.Error(t, err)
		_, err = p.Logins.Claim(ctx, Claim{UID: 7, Token: "t", SID: "s", Node: "n1", Boot: "b"})
		require.Error(t, err)
		require.NotErrorIs(t, err, ErrTokenInvalid, "no answer is not a refusal")
		require.Error(t, p.Ping(ctx))
		_, err = p.Nodes.Read(ctx)
		require.Error(t, err)
		require.True(t, p.Nodes.View().Alive("n1", "boot-n1"), "the view stays as it was")
		require.NoError(t, server.run())
		eventually(t, "it is back", func() bool { return p.Ping(ctx) == nil })
		require.Empty(t, locate(t, p, 7))
	}
}
