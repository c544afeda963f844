// Package chat is the chat node: it makes the parts that serve clients and other nodes, joins them, and runs and drains them.
//
// The way of a frame: internal/clientconn takes it off the socket and sends it to internal/login, to its handler in
// internal/handler or, a text, to internal/commit. What comes out goes through internal/router to internal/session, here or
// on a peer.
package chat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudwego/netpoll"
	"github.com/prometheus/client_golang/prometheus"

	"parley/internal/admission"
	"parley/internal/batch"
	"parley/internal/certs"
	"parley/internal/clientconn"
	"parley/internal/commit"
	"parley/internal/config"
	"parley/internal/delivery"
	"parley/internal/ending"
	"parley/internal/handler"
	"parley/internal/history"
	"parley/internal/legacy"
	"parley/internal/login"
	"parley/internal/mark"
	"parley/internal/membership"
	"parley/internal/moving"
	"parley/internal/obs"
	"parley/internal/operate"
	"parley/internal/ops"
	"parley/internal/outbox"
	"parley/internal/presence"
	"parley/internal/reconcile"
	"parley/internal/rpc"
	"parley/internal/session"
	"parley/internal/slots"
	"parley/internal/store"
	"parley/internal/textrate"
	"parley/internal/transport"
	"parley/internal/users"
	"parley/internal/wire"
	"parley/internal/workers"
	"parley/kitex_gen/message/chatservice"
	"parley/kitex_gen/message/nodeservice"
)

// Deps is what a node works with. The store and presence stay the caller's to close, after Run has returned.
type Deps struct {
	Log      *slog.Logger
	Metrics  prometheus.Registerer // nil: registered nowhere
	Store    *store.Store
	Presence *presence.Presence
	// Reread has the certificate read again, as a change of its files has. May be nil.
	Reread <-chan os.Signal
	// Reconcile is how often sessions are compared with Redis; the zero value means reconcile.DefaultConfig.
	Reconcile reconcile.Config
}

// Server is one chat node. New makes it, Run serves.
type Server struct {
	// Fixed after New.
	cfg      Config
	log      *slog.Logger
	store    *store.Store
	presence *presence.Presence
	metrics  *metrics

	registry  *session.Registry
	commits   *commit.Committer
	marks     *mark.Marks
	delivery  *delivery.Delivery
	service   *delivery.Service // what other nodes call
	lease     *membership.Member
	janitor   *ending.Janitor
	ender     *ending.Ender
	wheel     *legacy.Wheel
	admission *admission.Table
	turns     *slots.Slots // of logins
	logins    *login.Logins
	users     *users.Users
	texts     *textrate.Limiter
	handlers  map[wire.MsgID]handler.Handler // what a logged-in client may ask, in the serial queue
	rpc       *rpc.Server
	rpcAuth   *rpc.Auth
	rpcStats  *rpc.Metrics
	standing  *rpc.Standing
	clients   listeners
	certs     *certs.Files     // nil without TLS
	reread    <-chan os.Signal // has the certificate read again; nil: it is when its files change
	conns     *clientconn.Conns
	// kicker ends sessions elsewhere that a login here replaces, reconciler those here that Redis gives to others.
	kicker     *reconcile.Kicker
	reconciler *reconcile.Reconciler
	// mover sends clients to other nodes, others chooses these, operator answers those who run the cluster.
	mover    *moving.Mover
	others   otherNodes
	operator *operate.Operator

	ctx  context.Context // of handlers; ends when the drain is over
	stop context.CancelFunc
	ran  atomic.Bool
	// workers run what needs a goroutine for a moment: a login, queued requests, a flush. Run waits for them.
	workers *workers.Workers
}

// restingWorkers is how many goroutines keep their stacks for what comes next: as many as logins are under way at once by
// default. The collector shrinks the stacks of those that rest.
const restingWorkers = 256

