package obs

import (
	"context"
	"errors"
	"sync"

	"github.com/coreos/go-systemd/v22/daemon"
)

// While serves while node runs, its drain included, and returns when both have ended. From the moment ctx ends, /readyz
// answers 503. A listener that fails ends node's context. A unit of systemd with Type=notify is told when the node is ready
// for the first time, as /readyz means it, and when it begins to drain.
func (o *Ops) While(ctx context.Context, node func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		o.SetDraining(true)
		notifySystemd(o.log, daemon.SdNotifyStopping)
	})()
	serve, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var wg sync.WaitGroup
	var opsErr error
	wg.Go(func() {
		if opsErr = o.Run(serve); opsErr != nil {
			cancel()
		}
	})
	starting, over := context.WithCancel(ctx)
	defer over()
	wg.Go(func() { o.notifyReady(starting) })
	err := node(ctx)
	over()
	stop()
	wg.Wait()
	return errors.Join(err, opsErr)
}
