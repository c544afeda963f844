package lab

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"parley/bench/crew"
	"parley/bench/local"
	"parley/bench/watch"
)

// generators are the processes that users live in.
type generators struct {
	*run
	started int // workers, of all crews
}

// crew makes the users: in this process, in worker processes, or with agents on other hosts.
func (g *generators) crew(ctx context.Context, s crew.Spec) (crew.Crew, error) {
	switch {
	case len(g.Agents) > 0:
		return g.agents(ctx, s)
	case g.Workers > 1:
		return g.workers(ctx, s)
	}
	return crew.New(s)
}

// workers starts worker processes, which connect back to this one.
func (g *generators) workers(ctx context.Context, s crew.Spec) (crew.Crew, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	dir, err := os.MkdirTemp("", "parley-workers-")
	if err != nil {
		return nil, err
	}
	key := rand.Text()
	keyFile := filepath.Join(dir, "key") // not an argument, because arguments are visible to all users
	if err := os.WriteFile(keyFile, []byte(key), 0o600); err != nil {
		return nil, err
	}
	var procs []*local.Process
	var conns []net.Conn
	stop := func() {
		for _, p := range procs {
			_ = p.Kill() // a worker has nothing to clean up
		}
		_ = os.RemoveAll(dir)
	}
	fail := func(err error) (crew.Crew, error) {
		for _, c := range conns {
			c.Close()
		}
		stop()
		return nil, err
	}
	for range g.Workers {
		g.started++
		name := fmt.Sprintf("worker%d", g.started)
		p, err := local.Program(ctx, name, filepath.Join(dir, name+".log"), "", "worker", "--join", ln.Addr().String(), "--key-file", keyFile)
		if err != nil {
			return fail(err)
		}
		procs = append(procs, p)
		g.nodes.Add(watch.Watched{Name: name, Pid: p.Pid})
	}
	for range g.Workers {
		if err := ln.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			return fail(err)
		}
		conn, err := ln.Accept()
		if err != nil {
			return fail(fmt.Errorf("a worker did not call back: %w\n%s", err, procs[len(conns)].Log()))
		}
		if err := hear(conn, key); err != nil {
			conn.Close()
			return fail(err)
		}
		conns = append(conns, conn)
	}
	return crew.Many(s, conns, stop), nil
}

func (g *generators) agents(ctx context.Context, s crew.Spec) (crew.Crew, error) {
	var conns []net.Conn
	for _, addr := range g.Agents {
		conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", addr)
		if err == nil {
			conns = append(conns, conn)
			err = greet(conn, g.AgentKey)
		}
		if err != nil {
			for _, c := range conns {
				c.Close()
			}
			return nil, fmt.Errorf("agent %s: %w", addr, err)
		}
	}
	return crew.Many(s, conns, func() {}), nil
}

const (
	greeting = "parley-bench "
	welcome  = "at your service\n"
)

// greet sends the key to an agent and waits until it is accepted.
func greet(conn net.Conn, key string) error {
	if _, err := io.WriteString(conn, greeting+key+"\n"); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	answer := make([]byte, len(welcome))
	if _, err := io.ReadFull(conn, answer); err != nil {
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			return errors.New("it does not answer; it may be serving another coordinator")
		}
		return errors.New("it hung up: does it have the same key (PARLEY_BENCH_KEY)?")
	}
	if string(answer) != welcome {
		return errors.New("it is no agent of this version")
	}
	return conn.SetReadDeadline(time.Time{})
}

// hear reads the other side's first line and compares the key.
func hear(conn net.Conn, key string) error {
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	line := make([]byte, 0, 128)
	for b := make([]byte, 1); len(line) < 512; {
		if _, err := io.ReadFull(conn, b); err != nil {
			return err
		}
		if b[0] == '\n' {
			break
		}
		line = append(line, b[0])
	}
	got, ok := strings.CutPrefix(string(line), greeting)
	if !ok || subtle.ConstantTimeCompare([]byte(got), []byte(key)) != 1 {
		return errors.New("a stranger called, or one with another key")
	}
	return conn.SetReadDeadline(time.Time{})
}

// Worker implements `bench worker`: it connects to the coordinator and executes its commands.
func Worker(ctx context.Context, join, keyFile string) error {
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", join)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, greeting+string(key)+"\n"); err != nil {
		return err
	}
	return crew.ServeWorker(conn)
}

// Agent implements `bench agent`: it serves coordinators on other hosts, one after the other.
func Agent(ctx context.Context, listen, key string, out io.Writer) error {
	if key == "" {
		return errors.New("an agent needs a key (--key or PARLEY_BENCH_KEY): every program that knows it can make this host send traffic")
	}
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	fmt.Fprintf(out, "listening on %s\n", ln.Addr())
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if err := hear(conn, key); err != nil {
			fmt.Fprintf(out, "turned away %s: %v\n", conn.RemoteAddr(), err)
		} else if _, err := io.WriteString(conn, welcome); err == nil {
			fmt.Fprintf(out, "serving %s\n", conn.RemoteAddr())
			if err := crew.ServeWorker(conn); err != nil {
				return err
			}
		}
		conn.Close()
	}
}
