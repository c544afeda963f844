// Package local starts and stops a cluster for a load test on this machine: either the standalone binary, which needs
// nothing else, or real nodes with redis-server and mariadbd. It also executes the steps of a fault plan.
package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"parley/bench/seed"
	"parley/internal/certs"
	"parley/internal/wire"
	"parley/lab/faultproxy"
	"parley/lab/launch"
)

// Node is a process of a layout.
type Node struct {
	Name string
	Ops  string // host:port of its operations listener; "" for a database
	Proc *launch.Proc
}

// Layout is a running cluster with users.
type Layout struct {
	Name     string // as shown in the report
	Gate     string // URL
	Status   []string
	Secret   string
	FirstUID int32
	Users    int
	Stores   *seed.Place // nil: embedded, so other processes cannot open them
	Nodes    []Node
	close    func() error
	links    map[string]*faultproxy.Proxy
	Dir      string // logs and configuration
	CA       []byte // of the certificate of nodes with TLS, in PEM
	certs    string // directory of the certificate; "": there is none
}

// Close stops all processes.
func (l *Layout) Close() error { return l.close() }

// Logs returns, for each node, the end of its log if it mentions an error or a panic.
func (l *Layout) Logs() map[string]string {
	out := map[string]string{}
	for _, n := range l.Nodes {
		text := n.Proc.Log()
		if strings.Contains(text, "panic") || strings.Contains(text, `"ERROR"`) {
			out[n.Name] = text
		}
	}
	return out
}

// programs returns the directory of the named programs: bin if given; else the directory of this program, if they are
// there; else one in the user's cache, into which they are built from the sources around the working directory.
func programs(ctx context.Context, bin string, log io.Writer, names ...string) (string, error) {
	if bin != "" {
		if missing := absent(bin, names); missing != "" {
			return "", fmt.Errorf("--bin: there is no %s in %s; make build makes it", missing, bin)
		}
		return bin, nil
	}
	if self, err := Self(); err == nil && absent(filepath.Dir(self), names) == "" {
		return filepath.Dir(self), nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "parley-bench", "bin")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	say(log, "building "+strings.Join(names, ", "))
	if err := launch.Build(ctx, dir, false, names...); err != nil {
		return "", fmt.Errorf("%w; --bin names a directory that has %s", err, strings.Join(names, ", "))
	}
	return dir, nil
}

// absent returns the first of the named files that a directory lacks, or "".
func absent(dir string, names []string) string {
	for _, name := range names {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.IsDir() {
			return name
		}
	}
	return ""
}

// Self returns the path of this program, to run it again as a worker or a server. It fails in a test binary, which would run its
// tests again, and so on without end.
func Self() (string, error) {
	path, err := os.Executable()
	if err == nil && strings.HasSuffix(path, ".test") {
		return "", fmt.Errorf("bench: %s is a test and cannot be started as a part of bench: run a built bench", filepath.Base(path))
	}
	return path, err
}

// Standalone starts the whole cluster in one process with embedded stores. bin is the directory of the program; see
// Options.
func Standalone(ctx context.Context, bin string, nodes, users int, log io.Writer) (*Layout, error) {
	bin, err := programs(ctx, bin, log, "standalone")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "parley-bench-")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "standalone.log")
	l := &Layout{Name: fmt.Sprintf("standalone, %d chat nodes in one process, SQLite", nodes), FirstUID: seed.FirstUID, Users: users, Dir: dir}
	p := launch.NewProgram(launch.ProgramOptions{
		Name: "standalone", Path: filepath.Join(bin, "standalone"), LogPath: path,
		Args: []string{
			"--free-ports", "--data", filepath.Join(dir, "data"), "--demo=false",
			"--nodes", strconv.Itoa(nodes), "--crowd", strconv.Itoa(users),
		},
		Ready: func(context.Context) error {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return l.readGreeting(string(text))
		},
	})
	say(log, "starting standalone with "+strconv.Itoa(users)+" users")
	start, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	l.close = func() error {
		stop, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_, err := p.Terminate(stop)
		if errors.Is(err, launch.ErrNotRunning) {
			err = nil
		}
		return errors.Join(err, p.Kill(), os.RemoveAll(dir))
	}
	if err := p.Start(start); err != nil {
		return nil, errors.Join(err, l.close())
	}
	l.Nodes[0].Proc = p
	return l, nil
}

var (
	greetGate   = regexp.MustCompile(`(?m)^\s+gate\s+(http://\S+)`)
	greetStatus = regexp.MustCompile(`(?m)^\s+status\s+(\S+:\d+)`)
	greetOps    = regexp.MustCompile(`(?m)^\s+operations\s+http://([^/\s]+)/`)
)

func (l *Layout) readGreeting(text string) error {
	gate, status, ops := greetGate.FindStringSubmatch(text), greetStatus.FindStringSubmatch(text), greetOps.FindStringSubmatch(text)
	if gate == nil || status == nil || ops == nil || !strings.Contains(text, "Ctrl-C") {
		return errors.New("has not said where it listens yet")
	}
	l.Gate, l.Status = gate[1], []string{status[1]}
	l.Nodes = []Node{{Name: "standalone", Ops: ops[1]}}
	return nil
}

