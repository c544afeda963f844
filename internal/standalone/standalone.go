// Package standalone is a whole Parley cluster in one process: gate, status server and chat nodes over an embedded Redis
// and an SQLite file. It is for trying Parley and for developing against it; what it stores lasts, what Redis holds
// (sessions, tokens, codes) ends with the process, as it may.
package standalone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"parley/internal/chat"
	"parley/internal/config"
	"parley/internal/gate"
	"parley/internal/memredis"
	"parley/internal/obs"
	"parley/internal/presence"
	"parley/internal/status"
	"parley/internal/store"
	"parley/internal/store/sqlite"
	"parley/web"
)

// Options adjust a cluster. DefaultOptions is the place to start from.
type Options struct {
	// Data is the directory of the database; it is made if there is none. Empty: a temporary one that Close removes.
	Data string
	// Host is the address of every listener.
	Host string
	// Ports; the chat nodes count up from theirs. 0 takes free ones.
	GatePort, VarifyPort, StatusPort, ChatPort, WSPort, RPCPort, OpsPort int
	// Cert and Key are [TLS] of the gate and of all chat nodes: files in PEM, read again when they change. With them the gate takes
	// HTTPS and the nodes take clients by TLS too, on the ports below, which count up as those above do.
	Cert, Key                     string
	GateTLSPort, TLSPort, WSSPort int
	// Reread returns, for each of them, what has the files read again at once. Nil: nothing has.
	Reread func() <-chan os.Signal
	// ProxyFrom is that of the gate and of the chat nodes.
	ProxyFrom []string
	// Nodes is how many chat nodes run, 1 to 16.
	Nodes int
	// Demo makes two users who are friends, if they do not exist.
	Demo bool
	// Crowd is how many users for load tests are made, with uids from CrowdFirst and friends in pairs.
	Crowd int
	Log   *slog.Logger
	// Codes is where verification codes are printed, because this cluster sends no mail.
	Codes io.Writer
}

// DefaultOptions is two chat nodes on the loopback, on the ports of the README.
func DefaultOptions() Options {
	return Options{
		Data: "data", Host: "127.0.0.1", Nodes: 2, Demo: true,
		GatePort: 8080, VarifyPort: 15051, StatusPort: 15052, ChatPort: 8090, WSPort: 8110, RPCPort: 15055, OpsPort: 9090,
		GateTLSPort: 8443, TLSPort: 8130, WSSPort: 8150,
		Log: slog.New(slog.DiscardHandler), Codes: io.Discard,
	}
}

// LocalOptions is DefaultOptions on free ports with throw-away data, for tests.
func LocalOptions() Options {
	o := DefaultOptions()
	o.Data = ""
	o.GatePort, o.VarifyPort, o.StatusPort, o.ChatPort, o.WSPort, o.RPCPort, o.OpsPort = 0, 0, 0, 0, 0, 0, 0
	o.GateTLSPort, o.TLSPort, o.WSSPort = 0, 0, 0
	return o
}

// Cluster is a running cluster. Its methods are safe for concurrent use.
type Cluster struct {
	opt     Options
	dir     string // to be removed by Close; "" keeps the data
	redis   *memredis.Redis
	rdb     redis.UniversalClient
	store   *store.Store
	pr      *presence.Presence
	ops     *obs.Ops
	gate    *gate.Server
	status  *status.Server
	chats   []*chat.Server
	closers []func() error // in the order of opening

	stop context.CancelFunc
	wg   sync.WaitGroup

	mu  sync.Mutex // guards the following
	err error
}

