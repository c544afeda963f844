package membership

import (
	"context"
	"errors"
	"fmt"
	"time"

	"parley/internal/config"
	"parley/internal/presence"
)

// leaseTimeout bounds one step of KeepLease: several calls to Redis, and perhaps one to another process. It leaves
// time for a second attempt before the lease lapses.
const leaseTimeout = 3 * time.Second

// KeepLease holds the lease in Redis until ctx ends. It never waits for SQL. It returns an error if another live
// process has taken over as this node.
func (m *Member) KeepLease(ctx context.Context) error {
	every := time.NewTicker(tick)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.wakeLease:
		case <-every.C:
		}
		if err := m.leaseStep(ctx); err != nil {
			return err
		}
	}
}

// leaseStep does what is due: begin a new life, take or extend the lease, report the load.
func (m *Member) leaseStep(ctx context.Context) error {
	if old, ended := m.nextLife(); ended {
		m.d.dropLease(ctx, old)
	}
	m.mu.Lock()
	held := !m.extended.IsZero()
	// Ticks arrive a little early or late, hence the half tick. A failed refresh is repeated with the next tick.
	due := time.Since(m.extended) >= leaseRefresh-tick/2
	m.mu.Unlock()
	var err error
	switch {
	case !held:
		err = m.acquire(ctx)
	case due:
		err = m.extend(ctx)
	}
	if config.ExitCode(err) == config.ExitDependency {
		return err
	}
	if err != nil {
		m.d.LeaseFailures.Inc()
		m.d.Log.Warn("lease not extended", "err", err) // after leaseDoubt, Admits refuses logins
		m.d.Mailbox.Reported(presence.Kicks{}, err)
		return nil
	}
	if err := m.report(ctx); err != nil {
		m.d.Log.Debug("load not reported", "err", err) // the reservations expire by themselves
	}
	return nil
}

// nextLife begins the next life once the sessions of a fenced one have ended. It returns the lease to drop.
func (m *Member) nextLife() (old presence.Lease, ended bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fence != fenceEnded {
		return presence.Lease{}, false
	}
	old = m.mine
	m.mine.Boot = newBoot()
	m.extended, m.fence, m.tokens = time.Time{}, fenceAbsent, nil
	return old, true
}

// acquire takes the lease for the current boot id. If another process holds the lease and answers, the error is
// fatal; the lease of a dead process is replaced.
func (m *Member) acquire(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	mine := m.Lease()
	began := time.Now()
	err := m.d.Lease.Take(ctx, mine, "")
	if held, ok := errors.AsType[*presence.HeldError](err); ok {
		if m.d.answers(ctx, held) {
			return config.Dependency(fmt.Errorf("membership: node %q runs already at %s: give this one another name", mine.Name, held.Holder.RPCAddr))
		}
		m.d.Log.Info("taking over the lease of a dead process", "boot", held.Holder.Boot)
		began = time.Now()
		err = m.d.Lease.Take(ctx, mine, held.Holder.Boot)
	}
	if err != nil {
		return err
	}
	if err := m.noteTaken(ctx, began); err != nil {
		return err
	}
	wake(m.wakeFence) // the row for this boot id may not be written yet
	return nil
}

// noteTaken records that the lease was taken no earlier than began.
func (m *Member) noteTaken(ctx context.Context, began time.Time) error {
	gen, age, err := m.d.Lease.Generation(ctx)
	if err == nil {
		m.noteExtended(began, gen, age)
	}
	return err
}

// extend extends the lease by compare-and-extend. A lease that lapsed is taken again under the same boot id, unless
// another process has taken it; if that process is alive, this one must not serve.
func (m *Member) extend(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	mine := m.Lease()
	began := time.Now()
	gen, err := m.d.Lease.Extend(ctx, mine)
	if errors.Is(err, presence.ErrLeaseLost) {
		if held, ok := errors.AsType[*presence.HeldError](err); ok {
			return m.d.lostTo(ctx, held)
		}
		// The lease lapsed, or was lost with Redis' data. Keeping the boot id is safe: if another node treated this
		// one as dead meanwhile, it changed the fence row, and nothing can be stored under the old boot id.
		began = time.Now()
		err = m.d.Lease.Take(ctx, mine, "")
		if held, ok := errors.AsType[*presence.HeldError](err); ok {
			return m.d.lostTo(ctx, held)
		}
		if err != nil {
			return err
		}
		return m.noteTaken(ctx, began)
	}
	if err != nil {
		return err
	}
	_, age, err := m.d.Lease.Generation(ctx)
	if err != nil {
		return err
	}
	m.noteExtended(began, gen, age)
	return nil
}

// noteExtended records that the lease was extended no earlier than began. Using the time before the call never
// overestimates how long the lease lasts.
func (m *Member) noteExtended(began time.Time, gen string, age int64) {
	m.mu.Lock()
	m.extended = began
	lost := m.data.note(gen, age)
	m.mu.Unlock()
	if lost {
		m.d.Log.Warn("Redis lost its data: writing this node's sessions back")
		m.d.LostData()
	}
}

// lostTo returns a fatal error if the new holder of the lease is alive. Otherwise that lease will lapse.
func (d *Deps) lostTo(ctx context.Context, held *presence.HeldError) error {
	if d.answers(ctx, held) {
		return config.Dependency(fmt.Errorf("membership: another process took over as node %q at %s", held.Holder.Name, held.Holder.RPCAddr))
	}
	return held
}

// answers reports whether the process that took a lease is alive: whether it answers with the lease's boot id.
func (d *Deps) answers(ctx context.Context, held *presence.HeldError) bool {
	_, boot, err := d.Hello(ctx, held.Holder.RPCAddr)
	return err == nil && boot == held.Holder.Boot
}

// report writes this node's load, and removes the reservations of the users who have logged in, because the load now
// includes them. In the same round trip it reads the kicks that other nodes have left for this one. It does nothing
// while the node does not serve: placement uses a node from its first report on.
func (m *Member) report(ctx context.Context) error {
	m.mu.Lock()
	name, serving := m.mine.Name, !m.extended.IsZero() && m.fence == fenceHeld
	var tokens []string
	if serving {
		tokens, m.tokens = m.tokens, nil
	}
	m.mu.Unlock()
	if !serving {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, tick)
	defer cancel()
	kicks, err := m.d.Lease.Report(ctx, name, m.d.Sessions(), tokens, m.d.Mailbox.Handled())
	m.d.Mailbox.Reported(kicks, err)
	return err
}

// SetDraining tells placement to leave this node out, or to count on it again. From now on logins are refused, or not, whether
// Redis answers or not: the next refresh of the lease repeats it.
func (m *Member) SetDraining(ctx context.Context, draining bool) {
	m.mu.Lock()
	m.mine.Draining = draining
	mine := m.mine
	m.mu.Unlock()
	if _, err := m.d.Lease.Extend(ctx, mine); err != nil {
		m.d.Log.Warn("drain not announced yet", "draining", draining, "err", err)
	}
}

// Draining reports what SetDraining was last told.
func (m *Member) Draining() bool { return m.Lease().Draining }

// Drop gives up the lease and the load count.
func (m *Member) Drop(ctx context.Context) {
	m.mu.Lock()
	mine := m.mine
	m.extended = time.Time{}
	m.mu.Unlock()
	m.d.dropLease(ctx, mine)
}

func (d *Deps) dropLease(ctx context.Context, l presence.Lease) {
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	if err := d.Lease.Drop(ctx, l); err != nil {
		d.Log.Warn("lease not dropped; it expires by itself", "err", err)
	}
}
