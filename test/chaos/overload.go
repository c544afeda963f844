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
	"parley/internal/cluster"
	"parley/internal/cluster/faultproxy"
	"parley/internal/wire"
)

// stampede is O1.
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
	uids := make([]int32, n)
	for i := range uids {
		uids[i] = first + int32(i)
	}
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

// pusher is a connection that sends as much as it is told and counts the answers, without waiting for them.
type pusher struct {
	*Raw
	thread  int64
	sent    atomic.Int64
	stored  atomic.Int64
	refused atomic.Int64
	mu      sync.Mutex
	at      map[string]time.Time // when each text was due
	took    []latency
}

// read counts answers until the connection ends.
func (p *pusher) read() {
	for {
		id, rsp, err := p.next(60 * time.Second)
		if err != nil {
			return
		}
		if id != wire.MsgTextRsp {
			continue
		}
		p.stored.Add(int64(rsp.stored()))
		p.refused.Add(int64(rsp.refused()))
		if rsp.stored() == 0 && rsp.refused() == 0 && rsp.Error != 0 {
			p.refused.Add(1)
		}
		if rsp.stored() > 0 {
			if _, after, ok := strings.Cut(rsp.raw, `"unique_id":"`); ok {
				key, _, _ := strings.Cut(after, `"`)
				p.mu.Lock()
				if at, ok := p.at[key]; ok {
					p.took = append(p.took, latency{time.Now(), time.Since(at)})
				}
				p.mu.Unlock()
			}
		}
	}
}

// push sends one text with texts elements, due at a moment.
func (p *pusher) push(due time.Time, texts int) {
	drafts := make([]client.Draft, texts)
	n := p.sent.Add(int64(texts))
	for i := range drafts {
		drafts[i] = client.Draft{UniqueID: fmt.Sprintf("p-%d-%d", p.UID, n+int64(i)), Text: "a text as people send them, of some forty bytes"}
	}
	p.mu.Lock()
	p.at[drafts[0].UniqueID] = due
	p.mu.Unlock()
	p.send(wire.MsgText, textBody(p.thread, drafts...))
}

// p99 is that of the answers between two moments, over all pushers.
func p99Of(all []*pusher, from, to time.Time) time.Duration {
	var d []time.Duration
	for _, p := range all {
		p.mu.Lock()
		for _, l := range p.took {
			if l.at.After(from) && l.at.Before(to) {
				d = append(d, l.took)
			}
		}
		p.mu.Unlock()
	}
	return percentile(d, 0.99)
}

// pushers logs n senders in, spread over the nodes.
func (l *Lab) pushers(ctx context.Context, n int, device string) ([]*pusher, *sync.WaitGroup, error) {
	first, threads, err := l.pairs(ctx, n)
	if err != nil {
		return nil, nil, err
	}
	var readers sync.WaitGroup
	out := make([]*pusher, n)
	for i := range out {
		t, err := l.ticket(ctx, first+int32(2*i), i%len(l.Chat))
		if err != nil {
			return out, &readers, err
		}
		raw, err := loginRaw(ctx, t, native("device", device, "window", 64), rawOptions{})
		if err != nil {
			return out, &readers, err
		}
		out[i] = &pusher{Raw: raw, thread: threads[i], at: make(map[string]time.Time)}
		readers.Go(out[i].read)
	}
	return out, &readers, nil
}

func closePushers(all []*pusher) {
	for _, p := range all {
		if p != nil {
			_ = p.Close() // a client that goes away
		}
	}
}

