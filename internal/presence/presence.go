package presence

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// Defaults of Options and lifetimes of what is kept.
const (
	DefaultLease   = 10 * time.Second
	DefaultRefresh = 3 * time.Second
	DefaultReserve = 15 * time.Second
	DefaultTimeout = 2 * time.Second

	SessionTTL = time.Hour // owners extend it well within, with Compare
	ProfileTTL = time.Hour
	ListsTTL   = 30 * time.Minute

	// MaxDevices is how many sessions a user may hold, one a device.
	MaxDevices = 8
	// MaxCachedBytes is the largest profile or list cached; larger values are loaded from SQL each time.
	MaxCachedBytes = 64 << 10

	defaultWorkers  = 4
	defaultBatch    = 256
	defaultQueue    = 8192
	placeWorkers    = 2
	maxPlace        = 1000             // uids of one call in a script run: a few ms of Redis' one core with 50 nodes
	placeBatch      = 500              // uids of a run, unless one call alone has more
	replayWindow    = 10 * time.Second // longer than a client library goes on resending
	listsVersionTTL = ListsTTL + time.Hour
)

var (
	// ErrTokenInvalid refuses a login: the token or ticket is unknown, used, expired or revoked. Nothing was changed.
	ErrTokenInvalid = errors.New("presence: token invalid")
	// ErrTooManyDevices refuses a login: MaxDevices other devices of the user are logged in on live nodes. Nothing was
	// changed; the token is still good.
	ErrTooManyDevices = errors.New("presence: too many devices")
	// ErrNoNode means that no chat node is alive and accepting logins.
	ErrNoNode = errors.New("presence: no live chat node")
	// ErrBusy means that the bounded queue in front of Redis is full. Nothing was changed; try again later.
	ErrBusy = errors.New("presence: too many calls waiting for redis")
	// ErrClosed is returned by calls made after Close.
	ErrClosed = errors.New("presence: closed")
	// ErrLeaseLost means that a lease lapsed, or that another process holds it (then *HeldError is in the chain too).
	ErrLeaseLost = errors.New("presence: lease lost")
)

// Options tune a Presence. The zero value is good for a single Redis.
type Options struct {
	// Cluster puts the uid of a key into a hash tag. It must be the same for all programs on one Redis.
	Cluster bool
	// Lease is the life of a node lease without a refresh; 0 means DefaultLease. Raising it shows users of a dead node
	// as online for longer.
	Lease time.Duration
	// Reserve is how long a placement counts as load before its user has logged in; 0 means DefaultReserve.
	Reserve time.Duration
	// Timeout bounds each call to Redis, beside the caller's context; 0 means DefaultTimeout.
	Timeout time.Duration
	// Workers is how many goroutines, and so Redis connections, send packed pipelines; 0 means 4.
	Workers int
	// MaxBatch is the most commands in one packed pipeline; 0 means 256.
	MaxBatch int
	// Queue is how many packed calls may wait before ErrBusy; 0 means 8192.
	Queue int
	// Metrics receives the collectors; nil registers nowhere.
	Metrics prometheus.Registerer
}

// Presence is the shared state in Redis. All methods are safe for concurrent use. Each blocks until Redis answered, its
// context ended or Options.Timeout passed.
type Presence struct {
	// Fixed after New.
	rdb     redis.UniversalClient
	opt     Options
	keys    keys
	metrics *metrics

	commands   combiner[command]
	placements combiner[*placeJob]
	stop       chan struct{}
	stopOnce   sync.Once
	wg         sync.WaitGroup

	view       atomic.Pointer[View]
	refreshing chan struct{}        // holds one element while a caller reads the nodes, which guards the following
	missing    map[string]time.Time // nodes without a lease, and since when
}

// New returns a Presence on rdb, which stays the caller's to close, after Close. It does not wait for Redis.
//
// rdb should have ContextTimeoutEnabled: without it go-redis bounds a call by its own read time-out and retries, and a
// worker may sit on a dead connection for longer than Options.Timeout.
func New(rdb redis.UniversalClient, o Options) *Presence {
	orDefault := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
	}
	orDefault(&o.Lease, DefaultLease)
	orDefault(&o.Reserve, DefaultReserve)
	orDefault(&o.Timeout, DefaultTimeout)
	if o.Workers <= 0 {
		o.Workers = defaultWorkers
	}
	if o.MaxBatch <= 0 {
		o.MaxBatch = defaultBatch
	}
	if o.Queue <= 0 {
		o.Queue = defaultQueue
	}
	p := &Presence{
		rdb:     rdb,
		opt:     o,
		keys:    keys{cluster: o.Cluster},
		metrics: newMetrics(o.Metrics),
		stop:    make(chan struct{}),
		missing: make(map[string]time.Time),

		refreshing: make(chan struct{}, 1),
	}
	p.view.Store(&View{})
	p.commands = newCombiner(p, "commands", o.MaxBatch, p.runCommands)
	p.placements = newCombiner(p, "placements", placeBatch, p.runPlacements)
	p.wg.Go(p.loadScriptsAtStart)
	for range o.Workers {
		p.wg.Go(p.commands.Run)
	}
	for range placeWorkers {
		p.wg.Go(p.placements.Run)
	}
	return p
}

// Close ends the workers and waits for the pipelines under way, at most about Options.Timeout. Calls that still wait in
// a queue get ErrClosed. It may be called more than once and does not close the Redis client.
func (p *Presence) Close() {
	p.stopOnce.Do(func() { close(p.stop) })
	p.wg.Wait()
}

// Ping asks Redis for a sign of life.
func (p *Presence) Ping(ctx context.Context) error {
	ctx, cancel := p.bound(ctx)
	defer cancel()
	if err := p.rdb.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("presence: ping: %w", err)
	}
	return nil
}

// bound gives a call that does not go through a combiner its deadline.
func (p *Presence) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, p.opt.Timeout)
}

// seconds is a TTL as EX wants it.
func seconds(d time.Duration) int64 { return int64(d / time.Second) }
