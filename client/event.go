package client

import (
	"context"
	"sync"
	"time"
)

// Event is something the server, or the state of the connection, tells us without being asked. It is one of [Texts],
// [Applied], [Approved], [FriendsChanged], [Hidden], [MarksMoved], [Online], [Typing], [Gap], [Replaced], [Goodbye] and [Disconnected], and
// from a Session also [Connected], [DataReplaced] and [CaughtUp].
type Event interface{ event() }

// Texts brings messages of one thread, ascending by id. From a Conn they are as pushed: there may be holes before them,
// two nodes may push out of order, and they include what this user's other devices sent, and in a group its own events. From a Session they continue exactly
// where the last ones of the thread ended, and include this user's own, from whatever device. Those of a group begin where the user may read it
// from, and end with the event by which the user leaves, until it joins again.
type Texts struct {
	ThreadID int64
	Messages []Message // at least one
}

// Applied reports that a user applies for friendship.
type Applied struct {
	Application Application
}

// Approved reports that another user accepted this user's application. The friend's Alias is empty.
type Approved struct {
	Friend Profile
	// Messages opened the thread; they are ascending by id. A Session brings them as Texts as well.
	Messages []Message
}

// Gap says that texts of the thread were dropped on the way: read its history from From on. Only a Conn brings it.
type Gap struct {
	ThreadID int64 // 0: of any thread; read all of them, see [Conn.Sync]
	From     int64 // id of the first text that may be missing
}

// Replaced says that the user logged in elsewhere with the same device name; the connection closes. Only a Conn
// brings it.
type Replaced struct{}

// Goodbye says why the server is about to close the connection. Only a Conn brings it.
type Goodbye struct {
	Err *Error // its Op is "goodbye"
}

// Disconnected says that the connection ended. From a Conn it is the last event; from a Session it is followed by a
// Connected, or by the end of the session.
type Disconnected struct {
	Err error // why
	// Retry is how long a Session waits before its next attempt.
	Retry time.Duration
}

// Connected says that a Session is logged in. Texts missed in between follow.
type Connected struct {
	Node string // name of the chat node; empty if the server does not tell
	// Resumed says that no password was needed.
	Resumed bool
}

// DataReplaced says that what the server has stored is not what it was: it works on another body of data, or an older
// backup was restored. Only a Session brings it.
type DataReplaced struct {
	// ThreadID is 0 if all was replaced: the texts that the server has now follow, from the beginning of each thread.
	// Otherwise this thread ends at LastID now, before a text that was brought already; what was stored since follows,
	// as far as the time of the texts tells.
	ThreadID int64
	LastID   int64
}

// CaughtUp says that a Session has brought everything that was stored before its latest Connected.
type CaughtUp struct{}

func (Texts) event()        {}
func (Applied) event()      {}
func (Approved) event()     {}
func (Gap) event()          {}
func (Replaced) event()     {}
func (Goodbye) event()      {}
func (Disconnected) event() {}
func (Connected) event()    {}
func (DataReplaced) event() {}
func (CaughtUp) event()     {}

// eventCost is the assumed size of an event beside its frame, in bytes.
const eventCost = 128

// maxGapThreads bounds the threads a queue remembers as having lost texts, at 16 bytes each and the map around them.
const maxGapThreads = 4096

// eventQueue holds what the reader decoded and the user has not yet taken. It is bounded in bytes. Texts beyond the
// bound are forgotten, and remembered as a gap in their thread, because they can be read back from the history.
type eventQueue struct {
	limit int

	mu    sync.Mutex
	items []queued
	bytes int
	// states are the latest of users for whose presence there was no room; those that come later go there too.
	states map[int32]Presence
	gaps   map[int64]int64 // thread -> first id dropped; texts of such a thread are dropped until the gap is delivered
	ended  error           // set once: why no more events come
	wake   chan struct{}   // capacity 1: something changed
}

