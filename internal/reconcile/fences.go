package reconcile

import (
	"context"
	"log/slog"
	"sync"

	"parley/internal/flight"
	"parley/internal/recent"
)

// maxFenced is the number of fenced lives remembered. Fencing a forgotten life again changes nothing.
const maxFenced = 1024

// fences fences each life once, however many logins ask for it. After a crash of a node, the first login of each of
// its users does.
type fences struct {
	run   func(ctx context.Context, node, boot string) error
	log   *slog.Logger
	under flight.Group[life, struct{}]

	mu   sync.Mutex // guards done
	done *recent.Map[life, struct{}]
}

func newFences(run func(context.Context, string, string) error, log *slog.Logger) *fences {
	return &fences{run: run, log: log, done: recent.New[life, struct{}](maxFenced)}
}

// fence fences l and returns nil when that is done.
func (f *fences) fence(ctx context.Context, l life) error {
	_, _, err := f.under.Do(ctx, l, func() (none struct{}, err error) {
		f.mu.Lock()
		_, done := f.done.Get(l)
		f.mu.Unlock()
		if done {
			return none, nil
		}
		if err := f.run(ctx, l.node, l.boot); err != nil {
			return none, err
		}
		f.log.Info("fenced a dead node", "peer", l.node, "boot", l.boot)
		f.mu.Lock()
		f.done.Put(l, none)
		f.mu.Unlock()
		return none, nil
	})
	return err
}
