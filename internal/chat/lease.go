package chat

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"parley/internal/config"
	"parley/internal/presence"
	"parley/internal/wire"
)

// youngRedis is how long after Redis lost its data logins wait: the nodes' sessions are written back meanwhile.
const youngRedis = 6 * time.Second

// lease is this node's standing in the cluster: its lease in Redis, and its fence row in SQL. A login needs both; a text
// needs the fence row only, so that texts go on while Redis is away.
type lease struct {
	s *Server

	mu       sync.Mutex // guards the following
	mine     presence.Lease
	extended time.Time // last success, monotonic; zero while the node may not serve
	gen      string
	genFrom  time.Time // before this logins wait for the other nodes' sessions
	fenced   string    // the boot id that was found replaced; "" while all is well
	tokens   []string  // of logins since the last load report
}

func (l *lease) Boot() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mine.Boot
}

// admits says whether a login may go on, and under which boot id.
func (l *lease) admits() (boot string, code wire.Code) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	switch {
	case l.mine.Draining:
		return "", wire.CodeDraining
	case l.extended.IsZero(), l.fenced != "", now.Sub(l.extended) >= leaseDoubt, now.Before(l.genFrom):
		return "", wire.CodeUnavailable
	}
	return l.mine.Boot, wire.CodeOK
}

func (l *lease) noteLogin(token string) {
	if token == "" {
		return // a resumed session was never reserved
	}
	l.mu.Lock()
	l.tokens = append(l.tokens, token)
	l.mu.Unlock()
}

// noteFenced says that SQL no longer carries this boot id: another node took this one for dead.
func (l *lease) noteFenced(boot string) {
	l.mu.Lock()
	first := l.fenced == "" && l.mine.Boot == boot
	if first {
		l.fenced = boot
	}
	l.mu.Unlock()
	if first {
		l.s.metrics.fenced.Inc()
		l.s.log.Warn("fenced off: another node took this one for dead", "boot", boot)
		select {
		case l.s.wakeLease <- struct{}{}:
		default:
		}
	}
}

// take makes this process the node: the lease first, then the fence row, then a load of zero. A lease that another
// process holds is fatal if that process answers for it.
func (l *lease) take(ctx context.Context) error {
	l.mu.Lock()
	l.mine.Boot = newSID().String()
	mine := l.mine
	l.mu.Unlock()

	err := l.s.presence.TakeLease(ctx, mine, "")
	if held, ok := errors.AsType[*presence.HeldError](err); ok {
		_, boot, helloErr := l.s.peers.Hello(ctx, held.Holder.RPCAddr)
		if helloErr == nil && boot == held.Holder.Boot {
			return config.Dependency(fmt.Errorf("chat: node %q runs already at %s: give this one another name", mine.Name, held.Holder.RPCAddr))
		}
		l.s.log.Info("taking over the lease of a dead process", "boot", held.Holder.Boot)
		err = l.s.presence.TakeLease(ctx, mine, held.Holder.Boot)
	}
	if err != nil {
		return err
	}
	if err := l.s.store.TakeFence(ctx, mine.Name, mine.Boot); err != nil {
		return err
	}
	if err := l.s.presence.ReportLoad(ctx, mine.Name, 0, nil); err != nil {
		return err
	}
	gen, age, err := l.s.presence.Generation(ctx)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.extended, l.fenced = time.Now(), ""
	l.noteGenerationLocked(gen, age)
	return nil
}

// noteGenerationLocked reports whether Redis lost its data since the last time.
func (l *lease) noteGenerationLocked(gen string, ageMS int64) (lost bool) {
	if gen == l.gen {
		return false
	}
	lost = l.gen != ""
	l.gen = gen
	if wait := youngRedis - time.Duration(ageMS)*time.Millisecond; wait > 0 {
		l.genFrom = time.Now().Add(wait)
	}
	return lost
}

// run keeps the lease until ctx ends. It returns an error when this process may not be the node any more.
func (l *lease) run(ctx context.Context) error {
	refresh := time.NewTicker(leaseRefresh)
	defer refresh.Stop()
	every := time.NewTicker(tick)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.s.wakeLease:
		case <-refresh.C:
			if err := l.extend(ctx); err != nil {
				return err
			}
		case <-every.C:
			l.report(ctx)
			l.readFence(ctx)
		}
		if l.isFenced() {
			if err := l.rejoin(ctx); err != nil {
				return err
			}
		}
	}
}

func (l *lease) isFenced() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fenced != ""
}

