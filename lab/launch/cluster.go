package launch

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// DefaultReadyTimeout bounds the start of each process: two busy cores and the race detector make it long.
const DefaultReadyTimeout = 90 * time.Second

// DefaultStopTimeout is how long Close lets a node drain before it is killed.
const DefaultStopTimeout = 30 * time.Second

// Options says what to start. The zero value starts redis-server and mariadbd and no node.
type Options struct {
	Chat, Status, Gate int // how many of each

	// More ports of chat nodes for clients: for WebSocket, and with a certificate for TLS, for WebSocket under TLS too with
	// both.
	WebSocket bool
	Cert, Key string // files

	Dir      string   // takes configuration, data and logs; must exist; empty: a new temporary one, removed by Close
	Bin      string   // has the binaries of the nodes; empty: Start builds them into Dir/bin
	Race     bool     // build with the race detector; ignored with Bin
	LogLevel string   // of the nodes; empty: info
	Env      []string // added to the environment of the nodes, "NAME=value"; PARLEY_ variables of this process do not reach them

	NoRedis, NoMariaDB bool // start none; then Configure must name another or the nodes will not start
	Redis              RedisOptions
	MariaDB            MariaDBOptions

	// OnRedis is called once, when the empty Redis answers and before any node is started, to put into it what the
	// nodes of a cluster that has run for a while would find.
	OnRedis func(ctx context.Context, addr string) error

	// Configure may change the file of a node before it is written; n has its role, name and addresses, and does not run yet.
	// It is how a test puts a fault proxy into a link: f holds the addresses of Redis, MariaDB and the status node.
	Configure func(n *Node, index int, f *INI) error

	// Through, if not nil, returns the program and its arguments by which a node is started, such as "prlimit",
	// "--nofile=256"; empty for a node that is started directly. The program must end by executing what follows, so that the
	// process id stays that of the node.
	Through func(n *Node, index int) []string

	ReadyTimeout time.Duration // bound of each process's start; 0: DefaultReadyTimeout
	StopTimeout  time.Duration // bound of each node's polite end; 0: DefaultStopTimeout

	Log io.Writer // gets a line for each process started or stopped; nil: nobody
}

// Cluster is a set of running processes. Its slices are fixed after Start; the processes in them may be killed, paused
// and restarted from any goroutine.
type Cluster struct {
	Redis   *Redis   // nil with Options.NoRedis
	MariaDB *MariaDB // nil with Options.NoMariaDB
	Chat    []*Node
	Status  []*Node
	Gate    []*Node

	dir         string
	tmpDir      string // removed by Close
	bin         string
	secret      string
	ports       []port
	http        *http.Client
	stopTimeout time.Duration
	logMu       sync.Mutex // guards log
	log         io.Writer
}

