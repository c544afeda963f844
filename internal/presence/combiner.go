package presence

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"parley/internal/batch"
)

// packed is a call that shares a round trip with others.
type packed interface {
	batch.Call
	weight() int // its share of the batch limit
}

// A combiner packs the calls of many goroutines into few round trips.
type combiner[C packed] struct {
	*batch.Calls[C]
	full prometheus.Counter
}

// newCombiner returns a combiner with at most limit of weight per round trip. run settles each call.
func newCombiner[C packed](c *conn, name string, limit int, run func(context.Context, []C)) combiner[C] {
	size, seconds := c.metrics.batchSize.WithLabelValues(name), c.metrics.batchSeconds.WithLabelValues(name)
	serve := func(calls []C) {
		// The callers' contexts bound only their own waits; a caller that gives up must not cancel the batch of the
		// others.
		ctx, cancel := context.WithTimeout(context.Background(), c.opt.Timeout)
		defer cancel()
		start := time.Now()
		defer func() {
			size.Observe(float64(len(calls)))
			seconds.Observe(time.Since(start).Seconds())
		}()
		run(ctx, calls)
	}
	limits := batch.Limits{Items: c.opt.Queue, BatchWeight: limit}
	return combiner[C]{
		Calls: batch.NewCalls(limits, c.stop, serve, func(*batch.Panic) { c.metrics.panics.Inc() }),
		full:  c.metrics.queueFull.WithLabelValues(name),
	}
}

// do calls batch.Calls.Do and translates its errors into those of this package.
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

// A command is a call of the shared pipelines.
type command interface {
	packed
	// add puts the commands into a pipeline. It is called again only if a script was missing.
	add(ctx context.Context, pipe redis.Pipeliner)
	// finish reads the replies. If isNoScript holds for its error, the command is run again.
	finish() error
}

// runCommands sends a batch in one pipeline, and commands whose script was missing in another one. Repeating them is
// safe, because a missing script has not run.
func (c *conn) runCommands(ctx context.Context, calls []command) {
	const tries = 3 // a Redis that loses scripts again between two pipelines is being flushed on purpose
	for try := 1; len(calls) > 0; try++ {
		pipe := c.rdb.Pipeline()
		for _, call := range calls {
			call.add(ctx, pipe)
		}
		_, _ = pipe.Exec(ctx) // each command carries its own error
		var again []command
		for _, call := range calls {
			err := call.finish()
			if isNoScript(err) && try < tries {
				again = append(again, call)
			}
			call.Settle(err)
		}
		if len(again) > 0 {
			c.metrics.scriptReloads.Inc()
			if err := c.loadScripts(ctx); err != nil {
				return // the calls keep their NOSCRIPT error
			}
		}
		calls = again
	}
}

// firstError returns the first error of the commands, or nil.
func firstError[C redis.Cmder](cmds []C) error {
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil {
			return err
		}
	}
	return nil
}

// hashes reads hashes and, after them, the generation id of the data they were read from; the id is "" if there is
// none yet, or if it changed in between. A hash whose error is ignored is empty. The caller must not modify keys
// afterwards, because a worker may read them even after the caller has given up. Concurrent calls share round trips.
func (c *conn) hashes(ctx context.Context, keys []string, ignored func(error) bool) (found []map[string]string, generation string, err error) {
	found = make([]map[string]string, len(keys))
	for at := 0; at < len(keys); at += c.opt.MaxBatch {
		end := min(at+c.opt.MaxBatch, len(keys))
		j := &hashJob{keys: keys[at:end], found: found[at:end], ignored: ignored}
		if err := c.commands.do(ctx, j, false); err != nil {
			return nil, "", err
		}
		if at > 0 && generation != j.generation {
			j.generation = ""
		}
		generation = j.generation
	}
	return found, generation, nil
}

type hashJob struct {
	batch.Part
	keys    []string
	found   []map[string]string // filled by finish
	ignored func(error) bool
	cmds    []*redis.MapStringStringCmd
	gen     *redis.StringCmd

	generation string
}

func (j *hashJob) weight() int { return len(j.keys) }

func (j *hashJob) add(ctx context.Context, pipe redis.Pipeliner) {
	j.cmds = make([]*redis.MapStringStringCmd, len(j.keys))
	for i, key := range j.keys {
		j.cmds[i] = pipe.HGetAll(ctx, key)
	}
	j.gen = pipe.Get(ctx, keyGeneration) // read last, so that a loss of the data in between shows
}

// finish stores the hashes. The slice found is shared with the caller, which reads it only after a successful do.
func (j *hashJob) finish() error {
	for i, cmd := range j.cmds {
		fields, err := cmd.Result()
		if err != nil && (j.ignored == nil || !j.ignored(err)) {
			return err
		}
		j.found[i] = fields
	}
	var err error
	j.generation, err = generationOf(j.gen)
	return err
}

// generationOf returns the generation id from the reply to a read of keyGeneration, or "" if there is none yet.
func generationOf(cmd *redis.StringCmd) (string, error) {
	value, err := cmd.Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", err
	}
	id, _, _ := strings.Cut(value, " ")
	return id, nil
}
