package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"parley/client"
)

// reading is what is known of who has read what.
type reading struct {
	*shared
	directory     *directory
	conversations *conversations

	mu   sync.Mutex      // guards the following
	last map[int64]int64 // thread -> id of this user's newest text
	told map[int64]int64 // thread -> id of this user's newest text that the other user is known to have read
	seen map[int64]int64 // thread -> id of the newest message that was marked as read
}

func newReading(sh *shared, d *directory, c *conversations) *reading {
	return &reading{
		shared: sh, directory: d, conversations: c,
		last: make(map[int64]int64), told: make(map[int64]int64), seen: make(map[int64]int64),
	}
}

// forget forgets who has read what: the conversations are not what they were.
func (r *reading) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.last)
	clear(r.told)
	clear(r.seen)
}

// unread says how many texts of a thread wait, "" if none.
func unread(th client.Thread) string {
	switch {
	case th.Unread == 0:
		return ""
	case th.Unread >= client.MaxUnread:
		return fmt.Sprintf("%d or more unread", client.MaxUnread)
	}
	return fmt.Sprintf("%d unread", th.Unread)
}

// unreadTexts tells in which conversations texts are unread.
func (r *reading) unreadTexts(threads []client.Thread) {
	var list []string
	for _, th := range threads {
		n := unread(th)
		if n == "" {
			continue
		}
		name := th.Name
		if th.Private {
			name = r.directory.name(th.Peer)
		}
		list = append(list, printable(name)+": "+n)
	}
	if len(list) > 0 {
		r.print.notice("%s", strings.Join(list, "; "))
	}
}

// note notes what a printed message says of who has read what. A message of the current conversation is read now.
func (r *reading) note(m client.Message) {
	group := r.directory.groupName(m.ThreadID) != ""
	to := r.conversations.recipient()
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case m.Kind != client.KindText:
	case m.Sender == r.self.UID:
		r.last[m.ThreadID] = max(r.last[m.ThreadID], m.ID)
	case !group: // who writes has read
		r.told[m.ThreadID] = max(r.told[m.ThreadID], r.last[m.ThreadID])
	}
	if group && m.ThreadID == to.thread || !group && to.uid != 0 && m.Sender == to.uid {
		r.readLocked(m.ThreadID, m.ID)
	}
}

// readLocked marks a thread as read.
func (r *reading) readLocked(thread, id int64) {
	if id > r.seen[thread] {
		r.seen[thread] = id
		r.s.MarkRead(thread, id)
	}
}

// readShown marks as read what a person has been shown of the current conversation.
func (r *reading) readShown(ctx context.Context) error {
	th, ok, err := r.conversations.current(ctx)
	if err != nil || !ok {
		return err
	}
	for _, c := range r.s.Cursors() {
		if c.ThreadID == th.ID {
			r.mu.Lock()
			r.readLocked(th.ID, c.LastID)
			r.mu.Unlock()
		}
	}
	return nil
}

// store waits until what was marked as read is stored: we are about to leave.
func (r *reading) store(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	r.mu.Lock()
	seen := maps.Clone(r.seen)
	r.mu.Unlock()
	if r.conversations.recipient().none() || r.s.Err() != nil {
		return
	}
	for thread, id := range seen {
		if _, err := r.s.Mark(ctx, thread, id); err != nil {
			return // the next run marks it
		}
	}
}

// moved tells a person that the other user of a private conversation has read this user's texts.
func (r *reading) moved(ev client.MarksMoved) {
	if !r.person || r.directory.groupName(ev.ThreadID) != "" {
		return
	}
	for _, m := range ev.Marks {
		r.mu.Lock()
		last := r.last[ev.ThreadID]
		news := m.UID != r.self.UID && last > r.told[ev.ThreadID] && m.Read >= last
		if news {
			r.told[ev.ThreadID] = last
		}
		r.mu.Unlock()
		if news {
			r.print.notice("✓✓ read by %s", printable(r.directory.name(m.UID)))
		}
	}
}

// lastOwn returns the id of this user's newest text in a thread; 0 if it is not among the last.
func (r *reading) lastOwn(ctx context.Context, th client.Thread) (last int64, err error) {
	r.mu.Lock()
	last = r.last[th.ID]
	r.mu.Unlock()
	if last > 0 {
		return last, nil
	}
	for m, err := range r.s.Messages(ctx, th.ID, max(0, th.LastID-lookBack)) {
		if err != nil {
			return 0, err
		}
		if m.Sender == r.self.UID && m.Kind == client.KindText {
			last = m.ID
		}
	}
	return last, nil
}

// lookBack is among how many messages lastOwn looks.
const lookBack = 100

// whoHasRead tells who has read this user's newest text in the current conversation.
func (r *reading) whoHasRead(ctx context.Context) error {
	th, ok, err := r.conversations.current(ctx)
	switch {
	case err != nil:
		return err
	case !ok:
		return errors.New("no texts yet")
	}
	last, err := r.lastOwn(ctx, th)
	if err != nil {
		return err
	}
	if last == 0 {
		return errors.New("none of the last texts here is yours")
	}
	var read, received []string
	for m, err := range r.s.Marks(ctx, th.ID) {
		switch {
		case err != nil:
			return err
		case m.UID == r.self.UID:
		case m.Read >= last:
			read = append(read, printable(r.directory.name(m.UID)))
		case m.Recv >= last:
			received = append(received, printable(r.directory.name(m.UID)))
		}
	}
	if len(read) > 0 {
		r.print.notice("✓✓ your last text was read by %s", join(read, "and"))
	}
	if len(received) > 0 {
		r.print.notice("your last text was received by %s, and not read yet", join(received, "and"))
	}
	if len(read)+len(received) == 0 {
		r.print.notice("nobody has received your last text yet")
	}
	return nil
}
