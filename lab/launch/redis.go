package launch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// ErrMissing is returned when a server's program is not installed. Its text names the program and the way to get it.
var ErrMissing = errors.New("not installed")

// dialTimeout bounds one look at whether a server is ready: all of them are on loopback.
const dialTimeout = time.Second

// serverStop is how long redis-server and mariadbd get to end by themselves.
const serverStop = 15 * time.Second

// RedisOptions says how to start a redis-server. The zero value is a server without persistence in a directory of its
// own: a restart loses all data.
type RedisOptions struct {
	Dir        string // holds redis.log and the data; must exist; empty: a new temporary directory, removed by Close
	AppendOnly bool   // keep data over Kill and Restart (appendfsync always: it is there to be killed)
	// Cluster makes it a member of a Redis Cluster, with a bus port of its own, that does not know its slots nor the
	// other members yet.
	Cluster bool
	// Sentinel is the configuration file of a sentinel, which redis-server is then; it writes into the file.
	Sentinel string
	Args     []string // more command line, such as "--maxmemory", "64mb"
}

// Redis is a running redis-server of our own.
type Redis struct {
	*Proc
	port   port
	bus    port   // of a cluster's member
	tmpDir string // removed by Close
}

// StartRedis starts a redis-server on a free loopback port and returns when it answers. ErrMissing without the program.
func StartRedis(ctx context.Context, o RedisOptions) (_ *Redis, err error) {
	path, err := findProgram("redis-server", "redis-server")
	if err != nil {
		return nil, err
	}
	r := &Redis{}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if o.Dir, r.tmpDir, err = ownDir(o.Dir, "parley-redis-"); err != nil {
		return nil, err
	}
	if r.port, err = takePort(); err != nil {
		return nil, err
	}
	args := []string{
		"--bind", "127.0.0.1", "--port", r.port.String(), "--dir", o.Dir, "--daemonize", "no", "--save", "",
		"--databases", "16", "--appendonly", "no",
	}
	if o.Sentinel != "" {
		args = []string{o.Sentinel, "--sentinel", "--bind", "127.0.0.1", "--port", r.port.String(), "--dir", o.Dir, "--daemonize", "no"}
	}
	if o.AppendOnly {
		args = append(args[:len(args)-1], "yes", "--appendfsync", "always")
	}
	if o.Cluster {
		if r.bus, err = takePort(); err != nil {
			return nil, err
		}
		args = append(args, "--cluster-enabled", "yes", "--cluster-port", r.bus.String(), "--cluster-config-file", "nodes.conf")
	}
	args = append(args, o.Args...)
	r.Proc = newProc("redis", path, filepath.Join(o.Dir, "redis.log"), r.answers, args...)
	if err := r.Start(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

// Addr is host:port of the server; it stays the same over restarts.
func (r *Redis) Addr() string { return r.port.Addr() }

// BusPort is the port by which members of a Redis Cluster talk to each other, as CLUSTER MEET wants it; 0 without
// RedisOptions.Cluster.
func (r *Redis) BusPort() int { return r.bus.number }

// Close stops the server and waits for it. The log stays when the caller gave the directory.
func (r *Redis) Close() error {
	return errors.Join(closeServer(r.Proc, r.port, r.tmpDir), r.bus.Close())
}

// answers sends a PING by hand: a whole Redis client would be too much for one line.
func (r *Redis) answers(ctx context.Context) error {
	conn, err := dial(ctx, r.Addr())
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if line = strings.TrimSpace(line); line != "+PONG" {
		return fmt.Errorf("redis answers %q", line)
	}
	return nil
}

// dial connects with a deadline on everything that follows.
func dial(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// findProgram looks in PATH and in the places where Debian and macOS keep servers.
func findProgram(name, debianPackage string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("launch: %s: %w; on Debian: apt-get install %s", name, ErrMissing, debianPackage)
}

// Missing names the servers that are not installed, nil when redis-server and mariadbd are there.
func Missing() error {
	_, redis := findProgram("redis-server", "redis-server")
	_, maria := findProgram("mariadbd", "mariadb-server")
	_, install := findProgram("mariadb-install-db", "mariadb-server")
	return errors.Join(redis, maria, install)
}

// ownDir returns dir, or a new temporary one that is the caller's to remove.
func ownDir(dir, prefix string) (use, remove string, err error) {
	if dir != "" {
		use, err = filepath.Abs(dir)
		return use, "", err
	}
	use, err = os.MkdirTemp("", prefix)
	return use, use, err
}

func closeServer(p *Proc, held port, tmpDir string) error {
	var err error
	if p != nil {
		err = p.stop(serverStop)
	}
	err = errors.Join(err, held.Close())
	if tmpDir != "" {
		err = errors.Join(err, os.RemoveAll(tmpDir))
	}
	return err
}
