package swarm

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/bench/engine"
	"parley/bench/schedule"
	"parley/internal/rpc"
	"parley/internal/standalone"
	"parley/kitex_gen/message"
	"parley/kitex_gen/message/statusservice"
)

// startFleet runs a standalone cluster of two nodes, and a fleet of users in its database.
func startFleet(t *testing.T, users int, change func(*Config)) *Fleet {
	t.Helper()
	o := standalone.LocalOptions()
	o.Demo, o.Crowd = false, users
	cluster, err := standalone.Start(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = cluster.Close() /* how a cluster ends is its own test's */ })
	transport := rpc.NewClient(rpc.ClientConfig{Timeout: 10 * time.Second}, cluster.StatusAddr())
	t.Cleanup(transport.Close)
	status, err := statusservice.NewClient("status", transport.Options()...)
	require.NoError(t, err)
	cfg := Config{
		FirstUID: standalone.CrowdFirst, Users: users, Run: 77, Seed: 1, Cross: .5, Loops: 2,
		Place: func(ctx context.Context, uids []int32) ([]Place, error) {
			rsp, err := status.GetChatServers(ctx, &message.GetChatServersReq{Uids: uids})
			if err != nil {
				return nil, err
			}
			places := make([]Place, len(rsp.Replies))
			for i, r := range rsp.Replies {
				places[i] = Place{Target: engine.Target{Addr: netip.MustParseAddrPort(r.Host + ":" + r.Port)}, Node: r.Node, Token: r.Token}
			}
			return places, nil
		},
	}
	if change != nil {
		change(&cfg)
	}
	f, err := New(cfg)
	require.NoError(t, err)
	t.Cleanup(f.Close)
	require.NoError(t, f.Prepare(t.Context()))
	return f
}

func (f *Fleet) must(t *testing.T, p Phase) *Outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	o, err := f.Run(ctx, p)
	require.NoError(t, err)
	return o
}

func load(shape string, rate float64, d time.Duration) schedule.Load {
	l, err := schedule.Parse(shape, rate, d, 3)
	if err != nil {
		panic(err)
	}
	return l
}

func TestADayOfAFleet(t *testing.T) {
	const users = 60
	f := startFleet(t, users, func(c *Config) { c.Resume, c.Marks = true, .5 })
	o := f.must(t, Phase{Kind: "login", Concurrency: 16})
	require.EqualValues(t, users, o.Counters["logins"], "%+v", o.Errors)
	require.EqualValues(t, users, o.Hist(HFull).Count())
	require.EqualValues(t, users, f.Live().Online)
	require.Len(t, f.Nodes(), 2)

	o = f.must(t, Phase{Kind: "threads"})
	require.EqualValues(t, users/2, o.Counters["threads"], "%+v", o.Errors)

	o = f.must(t, Phase{Kind: "ping", Load: load("poisson", 2000, 500*time.Millisecond)})
	require.Empty(t, o.Errors)
	require.InEpsilon(t, 1000, o.Hist(HPing).Count(), .3)

	o = f.must(t, Phase{Kind: "chat", Load: load("constant", 600, time.Second), Warmup: 300 * time.Millisecond, Patience: 20 * time.Second})
	require.Empty(t, o.Errors)
	require.EqualValues(t, 600+180, o.Ledger.Acked, "%+v", o.Ledger)
	require.EqualValues(t, 600+180, o.Ledger.Delivered, "%+v", o.Ledger)
	require.EqualValues(t, 600, o.Hist(HAck).Count(), "the warm-up is not measured")
	require.EqualValues(t, 600, o.Hist(HDeliver).Count())
	require.Greater(t, o.Hist(HMark).Count(), int64(50))
	require.Positive(t, o.Counters["marks of others"])
	require.GreaterOrEqual(t, len(o.Series), 2)

	o = f.must(t, Phase{Kind: "chat", Concurrency: 8, For: 300 * time.Millisecond, Patience: 20 * time.Second})
	require.Empty(t, o.Errors)
	require.Greater(t, o.Hist(HAck).Count(), int64(8))

	o = f.must(t, Phase{Kind: "verify"})
	require.Empty(t, o.Errors)
	require.True(t, o.Ledger.HistoryChecked)
	require.Zero(t, o.Ledger.Wrong(), "%+v", o.Ledger)
	require.Equal(t, o.Ledger.Acked, o.Ledger.HistoryRead)

	o = f.must(t, Phase{Kind: "storm", Spread: 50 * time.Millisecond, For: 30 * time.Second})
	require.Len(t, o.BackAt, users, "%+v", o.Errors)
	require.EqualValues(t, users, f.Live().Online)

	o = f.must(t, Phase{Kind: "churn", Load: load("constant", 100, 500*time.Millisecond)})
	require.EqualValues(t, 50, o.Hist(HFull).Count(), "%+v", o.Errors)

	f.must(t, Phase{Kind: "hold", For: 50 * time.Millisecond})
	f.must(t, Phase{Kind: "close"})
	require.Zero(t, f.Live().Online)
}

