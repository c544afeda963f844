package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"parley/client"
)

// rightsBars: what unfriend and block forbid, exactly from their commit on.
var rightsBars = []Bar{
	{
		ID: "S19", Run: blockRaces,
		Fault: "block against text on two nodes, 10,000 times",
		Want:  "texts stored after the block was acknowledged 0; a text that was acknowledged is stored",
	},
}

// blockRaces is S19. Bar V7 runs it too, with nodes that ignore membership.
func blockRaces(ctx context.Context, w *World, r *Report) error {
	return blockRacesOn(ctx, w, r, Layout{Chat: 2})
}

func blockRacesOn(ctx context.Context, w *World, r *Report, layout Layout) error {
	l, err := w.Start(ctx, layout)
	if err != nil {
		return err
	}
	const workers = 8
	rounds := w.N(10_000, 160) / workers
	first, threads, err := l.pairs(ctx, workers)
	if err != nil {
		return err
	}
	waits := make([][]time.Duration, workers)
	for i := range waits {
		for range rounds {
			waits[i] = append(waits[i], time.Duration(w.Rand.IntN(20_000))*time.Microsecond)
		}
	}
	var late, acked, refused atomic.Int64
	err = each(workers, workers, func(i int) error {
		sender, err := l.dial(ctx, first+int32(2*i), 0, client.Options{Heartbeat: time.Minute})
		if err != nil {
			return err
		}
		defer sender.Close()
		blocker, err := l.dial(ctx, first+int32(2*i)+1, 1, client.Options{Heartbeat: time.Minute})
		if err != nil {
			return err
		}
		defer blocker.Close()
		for k := range rounds {
			type outcome struct {
				sent client.Sent
				err  error
			}
			// One text is under way when the block comes; the other is sent once it was acknowledged.
			racing := make(chan outcome, 1)
			go func() {
				sent, err := sender.SendTexts(ctx, client.InThread(threads[i]), client.Draft{UniqueID: fmt.Sprintf("race-%d-%d", i, k), Text: "racing"})
				if err != nil || len(sent) != 1 {
					racing <- outcome{err: err}
					return
				}
				racing <- outcome{sent: sent[0]}
			}()
			pause(ctx, waits[i][k])
			if err := blocker.Block(ctx, sender.Profile().UID); err != nil {
				return fmt.Errorf("block: %w", err)
			}
			after, err := sender.SendTexts(ctx, client.InThread(threads[i]), client.Draft{UniqueID: fmt.Sprintf("late-%d-%d", i, k), Text: "late"})
			if err != nil {
				return err
			}
			if after[0].Err == nil {
				late.Add(1)
			}
			o := <-racing
			switch {
			case o.err != nil:
				return o.err
			case o.sent.Err == nil:
				acked.Add(1)
			default:
				refused.Add(1)
			}
			if err := blocker.Unblock(ctx, sender.Profile().UID); err != nil {
				return fmt.Errorf("unblock: %w", err)
			}
			pause(ctx, 60*time.Millisecond) // within the rate of one user
		}
		return nil
	})
	if err != nil {
		return err
	}
	count := func(like string) (n int64, err error) {
		err = l.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM chat_message WHERE unique_id LIKE ?", like).Scan(&n)
		return n, err
	}
	rows, err := count("late-%")
	if err != nil {
		return err
	}
	raced, err := count("race-%")
	if err != nil {
		return err
	}
	r.Note("races", rounds*workers)
	r.Note("texts that came before the block", acked.Load())
	r.Note("after it", refused.Load())
	r.Zero("stored after the block", rows)
	r.Zero("acknowledged after the block", late.Load())
	Equal(r, "racing texts stored", raced, acked.Load())
	return nil
}