// tuneNetpoll is process-wide: netpoll drops a connection's read buffer when it is idle only if the buffer may be larger
// than 8,192 bytes. An idle connection costs 2.9 KiB with it, 11.6 KiB without.
var tuneNetpoll = sync.OnceValue(func() error { return netpoll.Configure(netpoll.Config{BufferSize: 8193}) })

// New binds the node's listeners, so that a taken port fails here, before anything runs.
func New(cfg Config, d Deps) (*Server, error) {
	if err := tuneNetpoll(); err != nil {
		return nil, fmt.Errorf("chat: netpoll: %w", err)
	}
	if err := wire.Pretouch(); err != nil {
		return nil, fmt.Errorf("chat: %w", err)
	}
	proxies, err := config.Networks(cfg.SelfServer.ProxyFrom)
	if err != nil {
		return nil, config.Invalid(fmt.Errorf("chat: [SelfServer] ProxyFrom %w", err))
	}
	ctx, stop := context.WithCancel(context.Background())
	mine := prometheus.NewRegistry() // what the operators of this node see
	d.Metrics = ops.Also(mine, d.Metrics)
	s := &Server{
		cfg: cfg, log: d.Log.With("pkg", "chat"), store: d.Store, presence: d.Presence,
		registry: session.NewRegistry(), wheel: legacy.NewWheel(legacy.Spacing{Frame: cfg.Limits.StockSpacing, Text: cfg.Limits.StockTextSpacing}),
		others: otherNodes{self: cfg.SelfServer.Name, view: d.Presence.Nodes.View},
		ctx:    ctx, stop: stop,
	}
	s.workers = workers.New(restingWorkers, s.panicked)
	s.reread = d.Reread
	if cfg.TLS.Cert != "" {
		var err error
		if s.certs, err = certs.Open(cfg.TLS.Cert, cfg.TLS.Key); err != nil {
			stop()
			return nil, config.Invalid(fmt.Errorf("chat: [TLS]: %w", err))
		}
	}
	s.turns = slots.New(cfg.Limits.LoginsAtOnce, cfg.Limits.Unauthenticated)
	s.admission = admission.New(admissionLimits(&cfg.Limits))
	s.metrics = newMetrics(d.Metrics, s)
	s.users = users.New(users.Deps{
		Log: s.log, Store: s.store.Users, Cache: s.presence.Cache, Timeout: cfg.Limits.RequestTimeout,
		Loads: s.metrics.loads, LoadSeconds: s.metrics.loadSeconds, Panics: s.metrics.panics,
	})
	s.janitor = ending.NewJanitor(s.log, s.presence.Sessions, s.metrics.releasesLost,
		func(uids []int32) { s.delivery.Watch.Changed(uids...) })
	s.texts = textrate.New(cfg.Limits.TextRate, cfg.Limits.TextBurst, textrate.Deps{
		Log: s.log, Node: cfg.SelfServer.Name, Boot: func() string { return s.lease.Boot() }, Locate: d.Presence.Sessions.Locate,
		Alive: func(node, boot string) bool { return d.Presence.Nodes.View().Alive(node, boot) }, Release: s.janitor.Release,
		Hurried: s.metrics.releasesHurried,
	})
	s.ender = ending.New(ending.Deps{
		Log: s.log, Node: cfg.SelfServer.Name, Registry: s.registry, Texts: s.texts, Janitor: s.janitor, NextNode: s.others.next,
		Left:     func(sess *session.Session) { s.delivery.Groups.Leave(sess); s.delivery.Watch.Leave(sess) },
		Replaced: s.metrics.replaced, Stale: s.metrics.stale,
	})
	slow, err := ending.GoodbyeFrame(wire.CodeSlowConsumer, "slow consumer", ending.RetryAfter, "")
	if err != nil {
		return nil, fmt.Errorf("chat: goodbye: %w", err)
	}
	limits := &session.Limits{
		Limits: outbox.Limits{
			Bytes: cfg.Limits.OutboxBytes, ReplyBytes: replyBytes(&cfg.Limits), WriteTimeout: cfg.Limits.WriteTimeout,
			Go: s.workers.Go, OnGap: s.metrics.gaps.Inc,
		},
		Linger: cfg.Limits.Linger, SlowFrame: slow,
		OnSlow:      func(sess *session.Session) { s.metrics.slow.Inc(); s.ender.Leave(sess) },
		OnPassed:    s.metrics.passed.Inc,
		OnWriteFail: func(*session.Session, error) { s.metrics.writeFailures.Inc() },
	}
	s.reconciler = reconcile.New(d.reconcileConfig(), reconcile.Deps{
		Log: d.Log, Metrics: d.Metrics, Sessions: d.Presence.Sessions, Registry: s.registry,
		Entry: s.ender.Entry, End: func(uid int32, sid string) { s.ender.Kick(uid, sid) }, Deleted: func(uid int32) { s.delivery.Watch.Deleted(uid) }, Release: s.janitor.Release, Missed: s.found,
	})
	if err := s.listen(d); err != nil {
		stop()
		return nil, err
	}
	s.delivery = delivery.New(seedDelivery(delivery.Deps{
		Log: s.log, Metrics: d.Metrics, Node: cfg.SelfServer.Name, Boot: s.lease.Boot, Groups: s.store.Groups, Presence: s.presence,
		Watch: watchConfig(&cfg.Limits), Rights: s.store.Visibility,
		Registry: s.registry, Settled: s.lease.Settled,
		Dial:    delivery.Dialer(rpc.ClientConfig{Auth: s.rpcAuth, Metrics: s.rpcStats, Standing: s.standing, Timeout: peerTimeout}),
		Context: ctx, Go: s.workers.Go, History: s.store.Messages.History, Reload: s.reload,
		Member: func(ctx context.Context, thread int64, uid int32) (bool, error) {
			_, ok, err := history.Readable(ctx, s.store, thread, uid, false)
			return ok, err
		},
		Refilled: s.metrics.refilled, RefillsGivenUp: s.metrics.refillsGivenUp,
	}))
	s.mover = s.newMover()
	s.operator = s.newOperator(mine)
	if err := s.serveNodes(); err != nil {
		stop()
		s.delivery.Close()
		return nil, err
	}
	s.kicker = reconcile.NewKicker(reconcile.KickerDeps{
		Log: d.Log, Metrics: d.Metrics, Nodes: d.Presence.Nodes, Sessions: d.Presence.Sessions, Peers: s.delivery.Peers, Link: s.delivery.LinkNodes, Fence: d.Store.Fence.Forbid,
	})
	s.logins = login.New(login.Config{
		LoginTimeout: cfg.Limits.LoginTimeout, RequestTimeout: cfg.Limits.RequestTimeout, StockTimeout: cfg.Limits.StockTimeout,
		Heartbeat: cfg.Limits.Heartbeat, InFlightTexts: cfg.Limits.InFlightTexts,
	}, login.Deps{
		Log: s.log, Context: ctx, Node: cfg.SelfServer.Name, Store: s.store, Presence: s.presence, Users: s.users,
		Registry: s.registry, Texts: s.texts, Lease: s.lease, Ender: s.ender, Janitor: s.janitor, Kicker: s.kicker, Turns: s.turns,
		Deliver: s.delivery.Router.Deliver, TellElsewhere: s.delivery.TellElsewhere, Static: s.delivery.Peers.Static,
		OtherNode: s.others.any, Groups: s.delivery.Groups, Moved: func(uid int32) { s.delivery.Watch.Changed(uid) },
		Wheel: s.wheel, Stock: &s.metrics.legacy,
		Granted: s.metrics.logins, Unheard: s.metrics.loginsUnheard, Abandoned: s.metrics.abandoned, Refused: s.metrics.loginsRefused,
		Seconds: s.metrics.loginSeconds, HandlerSeconds: s.metrics.handlerSeconds,
	})
	s.marks = mark.New(mark.DefaultConfig(), mark.Deps{
		Log: d.Log, Metrics: d.Metrics, Store: d.Store.Marks, Deliver: s.delivery.Router.Deliver,
	})
	s.handlers = handler.New(handler.Deps{
		Log: s.log, Node: cfg.SelfServer.Name, Boot: s.lease.Boot, Store: s.store, Presence: s.presence, Users: s.users,
		Registry: s.registry, Ender: s.ender, Kicker: s.kicker, Deliver: s.delivery.Router.Deliver, Groups: s.delivery.Groups, Marks: s.marks,
		Watch: s.delivery.Watch, TypingDropped: s.metrics.typingDropped,
		Fenced: s.lease.NoteFenced, MaxFrameBytes: cfg.Limits.MaxFrameBytes, RecallWindow: cfg.Limits.RecallWindow,
		EditWindow: cfg.Limits.EditWindow, ApplicationsUntold: s.metrics.applicationsUntold, UnknownIDs: s.metrics.unknownIDs,
	})
	s.conns = clientconn.New(connConfig(&cfg, s.certs, proxies), clientconn.Deps{
		Log: s.log, Context: ctx, Go: s.workers.Go, Session: limits, Threads: s.store.Threads, Texts: s.texts, Admission: s.admission, Ender: s.ender,
		Append:   func(r *commit.Request) error { return s.commits.Append(r) },
		Login:    func(c *clientconn.Conn, body []byte) { s.logins.Login(c, &c.Session, body) },
		Handlers: s.handlers, Metrics: s.metrics.conns(),
	})
	s.commits = commit.New(commitConfig(cfg.Limits), seedBugs(commit.Deps{
		Log: d.Log, Metrics: d.Metrics, Store: d.Store.Messages, Rights: d.Store.Rights, Node: cfg.SelfServer.Name,
		Boot: s.lease.Boot, Deliver: s.delivery.Router.Deliver, Publish: s.delivery.Groups.Publish, Fenced: s.lease.NoteFenced,
	}, d.Store.Fence))
	return s, nil
}

