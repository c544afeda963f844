package obs

import (
	"context"
	"errors"
	"sync"
)

// While serves while node runs, its drain included, and returns when both have ended; /readyz answers 503 from the moment
// ctx ends. A listener that fails ends node's context.
func (o *Ops) While(ctx context.Context, node func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { o.SetDraining(true) })()
	serve, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var wg sync.WaitGroup
	var opsErr error
	wg.Go(func() {
		if opsErr = o.Run(serve); opsErr != nil {
			cancel()
		}
	})
	err := node(ctx)
	stop()
	wg.Wait()
	return errors.Join(err, opsErr)
}
