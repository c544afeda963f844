package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/cloudwego/kitex/pkg/endpoint"
	"github.com/cloudwego/kitex/pkg/limiter"
	"github.com/cloudwego/kitex/pkg/remote/codec"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/pkg/serviceinfo"
	"github.com/cloudwego/kitex/pkg/stats"
	"github.com/cloudwego/kitex/pkg/transmeta"
	"github.com/cloudwego/kitex/server"
)

const (
	// DefaultExitWait is how long a stopping server waits for its calls in flight.
	DefaultExitWait = 5 * time.Second
	// DefaultMaxConns bounds a server's connections. Each peer pools a handful.
	DefaultMaxConns = 4096
	// MaxMessageBytes bounds a TTHeader message in either direction. Parley's largest is a batch of 64 KiB of bodies.
	MaxMessageBytes = 4 << 20
	// maxStreams bounds the calls in flight on one gRPC connection.
	maxStreams = 1024
)

// ServerConfig configures a Server. The zero value serves without authentication and metrics.
type ServerConfig struct { // of the node; appears in Kitex's messages
	Name     string // of the node, for Kitex's messages
	Log      *slog.Logger
	Auth     *Auth
	Metrics  *Metrics
	ExitWait time.Duration // 0: DefaultExitWait
	MaxConns int           // 0: DefaultMaxConns; more are closed at once
}

// A Server is a Kitex server for any number of services. Pass it to the generated RegisterService functions, then
// call Serve. Callers must not use the embedded Run and Stop.
type Server struct {
	server.Server
	ln       *listener
	auth     *Auth
	log      *slog.Logger
	exit     chan error
	exitWait time.Duration
	calls    *inFlight
}

// NewServer returns a Server that takes over ln, a *net.TCPListener. It serves nothing before Serve. It logs a
// warning if there is no secret and ln is not on loopback.
func NewServer(ln net.Listener, c ServerConfig) (*Server, error) {
	silence()
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.ExitWait == 0 {
		c.ExitWait = DefaultExitWait
	}
	if c.MaxConns == 0 {
		c.MaxConns = DefaultMaxConns
	}
	l, err := newListener(ln)
	if err != nil {
		return nil, err
	}
	if tcp, ok := l.Addr().(*net.TCPAddr); c.Auth == nil && ok && !tcp.IP.IsLoopback() {
		c.Log.Warn("rpc: no [Cluster] Secret: RPC is unauthenticated, and its listener is not on loopback",
			"addr", l.Addr().String())
	}
	s := &Server{ln: l, auth: c.Auth, log: c.Log, exit: make(chan error, 1), exitWait: c.ExitWait, calls: &inFlight{}}
	opts := []server.Option{
		server.WithListener(l),
		server.WithServerBasicInfo(&rpcinfo.EndpointBasicInfo{ServiceName: c.Name}),
		server.WithExitSignal(func() <-chan error { return s.exit }),
		server.WithExitWaitTime(c.ExitWait),
		server.WithMetaHandler(transmeta.ServerTTHeaderHandler),
		// Not WithLimit: its rate limiter has a goroutine that never ends, also when no rate is set.
		server.WithConnectionLimiter(limiter.NewConnectionLimiter(c.MaxConns)),
		server.WithCodec(codec.NewDefaultCodecWithSizeLimit(MaxMessageBytes)),
		server.WithGRPCMaxConcurrentStreams(maxStreams),
		server.WithMiddleware(c.Auth.serverMiddleware(c.Metrics)),
		server.WithMiddleware(s.calls.middleware),
	}
	if c.Metrics != nil {
		opts = append(opts, server.WithStatsLevel(stats.LevelBase),
			server.WithTracer(tracer{c.Metrics.served, c.Metrics.servedSeconds}))
	}
	s.Server = server.NewServer(opts...)
	return s, nil
}

// RegisterService is called by the generated RegisterService functions.
func (s *Server) RegisterService(info *serviceinfo.ServiceInfo, handler any, opts ...server.RegisterOption) error {
	if s.auth != nil {
		info = withDigests(info)
	}
	return s.Server.RegisterService(info, handler, opts...)
}

// Addr returns the bound address, host:port.
func (s *Server) Addr() string { return s.ln.Addr().String() }

// Serve serves until ctx ends. Then it stops accepting, tells callers to go elsewhere, and waits for the calls in
// flight, up to the exit wait. When it returns, the port is free and no handler runs, except for calls that outlasted
// the wait, which are logged. It returns nil after ctx has ended. It may be called once. While it runs, the log lines
// of Kitex and netpoll go to the server's log, unless RouteLogs or an earlier server claims them.
func (s *Server) Serve(ctx context.Context) error {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-ctx.Done():
		case <-done:
			return
		}
		// Wait until it listens: a server stopped before that would start afterwards and never stop.
		select {
		case <-s.ln.serving:
		case <-done:
			return
		}
		s.exit <- nil
	})
	defer lendLogs(s.log)()
	err := s.Server.Run()
	close(done)
	wg.Wait()
	if rerr := s.ln.Release(); err == nil {
		err = rerr
	}
	if n := s.calls.wait(s.exitWait); n > 0 {
		s.log.Warn("rpc: calls still running after the exit wait", "n", n, "dur", s.exitWait)
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("rpc: serve on %s: %w", s.Addr(), err)
	}
	return nil
}

// Close frees the port if Serve was never called.
func (s *Server) Close() error { return s.ln.Release() }

// inFlight counts the calls being handled.
type inFlight struct {
	mu   sync.Mutex
	n    int
	idle chan struct{} // closed when n falls to 0; nil while no goroutine waits
}

func (f *inFlight) middleware(next endpoint.Endpoint) endpoint.Endpoint {
	return func(ctx context.Context, req, resp any) error {
		f.add(1)
		defer f.add(-1)
		return next(ctx, req, resp)
	}
}

func (f *inFlight) add(d int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n += d
	if f.n == 0 && f.idle != nil {
		close(f.idle)
		f.idle = nil
	}
}

// wait waits until no call is left or limit has passed, and returns the number of calls left.
func (f *inFlight) wait(limit time.Duration) int {
	f.mu.Lock()
	if f.n == 0 {
		f.mu.Unlock()
		return 0
	}
	idle := make(chan struct{})
	f.idle = idle
	f.mu.Unlock()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-idle:
		return 0
	case <-t.C:
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}
