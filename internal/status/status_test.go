package status_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/metadata"

	"parley/internal/config"
	"parley/internal/obs"
	"parley/internal/presence"
	"parley/internal/rpc"
	"parley/internal/status"
	"parley/internal/wire"
	"parley/kitex_gen/message"
	"parley/kitex_gen/message/nodeservice"
	"parley/kitex_gen/message/statusservice"
)

// fixture is a Redis with some chat nodes in it, and status nodes over it.
type fixture struct {
	mini     *miniredis.Miniredis
	presence *presence.Presence
	registry *prometheus.Registry
	log      bytes.Buffer // read it after the nodes have stopped
	logger   *slog.Logger // writes there
}

func newFixture(t *testing.T, chatNodes ...string) *fixture {
	t.Helper()
	f := &fixture{mini: miniredis.RunT(t), registry: prometheus.NewRegistry()}
	f.logger = slog.New(slog.NewTextHandler(&f.log, nil))
	f.presence = f.newPresence(t)
	for i, name := range chatNodes {
		lease := presence.Lease{
			Name: name, Boot: "boot-" + name, ClientAddr: fmt.Sprintf("127.0.0.1:%d", 8090+i), RPCAddr: "127.0.0.1:50055",
		}
		require.NoError(t, f.presence.Leases.Take(t.Context(), lease, ""))
		require.NoError(t, f.presence.Leases.ReportLoad(t.Context(), name, 0, nil))
	}
	return f
}

func (f *fixture) newPresence(t *testing.T) *presence.Presence {
	r := config.DefaultRedis()
	r.Addr, r.Timeout, r.DialTimeout = []string{f.mini.Addr()}, 5*time.Second, 5*time.Second
	rdb := r.NewClient()
	p := presence.New(rdb, presence.Options{Timeout: 5 * time.Second})
	t.Cleanup(func() { p.Close(); require.NoError(t, rdb.Close()) })
	return p
}

