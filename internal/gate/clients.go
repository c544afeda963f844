package gate

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"parley/internal/rpc"
	"parley/kitex_gen/message/statusservice"
	"parley/kitex_gen/message/varifyservice"
)

// dialNodes makes the clients of the status servers and of the external VarifyServer. They connect with their first
// call.
func (s *Server) dialNodes(reg prometheus.Registerer) error {
	s.auth = rpc.NewAuth(s.cfg.Cluster.Secret)
	s.rpcMetrics = rpc.NewMetrics(reg)
	s.standing = rpc.NewStanding(s.log)
	s.status = &statusPool{timeout: s.cfg.Status.Timeout, metrics: s.metrics}
	for _, addr := range s.cfg.Status.addrs() {
		c := s.client(rpc.ClientConfig{Timeout: s.cfg.Status.Timeout, MaxIdle: 64}, addr)
		status, err := statusservice.NewClient("statusnode", c.Options()...)
		if err != nil {
			return fmt.Errorf("gate: status client: %w", err)
		}
		s.status.servers = append(s.status.servers, statusServer{addr, status})
	}
	if !s.cfg.external() {
		return nil
	}
	c := s.client(rpc.ClientConfig{Timeout: externalTimeout, GRPC: true}, s.cfg.Varify.Addr())
	external, err := varifyservice.NewClient("VarifyServer", c.Options()...)
	if err != nil {
		return fmt.Errorf("gate: varify client: %w", err)
	}
	s.external = external
	return nil
}

// client returns a transport that is closed with the server.
func (s *Server) client(c rpc.ClientConfig, addr string) *rpc.Client {
	c.Auth, c.Metrics, c.Standing = s.auth, s.rpcMetrics, s.standing
	cl := rpc.NewClient(c, addr)
	s.transports = append(s.transports, cl)
	return cl
}

// listenVarify makes the server of VarifyService, unless another program provides it.
func (s *Server) listenVarify() error {
	if s.cfg.external() || s.cfg.Gate.VarifyAddr == "" {
		return nil
	}
	ln, err := rpc.Listen(s.cfg.Gate.VarifyAddr)
	if err != nil {
		return fmt.Errorf("gate: VarifyService: %w", err)
	}
	srv, err := rpc.NewServer(ln, rpc.ServerConfig{
		Name: "gatenode", Log: s.log, Auth: s.auth, Metrics: s.rpcMetrics, ExitWait: s.cfg.Gate.DrainTimeout,
	})
	if err != nil {
		_ = ln.Close() // report the first error
		return fmt.Errorf("gate: VarifyService: %w", err)
	}
	s.varify = srv
	if err := varifyservice.RegisterService(srv, &varifyService{s}); err != nil {
		return fmt.Errorf("gate: VarifyService: %w", err)
	}
	return nil
}
