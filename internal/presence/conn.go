package presence

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// conn is what all parts of a Presence share: the client of Redis, the names of keys, and the workers that send shared
// pipelines.
type conn struct {
	// Fixed after newConn.
	rdb     redis.UniversalClient
	opt     Options
	keys    keys
	metrics *metrics

	commands combiner[command]
	stop     chan struct{}
	stopOnce sync.Once
	wg       sync.WaitGroup // of the workers of all combiners
}

func newConn(rdb redis.UniversalClient, o Options) *conn {
	c := &conn{
		rdb:     rdb,
		opt:     o,
		keys:    keys{cluster: o.Cluster},
		metrics: newMetrics(o.Metrics),
		stop:    make(chan struct{}),
	}
	c.commands = newCombiner(c, "commands", o.MaxBatch, c.runCommands)
	c.wg.Go(c.loadScriptsAtStart)
	for range o.Workers {
		c.wg.Go(c.commands.Run)
	}
	return c
}

func (c *conn) close() {
	c.stopOnce.Do(func() { close(c.stop) })
	c.wg.Wait()
}

func (c *conn) ping(ctx context.Context) error {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	if err := c.rdb.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("presence: ping: %w", err)
	}
	return nil
}

// bound returns a context with the deadline of a call that does not go through a combiner.
func (c *conn) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.opt.Timeout)
}

// pipelined runs native commands in one round trip and returns the first error other than a missing key.
func (c *conn) pipelined(ctx context.Context, fill func(context.Context, redis.Pipeliner)) ([]redis.Cmder, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	pipe := c.rdb.Pipeline()
	fill(ctx, pipe)
	if pipe.Len() == 0 {
		return nil, nil
	}
	cmds, err := pipe.Exec(ctx)
	if err != nil && !errors.Is(err, redis.Nil) {
		return cmds, err
	}
	for _, cmd := range cmds { // Exec reports only the first error, which may be a harmless Nil
		if err := cmd.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return cmds, err
		}
	}
	return cmds, nil
}

// seconds converts a TTL to the unit of EX.
func seconds(d time.Duration) int64 { return int64(d / time.Second) }