// listen binds the listeners of clients and of RPC and, from their ports, makes the lease.
func (s *Server) listen(d Deps) error {
	self := &s.cfg.SelfServer
	var err error
	if s.clients, err = listenClients(&s.cfg); err != nil {
		return config.Dependency(fmt.Errorf("chat: client listener: %w", err))
	}
	ln, err := rpc.Listen(self.RPCListenAddr())
	if err != nil {
		return config.Dependency(errors.Join(fmt.Errorf("chat: RPC listener: %w", err), s.clients.Close()))
	}
	s.rpcAuth, s.rpcStats = rpc.NewAuth(s.cfg.Cluster.Secret), rpc.NewMetrics(d.Metrics)
	s.standing = rpc.NewStanding(s.log)
	s.rpc, err = rpc.NewServer(ln, rpc.ServerConfig{Name: self.Name, Log: d.Log, Auth: s.rpcAuth, Metrics: s.rpcStats})
	if err != nil {
		return fmt.Errorf("chat: RPC server: %w", errors.Join(err, ln.Close(), s.clients.Close()))
	}
	s.lease = s.newMember(presence.Lease{
		Name: self.Name, ClientAddr: s.clients.addr(wire.TCP), RPCAddr: self.RPCAddr(portOf(ln.Addr())),
		Web:     presence.Web{TLS: s.clients.addr(wire.TLS), WS: s.clients.addr(wire.WS), WSS: s.clients.addr(wire.WSS)},
		Version: obs.Version(), StartedMS: time.Now().UnixMilli(),
	})
	return nil
}

