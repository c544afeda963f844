package gate

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/rpc"
	"parley/kitex_gen/message/statusservice"
)

// A2: a gate whose signature all status servers refuse is not ready, and says why.
func TestNotReadyWhileStatusServersRefuseTheSignature(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv, err := rpc.NewServer(ln, rpc.ServerConfig{Auth: rpc.NewAuth("another secret of a cluster")})
	require.NoError(t, err)
	require.NoError(t, statusservice.RegisterService(srv, &fakeStatus{}))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })

	f := newFixture(t, func(c *Config) {
		c.Cluster.Secret = "the secret of this cluster"
		c.Status.Addrs = []string{srv.Addr()}
	})
	res, err := http.Get("http://" + f.ops.Addr() + "/readyz")
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	require.Contains(t, string(body), "refuses this node's signature: its [Cluster] Secret is another")
	require.Contains(t, f.logs.String(), "a peer refuses this node's signature")
}
