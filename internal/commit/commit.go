// Package commit is the group committer. It stores the texts of many connections in one SQL transaction, then sends
// answers and pushes in commit order.
//
// There is no timer. A shard commits the waiting texts as soon as its last transaction is done: a lone text is stored
// at once, and batches grow with the load.
package commit

import (
	"context"
	"errors"
	"log/slog"
	"runtime/trace"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/internal/group"
	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
)

// ErrBusy is the error of Append when the texts would wait too long, or a bound of the node is reached. Append
// returns it as a *BusyError.
var ErrBusy = errors.New("commit: too many texts wait")

// A BusyError says when the client should repeat a refused request.
type BusyError struct{ RetryAfter time.Duration }

func (e *BusyError) Error() string { return ErrBusy.Error() }

// Is reports whether target is ErrBusy.
func (e *BusyError) Is(target error) bool { return target == ErrBusy }

// errFull is the refusal at the bounds of the node, which are far above what it serves in a second.
var errFull = &BusyError{RetryAfter: time.Second}

// A Sender is the session that a request came from.
type Sender interface {
	UID() int32
	SID() session.SID
	// Groups reports whether the client is shown groups; only such a client may write to them.
	Groups() bool
	// Alone reports whether the user has no other session that could receive the sender's texts.
	Alone() bool
	// Answer sends the encoded reply (1018) to a request whose texts no longer count as waiting. The frame is written
	// when cork is released. Answer must neither block nor keep frame.
	Answer(frame []byte, req *Request, cork *session.Cork)
}

// A Request is one text request (1017) of one session.
type Request struct {
	From   Sender
	Boot   string // the boot id under which the sender logged in; texts are refused under any other
	To     int32  // as named by the client; 0: the other member of the thread
	Thread int64
	Texts  []wire.Text
	Bytes  int // of the body; counts towards Config.MaxBytes
	// The last Over texts are refused because the user has sent too many; RetryMS tells when to try again.
	Over, RetryMS int

	queued time.Time
	sent   []wire.SentText  // the outcome of each text
	one    [1]wire.SentText // backs sent for a request of one text, the usual case
	peer   int32            // the other member, once authorised
	group  bool             // authorised as a text to a group
	ver    int32            // the membership version under which the sender was authorised
}

// Store stores texts; *store.Messages implements it.
type Store interface {
	Append(ctx context.Context, node, boot string, msgs []store.NewMessage, out []store.Appended) error
}

// Rights tell who may write to which threads; *store.Rights implements it.
type Rights interface {
	Access(ctx context.Context, threads []int64) (map[int64]store.Access, error)
	InGroups(ctx context.Context, keys []store.GroupKey) (map[store.GroupKey]store.GroupRight, error)
}

// Config bounds a committer. The zero value is not usable; see DefaultConfig.
type Config struct {
	Shards   int           // concurrent transactions; a thread always belongs to the same shard
	Batch    int           // texts per transaction
	MaxTexts int           // texts waiting in the node
	MaxBytes int           // bytes of the waiting requests
	MaxWait  time.Duration // from Append to the answer; a text that waits longer is refused
	MaxSQL   time.Duration // for one transaction with its retries

	// Target is the wait before a transaction begins beyond which new texts are refused at once, when more arrive
	// than can be stored. A longer wait is allowed if the load lets the backlog drain within Recovery.
	Target, Recovery time.Duration
}

// DefaultConfig returns the bounds of docs/CONFIG.md. Two shards of 256 store as many rows as four if nothing else
// uses the processors. On machines that also run MariaDB a transaction mostly waits for a processor, and four shards
// stored 1.25 times as much (docs/PERFORMANCE.md).
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
	Rights  Rights
	Node    string
	// Boot returns the boot id under which this node may store now.
	Boot func() string
	// Deliver takes the pushes of one batch in commit order, and may keep their bodies. Sessions of this node are
	// written to when cork is released. Deliver must not block.
	Deliver func([]session.Push, *session.Cork)
	// Publish takes the group rows of one batch in commit order, and may keep their bodies. Publish must not block.
	Publish func(...group.Rows)
	// Fenced is called when the store refuses a batch because the node's fence row no longer holds this boot id.
	Fenced func(boot string)
}

// A Committer stores texts. New starts it; Close ends it.
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
	for i := range cfg.Shards {
		s := newShard(c, i)
		c.shards = append(c.shards, s)
		c.wg.Go(s.run)
	}
	return c
}

// Append queues a request; all its texts belong to req.Thread. It does not block. On success, the committer owns req
// until it calls req.From.Answer, which it does exactly once. Append returns ErrBusy, and no answer follows, if the
// texts would wait too long, a bound is reached, or the committer is closed.
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
	s := c.shards[uint64(req.Thread)%uint64(len(c.shards))]
	if trace.IsEnabled() {
		trace.Log(context.Background(), "text queued", strconv.Itoa(s.index)) // bench/textpath follows each text
	}
	if err := s.enqueue(req); err != nil {
		c.release(req)
		return err
	}
	return nil
}

// release returns a request's share of the bounds.
func (c *Committer) release(req *Request) {
	c.mu.Lock()
	c.texts -= len(req.Texts)
	c.bytes -= req.Bytes
	c.mu.Unlock()
}

// Waiting returns the number of texts that have not been answered yet.
func (c *Committer) Waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.texts
}

// Close refuses new requests, answers those that wait, and returns when the last goroutine has ended. That takes at
// most about Config.MaxWait, even if the store is stuck.
func (c *Committer) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	for _, s := range c.shards {
		s.queue.Close()
	}
	c.wg.Wait()
}