func (s *Server) newMember(mine presence.Lease) *membership.Member {
	return membership.New(mine, membership.Deps{
		Log: s.log, Lease: s.presence.Leases, Fence: seedFence(s.store.Fence),
		Hello: func(ctx context.Context, addr string) (name, boot string, err error) {
			return s.delivery.Peers.Hello(ctx, addr)
		},
		Sessions:      s.registry.Live,
		EndSessions:   func() { s.ender.All(wire.CodeUnavailable, "node was fenced off") },
		LostData:      func() { s.reconciler.Rewrite(); s.delivery.Groups.Rewrite(); s.delivery.Watch.All() },
		Mailbox:       s.reconciler,
		LeaseFailures: s.metrics.leaseFailures, FenceFailures: s.metrics.fenceFailures, Fenced: s.metrics.fenced,
	})
}

// ClientAddr is where clients are told to connect, RPCAddr where peers are, host:port.
func (s *Server) ClientAddr() string { return s.lease.Lease().ClientAddr }

// Address is where clients are told to connect by a transport, host:port or a URL; "" if the node does not offer it.
func (s *Server) Address(via wire.Transport) string { return s.clients.addr(via) }

// RPCAddr is where peers and foreign callers reach the node.
func (s *Server) RPCAddr() string { return s.lease.Lease().RPCAddr }

