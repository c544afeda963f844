package membership

import (
	"context"
	"time"
)

const (
	// fenceReadTimeout bounds a read of the fence row, which happens every second.
	fenceReadTimeout = 2 * time.Second
	// fenceTakeTimeout bounds a write of the row. A transaction under an earlier boot id may hold the row for two
	// seconds.
	fenceTakeTimeout = 5 * time.Second
)

// KeepFence watches the fence row in SQL until ctx ends, so that the node learns that it was fenced off even when no
// texts are sent. It never waits for Redis.
func (m *Member) KeepFence(ctx context.Context) {
	every := time.NewTicker(tick)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.wakeFence:
		case <-every.C:
		}
		m.fenceStep(ctx)
	}
}

// fenceStep writes or reads the row, as its state requires, and ends the sessions once the fence is lost.
func (m *Member) fenceStep(ctx context.Context) {
	m.mu.Lock()
	state, leased := m.fence, !m.extended.IsZero()
	m.mu.Unlock()
	var err error
	switch {
	case state == fenceAbsent && leased:
		err = m.takeFence(ctx)
	case state == fenceHeld:
		err = m.readFence(ctx)
	}
	m.noteFenceError(err)

	m.mu.Lock()
	lost := m.fence == fenceLost
	m.mu.Unlock()
	if lost {
		m.d.EndSessions()
		m.mu.Lock()
		m.fence = fenceEnded
		m.mu.Unlock()
		wake(m.wakeLease)
	}
}

// takeFence writes the row for the current boot id, whose lease is held.
func (m *Member) takeFence(ctx context.Context) error {
	m.mu.Lock()
	name, boot, again := m.mine.Name, m.mine.Boot, m.fence != fenceAbsent
	m.mu.Unlock()
	if again {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, fenceTakeTimeout)
	defer cancel()
	if err := m.d.Fence.Take(ctx, name, boot); err != nil {
		return err
	}
	// No other goroutine changes the state from fenceAbsent: Join has returned before KeepFence runs.
	m.mu.Lock()
	m.fence = fenceHeld
	m.mu.Unlock()
	m.d.Log.Info("member of the cluster", "boot", boot)
	wake(m.wakeLease) // placement may use the node now
	return nil
}

// readFence checks whether another node has fenced this one off.
func (m *Member) readFence(ctx context.Context) error {
	m.mu.Lock()
	name, boot := m.mine.Name, m.mine.Boot
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, fenceReadTimeout)
	defer cancel()
	row, err := m.d.Fence.Boot(ctx, name)
	if err != nil {
		return err
	}
	if row != boot {
		m.NoteFenced(boot)
	}
	return nil
}

// noteFenceError counts a failure, and logs the first of a series.
func (m *Member) noteFenceError(err error) {
	m.mu.Lock()
	before := m.fenceFail
	m.fenceFail = err != nil
	m.mu.Unlock()
	if err == nil {
		return
	}
	m.d.FenceFailures.Inc()
	if !before {
		m.d.Log.Warn("fence row not read or written; retrying every second", "err", err)
	}
}
