package watch

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"parley/internal/presence"
	"parley/internal/session"
	"parley/internal/wire"
	"parley/lab/launchtest"
	"parley/test/benchgate/cputime"
)

// churn is four nodes with one Redis, whose sessions watch 50 users each: a cluster without sockets, SQL and RPC.
type churn struct {
	b        *testing.B
	presence *presence.Presence
	rdb      *redis.Client
	nodes    []*Watches[*ear]
	ears     []*ear
	since    []atomic.Int64 // of each user's last change, unix nanoseconds
	there    []bool

	mu   sync.Mutex // guards the following
	took []time.Duration
}

// ear is a session that records when it is told something.
type ear struct {
	c   *churn
	uid int32

	mu     sync.Mutex // guards the following
	online map[int32]bool
}

func (e *ear) UID() int32           { return e.uid }
func (e *ear) State() session.State { return session.Live }
func (e *ear) Queued() int          { return 0 }

func (e *ear) Push(p *session.Push) error {
	now := time.Now().UnixNano()
	var body wire.OnlinePush
	if err := wire.Decode(p.Body, &body); err != nil {
		return err
	}
	e.mu.Lock()
	for _, s := range body.States {
		e.online[s.UID] = s.Online
	}
	e.mu.Unlock()
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	for _, s := range body.States {
		e.c.took = append(e.c.took, time.Duration(now-e.c.since[s.UID].Load()))
	}
	return nil
}

const (
	churnUsers   = 10000
	churnFriends = 50
)

func (c *churn) at(uid int) presence.Location {
	return presence.Location{UID: int32(uid), Device: "d", SID: "s" + strconv.Itoa(uid), Node: "n" + strconv.Itoa(uid%4), Boot: "b"}
}

// turn toggles whether users are online.
func (c *churn) turn(uids ...int) {
	var come, gone []presence.Location
	for _, uid := range uids {
		if c.there[uid] = !c.there[uid]; c.there[uid] {
			come = append(come, c.at(uid))
		} else {
			gone = append(gone, c.at(uid))
		}
	}
	_, err := c.presence.Sessions.Restore(context.Background(), come)
	require.NoError(c.b, err)
	require.NoError(c.b, c.presence.Sessions.Release(context.Background(), gone))
	for _, uid := range uids {
		c.since[uid].Store(time.Now().UnixNano())
		c.nodes[uid%4].Changed(int32(uid))
	}
}

// wrong counts the states that sessions believe and that are not true.
func (c *churn) wrong() (n int) {
	for _, e := range c.ears {
		e.mu.Lock()
		for uid, online := range e.online {
			if online != c.there[uid] {
				n++
			}
		}
		e.mu.Unlock()
	}
	return n
}

func (c *churn) redisCPU() (seconds float64) {
	for _, line := range strings.Split(c.rdb.Info(context.Background(), "cpu").Val(), "\r\n") {
		if key, value, _ := strings.Cut(line, ":"); key == "used_cpu_user" || key == "used_cpu_sys" {
			n, _ := strconv.ParseFloat(value, 64)
			seconds += n
		}
	}
	return seconds
}

// report reports the latencies since the last call.
func (c *churn) report(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.SortFunc(c.took, func(a, b time.Duration) int { return cmp.Compare(a, b) })
	n := len(c.took)
	if n > 0 {
		c.b.Logf("%s: %d states told, p50 %v, p99 %v, most %v", name, n, c.took[n/2].Round(time.Millisecond),
			c.took[n*99/100].Round(time.Millisecond), c.took[n-1].Round(time.Millisecond))
		c.b.ReportMetric(c.took[n*99/100].Seconds()*1000, name+"-p99-ms")
	}
	c.took = nil
}

// BenchmarkChurn measures the cost of presence for four nodes with 10,000 sessions that watch 50 friends each: 500
// users come or go per second for ten seconds, then all of them go and return within two.
func BenchmarkChurn(b *testing.B) {
	server := launchtest.Redis(b)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
	defer rdb.Close()
	require.NoError(b, presence.SeedGeneration(b.Context(), rdb))
	c := &churn{b: b, rdb: rdb, presence: presence.New(rdb, presence.Options{}), since: make([]atomic.Int64, churnUsers), there: make([]bool, churnUsers)}
	defer c.presence.Close()
	var lives []presence.Node
	names := []string{"n0", "n1", "n2", "n3"}
	for i, name := range names {
		lives = append(lives, presence.Node{Lease: presence.Lease{Name: name, Boot: "b"}, Live: true})
		others := slices.Delete(slices.Clone(names), i, i+1)
		c.nodes = append(c.nodes, New[*ear](DefaultConfig(), Deps{
			Log: discard, Visible: func(_ ctx, _ int32, of []int32) ([]int32, error) { return of, nil },
			Watchers:    func(_ ctx, watchers []int32, _ int32) ([]int32, error) { return watchers, nil },
			Whereabouts: c.presence.Sessions.Whereabouts, NoteSeen: c.presence.Sessions.NoteSeen, Settled: func(string) bool { return true },
			Nodes: func() []string { return others },
			Forward: func(node string, p *session.Push) bool {
				again := *p
				go c.nodes[slices.Index(names, node)].Receive(&again)
				return true
			},
		}))
	}
	for _, n := range c.nodes {
		n.Lives(lives)
		defer n.Close()
	}
	all := make([]int, churnUsers)
	for i := range all {
		all[i] = i
	}
	c.turn(all...)
	for _, uid := range all {
		e := &ear{c: c, uid: int32(uid), online: make(map[int32]bool)}
		list := make([]int32, churnFriends)
		for k := range list {
			list[k] = int32((uid + 1 + k*k*7) % churnUsers)
		}
		c.ears = append(c.ears, e)
		require.NoError(b, c.nodes[uid%4].Set(b.Context(), e, list, func(states []wire.Presence) error {
			for _, s := range states {
				e.online[s.UID] = s.Online
			}
			return nil
		}))
	}
	time.Sleep(3 * time.Second)
	require.Zero(b, c.wrong())
	c.took = nil
	measure := func(name string, f func()) {
		cpu, rcpu, began := cputime.Used(), c.redisCPU(), time.Now()
		f()
		took := time.Since(began).Seconds()
		b.Logf("%s: %.1f s; CPU of a core: four nodes %.3f, Redis %.3f", name, took, (cputime.Used()-cpu).Seconds()/took, (c.redisCPU()-rcpu)/took)
	}
	b.ResetTimer()
	for range b.N {
		measure("idle", func() { time.Sleep(5 * time.Second) })
		c.report("idle")
		measure("churn", func() {
			for i := range 500 { // ten per 20 ms
				c.turn(all[i*10%churnUsers : i*10%churnUsers+10]...)
				time.Sleep(20 * time.Millisecond)
			}
		})
		time.Sleep(3 * time.Second)
		c.report("churn")
		require.Zero(b, c.wrong())
		measure("storm", func() {
			for range 2 {
				for part := range slices.Chunk(all, 500) {
					c.turn(part...)
					time.Sleep(40 * time.Millisecond)
				}
			}
			ended := time.Now()
			for c.wrong() > 0 {
				time.Sleep(50 * time.Millisecond)
			}
			b.Logf("storm: right again %v after the last change", time.Since(ended).Round(time.Millisecond))
		})
		c.report("storm")
	}
}
