// Package membership holds a chat node's place in the cluster: its lease in Redis, its fence row in SQL, and its
// successive lives, each with a boot id of its own.
package membership

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/internal/presence"
	"parley/internal/wire"
)

// These times are promises to other nodes, not tuning; docs/GUARANTEES.md relies on them.
const (
	leaseRefresh = presence.DefaultRefresh
	leaseDoubt   = 7 * time.Second // a node refuses logins when its last refresh is older
	tick         = time.Second     // interval of load reports and fence reads
)

// A Member is this node's place in the cluster: a lease in Redis and a fence row in SQL. KeepLease maintains the
// lease and KeepFence the row, each in its own goroutine and on its own server, so that a server that stalls delays
// nothing on the other. A login needs both. A text needs only the fence row, so texts go on while Redis is away.
//
// A node has many lives, each with its own boot id. When another node has fenced it off, KeepFence ends the sessions,
// then KeepLease takes the lease under a new boot id, then KeepFence writes the fence row for it. In this order no
// session of the old life coexists with the new one.
type Member struct {
	d         Deps
	wakeLease chan struct{} // holds a token while KeepLease may have something to do
	wakeFence chan struct{} // the same for KeepFence

	mu        sync.Mutex // guards the following
	mine      presence.Lease
	extended  time.Time // start of the latest extension, monotonic; zero while this life does not hold the lease
	fence     fenceState
	data      generation
	tokens    []string // login tokens used since the last load report
	fenceFail bool     // the last step failed; only the first failure of a series is logged
}

// fenceState is what this node knows about the fence row of its current boot id.
type fenceState uint8

const (
	fenceAbsent fenceState = iota // not written yet
	fenceHeld                     // written, and unchanged as far as known
	fenceLost                     // another node treated this one as dead; the sessions still exist
	fenceEnded                    // the sessions have ended; the next life may begin
)

// LeaseStore is the part of Redis that a Member uses; *presence.Leases implements it.
type LeaseStore interface {
	Take(ctx context.Context, l presence.Lease, replaceBoot string) error
	Extend(ctx context.Context, l presence.Lease) (gen string, err error)
	Drop(ctx context.Context, l presence.Lease) error
	Report(ctx context.Context, node string, count int, tokens []string, handled presence.Kicks) (presence.Kicks, error)
	Generation(ctx context.Context) (id string, ageMS int64, err error)
}

// Mailbox carries out the kicks that a report reads; *reconcile.Reconciler implements it.
type Mailbox interface {
	// Handled returns the kicks that the next report removes from Redis.
	Handled() presence.Kicks
	// Reported receives the kicks that a report read, or the error of the report.
	Reported(kicks presence.Kicks, err error)
}

// FenceStore is the part of SQL that a Member uses; *store.Fence implements it.
type FenceStore interface {
	Take(ctx context.Context, node, boot string) error
	Boot(ctx context.Context, node string) (boot string, err error)
}

// Deps are the dependencies of a Member. None of the functions may wait for Redis or SQL.
type Deps struct {
	Log   *slog.Logger
	Lease LeaseStore
	Fence FenceStore
	// Hello asks the process at an RPC address for its boot id.
	Hello func(ctx context.Context, addr string) (name, boot string, err error)
	// Sessions returns the number of sessions of this node.
	Sessions func() int
	// EndSessions ends all of them.
	EndSessions func()
	// LostData has all of them written back into a Redis that lost its data.
	LostData func()
	Mailbox  Mailbox

	LeaseFailures, FenceFailures, Fenced prometheus.Counter
}

// New returns a Member that has not joined yet. New sets the boot id of mine.
func New(mine presence.Lease, d Deps) *Member {
	mine.Boot = newBoot()
	return &Member{
		d: d, mine: mine,
		wakeLease: make(chan struct{}, 1), wakeFence: make(chan struct{}, 1),
	}
}

// newBoot returns a random boot id of 16 hex digits.
func newBoot() string {
	var b [8]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return hex.EncodeToString(b[:])
}

// wake puts a token into a channel of capacity one, unless it already holds one.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Lease returns the lease of the current life, whether it is held or not.
func (m *Member) Lease() presence.Lease {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mine
}

// Boot returns the boot id under which this node may store.
func (m *Member) Boot() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mine.Boot
}

// Admits reports whether a login may proceed, and under which boot id.
func (m *Member) Admits() (boot string, code wire.Code) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	switch {
	case m.mine.Draining:
		return "", wire.CodeDraining
	case m.fence != fenceHeld, m.extended.IsZero(), now.Sub(m.extended) >= leaseDoubt, m.data.young(now):
		return "", wire.CodeUnavailable
	}
	return m.mine.Boot, wire.CodeOK
}

// Lives reports whether boot is the current boot id and not known to be fenced off.
func (m *Member) Lives(boot string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fence == fenceHeld && m.mine.Boot == boot
}

// NoteLogin records that a login used its placement token.
func (m *Member) NoteLogin(token string) {
	if token == "" {
		return // a resumed session has no reservation
	}
	m.mu.Lock()
	m.tokens = append(m.tokens, token)
	m.mu.Unlock()
}

// NoteFenced records that the fence row no longer holds this boot id: another node treated this one as dead.
func (m *Member) NoteFenced(boot string) {
	m.mu.Lock()
	first := m.fence == fenceHeld && m.mine.Boot == boot
	if first {
		m.fence = fenceLost
	}
	m.mu.Unlock()
	if first {
		m.d.Fenced.Inc()
		m.d.Log.Warn("fenced off: another node treated this one as dead", "boot", boot)
		wake(m.wakeFence)
	}
}

// Join makes this process the node: it takes the lease, then the fence row, then reports a load of zero. The lease
// comes first because it excludes a second process of the same name. If another process holds the lease and answers,
// the error is fatal. Join may be called again after other errors.
func (m *Member) Join(ctx context.Context) error {
	if err := m.acquire(ctx); err != nil {
		return err
	}
	if err := m.takeFence(ctx); err != nil {
		return err
	}
	return m.report(ctx)
}
