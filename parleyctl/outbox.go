package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"parley/client"
)

// outbox is the texts that were sent here, until they are stored and have come by in their conversations.
type outbox struct {
	*shared
	acks chan posted // texts on their way, for report

	mu     sync.Mutex      // guards the following
	mine   map[string]bool // unique ids of texts sent here and not seen in the conversation yet
	want   map[int64]int64 // thread -> newest id of our own, to be seen before we leave
	caught bool            // what was missed has been shown
	moved  chan struct{}   // closed and replaced when any of want, caught, or what was shown changed
}

func newOutbox(sh *shared) *outbox {
	return &outbox{
		shared: sh, acks: make(chan posted, client.DefaultMaxUnsent),
		mine: make(map[string]bool), want: make(map[int64]int64), moved: make(chan struct{}),
	}
}

// posted is a text on its way.
type posted struct {
	*client.Posted
	to recipient
}

// send posts a text.
func (o *outbox) send(ctx context.Context, to recipient, text string) error {
	if to.none() {
		return errors.New("no recipient: choose one with /to NAME")
	}
	d := client.NewDraft(text)
	o.setMine(d.UniqueID, true)
	p, err := o.s.Post(ctx, to.dest(), d)
	if err != nil {
		o.setMine(d.UniqueID, false)
		return err
	}
	if o.person {
		o.wg.Go(func() { o.remind(p) })
	}
	o.acks <- posted{p, to} // room for as many as Post lets wait
	return nil
}

// remindAfter is how long a text may wait for its answer before the person who typed it is told.
const remindAfter = 2 * time.Second

// remind tells that a text still waits.
func (o *outbox) remind(p *client.Posted) {
	ctx, cancel := context.WithTimeout(context.Background(), remindAfter)
	defer cancel()
	if _, err := p.Wait(ctx); errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
		o.print.notice("not stored yet: %q", abridged(p.Draft().Text))
	}
}

// setMine notes whether a text is sent here, and will come by in its conversation.
func (o *outbox) setMine(unique string, mine bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if mine {
		o.mine[unique] = true
	} else {
		delete(o.mine, unique)
	}
}

// report waits for what became of each text, in order.
func (o *outbox) report() {
	for p := range o.acks {
		sent, err := p.Wait(context.Background()) // ends with the session at the latest
		o.mu.Lock()
		if err != nil {
			delete(o.mine, sent.UniqueID)
		} else {
			o.want[sent.ThreadID] = max(o.want[sent.ThreadID], sent.MessageID)
		}
		o.movedLocked()
		o.mu.Unlock()
		if err != nil {
			err = fmt.Errorf("not sent: %q: %w", abridged(p.Draft().Text), err)
			if p.to.thread != 0 && client.CodeOf(err) == client.CodeNotAllowed {
				err = fmt.Errorf("%w; see /group info", err)
			}
			o.fail(err)
		}
	}
}

// abridged returns a text as it is quoted in a notice.
func abridged(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}

// arrived reports whether a text that has come by was sent here. It is not waited for any more.
func (o *outbox) arrived(m client.Message) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	own := o.mine[m.UniqueID] && m.Sender == o.self.UID
	delete(o.mine, m.UniqueID)
	return own
}

// caughtUp notes that what was missed has been shown.
func (o *outbox) caughtUp() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.caught = true
}

// shown has flush look again: an event was shown.
func (o *outbox) shown() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.movedLocked()
}

// forget has nothing wait any more for texts that have not come by.
func (o *outbox) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	clear(o.want)
	clear(o.mine)
}

// flush waits until everything sent is answered, everything missed was shown, and our own texts have come by, so that
// the next start does not take them for missed ones.
func (o *outbox) flush(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := o.confirmed(ctx); err != nil {
		return err
	}
	for {
		o.mu.Lock()
		done, moved := o.caught && o.seenLocked(), o.moved
		o.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-moved:
		case <-o.s.Done():
			return o.s.Err()
		case <-ctx.Done():
			return fmt.Errorf("not all texts were received: %w", ctx.Err())
		}
	}
}

// confirmed waits until everything sent is answered.
func (o *outbox) confirmed(ctx context.Context) error {
	err := o.s.Flush(ctx)
	switch {
	case err == nil:
		return nil
	case o.s.Err() != nil:
		return o.s.Err()
	}
	return fmt.Errorf("not all texts were confirmed: %w", err)
}

// seenLocked reports whether our own stored texts have all come by.
func (o *outbox) seenLocked() bool {
	if len(o.mine) > 0 {
		return false
	}
	for _, c := range o.s.Cursors() {
		if c.LastID >= o.want[c.ThreadID] {
			delete(o.want, c.ThreadID)
		}
	}
	return len(o.want) == 0
}

// movedLocked has flush look again.
func (o *outbox) movedLocked() {
	close(o.moved)
	o.moved = make(chan struct{})
}