// extend keeps the lease for another leaseTTL, by compare-and-extend. One that lapsed is taken again under the same boot
// id, unless somebody else did: if that process lives this one must not serve.
func (l *lease) extend(ctx context.Context) error {
	l.mu.Lock()
	mine := l.mine
	l.mu.Unlock()
	gen, err := l.s.presence.ExtendLease(ctx, mine)
	if errors.Is(err, presence.ErrLeaseLost) {
		if held, ok := errors.AsType[*presence.HeldError](err); ok {
			return l.lostTo(ctx, held.Holder)
		}
		// Lapsed, or lost with Redis' data. The fence row says whether others took this node for dead meanwhile.
		err = l.s.presence.TakeLease(ctx, mine, "")
		if held, ok := errors.AsType[*presence.HeldError](err); ok {
			return l.lostTo(ctx, held.Holder)
		}
		if err == nil {
			gen, _, err = l.s.presence.Generation(ctx)
		}
	}
	if err != nil {
		l.s.metrics.leaseFailures.Inc()
		l.s.log.Warn("lease not extended", "err", err)
		return nil // leaseDoubt ends the logins if it goes on
	}
	_, age, err := l.s.presence.Generation(ctx)
	if err != nil {
		return nil // the next refresh sees it
	}
	l.mu.Lock()
	l.extended = time.Now()
	lost := l.noteGenerationLocked(gen, age)
	l.mu.Unlock()
	if lost {
		l.s.log.Warn("Redis lost its data: writing this node's sessions back")
		l.s.restore(ctx)
	}
	return nil
}

// lostTo ends this process if the new holder of its lease lives, else waits for that lease to lapse.
func (l *lease) lostTo(ctx context.Context, holder presence.Lease) error {
	l.s.metrics.leaseFailures.Inc()
	_, boot, err := l.s.peers.Hello(ctx, holder.RPCAddr)
	if err == nil && boot == holder.Boot {
		return config.Dependency(fmt.Errorf("chat: another process took over as node %q at %s", holder.Name, holder.RPCAddr))
	}
	return nil
}

// report writes this node's true load, and that the reservations of those who logged in are part of it now.
func (l *lease) report(ctx context.Context) {
	l.mu.Lock()
	tokens := l.tokens
	l.tokens = nil
	serving := !l.extended.IsZero()
	l.mu.Unlock()
	if !serving {
		return
	}
	if err := l.s.presence.ReportLoad(ctx, l.s.cfg.SelfServer.Name, l.s.registry.Live(), tokens); err != nil {
		l.s.log.Debug("load not reported", "err", err) // the reservations lapse by themselves
	}
}

// readFence notices being fenced although no text is being stored.
func (l *lease) readFence(ctx context.Context) {
	boot := l.Boot()
	row, err := l.s.store.FenceBoot(ctx, l.s.cfg.SelfServer.Name)
	if err != nil {
		l.s.log.Debug("fence row not read", "err", err)
		return
	}
	if row != boot {
		l.noteFenced(boot)
	}
}

// rejoin is what a node does that was taken for dead: its users may be logged in elsewhere by now, so it closes its
// sessions and comes back as a new life.
func (l *lease) rejoin(ctx context.Context) error {
	l.mu.Lock()
	l.extended = time.Time{}
	old := l.mine.Boot
	mine := l.mine
	l.mu.Unlock()
	l.s.endAll(wire.CodeUnavailable, "node was fenced off")
	if err := l.s.presence.DropLease(ctx, mine); err != nil {
		l.s.log.Warn("old lease not dropped", "err", err)
	}
	err := l.take(ctx)
	if config.ExitCode(err) == config.ExitDependency {
		return err
	}
	if err != nil {
		l.s.log.Warn("not back yet", "err", err) // the next tick tries again
		l.mu.Lock()
		l.fenced = old
		l.mu.Unlock()
		return nil
	}
	l.s.log.Info("back as a new life", "boot", l.Boot())
	return nil
}

// drain tells placement to leave this node out.
func (l *lease) drain(ctx context.Context) {
	l.mu.Lock()
	l.mine.Draining = true
	mine := l.mine
	l.mu.Unlock()
	if _, err := l.s.presence.ExtendLease(ctx, mine); err != nil {
		l.s.log.Warn("drain not announced", "err", err)
	}
}

// drop gives the lease and the load count up.
func (l *lease) drop(ctx context.Context) {
	l.mu.Lock()
	mine := l.mine
	l.extended = time.Time{}
	l.mu.Unlock()
	if err := l.s.presence.DropLease(ctx, mine); err != nil {
		l.s.log.Warn("lease not dropped, it lapses by itself", "err", err)
	}
}

// forgetGeneration makes the next refresh write the sessions back again.
func (l *lease) forgetGeneration() {
	l.mu.Lock()
	l.gen = "unknown"
	l.mu.Unlock()
}
