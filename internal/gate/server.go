package gate

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"parley/internal/certs"
	"parley/internal/config"
	"parley/internal/obs"
	"parley/internal/presence"
	"parley/internal/rpc"
	"parley/internal/store"
	"parley/kitex_gen/message/varifyservice"
	"parley/web"
)

// Deps are the dependencies of a gate. The caller closes them after Run has returned.
type Deps struct {
	Log      *slog.Logger
	Metrics  prometheus.Registerer // nil: registered nowhere
	Store    *store.Store
	Presence *presence.Presence
	Redis    redis.UniversalClient // may be the one that Presence uses
	Mail     Mailer                // nil: the one that Config.Mail selects
	Page     http.Handler          // nil: the chat page, if Config.Gate.Page asks for it
	Reread   <-chan os.Signal      // has the certificate read again, as a change of its files has; may be nil
}

// A Server is one gate. Its methods are safe for concurrent use, but Run may be called only once.
type Server struct {
	// Fixed after New.
	*shared
	api      *api
	accounts *accounts
	logins   *logins
	varify   *varify
	sessions *sessions
	clients  *clients

	conns        *conns
	ln           *listener
	tls          *listener // nil: there is none
	certs        *certs.Files
	reread       <-chan os.Signal
	http         *http.Server
	varifyServer *rpc.Server // nil: VarifyService is not served

	stopping   context.Context // ends when draining begins
	stop       context.CancelFunc
	background sync.WaitGroup // the watch over the certificate
}

// New binds all listeners, so that it fails if a port is taken, and makes the clients. It contacts no other server.
// The caller must call Run or Close.
func New(cfg Config, d Deps) (*Server, error) {
	proxies, err := config.Networks(cfg.Gate.TrustedProxies)
	if err != nil {
		return nil, config.Invalid(fmt.Errorf("gate: [GateServer] TrustedProxies %w", err))
	}
	hashing := hashSlots(cfg.Hash, runtime.GOMAXPROCS(0))
	m := newMetrics(d.Metrics, hashing)
	own := make([]byte, 32)
	_, _ = rand.Read(own) // never fails since Go 1.24
	log := d.Log.With("pkg", "gate")
	c := &shared{
		cfg: cfg, log: log, noise: rate.NewLimiter(5, 20), metrics: m, audit: newAudit(log, own),
		store: d.Store, presence: d.Presence,
	}
	s := &Server{shared: c, clients: newClients(cfg.Cluster.Secret, d.Metrics, log)}
	if s.reread = d.Reread; cfg.Gate.TLSPort != "" {
		if s.certs, err = certs.Open(cfg.TLS.Cert, cfg.TLS.Key); err != nil {
			return nil, config.Invalid(fmt.Errorf("gate: [TLS]: %w", err))
		}
	}
	s.stopping, s.stop = context.WithCancel(context.Background())
	if err := s.makeParts(d, newHasher(cfg.Hash, hashing, m), newProofs(own, cfg.Limits.Remember, rememberedLogins)); err != nil {
		return nil, err
	}
	page := d.Page
	if page == nil && cfg.Gate.Page {
		page = web.Chat(web.Options{})
	}
	s.api = newAPI(c, page, proxies, s.routes())
	if err := s.listen(); err != nil {
		return nil, err
	}
	m.watch(d.Metrics, s.conns)
	return s, nil
}

// makeParts makes the parts that have handlers of routes.
func (s *Server) makeParts(d Deps, h *hasher, recent *proofs) (err error) {
	if s.varify, err = newVarify(s.shared, d, s.clients); err != nil {
		return err
	}
	status, err := s.clients.dialStatus(s.cfg.Status, s.metrics)
	if err != nil {
		return err
	}
	s.logins = newLogins(s.shared, d.Redis, status, h, recent)
	s.sessions = &sessions{shared: s.shared, recent: recent, accounts: s.logins.accounts, clients: s.clients, stopping: s.stopping}
	s.accounts = &accounts{shared: s.shared, hasher: h, varify: s.varify, logins: s.logins, sessions: s.sessions}
	return nil
}

