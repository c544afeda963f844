//go:build linux

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/client"
	"parley/internal/config"
	"parley/internal/presence"
	"parley/lab/launch"
)

// sqlFailOver implements bar R6. The nodes know SQL by one address. Behind it, the proxy switches from the old
// primary to its replica while open connections stay, as a name in DNS does.
func sqlFailOver(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{
		Chat: 2, SQLArgs: []string{"--server-id=1", "--log-bin=binlog", "--binlog-format=ROW", "--sync-binlog=0"}, Links: []string{"sql"},
	})
	if err != nil {
		return err
	}
	replica, err := l.startReplica(ctx)
	if err != nil {
		return fmt.Errorf("replica: %w", err)
	}
	defer replica.close()
	// The nodes' user must be subject to read_only. A connection keeps the privileges it started with, so this one
	// can still set it.
	admin, err := l.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer admin.Close()
	if err := l.dropRights(ctx, admin); err != nil {
		return err
	}
	c, p, err := l.crowdAndProbe(ctx, w.N(30, 8))
	if err != nil {
		return err
	}
	defer p.close()
	c.talk(ctx, float64(w.N(100, 40)), 0)
	pause(ctx, 3*time.Second)
	// The planned order: stop writes, let the replica catch up, switch the address.
	if _, err := admin.ExecContext(ctx, "SET GLOBAL read_only = 1"); err != nil {
		return err
	}
	if err := replica.catchUp(ctx, l.db); err != nil {
		return err
	}
	for _, n := range l.Chat {
		l.link(n.Name() + "-sql").SetTarget(replica.server.Addr())
	}
	moved := time.Now()
	err = until(ctx, 60*time.Second, "a text is stored at the new primary", func() (bool, error) {
		_, _, stored := p.text(ctx, 10*time.Second)
		return stored, nil
	})
	took := time.Since(moved)
	r.Is("stored again", err == nil, err)
	AtMost(r, "after", took, 15*time.Second)
	// From here on the oracle reads from the new primary.
	old := l.db
	defer old.Close()
	l.db = replica.db
	replica.db = nil
	return c.end(ctx, r, 60*time.Second)
}

// dropRights revokes the privilege to write to a read-only server from the nodes' user, and ends the connections that
// still have it.
func (l *Lab) dropRights(ctx context.Context, admin *sql.Conn) error {
	for _, right := range []string{"READ_ONLY ADMIN", "SUPER"} {
		if _, err := admin.ExecContext(ctx, "REVOKE "+right+" ON *.* FROM "+l.account()); err != nil {
			return fmt.Errorf("revoke %s: %w", right, err)
		}
	}
	rows, err := admin.QueryContext(ctx, "SELECT id FROM information_schema.processlist WHERE user = ? AND id <> CONNECTION_ID()", l.MariaDB.User)
	if err != nil {
		return err
	}
	var ids []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return errors.Join(err, rows.Close())
		}
		ids = append(ids, id)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	for _, id := range ids {
		if _, err := admin.ExecContext(ctx, fmt.Sprintf("KILL %d", id)); err != nil {
			l.w.Logf("kill %d: %v", id, err) // it has ended already
		}
	}
	return nil
}

// account returns the SQL user of the nodes in the form of GRANT and REVOKE.
func (l *Lab) account() string { return "'" + l.MariaDB.User + "'@'127.0.0.1'" }

// sqlReplica is a second mariadbd that replicates the first.
type sqlReplica struct {
	server *launch.MariaDB
	db     *sql.DB
}

func (p *sqlReplica) close() {
	if p.db != nil {
		_ = p.db.Close() // its server is stopped next
	}
	_ = p.server.Close() // its data is not needed
}