// Sessions returns how many users are logged in here.
func (s *Server) Sessions() int { return s.registry.Live() }

// Run takes the node's place in the cluster and serves until ctx ends or the node may not go on; then it drains within
// Limits.DrainTimeout. It returns when all its goroutines have ended, and may be called once.
func (s *Server) Run(ctx context.Context) error {
	s.ran.Store(true)
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	fail := func(err error) {
		if err != nil {
			cancel(err)
		}
	}
	// Background work goes on while the node drains; it ends with this context.
	back, stopBack := context.WithCancel(context.WithoutCancel(ctx))
	var accepting, serving, background sync.WaitGroup

	serving.Go(func() { fail(s.rpc.Serve(back)) })
	joined, err := s.join(inner)
	if cause := context.Cause(inner); !joined && err == nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	if joined {
		s.log.Info("chat node ready", "clients", s.ClientAddr(), "rpc", s.RPCAddr())
		background.Go(func() { s.presence.Nodes.Watch(back, viewEvery, s.seeNodes) })
		background.Go(func() { fail(s.lease.KeepLease(back)) })
		background.Go(func() { s.lease.KeepFence(back) })
		background.Go(func() { s.kicker.Run(back) })
		background.Go(func() { s.reconciler.Run(back) })
		background.Go(func() { s.sweep(back) })
		background.Go(func() { s.wheel.Run(back) })
		background.Go(func() { s.standing.Ask(back, s.cfg.SelfServer.Name, s.rpcAuth, s.others.rpcAddrs) })
		background.Go(func() { s.trim(back, trimEvery) })
		background.Go(func() { s.users.Run(back) })
		background.Go(func() { s.janitor.Run(back) })
		background.Go(func() { s.texts.Run(back) })
		if s.certs != nil {
			background.Go(func() { s.certs.Watch(back, s.reread, s.certs.Report(s.log)) })
		}
		for _, l := range s.clients {
			accepting.Go(func() { fail(l.Serve(s.accepting(l.via))) })
		}
		<-inner.Done()
		if cause := context.Cause(inner); !errors.Is(cause, context.Canceled) {
			err = cause
		}
		s.drain()
	}
	s.commits.Close()
	s.marks.Close()
	s.stop()
	_ = s.clients.Close() // its only error is that it is closed
	accepting.Wait()
	s.conns.Close()
	s.workers.Close()
	s.texts.Close()
	stopBack()
	background.Wait()
	s.delivery.Close()
	last, done := context.WithTimeout(context.Background(), 2*time.Second)
	defer done()
	s.lease.Drop(last)
	serving.Wait()
	return err
}

// joinPatience is how long a starting node waits for Redis and SQL.
const joinPatience = 5 * time.Second

