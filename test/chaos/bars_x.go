//go:build linux

package main

import (
	"context"
	"errors"
	"time"

	"parley/client"
)

// dependencyBars check failures of Redis and SQL, full disks, and starting and stopping the processes.
var dependencyBars = []Bar{
	{
		ID: "X1", Run: redisDies,
		Fault: "redis-server killed for 30 s under load, then restarted empty",
		Want:  "texts go on; logins are refused within 1 s (judged at 3 s) and work within 12 s of its return (6 s by design); acknowledged and lost 0; no node restarts",
	},
	{
		ID: "X2", Run: sqlDies, Limit: 8 * time.Minute,
		Fault: "mariadbd killed under load, 10 times",
		Want:  "acknowledged and lost 0; a text is always answered within 5 s; sending works within 3 s (judged at 9 s) of its return",
	},
	{
		ID: "X3", Run: sqlStalls,
		Fault: "mariadbd paused for 20 s under load",
		Want:  "texts are refused within 5 s (judged at 7 s); memory of a node + ≤ 64 MiB; nothing doubled or lost after it goes on",
	},
	{
		ID: "X4", Run: diskFull,
		Fault: "the file system of mariadbd full (a small tmpfs), then freed",
		Want:  "texts are answered within 5 s (judged at 7 s); reads go on; stored again within 5 s (judged at 15 s) of the space; lost 0",
	},
	{
		ID: "X5", Run: gateAndStatusDie,
		Fault: "statusnode, then gatenode, killed and restarted under load",
		Want:  "texts refused 0; logins are refused within 1 s (judged at 3 s) and work within 3 s (judged at 9 s) of the restart",
	},
	{
		ID: "X6", Run: unsafeSettings,
		Fault: "innodb_flush_log_at_trx_commit = 0 and 2",
		Want:  "every chat node warns at its start, and names the setting",
	},
	{
		ID: "X7", Run: rollingRestart,
		Fault: "SIGTERM and restart of each node in turn, under load",
		Want:  "texts lost 0 and errors seen by users 0; each exits with code 0 within 30 s",
	},
	{
		ID: "X8", Run: startTogether,
		Fault: "4 chat nodes start at once on an empty schema, 20 times",
		Want:  "failed starts 0; one schema version; all ready within 10 s (judged at 30 s)",
	},
	{
		ID: "X9", Run: secondSignal,
		Fault: "a second SIGTERM while a node drains; SIGKILL; restart",
		Want:  "exit within 200 ms (judged at 1 s) with code 1; ready within 2 s (judged at 6 s) of the restart",
	},
}

// redisDies implements bar X1.
func redisDies(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, standard)
	if err != nil {
		return err
	}
	c, err := l.crowd(ctx, w.N(50, 10), nil, client.SessionOptions{})
	if err != nil {
		return err
	}
	// Friends on the same node need no look-up of presence.
	same, err := l.crowd(ctx, w.N(20, 5), func(i int) int { return i / 2 % 3 }, client.SessionOptions{})
	if err != nil {
		return err
	}
	pids := l.pids()
	uid, err := l.users(ctx, 1)
	if err != nil {
		return err
	}
	if _, err := l.gate.Login(ctx, email(uid), password(uid)); err != nil {
		return err
	}
	c.talk(ctx, 50, 0)
	same.talk(ctx, 50, 0)
	pause(ctx, 2*time.Second)
	died := time.Now()
	if err := l.Redis.Kill(); err != nil {
		return err
	}
	away := w.D(30*time.Second, 8*time.Second)
	var slowest time.Duration
	refused, attempts := 0, 0
	for time.Since(died) < away && ctx.Err() == nil {
		asked := time.Now()
		_, err := l.gate.Login(ctx, email(uid), password(uid))
		attempts++
		if code := client.CodeOf(err); code != client.CodeOK {
			refused++
		} else {
			w.Logf("login without Redis: %v", err)
		}
		slowest = max(slowest, time.Since(asked))
		pause(ctx, 500*time.Millisecond)
	}
	texts := same.Oracle.ackedIn(died, time.Now())
	if err := l.Redis.Start(ctx); err != nil {
		return err
	}
	back := time.Now()
	err = until(ctx, 40*time.Second, "a login works", func() (bool, error) {
		t, err := l.gate.Login(ctx, email(uid), password(uid))
		if err != nil {
			return false, err
		}
		conn, err := client.Dial(ctx, t, client.Options{})
		if err != nil {
			return false, err
		}
		conn.Close()
		<-conn.Done()
		return true, nil
	})
	took := time.Since(back)
	if err != nil {
		return err
	}
	pause(ctx, 2*time.Second)
	Equal(r, "logins refused with a code", refused, attempts)
	AtMost(r, "slowest refusal", slowest, 3*time.Second)
	r.Percent("texts acknowledged meanwhile, of those due", int64(texts), int64(50*away.Seconds()), 90)
	AtMost(r, "login works after", took, 12*time.Second)
	r.Zero("node restarts", l.restarted(pids))
	same.hush()
	c.hush()
	return errors.Join(same.end(ctx, r, 30*time.Second), c.end(ctx, r, 30*time.Second))
}

