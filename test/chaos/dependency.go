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
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"parley/client"
	"parley/lab/launch"
)

// sqlStalls implements bar X3.
func sqlStalls(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 2})
	if err != nil {
		return err
	}
	c, p, err := l.crowdAndProbe(ctx, w.N(50, 10))
	if err != nil {
		return err
	}
	defer p.close()
	c.talk(ctx, float64(w.N(200, 100)), 0)
	pause(ctx, 2*time.Second)
	before := rssOf(l.Chat[0].Pid())
	stop := peak(l.Chat[0].Pid())
	if err := l.MariaDB.Pause(); err != nil {
		return err
	}
	stalled := time.Now()
	var worst time.Duration
	refused, unanswered, stored := 0, int64(0), int64(0)
	for time.Since(stalled) < w.D(20*time.Second, 8*time.Second) && ctx.Err() == nil {
		took, answered, ok := p.text(ctx, 20*time.Second)
		worst = max(worst, took)
		switch {
		case ok:
			stored++
		case answered:
			refused++
		default:
			unanswered++
		}
		pause(ctx, 100*time.Millisecond)
	}
	if err := l.MariaDB.Resume(); err != nil {
		return err
	}
	rss := stop()
	pause(ctx, 2*time.Second)
	AtLeast(r, "probes refused", refused, 1)
	r.Zero("probes without an answer", unanswered)
	AtMost(r, "slowest answer", worst, 7*time.Second)
	r.memory("more memory", rss-before, 64<<20)
	return c.end(ctx, r, 40*time.Second)
}

// diskFull implements bar X4.
func diskFull(ctx context.Context, w *World, r *Report) error {
	if os.Geteuid() != 0 {
		return skip("mounting a tmpfs needs root")
	}
	mount := ""
	defer func() {
		if mount != "" {
			_ = unix.Unmount(mount, unix.MNT_DETACH) // the server that uses it is stopped
		}
	}()
	l, err := w.Start(ctx, Layout{Chat: 2, OnData: func(dir string) error {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=400m"); err != nil {
			return skip("mounting a tmpfs: %v", err)
		}
		mount = dir
		return nil
	}})
	if err != nil {
		return err
	}
	c, p, err := l.crowdAndProbe(ctx, w.N(20, 6))
	if err != nil {
		return err
	}
	defer p.close()
	c.talk(ctx, 50, 0)
	pause(ctx, time.Second)
	// First use up the space left in the tables' own files, with texts of 4,000 bytes on a full disk.
	ballast := filepath.Join(mount, "ballast")
	if err := fill(ballast); err != nil {
		return err
	}
	full := time.Now()
	var worst time.Duration
	refusals, unanswered := 0, int64(0)
	reads, readFailures := 0, int64(0)
	big := string(make4K())
	for time.Since(full) < w.D(40*time.Second, 25*time.Second) && ctx.Err() == nil && refusals < 5 {
		asked := time.Now()
		sent, err := p.conn.SendTexts(ctx, client.InThread(p.thread), client.NewDraft(big), client.NewDraft(big), client.NewDraft(big), client.NewDraft(big))
		worst = max(worst, time.Since(asked))
		for _, s := range sent {
			if s.Err != nil && client.CodeOf(s.Err) == client.CodeOK {
				unanswered++
			} else if code := client.CodeOf(s.Err); code != client.CodeOK && code != client.CodeRateLimited {
				refusals++
			}
		}
		if err != nil {
			unanswered++
		}
		reads++
		if _, err := p.conn.History(ctx, p.thread, 0, 10); err != nil && client.CodeOf(err) != client.CodeRateLimited {
			w.Logf("read: %v", err)
			readFailures++
		}
		pause(ctx, 50*time.Millisecond)
	}
	if err := os.Remove(ballast); err != nil {
		return err
	}
	freed, died := time.Now(), false
	err = until(ctx, 60*time.Second, "a text is stored", func() (bool, error) {
		if !l.MariaDB.Running() { // InnoDB may exit on a full disk; a supervisor would then restart it
			died = true
			return false, l.MariaDB.Start(ctx)
		}
		_, _, stored := p.text(ctx, 15*time.Second)
		return stored, nil
	})
	took := time.Since(freed)
	if err != nil {
		return err
	}
	r.Note("mariadbd ended itself", died)
	AtLeast(r, "texts refused while full", refusals, 1)
	r.Zero("texts without an answer", unanswered)
	AtMost(r, "slowest answer", worst, 7*time.Second)
	r.Zero(fmt.Sprintf("of %d reads failed", reads), readFailures)
	AtMost(r, "stored again after", took, 15*time.Second)
	return c.end(ctx, r, 40*time.Second)
}