// join waits for Redis and SQL, then takes the lease. It reports whether it did; it does not, without an error, when ctx
// ends first.
func (s *Server) join(ctx context.Context) (bool, error) {
	for _, p := range s.cfg.PeerServer.Nodes {
		if p.Name == s.cfg.SelfServer.Name {
			return false, config.Invalid(fmt.Errorf("chat: [PeerServer] lists this node itself, %q", p.Name))
		}
		if err := s.delivery.Peers.AddStatic(p.Name, p.Addr()); err != nil {
			return false, config.Invalid(err)
		}
	}
	var err error
	for began := time.Now(); time.Since(began) < joinPatience; {
		if err = s.lease.Join(ctx); err == nil || config.ExitCode(err) == config.ExitDependency {
			return err == nil, err
		}
		s.log.Warn("cannot join the cluster yet", "err", err)
		select {
		case <-ctx.Done():
			return false, nil
		case <-time.After(250 * time.Millisecond):
		}
	}
	return false, config.Dependency(fmt.Errorf("chat: join the cluster: %w", err))
}

// inLine is how many logins wait for their turn, for each that is being worked on, before accepting rests.
const inLine = 2

func (s *Server) accepting(via wire.Transport) transport.Deps {
	return transport.Deps{
		Log: s.log, Context: s.ctx, Pause: s.admission.Pause,
		Welcome: func(fd int, from netip.Addr) { s.conns.Welcome(fd, from, via) },
		Crowded: func() bool { return s.turns.Waiting() >= inLine*s.cfg.Limits.LoginsAtOnce },
		Rests:   s.metrics.acceptRests, Failures: s.metrics.acceptFailures,
	}
}

// serveNodes registers what other nodes may call.
func (s *Server) serveNodes() error {
	s.service = delivery.NewService(delivery.ServiceDeps{
		Delivery: s.delivery, Boot: s.lease.Boot, Texts: s.texts, Kick: s.ender.Kick, Replace: s.ender.Replace,
		Operate: s.operator.Serve, Profile: s.users.Profile, Timeout: s.cfg.Limits.RequestTimeout, Delivered: s.metrics.delivered,
	})
	if err := errors.Join(nodeservice.RegisterService(s.rpc, s.service), chatservice.RegisterService(s.rpc, s.service)); err != nil {
		return fmt.Errorf("chat: RPC server: %w", errors.Join(err, s.rpc.Close(), s.clients.Close()))
	}
	return nil
}

// seeNodes takes a change of the other nodes' leases.
func (s *Server) seeNodes(v *presence.View) {
	s.delivery.LinkNodes()
	s.delivery.Watch.Lives(v.Nodes())
}

// LinkNodes links the nodes that are alive by the latest view of the leases. The node does so by itself within a second.
func (s *Server) LinkNodes() { s.delivery.LinkNodes() }

// found takes a session whose place in Redis was lost, or in doubt, and is not any more.
func (s *Server) found(sess *session.Session) {
	s.delivery.MayHaveMissed(sess)
	s.delivery.Watch.Changed(sess.UID())
}

// reload ends a native session that does not understand a 2104, when nobody can say what it has missed.
func (s *Server) reload(sess *session.Session) {
	s.ender.Goodbye(sess, wire.CodeTooFarBehind, "texts were missed", 0)
}

// panicked reports a panic on one of the workers. It costs what it was about, not the node.
func (s *Server) panicked(p *batch.Panic) {
	s.metrics.panics.Inc()
	s.log.Error("panic in a goroutine", "err", p.Value, "stack", string(p.Stack))
}

// Close gives the ports back when Run was never called. After Run it does nothing.
func (s *Server) Close() error {
	if s.ran.Swap(true) {
		return nil
	}
	s.commits.Close()
	s.marks.Close()
	s.stop()
	s.delivery.Close()
	return errors.Join(s.rpc.Close(), s.clients.Close())
}
