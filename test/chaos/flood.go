//go:build linux

package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"parley/client"
	"parley/internal/wire"
	"parley/lab/faultproxy"
	"parley/lab/launch"
)

// pusher is a connection that sends as many texts as required and counts the answers without waiting for them.
type pusher struct {
	*Raw
	thread  int64
	sent    atomic.Int64
	stored  atomic.Int64
	refused atomic.Int64
	mu      sync.Mutex
	at      map[string]time.Time // due time of each text
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

// push sends a request with the given number of texts, due at a time.
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

// p99Of returns the 99th percentile of the answers between two times, over all pushers.
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

// pushers logs in n senders, spread over the nodes.
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
			_ = p.Close() // the client disconnects
		}
	}
}

// tripleLoad implements bar O3.
func tripleLoad(ctx context.Context, w *World, r *Report) error {
	// Remove the limits of users, which would refuse texts long before the cluster must. Add latency to SQL, so that
	// SQL limits the throughput: with everything on one machine, a flood of three times as many texts would take the
	// processors from the work of storing them.
	l, err := w.Start(ctx, Layout{Chat: 2, Links: []string{"sql"}, Configure: func(n *launch.Node, _ int, f *launch.INI) error {
		if n.Role() == launch.Chat {
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
	const each8 = 8 // texts per request
	stored := func() (n int64) {
		for _, p := range all {
			n += p.stored.Load()
		}
		return n
	}
	// offered sends rate requests per second for a time, spread over all pushers, regardless of the answers.
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
	// Measure the maximum, with a full window of each pusher in flight.
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

// floor is like N, for a bound in percent: short runs are noisy.
func (w *World) floor(full, short float64) float64 {
	if w.Short {
		return short
	}
	return full
}

// flood implements bar O7.
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
	reading.Go(func() { _ = raw.awaitClosed(60 * time.Second) }) // it reads its answers, so that it lasts longer
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
	pause(ctx, time.Second) // until accepted texts are stored
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

// batchFlood implements bar O10.
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
			_ = raw.Close() // log in again
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

// once calls f for 0 to n-1 concurrently and waits for all.
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