// fill writes a file until its file system is full.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4 << 10} {
		block := make([]byte, size)
		for {
			_, err := f.Write(block)
			if errors.Is(err, syscall.ENOSPC) {
				break
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// gateAndStatusDie implements bar X5.
func gateAndStatusDie(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, standard)
	if err != nil {
		return err
	}
	c, err := l.crowd(ctx, w.N(50, 10), nil, client.SessionOptions{})
	if err != nil {
		return err
	}
	uid, err := l.users(ctx, 1)
	if err != nil {
		return err
	}
	login := func() error {
		t, err := l.gate.Login(ctx, email(uid), password(uid))
		if err != nil {
			return err
		}
		conn, err := client.Dial(ctx, t, client.Options{})
		if err == nil {
			conn.Close()
			<-conn.Done()
		}
		return err
	}
	if err := login(); err != nil {
		return err
	}
	begun := time.Now()
	c.talk(ctx, float64(w.N(100, 40)), 0)
	for _, n := range []*launch.Node{l.Status[0], l.Gate[0]} {
		pause(ctx, time.Second)
		if err := n.Kill(); err != nil {
			return err
		}
		var worst time.Duration
		passed := int64(0)
		for range 5 {
			asked := time.Now()
			if login() == nil {
				passed++
			}
			worst = max(worst, time.Since(asked))
			pause(ctx, 100*time.Millisecond)
		}
		if err := n.Start(ctx); err != nil {
			return err
		}
		started := time.Now()
		if err := until(ctx, 30*time.Second, "a login works", func() (bool, error) { err := login(); return err == nil, err }); err != nil {
			return err
		}
		AtMost(r, n.Name()+" dead: slowest refusal", worst, 3*time.Second)
		r.Zero(n.Name()+" dead: logins that passed", passed)
		AtMost(r, n.Name()+" back: a login works after", time.Since(started), 9*time.Second)
	}
	ended := time.Now()
	drops := int64(0)
	for _, p := range c.People {
		drops += int64(p.disconnections(begun, ended))
	}
	r.Zero("chat connections lost", drops)
	return c.end(ctx, r, 20*time.Second)
}

// unsafeSettings implements bar X6.
func unsafeSettings(ctx context.Context, w *World, r *Report) error {
	for _, value := range []string{"0", "2"} {
		l, err := w.Start(ctx, Layout{Chat: 2, SQLArgs: []string{"--innodb-flush-log-at-trx-commit=" + value}})
		if err != nil {
			return err
		}
		warned := 0
		for _, n := range l.Chat {
			b, err := os.ReadFile(n.LogPath())
			if err != nil {
				return err
			}
			for line := range strings.Lines(string(b)) {
				if strings.Contains(line, "innodb_flush_log_at_trx_commit") && strings.Contains(line, `"level":"warn"`) {
					warned++
					break
				}
			}
		}
		Equal(r, "warned with "+value, warned, len(l.Chat))
	}
	return nil
}

// rollingRestart implements bar X7.
func rollingRestart(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, standard)
	if err != nil {
		return err
	}
	c, err := l.crowd(ctx, w.N(100, 20), nil, client.SessionOptions{})
	if err != nil {
		return err
	}
	c.talk(ctx, float64(w.N(200, 60)), 0)
	var slowest time.Duration
	codes := int64(0)
	for _, n := range append(append([]*launch.Node(nil), l.Chat...), l.Status[0], l.Gate[0]) {
		pause(ctx, w.D(3*time.Second, time.Second))
		sctx, cancel := context.WithTimeout(ctx, 40*time.Second)
		begun := time.Now()
		code, err := n.Terminate(sctx)
		cancel()
		if err != nil {
			return err
		}
		if code != 0 {
			w.Logf("%s exits with %d", n.Name(), code)
			codes++
		}
		slowest = max(slowest, time.Since(begun))
		if err := n.Start(ctx); err != nil {
			return err
		}
	}
	pause(ctx, 2*time.Second)
	ended := int64(0)
	for _, p := range c.People {
		if p.Err() != nil {
			ended++
		}
	}
	r.Zero("exits with another code than 0", codes)
	AtMost(r, "slowest exit", slowest, 30*time.Second)
	r.Zero("sessions that ended", ended)
	r.Zero("texts not sent", c.failed.Load())
	return c.end(ctx, r, 30*time.Second)
}

