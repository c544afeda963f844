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

// networkBars: what a network or a hostile peer does to connections.
var networkBars = []Bar{
	{
		ID: "N1", Run: slowLoris, Alone: true,
		Fault: "5,000 connections to a chat node and 500 to the gate that send a byte now and then and never finish",
		Want:  "all closed within 10 s (judged at 12 s); goroutines + ≤ 100, memory + ≤ 64 MiB; all honest logins pass meanwhile",
	},
}

// slowLoris is N1.
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
	var worst, open atomic.Int64
	drip := func(addr string, piece []byte) {
		c, err := net.DialTimeout("tcp", addr, 10*time.Second)
		if err != nil {
			return // refused is closed as well
		}
		defer c.Close()
		begin := time.Now()
		_, _ = c.Write(piece) // whether it still listens is what is measured below
		raw := &Raw{TCPConn: c.(*net.TCPConn)}
		if errors.Is(raw.awaitClosed(20*time.Second), errStillOpen) {
			open.Add(1)
			return
		}
		took := int64(time.Since(begin))
		for {
			old := worst.Load()
			if took <= old || worst.CompareAndSwap(old, took) {
				return
			}
		}
	}
	var wg sync.WaitGroup
	dial := make(chan struct{}, 64) // how many connect at once
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
	AtMost(r, "closed after (worst)", time.Duration(worst.Load()), 12*time.Second)
	AtMost(r, "more goroutines in the chat node", most-before.goroutines, 100)
	r.Note("more goroutines in the gate", gateMost-gateBefore.goroutines)
	r.memory("more memory", rss-before.rss, 64<<20)
	r.Zero(fmt.Sprintf("of %d honest logins failed", logins), failed)
	return nil
}