// startReplica starts a replica without a dump: both servers start from the same files, and the binary log contains
// everything since.
func (l *Lab) startReplica(ctx context.Context) (*sqlReplica, error) {
	dir := filepath.Join(l.w.Dir, "replica")
	if err := copyData(filepath.Join(dir, "mariadb"), l.w.suite.template); err != nil {
		return nil, err
	}
	m, err := launch.StartMariaDB(ctx, launch.MariaDBOptions{Dir: dir, Args: append([]string{"--server-id=2", "--log-bin=binlog", "--slave-skip-errors=1007,1396,1062"}, quietSQL...)})
	if err != nil {
		return nil, err
	}
	p := &sqlReplica{server: m}
	// The nodes use the same password on both servers.
	db, err := sql.Open("mysql", m.DSN())
	if err != nil {
		return p, err
	}
	_, primaryPort, err := net.SplitHostPort(l.MariaDB.Addr())
	if err != nil {
		return p, err
	}
	for _, q := range []string{
		"CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=" + primaryPort + ", MASTER_USER='" + l.MariaDB.User + "', MASTER_PASSWORD='" + l.MariaDB.Password +
			"', MASTER_LOG_FILE='binlog.000001', MASTER_LOG_POS=4",
		"START SLAVE",
		"ALTER USER " + l.account() + " IDENTIFIED BY '" + l.MariaDB.Password + "'",
	} {
		if _, err := db.ExecContext(ctx, q); err != nil {
			return p, errors.Join(fmt.Errorf("%.30s: %w", q, err), db.Close())
		}
	}
	if err := db.Close(); err != nil {
		return p, err
	}
	p.db, err = sql.Open("mysql", l.MariaDB.User+":"+l.MariaDB.Password+"@tcp("+m.Addr()+")/"+l.MariaDB.Schema)
	return p, err
}

// catchUp waits until the replica has everything that the primary wrote, and promotes it.
func (p *sqlReplica) catchUp(ctx context.Context, primary *sql.DB) error {
	count := func(db *sql.DB) (n int, err error) {
		err = db.QueryRowContext(ctx, "SELECT COUNT(*) FROM chat_message").Scan(&n)
		return n, err
	}
	want, err := count(primary)
	if err != nil {
		return err
	}
	err = until(ctx, 30*time.Second, "the replica has caught up", func() (bool, error) {
		n, err := count(p.db)
		return err == nil && n == want, fmt.Errorf("%d of %d rows, %v", n, want, err)
	})
	if err != nil {
		return err
	}
	pause(ctx, time.Second) // wait for changes of other tables
	_, err = p.db.ExecContext(ctx, "STOP SLAVE")
	return err
}

// redisFailsOver lets users exchange texts while it kills the master of a Redis, and checks that a login on each node
// and a push between nodes work again.
func redisFailsOver(ctx context.Context, w *World, r *Report, opts config.Redis, master *launch.Redis) error {
	seed := opts.NewClient()
	if err := errors.Join(presence.SeedGeneration(ctx, seed), seed.Close()); err != nil {
		return err
	}
	l, err := w.Start(ctx, Layout{Chat: 2, NoRedis: true, RedisAt: opts.NewClient, Configure: func(_ *launch.Node, _ int, f *launch.INI) error {
		f.Set("Redis", "Addr", strings.Join(opts.Addr, ","))
		f.Set("Redis", "Master", opts.Master)
		f.Set("Redis", "Cluster", strconv.FormatBool(opts.Cluster))
		return nil
	}})
	if err != nil {
		return err
	}
	c, err := l.crowd(ctx, w.N(20, 8), nil, client.SessionOptions{})
	if err != nil {
		return err
	}
	c.talk(ctx, 50, 0)
	pause(ctx, 2*time.Second)
	if err := master.Kill(); err != nil {
		return err
	}
	killed := time.Now()
	const users = 12 // enough for every master of a cluster to have some
	uid, err := l.users(ctx, users)
	if err != nil {
		return err
	}
	err = until(ctx, 60*time.Second, "logins work at every node", func() (bool, error) {
		for i := range users {
			conn, err := l.dial(ctx, uid+int32(i), i%len(l.Chat), client.Options{})
			if err != nil {
				return false, err
			}
			conn.Close()
		}
		return true, nil
	})
	r.Is("logins work", err == nil, err)
	AtMost(r, "after the kill", time.Since(killed), 30*time.Second)
	before := c.Oracle.counts()
	err = until(ctx, 30*time.Second, "texts are delivered", func() (bool, error) {
		now := c.Oracle.counts()
		return now.Delivered > before.Delivered+20, nil
	})
	r.Is("texts delivered", err == nil, err)
	return c.end(ctx, r, 40*time.Second)
}

// redisSet is a number of redis-servers in separate directories; closing it stops them.
type redisSet []*launch.Redis

func (s *redisSet) start(ctx context.Context, w *World, o launch.RedisOptions) (*launch.Redis, error) {
	o.Dir = filepath.Join(w.Dir, "redis"+strconv.Itoa(len(*s)+1))
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, err
	}
	r, err := launch.StartRedis(ctx, o)
	if err == nil {
		*s = append(*s, r)
	}
	return r, err
}

