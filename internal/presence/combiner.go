package presence

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"parley/internal/batch"
)

// packed is a call that shares its round trip with others.
type packed interface {
	batch.Call
	weight() int // its share of the batch limit
}

// A combiner packs the calls of many goroutines into few round trips.
type combiner[C packed] struct {
	*batch.Calls[C]
	full prometheus.Counter
}

// newCombiner returns a combiner of at most limit by weight per round trip. run settles each call.
func newCombiner[C packed](p *Presence, name string, limit int, run func(context.Context, []C)) combiner[C] {
	size, seconds := p.metrics.batchSize.WithLabelValues(name), p.metrics.batchSeconds.WithLabelValues(name)
	serve := func(calls []C) {
		// The callers' contexts bound their own waits; one that gives up must not take the others' batch with it.
		ctx, cancel := context.WithTimeout(context.Background(), p.opt.Timeout)
		defer cancel()
		start := time.Now()
		defer func() {
			size.Observe(float64(len(calls)))
			seconds.Observe(time.Since(start).Seconds())
		}()
		run(ctx, calls)
	}
	limits := batch.Limits{Items: p.opt.Queue, BatchWeight: limit}
	return combiner[C]{
		Calls: batch.NewCalls(limits, p.stop, serve, func(*batch.Panic) { p.metrics.panics.Inc() }),
		full:  p.metrics.queueFull.WithLabelValues(name),
	}
}

// do is batch.Calls.Do with the errors of this package.
func (c combiner[C]) do(ctx context.Context, call C, settle bool) error {
	err := c.Do(ctx, call, call.weight(), settle)
	switch err {
	case batch.ErrFull:
		c.full.Inc()
		return ErrBusy
	case batch.ErrClosed:
		return ErrClosed
	}
	return err
}

// A command is a call of the packed pipelines.
type command interface {
	packed
	// add puts the commands into a pipeline; again only if a script was not found.
	add(ctx context.Context, pipe redis.Pipeliner)
	// finish reads the replies. An error for which isNoScript holds asks to be run again.
	finish() error
}

// runCommands sends a batch in one pipeline, and what found its script missing in another.
func (p *Presence) runCommands(ctx context.Context, calls []command) {
	const tries = 3 // a Redis that keeps losing scripts between two pipelines is being flushed on purpose
	for try := 1; len(calls) > 0; try++ {
		pipe := p.rdb.Pipeline()
		for _, c := range calls {
			c.add(ctx, pipe)
		}
		_, _ = pipe.Exec(ctx) // each command carries its own error
		var again []command
		for _, c := range calls {
			err := c.finish()
			if isNoScript(err) && try < tries {
				again = append(again, c)
			}
			c.Settle(err)
		}
		if len(again) > 0 {
			p.metrics.scriptReloads.Inc()
			if err := p.loadScripts(ctx); err != nil {
				return // they keep their NOSCRIPT error
			}
		}
		calls = again
	}
}