// Options describe a layout of real processes.
type Options struct {
	Bin         string // directory of the nodes' programs; "": beside this one, or built
	Chat, Users int
	Transports  []wire.Transport // how clients connect, besides TCP
	Drain       time.Duration    // [Limits] DrainTimeout of the chat nodes; 0: the default
	Cold        bool             // leave the caches of profiles and lists empty
	Faults      []Fault          // links named here get a proxy
	Log         io.Writer
	Progress    func(step string, done, of int)
}

// Cluster starts redis-server, mariadbd, a gate, a status node and chat nodes, and creates the users.
func Cluster(ctx context.Context, o Options) (*Layout, error) {
	if err := launch.Missing(); err != nil {
		return nil, fmt.Errorf("%w; --standalone needs neither", err)
	}
	bin, err := programs(ctx, o.Bin, o.Log, "chatnode", "statusnode", "gatenode")
	if err != nil {
		return nil, err
	}
	say(o.Log, "starting redis-server, mariadbd, a gate, a status node and "+strconv.Itoa(o.Chat)+" chat nodes")
	l := &Layout{links: map[string]*faultproxy.Proxy{}}
	web, cert, key, err := l.transports(o.Transports)
	if err != nil {
		return nil, err
	}
	c, err := launch.Start(ctx, launch.Options{
		WebSocket: web, Cert: cert, Key: key,
		Chat: o.Chat, Status: 1, Gate: 1, Bin: bin, LogLevel: "warn", OnRedis: seed.Generation, Log: o.Log,
		MariaDB: launch.MariaDBOptions{BufferPool: "512M", Args: []string{"--innodb-log-file-size=512M", "--max-connections=2000"}},
		Configure: func(n *launch.Node, _ int, f *launch.INI) error {
			if n.Role() == launch.Chat {
				f.Set("Limits", "HeartbeatRate", "0") // the load has few users that send as many heartbeats as they can
				if o.Drain > 0 {
					f.Set("Limits", "DrainTimeout", o.Drain.String())
				}
			}
			return l.addLinks(n.Name(), o.Faults, f)
		},
	})
	if err != nil {
		return nil, errors.Join(err, l.closeLinks(), os.RemoveAll(l.certs))
	}
	*l = Layout{
		links: l.links, certs: l.certs, CA: l.CA,
		Name: fmt.Sprintf("local, %d chat nodes, redis-server, mariadbd", o.Chat), Gate: c.GateURL(), Status: []string{c.StatusAddr(0)},
		Secret: c.Secret(), FirstUID: seed.FirstUID, Users: o.Users, Dir: c.Dir(),
	}
	l.close = func() error { return errors.Join(c.Close(), l.closeLinks(), os.RemoveAll(l.certs)) }
	l.Nodes = append(l.Nodes, Node{Name: "redis", Proc: c.Redis.Proc}, Node{Name: "mariadb", Proc: c.MariaDB.Proc})
	for _, n := range c.Nodes() {
		l.Nodes = append(l.Nodes, Node{n.Name(), n.OpsAddr(), n.Proc})
	}
	redis, err := seed.RedisAt(c.RedisAddr())
	if err == nil {
		say(o.Log, "seeding "+strconv.Itoa(o.Users)+" users")
		l.Stores = &seed.Place{DSN: c.DSN(), Redis: redis}
		err = seed.Run(ctx, seed.Options{DSN: c.DSN(), Redis: redis, Users: o.Users, Cold: o.Cold, Progress: o.Progress})
	}
	if err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

// transports makes what the chat nodes need for transports: a certificate for those with TLS.
func (l *Layout) transports(list []wire.Transport) (web bool, cert, key string, err error) {
	encrypted := false
	for _, t := range list {
		web, encrypted = web || t.Web(), encrypted || t.Encrypted()
	}
	if !encrypted {
		return web, "", "", nil
	}
	if l.certs, err = os.MkdirTemp("", "parley-certs-"); err != nil {
		return false, "", "", err
	}
	err = certs.Make(l.certs, []string{"127.0.0.1", "localhost"}, time.Now())
	if err == nil {
		l.CA, err = os.ReadFile(filepath.Join(l.certs, certs.CAFile))
	}
	if err != nil {
		return false, "", "", errors.Join(err, os.RemoveAll(l.certs))
	}
	return web, filepath.Join(l.certs, certs.CertFile), filepath.Join(l.certs, certs.KeyFile), nil
}

func (l *Layout) closeLinks() error {
	var errs []error
	for _, p := range l.links {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

func say(w io.Writer, text string) {
	if w != nil {
		fmt.Fprintln(w, text)
	}
}

// Process is a program started by this package.
type Process = launch.Proc

// Program starts a process of this tool, such as a worker or an echo server. It waits until the log contains ready.
func Program(ctx context.Context, name, logPath string, ready string, args ...string) (*Process, error) {
	self, err := Self()
	if err != nil {
		return nil, err
	}
	p := launch.NewProgram(launch.ProgramOptions{
		Name: name, Path: self, Args: args, LogPath: logPath,
		Ready: func(context.Context) error {
			text, err := os.ReadFile(logPath)
			if err == nil && !strings.Contains(string(text), ready) {
				err = errors.New("not ready")
			}
			return err
		},
	})
	return p, p.Start(ctx)
}

// ReadyAddr returns the address after "listening on " in a program's log.
func ReadyAddr(p *Process) (netip.AddrPort, error) {
	_, after, _ := strings.Cut(p.Log(), "listening on ")
	addr, _, _ := strings.Cut(after, "\n")
	return netip.ParseAddrPort(strings.TrimSpace(addr))
}