// start runs a status node until the test ends or stop is called, which returns what Run returned.
func (f *fixture) start(t *testing.T, cfg status.Config) (addr string, stop func() error) {
	t.Helper()
	s, err := status.New(cfg, status.Deps{
		Log: f.logger, Metrics: f.registry, Presence: f.newPresence(t),
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var result error
	stopped := false
	stop = func() error {
		if !stopped {
			stopped = true
			cancel()
			result = <-done
		}
		return result
	}
	t.Cleanup(func() { require.NoError(t, stop()) })
	return s.Addr(), stop
}

func client(t *testing.T, c rpc.ClientConfig, addr string) statusservice.Client {
	t.Helper()
	if c.Timeout == 0 {
		c.Timeout = time.Minute // a busy machine is not what is tested
	}
	cl := rpc.NewClient(c, addr)
	t.Cleanup(cl.Close)
	st, err := statusservice.NewClient("status", cl.Options()...)
	require.NoError(t, err)
	return st
}

func TestPlacesAndChecks(t *testing.T) {
	f := newFixture(t, "chat1", "chat2")
	addr, _ := f.start(t, status.LocalConfig())
	st := client(t, rpc.ClientConfig{}, addr)

	seen := map[string]bool{}
	for uid := int32(1); uid <= 2; uid++ {
		rsp, err := st.GetChatServer(t.Context(), &message.GetChatServerReq{Uid: uid})
		require.NoError(t, err)
		require.Zero(t, rsp.Error)
		require.Equal(t, "127.0.0.1", rsp.Host)
		require.Contains(t, []string{"8090", "8091"}, rsp.Port)
		require.Len(t, rsp.Token, 43, "32 bytes, base64url")
		seen[rsp.Node] = true

		for range 2 { // a check does not use the token up
			login, err := st.Login(t.Context(), &message.LoginReq{Uid: uid, Token: rsp.Token})
			require.NoError(t, err)
			require.Equal(t, &message.LoginRsp{Uid: uid, Token: rsp.Token}, login)
		}
		other, err := st.Login(t.Context(), &message.LoginReq{Uid: uid + 100, Token: rsp.Token})
		require.NoError(t, err)
		require.Equal(t, &message.LoginRsp{Error: int32(wire.CodeTokenInvalid)}, other, "another user's token")
	}
	require.Len(t, seen, 2, "two logins one after the other land on different nodes")

	for name, req := range map[string]*message.LoginReq{
		"1010 unknown": {Uid: 1, Token: "nobody's"}, "1010 empty": {Uid: 1}, "1011 no user": {Token: "x"}, "1011 negative": {Uid: -1, Token: "x"},
	} {
		rsp, err := st.Login(t.Context(), req)
		require.NoError(t, err)
		require.Equal(t, strings.Fields(name)[0], fmt.Sprint(rsp.Error), name)
	}
	for _, uid := range []int32{0, -1} {
		rsp, err := st.GetChatServer(t.Context(), &message.GetChatServerReq{Uid: uid})
		require.NoError(t, err)
		require.Equal(t, &message.GetChatServerRsp{Error: int32(wire.CodeUIDInvalid)}, rsp)
	}
	require.NoError(t, testutil.GatherAndCompare(f.registry, strings.NewReader(`
# HELP parley_status_logins_total Tokens that were checked, by result: ok, invalid, unavailable, busy, refused.
# TYPE parley_status_logins_total counter
parley_status_logins_total{result="invalid"} 4
parley_status_logins_total{result="ok"} 4
parley_status_logins_total{result="refused"} 2
# HELP parley_status_nodes Chat nodes as last read from Redis, by state: open, draining, dead.
# TYPE parley_status_nodes gauge
parley_status_nodes{state="dead"} 0
parley_status_nodes{state="draining"} 0
parley_status_nodes{state="open"} 2
# HELP parley_status_placements_total Requests to place a user, by result: ok, no_node, unavailable, busy, refused.
# TYPE parley_status_placements_total counter
parley_status_placements_total{result="ok"} 2
parley_status_placements_total{result="refused"} 2
`), "parley_status_logins_total", "parley_status_nodes", "parley_status_placements_total"))
}

func TestBatch(t *testing.T) {
	f := newFixture(t, "chat1", "chat2", "chat3", "chat4")
	addr, _ := f.start(t, status.LocalConfig())
	st := client(t, rpc.ClientConfig{Timeout: 10 * time.Second}, addr)
	uids := make([]int32, status.MaxBatch)
	for i := range uids {
		uids[i] = int32(i + 1)
	}
	rsp, err := st.GetChatServers(t.Context(), &message.GetChatServersReq{Uids: uids})
	require.NoError(t, err)
	require.Zero(t, rsp.Error)
	require.Len(t, rsp.Replies, len(uids))
	count := map[string]int{}
	for _, r := range rsp.Replies {
		require.Zero(t, r.Error)
		count[r.Node]++
	}
	require.Equal(t, map[string]int{"chat1": 250, "chat2": 250, "chat3": 250, "chat4": 250}, count)
	for i, want := range map[int]bool{0: true, 999: true} { // in the order asked
		login, err := st.Login(t.Context(), &message.LoginReq{Uid: uids[i], Token: rsp.Replies[i].Token})
		require.NoError(t, err)
		require.Equal(t, want, login.Error == 0)
	}
	for name, c := range map[string]struct {
		uids []int32
		want wire.Code
	}{
		"none":          {nil, wire.CodeOK},
		"too many":      {make([]int32, status.MaxBatch+1), wire.CodeBadRequest},
		"one is nobody": {[]int32{1, 0, 2}, wire.CodeUIDInvalid},
	} {
		rsp, err := st.GetChatServers(t.Context(), &message.GetChatServersReq{Uids: c.uids})
		require.NoError(t, err, name)
		require.Equal(t, int32(c.want), rsp.Error, name)
		require.Empty(t, rsp.Replies, name)
	}
}

func TestNoNodeAndNoRedis(t *testing.T) {
	f := newFixture(t)
	addr, stop := f.start(t, status.LocalConfig())
	st := client(t, rpc.ClientConfig{Timeout: 10 * time.Second}, addr)
	ask := func() wire.Code {
		rsp, err := st.GetChatServer(t.Context(), &message.GetChatServerReq{Uid: 1})
		require.NoError(t, err, "a code, not a failed call")
		require.Empty(t, rsp.Token)
		return wire.Code(rsp.Error)
	}
	require.Equal(t, wire.CodeRPC, ask())
	lease := presence.Lease{Name: "chat1", Boot: "b", ClientAddr: "127.0.0.1:8090", Draining: true}
	require.NoError(t, f.presence.Leases.Take(t.Context(), lease, ""))
	require.NoError(t, f.presence.Leases.ReportLoad(t.Context(), "chat1", 0, nil))
	require.Never(t, func() bool { return ask() != wire.CodeRPC }, 1700*time.Millisecond, 100*time.Millisecond, "a draining node takes nobody")
	f.mini.Close()
	require.Eventually(t, func() bool { return ask() == wire.CodeUnavailable }, time.Minute, 50*time.Millisecond)
	login, err := st.Login(t.Context(), &message.LoginReq{Uid: 1, Token: "x"})
	require.NoError(t, err)
	require.Equal(t, wire.CodeUnavailable, wire.Code(login.Error))
	require.NoError(t, f.mini.Restart())
	require.NoError(t, f.presence.Leases.Drop(t.Context(), lease))
	lease.Boot, lease.Draining = "b2", false
	require.NoError(t, f.presence.Leases.Take(t.Context(), lease, ""))
	require.NoError(t, f.presence.Leases.ReportLoad(t.Context(), "chat1", 0, nil))
	var rsp *message.GetChatServerRsp
	require.Eventually(t, func() bool {
		var err error
		rsp, err = st.GetChatServer(t.Context(), &message.GetChatServerReq{Uid: 1})
		return err == nil && rsp.Error == 0 && rsp.Node == "chat1"
	}, time.Minute, 50*time.Millisecond, "it comes back by itself")
	require.NoError(t, stop())
	require.Contains(t, f.log.String(), "redis does not answer")
	require.Contains(t, f.log.String(), "no chat node can take users")
	require.NotContains(t, f.log.String(), rsp.Token)
}

func TestTwoStatusNodesPlaceEvenly(t *testing.T) {
	f := newFixture(t, "chat1", "chat2", "chat3")
	a, _ := f.start(t, status.LocalConfig())
	f.registry = prometheus.NewRegistry()
	b, _ := f.start(t, status.LocalConfig())
	nodes := make(chan string, 300)
	for _, addr := range []string{a, b} {
		st := client(t, rpc.ClientConfig{Timeout: 10 * time.Second, MaxIdle: 16}, addr)
		for w := range 10 {
			go func() {
				for i := range 15 {
					rsp, err := st.GetChatServer(context.Background(), &message.GetChatServerReq{Uid: int32(1 + w*100 + i)})
					if err != nil || rsp.Error != 0 {
						nodes <- "failed"
						continue
					}
					nodes <- rsp.Node
				}
			}()
		}
	}
	count := map[string]int{}
	for range 300 {
		count[<-nodes]++
	}
	require.Zero(t, count["failed"])
	for _, name := range []string{"chat1", "chat2", "chat3"} {
		require.InDelta(t, 100, count[name], 5, "%v", count)
	}
}

// prutalCodec carries the generated messages over grpc-go: on the wire they are what a stock stub sends.
type prutalCodec struct{}

func (prutalCodec) Marshal(v any) ([]byte, error) {
	return v.(interface{ Marshal([]byte) ([]byte, error) }).Marshal(nil)
}

func (prutalCodec) Unmarshal(b []byte, v any) error {
	return v.(interface{ Unmarshal([]byte) error }).Unmarshal(b)
}
func (prutalCodec) Name() string { return "proto" }

var _ encoding.Codec = prutalCodec{}

func TestPlainGRPCCaller(t *testing.T) {
	for _, secret := range []string{"", "sixteen or more bytes"} {
		t.Run(fmt.Sprintf("secret %q", secret), func(t *testing.T) {
			f := newFixture(t, "chat1")
			cfg := status.LocalConfig()
			cfg.Cluster.Secret = secret
			addr, _ := f.start(t, cfg)
			cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithDefaultCallOptions(grpc.ForceCodec(prutalCodec{})))
			require.NoError(t, err)
			defer cc.Close()
			var rsp message.GetChatServerRsp
			req := &message.GetChatServerReq{Uid: 5}
			call := func(md map[string]string) error {
				ctx := metadata.NewOutgoingContext(t.Context(), metadata.New(md))
				return cc.Invoke(ctx, "/message.StatusService/GetChatServer", req, &rsp)
			}
			to := ""
			if secret != "" {
				require.ErrorContains(t, call(nil), "Unauthenticated")
				refused, ok := rpc.AsRefusal(call(map[string]string{rpc.HeaderTo: rpc.UnknownCallee}))
				require.True(t, ok)
				to = refused.Detail
			}
			body, err := req.Marshal(nil)
			require.NoError(t, err)
			signed := rpc.NewAuth(secret).Sign(to, "StatusService", "GetChatServer", body)
			require.NoError(t, call(signed))
			require.Equal(t, "chat1", rsp.Node)
			require.Equal(t, "8090", rsp.Port)
			if secret != "" {
				require.ErrorContains(t, call(signed), "replay")
			}
		})
	}
}

func TestStart(t *testing.T) {
	t.Run("port taken", func(t *testing.T) {
		f := newFixture(t)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer ln.Close()
		cfg := status.LocalConfig()
		cfg.Status.Port = ln.Addr().(*net.TCPAddr).Port
		_, err = status.New(cfg, status.Deps{Log: slog.New(slog.DiscardHandler), Presence: f.presence})
		require.Equal(t, config.ExitDependency, config.ExitCode(err), "%v", err)
	})
	t.Run("no redis", func(t *testing.T) {
		f := newFixture(t)
		f.mini.Close()
		cfg := status.LocalConfig()
		cfg.Status.StartTimeout = 300 * time.Millisecond
		s, err := status.New(cfg, status.Deps{Log: slog.New(slog.DiscardHandler), Presence: f.presence})
		require.NoError(t, err)
		err = s.Run(t.Context())
		require.Equal(t, config.ExitDependency, config.ExitCode(err), "%v", err)
		_, err = net.DialTimeout("tcp", s.Addr(), time.Second)
		require.Error(t, err, "the port is given back")
	})
	t.Run("stopped while waiting for redis", func(t *testing.T) {
		f := newFixture(t)
		f.mini.Close()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		s, err := status.New(status.LocalConfig(), status.Deps{Log: slog.New(slog.DiscardHandler), Presence: f.presence})
		require.NoError(t, err)
		require.NoError(t, s.Run(ctx))
	})
}

func TestReadiness(t *testing.T) {
	f := newFixture(t)
	reg := obs.NewRegistry("statusnode")
	s, err := status.New(status.LocalConfig(), status.Deps{Log: slog.New(slog.DiscardHandler), Metrics: reg, Presence: f.presence})
	require.NoError(t, err)
	ops, err := obs.ListenOps("127.0.0.1:0", slog.New(slog.DiscardHandler), reg, s.Checks())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- ops.While(ctx, s.Run) }()
	ready := func() (int, string) {
		rsp, err := http.Get("http://" + ops.Addr() + "/readyz")
		require.NoError(t, err)
		defer rsp.Body.Close()
		body, err := io.ReadAll(rsp.Body)
		require.NoError(t, err)
		return rsp.StatusCode, string(body)
	}
	code, body := ready()
	require.Equal(t, http.StatusOK, code, body)
	redisAddr := f.mini.Addr()
	f.mini.Close()
	code, body = ready()
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, body, `"name": "redis"`)
	require.NotContains(t, body, redisAddr, "a class of error, not its text")
	cancel()
	require.NoError(t, <-done)
}

