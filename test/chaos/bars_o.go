//go:build linux

package main

import (
	"context"
	"sync"
	"time"

	"parley/client"
)

// overloadBars check loads beyond a node's capacity, clients that do not read, and the limits that protect other
// users.
var overloadBars = []Bar{
	{
		ID: "O1", Run: stampede, Alone: true, Limit: 8 * time.Minute,
		Fault: "10,000 clients lose their node at once (kill -9 of one of two)",
		Want:  "99 % are back within 30 s; the other node does not restart; texts lost among the users who stayed 0",
	},
	{
		ID: "O2", Run: slowReaders, Alone: true,
		Fault: "100 clients stop reading while each is sent as much as one user may send (50 texts of 4 KB per second)",
		Want:  "each is closed within 5 s of a full outbox (judged at 15 s from the first text); memory + ≤ 100 × 1 MiB + 64 MiB; p99 of others ≤ 2 × before (or 250 ms); descriptors back within 5 s (judged at 15 s)",
	},
	{
		ID: "O3", Run: tripleLoad, Alone: true,
		Fault: "three times as many texts as the cluster can store with SQL 20 ms away, for 60 s",
		Want:  "stored ≥ 80 % of the maximum; accepted p99 ≤ 1 s; the rest refused with a code; a text is quick again within 10 s",
	},
	{
		ID: "O4", Run: smallMemory,
		Fault: "5,000 idle and 500 talking connections on a node in a 256 MiB control group",
		Want:  "killed for want of memory 0; an idle connection costs ≤ 20 KiB",
	},
	{
		ID: "O5", Run: perAddress,
		Fault: "the 101st connection from one address (limit 100), and 300 new ones at once (limit 50 per second)",
		Want:  "refused within 50 ms (judged at 1 s); other addresses pass",
	},
	{
		ID: "O6", Run: noDescriptors,
		Fault: "a node at its descriptor limit (256)",
		Want:  "CPU ≤ 20 % of a core while full (judged at 50 %); sessions there unharmed; logins work within 2 s (judged at 6 s) after room is made",
	},
	{
		ID: "O7", Run: flood, Alone: true,
		Fault: "one client sends texts as fast as it can (limit 50 per second, burst 100)",
		Want:  "stored ≤ rate + burst; the client is closed within 10 s; p99 of others ≤ 2 × before (or 250 ms)",
	},
	{
		ID: "O8", Run: loginStorm, Alone: true,
		Fault: "500 logins by password at once at one gate",
		Want:  "memory + ≤ 128 MiB (two hashes of 19 MiB, and what the collector has yet to free); refused logins get a code; /healthz p99 ≤ 50 ms (judged at 500 ms); p99 of chat ≤ 3 × before (or 500 ms)",
	},
	{
		ID: "O10", Run: batchFlood,
		Fault: "one user sends arrays of 64 texts on 8 devices at once, and reconnects",
		Want:  "stored per user ≤ 50 per second + burst 100, across devices and connections",
	},
	{
		ID: "O11", Run: silentCrowd, Alone: true,
		Fault: "10,000 silent connections to a chat node and 6,000 held ones to the gate (a body announced and never sent)",
		Want:  "100 of 100 honest logins pass through gate and node",
	},
}

// slowReaders implements bar O2.
func slowReaders(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 2})
	if err != nil {
		return err
	}
	n := w.N(100, 12)
	first, threads, err := l.pairs(ctx, n)
	if err != nil {
		return err
	}
	others, err := l.crowd(ctx, w.N(20, 8), nil, client.SessionOptions{})
	if err != nil {
		return err
	}
	begun := time.Now()
	others.talk(ctx, 50, 0)
	pause(ctx, w.D(10*time.Second, 3*time.Second))
	calm := time.Now()
	base := others.Oracle.p99(begun, calm)
	before, err := resourcesOf(ctx, l.Chat[0])
	if err != nil {
		return err
	}
	stopPeak := peak(l.Chat[0].Pid())

	readers := make([]*Raw, n)
	senders := make([]*client.Conn, n)
	defer func() {
		closeAll(readers)
		for _, s := range senders {
			if s != nil {
				s.Close()
			}
		}
	}()
	err = each(n, 16, func(i int) error {
		t, err := l.ticket(ctx, first+int32(2*i), 0)
		if err != nil {
			return err
		}
		// The receive buffer is small; otherwise the kernel would accept megabytes on behalf of the client.
		if readers[i], err = loginRaw(ctx, t, native(), rawOptions{ReceiveBuffer: 4 << 10}); err != nil {
			return err
		}
		senders[i], err = l.dial(ctx, first+int32(2*i)+1, 1, client.Options{Device: "sender"})
		return err
	})
	if err != nil {
		return err
	}
	started := time.Now()
	sctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	text := string(make4K())
	for i := range n {
		wg.Go(func() {
			for k := 0; sctx.Err() == nil; k++ {
				// Stay within the rate permitted to every user; refusals do no harm.
				pause(sctx, time.Until(started.Add(time.Duration(k)*25*time.Millisecond)))
				_, _ = senders[i].SendTexts(sctx, client.InThread(threads[i]), client.NewDraft(text))
			}
		})
	}
	// Only the server knows that it has closed a connection, because the clients do not read.
	var last time.Duration
	uids := make([]int32, n)
	for i := range uids {
		uids[i] = first + int32(2*i)
	}
	left := n
	for time.Since(started) < 30*time.Second && left > 0 && ctx.Err() == nil {
		if left, err = l.countOnline(ctx, uids); err != nil {
			break
		}
		last = time.Since(started)
		pause(ctx, 100*time.Millisecond)
	}
	stop()
	wg.Wait()
	if err != nil {
		return err
	}
	slow := time.Now()
	during := others.Oracle.p99(started, slow)
	rss := stopPeak()
	gone := time.Now()
	for _, s := range senders {
		s.Close()
		<-s.Done()
	}
	fdErr := until(ctx, 15*time.Second, "descriptors are back", func() (bool, error) {
		now, err := resourcesOf(ctx, l.Chat[0])
		return err == nil && now.fds <= before.fds+12, err
	})
	r.Note("slow readers", n)
	r.Zero("still connected", int64(left))
	AtMost(r, "closed after (worst)", last, 15*time.Second)
	r.memory("more memory", rss-before.rss, int64(n)<<20+64<<20)
	r.Ratio("p99 of others", during, base, 2, w.D(250*time.Millisecond, time.Second))
	r.Is("descriptors back", fdErr == nil, fdErr)
	r.Note("after", time.Since(gone))
	return others.end(ctx, r, 20*time.Second)
}

// make4K returns a text of 4,000 bytes.
func make4K() []byte {
	b := make([]byte, 4000)
	for i := range b {
		b[i] = 'a' + byte(i%26)
	}
	return b
}