// tripleLoad is O3.
func tripleLoad(ctx context.Context, w *World, r *Report) error {
	// Without the limits of one user, which would refuse long before the cluster must. SQL is some way off, so that it is
	// what bounds the texts: with all on one machine, whoever sends three times as many takes the processors from those who
	// store.
	l, err := w.Start(ctx, Layout{Chat: 2, Links: []string{"sql"}, Configure: func(n *cluster.Node, _ int, f *cluster.INI) error {
		if n.Role() == cluster.Chat {
			f.Set("Limits", "RequestRate", "0")
			f.Set("Limits", "TextRate", "0")
		}
		return nil
	}})
	if err != nil {
		return err
	}
	for _, n := range l.Chat {
		l.link(n.Name() + "-sql").SetBoth(faultproxy.Faults{Latency: 10 * time.Millisecond})
	}
	all, readers, err := l.pushers(ctx, w.N(100, 40), "native")
	defer readers.Wait()
	defer closePushers(all)
	if err != nil {
		return err
	}
	const each8 = 8 // texts of a request
	stored := func() (n int64) {
		for _, p := range all {
			n += p.stored.Load()
		}
		return n
	}
	// offered sends rate requests per second, spread over all, for a while, whatever comes back.
	offered := func(rate float64, d time.Duration) {
		begun := time.Now()
		var wg sync.WaitGroup
		const senders = 8
		for s := range senders {
			wg.Go(func() {
				for i := s; ; i += senders {
					due := begun.Add(time.Duration(float64(i) / rate * float64(time.Second)))
					if due.Sub(begun) > d || ctx.Err() != nil {
						return
					}
					pause(ctx, time.Until(due))
					all[i%len(all)].push(due, each8)
				}
			})
		}
		wg.Wait()
	}
	// The maximum, with a full window of each under way.
	calm := time.Now()
	offered(50, w.D(5*time.Second, 2*time.Second))
	begun, before := time.Now(), stored()
	base := p99Of(all, calm, begun)
	closed := w.D(10*time.Second, 3*time.Second)
	var wg sync.WaitGroup
	for _, p := range all {
		wg.Go(func() {
			for time.Since(begun) < closed && ctx.Err() == nil {
				if p.sent.Load()-p.stored.Load()-p.refused.Load() > 64-each8 {
					time.Sleep(time.Millisecond)
					continue
				}
				p.push(time.Now(), each8)
			}
		})
	}
	wg.Wait()
	maximum := float64(stored()-before) / time.Since(begun).Seconds()
	over := time.Now()
	before = stored()
	offered(3*maximum/each8, w.D(60*time.Second, 6*time.Second))
	ended := time.Now()
	pause(ctx, time.Second)
	good := float64(stored()-before) / ended.Sub(over).Seconds()
	accepted := p99Of(all, over, ended)
	refused := int64(0)
	for _, p := range all {
		refused += p.refused.Load()
	}
	recovered := until(ctx, 30*time.Second, "a text is quick again", func() (bool, error) {
		from := time.Now()
		offered(20, 300*time.Millisecond)
		pause(ctx, 500*time.Millisecond)
		d := p99Of(all, from, time.Now())
		return d > 0 && d <= max(base*3, 500*time.Millisecond), fmt.Errorf("p99 %v, before %v", d, base)
	})
	r.Note("maximum texts/s", maximum)
	AtLeast(r, "stored at three times that, in percent of it", 100*good/maximum, w.floor(80, 50))
	AtMost(r, "accepted p99", accepted, w.D(time.Second, 3*time.Second))
	r.Note("texts refused", refused)
	r.Is("quick again", recovered == nil, recovered)
	AtMost(r, "after", time.Since(ended), 30*time.Second)
	return nil
}

// floor is N for a bound in percent: short runs are noisy.
func (w *World) floor(full, short float64) float64 {
	if w.Short {
		return short
	}
	return full
}