// Start runs a cluster. It returns when the gate can place users and the chat nodes know each other; ctx bounds that, and nothing
// later. Close ends it.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if o.Nodes < 1 || o.Nodes > 16 {
		return nil, config.Usage(fmt.Errorf("standalone: %d chat nodes, want 1 to 16", o.Nodes))
	}
	if (o.Cert == "") != (o.Key == "") {
		return nil, config.Usage(errors.New("standalone: a certificate needs its key, and a key its certificate"))
	}
	if o.Reread == nil {
		o.Reread = func() <-chan os.Signal { return nil }
	}
	c := &Cluster{opt: o}
	err := c.open(ctx)
	if err == nil {
		err = c.serve(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// open starts the stores and binds every listener.
func (c *Cluster) open(ctx context.Context) error {
	o := &c.opt
	c.dir = o.Data
	if o.Data == "" {
		dir, err := os.MkdirTemp("", "parley-")
		if err != nil {
			return fmt.Errorf("standalone: %w", err)
		}
		c.dir = dir
		c.onClose(func() error { return os.RemoveAll(dir) })
	} else {
		release, err := openData(o.Data)
		if err != nil {
			return err
		}
		c.onClose(release)
	}
	reg := obs.NewRegistry("standalone")

	var err error
	if c.store, err = sqlite.OpenWithMetrics(ctx, filepath.Join(c.dir, "parley.db"), reg); err != nil {
		return fmt.Errorf("standalone: %w", err)
	}
	c.onClose(c.store.Close)
	if err := c.store.Prepare(ctx, o.Log, store.Demands{}); err != nil {
		return fmt.Errorf("standalone: %w", err)
	}
	if err := c.openRedis(ctx, reg); err != nil {
		return err
	}
	checks := []obs.Check{
		{Name: "redis", Probe: c.pr.NewWriteProbe().Check}, {Name: "sql", Probe: c.store.NewWriteProbe().Check}, obs.Descriptors(),
	}
	if c.ops, err = obs.ListenOps(c.addr(o.OpsPort, 0), o.Log, reg, checks); err != nil {
		return fmt.Errorf("standalone: %w", err)
	}
	c.onClose(c.ops.Close)
	return c.openNodes(reg)
}

func (c *Cluster) openRedis(ctx context.Context, reg prometheus.Registerer) error {
	c.redis = memredis.New(append(presence.Embedded(), gate.Embedded()...)...)
	c.rdb = c.redis.Client()
	c.onClose(c.rdb.Close)
	// A Redis that lost its data keeps logins waiting until all nodes have written their sessions back. This one is new.
	if err := presence.SeedGeneration(ctx, c.rdb); err != nil {
		return fmt.Errorf("standalone: embedded redis: %w", err)
	}
	c.pr = presence.New(c.rdb, presence.Options{Metrics: reg})
	c.onClose(func() error { c.pr.Close(); return nil })
	return nil
}

func (c *Cluster) openNodes(reg prometheus.Registerer) error {
	o := &c.opt
	node := func(name string) prometheus.Registerer {
		return prometheus.WrapRegistererWith(prometheus.Labels{"node": name}, reg)
	}
	var err error
	st := status.LocalConfig()
	st.Status.Host, st.Status.Port = o.Host, o.StatusPort
	if c.status, err = status.New(st, status.Deps{Log: o.Log.With("node", "status1"), Metrics: node("status1"), Presence: c.pr}); err != nil {
		return fmt.Errorf("standalone: %w", err)
	}
	c.onClose(c.status.Close)
	c.status.ServeOps(c.ops)
	for i := range o.Nodes {
		cfg := chat.LocalConfig("chat" + strconv.Itoa(i+1))
		cfg.SelfServer.Host = o.Host
		cfg.SelfServer.Port, cfg.SelfServer.WSPort = strconv.Itoa(port(o.ChatPort, i)), strconv.Itoa(port(o.WSPort, i))
		cfg.SelfServer.RPCPort = port(o.RPCPort, i)
		if o.Cert != "" {
			cfg.TLS = config.TLS{Cert: o.Cert, Key: o.Key}
			cfg.SelfServer.TLSPort, cfg.SelfServer.WSSPort = strconv.Itoa(port(o.TLSPort, i)), strconv.Itoa(port(o.WSSPort, i))
		}
		cfg.SelfServer.ProxyFrom = o.ProxyFrom
		cfg.Limits.CommitShards = 1 // SQLite has one writer
		cfg.Limits.DrainTimeout = 3 * time.Second
		n, err := chat.New(cfg, chat.Deps{
			Log: o.Log.With("node", cfg.SelfServer.Name), Metrics: node(cfg.SelfServer.Name), Store: c.store, Presence: c.pr,
			Reread: o.Reread(),
		})
		if err != nil {
			return fmt.Errorf("standalone: %w", err)
		}
		c.chats = append(c.chats, n)
		c.onClose(n.Close)
	}
	g := gate.LocalConfig()
	g.Gate.Host, g.Gate.Port, g.Gate.VarifyAddr = o.Host, o.GatePort, c.addr(o.VarifyPort, 0)
	g.Gate.ProxyFrom = o.ProxyFrom
	g.Status.Addrs = []string{c.status.Addr()}
	if o.Cert != "" {
		g.TLS, g.Gate.TLSPort = config.TLS{Cert: o.Cert, Key: o.Key}, strconv.Itoa(o.GateTLSPort)
	}
	mail, err := gate.NewMailer(g.Mail, o.Codes)
	if err != nil {
		return fmt.Errorf("standalone: %w", err)
	}
	c.gate, err = gate.New(g, gate.Deps{
		Log: o.Log.With("node", "gate1"), Metrics: node("gate1"), Store: c.store, Presence: c.pr, Redis: c.rdb, Mail: mail, Reread: o.Reread(),
		Page: web.Chat(web.Options{Demo: c.demoUsers()}),
	})
	if err != nil {
		return fmt.Errorf("standalone: %w", err)
	}
	c.onClose(c.gate.Close)
	return nil
}

// serve runs every node and waits until users can be placed.
func (c *Cluster) serve(ctx context.Context) error {
	run, stop := context.WithCancel(context.Background())
	c.stop = stop
	if c.opt.Demo {
		if err := c.makeDemo(ctx); err != nil {
			return err
		}
	}
	if c.opt.Crowd > 0 {
		if err := c.makeCrowd(ctx, c.opt.Crowd); err != nil {
			return err
		}
	}
	c.goRun(run, "operations listener", c.ops.Run)
	c.goRun(run, "embedded redis", c.redis.Run)
	c.goRun(run, "status server", c.status.Run)
	for _, n := range c.chats {
		c.goRun(run, "chat node", n.Run)
	}
	c.goRun(run, "gate", c.gate.Run)
	for {
		nodes, err := c.pr.Nodes.Read(ctx)
		live := 0
		for _, n := range nodes {
			if n.Live {
				live++
			}
		}
		if live == len(c.chats) {
			for _, n := range c.chats {
				n.LinkNodes()
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("standalone: waiting for %d chat nodes, %d are up: %w", len(c.chats), live, errors.Join(ctx.Err(), err, c.Err()))
		case <-run.Done():
			return c.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// goRun runs one node; one that fails ends all.
func (c *Cluster) goRun(ctx context.Context, what string, run func(context.Context) error) {
	c.wg.Go(func() {
		if err := run(ctx); err != nil {
			c.mu.Lock()
			c.err = errors.Join(c.err, fmt.Errorf("standalone: %s: %w", what, err))
			c.mu.Unlock()
			c.stop()
		}
	})
}

// Wait returns when ctx ends or a node has failed; then it returns why.
func (c *Cluster) Wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() { c.wg.Wait(); close(done) }()
	select {
	case <-ctx.Done():
		return nil
	case <-done:
		return c.Err()
	}
}

// Err returns why the cluster failed, nil while it has not.
func (c *Cluster) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close drains the nodes and returns when all is closed; temporary data is removed. It may be called again.
func (c *Cluster) Close() error {
	if c.stop != nil {
		c.stop()
	}
	c.wg.Wait()
	var errs []error
	for i := len(c.closers) - 1; i >= 0; i-- {
		errs = append(errs, c.closers[i]())
	}
	c.closers = nil
	return errors.Join(errs...)
}

func (c *Cluster) onClose(f func() error) { c.closers = append(c.closers, f) }

// GateURL is where accounts and logins are, and the chat page.
func (c *Cluster) GateURL() string { return "http://" + c.GateAddr() }

// GateAddr is the gate's listener, host:port.
func (c *Cluster) GateAddr() string { return c.gate.Addr() }

// GateTLSAddr is the gate's listener for HTTPS, host:port, or "" without a certificate.
func (c *Cluster) GateTLSAddr() string { return c.gate.TLSAddr() }

// StatusAddr is where StatusService answers, host:port.
func (c *Cluster) StatusAddr() string { return c.status.Addr() }

// OpsAddr is the operations listener, host:port.
func (c *Cluster) OpsAddr() string { return c.ops.Addr() }

// Chats are the chat nodes.
func (c *Cluster) Chats() []*chat.Server { return c.chats }

// DataDir is where the database is.
func (c *Cluster) DataDir() string { return c.dir }

func (c *Cluster) addr(p, i int) string {
	return net.JoinHostPort(c.opt.Host, strconv.Itoa(port(p, i)))
}

func port(first, i int) int {
	if first == 0 {
		return 0
	}
	return first + i
}