// startTogether implements bar X8.
func startTogether(ctx context.Context, w *World, r *Report) error {
	servers, err := w.Start(ctx, Layout{})
	if err != nil {
		return err
	}
	rounds := w.N(20, 2)
	var slowest time.Duration
	failed, versions := int64(0), int64(0)
	for round := range rounds {
		schema := fmt.Sprintf("fresh%d", round)
		if _, err := servers.db.ExecContext(ctx, "CREATE DATABASE "+schema+" CHARACTER SET utf8mb4"); err != nil {
			return err
		}
		if err := servers.rdb.FlushAll(ctx).Err(); err != nil {
			return err
		}
		if err := seedGeneration(ctx, servers.RedisAddr()); err != nil {
			return err
		}
		dir := filepath.Join(w.Dir, schema)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		begun := time.Now()
		nodes, err := launch.Start(ctx, launch.Options{
			Chat: 4, Dir: dir, Bin: w.suite.bin, NoRedis: true, NoMariaDB: true, Log: w.log,
			Configure: func(n *launch.Node, _ int, f *launch.INI) error { return servers.storesOf(f, schema) },
		})
		slowest = max(slowest, time.Since(begun))
		if err != nil {
			w.Logf("round %d: %v", round, err)
			failed++
			continue
		}
		if err := nodes.Close(); err != nil {
			return err
		}
		var n int
		err = servers.db.QueryRowContext(ctx, "SELECT COUNT(DISTINCT version_id) - MAX(version_id) - 1 FROM "+schema+".goose_db_version").Scan(&n)
		if err != nil {
			// A missing table would be a mistake of this test and not of the start.
			w.Logf("schema version: %v", err)
			if !errors.Is(err, sql.ErrNoRows) {
				return err
			}
		}
		if n != 0 {
			versions++
		}
	}
	r.Note("rounds", rounds)
	r.Zero("failed starts", failed)
	r.Zero("schemas with a version applied twice or left out", versions)
	AtMost(r, "all four ready after (worst)", slowest, 30*time.Second)
	return nil
}

// storesOf configures a node to use this lab's Redis and a schema of its MariaDB.
func (l *Lab) storesOf(f *launch.INI, schema string) error {
	for section, addr := range map[string]string{"Redis": l.RedisAddr(), "Mysql": l.MariaDB.Addr()} {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return err
		}
		f.Set(section, "Host", host)
		f.Set(section, "Port", port)
	}
	f.Set("Mysql", "User", l.MariaDB.User)
	f.Set("Mysql", "Passwd", l.MariaDB.Password)
	f.Set("Mysql", "Schema", schema)
	return nil
}

// secondSignal implements bar X9.
func secondSignal(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 2})
	if err != nil {
		return err
	}
	first, err := l.users(ctx, 20)
	if err != nil {
		return err
	}
	var worst, ready time.Duration
	wrong := int64(0)
	rounds := w.N(5, 2)
	for range rounds {
		raws, err := l.crowdRaw(ctx, first, 20, 0, native(), rawOptions{})
		if err != nil {
			closeAll(raws)
			return err
		}
		node := l.Chat[0]
		if err := node.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		pause(ctx, 100*time.Millisecond)
		second := time.Now()
		if err := node.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, launch.ErrNotRunning) {
			return err
		}
		wctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		code, err := node.Wait(wctx)
		cancel()
		if err != nil {
			return err
		}
		worst = max(worst, time.Since(second))
		if code != 1 {
			w.Logf("exit code %d", code)
			wrong++
		}
		closeAll(raws)
		// The node must also start again after a kill, although its own lease still exists.
		if err := node.Start(ctx); err != nil {
			return err
		}
		if err := node.Kill(); err != nil {
			return err
		}
		begun := time.Now()
		if err := node.Start(ctx); err != nil {
			return err
		}
		ready = max(ready, time.Since(begun))
	}
	r.Note("rounds", rounds)
	r.Zero("exit codes other than 1", wrong)
	AtMost(r, "exit after the second signal (worst)", worst, time.Second)
	AtMost(r, "ready after a restart (worst)", ready, 6*time.Second)
	return nil
}
