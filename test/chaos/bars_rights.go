//go:build linux

package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"parley/client"
	"parley/lab/launch"
	"parley/test/rights"
)

// rightsBars: what unfriend and block forbid, exactly from their commit on.
var rightsBars = []Bar{
	{
		ID: "S19", Run: blockRaces, Limit: 20 * time.Minute,
		Fault: "block and unfriend in turn while the other side sends without pause from another node, 10,000 times",
		Want:  "texts stored after the change 0, texts sent after its answer and acknowledged 0; an acknowledged text is stored",
	},
}

// blockRaces implements bar S19. Bar V7 runs it too, with nodes that ignore membership.
func blockRaces(ctx context.Context, w *World, r *Report) error {
	return blockRacesOn(ctx, w, r, Layout{Chat: 2})
}

func blockRacesOn(ctx context.Context, w *World, r *Report, layout Layout) error {
	layout.Configure = func(_ *launch.Node, _ int, f *launch.INI) error {
		f.Set("Limits", "TextRate", "0")
		f.Set("Limits", "RequestRate", "0")
		return nil
	}
	l, err := w.Start(ctx, layout)
	if err != nil {
		return err
	}
	if err := rights.Watch(ctx, l.db, true); err != nil {
		return err
	}
	const pairs = 8
	first, threads, err := l.pairs(ctx, pairs)
	if err != nil {
		return err
	}
	var mu sync.Mutex // guards sum
	var sum rights.Result
	err = each(pairs, pairs, func(i int) error {
		var conns [2]*client.Conn
		for side := range conns {
			c, err := l.dial(ctx, first+int32(2*i+side), side, client.Options{OnEvent: func(client.Event) {}})
			if err != nil {
				return err
			}
			defer c.Close()
			conns[side] = c
		}
		got, err := rights.Rounds(ctx, l.db, conns[0], conns[1], threads[i], w.N(10_000, 160)/pairs)
		mu.Lock()
		defer mu.Unlock()
		sum.Add(got)
		return err
	})
	if err != nil {
		return err
	}
	rows := 0
	if err := l.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM chat_message").Scan(&rows); err != nil {
		return fmt.Errorf("count: %w", err)
	}
	r.Note("races", sum.Races)
	AtLeast(r, "texts stored before the change", sum.Stored, sum.Races)
	AtLeast(r, "texts refused after it", sum.Denied, sum.Races)
	r.Zero("stored after the change", int64(sum.Late))
	r.Zero("acknowledged after its answer", int64(sum.Allowed))
	Equal(r, "rows", rows, sum.Stored+sum.Allowed+sum.Races) // each approval after a race stores one as well
	return nil
}
