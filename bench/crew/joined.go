package crew

import (
	"context"
	"errors"
	"slices"
	"sync"

	"parley/bench/swarm"
	"parley/bench/watch"
)

// joined is several crews that do the same at once.
type joined []Crew

// Join makes one crew of several. Close closes them all.
func Join(crews ...Crew) Crew { return joined(crews) }

func (j joined) Prepare(ctx context.Context) error {
	for _, c := range j {
		if err := c.Prepare(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (j joined) Run(ctx context.Context, p swarm.Phase) (*swarm.Outcome, error) {
	parts, errs := make([]*swarm.Outcome, len(j)), make([]error, len(j))
	var wg sync.WaitGroup
	for i, c := range j {
		wg.Go(func() { parts[i], errs[i] = c.Run(ctx, p) })
	}
	wg.Wait()
	parts = slices.DeleteFunc(parts, func(o *swarm.Outcome) bool { return o == nil })
	total, err := swarm.Merge(parts)
	return total, errors.Join(append(errs, err)...)
}

func (j joined) ReadHistory(ctx context.Context, read History) error {
	for _, c := range j {
		if err := c.ReadHistory(ctx, read); err != nil {
			return err
		}
	}
	return nil
}

func (j joined) Live() (sum swarm.Live) {
	for _, c := range j {
		l := c.Live()
		sum.Online += l.Online
		sum.Done += l.Done
		sum.Offered += l.Offered
		sum.Wrong += l.Wrong
		sum.P99 = max(sum.P99, l.P99)
	}
	return sum
}

func (j joined) Nodes() []string {
	var names []string
	for _, c := range j {
		names = append(names, c.Nodes()...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Self counts this process once, for all crews in it.
func (j joined) Self() (sum watch.Self) {
	here := false
	for _, c := range j {
		if _, ok := c.(*own); ok {
			if here {
				continue
			}
			here = true
		}
		sum = watch.Worst(sum, c.Self())
	}
	return sum
}

func (j joined) Close() {
	for _, c := range j {
		c.Close()
	}
}
