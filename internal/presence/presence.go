package presence

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// Defaults of Options, and lifetimes of entries.
const (
	DefaultLease   = 10 * time.Second
	DefaultRefresh = 3 * time.Second
	DefaultReserve = 15 * time.Second
	DefaultTimeout = 2 * time.Second

	SessionTTL = time.Hour // owners extend it well within that time, with Sessions.Compare
	ProfileTTL = time.Hour
	ListsTTL   = 30 * time.Minute

	// MaxDevices is the number of sessions a user may have, one per device.
	MaxDevices = 8
	// MaxCachedBytes is the size of the largest profile or lists that are cached; larger values are read from SQL
	// each time.
	MaxCachedBytes = 64 << 10

	defaultWorkers  = 4
	defaultBatch    = 256
	defaultQueue    = 8192
	placeWorkers    = 2
	maxPlace        = 1000             // users per run of the script: a few ms of Redis' only thread with 50 nodes
	placeBatch      = 500              // users per batch, unless a single call has more
	replayWindow    = 10 * time.Second // longer than a client library resends a command
	listsVersionTTL = ListsTTL + time.Hour
)

var (
	// ErrTokenInvalid refuses a login whose token or ticket is unknown, used, expired or revoked. Nothing has
	// changed.
	ErrTokenInvalid = errors.New("presence: token invalid")
	// ErrTooManyDevices refuses a login because MaxDevices other devices of the user are logged in on live nodes.
	// Nothing has changed, and the token is still valid.
	ErrTooManyDevices = errors.New("presence: too many devices")
	// ErrNoNode means that no chat node is alive and accepting logins.
	ErrNoNode = errors.New("presence: no live chat node")
	// ErrBusy means that the queue of calls to Redis is full. Nothing has changed; try again later.
	ErrBusy = errors.New("presence: too many calls waiting for redis")
	// ErrClosed is the error of calls after Close.
	ErrClosed = errors.New("presence: closed")
	// ErrLeaseLost means that a lease has lapsed or that another process holds it. In the latter case, the error also
	// wraps a *HeldError.
	ErrLeaseLost = errors.New("presence: lease lost")
)

// Options configure a Presence. The zero value suits a single Redis.
type Options struct {
	// Cluster turns the uid in a key into a hash tag. All programs that share a Redis must agree on it.
	Cluster bool
	// Lease is the lifetime of a node lease without a refresh; 0 means DefaultLease. A higher value shows users of a
	// dead node as online for longer.
	Lease time.Duration
	// Reserve is how long a placement counts as load while its user has not logged in; 0 means DefaultReserve.
	Reserve time.Duration
	// Timeout bounds each call to Redis in addition to the caller's context; 0 means DefaultTimeout.
	Timeout time.Duration
	// Workers is the number of goroutines, and thus of Redis connections, that send shared pipelines; 0 means 4.
	Workers int
	// MaxBatch is the maximum number of commands in a shared pipeline; 0 means 256.
	MaxBatch int
	// Queue is the number of calls that may wait before ErrBusy; 0 means 8192.
	Queue int
	// Metrics receives the collectors; nil registers nowhere.
	Metrics prometheus.Registerer
}

// A Presence is the shared state in Redis. Its parts divide it by topic; pass a part to code that needs no more. All
// methods are safe for concurrent use. Unless stated otherwise they block until Redis has answered, their context ends
// or Options.Timeout has passed.
type Presence struct {
	// Fixed after New.
	Nodes     *Nodes     // the chat nodes as others see them, and the placement of users on them
	Leases    *Leases    // what a chat node says of itself: its lease and its load
	Mailboxes *Mailboxes // kicks left for chat nodes
	Logins    *Logins    // the claim of a login
	Tokens    *Tokens    // what lets a user log in
	Sessions  *Sessions  // the sessions of users, and when they were last seen
	Groups    *Groups    // the nodes with members of a group
	Cache     *Cache     // profiles and lists

	*conn
}

// New returns a Presence that uses rdb. The caller closes rdb, after Close. New does not wait for Redis.
//
// rdb should have ContextTimeoutEnabled. Without it, go-redis bounds a call by its own read timeout and retries, and
// a worker may be stuck on a dead connection for longer than Options.Timeout.
func New(rdb redis.UniversalClient, o Options) *Presence {
	c := newConn(rdb, o.withDefaults())
	p := &Presence{conn: c, Leases: &Leases{c}, Groups: &Groups{c}, Cache: &Cache{c}}
	p.Nodes = newNodes(c, p.Leases)
	p.Mailboxes = &Mailboxes{conn: c, nodes: p.Nodes}
	p.Sessions = &Sessions{conn: c, nodes: p.Nodes, mailboxes: p.Mailboxes}
	p.Logins = &Logins{conn: c, leases: p.Leases, sessions: p.Sessions}
	p.Tokens = &Tokens{conn: c, logins: p.Logins}
	return p
}

// withDefaults returns the options with defaults for what is not set.
func (o Options) withDefaults() Options {
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
	return o
}

// Close stops the workers and waits for the pipelines in flight, for at most about Options.Timeout. Queued calls
// return ErrClosed. Close may be called more than once. It does not close the Redis client.
func (p *Presence) Close() { p.close() }

// Ping reports whether Redis answers.
func (p *Presence) Ping(ctx context.Context) error { return p.ping(ctx) }