func TestANodeWithoutTCPIsPlacedAt(t *testing.T) {
	f := newFixture(t)
	lease := presence.Lease{Name: "chat1", Boot: "b", Web: presence.Web{TLS: "127.0.0.1:8130"}, RPCAddr: "127.0.0.1:1"}
	require.NoError(t, f.presence.Leases.Take(t.Context(), lease, ""))
	require.NoError(t, f.presence.Leases.ReportLoad(t.Context(), "chat1", 0, nil))
	addr, stop := f.start(t, status.LocalConfig())
	rsp, err := client(t, rpc.ClientConfig{}, addr).GetChatServer(t.Context(), &message.GetChatServerReq{Uid: 1})
	require.NoError(t, err)
	require.Zero(t, rsp.Error)
	require.NotEmpty(t, rsp.Token)
	require.Equal(t, []string{"", "", "127.0.0.1:8130"}, []string{rsp.Host, rsp.Port, rsp.Tls})
	require.NoError(t, stop())
}

// E9: Redis is not blamed for what a chat node wrote there.
func TestAMalformedLeaseIsNamed(t *testing.T) {
	f := newFixture(t)
	lease := presence.Lease{Name: "chat9", Boot: "b", ClientAddr: "[::1]", RPCAddr: "127.0.0.1:1"}
	require.NoError(t, f.presence.Leases.Take(t.Context(), lease, ""))
	require.NoError(t, f.presence.Leases.ReportLoad(t.Context(), "chat9", 0, nil))
	addr, stop := f.start(t, status.LocalConfig())
	rsp, err := client(t, rpc.ClientConfig{}, addr).GetChatServer(t.Context(), &message.GetChatServerReq{Uid: 1})
	require.NoError(t, err)
	require.EqualValues(t, wire.CodeRPC, rsp.Error)
	require.NoError(t, stop())
	require.Contains(t, f.log.String(), "malformed client address")
	require.Contains(t, f.log.String(), "peer=chat9")
	require.NotContains(t, f.log.String(), "redis does not answer")
}

