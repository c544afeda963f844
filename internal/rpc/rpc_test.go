package rpc_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"parley/internal/rpc"
	"parley/kitex_gen/message"
	"parley/kitex_gen/message/statusservice"
)

// prutalCodec lets grpc-go carry Kitex's generated messages, which are not Google protobuf messages. The encoded
// bytes are the same as those of a stock gRPC stub.
type prutalCodec struct{}

type prutalMessage interface {
	Marshal([]byte) ([]byte, error)
	Unmarshal([]byte) error
}

func (prutalCodec) Marshal(v any) ([]byte, error)   { return v.(prutalMessage).Marshal(nil) }
func (prutalCodec) Unmarshal(b []byte, v any) error { return v.(prutalMessage).Unmarshal(b) }
func (prutalCodec) Name() string                    { return "proto" }

// statusHandler answers from memory.
type statusHandler struct {
	calls   atomic.Int64
	entered chan struct{} // if not nil, receives when a call has started
	block   chan struct{} // if not nil, calls wait for it
}

func (h *statusHandler) GetChatServer(_ context.Context, req *message.GetChatServerReq) (*message.GetChatServerRsp, error) {
	h.calls.Add(1)
	if h.entered != nil {
		h.entered <- struct{}{}
		<-h.block
	}
	if req.Uid == 666 {
		panic("handler panics")
	}
	return &message.GetChatServerRsp{Host: "127.0.0.1", Port: "8090", Token: "token", Node: "chat1"}, nil
}

func (h *statusHandler) Login(_ context.Context, req *message.LoginReq) (*message.LoginRsp, error) {
	h.calls.Add(1)
	return &message.LoginRsp{Uid: req.Uid, Token: req.Token}, nil
}

func (h *statusHandler) GetChatServers(context.Context, *message.GetChatServersReq) (*message.GetChatServersRsp, error) {
	h.calls.Add(1)
	return &message.GetChatServersRsp{}, nil
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return ln
}

// serve runs a status service until stop is called or the test ends.
func serve(t *testing.T, h *statusHandler, c rpc.ServerConfig) (addr string, stop func()) {
	t.Helper()
	s, err := rpc.NewServer(listen(t), c)
	require.NoError(t, err)
	require.NoError(t, statusservice.RegisterService(s, h))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	var stopped atomic.Bool
	stop = func() {
		if stopped.Swap(true) {
			return
		}
		cancel()
		require.NoError(t, <-done)
	}
	t.Cleanup(stop)
	return s.Addr(), stop
}

func kitexClient(t *testing.T, addr string, c rpc.ClientConfig) statusservice.Client {
	t.Helper()
	if c.Timeout == 0 {
		c.Timeout = time.Minute // long, so that a busy machine does not fail the test
	}
	cl := rpc.NewClient(c, addr)
	t.Cleanup(cl.Close)
	st, err := statusservice.NewClient("status", cl.Options()...)
	require.NoError(t, err)
	return st
}

func grpcConn(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(prutalCodec{})))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cc.Close()) })
	return cc
}

// calleeOf asks a server for its name as a foreign caller does; "" if the server has no secret.
func calleeOf(t *testing.T, cc *grpc.ClientConn) string {
	t.Helper()
	ctx := metadata.NewOutgoingContext(t.Context(), metadata.Pairs(rpc.HeaderTo, rpc.UnknownCallee))
	err := cc.Invoke(ctx, "/message.StatusService/GetChatServers", &message.GetChatServersReq{}, &message.GetChatServersRsp{})
	if err == nil {
		return ""
	}
	_, name, ok := strings.Cut(err.Error(), "parley: unauthenticated: callee ")
	require.True(t, ok, "%v", err)
	return name
}

func encoded(t *testing.T, m prutalMessage) []byte {
	t.Helper()
	b, err := m.Marshal(nil)
	require.NoError(t, err)
	return b
}

