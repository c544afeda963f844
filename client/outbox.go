package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// maxInternal is how often a text is sent again after "internal error": the fault may lie in this very text.
const maxInternal = 5

// outbox keeps a session's texts until they are answered, across connections. Each destination has a lane with at most
// one request in flight, so that a text refused for a moment is not overtaken by the next; what waits meanwhile shares
// the next request.
type outbox struct {
	limit   int
	backoff backoff

	mu      sync.Mutex // guards the following; never held while calling a Conn's fail or Close
	conn    *Conn      // nil while there is none
	lanes   map[To]*lane
	waiting map[string]*Posted // by unique id
	starved []*lane            // found the window full
	room    chan struct{}      // closed and replaced when something was answered
	err     error              // set once the session has ended
}

type lane struct {
	to      To
	queue   []*Posted
	flying  []*Posted
	starved bool
	fails   int         // refusals in a row
	pause   *time.Timer // running while the lane waits after a refusal
}

// Posted is a text on its way.
type Posted struct {
	box     *outbox
	draft   Draft
	element []byte
	to      To
	fails   int
	gone    bool // no caller waits for it any more
	done    chan struct{}
	sent    Sent // valid once done is closed
}

// Draft returns the text with its unique id. A program can keep it to send it again after a crash.
func (p *Posted) Draft() Draft { return p.draft }

// Done is closed when the outcome is known.
func (p *Posted) Done() <-chan struct{} { return p.done }

// Wait waits for the outcome. If ctx ends first, the text is sent nevertheless.
func (p *Posted) Wait(ctx context.Context) (Sent, error) {
	select {
	case <-p.done:
		return p.sent, p.sent.Err
	case <-ctx.Done():
		return Sent{UniqueID: p.draft.UniqueID, Err: ctx.Err()}, ctx.Err()
	}
}

// maxTextPause bounds the wait between two attempts to send texts that a node refuses for the moment, unless the node asks
// for more. A connected user writes to somebody who waits, so it is shorter than the wait between two logins: after half a
// minute without SQL, the last texts came 21 s after its return with a bound of 30 s.
const maxTextPause = 5 * time.Second

func (b *outbox) init(limit int, bo backoff) {
	bo.limit = min(bo.limit, maxTextPause)
	b.limit, b.backoff = limit, bo
	b.lanes = make(map[To]*lane)
	b.waiting = make(map[string]*Posted)
	b.room = make(chan struct{})
}

// post queues a draft, waiting while the outbox is full.
func (b *outbox) post(ctx context.Context, to To, d Draft) (*Posted, error) {
	if d.UniqueID == "" {
		d.UniqueID = NewDraft("").UniqueID
	}
	element, err := encodedText(d)
	if err != nil {
		return nil, err
	}
	p := &Posted{box: b, draft: d, element: element, to: to, done: make(chan struct{})}
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.err == nil && len(b.waiting) >= b.limit {
		room := b.room
		b.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
		}
		b.mu.Lock()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	if b.err != nil {
		return nil, fmt.Errorf("send: %w", b.err)
	}
	if b.waiting[d.UniqueID] != nil {
		return nil, ErrInFlight
	}
	b.waiting[d.UniqueID] = p
	l := b.lanes[to]
	if l == nil {
		l = &lane{to: to}
		b.lanes[to] = l
	}
	l.queue = append(l.queue, p)
	b.pumpLocked(l)
	return p, nil
}

// drop says that no caller waits for p any more: it is not sent again, and not at all if it was not sent yet.
func (b *outbox) drop(p *Posted) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p.gone = true
	if l := b.lanes[p.to]; l != nil {
		for i, q := range l.queue {
			if q == p {
				l.queue = append(l.queue[:i], l.queue[i+1:]...)
				b.settleLocked(p, Sent{UniqueID: p.draft.UniqueID, Err: context.Canceled})
				b.tidyLocked(l)
				return
			}
		}
	}
}

// attach lets everything that waits go out over c.
func (b *outbox) attach(c *Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conn = c
	b.starved = nil
	for _, l := range b.lanes {
		l.starved = false
		b.pumpLocked(l)
	}
}

// detach takes the connection away; it must have failed, so that everything in flight is back in its lane.
func (b *outbox) detach() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conn = nil
}

