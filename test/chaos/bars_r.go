//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"parley/client"
	"parley/lab/faultproxy"
)

// recoveryBars check what online users receive after a dependency was unavailable, and stores that fail over.
var recoveryBars = []Bar{
	{
		ID: "R1", Run: flushedThrice,
		Fault: "FLUSHALL three times under load",
		Want:  "every online user has every text within 5 s (judged at 10 s) of the last, by push or by gap notice",
	},
	{
		ID: "R2", Run: redisGoneAndEmpty,
		Fault: "Redis dead for 30 s under load, then empty",
		Want:  "every online user has every text within 5 s (judged at 10 s) of its return",
	},
	{
		ID: "R3", Run: rpcSilent,
		Fault: "RPC between all chat nodes silent for 30 s under load",
		Want:  "every online user has every text within 5 s (judged at 10 s) of the repair",
	},
	{
		ID: "R4", Run: oneNodeWithoutRedis,
		Fault: "one chat node cut from Redis for 20 s under load",
		Want:  "every online user has every text within 5 s (judged at 10 s) of the repair",
	},
	{
		ID: "R5", Run: unclearCommits,
		Fault: "mariadbd paused for 20 s, then killed, under load: commits without an answer",
		Want:  "every stored text is delivered to online users within 5 s (judged at 15 s); lost and doubled 0",
	},
	{
		ID: "R6", Run: sqlFailOver,
		Fault: "planned fail-over by address: the old primary turns read-only and stays up, a replica takes over",
		Want:  "stored again within 15 s; lost and doubled 0",
	},
	{
		ID: "R7", Run: sentinelFailOver,
		Fault: "Redis with a replica and three sentinels; the master killed",
		Want:  "logins work and texts between nodes are pushed within 30 s; lost 0",
	},
	{
		ID: "R8", Run: redisClusterFailOver,
		Fault: "a Redis Cluster of six nodes; one master killed",
		Want:  "logins work and texts between nodes are pushed within 30 s; lost 0",
	},
}

// onlineGetAll injects a fault while users exchange texts without ever asking for what they missed, and checks that
// all of them have all texts within a time. fault returns after it has been repaired.
func onlineGetAll(ctx context.Context, w *World, r *Report, layout Layout, within time.Duration, fault func(l *Lab) error) error {
	l, err := w.Start(ctx, layout)
	if err != nil {
		return err
	}
	c, err := l.crowd(ctx, w.N(50, 12), nil, client.SessionOptions{SyncEvery: -1})
	if err != nil {
		return err
	}
	begun := time.Now()
	c.talk(ctx, float64(w.N(300, 60)), 0)
	pause(ctx, 2*time.Second)
	if err := fault(l); err != nil {
		return err
	}
	repaired := time.Now()
	pause(ctx, 2*time.Second)
	c.hush()
	r.Zero("users with unanswered texts", c.flush(ctx, 40*time.Second))
	_, ok := c.Oracle.settle(ctx, 40*time.Second)
	took := time.Since(repaired)
	drops := 0
	for _, p := range c.People {
		drops += p.disconnections(begun, time.Now())
	}
	r.Note("connections lost", drops)
	r.Is("every online user has every text", ok, fmt.Sprintf("%d acked, %d delivered", c.Oracle.counts().Acked, c.Oracle.counts().Delivered))
	AtMost(r, "within", took, within)
	return c.end(ctx, r, 5*time.Second)
}

// flushedThrice implements bar R1.
func flushedThrice(ctx context.Context, w *World, r *Report) error {
	return onlineGetAll(ctx, w, r, Layout{Chat: 3}, 10*time.Second, func(l *Lab) error {
		for i := range 3 {
			if i > 0 {
				pause(ctx, w.D(8*time.Second, 3*time.Second))
			}
			if err := l.rdb.FlushAll(ctx).Err(); err != nil {
				return err
			}
		}
		return nil
	})
}

// redisGoneAndEmpty implements bar R2.
func redisGoneAndEmpty(ctx context.Context, w *World, r *Report) error {
	return onlineGetAll(ctx, w, r, Layout{Chat: 3}, 10*time.Second, func(l *Lab) error {
		if err := l.Redis.Kill(); err != nil {
			return err
		}
		pause(ctx, w.D(30*time.Second, 13*time.Second))
		return l.Redis.Start(ctx)
	})
}

// rpcSilent implements bar R3.
func rpcSilent(ctx context.Context, w *World, r *Report) error {
	return onlineGetAll(ctx, w, r, Layout{Chat: 3}.with("rpc"), 10*time.Second, func(l *Lab) error {
		for _, p := range l.links {
			p.SetBoth(faultproxy.Faults{Silent: true})
		}
		pause(ctx, w.D(30*time.Second, 10*time.Second))
		for _, p := range l.links {
			p.Heal()
		}
		return nil
	})
}

// oneNodeWithoutRedis implements bar R4.
func oneNodeWithoutRedis(ctx context.Context, w *World, r *Report) error {
	return onlineGetAll(ctx, w, r, Layout{Chat: 3}.with("redis"), 10*time.Second, func(l *Lab) error {
		l.link("chat1-redis").SetBoth(faultproxy.Faults{Silent: true})
		pause(ctx, w.D(20*time.Second, 14*time.Second))
		l.link("chat1-redis").Heal()
		return nil
	})
}

// unclearCommits implements bar R5.
func unclearCommits(ctx context.Context, w *World, r *Report) error {
	return onlineGetAll(ctx, w, r, Layout{Chat: 2}, 15*time.Second, func(l *Lab) error {
		if err := l.MariaDB.Pause(); err != nil {
			return err
		}
		pause(ctx, w.D(20*time.Second, 7*time.Second))
		if err := l.MariaDB.Resume(); err != nil {
			return err
		}
		pause(ctx, 3*time.Second)
		return l.MariaDB.Restart(ctx)
	})
}