type queued struct {
	ev   Event
	cost int
}

// put queues ev, whose frame had the given length. It returns false if the queue is full and ev cannot be read back
// later. It never blocks.
func (q *eventQueue) put(ev Event, frameLen int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	cost := frameLen + eventCost
	if ev, ok := ev.(MarksMoved); ok {
		q.putMarksLocked(ev, cost)
		return true
	}
	if thread, id := gapKey(ev); thread != 0 {
		first, known := q.gaps[thread]
		switch {
		case known:
			q.gaps[thread] = min(first, id)
			return true
		case q.bytes+cost > q.limit:
			if len(q.gaps) >= maxGapThreads {
				return false
			}
			if q.gaps == nil {
				q.gaps = make(map[int64]int64)
			}
			q.gaps[thread] = id
			return true
		}
	} else if online, ok := ev.(Online); ok && (len(q.states) > 0 || q.bytes+cost > q.limit) {
		return q.mergeLocked(online)
	} else if q.bytes+cost > q.limit {
		return false
	}
	q.items = append(q.items, queued{ev, cost})
	q.bytes += cost
	q.signal()
	return true
}

// putMarksLocked queues marks, or adds them to the event before if that is of the same thread. Those for which there is no
// room are dropped.
func (q *eventQueue) putMarksLocked(ev MarksMoved, cost int) {
	if n := len(q.items); n > 0 {
		if last, ok := q.items[n-1].ev.(MarksMoved); ok && last.ThreadID == ev.ThreadID {
			before := len(last.Marks)
			last.merge(ev)
			more := cost / len(ev.Marks) * (len(last.Marks) - before)
			q.items[n-1] = queued{last, q.items[n-1].cost + more}
			q.bytes += more
			return
		}
	}
	if q.bytes+cost > q.limit {
		return
	}
	q.items = append(q.items, queued{ev, cost})
	q.bytes += cost
	q.signal()
}

// gapKey returns the thread and the first id of an event that the history can replace, else zeros.
func gapKey(ev Event) (thread, id int64) {
	switch ev := ev.(type) {
	case Texts:
		return ev.ThreadID, ev.Messages[0].ID
	case Gap:
		return ev.ThreadID, ev.From
	case stored:
		return ev.thread, ev.id
	}
	return 0, 0
}

// end lets next return err after what is queued. last, if not nil, is queued past the bound.
func (q *eventQueue) end(last Event, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if last != nil {
		q.items = append(q.items, queued{last, 0})
	}
	q.ended = err
	q.signal()
}

func (q *eventQueue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// next returns the oldest event. Gaps come when nothing else waits: they say "from here on", so later is not wrong.
func (q *eventQueue) next(ctx context.Context) (Event, error) {
	for {
		ev, err := q.take()
		if ev != nil || err != nil {
			return ev, err
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (q *eventQueue) take() (Event, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	// A terminal event stays behind the gaps.
	terminal := len(q.items) == 1 && q.ended != nil
	if len(q.items) > 0 && !(terminal && len(q.gaps)+len(q.states) > 0) {
		it := q.items[0]
		q.items[0] = queued{}
		q.items = q.items[1:]
		q.bytes -= it.cost
		if len(q.items) == 0 {
			q.items = nil
		}
		q.more()
		return it.ev, nil
	}
	for thread, first := range q.gaps {
		delete(q.gaps, thread)
		q.more()
		return Gap{ThreadID: thread, From: first}, nil
	}
	if len(q.states) > 0 {
		ev := q.takeStatesLocked()
		q.more()
		return ev, nil
	}
	if q.ended != nil {
		q.signal() // for other waiters
		return nil, q.ended
	}
	return nil, nil
}

// more passes the wake-up on when several callers wait and something is left.
func (q *eventQueue) more() {
	if len(q.items) > 0 || len(q.gaps) > 0 || len(q.states) > 0 || q.ended != nil {
		q.signal()
	}
}
