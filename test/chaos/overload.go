//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"parley/client"
	"parley/lab/launch"
)

// stampede implements bar O1.
func stampede(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 2})
	if err != nil {
		return err
	}
	n := w.N(10_000, 600)
	first, err := l.users(ctx, n)
	if err != nil {
		return err
	}
	stay, err := l.crowd(ctx, w.N(20, 6), func(int) int { return 1 }, client.SessionOptions{})
	if err != nil {
		return err
	}
	uids := span(first, n)
	tickets, err := l.tickets(ctx, uids, 0)
	if err != nil {
		return err
	}
	var back atomic.Int64
	sessions := make([]*client.Session, n)
	var readers sync.WaitGroup
	rctx, stopReading := context.WithCancel(ctx)
	defer func() {
		stopReading()
		readers.Wait()
		_ = each(n, 64, func(i int) error {
			if sessions[i] != nil {
				sessions[i].Close()
			}
			return nil
		})
	}()
	var killed atomic.Int64 // unix nanoseconds
	var worst widest
	err = each(n, 64, func(i int) (err error) {
		sessions[i], err = client.Open(ctx, client.SessionOptions{Ticket: tickets[i], Nodes: l.clientAddrs(), SyncEvery: -1, Cursors: []client.Cursor{}})
		if err != nil {
			return err
		}
		readers.Go(func() {
			for ev := range sessions[i].Events(rctx) {
				if _, up := ev.(client.Connected); up && killed.Load() > 0 {
					took := time.Since(time.Unix(0, killed.Load()))
					worst.add(took)
					if took <= 30*time.Second {
						back.Add(1)
					}
				}
			}
		})
		return nil
	})
	if err != nil {
		return err
	}
	stay.talk(ctx, 40, 0)
	pid := l.Chat[1].Pid()
	pause(ctx, 2*time.Second)
	killed.Store(time.Now().UnixNano())
	if err := l.Chat[0].Kill(); err != nil {
		return err
	}
	_ = until(ctx, 40*time.Second, "all are back", func() (bool, error) { return back.Load() >= int64(n), nil })
	r.Percent("back within 30s", back.Load(), int64(n), 99)
	r.Note("last", worst.get())
	r.Is("the other node runs on", l.Chat[1].Running() && l.Chat[1].Pid() == pid, "it ended")
	return stay.end(ctx, r, 30*time.Second)
}

// smallMemory implements bar O4.
func smallMemory(ctx context.Context, w *World, r *Report) error {
	group := fmt.Sprintf("/sys/fs/cgroup/memory/parley-chaos-%d", os.Getpid())
	if err := os.Mkdir(group, 0o755); err != nil {
		return skip("a control group for memory (version 1): %v", err)
	}
	defer os.Remove(group)
	if err := os.WriteFile(filepath.Join(group, "memory.limit_in_bytes"), []byte("268435456"), 0o644); err != nil {
		return skip("a control group for memory: %v", err)
	}
	l, err := w.Start(ctx, Layout{Chat: 1, Through: func(n *launch.Node, _ int) []string {
		return []string{"/bin/sh", "-c", `echo $$ >` + group + `/cgroup.procs && exec "$@"`, "sh"}
	}})
	if err != nil {
		return err
	}
	idle, talking := w.N(5_000, 500), w.N(250, 10)
	first, err := l.users(ctx, idle)
	if err != nil {
		return err
	}
	before := rssOf(l.Chat[0].Pid())
	raws, err := l.crowdRaw(ctx, first, idle, 0, native(), rawOptions{})
	defer closeAll(raws)
	if err != nil {
		return err
	}
	pause(ctx, w.D(20*time.Second, 3*time.Second)) // until memory is returned after the burst
	perIdle := (rssOf(l.Chat[0].Pid()) - before) / int64(idle)
	c, err := l.crowd(ctx, talking, nil, client.SessionOptions{})
	if err != nil {
		return err
	}
	c.talk(ctx, float64(w.N(500, 60)), 0)
	pause(ctx, w.D(4*time.Minute, 5*time.Second))
	c.hush()
	text, err := os.ReadFile(filepath.Join(group, "memory.oom_control"))
	if err != nil {
		return err
	}
	kills := int64(-1)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "oom_kill "); ok {
			if kills, err = strconv.ParseInt(strings.TrimSpace(rest), 10, 64); err != nil {
				return err
			}
		}
	}
	r.Note("idle connections", idle)
	r.Zero("killed for want of memory", kills)
	r.memory("an idle connection costs", perIdle, int64(w.N(20<<10, 60<<10))) // in a short run, few connections share the cost of the pools
	if err := c.end(ctx, r, 30*time.Second); err != nil {
		return err
	}
	closeAll(raws)
	return l.Close()
}