// smallMemory is O4.
func smallMemory(ctx context.Context, w *World, r *Report) error {
	group := fmt.Sprintf("/sys/fs/cgroup/memory/parley-chaos-%d", os.Getpid())
	if err := os.Mkdir(group, 0o755); err != nil {
		return skip("a control group for memory (version 1): %v", err)
	}
	defer os.Remove(group)
	if err := os.WriteFile(filepath.Join(group, "memory.limit_in_bytes"), []byte("268435456"), 0o644); err != nil {
		return skip("a control group for memory: %v", err)
	}
	l, err := w.Start(ctx, Layout{Chat: 1, Through: func(n *cluster.Node, _ int) []string {
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
	pause(ctx, w.D(20*time.Second, 3*time.Second)) // what the rush left behind is given back
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
	r.memory("an idle connection costs", perIdle, int64(w.N(20<<10, 60<<10))) // a short run divides the pools among few
	if err := c.end(ctx, r, 30*time.Second); err != nil {
		return err
	}
	closeAll(raws)
	return l.Close()
}

// perAddress is O5.
func perAddress(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 1, Configure: func(_ *cluster.Node, _ int, f *cluster.INI) error {
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
	pause(ctx, 2*time.Second) // so that it is not the rate that refuses
	asked := time.Now()
	c, err := dialRaw(ctx, l.Chat[0].Addr(), rawOptions{From: "127.0.0.2"})
	closed := err != nil
	if err == nil {
		closed = c.awaitClosed(5*time.Second) == nil
		_ = c.Close() // closed already, as hoped
	}
	r.Is("connection 101 refused", closed, "it is open")
	AtMost(r, "refused after", time.Since(asked), time.Second)

	// 300 at once from another address: some pass, the rest are closed at once.
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

// noDescriptors is O6.
func noDescriptors(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{
		Chat: 1,
		Through: func(*cluster.Node, int) []string {
			return []string{"/bin/sh", "-c", `ulimit -n 256 && exec "$@"`, "sh"}
		},
		Configure: func(_ *cluster.Node, _ int, f *cluster.INI) error {
			f.Set("Limits", "Connections", "1000") // so that the descriptors end first
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
			break // the backlog is full as well
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

// cpuOf reads the seconds of processor time that a process has used.
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
	return (user + system) / 100, err // ticks of 10 ms on every Linux of today
}

// flood is O7.
func flood(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 2})
	if err != nil {
		return err
	}
	others, err := l.crowd(ctx, w.N(20, 6), nil, client.SessionOptions{})
	if err != nil {
		return err
	}
	first, threads, err := l.pairs(ctx, 1)
	if err != nil {
		return err
	}
	begun := time.Now()
	others.talk(ctx, 50, 0)
	pause(ctx, w.D(5*time.Second, 2*time.Second))
	t, err := l.ticket(ctx, first, 0)
	if err != nil {
		return err
	}
	raw, err := loginRaw(ctx, t, native(), rawOptions{})
	if err != nil {
		return err
	}
	started := time.Now()
	base := others.Oracle.p99(begun, started)
	var reading sync.WaitGroup
	reading.Go(func() { _ = raw.awaitClosed(60 * time.Second) }) // it reads what it is answered, so that it lasts longer
	defer reading.Wait()
	defer raw.Close()
	sent := 0
	for time.Since(started) < 20*time.Second {
		var burst []byte
		for range 50 {
			sent++
			burst = append(burst, frame(wire.MsgText, textBody(threads[0], client.Draft{UniqueID: fmt.Sprintf("flood-%d", sent), Text: "x"}))...)
		}
		_ = raw.SetWriteDeadline(time.Now().Add(10 * time.Second))
		if _, err := raw.Write(burst); err != nil {
			break
		}
	}
	ended := time.Now()
	during := others.Oracle.p99(started, ended)
	pause(ctx, time.Second) // what was accepted is stored
	rows, err := l.stored(ctx, threads[0])
	if err != nil {
		return err
	}
	took := ended.Sub(started)
	r.Note("texts sent", sent)
	AtMost(r, "stored", rows, int(51*took.Seconds())+101)
	AtMost(r, "closed after", took, 10*time.Second)
	r.Ratio("p99 of others", during, base, 2, w.D(250*time.Millisecond, time.Second))
	return others.end(ctx, r, 20*time.Second)
}

// loginStorm is O8.
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

// batchFlood is O10.
func batchFlood(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 2})
	if err != nil {
		return err
	}
	first, threads, err := l.pairs(ctx, 1)
	if err != nil {
		return err
	}
	const devices = 8
	const rate, burst = 50, 100
	begun := time.Now()
	length := w.D(15*time.Second, 5*time.Second)
	fctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var sent, logins atomic.Int64
	once(devices, func(d int) {
		for life := 0; fctx.Err() == nil; life++ {
			t, err := l.ticket(fctx, first, d%2)
			if err != nil {
				return
			}
			raw, err := loginRaw(fctx, t, native("device", fmt.Sprintf("d%d", d)), rawOptions{})
			if err != nil {
				pause(fctx, 200*time.Millisecond)
				continue
			}
			logins.Add(1)
			for k := 0; k < 40 && fctx.Err() == nil; k++ {
				drafts := make([]client.Draft, wire.MaxTexts)
				for i := range drafts {
					drafts[i] = client.Draft{UniqueID: fmt.Sprintf("b-%d-%d-%d-%d", d, life, k, i), Text: "x"}
				}
				raw.send(wire.MsgText, textBody(threads[0], drafts...))
				if _, err := raw.expect(wire.MsgTextRsp, 5*time.Second); err != nil {
					break
				}
				sent.Add(wire.MaxTexts)
			}
			_ = raw.Close() // and in again
		}
	})
	took := time.Since(begun)
	pause(ctx, 500*time.Millisecond)
	rows, err := l.stored(ctx, threads[0])
	if err != nil {
		return err
	}
	r.Note("texts sent", sent.Load())
	r.Note("logins", logins.Load())
	AtMost(r, "stored by one user on two nodes", rows, int(rate*took.Seconds())+burst)
	return nil
}

// once runs f for 0 to n-1 at the same moment and waits for all.
func once(n int, f func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}

// silentCrowd is O11.
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
	// hold keeps n connections open for as long as the bar lasts: whoever is closed comes back.
	hold := func(n int, addr, say string) {
		const feeders = 32
		for range feeders {
			crowd.Go(func() {
				conns := make([]net.Conn, n/feeders)
				defer func() {
					for _, c := range conns {
						if c != nil {
							_ = c.Close() // a client that goes away
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
						_, _ = c.Write([]byte(say)) // whether it is read is the server's business
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
