// Package batch queues the items of many goroutines and hands them to workers in order, several at a time. There is
// no timer: a worker takes what is queued as soon as it is free, so a lone item does not wait, and batches grow while
// the workers are busy.
package batch

import (
	"fmt"
	"runtime/debug"
	"sync"
)

// Limits bound a Queue. Put gives each item a weight in a unit of the caller's choice, such as bytes. A limit of 0
// means no limit.
type Limits struct {
	Items, Weight           int // of the queue; Put refuses more
	BatchItems, BatchWeight int // of one batch; a single item heavier than BatchWeight is a batch of its own
}

// A Queue holds items in order. Use NewQueue to make one. All methods are safe for concurrent use.
type Queue[T any] struct {
	limits Limits
	wake   chan struct{} // holds a token if Run may have something to do

	mu     sync.Mutex // guards the following
	ring   []entry[T] // its length is a power of two, or 0, so that an index wraps with a mask
	head   int
	n      int
	weight int
	closed bool
}

type entry[T any] struct {
	item   T
	weight int
}

const (
	minRing = 16
	// keepRing is the largest ring that an empty queue keeps.
	keepRing = 1024
)

// NewQueue returns an empty queue.
func NewQueue[T any](l Limits) *Queue[T] { return &Queue[T]{limits: l, wake: make(chan struct{}, 1)} }

// Put appends an item. It does not block. It returns false if the queue is full or closed.
func (q *Queue[T]) Put(item T, weight int) bool {
	q.mu.Lock()
	if q.closed || over(q.n+1, q.limits.Items) || over(q.weight+weight, q.limits.Weight) {
		q.mu.Unlock()
		return false
	}
	if q.n == len(q.ring) {
		q.growLocked()
	}
	q.ring[(q.head+q.n)&(len(q.ring)-1)] = entry[T]{item, weight}
	q.n++
	q.weight += weight
	q.mu.Unlock()
	q.signal()
	return true
}

func over(n, limit int) bool { return limit > 0 && n > limit }

func (q *Queue[T]) growLocked() {
	ring := make([]entry[T], max(minRing, 2*len(q.ring)))
	n := copy(ring, q.ring[q.head:])
	copy(ring[n:], q.ring[:q.head])
	q.ring, q.head = ring, 0
}

func (q *Queue[T]) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Take moves the next batch out of the queue and appends it to dst. It does not block; if the queue is empty, it
// returns dst unchanged.
func (q *Queue[T]) Take(dst []T) []T {
	dst, _, _ = q.take(dst)
	return dst
}

// take also reports whether items remain and whether the queue is closed. The first item is taken whatever it weighs;
// otherwise an item heavier than BatchWeight would block the queue for ever.
func (q *Queue[T]) take(dst []T) (_ []T, more, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for n, weight := 0, 0; q.n > 0; n++ {
		e := &q.ring[q.head]
		if weight += e.weight; n > 0 && (over(n+1, q.limits.BatchItems) || over(weight, q.limits.BatchWeight)) {
			break
		}
		dst = append(dst, e.item)
		q.weight -= e.weight
		*e = entry[T]{} // drop the reference, for the garbage collector
		q.head = (q.head + 1) & (len(q.ring) - 1)
		q.n--
	}
	if q.n == 0 && len(q.ring) > keepRing {
		q.ring, q.head = nil, 0
	}
	return dst, q.n > 0, q.closed
}

// Waiting returns the number of queued items and their total weight.
func (q *Queue[T]) Waiting() (items, weight int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.n, q.weight
}

// Close makes Put refuse items. Each Run returns once the queue is empty.
func (q *Queue[T]) Close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}

// Run calls do with one batch after the other until stop is closed, or until the queue is closed and empty. Items
// still queued when stop is closed stay in the queue. If do panics, Run calls failed and goes on. Run reuses the
// batch: do and failed must not keep it. Several goroutines may call Run on one queue.
func (q *Queue[T]) Run(stop <-chan struct{}, do func(batch []T), failed func(batch []T, p *Panic)) {
	var batch []T
	for {
		select {
		case <-stop:
			return
		default:
		}
		var more, closed bool
		batch, more, closed = q.take(batch[:0])
		if more || closed {
			q.signal() // the channel holds one token: pass it on to another Run
		}
		if len(batch) > 0 {
			if p := Try(func() { do(batch) }); p != nil {
				failed(batch, p)
			}
			clear(batch)
			continue
		}
		if closed {
			return
		}
		select {
		case <-q.wake:
		case <-stop:
			return
		}
	}
}

// A Panic is an error that holds a recovered panic.
type Panic struct {
	Value any
	Stack []byte
}

func (p *Panic) Error() string { return fmt.Sprintf("panic: %v\n%s", p.Value, p.Stack) }

// Try calls f and returns the panic if f panicked, nil otherwise.
func Try(f func()) (p *Panic) {
	defer func() {
		if v := recover(); v != nil {
			p = &Panic{Value: v, Stack: debug.Stack()}
		}
	}()
	f()
	return nil
}
