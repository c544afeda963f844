package compare

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"parley/bench/engine"
	"parley/bench/foreign"
	"parley/bench/schedule"
	"parley/bench/swarm"
)

// startNATS runs a NATS server that syncs each text to the disk, and lets in whoever knows the password.
func startNATS(t *testing.T) (address string, s *server.Server) {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), SyncAlways: true, NoLog: true, NoSigs: true,
		Username: "bench", Password: "secret",
	})
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	require.True(t, s.ReadyForConnections(time.Minute))
	return "nats://bench:secret@" + s.Addr().String(), s
}

// startCentrifuge runs a server of the library that is Centrifugo's core, which lets in whoever has a token signed with the key.
func startCentrifuge(t *testing.T) (address string) {
	t.Helper()
	const key = "secret"
	node, err := centrifuge.New(centrifuge.Config{})
	require.NoError(t, err)
	node.OnConnecting(func(_ context.Context, e centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		signed, signature, _ := cutLast(e.Token, ".")
		h := hmac.New(sha256.New, []byte(key))
		h.Write([]byte(signed))
		if got, err := base64.RawURLEncoding.DecodeString(signature); err != nil || !hmac.Equal(got, h.Sum(nil)) {
			return centrifuge.ConnectReply{}, centrifuge.ErrorTokenExpired
		}
		return centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{UserID: "somebody"}}, nil
	})
	node.OnConnect(func(c *centrifuge.Client) {
		c.OnSubscribe(func(_ centrifuge.SubscribeEvent, done centrifuge.SubscribeCallback) {
			done(centrifuge.SubscribeReply{}, nil)
		})
		c.OnPublish(func(_ centrifuge.PublishEvent, done centrifuge.PublishCallback) { done(centrifuge.PublishReply{}, nil) })
	})
	require.NoError(t, node.Run())
	web := httptest.NewServer(centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{
		PingPongConfig: centrifuge.PingPongConfig{PingInterval: 200 * time.Millisecond, PongTimeout: 150 * time.Millisecond},
		CheckOrigin:    func(*http.Request) bool { return true },
	}))
	t.Cleanup(func() {
		web.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = node.Shutdown(ctx) // how it ends is not our test's
	})
	return "ws://:" + key + "@" + strings.TrimPrefix(web.URL, "http://") + "/"
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

const users = 20

func newFleet(t *testing.T, s foreign.Server) *swarm.Fleet {
	t.Helper()
	f, err := swarm.New(swarm.Config{
		FirstUID: 1_000_001, Users: users, Run: 77, Seed: 1, Cross: -1, Foreign: s,
		Place: func(_ context.Context, uids []int32) ([]swarm.Place, error) {
			places := make([]swarm.Place, len(uids))
			for i := range places {
				places[i] = swarm.Place{Target: engine.Target{Addr: netip.MustParseAddrPort(s.Address()), Raw: true}, Token: "unused"}
			}
			return places, nil
		},
	})
	require.NoError(t, err)
	t.Cleanup(f.Close)
	return f
}

func must(t *testing.T, f *swarm.Fleet, p swarm.Phase) *swarm.Outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p.Patience = 30 * time.Second
	o, err := f.Run(ctx, p)
	require.NoError(t, err)
	require.Empty(t, o.Errors, "%s", p.Kind)
	return o
}

// chats logs users in, has them chat and leave and come back, and finds every text acknowledged and delivered once.
func chats(t *testing.T, s foreign.Server) {
	t.Helper()
	f := newFleet(t, s)
	require.NoError(t, f.Prepare(t.Context()))
	for round := range 2 {
		o := must(t, f, swarm.Phase{Kind: "login", Concurrency: 8})
		require.EqualValues(t, users, o.Counters["logins"])
		if round == 0 {
			must(t, f, swarm.Phase{Kind: "threads"})
		}
		load, err := schedule.Parse("constant", 400, 500*time.Millisecond, 1)
		require.NoError(t, err)
		before := o.Ledger.Acked
		o = must(t, f, swarm.Phase{Kind: "chat", Load: load})
		require.EqualValues(t, 200, o.Ledger.Acked-before)
		require.EqualValues(t, 200, o.Hist(swarm.HAck).Count())
		require.EqualValues(t, 200, o.Hist(swarm.HDeliver).Count())
		o = must(t, f, swarm.Phase{Kind: "chat", Concurrency: 32, For: 300 * time.Millisecond})
		require.Greater(t, o.Hist(swarm.HAck).Count(), int64(32))
		l := o.Ledger
		require.Equal(t, []int64{l.Planned, l.Planned, l.Planned}, []int64{l.Sent, l.Acked, l.Delivered}, "%+v", l)
		require.Zero(t, l.Wrong(), "%+v", l)
		must(t, f, swarm.Phase{Kind: "close"})
	}
}

func open(t *testing.T, kind, address string) foreign.Server {
	t.Helper()
	s, err := foreign.New(kind, address, 77)
	require.NoError(t, err)
	return s
}

func TestNATSStoresAndDeliversEachTextOnce(t *testing.T) {
	address, nats := startNATS(t)
	s := open(t, "nats", address)
	chats(t, s)
	streams := func() int {
		info, err := nats.Jsz(nil)
		require.NoError(t, err)
		return info.Streams
	}
	require.Equal(t, 1, streams())
	require.NoError(t, s.Forget(t.Context()))
	require.Zero(t, streams(), "nothing is left behind")
	require.Error(t, s.Forget(t.Context()), "JetStream's refusals are errors")
}

func TestCentrifugeDeliversEachTextOnce(t *testing.T) {
	chats(t, open(t, "centrifugo", startCentrifuge(t)))
}

// TestPingsAreAnswered holds users longer than the server waits for a sign of life.
func TestPingsAreAnswered(t *testing.T) {
	f := newFleet(t, open(t, "centrifugo", startCentrifuge(t)))
	require.NoError(t, f.Prepare(t.Context()))
	must(t, f, swarm.Phase{Kind: "login", Concurrency: 8})
	must(t, f, swarm.Phase{Kind: "hold", For: time.Second})
	require.EqualValues(t, users, f.Live().Online)
}

func TestAWrongPasswordIsSaidSo(t *testing.T) {
	address, _ := startNATS(t)
	wrong := strings.Replace(address, "secret", "guess", 1)
	require.ErrorContains(t, open(t, "nats", wrong).Prepare(t.Context(), 1, 2), "Authorization Violation")

	f := newFleet(t, open(t, "centrifugo", strings.Replace(startCentrifuge(t), "secret", "guess", 1)))
	require.NoError(t, f.Prepare(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	o, err := f.Run(ctx, swarm.Phase{Kind: "login", Concurrency: 8})
	require.NoError(t, err)
	require.Zero(t, o.Counters["logins"])
	require.Contains(t, fmt.Sprint(o.Errors), "token expired")
}