func TestOnePortTwoTransports(t *testing.T) {
	for _, secret := range []string{"", "a secret of the cluster"} {
		name := "open"
		if secret != "" {
			name = "signed"
		}
		t.Run(name, func(t *testing.T) {
			h := &statusHandler{}
			addr, _ := serve(t, h, rpc.ServerConfig{Auth: rpc.NewAuth(secret)})
			for _, c := range []struct {
				name string
				grpc bool
			}{{"ttheader", false}, {"kitex grpc", true}} {
				t.Run(c.name, func(t *testing.T) {
					st := kitexClient(t, addr, rpc.ClientConfig{Auth: rpc.NewAuth(secret), GRPC: c.grpc})
					for range 3 {
						rsp, err := st.GetChatServer(t.Context(), &message.GetChatServerReq{Uid: 1})
						require.NoError(t, err)
						require.Equal(t, &message.GetChatServerRsp{Host: "127.0.0.1", Port: "8090", Token: "token", Node: "chat1"}, rsp)
					}
				})
			}
			t.Run("grpc-go", func(t *testing.T) {
				cc, auth := grpcConn(t, addr), rpc.NewAuth(secret)
				to, req := calleeOf(t, cc), &message.LoginReq{Uid: 7, Token: "x"}
				for range 3 {
					ctx := metadata.NewOutgoingContext(t.Context(), metadata.New(auth.Sign(to, "StatusService", "Login", encoded(t, req))))
					var rsp message.LoginRsp
					require.NoError(t, cc.Invoke(ctx, "/message.StatusService/Login", req, &rsp))
					require.Equal(t, message.LoginRsp{Uid: 7, Token: "x"}, rsp)
				}
			})
			if secret == "" {
				require.EqualValues(t, 10, h.calls.Load(), "the question for the name is a call like any other")
			} else {
				require.EqualValues(t, 9, h.calls.Load())
			}
		})
	}
}