// end answers everything with err, now and later.
func (b *outbox) end(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conn, b.err = nil, err
	for _, l := range b.lanes {
		if l.pause != nil {
			l.pause.Stop()
		}
	}
	for id, p := range b.waiting {
		b.settleLocked(p, Sent{UniqueID: id, Err: fmt.Errorf("send: %w", err)})
	}
	b.lanes = make(map[To]*lane)
}

// flushed waits until nothing waits.
func (b *outbox) flushed(ctx context.Context) error {
	for {
		b.mu.Lock()
		n, room, err := len(b.waiting), b.room, b.err
		b.mu.Unlock()
		if n == 0 {
			return err
		}
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// inFlight reports whether some text's answer is outstanding.
func (b *outbox) inFlight() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.conn != nil && len(b.waiting) > 0
}

// pumpLocked sends what the lane holds, as much as fits one request, unless something stands in the way; whatever it
// is, its end pumps again.
func (b *outbox) pumpLocked(l *lane) {
	c := b.conn
	if c == nil || len(l.flying) > 0 || l.pause != nil || l.starved || len(l.queue) == 0 {
		return
	}
	batch := new(batch)
	n := 0
	for n < len(l.queue) && batch.add(l.queue[n].draft, l.queue[n].element, c.maxTexts()) {
		n++
	}
	ok, err := c.window.try(n, len(batch.body))
	if err != nil {
		return // the connection has failed; the next one pumps
	}
	if !ok {
		l.starved = true
		b.starved = append(b.starved, l)
		return
	}
	// A copy: requeueing appends to the queue while the batch is out.
	l.flying = append([]*Posted(nil), l.queue[:n]...)
	l.queue = append([]*Posted(nil), l.queue[n:]...)
	if c.postBatch(l.to, batch, func(sent []Sent) { b.answered(l, sent) }) != nil {
		l.queue = append(l.flying, l.queue...)
		l.flying = nil
	}
}

// answered takes the results of a lane's request. It runs on a goroutine of the connection.
func (b *outbox) answered(l *lane, sent []Sent) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return
	}
	var again []*Posted
	var pause time.Duration
	refused, limited := false, true
	for i, p := range l.flying {
		switch p.judge(sent[i].Err) {
		case settle:
			b.settleLocked(p, sent[i])
			l.fails = 0 // it goes on, if slowly
		case sendLater:
			refused = true
			limited = limited && CodeOf(sent[i].Err) == CodeRateLimited && RetryAfter(sent[i].Err) > 0
			pause = max(pause, RetryAfter(sent[i].Err))
			again = append(again, p)
		case sendAgain:
			again = append(again, p)
		}
	}
	l.flying = nil
	l.queue = append(again, l.queue...)
	if refused {
		if !limited { // the limit is the user's own: nobody else comes back when it ends
			pause = b.backoff.wait(l.fails, pause)
			l.fails++
		}
		l.pause = time.AfterFunc(pause, func() { b.resume(l) })
	}
	starved := b.starved
	b.starved = nil
	for _, other := range append(starved, l) {
		other.starved = false
		b.pumpLocked(other)
		b.tidyLocked(other)
	}
}

type verdict uint8

const (
	settle    verdict = iota // that is the outcome
	sendAgain                // the connection failed: over the next one
	sendLater                // refused for the moment
)

// judge decides what a result means for p.
func (p *Posted) judge(err error) verdict {
	refusal, ok := errors.AsType[*Error](err)
	switch {
	case err == nil, p.gone:
		return settle
	case !ok || refusal.Op != opSend:
		return sendAgain
	case refusal.Code.Advice() != Retry:
		return settle
	}
	p.fails++
	if refusal.Code == CodeInternal && p.fails >= maxInternal {
		return settle
	}
	return sendLater
}

func (b *outbox) resume(l *lane) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l.pause = nil
	b.pumpLocked(l)
	b.tidyLocked(l)
}

func (b *outbox) settleLocked(p *Posted, s Sent) {
	p.sent = s
	delete(b.waiting, p.draft.UniqueID)
	close(p.done)
	close(b.room)
	b.room = make(chan struct{})
}

// tidyLocked forgets a lane that holds nothing.
func (b *outbox) tidyLocked(l *lane) {
	if len(l.queue) == 0 && len(l.flying) == 0 && l.pause == nil && !l.starved && b.lanes[l.to] == l {
		delete(b.lanes, l.to)
	}
}
