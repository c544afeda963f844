//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"parley/client"
)

// networkBars check what a network or a hostile peer can do to connections.
var networkBars = []Bar{
	{
		ID: "N1", Run: slowLoris, Alone: true,
		Fault: "5,000 connections to a chat node and 500 to the gate that send a byte now and then and never finish",
		Want:  "all closed within 10 s (judged at 12 s); goroutines + ≤ 100, memory + ≤ 64 MiB; all honest logins pass meanwhile",
	},
	{
		ID: "N2", Run: cablePulled, Namespace: true,
		Fault: "500 clients cut off without a sign (packets dropped both ways)",
		Want:  "offline within 2.5 heartbeats (30 s; judged at 12.5 s with 5 s); descriptors and goroutines back",
	},
	{
		ID: "N3", Run: packetLoss, Namespace: true,
		Fault: "5 % of the packets between clients and nodes lost for 60 s",
		Want:  "texts lost 0; connections lost ≤ 1 %; p99 ≤ 1.5 s (judged at 3 s)",
	},
	{
		ID: "N4", Run: sliced,
		Fault: "10,000 texts over links that hand on one byte at a time, and 100 frames in one write",
		Want:  "all understood: nothing lost, changed or refused; no connection ends",
	},
	{
		ID: "N5", Run: connectReset,
		Fault: "10,000 connections reset right after they are made",
		Want:  "descriptors and goroutines back to before ± 10 within 10 s (judged at 30 s); panics 0",
	},
	{
		ID: "N6", Run: narrowLink, Namespace: true,
		Fault: "a client behind 1 Mbit/s is sent 2 Mbit/s",
		Want:  "memory of the node + ≤ 32 MiB; nothing lost once it has caught up",
	},
}

// slowLoris implements bar N1.
func slowLoris(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 1, Status: 1, Gate: 1})
	if err != nil {
		return err
	}
	chat, gate := w.N(5_000, 1_000), w.N(500, 100)
	logins := w.N(100, 20)
	first, err := l.users(ctx, logins)
	if err != nil {
		return err
	}
	before, err := resourcesOf(ctx, l.Chat[0])
	if err != nil {
		return err
	}
	gateBefore, err := resourcesOf(ctx, l.Gate[0])
	if err != nil {
		return err
	}
	stop := peak(l.Chat[0].Pid())
	var open atomic.Int64
	var worst widest
	drip := func(addr string, piece []byte) {
		c, err := net.DialTimeout("tcp", addr, 10*time.Second)
		if err != nil {
			return // a refused connection is closed as well
		}
		defer c.Close()
		begin := time.Now()
		_, _ = c.Write(piece) // whether the server still reads is measured below
		raw := &Raw{TCPConn: c.(*net.TCPConn)}
		if errors.Is(raw.awaitClosed(20*time.Second), errStillOpen) {
			open.Add(1)
			return
		}
		worst.add(time.Since(begin))
	}
	var wg sync.WaitGroup
	dial := make(chan struct{}, 64) // bounds concurrent connects
	start := func(n int, addr string, piece []byte) {
		for range n {
			dial <- struct{}{}
			wg.Go(func() {
				time.AfterFunc(20*time.Millisecond, func() { <-dial })
				drip(addr, piece)
			})
		}
	}
	begun := time.Now()
	start(gate, l.Gate[0].Addr(), []byte("POST /user_login HTTP/1.1\r\nHost: x\r\nX-A: "))
	start(chat, l.Chat[0].Addr(), []byte{3})
	w.Logf("connected in %v", time.Since(begun))
	var most int
	if now, err := resourcesOf(ctx, l.Chat[0]); err == nil {
		most = now.goroutines
	}
	var gateMost int
	if now, err := resourcesOf(ctx, l.Gate[0]); err == nil {
		gateMost = now.goroutines
	}
	failed := int64(0)
	for i := range logins {
		uid := first + int32(i)
		t, err := l.gate.Login(ctx, email(uid), password(uid))
		var conn *client.Conn
		if err == nil {
			conn, err = client.Dial(ctx, t, client.Options{})
		}
		if err != nil {
			w.Logf("honest login: %v", err)
			failed++
			continue
		}
		conn.Close()
		<-conn.Done()
	}
	wg.Wait()
	rss := stop()
	r.Note("connections", fmt.Sprintf("%d+%d", chat, gate))
	r.Zero("never closed", open.Load())
	AtMost(r, "closed after (worst)", worst.get(), 12*time.Second)
	AtMost(r, "more goroutines in the chat node", most-before.goroutines, 100)
	r.Note("more goroutines in the gate", gateMost-gateBefore.goroutines)
	r.memory("more memory", rss-before.rss, 64<<20)
	r.Zero(fmt.Sprintf("of %d honest logins failed", logins), failed)
	return nil
}