func TestConnectWithoutLogin(t *testing.T) {
	f := startFleet(t, 20, nil)
	o := f.must(t, Phase{Kind: "connect", Concurrency: 4})
	require.EqualValues(t, 20, o.Hist(HConnect).Count(), "%+v", o.Errors)
	require.Zero(t, f.Live().Online)
	f.must(t, Phase{Kind: "close"})
	o = f.must(t, Phase{Kind: "login", Load: load("constant", 200, time.Second), Again: true})
	require.EqualValues(t, 200, o.Counters["logins"]+o.Counters["given up"]+o.Errors["everybody is busy: more --users are needed for this rate"], "%+v", o.Errors)
}

// A caller that runs a phase too late must not wait for ever.
func TestAClosedFleetRunsNothing(t *testing.T) {
	f := startFleet(t, 4, nil)
	f.Close()
	_, err := f.Run(context.Background(), Phase{Kind: "close"})
	require.ErrorContains(t, err, "have ended")
	require.ErrorContains(t, f.Prepare(context.Background()), "have ended")
}

func TestOldTokensAreNotTried(t *testing.T) {
	const users = 20
	var placed atomic.Int32
	f := startFleet(t, users, func(c *Config) {
		place := c.Place
		c.Place = func(ctx context.Context, uids []int32) ([]Place, error) {
			placed.Add(int32(len(uids)))
			return place(ctx, uids)
		}
	})
	o := f.must(t, Phase{Kind: "login", Concurrency: 4, Users: users / 2})
	require.EqualValues(t, users/2, o.Counters["logins"], "%+v", o.Errors)
	require.NoError(t, f.all(t.Context(), func(s *Swarm) { s.logins.prepared -= int64(freshFor) + 1 }))
	require.EqualValues(t, users, placed.Load())
	o = f.must(t, Phase{Kind: "login", Concurrency: 4})
	require.EqualValues(t, users/2, o.Counters["logins"], "%+v", o.Errors)
	require.Empty(t, o.Errors)
	require.EqualValues(t, users+users/2, placed.Load())
}

func TestElementsAreReadAsTheDecoderReadsThem(t *testing.T) {
	bodies := []string{
		`{"error":0,"fromuid":1,"touid":2,"thread_id":3,"chat_datas":[{"message_id":5,"unique_id":"{00-11}","content":"abc","status":2,"chat_time":"x","created_ms":9},{"message_id":0,"unique_id":"{22}","content":"d","code":2003,"status":1,"chat_time":""}]}`,
		`{"error":0,"chat_datas":[]}`,
		`{ "error": 0, "chat_datas": [ { "message_id": 7, "unique_id": "u", "content": "quo\"te", "status": 2 } ] }`,
	}
	for _, b := range bodies {
		var fast, slow []element
		keep := func(to *[]element) func(*element) {
			return func(e *element) {
				*to = append(*to, element{e.seq, e.code, e.status, append([]byte(nil), e.unique...), append([]byte(nil), e.content...)})
			}
		}
		require.True(t, eachText([]byte(b), keep(&fast)))
		require.True(t, eachDecoded([]byte(b), keep(&slow)))
		require.Equal(t, slow, fast, b)
	}
	require.False(t, eachText([]byte(`{"error":2001}`+"x"), func(*element) {}))
	require.False(t, eachText([]byte(`{"error":2001}`), func(*element) {}))
}