// chatNode answers Hello, with the secret.
func (f *fixture) chatNode(t *testing.T, name, secret string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s, err := rpc.NewServer(ln, rpc.ServerConfig{Auth: rpc.NewAuth(secret)})
	require.NoError(t, err)
	require.NoError(t, nodeservice.RegisterService(s, &hello{}))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	lease := presence.Lease{Name: name, Boot: "b", ClientAddr: "127.0.0.1:1", RPCAddr: s.Addr()}
	require.NoError(t, f.presence.Leases.Take(t.Context(), lease, ""))
	require.NoError(t, f.presence.Leases.ReportLoad(t.Context(), name, 0, nil))
}

type hello struct{ message.NodeService }

func (hello) Hello(context.Context, *message.HelloReq) (*message.HelloRsp, error) {
	return &message.HelloRsp{}, nil
}

// A2: a status node has nothing else to say to chat nodes, and still knows that they would refuse it.
func TestNotReadyWhileChatNodesRefuseTheSignature(t *testing.T) {
	f := newFixture(t)
	const secret, another = "sixteen or more bytes", "another secret, as long"
	f.chatNode(t, "chat1", another)
	cfg := status.LocalConfig()
	cfg.Cluster.Secret = secret
	s, err := status.New(cfg, status.Deps{Log: slog.New(slog.DiscardHandler), Presence: f.newPresence(t)})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	peers := func() error {
		for _, c := range s.Checks() {
			if c.Name == "peers" {
				return c.Probe(t.Context())
			}
		}
		return nil
	}
	require.Eventually(t, func() bool { return peers() != nil }, 30*time.Second, 10*time.Millisecond)
	require.ErrorContains(t, peers(), "1 of 1 peers refuse this node's signature: its [Cluster] Secret is another")
	f.chatNode(t, "chat2", secret)
	f.chatNode(t, "chat3", secret)
	require.Eventually(t, func() bool { return peers() == nil }, 30*time.Second, 10*time.Millisecond, "it recovers by itself")
	cancel()
	require.NoError(t, <-done)
}
