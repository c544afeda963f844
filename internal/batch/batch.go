// Package batch holds what many goroutines put in until a worker takes it, in order and several items at a time. There is
// no timer: a worker takes what is there, so that a lone item does not wait, and batches grow by themselves while the
// worker is busy.
package batch

import (
	"fmt"
	"runtime/debug"
	"sync"
)

// Limits bound a Queue. What an item weighs is up to its owner: its bytes, its texts. 0 means no limit.
type Limits struct {
	Items, Weight           int // that wait; Put refuses more
	BatchItems, BatchWeight int // of one batch; an item that is heavier alone is a batch of its own
}

// A Queue holds items in order. NewQueue makes one; all methods are safe for concurrent use.
type Queue[T any] struct {
	limits Limits
	wake   chan struct{} // holds a token if there may be something to do for Run

	mu     sync.Mutex // guards the following
	ring   []entry[T] // its length is a power of two, or 0
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

// Take moves the next batch out of the queue and appends it to dst. It does not block: an empty queue has none.
func (q *Queue[T]) Take(dst []T) []T {
	dst, _, _ = q.take(dst)
	return dst
}

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
		*e = entry[T]{}
		q.head = (q.head + 1) & (len(q.ring) - 1)
		q.n--
	}
	if q.n == 0 && len(q.ring) > keepRing {
		q.ring, q.head = nil, 0
	}
	return dst, q.n > 0, q.closed
}

// Waiting returns how many items wait, and what they weigh.
func (q *Queue[T]) Waiting() (items, weight int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.n, q.weight
}

// Close makes Put refuse. Each Run returns when all that waits has been taken.
func (q *Queue[T]) Close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}

// Run hands batches to do, one after the other, until stop is closed, or until the queue is closed and empty. Items that
// wait when stop is closed stay in the queue. If do panics, failed is told, and Run goes on. The batch belongs to Run: do
// and failed must not keep it. Several goroutines may run a queue.
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
			q.signal() // for another Run
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

// Panic is what a function panicked with.
type Panic struct {
	Value any
	Stack []byte
}

func (p *Panic) Error() string { return fmt.Sprintf("panic: %v\n%s", p.Value, p.Stack) }

// Try calls f and returns its panic, nil if there was none.
func Try(f func()) (p *Panic) {
	defer func() {
		if v := recover(); v != nil {
			p = &Panic{Value: v, Stack: debug.Stack()}
		}
	}()
	f()
	return nil
}