// perAddress implements bar O5.
func perAddress(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 1, Configure: func(_ *launch.Node, _ int, f *launch.INI) error {
		f.Set("Limits", "LimitLoopback", "true")
		return nil
	}})
	if err != nil {
		return err
	}
	const limit, rate = 100, 50
	first, err := l.users(ctx, limit+30)
	if err != nil {
		return err
	}
	login := func(uid int32, from string) (*Raw, error) {
		t, err := l.ticket(ctx, uid, 0)
		if err != nil {
			return nil, err
		}
		return loginRaw(ctx, t, native(), rawOptions{From: from})
	}
	var held []*Raw
	defer func() { closeAll(held) }()
	for i := range limit {
		var c *Raw
		err := until(ctx, 20*time.Second, "the rate lets one more in", func() (bool, error) {
			var err error
			c, err = login(first+int32(i), "127.0.0.2")
			return err == nil, err
		})
		if err != nil {
			return fmt.Errorf("connection %d of %d: %w", i+1, limit, err)
		}
		held = append(held, c)
		pause(ctx, 25*time.Millisecond)
	}
	pause(ctx, 2*time.Second) // so that the rate limit does not refuse
	asked := time.Now()
	c, err := dialRaw(ctx, l.Chat[0].Addr(), rawOptions{From: "127.0.0.2"})
	closed := err != nil
	if err == nil {
		closed = c.awaitClosed(5*time.Second) == nil
		_ = c.Close() // already closed, as expected
	}
	r.Is("connection 101 refused", closed, "it is open")
	AtMost(r, "refused after", time.Since(asked), time.Second)

	// Open 300 at once from another address: some must be admitted, the others closed at once.
	var refused, open atomic.Int64
	var mu sync.Mutex // guards later
	var later []*Raw
	_ = each(300, 64, func(int) error {
		c, err := dialRaw(ctx, l.Chat[0].Addr(), rawOptions{From: "127.0.0.3"})
		if err != nil || c.awaitClosed(time.Second) == nil {
			refused.Add(1)
		} else {
			open.Add(1)
		}
		if c != nil {
			mu.Lock()
			later = append(later, c)
			mu.Unlock()
		}
		return nil
	})
	closeAll(later)
	AtMost(r, "of 300 at once let in", open.Load(), int64(limit+rate))
	r.Note("refused", refused.Load())
	failed := int64(0)
	for i := range 20 {
		c, err := login(first+int32(limit+i), fmt.Sprintf("127.0.1.%d", i+1))
		if err != nil {
			w.Logf("another address: %v", err)
			failed++
			continue
		}
		held = append(held, c)
	}
	r.Zero("of 20 other addresses refused", failed)
	return nil
}

// noDescriptors implements bar O6.
func noDescriptors(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{
		Chat: 1,
		Through: func(*launch.Node, int) []string {
			return []string{"/bin/sh", "-c", `ulimit -n 256 && exec "$@"`, "sh"}
		},
		Configure: func(_ *launch.Node, _ int, f *launch.INI) error {
			f.Set("Limits", "Connections", "1000") // so that descriptors run out first
			f.Set("Limits", "LoginTimeout", "60s")
			return nil
		},
	})
	if err != nil {
		return err
	}
	p, err := l.newProbe(ctx, 0)
	if err != nil {
		return err
	}
	defer p.close()
	var held []*Raw
	defer func() { closeAll(held) }()
	for range 400 {
		c, err := dialRaw(ctx, l.Chat[0].Addr(), rawOptions{})
		if err != nil {
			break // the backlog is full too
		}
		held = append(held, c)
	}
	pause(ctx, 500*time.Millisecond)
	cpu := func() (float64, error) { return cpuOf(l.Chat[0].Pid()) }
	before, err := cpu()
	if err != nil {
		return err
	}
	full := time.Now()
	failed := int64(0)
	texts := 0
	for time.Since(full) < w.D(10*time.Second, 4*time.Second) {
		if _, _, ok := p.text(ctx, 10*time.Second); !ok {
			failed++
		}
		texts++
		pause(ctx, 200*time.Millisecond)
	}
	after, err := cpu()
	if err != nil {
		return err
	}
	busy := 100 * (after - before) / time.Since(full).Seconds()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", l.Chat[0].Pid()))
	if err != nil {
		return err
	}
	closeAll(held)
	held = nil
	freed := time.Now()
	uid, err := l.users(ctx, 1)
	if err != nil {
		return err
	}
	err = until(ctx, 30*time.Second, "a login works", func() (bool, error) {
		c, err := l.dial(ctx, uid, 0, client.Options{})
		if err == nil {
			c.Close()
		}
		return err == nil, err
	})
	r.Note("descriptors while full", len(fds))
	AtMost(r, "CPU while full, in percent of a core", busy, 50)
	r.Zero(fmt.Sprintf("of %d texts failed meanwhile", texts), failed)
	r.Is("logins work again", err == nil, err)
	AtMost(r, "after", time.Since(freed), 6*time.Second)
	return nil
}

