//go:build linux

package main

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	_ "github.com/go-sql-driver/mysql" // to read the store without the nodes' code
	"github.com/redis/go-redis/v9"

	"parley/client"
	"parley/internal/presence"
	"parley/internal/rpc"
	"parley/internal/store"
	"parley/internal/store/mysql"
	"parley/lab/faultproxy"
	"parley/lab/launch"
)

// quietSQL keeps the mariadbd of a bar small.
var quietSQL = []string{"--innodb-buffer-pool-load-at-startup=OFF", "--innodb-buffer-pool-dump-at-shutdown=OFF"}

// Layout is the cluster that a bar needs. The zero value has no nodes.
type Layout struct {
	Chat, Status, Gate int
	// Links names the links that get a fault proxy: "redis" and "sql" from each chat node, "rpc" to each chat node
	// from its peers, "client" to each chat node from its clients.
	Links []string
	// Configure may change the configuration of a node, after the proxies have been added.
	Configure func(n *launch.Node, index int, f *launch.INI) error
	Through   func(n *launch.Node, index int) []string // as in launch.Options
	Env       []string
	Bin       string // other programs than those of the suite
	LogLevel  string
	SQLArgs   []string
	RedisArgs []string
	// NoRedis starts no Redis. Configure must then name another one, which RedisAt opens for the harness.
	NoRedis bool
	RedisAt func() redis.UniversalClient
	// OnData is called with the data directory of mariadbd before it is filled.
	OnData func(dir string) error
}

// standard is the layout of reliability tests: one gate, one status node, three chat nodes.
var standard = Layout{Chat: 3, Status: 1, Gate: 1}

// with returns the layout with the given links proxied.
func (l Layout) with(links ...string) Layout {
	l.Links = links
	return l
}

// Lab is a running cluster, with the means to create users and to inspect the stores.
type Lab struct {
	*launch.Cluster
	w         *World
	db        *sql.DB
	store     *store.Store
	rdb       redis.UniversalClient
	presence  *presence.Presence
	auth      *rpc.Auth
	gate      *client.Gate // the first gate; nil without gates
	links     map[string]*faultproxy.Proxy
	clustered bool // Redis is a cluster: keys have tags

	nextUID atomic.Int32
}

// Start starts a cluster for the bar; it is stopped when the bar has ended.
func (w *World) Start(ctx context.Context, o Layout) (_ *Lab, err error) {
	w.mu.Lock()
	n := len(w.labs) + 1
	w.mu.Unlock()
	dir := filepath.Join(w.Dir, fmt.Sprintf("cluster%d", n))
	data := filepath.Join(dir, "mariadb")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if o.OnData != nil {
		if err := os.MkdirAll(data, 0o755); err != nil {
			return nil, err
		}
		if err := o.OnData(data); err != nil {
			return nil, err
		}
	}
	if err := copyData(data, w.suite.template); err != nil {
		return nil, err
	}
	l := &Lab{w: w, links: make(map[string]*faultproxy.Proxy)}
	l.nextUID.Store(20_000)
	co := launch.Options{
		Chat: o.Chat, Status: o.Status, Gate: o.Gate, Dir: dir, Bin: o.Bin, Env: o.Env, LogLevel: o.LogLevel, Through: o.Through,
		MariaDB: launch.MariaDBOptions{Args: append(append([]string(nil), quietSQL...), o.SQLArgs...)},
		Redis:   launch.RedisOptions{Args: o.RedisArgs}, NoRedis: o.NoRedis,
		OnRedis: seedGeneration, Log: w.log,
		Configure: func(n *launch.Node, i int, f *launch.INI) error {
			f.Set("Mysql", "MaxOpen", "16")
			if err := l.addLinks(n, o.Links, f); err != nil {
				return err
			}
			if o.Configure != nil {
				return o.Configure(n, i, f)
			}
			return nil
		},
	}
	if co.Bin == "" {
		co.Bin = w.suite.bin
	}
	w.mu.Lock()
	w.labs = append(w.labs, l)
	w.mu.Unlock()
	if l.Cluster, err = launch.Start(ctx, co); err != nil {
		return nil, err
	}
	switch {
	case o.RedisAt != nil:
		l.rdb = o.RedisAt()
		_, l.clustered = l.rdb.(*redis.ClusterClient)
	default:
		l.rdb = redis.NewClient(redisOptions(l.RedisAddr()))
	}
	return l, l.openStores(ctx)
}

