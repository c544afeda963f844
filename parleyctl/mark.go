package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"parley/client"
)

// reading is what is known of who has read what. talk.mu guards it.
type reading struct {
	last map[int64]int64 // thread -> id of this user's newest text
	told map[int64]int64 // thread -> id of this user's newest text that the other user is known to have read
	seen map[int64]int64 // thread -> id of the newest message that was marked as read
}

func newReading() reading {
	return reading{last: make(map[int64]int64), told: make(map[int64]int64), seen: make(map[int64]int64)}
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
func (t *talk) unreadTexts(threads []client.Thread) {
	var list []string
	for _, th := range threads {
		n := unread(th)
		if n == "" {
			continue
		}
		name := th.Name
		if th.Private {
			name = t.name(th.Peer)
		}
		list = append(list, printable(name)+": "+n)
	}
	if len(list) > 0 {
		t.print.notice("%s", strings.Join(list, "; "))
	}
}

// noteRead notes what a printed message says of who has read what. A message of the current conversation is read now.
func (t *talk) noteRead(m client.Message) {
	group := t.groupName(m.ThreadID) != ""
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case m.Kind != client.KindText:
	case m.Sender == t.self.UID:
		t.reading.last[m.ThreadID] = max(t.reading.last[m.ThreadID], m.ID)
	case !group: // who writes has read
		t.reading.told[m.ThreadID] = max(t.reading.told[m.ThreadID], t.reading.last[m.ThreadID])
	}
	if m.Sender != t.self.UID { // a notice of typing that is late would be wrong
		t.typed, t.typedAt = client.Typing{ThreadID: m.ThreadID, UID: m.Sender}, time.Now().Add(typingLate-typingPause)
	}
	if group && m.ThreadID == t.to.thread || !group && t.to.uid != 0 && m.Sender == t.to.uid {
		t.readLocked(m.ThreadID, m.ID)
	}
}

// readLocked marks a thread as read.
func (t *talk) readLocked(thread, id int64) {
	if id > t.reading.seen[thread] {
		t.reading.seen[thread] = id
		t.s.MarkRead(thread, id)
	}
}

// readShown marks as read what a person has been shown of the current conversation.
func (t *talk) readShown(ctx context.Context) error {
	th, ok, err := t.conversation(ctx)
	if err != nil || !ok {
		return err
	}
	for _, c := range t.s.Cursors() {
		if c.ThreadID == th.ID {
			t.mu.Lock()
			t.readLocked(th.ID, c.LastID)
			t.mu.Unlock()
		}
	}
	return nil
}

// storeRead waits until what was marked as read is stored: we are about to leave.
func (t *talk) storeRead(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	t.mu.Lock()
	to := t.to
	seen := make(map[int64]int64)
	for thread, id := range t.reading.seen {
		seen[thread] = id
	}
	t.mu.Unlock()
	if to.none() || t.s.Err() != nil {
		return
	}
	for thread, id := range seen {
		if _, err := t.s.Mark(ctx, thread, id); err != nil {
			return // the next run marks it
		}
	}
}

// marksMoved tells a person that the other user of a private conversation has read this user's texts.
func (t *talk) marksMoved(ev client.MarksMoved) {
	if !t.person || t.groupName(ev.ThreadID) != "" {
		return
	}
	for _, m := range ev.Marks {
		t.mu.Lock()
		last := t.reading.last[ev.ThreadID]
		news := m.UID != t.self.UID && last > t.reading.told[ev.ThreadID] && m.Read >= last
		if news {
			t.reading.told[ev.ThreadID] = last
		}
		t.mu.Unlock()
		if news {
			t.print.notice("✓✓ read by %s", printable(t.name(m.UID)))
		}
	}
}

// lastOwn returns the id of this user's newest text in a thread; 0 if it is not among the last.
func (t *talk) lastOwn(ctx context.Context, th client.Thread) (last int64, err error) {
	t.mu.Lock()
	last = t.reading.last[th.ID]
	t.mu.Unlock()
	if last > 0 {
		return last, nil
	}
	for m, err := range t.s.Messages(ctx, th.ID, max(0, th.LastID-lookBack)) {
		if err != nil {
			return 0, err
		}
		if m.Sender == t.self.UID && m.Kind == client.KindText {
			last = m.ID
		}
	}
	return last, nil
}

// lookBack is among how many messages lastOwn looks.
const lookBack = 100

// whoHasRead tells who has read this user's newest text in the current conversation.
func (t *talk) whoHasRead(ctx context.Context) error {
	th, ok, err := t.conversation(ctx)
	switch {
	case err != nil:
		return err
	case !ok:
		return errors.New("no texts yet")
	}
	last, err := t.lastOwn(ctx, th)
	if err != nil {
		return err
	}
	if last == 0 {
		return errors.New("none of the last texts here is yours")
	}
	var read, received []string
	for m, err := range t.s.Marks(ctx, th.ID) {
		switch {
		case err != nil:
			return err
		case m.UID == t.self.UID:
		case m.Read >= last:
			read = append(read, printable(t.name(m.UID)))
		case m.Recv >= last:
			received = append(received, printable(t.name(m.UID)))
		}
	}
	if len(read) > 0 {
		t.print.notice("✓✓ your last text was read by %s", join(read, "and"))
	}
	if len(received) > 0 {
		t.print.notice("your last text was received by %s, and not read yet", join(received, "and"))
	}
	if len(read)+len(received) == 0 {
		t.print.notice("nobody has received your last text yet")
	}
	return nil
}