func TestRefusesStrangers(t *testing.T) {
	h := &statusHandler{}
	reg := prometheus.NewRegistry()
	m := rpc.NewMetrics(reg)
	addr, _ := serve(t, h, rpc.ServerConfig{Auth: rpc.NewAuth("a secret of the cluster"), Metrics: m})

	for _, c := range []struct {
		name string
		auth *rpc.Auth
		grpc bool
	}{
		{"ttheader unsigned", nil, false},
		{"ttheader other secret", rpc.NewAuth("another secret entirely"), false},
		{"kitex grpc unsigned", nil, true},
		{"kitex grpc other secret", rpc.NewAuth("another secret entirely"), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			cm := rpc.NewMetrics(nil)
			st := kitexClient(t, addr, rpc.ClientConfig{Auth: c.auth, GRPC: c.grpc, Metrics: cm})
			_, err := st.GetChatServer(t.Context(), &message.GetChatServerReq{Uid: 1})
			require.Error(t, err)
			require.True(t, rpc.IsUnauthenticated(err), "%v", err)
			require.False(t, rpc.IsTimeout(err))
			require.False(t, rpc.IsUnreachable(err))
		})
	}
	cc := grpcConn(t, addr)
	invoke := func(md map[string]string) error {
		ctx := metadata.NewOutgoingContext(t.Context(), metadata.New(md))
		return cc.Invoke(ctx, "/message.StatusService/Login", &message.LoginReq{Uid: 7}, &message.LoginRsp{})
	}
	auth, to, body := rpc.NewAuth("a secret of the cluster"), calleeOf(t, cc), encoded(t, &message.LoginReq{Uid: 7})
	signed := auth.Sign(to, "StatusService", "Login", body)
	require.NoError(t, invoke(signed))
	for _, c := range []struct {
		name, want string
		md         map[string]string
	}{
		{"unsigned", "unsigned", nil},
		{"replayed", "replay", signed},
		{"for another method", "signature", auth.Sign(to, "StatusService", "GetChatServer", body)},
		{"for another body", "body", auth.Sign(to, "StatusService", "Login", encoded(t, &message.LoginReq{Uid: 8}))},
		{"other secret", "signature", rpc.NewAuth("another secret entirely").Sign(to, "StatusService", "Login", body)},
		{"no nonce", "malformed", map[string]string{rpc.HeaderTo: to, rpc.HeaderTime: "1", rpc.HeaderSig: "00"}},
		{"for another process", "callee " + to, auth.Sign("another", "StatusService", "Login", body)},
	} {
		t.Run("grpc-go "+c.name, func(t *testing.T) {
			err := invoke(c.md)
			require.Equal(t, codes.Unauthenticated, grpcstatus.Code(err), "%v", err)
			require.True(t, strings.HasSuffix(err.Error(), ": "+c.want), "%v", err)
		})
	}
	require.EqualValues(t, 1, h.calls.Load(), "a refused call reaches no handler")
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP parley_rpc_refused_total Calls whose signature was not accepted, by reason: unsigned, malformed, callee, signature, clock, replay, full, body.
# TYPE parley_rpc_refused_total counter
parley_rpc_refused_total{reason="body"} 1
parley_rpc_refused_total{reason="callee"} 4
parley_rpc_refused_total{reason="malformed"} 1
parley_rpc_refused_total{reason="replay"} 1
parley_rpc_refused_total{reason="signature"} 4
parley_rpc_refused_total{reason="unsigned"} 3
`), "parley_rpc_refused_total"))
}

func TestStopWaitsForCalls(t *testing.T) {
	h := &statusHandler{entered: make(chan struct{}), block: make(chan struct{})}
	addr, stop := serve(t, h, rpc.ServerConfig{})
	st := kitexClient(t, addr, rpc.ClientConfig{Timeout: 10 * time.Second})
	answered := make(chan error, 1)
	go func() {
		_, err := st.GetChatServer(context.Background(), &message.GetChatServerReq{Uid: 1})
		answered <- err
	}()
	<-h.entered
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	require.Eventually(t, func() bool { // it no longer accepts
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	}, time.Minute, 10*time.Millisecond)
	select {
	case <-stopped:
		t.Fatal("Serve returned while a handler ran")
	default:
	}
	close(h.block)
	require.NoError(t, <-answered, "a call that was being answered is answered")
	<-stopped
	ln, err := net.Listen("tcp", addr)
	require.NoError(t, err, "the port is free when Serve has returned")
	require.NoError(t, ln.Close())
}

func TestStopBeforeStart(t *testing.T) {
	s, err := rpc.NewServer(listen(t), rpc.ServerConfig{})
	require.NoError(t, err)
	require.NoError(t, statusservice.RegisterService(s, &statusHandler{}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, s.Serve(ctx))
	_, err = net.DialTimeout("tcp", s.Addr(), time.Second)
	require.Error(t, err)
}

func TestCloseWithoutServe(t *testing.T) {
	s, err := rpc.NewServer(listen(t), rpc.ServerConfig{})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	_, err = net.DialTimeout("tcp", s.Addr(), time.Second)
	require.Error(t, err)
}

func TestClientTimeoutAndDeadPeer(t *testing.T) {
	h := &statusHandler{entered: make(chan struct{}, 8), block: make(chan struct{})}
	addr, stop := serve(t, h, rpc.ServerConfig{})
	reg := prometheus.NewRegistry()
	st := kitexClient(t, addr, rpc.ClientConfig{Timeout: 50 * time.Millisecond, Metrics: rpc.NewMetrics(reg)})
	require.Eventually(t, func() bool { // a busy machine may need the time for the dial alone
		_, err := st.GetChatServer(t.Context(), &message.GetChatServerReq{Uid: 1})
		require.Error(t, err)
		return rpc.IsTimeout(err) && len(h.entered) > 0
	}, time.Minute, time.Millisecond)
	close(h.block)
	stop()
	// A pooled connection may not have noticed the end yet; a call on it fails with another error.
	require.Eventually(t, func() bool {
		_, err := st.GetChatServer(t.Context(), &message.GetChatServerReq{Uid: 1})
		return rpc.IsUnreachable(err)
	}, time.Minute, 10*time.Millisecond)
	families, err := reg.Gather()
	require.NoError(t, err)
	counted := map[string]float64{}
	for _, f := range families {
		if f.GetName() != "parley_rpc_called_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "result" {
					counted[l.GetValue()] = m.GetCounter().GetValue()
				}
			}
		}
	}
	// More on a busy machine, where dials time out too.
	require.Positive(t, counted["timeout"])
	require.Positive(t, counted["unreachable"])
}

func TestServerSurvivesPanicAndUnknownMethod(t *testing.T) {
	reg := prometheus.NewRegistry()
	addr, _ := serve(t, &statusHandler{}, rpc.ServerConfig{Metrics: rpc.NewMetrics(reg)})
	st := kitexClient(t, addr, rpc.ClientConfig{})
	_, err := st.GetChatServer(t.Context(), &message.GetChatServerReq{Uid: 666})
	require.Error(t, err)
	_, err = st.GetChatServer(t.Context(), &message.GetChatServerReq{Uid: 1})
	require.NoError(t, err)
	cc := grpcConn(t, addr)
	require.Error(t, cc.Invoke(t.Context(), "/message.StatusService/Nothing", &message.LoginReq{}, &message.LoginRsp{}))
	require.Error(t, cc.Invoke(t.Context(), "/message.Nobody/Nothing", &message.LoginReq{}, &message.LoginRsp{}))
	want := `
