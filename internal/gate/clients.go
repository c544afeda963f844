package gate

import (
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"parley/internal/rpc"
	"parley/kitex_gen/message/statusservice"
	"parley/kitex_gen/message/varifyservice"
)

// clients are the RPC clients of a gate. They connect with their first call.
type clients struct {
	auth     *rpc.Auth
	metrics  *rpc.Metrics
	standing *rpc.Standing
	open     []*rpc.Client
}

func newClients(secret string, reg prometheus.Registerer, log *slog.Logger) *clients {
	return &clients{auth: rpc.NewAuth(secret), metrics: rpc.NewMetrics(reg), standing: rpc.NewStanding(log)}
}

// dial returns a client that close closes.
func (c *clients) dial(cfg rpc.ClientConfig, addr string) *rpc.Client {
	cfg.Auth, cfg.Metrics, cfg.Standing = c.auth, c.metrics, c.standing
	cl := rpc.NewClient(cfg, addr)
	c.open = append(c.open, cl)
	return cl
}

// dialStatus makes the clients of the status servers.
func (c *clients) dialStatus(cfg Status, m *metrics) (*statusPool, error) {
	pool := &statusPool{timeout: cfg.Timeout, metrics: m}
	for _, addr := range cfg.addrs() {
		cl := c.dial(rpc.ClientConfig{Timeout: cfg.Timeout, MaxIdle: 64}, addr)
		status, err := statusservice.NewClient("statusnode", cl.Options()...)
		if err != nil {
			return nil, fmt.Errorf("gate: status client: %w", err)
		}
		pool.servers = append(pool.servers, statusServer{addr, status})
	}
	return pool, nil
}

// dialVarify makes the client of the external VarifyServer.
func (c *clients) dialVarify(addr string) (varifyservice.Client, error) {
	cl := c.dial(rpc.ClientConfig{Timeout: externalTimeout, GRPC: true}, addr)
	external, err := varifyservice.NewClient("VarifyServer", cl.Options()...)
	if err != nil {
		return nil, fmt.Errorf("gate: varify client: %w", err)
	}
	return external, nil
}

func (c *clients) close() {
	for _, cl := range c.open {
		cl.Close()
	}
}
