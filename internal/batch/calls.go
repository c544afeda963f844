package batch

import (
	"context"
	"errors"
	"sync/atomic"
)

// Why a call was not made.
var (
	ErrFull   = errors.New("batch: too many calls wait")
	ErrClosed = errors.New("batch: closed")
)

// A Call is what one caller wants done together with the calls of others. Its type embeds a Part.
type Call interface {
	part() *Part
	// Settle sets the outcome, nil unless it is called. It is for the function that serves the batch.
	Settle(err error)
}

// Part makes a type a Call. The zero value is ready, for one Do.
type Part struct {
	state atomic.Int32
	done  chan struct{} // closed when err is final
	err   error
}

// The states of a call.
const (
	waiting   = iota
	taken     // a worker has it
	abandoned // its caller left before a worker came; it will not be made
)

func (p *Part) part() *Part { return p }

// Settle implements Call.
func (p *Part) Settle(err error) { p.err = err }

// Calls packs the calls of many goroutines into batches, and has each caller wait for its own. NewCalls makes one; all
// methods are safe for concurrent use.
type Calls[C Call] struct {
	queue    *Queue[C]
	stop     <-chan struct{}
	serve    func(batch []C)
	panicked func(*Panic)
}

// NewCalls returns a Calls that ends when stop is closed. serve makes the calls of a batch and settles each; it
// must not keep the slice. If it panics, panicked is told, and the panic is the outcome of them all.
func NewCalls[C Call](l Limits, stop <-chan struct{}, serve func(batch []C), panicked func(*Panic)) *Calls[C] {
	return &Calls[C]{queue: NewQueue[C](l), stop: stop, serve: serve, panicked: panicked}
}

// Do has c made and returns its outcome. ErrFull, ErrClosed and, while c waits, the cause of ctx's end mean that it was
// not and will not be made. Once it is under way, settle says whether to wait for the outcome or to leave when ctx ends.
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

// Run makes the calls until stop is closed. As many batches are under way as goroutines are in it.
func (cs *Calls[C]) Run() {
	cs.queue.Run(cs.stop, cs.work, func(_ []C, p *Panic) { cs.panicked(p) })
}

func (cs *Calls[C]) work(batch []C) {
	mine := batch[:0]
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