// cpuOf returns the seconds of processor time that a process has used.
func cpuOf(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 13 {
		return 0, errors.New("/proc/PID/stat is too short")
	}
	user, err := strconv.ParseFloat(f[11], 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseFloat(f[12], 64)
	return (user + system) / 100, err // a tick is 10 ms on Linux
}

// loginStorm implements bar O8.
func loginStorm(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, standard)
	if err != nil {
		return err
	}
	n := w.N(500, 150)
	first, err := l.users(ctx, n)
	if err != nil {
		return err
	}
	others, err := l.crowd(ctx, w.N(20, 6), nil, client.SessionOptions{})
	if err != nil {
		return err
	}
	begun := time.Now()
	others.talk(ctx, 50, 0)
	pause(ctx, w.D(5*time.Second, 2*time.Second))
	before := rssOf(l.Gate[0].Pid())
	stop := peak(l.Gate[0].Pid())
	started := time.Now()
	base := others.Oracle.p99(begun, started)
	var passed, refused, silent atomic.Int64
	var healths []time.Duration
	hctx, stopHealth := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for hctx.Err() == nil {
			asked := time.Now()
			if _, err := opsPage(hctx, l.Gate[0], "/healthz"); err == nil {
				healths = append(healths, time.Since(asked))
			}
			pause(hctx, 20*time.Millisecond)
		}
	})
	_ = each(n, n, func(i int) error {
		_, err := l.gate.Login(ctx, email(first+int32(i)), password(first+int32(i)))
		switch {
		case err == nil:
			passed.Add(1)
		case client.CodeOf(err) != client.CodeOK:
			refused.Add(1)
		default:
			w.Logf("login: %v", err)
			silent.Add(1)
		}
		return nil
	})
	ended := time.Now()
	stopHealth()
	wg.Wait()
	r.Note("passed", passed.Load())
	r.Note("refused with a code", refused.Load())
	r.Zero("without an answer", silent.Load())
	r.memory("more memory", stop()-before, 128<<20)
	AtMost(r, "/healthz p99", percentile(healths, 0.99), 500*time.Millisecond)
	r.Ratio("p99 of chat", others.Oracle.p99(started, ended), base, 3, w.D(500*time.Millisecond, 2*time.Second))
	return others.end(ctx, r, 20*time.Second)
}

// silentCrowd implements bar O11.
func silentCrowd(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 1, Status: 1, Gate: 1})
	if err != nil {
		return err
	}
	logins := w.N(100, 20)
	first, err := l.users(ctx, logins)
	if err != nil {
		return err
	}
	actx, stop := context.WithCancel(ctx)
	defer stop()
	var crowd sync.WaitGroup
	var opened atomic.Int64
	// hold keeps n connections open for the duration of the bar, replacing those that are closed.
	hold := func(n int, addr, say string) {
		const feeders = 32
		for range feeders {
			crowd.Go(func() {
				conns := make([]net.Conn, n/feeders)
				defer func() {
					for _, c := range conns {
						if c != nil {
							_ = c.Close() // the client disconnects
						}
					}
				}()
				one := make([]byte, 1)
				for actx.Err() == nil {
					for i, c := range conns {
						if actx.Err() != nil {
							return
						}
						if c != nil {
							_ = c.SetReadDeadline(time.Now().Add(time.Microsecond))
							if _, err := c.Read(one); isTimeout(err) {
								continue
							}
							_ = c.Close() // the server has closed it
							conns[i] = nil
						}
						c, err := net.DialTimeout("tcp", addr, time.Second)
						if err != nil {
							continue
						}
						opened.Add(1)
						_, _ = c.Write([]byte(say)) // the server may or may not read it
						conns[i] = c
					}
					pause(actx, 50*time.Millisecond)
				}
			})
		}
	}
	hold(w.N(10_000, 4_500), l.Chat[0].Addr(), "")
	hold(w.N(6_000, 4_200), l.Gate[0].Addr(), "GET /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
	pause(ctx, w.D(8*time.Second, 4*time.Second))
	failed := int64(0)
	var worst time.Duration
	gate, err := client.NewGate(l.GateURL())
	if err != nil {
		return err
	}
	for i := range logins {
		uid := first + int32(i)
		asked := time.Now()
		t, err := gate.Login(ctx, email(uid), password(uid))
		var c *client.Conn
		if err == nil {
			c, err = client.Dial(ctx, t, client.Options{})
		}
		worst = max(worst, time.Since(asked))
		if err != nil {
			w.Logf("honest login %d: %v", i, err)
			failed++
			if failed > 10 {
				failed += int64(logins - i - 1)
				break
			}
			continue
		}
		c.Close()
	}
	stop()
	crowd.Wait()
	r.Note("silent connections made", opened.Load())
	r.Zero(fmt.Sprintf("of %d honest logins failed", logins), failed)
	r.Note("slowest login", worst)
	return nil
}
