//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"parley/client"
	"parley/lab/faultproxy"
)

// deliveryBars check that an acknowledged text is stored once, in order, and reaches the other member once.
var deliveryBars = []Bar{
	{
		ID: "D1", Run: killNodes, Limit: 8 * time.Minute,
		Fault: "kill -9 of a random chat node every 10 s, 10 times, restarted after 2 s; 200 users, 50,000 texts",
		Want:  "acknowledged texts lost, doubled or reordered: 0; 99 % of the node's clients are back within 5 s of the kill",
	},
	{
		ID: "D2", Run: cutAcks,
		Fault: "connection reset between the commit and the acknowledgement, at a random byte of the answer, 1,000 times",
		Want:  "one row per text; the resend is answered with the row's number; delivered once",
	},
	{
		ID: "D3", Run: killSender,
		Fault: "client killed with SIGKILL between send and acknowledgement, 200 times; a new process resends its journal",
		Want:  "each text of the journal stored once and delivered once",
	},
	{
		ID: "D4", Run: awayForLong,
		Fault: "recipient offline while 50 friends send 5,000 texts",
		Want:  "all delivered in order within 3 s of the login (judged at 9 s); memory of the node + ≤ 32 MiB",
	},
	{
		ID: "D5", Run: dropClients,
		Fault: "both ends of a conversation dropped at random moments, 200 times, at 50 texts per second",
		Want:  "no gap, no double; resent ≤ 5 % of the texts (judged at 15 %)",
	},
	{
		ID: "D6", Run: twoWriters,
		Fault: "two writers on two nodes in each of 20 threads, 20,000 texts; one node paused for 2 s",
		Want:  "both members see one order; numbers are dense",
	},
	{
		ID: "D7", Run: silentPeer, Alone: true,
		Fault: "the RPC link to a chat node silent for 30 s",
		Want:  "senders acknowledged (p99 ≤ 3 × before, or 250 ms); all delivered within 5 s of the repair (judged at 15 s); lost 0",
	},
	{
		ID: "D8", Run: killWriters,
		Fault: "kill -9 of a process with four transactions of texts under way, at a random moment of them, 1,000 times; the next one resends what was not acknowledged",
		Want:  "acknowledged texts lost 0, doubled 0; each thread is dense and in order",
	},
}

// killNodes implements bar D1.
func killNodes(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, standard)
	if err != nil {
		return err
	}
	kills, texts := w.N(10, 2), w.N(50_000, 1_600)
	every := w.D(10*time.Second, 6*time.Second)
	c, err := l.crowd(ctx, w.N(100, 20), nil, client.SessionOptions{})
	if err != nil {
		return err
	}
	rate := float64(texts) / (time.Duration(kills) * every).Seconds()
	c.talk(ctx, rate, texts)
	var hit, back int64
	var slowest time.Duration
	for range kills {
		pause(ctx, every/4)
		victim := l.Chat[w.Rand.IntN(len(l.Chat))]
		var there []*Person
		for _, p := range c.People {
			if p.Node() == victim.Name() {
				there = append(there, p)
			}
		}
		killed := time.Now()
		w.Logf("kill %s with %d users", victim.Name(), len(there))
		if err := victim.Kill(); err != nil {
			return err
		}
		pause(ctx, 2*time.Second)
		if err := victim.Start(ctx); err != nil {
			return err
		}
		pause(ctx, time.Until(killed.Add(every*3/4)))
		for _, p := range there {
			hit++
			at := p.backAfter(killed)
			if took := at.Sub(killed); !at.IsZero() && took <= 5*time.Second {
				back++
				slowest = max(slowest, took)
			}
		}
	}
	c.awaitSaid()
	r.Note("kills", kills)
	r.Percent("back within 5s", back, hit, 99)
	r.Note("slowest of them", slowest)
	r.Zero("texts not sent", c.failed.Load())
	return c.end(ctx, r, time.Minute)
}