func TestAFleetKeepsToItsNodes(t *testing.T) {
	node := func(i int) Place {
		return Place{Target: engine.Target{Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(9000+i))}, Node: string(rune('a' + i))}
	}
	spread := func(cfg Config) (names string) {
		places := make([]Place, 20)
		for i := range places {
			places[i] = node((7 * i) % 5)
		}
		f := &Fleet{cfg: cfg}
		f.spread(places)
		for _, p := range places {
			names += p.Node
		}
		return names
	}
	require.Equal(t, "acebdacebdacebdacebd", spread(Config{Cross: -1}), "as placed")
	require.Equal(t, "deeddeeddeeddeeddeed", spread(Config{Cross: -1, KeepTo: 2, Index: 3}))
	require.Equal(t, "eaaeeaaeeaaeeaaeeaae", spread(Config{Cross: -1, KeepTo: 2, Index: 9}))
	require.Equal(t, "bbbbbbbbbbbbbbbbbbbb", spread(Config{Cross: -1, KeepTo: 1, Index: 1}))
	require.Equal(t, "bbccbbccbbccbbccbbcc", spread(Config{KeepTo: 2, Index: 1}), "pairs on one node")
	require.Equal(t, "abbccddeeaabbccddeea", spread(Config{Cross: 1}))
}

func TestTheHeartbeatWheelMakesItsRoundInTime(t *testing.T) {
	for period, want := range map[time.Duration]time.Duration{
		5 * time.Second: beatStep, 24 * time.Second: beatStep, 30 * time.Second: 62500 * time.Microsecond, 120 * time.Second: 250 * time.Millisecond,
	} {
		step, steps := (&Config{Heartbeat: period}).wheel()
		require.EqualValues(t, want, step)
		require.LessOrEqual(t, step*int64(steps), int64(period))
		require.Greater(t, step*int64(steps), int64(period)*99/100)
	}
}

func TestAnAttemptWithoutAnAnswerIsGivenUp(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // accepts no connections
	require.NoError(t, err)
	defer ln.Close()
	place := Place{Target: engine.Target{Addr: netip.MustParseAddrPort(ln.Addr().String())}, Node: "deaf", Token: strings.Repeat("t", tokenLen)}
	f, err := New(Config{
		FirstUID: 1, Users: 4, LoginTimeout: 300 * time.Millisecond, Cross: -1,
		Place: func(_ context.Context, uids []int32) ([]Place, error) {
			return slices.Repeat([]Place{place}, len(uids)), nil
		},
	})
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.Prepare(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	o, err := f.Run(ctx, Phase{Kind: "login", Concurrency: 4})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.GreaterOrEqual(t, o.Errors["login: no answer in time"], int64(4))
	require.Zero(t, o.Counters["logins"])
}

// F6: the fleet has more users than were created.
func TestAUserThatDoesNotExistIsNotTriedAgain(t *testing.T) {
	f := startFleet(t, 10, func(c *Config) { c.Users += 4 })
	o := f.must(t, Phase{Kind: "login", Concurrency: 4})
	require.EqualValues(t, 10, o.Counters["logins"], "%+v", o.Errors)
	require.EqualValues(t, 4, o.Errors["login refused 1011"], "%+v", o.Errors)
}
