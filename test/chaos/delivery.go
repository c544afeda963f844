//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"parley/client"
	"parley/lab/faultproxy"
	"parley/lab/launch"
)

// senderJob is the task of a client process of D3: the ticket for its login and the journal that it sends.
type senderJob struct {
	Addr, Token string
	UID         int32
	Thread      int64
	Journal     []client.Draft
}

// beSender is the main function of the client process: it sends its journal, one text after the other, and prints the
// number of each.
func beSender(ctx context.Context, path string, stdout, stderr io.Writer) int {
	text, err := os.ReadFile(path)
	var job senderJob
	if err == nil {
		err = json.Unmarshal(text, &job)
	}
	var conn *client.Conn
	if err == nil {
		conn, err = client.Dial(ctx, client.Ticket{Addr: job.Addr, UID: job.UID, Token: job.Token}, client.Options{})
	}
	if err != nil {
		fmt.Fprintln(stderr, "sender:", err)
		return exitMiss
	}
	defer conn.Close()
	fmt.Fprintln(stdout, "ready")
	for _, d := range job.Journal {
		sent, err := conn.SendTexts(ctx, client.InThread(job.Thread), d)
		if err == nil && len(sent) == 1 {
			err = sent[0].Err
		}
		if err != nil {
			fmt.Fprintln(stderr, "sender:", err)
			return exitMiss
		}
		fmt.Fprintln(stdout, d.UniqueID, sent[0].MessageID)
	}
	return exitPass
}

// killSender implements bar D3.
func killSender(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 2})
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	const workers, texts = 2, 20
	trials := w.N(200, 12) / workers
	first, threads, err := l.pairs(ctx, workers)
	if err != nil {
		return err
	}
	o := newOracle(w)
	waits := make([][]time.Duration, workers)
	for i, thread := range threads {
		o.pair(first+int32(2*i), first+int32(2*i)+1, thread)
		for range trials {
			waits[i] = append(waits[i], time.Duration(w.Rand.IntN(60))*time.Millisecond)
		}
	}
	var killed atomic.Int64
	err = each(workers, workers, func(i int) error {
		uid, thread := first+int32(2*i), threads[i]
		friend, err := l.person(ctx, uid+1, thread, 1, o, client.SessionOptions{})
		if err != nil {
			return err
		}
		defer friend.close()
		for trial := range trials {
			var journal []client.Draft
			for range texts {
				journal = append(journal, o.draft(uid))
			}
			for life := range 2 {
				t, err := l.ticket(ctx, uid, 0)
				if err != nil {
					return err
				}
				name := filepath.Join(w.Dir, fmt.Sprintf("sender-%d-%d-%d", i, trial, life))
				job, err := json.Marshal(senderJob{t.Addr, t.Token, uid, thread, journal})
				if err == nil {
					err = os.WriteFile(name+".json", job, 0o600)
				}
				if err != nil {
					return err
				}
				p := launch.NewProgram(launch.ProgramOptions{Name: "sender", Path: self, Args: []string{"--sender", name + ".json"}, LogPath: name + ".log"})
				if err := p.Start(ctx); err != nil {
					return err
				}
				if life == 0 {
					if err := until(ctx, 30*time.Second, "the client is logged in", func() (bool, error) { return p.Log() != "" || !p.Running(), nil }); err != nil {
						return err
					}
					pause(ctx, waits[i][trial])
					if p.Running() {
						killed.Add(1)
					}
					if err := p.Kill(); err != nil {
						return err
					}
				} else if code, err := p.Wait(ctx); err != nil || code != exitPass {
					return fmt.Errorf("the resending client ended with %d, %w: %s", code, err, p.Log())
				}
				enterAcks(o, p.Log())
				if life == 0 {
					for _, d := range journal {
						o.resent(d.UniqueID)
					}
				}
				_ = os.Remove(name + ".json") // the logs are enough
				_ = os.Remove(name + ".log")
			}
		}
		_, _ = o.settle(ctx, 20*time.Second) // verdict reports what is missing
		return nil
	})
	if err != nil {
		return err
	}
	r.Note("clients killed while sending", killed.Load())
	return o.verdict(ctx, l, r)
}

// enterAcks reads the acknowledgements printed by a client process. It ignores a line that the kill cut off.
func enterAcks(o *Oracle, log string) {
	for line := range strings.Lines(log) {
		var id string
		var seq int64
		if n, _ := fmt.Sscan(line, &id, &seq); n == 2 && strings.HasSuffix(line, "\n") {
			o.answered(client.Sent{UniqueID: id, MessageID: seq})
		}
	}
}