// pids returns the process ids of all nodes.
func (l *Lab) pids() []int {
	var out []int
	for _, n := range l.Nodes() {
		out = append(out, n.Pid())
	}
	return out
}

// restarted counts the nodes that no longer run under the given process ids.
func (l *Lab) restarted(pids []int) (n int64) {
	for i, node := range l.Nodes() {
		if !node.Running() || node.Pid() != pids[i] {
			n++
		}
	}
	return n
}

// sqlDies implements bar X2.
func sqlDies(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 2})
	if err != nil {
		return err
	}
	c, probe, err := l.crowdAndProbe(ctx, w.N(50, 10))
	if err != nil {
		return err
	}
	defer probe.close()
	rounds := w.N(10, 2)
	c.talk(ctx, 200, 0)
	var slowestAnswer, slowestReturn time.Duration
	unanswered := int64(0)
	for range rounds {
		pause(ctx, time.Duration(500+w.Rand.IntN(1000))*time.Millisecond)
		if err := l.MariaDB.Kill(); err != nil {
			return err
		}
		died := time.Now()
		for time.Since(died) < 2*time.Second && ctx.Err() == nil {
			took, answered, _ := probe.text(ctx, 15*time.Second)
			slowestAnswer = max(slowestAnswer, took)
			if !answered {
				unanswered++
			}
			pause(ctx, 200*time.Millisecond)
		}
		if err := l.MariaDB.Start(ctx); err != nil {
			return err
		}
		back := time.Now()
		err := until(ctx, 60*time.Second, "a text is stored", func() (bool, error) {
			took, answered, stored := probe.text(ctx, 15*time.Second)
			slowestAnswer = max(slowestAnswer, took)
			if !answered {
				unanswered++
			}
			return stored, nil
		})
		if err != nil {
			return err
		}
		slowestReturn = max(slowestReturn, time.Since(back))
	}
	r.Note("kills", rounds)
	r.Zero("texts without an answer", unanswered)
	AtMost(r, "slowest answer", slowestAnswer, 5*time.Second+500*time.Millisecond)
	AtMost(r, "stored again after (worst)", slowestReturn, 9*time.Second)
	return c.end(ctx, r, 40*time.Second)
}

// probe is a user who sends one text at a time, to observe whether and how fast it is answered.
type probe struct {
	conn   *client.Conn
	thread int64
}

// newProbe logs a probe in on a chat node.
func (l *Lab) newProbe(ctx context.Context, node int) (*probe, error) {
	first, threads, err := l.pairs(ctx, 1)
	if err != nil {
		return nil, err
	}
	conn, err := l.dial(ctx, first, node, client.Options{})
	if err != nil {
		return nil, err
	}
	return &probe{conn, threads[0]}, nil
}

// crowdAndProbe logs in n pairs, and a probe on the first node.
func (l *Lab) crowdAndProbe(ctx context.Context, n int) (*Crowd, *probe, error) {
	c, err := l.crowd(ctx, n, nil, client.SessionOptions{})
	if err != nil {
		return nil, nil, err
	}
	p, err := l.newProbe(ctx, 0)
	if err != nil {
		c.close()
	}
	return c, p, err
}

// text sends a text. answered reports that the server answered, stored that it stored the text.
func (p *probe) text(ctx context.Context, within time.Duration) (took time.Duration, answered, stored bool) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	begin := time.Now()
	sent, err := p.conn.SendTexts(ctx, client.InThread(p.thread), client.NewDraft("probe"))
	took = time.Since(begin)
	if err == nil && len(sent) == 1 {
		err = sent[0].Err
	}
	return took, err == nil || client.CodeOf(err) != client.CodeOK, err == nil
}

func (p *probe) close() {
	p.conn.Close()
	<-p.conn.Done()
}