# HELP parley_rpc_served_total Calls answered, by result: ok, timeout, unauthenticated, panic, error.
# TYPE parley_rpc_served_total counter
parley_rpc_served_total{method="GetChatServer",result="ok",service="StatusService"} 1
parley_rpc_served_total{method="GetChatServer",result="panic",service="StatusService"} 1
parley_rpc_served_total{method="unknown",result="error",service="unknown"} 2
`
	// A call is counted shortly after its reply has been written.
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(c, testutil.GatherAndCompare(reg, strings.NewReader(want), "parley_rpc_served_total"))
	}, time.Minute, 5*time.Millisecond)
}

func TestClientClose(t *testing.T) {
	for _, c := range []struct {
		name string
		grpc bool
	}{{"ttheader", false}, {"grpc", true}} {
		t.Run(c.name, func(t *testing.T) {
			h := &statusHandler{entered: make(chan struct{}), block: make(chan struct{})}
			addr, _ := serve(t, h, rpc.ServerConfig{})
			cl := rpc.NewClient(rpc.ClientConfig{GRPC: c.grpc, Timeout: time.Minute}, addr)
			st, err := statusservice.NewClient("status", cl.Options()...)
			require.NoError(t, err)
			failed := make(chan error, 1)
			go func() {
				_, err := st.GetChatServer(context.Background(), &message.GetChatServerReq{Uid: 1})
				failed <- err
			}()
			<-h.entered
			cl.Close()
			require.Error(t, <-failed, "the call under way ends long before its time is up")
			close(h.block)
			_, err = st.Login(t.Context(), &message.LoginReq{Uid: 1})
			require.Error(t, err)
			cl.Close()
		})
	}
}

func TestConnectionLimit(t *testing.T) {
	addr, _ := serve(t, &statusHandler{}, rpc.ServerConfig{MaxConns: 2})
	var kept []net.Conn
	for range 8 {
		c, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		defer c.Close()
		kept = append(kept, c)
	}
	open := func() (n int) {
		for _, c := range kept {
			require.NoError(t, c.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
			if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
				n++
			}
		}
		return n
	}
	for began := time.Now(); open() > 2; { // the rest are closed at once
		require.Less(t, time.Since(began), time.Minute)
	}
	require.Equal(t, 2, open())
}

func TestSpreadsOverAddresses(t *testing.T) {
	a, b := &statusHandler{}, &statusHandler{}
	addrA, _ := serve(t, a, rpc.ServerConfig{})
	addrB, _ := serve(t, b, rpc.ServerConfig{})
	cl := rpc.NewClient(rpc.ClientConfig{}, addrA, addrB)
	defer cl.Close()
	st, err := statusservice.NewClient("status", cl.Options()...)
	require.NoError(t, err)
	for range 100 {
		_, err := st.Login(t.Context(), &message.LoginReq{Uid: 1})
		require.NoError(t, err)
	}
	require.Positive(t, a.calls.Load())
	require.Positive(t, b.calls.Load())
}