// awayForLong implements bar D4.
func awayForLong(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 2})
	if err != nil {
		return err
	}
	const perFriend = 100
	friends := w.N(50, 10)
	first, err := l.users(ctx, friends+1)
	if err != nil {
		return err
	}
	var both [][2]int32
	for i := range friends {
		both = append(both, [2]int32{first, first + 1 + int32(i)})
	}
	threads, err := l.store.Seed.Friends(ctx, both)
	if err != nil {
		return err
	}
	begun := time.Now()
	err = each(friends, 4, func(i int) error {
		conn, err := l.dial(ctx, both[i][1], 1, client.Options{})
		if err != nil {
			return err
		}
		defer conn.Close()
		for at := 0; at < perFriend; at += 20 {
			var drafts []client.Draft
			for k := range 20 {
				drafts = append(drafts, client.Draft{UniqueID: fmt.Sprintf("away-%d-%d", i, at+k), Text: fmt.Sprint(at + k)})
			}
			sent, err := conn.SendTexts(ctx, client.InThread(threads[i]), drafts...)
			if err != nil {
				return err
			}
			for _, s := range sent {
				if s.Err != nil {
					return s.Err
				}
			}
			pause(ctx, 100*time.Millisecond) // stay within the limit of a user
		}
		return nil
	})
	if err != nil {
		return err
	}
	w.Logf("stored in %v", time.Since(begun))
	before := rssOf(l.Chat[0].Pid())
	stop := peak(l.Chat[0].Pid())
	t, err := l.ticket(ctx, first, 0)
	if err != nil {
		return err
	}
	login := time.Now()
	s, err := client.Open(ctx, client.SessionOptions{Ticket: t, Cursors: []client.Cursor{}})
	if err != nil {
		return err
	}
	defer s.Close()
	got, wrong := 0, int64(0)
	next := make(map[int64]int64)
	rctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	for got < friends*perFriend {
		ev, err := s.Next(rctx)
		if err != nil {
			return fmt.Errorf("after %d texts: %w", got, err)
		}
		if texts, ok := ev.(client.Texts); ok {
			for _, m := range texts.Messages {
				if m.ID != next[m.ThreadID]+1 || m.Text != fmt.Sprint(next[m.ThreadID]) {
					wrong++
				}
				next[m.ThreadID] = m.ID
				got++
			}
		}
	}
	took := time.Since(login)
	Equal(r, "texts", got, friends*perFriend)
	r.Zero("out of order", wrong)
	AtMost(r, "within", took, 9*time.Second)
	r.memory("more memory", stop()-before, 32<<20)
	return nil
}

// dropClients implements bar D5.
func dropClients(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 2}.with("client"))
	if err != nil {
		return err
	}
	c, err := l.crowd(ctx, 2, nil, client.SessionOptions{BackoffBase: 100 * time.Millisecond})
	if err != nil {
		return err
	}
	c.talk(ctx, 50, 0)
	drops := w.N(200, 15)
	for range drops {
		pause(ctx, time.Duration(100+w.Rand.IntN(600))*time.Millisecond)
		l.link(l.Chat[w.Rand.IntN(2)].Name() + "-client").Cut()
	}
	pause(ctx, time.Second)
	c.hush()
	sent := c.sent.Load()
	var resent float64
	for _, n := range l.Chat {
		m, err := metrics(ctx, n)
		if err != nil {
			return err
		}
		resent += m[`parley_store_append_rows_total{result="resent"}`]
	}
	r.Note("drops", drops)
	AtMost(r, "resent in percent", 100*resent/float64(max(1, sent)), 15)
	return c.end(ctx, r, 30*time.Second)
}

// twoWriters implements bar D6.
func twoWriters(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 2})
	if err != nil {
		return err
	}
	c, err := l.crowd(ctx, w.N(20, 8), nil, client.SessionOptions{})
	if err != nil {
		return err
	}
	for _, p := range c.People {
		p.recordLog()
	}
	texts := w.N(20_000, 1_600)
	c.talk(ctx, float64(w.N(500, 200)), texts)
	pause(ctx, 2*time.Second)
	if err := l.Chat[w.Rand.IntN(2)].Pause(); err != nil {
		return err
	}
	pause(ctx, 2*time.Second)
	for _, n := range l.Chat {
		if err := n.Resume(); err != nil {
			return err
		}
	}
	c.awaitSaid()
	c.flush(ctx, 30*time.Second)
	// Both members must have the whole thread: the same list in the same order.
	_ = until(ctx, 20*time.Second, "both members have all", func() (bool, error) {
		for i := 0; i < len(c.People); i += 2 {
			if len(c.People[i].seen()) != len(c.People[i+1].seen()) {
				return false, nil
			}
		}
		return true, nil
	})
	disagree := int64(0)
	for i := 0; i < len(c.People); i += 2 {
		if !slices.Equal(c.People[i].seen(), c.People[i+1].seen()) {
			disagree++
		}
	}
	r.Zero("threads whose members disagree", disagree)
	return c.end(ctx, r, 20*time.Second)
}

// silentPeer implements bar D7.
func silentPeer(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 2}.with("rpc"))
	if err != nil {
		return err
	}
	c, err := l.crowd(ctx, w.N(20, 10), nil, client.SessionOptions{SyncEvery: -1})
	if err != nil {
		return err
	}
	begun := time.Now()
	c.talk(ctx, float64(w.N(200, 50)), 0)
	pause(ctx, w.D(10*time.Second, 4*time.Second))
	silent := time.Now()
	base := c.Oracle.p99(begun, silent)
	l.link("chat2-rpc").SetBoth(faultproxy.Faults{Silent: true})
	pause(ctx, w.D(30*time.Second, 10*time.Second))
	healed := time.Now()
	during := c.Oracle.p99(silent, healed)
	l.link("chat2-rpc").Heal()
	c.hush()
	r.Zero("users with unanswered texts", c.flush(ctx, 20*time.Second))
	took, ok := c.Oracle.settle(ctx, 30*time.Second)
	r.Ratio("p99 of acknowledgements", during, base, 3, w.D(250*time.Millisecond, time.Second))
	r.Is("all delivered", ok, "30 s after the repair")
	AtMost(r, "delivered after the repair", took, 15*time.Second)
	return c.end(ctx, r, 5*time.Second)
}