// routes returns the handlers by path.
func (s *Server) routes() map[string]route {
	return map[string]route{
		"/get_varifycode": {"code", s.varify.mailCode},
		"/user_register":  {"register", s.accounts.register},
		"/reset_pwd":      {"reset", s.accounts.reset},
		"/user_login":     {"login", s.logins.login},

		"/change_password": {"change", s.accounts.changePassword},
		"/delete_account":  {"delete", s.accounts.deleteAccount},
	}
}

// listen binds all listeners. A connection serves one request, so a client cannot hold a place in the limits between
// requests; see servePage for the exception.
func (s *Server) listen() (err error) {
	defer func() {
		if err != nil {
			_ = s.Close() // the failure to bind is the one to report
		}
	}()
	s.conns = newConns(s.cfg.Gate.MaxConns, s.cfg.Limits.ConnsPerAddress, s.api.manyBehind, s.metrics.drop)
	if s.conns.proxies, err = config.Networks(s.cfg.Gate.ProxyFrom); err != nil {
		return config.Invalid(fmt.Errorf("gate: [GateServer] ProxyFrom %w", err))
	}
	if s.ln, err = s.conns.listen(s.cfg.Gate.Addr()); err != nil {
		return config.Dependency(fmt.Errorf("gate: %w", err))
	}
	if s.certs != nil {
		if s.tls, err = s.conns.listen(s.cfg.Gate.tlsAddr()); err != nil {
			return config.Dependency(fmt.Errorf("gate: %w", err))
		}
	}
	if err = s.listenVarify(); err != nil {
		return config.Dependency(err)
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true) // the limits count connections, of one request each; HTTP/2 has many on one
	s.http = &http.Server{
		Handler:           s.api,
		Protocols:         &protocols,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout, // covers all of the request; readBody removes it
		IdleTimeout:       idleTimeout,
		WriteTimeout:      readTimeout + requestTimeout + 5*time.Second,
		// net/http reads 4 KiB beyond the limit before it refuses.
		MaxHeaderBytes: maxHeaderBytes - 4096,
		ConnContext:    withConn,
		ConnState:      watchState,
		ErrorLog:       slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),

		DisableGeneralOptionsHandler: true, // it would keep the connection
	}
	return nil
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
		Name: "gatenode", Log: s.log, Auth: s.clients.auth, Metrics: s.clients.metrics, ExitWait: s.cfg.Gate.DrainTimeout,
	})
	if err != nil {
		_ = ln.Close() // report the first error
		return fmt.Errorf("gate: VarifyService: %w", err)
	}
	s.varifyServer = srv
	if err := varifyservice.RegisterService(srv, &varifyService{s.varify}); err != nil {
		return fmt.Errorf("gate: VarifyService: %w", err)
	}
	return nil
}

// Addr returns the address of the HTTP listener, host:port.
func (s *Server) Addr() string { return s.ln.Addr().String() }

// TLSAddr returns the address of the HTTPS listener, host:port, or "" if there is none.
func (s *Server) TLSAddr() string {
	if s.tls == nil {
		return ""
	}
	return s.tls.Addr().String()
}

// VarifyAddr returns the address of VarifyService, host:port, or "" if it is not served.
func (s *Server) VarifyAddr() string {
	if s.varifyServer == nil {
		return ""
	}
	return s.varifyServer.Addr()
}

// Checks returns the health checks of the gate's dependencies, for its operations listener. "status" fails also if
// the status servers refuse the gate's signature.
func (s *Server) Checks() []obs.Check {
	sql, redis := s.store.NewWriteProbe(), s.presence.NewWriteProbe()
	return []obs.Check{
		{Name: "sql", Probe: sql.Check},
		{Name: "redis", Probe: redis.Check},
		{Name: "status", Probe: s.logins.status.ping},
		obs.Descriptors(),
	}
}