func (s *redisSet) close() {
	for _, r := range *s {
		_ = r.Close() // one of them was killed on purpose
	}
}

// sentinelFailOver implements bar R7.
func sentinelFailOver(ctx context.Context, w *World, r *Report) error {
	var servers redisSet
	defer servers.close()
	master, err := servers.start(ctx, w, launch.RedisOptions{})
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(master.Addr())
	if err != nil {
		return err
	}
	if _, err := servers.start(ctx, w, launch.RedisOptions{Args: []string{"--replicaof", host, port}}); err != nil {
		return err
	}
	var sentinels []string
	for range 3 {
		s, err := servers.startSentinel(ctx, w, host, port)
		if err != nil {
			return err
		}
		sentinels = append(sentinels, s.Addr())
	}
	opts := config.DefaultRedis()
	opts.Addr, opts.Master = sentinels, "parley"
	return redisFailsOver(ctx, w, r, opts, master)
}

// redisClusterFailOver implements bar R8.
func redisClusterFailOver(ctx context.Context, w *World, r *Report) error {
	var servers redisSet
	defer servers.close()
	var addrs []string
	for range 6 {
		s, err := servers.start(ctx, w, launch.RedisOptions{Cluster: true, Args: []string{"--cluster-node-timeout", "3000", "--cluster-allow-replica-migration", "no"}})
		if err != nil {
			return err
		}
		addrs = append(addrs, s.Addr())
	}
	if err := formCluster(ctx, servers); err != nil {
		return fmt.Errorf("form a Redis Cluster: %w", err)
	}
	opts := config.DefaultRedis()
	opts.Addr, opts.Cluster = addrs, true
	return redisFailsOver(ctx, w, r, opts, servers[w.Rand.IntN(3)])
}

// formCluster makes three masters and a replica for each.
func formCluster(ctx context.Context, servers redisSet) error {
	clients := make([]*redis.Client, len(servers))
	for i, s := range servers {
		clients[i] = redis.NewClient(redisOptions(s.Addr()))
		defer clients[i].Close()
	}
	for i, c := range clients {
		// Epochs must differ before the masters meet, or two of them have to resolve the conflict first.
		if err := c.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
			return err
		}
		if i < 3 {
			if err := c.ClusterAddSlotsRange(ctx, i*16384/3, (i+1)*16384/3-1).Err(); err != nil {
				return err
			}
		}
	}
	for _, s := range servers[1:] {
		host, port, err := net.SplitHostPort(s.Addr())
		if err != nil {
			return err
		}
		if err := clients[0].Do(ctx, "CLUSTER", "MEET", host, port, s.BusPort()).Err(); err != nil {
			return err
		}
	}
	made := make([]bool, len(clients))
	return until(ctx, 40*time.Second, "the cluster is formed", func() (bool, error) {
		for i := 3; i < len(clients); i++ {
			id, err := clients[i-3].Do(ctx, "CLUSTER", "MYID").Text()
			if err != nil {
				return false, err
			}
			if !made[i] {
				if err := clients[i].ClusterReplicate(ctx, id).Err(); err != nil {
					return false, err
				}
				made[i] = true
			}
		}
		for _, c := range clients {
			info, err := c.ClusterInfo(ctx).Result()
			if err != nil {
				return false, err
			}
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:6") {
				return false, errors.New(info)
			}
		}
		replicas, err := clients[0].Info(ctx, "replication").Result()
		return err == nil && strings.Contains(replicas, "state=online"), err
	})
}

// startSentinel starts a sentinel that watches a master: a redis-server in sentinel mode.
func (s *redisSet) startSentinel(ctx context.Context, w *World, host, port string) (*launch.Redis, error) {
	dir := filepath.Join(w.Dir, "sentinel"+strconv.Itoa(len(*s)+1))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	// A sentinel writes its findings into its configuration file.
	file := filepath.Join(dir, "sentinel.conf")
	text := fmt.Sprintf("sentinel monitor parley %s %s 2\nsentinel down-after-milliseconds parley 2000\nsentinel failover-timeout parley 10000\n", host, port)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	r, err := launch.StartRedis(ctx, launch.RedisOptions{Dir: dir, Sentinel: file})
	if err == nil {
		*s = append(*s, r)
	}
	return r, err
}