// openStores opens the stores of a running cluster.
func (l *Lab) openStores(ctx context.Context) (err error) {
	l.auth = rpc.NewAuth(l.Secret())
	if l.store, err = mysql.Open(ctx, l.DSN(), mysql.Options{MaxOpen: 4}); err != nil {
		return err
	}
	if l.db, err = sql.Open("mysql", l.DSN()); err != nil {
		return err
	}
	l.db.SetMaxOpenConns(4)
	l.presence = presence.New(l.rdb, presence.Options{Cluster: l.clustered})
	if len(l.Gate) > 0 {
		if l.gate, err = client.NewGate(l.GateURL()); err != nil {
			return err
		}
	}
	want := fmt.Sprintf("parley_status_nodes{state=\"open\"} %d\n", len(l.Chat))
	for _, n := range l.Status {
		err := until(ctx, 30*time.Second, n.Name()+" knows all chat nodes", func() (bool, error) {
			page, err := opsPage(ctx, n, "/metrics")
			return strings.Contains(page, want), err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// copyData copies the data of a mariadbd that has been stopped.
func copyData(to, from string) error {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	return os.CopyFS(to, os.DirFS(from))
}

// addLinks puts a proxy into each link of a chat node that the bar asked for. The gate's connections to the stores
// stay direct.
func (l *Lab) addLinks(n *launch.Node, links []string, f *launch.INI) error {
	if n.Role() != launch.Chat {
		return nil
	}
	for _, link := range links {
		var target string
		switch link {
		case "redis":
			target = net.JoinHostPort(f.Get("Redis", "Host"), f.Get("Redis", "Port"))
		case "sql":
			target = net.JoinHostPort(f.Get("Mysql", "Host"), f.Get("Mysql", "Port"))
		case "rpc":
			target = n.RPCAddr()
		case "client":
			target = n.Addr()
		default:
			return fmt.Errorf("there is no link %q", link)
		}
		p, err := faultproxy.Listen(target, faultproxy.Options{Seed: l.w.Seed})
		if err != nil {
			return err
		}
		l.links[n.Name()+"-"+link] = p
		host, port, err := net.SplitHostPort(p.Addr())
		if err != nil {
			return err
		}
		switch link {
		case "redis":
			f.Set("Redis", "Host", host)
			f.Set("Redis", "Port", port)
		case "sql":
			f.Set("Mysql", "Host", host)
			f.Set("Mysql", "Port", port)
		case "rpc":
			f.Set("SelfServer", "AdvertiseRPC", p.Addr())
		case "client":
			f.Set("SelfServer", "Advertise", p.Addr())
		}
	}
	return nil
}

// link returns a proxy by its name, such as "chat1-redis".
func (l *Lab) link(name string) *faultproxy.Proxy {
	p := l.links[name]
	if p == nil {
		panic("the layout has no link " + name)
	}
	return p
}

// clientAddr returns the address of a chat node for clients: that of its proxy, if it has one.
func (l *Lab) clientAddr(node int) string {
	if p := l.links[l.Chat[node].Name()+"-client"]; p != nil {
		return p.Addr()
	}
	return l.Chat[node].Addr()
}

// clientAddrs returns the addresses of all chat nodes.
func (l *Lab) clientAddrs() []string {
	out := make([]string, len(l.Chat))
	for i := range out {
		out[i] = l.clientAddr(i)
	}
	return out
}

// Close stops everything. It does not report nodes that a bar left dead or paused.
func (l *Lab) Close() error {
	for _, p := range l.links {
		p.Heal()
	}
	if l.presence != nil {
		l.presence.Close()
	}
	// Errors do not matter here: the servers are stopped next.
	if l.rdb != nil {
		_ = l.rdb.Close()
	}
	if l.db != nil {
		_ = l.db.Close()
	}
	if l.store != nil {
		_ = l.store.Close()
	}
	var errs []error
	if l.Cluster != nil {
		errs = append(errs, l.Cluster.Close())
	}
	for _, p := range l.links {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// snapshot writes the metrics and goroutines of every node beside its log.
func (l *Lab) snapshot() {
	if l.Cluster == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, n := range l.Nodes() {
		if !n.Running() {
			continue
		}
		for name, path := range map[string]string{"metrics": "/metrics", "goroutines": "/debug/pprof/goroutine?debug=2"} {
			page, err := opsPage(ctx, n, path)
			if err != nil {
				page += err.Error()
			}
			_ = os.WriteFile(filepath.Join(l.Dir(), n.Name()+"."+name), []byte(page), 0o600) // only helpful for diagnosis
		}
	}
}

// crashes counts panics and data races in the logs of all nodes, and returns the first log that contains one.
func (l *Lab) crashes() (n int, where string) {
	if l.Cluster == nil {
		return 0, ""
	}
	for _, node := range l.Nodes() {
		b, err := os.ReadFile(node.LogPath())
		if err != nil {
			continue // the node never started
		}
		for _, sign := range []string{"panic: ", "fatal error: ", "WARNING: DATA RACE", "panic recovered"} {
			if c := strings.Count(string(b), sign); c > 0 {
				n += c
				if where == "" {
					where = node.LogPath()
				}
			}
		}
	}
	return n, where
}

// seedGeneration makes an empty Redis look as if it had been running for a while; otherwise logins wait some seconds.
func seedGeneration(ctx context.Context, addr string) error {
	rdb := redis.NewClient(redisOptions(addr))
	defer rdb.Close()
	return presence.SeedGeneration(ctx, rdb)
}

func redisOptions(addr string) *redis.Options {
	return &redis.Options{Addr: addr, Protocol: 2, DisableIdentity: true, ContextTimeoutEnabled: true, MaxRetries: -1}
}

// users creates n users with consecutive uids in the store, and returns the first uid.
func (l *Lab) users(ctx context.Context, n int) (int32, error) {
	first := l.nextUID.Add(int32(n)+200) - int32(n) - 200
	list := make([]store.NewUser, n)
	for i := range list {
		uid := first + int32(i)
		list[i] = store.NewUser{
			Name: fmt.Sprintf("user%d", uid), Email: email(uid), PasswordHash: transform(password(uid)), Nick: fmt.Sprintf("User %d", uid),
		}
	}
	return first, l.store.Seed.Users(ctx, first, list)
}

// span returns n consecutive uids, as allocated by users.
func span(first int32, n int) []int32 {
	uids := make([]int32, n)
	for i := range uids {
		uids[i] = first + int32(i)
	}
	return uids
}

func email(uid int32) string    { return fmt.Sprintf("user%d@chaos.example", uid) }
func password(uid int32) string { return fmt.Sprintf("pass%d", uid) }

// transform applies a client's transformation to a password of ASCII letters.
func transform(s string) string {
	b := []byte(s)
	for i := range b {
		b[i] ^= byte(len(b) % 255)
	}
	return string(b)
}

// pairs creates n pairs of friends in the store: users first+2i and first+2i+1 share threads[i].
func (l *Lab) pairs(ctx context.Context, n int) (first int32, threads []int64, err error) {
	if first, err = l.users(ctx, 2*n); err != nil {
		return 0, nil, err
	}
	both := make([][2]int32, n)
	for i := range both {
		both[i] = [2]int32{first + int32(2*i), first + int32(2*i) + 1}
	}
	threads, err = l.store.Seed.Friends(ctx, both)
	return first, threads, err
}

// userKey returns the form of a uid in key names.
func (l *Lab) userKey(uid int32) string {
	if l.clustered {
		return fmt.Sprintf("{%d}", uid)
	}
	return fmt.Sprint(uid)
}

// ticket lets a user log in on a chat node of the bar's choice. It puts the token into Redis as a status node would,
// but without a placement.
func (l *Lab) ticket(ctx context.Context, uid int32, node int) (client.Ticket, error) {
	t, err := l.tickets(ctx, []int32{uid}, node)
	if err != nil {
		return client.Ticket{}, err
	}
	return t[0], nil
}

// tickets is like ticket, for many users at once.
func (l *Lab) tickets(ctx context.Context, uids []int32, node int) ([]client.Ticket, error) {
	now, err := l.rdb.Time(ctx).Result()
	if err != nil {
		return nil, fmt.Errorf("ticket: %w", err)
	}
	out := make([]client.Ticket, len(uids))
	for at := 0; at < len(uids); at += 500 {
		pipe := l.rdb.Pipeline()
		for i := at; i < min(at+500, len(uids)); i++ {
			token := presence.NewToken()
			sum := sha256.Sum256([]byte(token))
			pipe.Set(ctx, "utoken_"+l.userKey(uids[i])+":"+hex.EncodeToString(sum[:]), now.UnixMilli(), presence.TokenTTL)
			out[i] = client.Ticket{Addr: l.clientAddr(node), UID: uids[i], Token: token}
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return nil, fmt.Errorf("tickets: %w", err)
		}
	}
	return out, nil
}

// dial logs a user in on a chat node.
func (l *Lab) dial(ctx context.Context, uid int32, node int, o client.Options) (*client.Conn, error) {
	t, err := l.ticket(ctx, uid, node)
	if err != nil {
		return nil, err
	}
	return client.Dial(ctx, t, o)
}

// online returns the sessions of users as a node sees them: it ignores entries whose node has no lease, or one with
// another boot id.
func (l *Lab) online(ctx context.Context, uids []int32) ([][]presence.Location, error) {
	out := make([][]presence.Location, 0, len(uids))
	if _, err := l.presence.Nodes.Read(ctx); err != nil {
		return nil, err
	}
	view := l.presence.Nodes.View()
	for at := 0; at < len(uids); at += 500 {
		found, err := l.presence.Sessions.Locate(ctx, uids[at:min(at+500, len(uids))])
		if err != nil {
			return nil, err
		}
		for _, locs := range found {
			var live []presence.Location
			for _, loc := range locs {
				if view.Alive(loc.Node, loc.Boot) {
					live = append(live, loc)
				}
			}
			out = append(out, live)
		}
	}
	return out, nil
}

// stored returns the number of rows in a thread.
func (l *Lab) stored(ctx context.Context, thread int64) (n int, err error) {
	err = l.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM chat_message WHERE thread_id = ?", thread).Scan(&n)
	return n, err
}