// Close releases a server that was never run. After Run it has no effect.
func (s *Server) Close() error {
	s.stop()
	var errs []error
	for _, ln := range []*listener{s.ln, s.tls} {
		if ln == nil {
			continue
		}
		if err := ln.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if s.varifyServer != nil {
		errs = append(errs, s.varifyServer.Close())
	}
	s.clients.close()
	return errors.Join(errs...)
}

// Run serves until ctx ends, and then drains: it stops accepting, waits for requests in flight for at most
// DrainTimeout, and returns nil. It returns early with the error of a listener that fails.
func (s *Server) Run(ctx context.Context) error {
	s.announce()
	// VarifyService must outlive the requests in flight, because they may call it through another program.
	lasting, stopLasting := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLasting()
	broken := make(chan error, 3)
	start := func(group *sync.WaitGroup, serve func() error) {
		group.Go(func() {
			if err := serve(); err != nil && !errors.Is(err, http.ErrServerClosed) {
				broken <- fmt.Errorf("gate: %w", err)
			}
		})
	}
	var serving sync.WaitGroup
	if s.varifyServer != nil {
		start(&serving, func() error { return s.varifyServer.Serve(lasting) })
	}
	start(&serving, func() error { return s.http.Serve(s.ln) })
	if s.tls != nil {
		s.background.Go(func() { s.certs.Watch(s.stopping, s.reread, s.certs.Report(s.log)) })
		start(&serving, func() error { return s.http.Serve(tls.NewListener(s.tls, s.certs.Config("http/1.1"))) })
	}

	var err error
	select {
	case <-ctx.Done():
		s.log.Info("draining", "limit", s.cfg.Gate.DrainTimeout.String())
	case err = <-broken:
	}
	s.drain(ctx)
	stopLasting()
	serving.Wait()
	s.background.Wait() // this and the next end soon after the drain begins
	s.sessions.background.Wait()
	s.clients.close()
	s.log.Info("stopped")
	return err
}

// drain refuses new requests and waits for those in flight, first for the grace period, then after cutting them off.
func (s *Server) drain(ctx context.Context) {
	s.stop()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Gate.DrainTimeout)
	defer cancel()
	if err := s.http.Shutdown(grace); err != nil {
		s.log.Warn("drain timed out; requests cut off")
		_ = s.http.Close() // these requests are lost anyway
	}
	// A handler outlives its connection, and the caller closes its dependencies after Run. So cancel the handlers and
	// wait for them.
	s.api.cutOff()
	if n := s.api.flights.wait(cutTimeout); n > 0 {
		s.log.Error("requests still running", "n", n)
	}
}

// flights counts the requests in flight. A sync.WaitGroup would not do, because requests may begin while drain waits.
type flights struct {
	mu   sync.Mutex // guards the following
	n    int
	idle chan struct{} // closed when n falls to 0; nil while no goroutine waits
}

func (f *flights) add(d int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n += d
	if f.n == 0 && f.idle != nil {
		close(f.idle)
		f.idle = nil
	}
}

// wait waits until no request is left or limit has passed, and returns the number of requests left.
func (f *flights) wait(limit time.Duration) int {
	f.mu.Lock()
	idle := make(chan struct{})
	if f.n == 0 {
		close(idle)
	} else {
		f.idle = idle
	}
	f.mu.Unlock()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-idle:
	case <-timer.C:
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

// announce logs the settings that an operator wants to see at startup.
func (s *Server) announce() {
	s.log.Info("gate listening", "addr", s.Addr(), "tls", s.TLSAddr(), "varify", s.VarifyAddr(), "status", s.cfg.Status.addrs())
	switch {
	case s.cfg.external():
		s.log.Info("another server mails the verification codes", "addr", s.cfg.Varify.Addr())
	case s.cfg.Mail.Mode == "console":
		s.log.Warn("verification codes are printed instead of mailed: for development only")
	}
	if s.cfg.Cluster.Secret == "" {
		s.log.Warn("no [Cluster] Secret: RPC is unauthenticated, and verification codes in Redis are readable")
	}
}
