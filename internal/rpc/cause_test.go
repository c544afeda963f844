package rpc_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/rpc"
	"parley/kitex_gen/message"
	"parley/kitex_gen/message/varifyservice"
)

// quoting answers every call with an error that quotes the request.
type quoting struct{}

func (*quoting) GetVarifyCode(_ context.Context, req *message.GetVarifyReq) (*message.GetVarifyRsp, error) {
	return nil, errors.New("cannot mail to " + req.Email)
}

func TestCauseSaysWhyACallFailed(t *testing.T) {
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	silent := listen(t) // the kernel accepts connections that are never read
	defer silent.Close()
	status, _ := serve(t, &statusHandler{}, rpc.ServerConfig{Name: "status"})
	srv, err := rpc.NewServer(listen(t), rpc.ServerConfig{Name: "varify"})
	require.NoError(t, err)
	require.NoError(t, varifyservice.RegisterService(srv, &quoting{}))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx) }()
	defer func() {
		cancel()
		require.NoError(t, <-done)
	}()
	none := listen(t)
	require.NoError(t, none.Close())

	for _, tc := range []struct {
		name, addr string
		timeout    time.Duration
		want       []string // part of the cause by TTHeader, by gRPC
	}{
		{"nobody listens", none.Addr().String(), 0, []string{"dial tcp " + none.Addr().String(), "dial tcp " + none.Addr().String()}},
		{"a web server", web.Listener.Addr().String(), 0, []string{"invalid payload", ""}},
		{"no answer", silent.Addr().String(), 50 * time.Millisecond, []string{"timeout=50ms", "timeout=50ms"}},
		{"another service", status, time.Minute, []string{"does not serve this call (error 20)", "does not serve this call (gRPC status 20)"}},
		{"a handler that fails", srv.Addr(), time.Minute, []string{"error 6", "gRPC status 13 (Internal)"}},
		{"a name without an address", net.JoinHostPort("nobody.invalid", "1"), 0, []string{"look up nobody.invalid", "look up nobody.invalid"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for i, grpc := range []bool{false, true} {
				cl := rpc.NewClient(rpc.ClientConfig{GRPC: grpc, Timeout: tc.timeout}, tc.addr)
				defer cl.Close()
				c, err := varifyservice.NewClient("varify", cl.Options()...)
				require.NoError(t, err)
				_, err = c.GetVarifyCode(t.Context(), &message.GetVarifyReq{Email: "alice@example.com"})
				require.Error(t, err)
				require.Contains(t, rpc.Cause(err), tc.want[i])
				require.NotContains(t, rpc.Cause(err), "alice")
			}
		})
	}
}