// Start starts what o asks for and returns when all of it is ready: first Redis and MariaDB, then status and chat
// nodes together, then gates. When anything fails, everything is stopped again. ctx bounds the start only.
func Start(ctx context.Context, o Options) (_ *Cluster, err error) {
	if o.ReadyTimeout == 0 {
		o.ReadyTimeout = DefaultReadyTimeout
	}
	if o.StopTimeout == 0 {
		o.StopTimeout = DefaultStopTimeout
	}
	if o.LogLevel == "" {
		o.LogLevel = "info"
	}
	c := &Cluster{
		bin: o.Bin, log: o.Log, stopTimeout: o.StopTimeout, secret: rand.Text() + rand.Text(),
		// Connections are not kept: a paused or restarted node must not be asked over one of its former life.
		http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if c.dir, c.tmpDir, err = ownDir(o.Dir, "parley-cluster-"); err != nil {
		return nil, err
	}
	if err := c.startServers(ctx, &o); err != nil {
		return nil, err
	}
	if err := c.build(ctx, &o); err != nil {
		return nil, err
	}
	if err := c.configure(&o); err != nil {
		return nil, err
	}
	for _, wave := range [][]*Node{slices.Concat(c.Status, c.Chat), c.Gate} {
		if err := c.startNodes(ctx, o.ReadyTimeout, wave); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// startServers starts Redis and MariaDB side by side.
func (c *Cluster) startServers(ctx context.Context, o *Options) error {
	ctx, cancel := context.WithTimeout(ctx, o.ReadyTimeout)
	defer cancel()
	var redisErr, mariaErr error
	var wg sync.WaitGroup
	if !o.NoRedis {
		wg.Go(func() {
			ro := o.Redis
			ro.Dir = c.dir
			if c.Redis, redisErr = StartRedis(ctx, ro); redisErr != nil {
				return
			}
			c.notef("redis: pid %d, %s", c.Redis.Pid(), c.Redis.Addr())
			if o.OnRedis != nil {
				if err := o.OnRedis(ctx, c.Redis.Addr()); err != nil {
					redisErr = fmt.Errorf("launch: prepare redis: %w", err)
				}
			}
		})
	}
	if !o.NoMariaDB {
		wg.Go(func() {
			mo := o.MariaDB
			mo.Dir = c.dir
			if c.MariaDB, mariaErr = StartMariaDB(ctx, mo); mariaErr == nil {
				c.notef("mariadb: pid %d, %s", c.MariaDB.Pid(), c.MariaDB.Addr())
			}
		})
	}
	wg.Wait()
	return errors.Join(redisErr, mariaErr)
}

// build makes the binaries, unless they were given.
func (c *Cluster) build(ctx context.Context, o *Options) error {
	var names []string
	for role, n := range map[Role]int{Chat: o.Chat, Status: o.Status, Gate: o.Gate} {
		if n > 0 {
			names = append(names, string(role))
		}
	}
	if c.bin != "" || len(names) == 0 {
		return nil
	}
	c.bin = filepath.Join(c.dir, "bin")
	if err := os.MkdirAll(c.bin, 0o755); err != nil {
		return err
	}
	slices.Sort(names)
	return Build(ctx, c.bin, o.Race, names...)
}

// configure makes the nodes, status nodes first: the files of the others name them.
func (c *Cluster) configure(o *Options) error {
	for _, kind := range []struct {
		role  Role
		count int
		nodes *[]*Node
	}{{Status, o.Status, &c.Status}, {Chat, o.Chat, &c.Chat}, {Gate, o.Gate, &c.Gate}} {
		for i := range kind.count {
			n, err := c.newNode(kind.role, i, o)
			if err != nil {
				return err
			}
			*kind.nodes = append(*kind.nodes, n)
		}
	}
	return nil
}

// startNodes starts nodes at once and waits for all.
func (c *Cluster) startNodes(ctx context.Context, timeout time.Duration, nodes []*Node) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			begin := time.Now()
			if errs[i] = n.Start(ctx); errs[i] == nil {
				c.notef("%s: pid %d, %s, ops %s, ready in %v", n.Name(), n.Pid(), n.Addr(), n.OpsAddr(),
					time.Since(begin).Round(time.Millisecond))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Close stops everything and waits for it: gates, then chat nodes, then status nodes, then MariaDB and Redis. It
// returns an error for each node that had to be killed or did not end with code 0 at SIGTERM; nodes that had ended
// before are not looked at. Calling it again does nothing.
func (c *Cluster) Close() error {
	var errs []error
	for _, wave := range [][]*Node{c.Gate, c.Chat, c.Status} {
		waveErrs := make([]error, len(wave))
		var wg sync.WaitGroup
		for i, n := range wave {
			if !n.Running() {
				continue
			}
			wg.Go(func() {
				waveErrs[i] = n.stop(c.stopTimeout)
				c.notef("%s: stopped", n.Name())
			})
		}
		wg.Wait()
		errs = append(errs, waveErrs...)
	}
	var redisErr, mariaErr error
	var wg sync.WaitGroup
	if c.Redis != nil {
		wg.Go(func() { redisErr = c.Redis.Close() })
	}
	if c.MariaDB != nil {
		wg.Go(func() { mariaErr = c.MariaDB.Close() })
	}
	wg.Wait()
	errs = append(errs, redisErr, mariaErr)
	for _, p := range c.ports {
		errs = append(errs, p.Close())
	}
	c.ports = nil
	if c.tmpDir != "" {
		errs = append(errs, os.RemoveAll(c.tmpDir))
	}
	return errors.Join(errs...)
}

// Dir holds the configuration, data and log of every process.
func (c *Cluster) Dir() string { return c.dir }

// Secret is what the nodes of this cluster share, for a caller of their RPCs.
func (c *Cluster) Secret() string { return c.secret }

// GateURL is the base URL of the first gate, without a slash at its end. It panics without a gate.
func (c *Cluster) GateURL() string { return "http://" + c.Gate[0].Addr() }

// StatusAddr is host:port of a status node.
func (c *Cluster) StatusAddr(i int) string { return c.Status[i].Addr() }

// RedisAddr is host:port of Redis. It panics with Options.NoRedis.
func (c *Cluster) RedisAddr() string { return c.Redis.Addr() }

// DSN is the data source name of the nodes' schema. It panics with Options.NoMariaDB.
func (c *Cluster) DSN() string { return c.MariaDB.DSN() }

// Nodes lists all nodes: status, chat, gate.
func (c *Cluster) Nodes() []*Node { return slices.Concat(c.Status, c.Chat, c.Gate) }

// Procs lists all processes: Redis, MariaDB, then Nodes.
func (c *Cluster) Procs() []*Proc {
	var procs []*Proc
	if c.Redis != nil {
		procs = append(procs, c.Redis.Proc)
	}
	if c.MariaDB != nil {
		procs = append(procs, c.MariaDB.Proc)
	}
	for _, n := range c.Nodes() {
		procs = append(procs, n.Proc)
	}
	return procs
}

func (c *Cluster) notef(format string, args ...any) {
	if c.log == nil {
		return
	}
	c.logMu.Lock()
	defer c.logMu.Unlock()
	_, _ = fmt.Fprintf(c.log, format+"\n", args...) // progress for a person: nothing depends on it
}
