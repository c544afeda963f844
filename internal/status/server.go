// Package status is the status node: it tells the gate which chat node a user should log in to, and creates the token for
// it. It has no state: live nodes, their load and the tokens are in Redis, so any number of status nodes may run.
package status

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/internal/config"
	"parley/internal/obs"
	"parley/internal/ops"
	"parley/internal/overview"
	"parley/internal/presence"
	"parley/internal/rpc"
	"parley/kitex_gen/message/nodeservice"
	"parley/kitex_gen/message/statusservice"
	"parley/web"
)

const (
	// viewEvery is how often the leases of the nodes are read.
	viewEvery = time.Second / 2
	// operateTimeout bounds a call to a chat node on behalf of an operator, if its context does not end it before.
	operateTimeout = 5 * time.Second
)

// Deps are what a status node works with. They stay the caller's to close, after Run has returned.
type Deps struct {
	Log      *slog.Logger
	Metrics  prometheus.Registerer // nil registers nowhere
	Presence *presence.Presence
}

// Server is one status node. Run may be called once; the other methods are safe for concurrent use.
type Server struct {
	cfg      Config
	log      *slog.Logger
	presence *presence.Presence
	auth     *rpc.Auth
	standing *rpc.Standing
	rpc      *rpc.Server
	overview *overview.Overview
}

// New binds the listener, so that a taken port fails here. It does not wait for Redis. The caller must call Run or Close.
func New(cfg Config, d Deps) (*Server, error) {
	s := &Server{cfg: cfg, log: d.Log.With("pkg", "status"), presence: d.Presence, auth: rpc.NewAuth(cfg.Cluster.Secret)}
	s.standing = rpc.NewStanding(s.log)
	s.overview = overview.New(overview.Deps{Log: s.log, View: s.presence.Nodes.View, Dial: s.dial})
	ln, err := rpc.Listen(cfg.Status.Addr())
	if err != nil {
		return nil, config.Dependency(fmt.Errorf("status: %w", err))
	}
	s.rpc, err = rpc.NewServer(ln, rpc.ServerConfig{
		Name: cfg.Status.Name, Log: s.log, Auth: s.auth, Metrics: rpc.NewMetrics(d.Metrics),
		ExitWait: cfg.Status.DrainTimeout,
	})
	if err != nil {
		_ = ln.Close() // the first error is the one to report
		return nil, fmt.Errorf("status: %w", err)
	}
	handler := newService(s.log, newMetrics(d.Metrics, d.Presence.Nodes), d.Presence)
	if err := statusservice.RegisterService(s.rpc, handler); err != nil {
		_ = s.rpc.Close()
		return nil, fmt.Errorf("status: %w", err)
	}
	return s, nil
}

// Addr is where StatusService is served, host:port.
func (s *Server) Addr() string { return s.rpc.Addr() }

// Checks are what the node depends on, for its operations listener. "peers" fails while most of the chat nodes refuse this
// node's signature: they would refuse the gate's too if it shared this node's secret and clock.
func (s *Server) Checks() []obs.Check {
	return []obs.Check{
		{Name: "redis", Probe: s.presence.NewWriteProbe().Check},
		{Name: "peers", Probe: func(context.Context) error { return s.standing.Err() }},
		obs.Descriptors(),
	}
}

// ServeOps adds the cluster's API and its page to an operations listener. It must be called before the listener runs.
func (s *Server) ServeOps(o *obs.Ops) {
	s.overview.ServeOps(o)
	o.Handle("GET /", web.Dashboard())
}

// dial returns a chat node as operators use it.
func (s *Server) dial(addr string) (ops.Node, func(), error) {
	transport := rpc.NewClient(rpc.ClientConfig{Auth: s.auth, Standing: s.standing, MaxIdle: 1, Timeout: operateTimeout}, addr)
	node, err := nodeservice.NewClient("chatnode", transport.Options()...)
	if err != nil {
		transport.Close()
		return nil, nil, err
	}
	return ops.Calling(node), transport.Close, nil
}

// rpcPeers are the addresses of the live chat nodes.
func (s *Server) rpcPeers() (addrs []string) {
	for _, n := range s.presence.Nodes.View().Nodes() {
		if n.Live && n.RPCAddr != "" {
			addrs = append(addrs, n.RPCAddr)
		}
	}
	return addrs
}

// Close gives up a server that was never run.
func (s *Server) Close() error { return s.rpc.Close() }

// Run waits for Redis, at most StartTimeout, and serves until ctx ends; then it answers the calls it has begun, at most
// for DrainTimeout. It returns when all its goroutines have ended: nil after ctx ended, and config.Dependency's error
// when Redis never answered.
func (s *Server) Run(ctx context.Context) error {
	if err := s.awaitRedis(ctx); err != nil {
		_ = s.Close() // the first error is the one to report
		return err
	}
	watch, stop := context.WithCancel(context.WithoutCancel(ctx)) // placements go on while the node drains
	var wg sync.WaitGroup
	wg.Go(func() { s.presence.Nodes.Watch(watch, viewEvery, s.noteNodes()) })
	wg.Go(func() { s.overview.Run(watch) })
	wg.Go(func() { s.standing.Ask(watch, s.cfg.Status.Name, s.auth, s.rpcPeers) })
	s.log.Info("status node ready", "addr", s.Addr())
	wg.Go(func() {
		select {
		case <-ctx.Done():
			s.log.Info("draining")
		case <-watch.Done():
		}
	})
	err := s.rpc.Serve(ctx)
	stop()
	wg.Wait()
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	return nil
}

// awaitRedis returns nil too when ctx ends.
func (s *Server) awaitRedis(ctx context.Context) error {
	limit := time.NewTimer(s.cfg.Status.StartTimeout)
	defer limit.Stop()
	retry := time.NewTicker(250 * time.Millisecond)
	defer retry.Stop()
	for told := false; ; told = true {
		err := s.presence.Ping(ctx)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		if !told {
			s.log.Warn("redis does not answer yet", "err", obs.ErrorClass(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-limit.C:
			return config.Dependency(fmt.Errorf("status: redis: %w", err))
		case <-retry.C:
		}
	}
}

// noteNodes returns a function that logs which chat nodes came and went since it was last called.
func (s *Server) noteNodes() func(*presence.View) {
	state := map[string]string{}
	return func(v *presence.View) {
		for _, n := range v.Nodes() {
			now := "up"
			switch {
			case !n.Live:
				now = "down"
			case n.Draining:
				now = "draining"
			}
			if before, known := state[n.Name]; before != now && (known || now != "down") {
				s.log.Info("chat node "+now, "peer", n.Name, "addr", n.ClientAddr)
			}
			state[n.Name] = now
		}
		for name, before := range state {
			if _, ok := v.Node(name); !ok {
				if before != "down" {
					s.log.Info("chat node left", "peer", name)
				}
				delete(state, name)
			}
		}
	}
}
