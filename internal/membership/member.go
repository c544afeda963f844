// Package membership holds a chat node's place in the cluster: its lease in Redis, its fence row in SQL, and its
// successive lives, each with its own boot id.
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

// Times that are promises to other nodes rather than tuning; docs/GUARANTEES.md builds on them.
const (
	leaseRefresh = presence.DefaultRefresh
	leaseDoubt   = 7 * time.Second // without a refresh for so long a node refuses logins
	tick         = time.Second     // load reports and fence reads
)

// youngRedis is how long after Redis lost its data logins wait: the nodes' sessions are written back meanwhile.
const youngRedis = 6 * time.Second

// A Member is this node's place in the cluster: a lease in Redis and a fence row in SQL. KeepLease holds the one and
// KeepFence the other, each in its own goroutine and on its own server, so that a server that stalls delays nothing on
// the other. A login needs both. A text needs the fence row only, so that texts go on while Redis is away.
//
// A node lives many lives, each with a boot id of its own. A life that another node has fenced off ends in this order:
// KeepFence ends the sessions, KeepLease takes the lease under a new boot id, KeepFence writes the fence row for it.
type Member struct {
	d         Deps
	wakeLease chan struct{} // holds one token while KeepLease has something new to look at
	wakeFence chan struct{} // the same for KeepFence

	mu        sync.Mutex // guards the following
	mine      presence.Lease
	extended  time.Time // when this life last extended its lease, monotonic; zero while it does not hold the lease
	fence     fenceState
	gen       string
	genFrom   time.Time // before this logins wait for the other nodes' sessions
	tokens    []string  // of logins since the last load report
	fenceFail bool      // the last read of the fence row failed: log only the first of a row
}

// fenceState is what this node knows about the fence row of its current life.
type fenceState uint8

const (
	fenceAbsent fenceState = iota // not written yet
	fenceHeld                     // written, and not seen to have changed
	fenceLost                     // another node took this one for dead; the sessions are still here
	fenceEnded                    // they have been ended; the next life may begin
)

// LeaseStore is what a Member needs of Redis; *presence.Presence is one.
type LeaseStore interface {
	TakeLease(ctx context.Context, l presence.Lease, replaceBoot string) error
	ExtendLease(ctx context.Context, l presence.Lease) (gen string, err error)
	DropLease(ctx context.Context, l presence.Lease) error
	Report(ctx context.Context, node string, count int, tokens []string, handled presence.Kicks) (presence.Kicks, error)
	Generation(ctx context.Context) (id string, ageMS int64, err error)
}

// Mailbox carries out the kicks that a report brings; *reconcile.Reconciler is one.
type Mailbox interface {
	// Handled returns the kicks that the next report takes out of Redis.
	Handled() presence.Kicks
	// Reported takes what a report brought, or why there was none.
	Reported(kicks presence.Kicks, err error)
}

// FenceStore is what a Member needs of SQL; *store.Store is one.
type FenceStore interface {
	TakeFence(ctx context.Context, node, boot string) error
	FenceBoot(ctx context.Context, node string) (boot string, err error)
}

// Deps is what a Member works with. None of the functions may wait for Redis or SQL.
type Deps struct {
	Log   *slog.Logger
	Lease LeaseStore
	Fence FenceStore
	// Hello asks the process at an RPC address for its boot id.
	Hello func(ctx context.Context, addr string) (name, boot string, err error)
	// Sessions returns how many sessions this node has.
	Sessions func() int
	// EndSessions ends them all.
	EndSessions func()
	// LostData has them written into a Redis that lost its data.
	LostData func()
	Mailbox  Mailbox

	LeaseFailures, FenceFailures, Fenced prometheus.Counter
}

// New returns a Member that has not joined yet. mine lacks the boot id only.
func New(mine presence.Lease, d Deps) *Member {
	mine.Boot = newBoot()
	return &Member{
		d: d, mine: mine,
		wakeLease: make(chan struct{}, 1), wakeFence: make(chan struct{}, 1),
	}
}

// newBoot returns a random name for a life of the node: 16 hex digits.
func newBoot() string {
	var b [8]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return hex.EncodeToString(b[:])
}

// wake puts a token into a channel of one.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// ClientAddr returns where clients are told to connect, host:port.
func (m *Member) ClientAddr() string { return m.lease().ClientAddr }

// RPCAddr returns where other nodes are told to call, host:port.
func (m *Member) RPCAddr() string { return m.lease().RPCAddr }

func (m *Member) lease() presence.Lease {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mine
}

// Boot returns the id under which this node may store.
func (m *Member) Boot() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mine.Boot
}

// Admits reports whether a login may go on, and under which boot id.
func (m *Member) Admits() (boot string, code wire.Code) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	switch {
	case m.mine.Draining:
		return "", wire.CodeDraining
	case m.fence != fenceHeld, m.extended.IsZero(), now.Sub(m.extended) >= leaseDoubt, now.Before(m.genFrom):
		return "", wire.CodeUnavailable
	}
	return m.mine.Boot, wire.CodeOK
}

// Lives reports whether boot is the current life, and not known to be fenced off.
func (m *Member) Lives(boot string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fence == fenceHeld && m.mine.Boot == boot
}

// NoteLogin remembers that a login used the token it was placed with.
func (m *Member) NoteLogin(token string) {
	if token == "" {
		return // a resumed session was never reserved
	}
	m.mu.Lock()
	m.tokens = append(m.tokens, token)
	m.mu.Unlock()
}

// NoteFenced says that SQL no longer carries this boot id: another node took this one for dead.
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

// Join makes this process the node: the lease first, then the fence row, then a load of zero. A lease that another
// process holds is fatal if that process answers for it. join may be called again after an error.
func (m *Member) Join(ctx context.Context) error {
	if err := m.acquire(ctx); err != nil {
		return err
	}
	if err := m.takeFence(ctx); err != nil {
		return err
	}
	return m.report(ctx)
}

// noteGenerationLocked reports whether Redis lost its data since the last time.
func (m *Member) noteGenerationLocked(gen string, ageMS int64) (lost bool) {
	if gen == m.gen {
		return false
	}
	lost = m.gen != ""
	m.gen = gen
	if wait := youngRedis - time.Duration(ageMS)*time.Millisecond; wait > 0 {
		m.genFrom = time.Now().Add(wait)
	}
	return lost
}