// cutAcks implements bar D2. The proxy resets the connection after a random part of the answer, which the node sends
// after its commit.
func cutAcks(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 2})
	if err != nil {
		return err
	}
	const workers = 4
	trials := w.N(1_000, 80)
	first, threads, err := l.pairs(ctx, workers)
	if err != nil {
		return err
	}
	o := newOracle(w)
	for i, thread := range threads {
		o.pair(first+int32(2*i), first+int32(2*i)+1, thread)
	}
	var same, early atomic.Int64
	seeds := make([]uint64, workers)
	for i := range seeds {
		seeds[i] = w.Rand.Uint64()
	}
	err = each(workers, workers, func(i int) error {
		uid, thread := first+int32(2*i), threads[i]
		friend, err := l.person(ctx, uid+1, thread, 1, o, client.SessionOptions{})
		if err != nil {
			return err
		}
		defer friend.close()
		cut, err := newAckCutter(ctx, l, uid, thread, seeds[i])
		if err != nil {
			return err
		}
		defer cut.close()
		for range trials / workers {
			lost, ok, err := cut.try(ctx, o)
			if err != nil {
				return err
			}
			if !lost {
				early.Add(1)
			}
			if ok {
				same.Add(1)
			}
		}
		_, _ = o.settle(ctx, 20*time.Second) // verdict reports what is missing
		return nil
	})
	if err != nil {
		return err
	}
	rows := 0
	for _, thread := range threads {
		n, err := l.stored(ctx, thread)
		if err != nil {
			return err
		}
		rows += n
	}
	n := trials / workers * workers
	r.Note("answers that came through all the same", early.Load())
	Equal(r, "rows", rows, n)
	Equal(r, "resends answered with the row's number", same.Load(), int64(n))
	return o.verdict(ctx, l, r)
}

// ackCutter is a user whose connections are cut in the middle of an answer.
type ackCutter struct {
	l      *Lab
	thread int64
	proxy  *faultproxy.Proxy
	conn   *client.Conn
	before int64 // bytes received by earlier connections
	rng    *rand.Rand
}

func newAckCutter(ctx context.Context, l *Lab, uid int32, thread int64, seed uint64) (*ackCutter, error) {
	p, err := faultproxy.Listen(l.Chat[0].Addr(), faultproxy.Options{Seed: seed})
	if err != nil {
		return nil, err
	}
	k := &ackCutter{l: l, thread: thread, proxy: p, rng: rand.New(rand.NewPCG(seed, 0))}
	t, err := l.ticket(ctx, uid, 0)
	if err == nil {
		t.Addr = p.Addr()
		k.conn, err = client.Dial(ctx, t, client.Options{})
	}
	if err != nil {
		_ = p.Close() // it is unused
		return nil, err
	}
	return k, nil
}

func (k *ackCutter) close() {
	k.conn.Close()
	<-k.conn.Done()
	_ = k.proxy.Close() // all its connections have ended
}

// try sends a text whose answer is cut off, logs in again and repeats the text. lost reports that the first answer
// did not arrive, same that the second answer named the stored row.
func (k *ackCutter) try(ctx context.Context, o *Oracle) (lost, same bool, err error) {
	uid := k.conn.Profile().UID
	d := o.draft(uid)
	const answer = 120 // approximate bytes of a 1018
	k.proxy.Set(faultproxy.ToClient, faultproxy.Faults{ResetAfter: k.got() + 1 + int64(k.rng.IntN(answer))})
	sctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	sent, err := k.conn.SendTexts(sctx, client.InThread(k.thread), d)
	lost = err != nil || len(sent) != 1 || sent[0].Err != nil
	k.proxy.SetBoth(faultproxy.Faults{})
	k.proxy.Cut()
	<-k.conn.Done()
	t := k.conn.Ticket()
	t.Addr = k.proxy.Addr()
	err = until(ctx, 20*time.Second, "the user is logged in again", func() (bool, error) {
		k.before = k.proxy.Passed(faultproxy.ToClient)
		conn, err := client.Dial(ctx, t, client.Options{})
		if client.Advise(err) == client.LoginAgain {
			if t, err = k.l.ticket(ctx, uid, 0); err != nil {
				return false, err
			}
			t.Addr = k.proxy.Addr()
			return false, errors.New("ticket refused")
		}
		if err != nil {
			return false, err
		}
		k.conn = conn
		return true, nil
	})
	if err != nil {
		return lost, false, err
	}
	o.resent(d.UniqueID)
	again, err := k.conn.SendTexts(ctx, client.InThread(k.thread), d)
	if err != nil || len(again) != 1 {
		return lost, false, fmt.Errorf("resend: %d answers, %w", len(again), err)
	}
	o.answered(again[0])
	var seq int64
	err = k.l.db.QueryRowContext(ctx, "SELECT seq FROM chat_message WHERE sender_id = ? AND unique_id = ?", uid, d.UniqueID).Scan(&seq)
	if err != nil {
		return lost, false, fmt.Errorf("read the row: %w", err)
	}
	return lost, again[0].Err == nil && again[0].MessageID == seq && again[0].ThreadID == k.thread, nil
}

// got returns the number of bytes this connection has received: the proxy counts those of all its connections.
func (k *ackCutter) got() int64 { return k.proxy.Passed(faultproxy.ToClient) - k.before }
