package presence

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// A job is one caller's part of a batch.
type job struct {
	state atomic.Int32  // waiting, taken or abandoned
	done  chan struct{} // closed when err and the results are set; they are the worker's until then
	err   error
}

const (
	waiting   = iota
	taken     // a worker has it
	abandoned // the caller left before a worker came; it will not run
)

func newJob() job { return job{done: make(chan struct{})} }

func (j *job) base() *job { return j }

// packed is what a combiner combines.
type packed interface {
	base() *job
	weight() int // its share of the batch limit
}

// A combiner packs the calls of many goroutines into few round trips. A worker takes what is waiting, up to limit, and
// sends it at once: there is no timer, so a lone call is not delayed, and under load batches grow by themselves, because
// calls gather while the workers are on their way to Redis.
type combiner[J packed] struct {
	queue   chan J
	stop    <-chan struct{}
	limit   int
	timeout time.Duration
	run     func(ctx context.Context, batch []J) // sets base().err of each

	size    prometheus.Observer
	seconds prometheus.Observer
	full    prometheus.Counter
	panics  prometheus.Counter
}

func newCombiner[J packed](p *Presence, name string, queue, limit int, run func(context.Context, []J)) *combiner[J] {
	return &combiner[J]{
		queue:   make(chan J, queue),
		stop:    p.stop,
		limit:   limit,
		timeout: p.opt.Timeout,
		run:     run,
		size:    p.metrics.batchSize.WithLabelValues(name),
		seconds: p.metrics.batchSeconds.WithLabelValues(name),
		full:    p.metrics.queueFull.WithLabelValues(name),
		panics:  p.metrics.panics,
	}
}

// do queues j and waits. ErrBusy, ErrClosed and, while j waits in the queue, the error of ctx mean that j did not and
// will not run. Once a worker has it, settle says whether to wait for the outcome, which is bounded by the time-out,
// or to leave when ctx ends.
func (c *combiner[J]) do(ctx context.Context, j J, settle bool) error {
	select {
	case <-c.stop:
		return ErrClosed
	default:
	}
	select {
	case c.queue <- j:
	default:
		c.full.Inc()
		return ErrBusy
	}
	b := j.base()
	var err error
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-c.stop:
		err, settle = ErrClosed, true
	}
	if b.state.CompareAndSwap(waiting, abandoned) || !settle {
		return err
	}
	<-b.done
	return b.err
}

// work serves the queue until stop. It is one of a few; each holds at most one Redis connection.
func (c *combiner[J]) work() {
	batch := make([]J, 0, c.limit)
	for {
		select {
		case <-c.stop:
			return
		case j := <-c.queue:
			batch = c.gather(batch[:0], j)
			if len(batch) > 0 {
				c.serve(batch)
			}
			clear(batch)
		}
	}
}

// gather takes first and what else is waiting, without waiting itself.
func (c *combiner[J]) gather(batch []J, first J) []J {
	next, weight := first, 0
	for {
		if next.base().state.CompareAndSwap(waiting, taken) {
			batch = append(batch, next)
			weight += next.weight()
		}
		if weight >= c.limit {
			return batch
		}
		select {
		case next = <-c.queue:
		default:
			return batch
		}
	}
}

func (c *combiner[J]) serve(batch []J) {
	// The callers' contexts bound their own waits; one that gives up must not take the others' batch with it.
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	start := time.Now()
	defer func() {
		if r := recover(); r != nil {
			c.panics.Inc()
			err := fmt.Errorf("presence: panic: %v\n%s", r, debug.Stack())
			for _, j := range batch {
				j.base().err = err
			}
		}
		c.size.Observe(float64(len(batch)))
		c.seconds.Observe(time.Since(start).Seconds())
		for _, j := range batch {
			close(j.base().done)
		}
	}()
	c.run(ctx, batch)
}

// A command is a job of the packed pipelines.
type command interface {
	packed
	// add puts the commands into a pipeline; again only if a script was not found.
	add(ctx context.Context, pipe redis.Pipeliner)
	// finish reads the replies. An error for which isNoScript holds asks to be run again.
	finish() error
}

// runCommands sends a batch in one pipeline, and what found its script missing in another.
func (p *Presence) runCommands(ctx context.Context, batch []command) {
	const tries = 3 // a Redis that keeps losing scripts between two pipelines is being flushed on purpose
	for try := 1; len(batch) > 0; try++ {
		pipe := p.rdb.Pipeline()
		for _, c := range batch {
			c.add(ctx, pipe)
		}
		_, _ = pipe.Exec(ctx) // each command carries its own error
		var again []command
		for _, c := range batch {
			err := c.finish()
			if isNoScript(err) && try < tries {
				again = append(again, c)
			}
			c.base().err = err
		}
		if len(again) > 0 {
			p.metrics.scriptReloads.Inc()
			if err := p.loadScripts(ctx); err != nil {
				return // they keep their NOSCRIPT error
			}
		}
		batch = again
	}
}
