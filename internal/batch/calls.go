package batch

import (
	"context"
	"errors"
	"sync/atomic"
)

// Errors of Do when the call was not made.
var (
	ErrFull   = errors.New("batch: too many calls wait")
	ErrClosed = errors.New("batch: closed")
)

// A Call is one caller's share of a batch. A type implements Call by embedding a Part.
type Call interface {
	part() *Part
	// Settle sets the outcome of the call. Without it the outcome is nil. The function that serves the batch calls
	// it.
	Settle(err error)
}

// A Part makes the type that embeds it a Call. The zero value is ready for use in one Do.
type Part struct {
	state atomic.Int32
	done  chan struct{} // closed when err is final
	err   error
}

// The states of a call.
const (
	waiting   = iota
	taken     // by a worker, which will settle it
	abandoned // by its caller, before a worker took it; it will not be made
)

func (p *Part) part() *Part { return p }

// Settle implements Call.
func (p *Part) Settle(err error) { p.err = err }

// Calls packs the calls of many goroutines into batches; each caller waits for its own outcome. Use NewCalls to make
// one. All methods are safe for concurrent use.
type Calls[C Call] struct {
	queue    *Queue[C]
	stop     <-chan struct{}
	serve    func(batch []C)
	panicked func(*Panic)
}

// NewCalls returns a Calls that ends when stop is closed. serve makes the calls of a batch and settles each; it must
// not keep the slice. If serve panics, Calls reports the panic to panicked and returns it to every caller of the
// batch.
func NewCalls[C Call](l Limits, stop <-chan struct{}, serve func(batch []C), panicked func(*Panic)) *Calls[C] {
	return &Calls[C]{queue: NewQueue[C](l), stop: stop, serve: serve, panicked: panicked}
}

// Do queues c, waits until a worker has made the call, and returns its outcome. The call was not and will not be made
// if Do returns ErrFull or ErrClosed, or if ctx ends while c is still queued; Do then returns the cause. If ctx ends
// while a worker makes the call, settle decides: true waits for the outcome, false returns the cause at once.
func (cs *Calls[C]) Do(ctx context.Context, c C, weight int, settle bool) error {
	select {
	case <-cs.stop:
		return ErrClosed
	default:
	}
	p := c.part()
	p.done = make(chan struct{})
	if !cs.queue.Put(c, weight) {
		return ErrFull
	}
	var err error
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-cs.stop:
		err, settle = ErrClosed, true
	}
	// Either this swap or the worker's succeeds, never both: the caller and the worker agree on whether the call is
	// made.
	if p.state.CompareAndSwap(waiting, abandoned) || !settle {
		return err
	}
	<-p.done
	return p.err
}

// Waiting returns how many calls wait.
func (cs *Calls[C]) Waiting() int {
	n, _ := cs.queue.Waiting()
	return n
}

// Run makes the calls until stop is closed. Each goroutine in Run serves one batch at a time.
func (cs *Calls[C]) Run() {
	cs.queue.Run(cs.stop, cs.work, func(_ []C, p *Panic) { cs.panicked(p) })
}

// work serves those calls of the batch whose callers have not left.
func (cs *Calls[C]) work(batch []C) {
	mine := batch[:0] // filtered in place
	for _, c := range batch {
		if c.part().state.CompareAndSwap(waiting, taken) {
			mine = append(mine, c)
		}
	}
	if len(mine) == 0 {
		return
	}
	if p := Try(func() { cs.serve(mine) }); p != nil {
		cs.panicked(p)
		for _, c := range mine {
			c.Settle(p)
		}
	}
	for _, c := range mine {
		close(c.part().done)
	}
}
