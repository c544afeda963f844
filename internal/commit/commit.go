// Package commit is the group committer. It stores the texts of many connections in one SQL transaction, and then sends
// answers and pushes in commit order.
//
// There is no timer. A shard commits the waiting texts as soon as its last transaction is done: a lone text is stored at
// once, and under load the batches grow by themselves.
package commit

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/internal/group"
	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
)

// ErrBusy is returned by Append if the texts would wait too long, or a bound of the node is reached. It comes as a
// *BusyError.
var ErrBusy = errors.New("commit: too many texts wait")

// BusyError says when a refused request has a chance.
type BusyError struct{ RetryAfter time.Duration }

func (e *BusyError) Error() string { return ErrBusy.Error() }

// Is makes errors.Is find ErrBusy.
func (e *BusyError) Is(target error) bool { return target == ErrBusy }

// errFull is for the bounds of the node: they are far above what is served in a second.
var errFull = &BusyError{RetryAfter: time.Second}

// Sender is where a request came from.
type Sender interface {
	UID() int32
	SID() session.SID
	// Groups reports whether the client is shown groups; only such a client may write to them.
	Groups() bool
	// Alone reports whether the user has no other session that could be sent what this one sends.
	Alone() bool
	// Answer takes the encoded 1018 of a request, whose texts no longer wait, to be written when cork is released. It must
	// not block, nor keep frame.
	Answer(frame []byte, req *Request, cork *session.Cork)
}

// Request is one 1017 of one session.
type Request struct {
	From   Sender
	Boot   string // the life of the node in which the sender logged in; in another its texts are refused
	To     int32  // as the client named it; 0: the other member of the thread
	Thread int64
	Texts  []wire.Text
	Bytes  int // of the body, for the bounds
	// Over is how many of the last texts are refused because the user has sent too many; RetryMS tells when to try again.
	Over, RetryMS int

	queued time.Time
	sent   []wire.SentText  // what became of each text
	one    [1]wire.SentText // sent's array for the usual request, which has one text
	peer   int32            // the other member, once authorised
	group  bool             // authorised, for a group
	ver    int32            // the version of the thread's membership that says so
}

// Store is the part of internal/store that the committer uses.
type Store interface {
	Access(ctx context.Context, threads []int64) (map[int64]store.Access, error)
	GroupRights(ctx context.Context, keys []store.GroupKey) (map[store.GroupKey]store.GroupRight, error)
	Append(ctx context.Context, node, boot string, msgs []store.NewMessage, out []store.Appended) error
}

// Config bounds a committer. The zero value is not usable; see DefaultConfig.
type Config struct {
	Shards   int           // transactions at once; texts of one thread are always in the same shard
	Batch    int           // texts per transaction
	MaxTexts int           // texts waiting in the node
	MaxBytes int           // bytes of their requests
	MaxWait  time.Duration // from Append to the answer; past it a text is refused
	MaxSQL   time.Duration // one transaction, with its retries

	// Target is how long a text may have to wait for its transaction to begin when more come than can be stored: past
	// it new ones are refused at once. A backlog that the load leaves room to work off within Recovery is served.
	Target, Recovery time.Duration
}

// DefaultConfig returns the bounds of docs/CONFIG.md. Two shards of 256 give as many rows as four when nothing else wants
// the processors; where nodes share them with MariaDB a transaction mostly waits for its turn, and four stored 1.25 times
// as much (docs/PERFORMANCE.md).
func DefaultConfig() Config {
	return Config{
		Shards: 4, Batch: 256, MaxTexts: 65536, MaxBytes: 64 << 20,
		MaxWait: 5 * time.Second, MaxSQL: 4 * time.Second, Target: 400 * time.Millisecond, Recovery: 2 * time.Second,
	}
}

// Deps are the dependencies of a committer.
type Deps struct {
	Log     *slog.Logger
	Metrics prometheus.Registerer // nil: registered nowhere
	Store   Store
	Node    string
	// Boot returns the id under which this node may store now.
	Boot func() string
	// Deliver takes the pushes of one batch, in commit order, and may keep their bodies. Sessions of this node are written
	// to when the cork is released. It must not block.
	Deliver func([]session.Push, *session.Cork)
	// Publish takes the rows of groups of one batch, in commit order. It must not block, and may keep bodies.
	Publish func(...group.Rows)
	// Fenced is told that the store refused a batch because this node's boot id is no longer in its fence row.
	Fenced func(boot string)
}

// Committer stores texts. New starts it; Close ends it.
type Committer struct {
	cfg     Config
	deps    Deps
	metrics *metrics
	shards  []*shard
	wg      sync.WaitGroup

	mu     sync.Mutex // guards the following
	texts  int
	bytes  int
	closed bool
}

// New starts a committer.
func New(cfg Config, deps Deps) *Committer {
	c := &Committer{cfg: cfg, deps: deps, metrics: newMetrics(deps.Metrics)}
	c.deps.Log = deps.Log.With("pkg", "commit")
	for range cfg.Shards {
		s := newShard(c)
		c.shards = append(c.shards, s)
		c.wg.Go(s.run)
	}
	return c
}

// Append queues a request whose texts are Thread's. It does not block: the answer comes through req.From.Answer, always,
// unless Append returns an error, which is ErrBusy: the texts would wait too long, a bound is reached, or the committer
// is closed. The committer owns req until the answer.
func (c *Committer) Append(req *Request) error {
	c.mu.Lock()
	if c.closed || c.texts+len(req.Texts) > c.cfg.MaxTexts || c.bytes+req.Bytes > c.cfg.MaxBytes {
		c.mu.Unlock()
		c.metrics.refused.Inc()
		return errFull
	}
	c.texts += len(req.Texts)
	c.bytes += req.Bytes
	c.mu.Unlock()
	req.queued = time.Now()
	if err := c.shards[uint64(req.Thread)%uint64(len(c.shards))].put(req); err != nil {
		c.release(req)
		return err
	}
	return nil
}

// release gives a request's share of the bounds back.
func (c *Committer) release(req *Request) {
	c.mu.Lock()
	c.texts -= len(req.Texts)
	c.bytes -= req.Bytes
	c.mu.Unlock()
}

// Waiting returns how many texts wait for their answer.
func (c *Committer) Waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.texts
}

// Close refuses new requests, answers those that wait, and returns when the last goroutine has ended: within
// Config.MaxWait, or little more if the store is stuck.
func (c *Committer) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	for _, s := range c.shards {
		s.queue.Close()
	}
	c.wg.Wait()
}
