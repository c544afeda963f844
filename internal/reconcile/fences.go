package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"sync"
)

// maxFenced is how many fenced lives are remembered. One that was forgotten is fenced again, which changes nothing.
const maxFenced = 1024

// fences fences each life once, however many logins ask for it at the same time: after a crash the first login of every
// user of that node does.
type fences struct {
	run func(ctx context.Context, node, boot string) error
	log *slog.Logger

	mu    sync.Mutex // guards the following
	done  map[life]struct{}
	under map[life]*attempt // under way
}

// attempt is one caller's try, which others wait for.
type attempt struct {
	ended chan struct{}
	err   error // set before ended is closed
}

func newFences(run func(context.Context, string, string) error, log *slog.Logger) *fences {
	return &fences{run: run, log: log, done: make(map[life]struct{}), under: make(map[life]*attempt)}
}

// fence returns nil when l is fenced. One caller tries while the others wait; if it left before it was done, another
// one tries.
func (f *fences) fence(ctx context.Context, l life) error {
	for {
		mine, others := f.begin(l)
		switch {
		case mine != nil:
			return f.try(ctx, l, mine)
		case others == nil:
			return nil
		}
		select {
		case <-others.ended:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if !errors.Is(others.err, errLeft) {
			return others.err
		}
	}
}

// errLeft is the outcome of an attempt whose caller's time was over.
var errLeft = errors.New("reconcile: attempt to fence a node given up")

// begin returns the caller's own attempt, or the one that is under way, or nothing when l is fenced.
func (f *fences) begin(l life) (mine, others *attempt) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.done[l]; ok {
		return nil, nil
	}
	if a := f.under[l]; a != nil {
		return nil, a
	}
	mine = &attempt{ended: make(chan struct{}), err: errLeft} // which a panic leaves as it is
	f.under[l] = mine
	return mine, nil
}

func (f *fences) try(ctx context.Context, l life, a *attempt) error {
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if a.err == nil {
			if len(f.done) >= maxFenced {
				clear(f.done)
			}
			f.done[l] = struct{}{}
		}
		delete(f.under, l)
		close(a.ended)
	}()
	err := f.run(ctx, l.node, l.boot)
	if err == nil {
		f.log.Info("fenced a dead node", "peer", l.node, "boot", l.boot)
	}
	if err == nil || ctx.Err() == nil {
		a.err = err
	}
	return err
}
